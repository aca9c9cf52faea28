// Which route a path and host take, and which rule a room follows.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/settings.h"

using namespace belfry;

namespace {

relay_settings *settings;

int setup(void **) {
    settings = new relay_settings{};
    return 0;
}

int teardown(void **) {
    delete settings;
    return 0;
}

// Longest path first, as the config hands them out.
void add_route(const char *path, const char *host = "") {
    route r = {};
    r.path = path;
    r.host = host;
    settings->routes.push_back(r);
}

const route *nth(size_t n) {
    return &settings->routes[n];
}

const route *find(std::string_view path, std::string_view host = "example.com") {
    bool other_host = false;
    return route_find(settings, path, host, &other_host);
}

bool misdirected(std::string_view path, std::string_view host) {
    bool other_host = false;
    return route_find(settings, path, host, &other_host) == nullptr && other_host;
}

void a_prefix_ends_at_a_slash(void **) {
    add_route("/ws");
    assert_ptr_equal(find("/ws"), nth(0));
    assert_ptr_equal(find("/ws/"), nth(0));
    assert_ptr_equal(find("/ws/deep/er"), nth(0));
    assert_null(find("/wsx"));
    assert_null(find("/w"));
    assert_null(find("/"));
    assert_null(find(""));
    assert_null(find("/x/ws"));
    assert_null(find("/WS"));
}

void a_prefix_with_a_slash_at_its_end_covers_what_is_below(void **) {
    add_route("/ws/");
    assert_ptr_equal(find("/ws/"), nth(0));
    assert_ptr_equal(find("/ws/x"), nth(0));
    assert_null(find("/ws"));
    assert_null(find("/wsx"));
}

void the_root_covers_all(void **) {
    add_route("/");
    assert_ptr_equal(find("/"), nth(0));
    assert_ptr_equal(find("/anything/at/all"), nth(0));
}

void the_longest_path_wins(void **) {
    add_route("/ws/chat/old");
    add_route("/ws/chat");
    add_route("/ws");
    add_route("/");
    assert_ptr_equal(find("/ws/chat/old/x"), nth(0));
    assert_ptr_equal(find("/ws/chat/older"), nth(1));
    assert_ptr_equal(find("/ws/chats"), nth(2));
    assert_ptr_equal(find("/w"), nth(3));
}

void a_host_wins_over_none_on_the_same_path(void **) {
    add_route("/ws");
    add_route("/ws", "a.example");
    add_route("/ws", "b.example");
    assert_ptr_equal(find("/ws", "a.example"), nth(1));
    assert_ptr_equal(find("/ws", "b.example"), nth(2));
    assert_ptr_equal(find("/ws", "c.example"), nth(0));
}

void the_order_of_hosts_does_not_matter(void **) {
    add_route("/ws", "b.example");
    add_route("/ws");
    assert_ptr_equal(find("/ws", "b.example"), nth(0));
    assert_ptr_equal(find("/ws", "a.example"), nth(1));
}

// The path decides before the host does.
void a_longer_path_wins_over_a_host(void **) {
    add_route("/ws/chat");
    add_route("/ws", "a.example");
    assert_ptr_equal(find("/ws/chat", "a.example"), nth(0));
    assert_ptr_equal(find("/ws/x", "a.example"), nth(1));
}

void a_longer_path_of_another_host_is_passed_over(void **) {
    add_route("/ws/chat", "a.example");
    add_route("/ws");
    assert_ptr_equal(find("/ws/chat", "b.example"), nth(1));
    assert_ptr_equal(find("/ws/chat", "a.example"), nth(0));
}

void hosts_are_compared_without_port_and_case(void **) {
    add_route("/", "a.example");
    assert_ptr_equal(find("/", "a.example:8443"), nth(0));
    assert_ptr_equal(find("/", "A.Example"), nth(0));
    assert_ptr_equal(find("/", "A.EXAMPLE:443"), nth(0));
    assert_ptr_equal(find("/", "a.example:"), nth(0));
    assert_null(find("/", "a.example.evil"));
    assert_null(find("/", "xa.example"));
    assert_null(find("/", "evil:a.example"));
    assert_null(find("/", ""));
}

void a_dot_at_the_end_is_the_same_host(void **) {
    add_route("/", "a.example");
    assert_ptr_equal(find("/", "a.example."), nth(0));
    assert_ptr_equal(find("/", "A.example.:443"), nth(0));
    assert_null(find("/", "a.example.."));
    assert_null(find("/", "."));
}

// As backends read them: a way around the route of "/ws" would be a way around its modules.
void slashes_and_parameters_lead_around_no_route(void **) {
    add_route("/ws/chat");
    add_route("/ws");
    add_route("/");
    for (const char *path : {"/ws/chat", "//ws/chat", "/ws//chat", "///ws///chat/x", "/ws/chat;a=b", "/ws/chat;/x"})
        assert_ptr_equal(find(path), nth(0));
    for (const char *path : {"//ws", "/ws//", "/ws;chat", "/ws/;/chat", "/ws/chats"})
        assert_ptr_equal(find(path), nth(1));
    for (const char *path : {"//", "//wsx", "/w/s", "/;/ws"})
        assert_ptr_equal(find(path), nth(2));
}

void an_ipv6_host_keeps_its_colons(void **) {
    add_route("/", "[::1]");
    assert_ptr_equal(find("/", "[::1]"), nth(0));
    assert_ptr_equal(find("/", "[::1]:8443"), nth(0));
    assert_null(find("/", "[::2]:8443"));
    assert_null(find("/", "[::1"));
}

void another_hosts_path_is_told_from_no_path(void **) {
    add_route("/ws", "a.example");
    assert_true(misdirected("/ws", "b.example"));
    assert_true(misdirected("/ws/x", "b.example:80"));
    assert_false(misdirected("/other", "b.example"));
    assert_false(misdirected("/wsx", "b.example"));
    assert_false(misdirected("/ws", "a.example"));
}

void a_room_takes_the_first_rule_that_matches(void **) {
    for (const char *pattern : {"chat-lobby", "chat-*", "*"}) {
        room_rule r = {};
        r.pattern = pattern;
        settings->rooms.push_back(r);
    }
    assert_ptr_equal(room_rule_find(settings, "chat-lobby"), &settings->rooms[0]);
    assert_ptr_equal(room_rule_find(settings, "chat-lobby2"), &settings->rooms[1]);
    assert_ptr_equal(room_rule_find(settings, "chat-"), &settings->rooms[1]);
    assert_ptr_equal(room_rule_find(settings, "news"), &settings->rooms[2]);
}

void a_room_without_a_rule_is_the_backends(void **) {
    assert_null(room_rule_find(settings, "news"));
    room_rule r = {};
    r.pattern = "chat-*";
    settings->rooms.push_back(r);
    assert_null(room_rule_find(settings, "news"));
    assert_null(room_rule_find(settings, "chat"));
}

} // namespace

#define with_settings(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_settings(a_prefix_ends_at_a_slash),
        with_settings(a_prefix_with_a_slash_at_its_end_covers_what_is_below),
        with_settings(the_root_covers_all),
        with_settings(the_longest_path_wins),
        with_settings(a_host_wins_over_none_on_the_same_path),
        with_settings(the_order_of_hosts_does_not_matter),
        with_settings(a_longer_path_wins_over_a_host),
        with_settings(a_longer_path_of_another_host_is_passed_over),
        with_settings(hosts_are_compared_without_port_and_case),
        with_settings(a_dot_at_the_end_is_the_same_host),
        with_settings(slashes_and_parameters_lead_around_no_route),
        with_settings(an_ipv6_host_keeps_its_colons),
        with_settings(another_hosts_path_is_told_from_no_path),
        with_settings(a_room_takes_the_first_rule_that_matches),
        with_settings(a_room_without_a_rule_is_the_backends),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
