// A worker's half of presence: the node is told who is in the rooms that have it, and asked for their members. The
// connection's thread.
#pragma once

#include "relay/letter.h"

namespace belfry {

struct conn;
struct room_rule;

// The connection has become a member, or what is known of its client has changed; it stops being one. Nothing where the
// room's rule (may be null) has no presence.
void presence_entered(const conn *c, const room_rule *rule, view room);
// The room has presence since a reload, and this one was in it before: no news for its members.
void presence_present(const conn *c, const room_rule *rule, view room);
void presence_exited(const conn *c, const room_rule *rule, view room);
// Asks the node; session_json answers the client when the letter is back.
void presence_ask_members(conn *c, view room, int64_t request_id);

// What a letter is charged until the node has read it (shard::outbox_bytes).
int64_t presence_charge(const member_letter *l);
int64_t presence_charge(const members_letter *l);

void members_letter_free(members_letter *l);

} // namespace belfry
