// The store of presence in Redis: one hash a room, changed by conf/redis/presence.lua, and for each node the set of the
// rooms that it has members in, so that what a dead node has left behind can be found.
//
//   PREFIXmember:{ROOM}, PREFIXmember:held:{ROOM}, PREFIXmember:users:{ROOM}   see presence.lua
//   PREFIXnode:ID:rooms                                                        set of ROOM
//
// What is read there is checked like anything from outside. Main thread.
#pragma once

#include "relay/broker.h"
#include "relay/presence.h"

namespace belfry {

struct presence_redis_settings {
    broker *over; // borrowed: the Redis broker
    view prefix;
    // Nothing is left of that node (presence_redis_tidy).
    void (*tidied)(void *context, view node);
    void *context; // borrowed
};

// Presence is in Redis from here on; called before anybody has entered. The store goes with presence_free.
void presence_redis_new(presence *p, const presence_redis_settings *settings);
// That node is dead: its members are taken out, and their rooms told with the cause node_lost. Tried again until it has
// worked.
void presence_redis_tidy(presence *p, view node);
// That node was only slow: no more of it is taken out. What was, it writes again itself.
void presence_redis_spare(presence *p, view node);
// This node ends in order, all its members are out.
void presence_redis_leave(presence *p);

} // namespace belfry
