// Intrusive doubly linked circular list. The link lives inside the object; the list owns nothing.
// One thread only.
#pragma once

#include <stddef.h>

namespace belfry {

struct link {
    link *previous; // borrowed
    link *next;     // borrowed
};

inline void list_init(link *head) {
    head->previous = head->next = head;
}
inline bool list_empty(const link *head) {
    return head->next == head;
}
inline void list_push_back(link *head, link *node) {
    node->previous = head->previous;
    node->next = head;
    head->previous->next = node;
    head->previous = node;
}
// Takes the node out and makes it a list of its own, so that a second removal is harmless.
inline void list_remove(link *node) {
    node->previous->next = node->next;
    node->next->previous = node->previous;
    list_init(node);
}
// Moves all of `from` behind the last node of `to`; `from` is empty afterwards.
inline void list_splice(link *to, link *from) {
    if (list_empty(from)) return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    list_init(from);
}

// The object that holds `node` as its member.
#define BELFRY_CONTAINER_OF(node, type, member)                                                                        \
    (reinterpret_cast<type *>(reinterpret_cast<char *>(node) - offsetof(type, member)))

} // namespace belfry
