// Unit tests of base/list: order, removal, splicing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/list.h"

#include <string>

namespace belfry {
namespace {

struct item {
    char name;
    link node;
};

// The names in order, checked in both directions.
std::string names(link *head) {
    std::string forward, backward;
    for (link *l = head->next; l != head; l = l->next)
        forward += BELFRY_CONTAINER_OF(l, item, node)->name;
    for (link *l = head->previous; l != head; l = l->previous) {
        backward.insert(0, 1, BELFRY_CONTAINER_OF(l, item, node)->name);
    }
    return forward == backward ? forward : "the directions disagree: " + forward + " " + backward;
}

void assert_names(link *head, const char *wanted) {
    std::string got = names(head);
    if (got != wanted) fail_msg("the list is \"%s\", not \"%s\"", got.c_str(), wanted);
}

void starts_empty(void **) {
    link head;
    list_init(&head);
    assert_true(list_empty(&head));
    assert_names(&head, "");
}

void keeps_the_order_of_pushes(void **) {
    link head;
    list_init(&head);
    item items[] = {{'a', {}}, {'b', {}}, {'c', {}}};
    for (item &i : items)
        list_push_back(&head, &i.node);
    assert_false(list_empty(&head));
    assert_names(&head, "abc");
}

void removes_anywhere_and_twice(void **) {
    link head;
    list_init(&head);
    item items[] = {{'a', {}}, {'b', {}}, {'c', {}}, {'d', {}}};
    for (item &i : items)
        list_push_back(&head, &i.node);
    list_remove(&items[1].node);
    assert_names(&head, "acd");
    list_remove(&items[1].node);
    assert_names(&head, "acd");
    list_remove(&items[0].node);
    list_remove(&items[3].node);
    assert_names(&head, "c");
    list_remove(&items[2].node);
    assert_true(list_empty(&head));
    list_push_back(&head, &items[1].node);
    assert_names(&head, "b");
}

void splices(void **) {
    link to, from;
    list_init(&to);
    list_init(&from);
    item items[] = {{'a', {}}, {'b', {}}, {'c', {}}, {'d', {}}};
    list_splice(&to, &from);
    assert_names(&to, "");
    list_push_back(&from, &items[0].node);
    list_push_back(&from, &items[1].node);
    list_splice(&to, &from); // to an empty list
    assert_names(&to, "ab");
    assert_true(list_empty(&from));
    list_push_back(&from, &items[2].node);
    list_push_back(&from, &items[3].node);
    list_splice(&to, &from); // behind others
    assert_names(&to, "abcd");
    assert_names(&from, "");
    list_splice(&to, &from); // an empty one
    assert_names(&to, "abcd");
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test(starts_empty),
        cmocka_unit_test(keeps_the_order_of_pushes),
        cmocka_unit_test(removes_anywhere_and_twice),
        cmocka_unit_test(splices),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
