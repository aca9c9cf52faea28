// Readers that are slower than what is sent to them: the limits of a connection's output queue, and what is done with
// who exceeds them, by its route's on_slow. On the connection's thread.
//
//   send_queue                               bytes that may wait, conn_frame_cost for each frame included: never
//   exceeded send_queue_soft, send_queue_soft_time    above the one for as long as the other is too slow as well
//
//   close        closed with 4413
//   drop_oldest  the oldest messages go; where they were, the client is told {"type":"gap"} of their room
//   latest       from half of send_queue on, newer messages take the place of older ones with the same room and key,
//   and
//                nothing is told of those; what is still too much goes as by drop_oldest
//
// Answers, control frames and what is on the wire already are never dropped; a client whose queue is full of those is
// closed with 4413 by every policy. A queue of which much is dropped is made an eighth shorter than its limit, so that
// a reader that does not read costs a look at its queue now and then, not with each message.
#pragma once

#include "base/frame.h"
#include "net/deadline.h"

#include <stdint.h>

namespace belfry {

struct conn;

// What a connection gets once it was slow, until it ends or (where it has lost nothing) is no longer.
struct slow_reader {
    conn *who;            // borrowed
    struct deadline soft; // in shard::deadlines; armed while the queue is above send_queue_soft
    uint64_t dropped;     // messages that it did not get, those that a newer one replaced left out
    uint64_t replaced;
};

// What upper nouns know of it: the shard brings a table.
struct slow_hooks {
    // The frame that tells of a gap in the room of that hash, marked so (frame_gap); null where the client's protocol
    // has no words for it, or the room is gone.
    frame *(*gap)(conn *c, uint64_t room);
    void (*close)(conn *c); // with 4413; what waits is dropped
};

// The hard limit of a connection that has been accepted or gets its route; to be called again when the phase changes.
void conn_set_send_queue(conn *c, uint32_t bytes);

// Its route's limits are others now (conn_phase::retuned).
void conn_slow_retuned(conn *c);

// conn_deliver's slow part: the frame would bring the queue above conn::limit. True: queued, the reference is taken.
// False: it is not; the connection may stand in shard::doomed then, to be closed once the fan-out is over.
[[nodiscard]] bool conn_deliver_slowly(conn *c, frame *f);
// The queue has got longer than conn::limit in another way.
void conn_slow_queued(conn *c);
// Makes room for `charge` bytes of answers. False where it can't.
[[nodiscard]] bool conn_slow_make_room(conn *c, uint64_t charge);
// Something was written of a queue that was looked at before (conn::crowded).
void conn_slow_written(conn *c);
// It has come from another process, where it was a slow reader.
void conn_slow_restore(conn *c, uint64_t dropped, uint64_t replaced);
// The connection ends.
void conn_slow_end(conn *c);

} // namespace belfry
