// The commands that backends leave in Redis: XADD PREFIXcommands * command JSON. One node of all takes each (consumer
// group "belfry", this node's id is the consumer), and acknowledges and deletes it once it was carried out; those of a
// node that has died, or could not carry them out, are taken over 15 s later. So each is carried out at least once; a
// publish with an `id` exactly once. Two commands in a row may be carried out by two nodes at the same time.
//
// It reads over a connection of its own, since that blocks, and says the rest over the broker's. Main thread.
#pragma once

#include "base/frame.h"
#include "relay/broker.h"

namespace belfry {

struct command_stream; // opaque

inline constexpr size_t command_stream_under_way = 256; // taken and not acknowledged yet, at most

enum class command_outcome : uint8_t {
    done,
    malformed, // nobody will ever be able to carry it out
    again,     // not now: it is taken again, here or by another node
};

struct command_stream_events {
    // Carries out one command. The frame is borrowed and holds whatever a backend wrote. Answered by
    // command_stream_settle, once, at once or later.
    void (*carry)(void *context, frame *source, uint64_t ticket);
    bool (*busy)(const void *context); // takes nothing new for the time being
};

struct command_stream_counters {
    uint64_t done;      // carried out
    uint64_t malformed; // were none
    uint64_t again;     // could not be carried out
    uint64_t claimed;   // taken over from a node that has died, or taken again
    uint64_t dropped;   // were taken too often
};

// `b` is the Redis broker, borrowed: command_stream_stop before it is freed.
[[nodiscard]] command_stream *command_stream_new(broker *b, const broker_settings *settings,
                                                 const command_stream_events *events, void *context);
// Once a turn of the main loop.
void command_stream_turn(command_stream *s);
// What became of a command. `why`: of a malformed one; null else.
void command_stream_settle(command_stream *s, uint64_t ticket, command_outcome outcome, const char *why);
// Takes no more and says no more to Redis. What is under way may still be settled.
void command_stream_stop(command_stream *s);
void command_stream_free(command_stream *s);
const command_stream_counters *command_stream_count(const command_stream *s);

} // namespace belfry
