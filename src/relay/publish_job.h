// Who waits for what became of a publish: a client for its `ok`, the control API for the number of receivers. Main
// thread.
#pragma once

#include "proto/position.h"

#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

// A message that this node has sent, for node_ask_receivers.
struct publish_ack {
    std::string room;
    uint64_t sequence;
};

struct publish_job {
    uint32_t awaiting;                             // outcomes still to come; done is called when the last one came
    uint64_t receivers;                            // members of this node to whose queue it went
    bool failed;                                   // the broker did not take (all of) it
    bool duplicate;                                // its id was published within the last 5 minutes: nothing was sent
    struct position at;                            // in the room's history (of several rooms: the last one's)
    std::vector<publish_ack> acks;                 // of messages that were published with `ack`
    void (*done)(publish_job *job, void *context); // the job is freed after it
    void *context;                                 // borrowed
};

// Starts with one outcome awaited, the maker's own: publish_job_settle when everything was begun.
publish_job *publish_job_new(void (*done)(publish_job *, void *), void *context);
void publish_job_expect(publish_job *job);
void publish_job_settle(publish_job *job, uint64_t receivers, bool accepted);

} // namespace belfry
