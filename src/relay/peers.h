// Questions between nodes: one node asks another, or several, and gets an answer or a time-out. They travel through the
// broker (ops->send_to_node), at most once, so every question has an end of its own. Main thread.
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "proto/peer_message.h"
#include "relay/broker.h"

#include <string>

namespace belfry {

struct peers;

inline constexpr uint64_t peers_timeout_ms = 3000;
// A long poll waits where its session is: above poll_wait's most.
inline constexpr uint64_t peers_carry_timeout_ms = 65000;
inline constexpr size_t peers_questions_max = 65536; // under way; beyond: refused with 503
inline constexpr size_t peers_body_max = 4 << 20;    // bytes of a question or an answer

// Code 200 to 599 as the other node said; 404: there is no such node; 503: out of reach, or too many questions; 504: no
// answer in time. `body` is borrowed.
using peers_done = void (*)(void *context, int code, view body);

// Where an answer goes; may be kept and used later, once.
struct peers_return {
    std::string node;
    uint64_t number;
};

struct peers_counters {
    uint64_t asked, answered, timed_out, refused; // our questions
    uint64_t heard;                               // other nodes' questions
    uint64_t malformed, late;                     // what came and was none, or nobody waited for any more
};

// `ask`: another node's question; answered by peers_answer, now or within the asker's time-out. `body` is borrowed, and
// padded (frame_padding).
peers *peers_new(broker *over, json_reader *reader,
                 void (*ask)(void *context, const peers_return *to, peer_what what, view body), void *context);
// Questions under way end with 503, and so do later ones.
void peers_end(peers *p);
void peers_free(peers *p);

// `done` is called once, from the loop or (503: out of reach) from within this call.
void peers_ask(peers *p, view node, peer_what what, view body, peers_done done, void *context);
void peers_answer(peers *p, const peers_return *to, int code, view body);

// What came for this node (broker_events->peer).
void peers_incoming(peers *p, view bytes);
// Ends what got no answer in time. Once a turn.
void peers_turn(peers *p, uint64_t now_ms);
peers_counters peers_count(const peers *p);
size_t peers_under_way(const peers *p);

} // namespace belfry
