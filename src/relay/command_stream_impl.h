// The inside of the command stream: reading and acknowledging (command_stream.cc), and taking over what others have
// left (command_stream_claim.cc). Main thread.
#pragma once

#include "relay/broker_redis.h"
#include "relay/command_stream.h"

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace belfry {

struct command_stream {
    broker *over; // borrowed; null once stopped
    const command_stream_events *events;
    void *context; // borrowed
    redis *link;   // owned; null once stopped
    std::string key;
    std::string block_ms;
    size_t max_command; // bytes

    bool grouped;      // the group is there
    bool asking;       // a question is under way on `link`
    uint64_t retry_ms; // after a refusal: no question before

    uint64_t last_ticket;
    std::unordered_map<uint64_t, std::string> under_way; // entry ids by ticket
    std::unordered_set<std::string> ids;                 // of those under way and of `finished`
    std::vector<std::string> finished;                   // to be acknowledged

    bool claiming;              // a question of command_stream_claim.cc is under way
    uint64_t claim_ms, tidy_ms; // when next

    command_stream_counters count;
};

inline constexpr char command_group[] = "belfry";

// command_stream.cc. An entry as Redis gives it, [id, [field, value, ...]], is carried out.
void command_stream_take(command_stream *s, const redis_value *entry);
inline bool command_stream_open(const command_stream *s) {
    return s->over && s->over->ops->ready(s->over);
}

// command_stream_claim.cc
void command_stream_claim(command_stream *s, uint64_t now_ms);
void command_stream_tidy(command_stream *s, uint64_t now_ms);

} // namespace belfry
