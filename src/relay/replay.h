// What a joiner with `since` has missed, into its queue: all of it, or none. Owner's thread.
#pragma once

#include "relay/letter.h"

namespace belfry {

struct conn;

// Bytes of frames that the connection's queue takes now without a loss.
[[nodiscard]] uint64_t replay_room(const conn *c);
// True where the connection's queue can take it all now, beside the answer to the join. Makes the messages' forms.
[[nodiscard]] bool replay_fits(conn *c, const join_answer_letter *a);
// Queues it; after replay_fits.
void replay_deliver(conn *c, const join_answer_letter *a);

} // namespace belfry
