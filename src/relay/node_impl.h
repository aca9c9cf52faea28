// The node's parts, for the node*.cc files alone: rooms and what is wanted (node_rooms), messages on their way
// (node_publish), commands and orders (node_commands), mailboxes and life (node). Main thread.
#pragma once

#include "relay/node.h"

namespace belfry {

inline void node_send(node *n, uint32_t worker, letter *l) {
    mailbox_send(&n->workers[worker].shard.inbox, l);
}
inline uint64_t node_all_workers(const node *n) {
    return n->worker_count == 64 ? ~uint64_t{0} : (uint64_t{1} << n->worker_count) - 1;
}
// A letter of the worker's has been passed on: it no longer counts for its back-pressure.
void node_discharge(node *n, uint32_t worker, int64_t bytes);

// ---- rooms ----

// Null where no worker wants it.
[[nodiscard]] node_room *node_room_find(const node *n, view name, uint64_t hash);
void node_want(node *n, const room_letter *l);
void node_drop(node *n, const room_letter *l);
// A join with `since`. Its charge is taken off when it is answered.
void node_join_ask(node *n, const join_ask_letter *l);
view node_room_name(const node *n, const node_room *r);
// Connections are about to come into this room (handover.h): it is wanted, though by no worker yet.
void node_hold(node *n, view name);
void node_release(node *n, view name);
// The workers that have it learn node_room::ordinal.
void node_tell_counted(node *n, const node_room *r);
// As broker_events.
void node_subscribed(void *context, view room);
void node_refused(void *context, view room);
void node_history(void *context, const history_page *page);
void node_up(void *context, bool missed);
void node_missed(void *context, view room);
struct adoption;
// A reload: rules; history of rooms that are there begins or ends.
void node_rooms_adopt(node *n, const adoption *a);
void node_rooms_init(node *n, const broker_settings *broker);
// Feeds end: what they hold is settled.
void node_rooms_end(node *n);
void node_rooms_free(node *n);

// ---- messages ----

// As broker_events.
void node_deliver(void *context, message *m);
// To the workers in the mask, which may be none; a job is settled at the last one's receipt. Takes it over.
void node_hand_over(node *n, message *m, uint64_t workers);
void node_take_publish(node *n, publish_letter *l);

// ---- the end ----

// Once a turn: when all have left, the workers end.
void node_drain_turn(node *n);

// ---- reloads ----

// A worker has aimed all that is its.
void node_adopted(node *n);
// Once a turn: frees upstreams that no worker has a call on any more.
void node_bury_upstreams(node *n);

// ---- requests for sessions ----

// Another node's request, to the worker of a session of ours; where there is no such worker, 404. Takes it over.
void node_carry_local(node *n, carry_letter *l);

// ---- commands ----

// As broker_events.
void node_command(void *context, frame *source);
// During an upgrade the older process may still have the connections. False: there is none, or the order is not for it.
bool node_order_older(node *n, const command *c);
void node_hook_command(node *n, const command_letter *l);

} // namespace belfry
