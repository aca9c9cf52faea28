// RESP2 by hiredis, behind plain data: the reader with its bounds, and the formatter. For redis.cc and tests alone.
//
// Only what hiredis 0.14 and 1.x have in common is used. A reader belongs to one connection and one thread.
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/redis.h"

#include <stddef.h>

namespace belfry {

struct redis_reader;

enum class redis_next : uint8_t { value, more, broken };

// `reply_max`: bytes of one reply, as it stands on the wire.
[[nodiscard]] redis_reader *redis_reader_new(size_t reply_max);
void redis_reader_free(redis_reader *r);
void redis_reader_feed(redis_reader *r, view bytes);
// The next whole reply, valid until the next call; broken: not RESP2, nested too deeply, or too large, for good.
[[nodiscard]] redis_next redis_reader_next(redis_reader *r, const redis_value **value, error *e);

// Appends the command as an array of bulk strings.
void redis_format(buffer *out, int argc, const view *argv);

// The commands that subscribe, and the first element of the frames that a subscriber is sent.
enum class redis_verb : uint8_t {
    none,
    subscribe,
    unsubscribe,
    psubscribe,
    punsubscribe,
    ssubscribe,
    sunsubscribe,
    message, // also pmessage and smessage
    pong,
};
[[nodiscard]] redis_verb redis_verb_of(view word); // any case
inline bool redis_verb_subscribes(redis_verb v) {
    return v >= redis_verb::subscribe && v <= redis_verb::sunsubscribe;
}

} // namespace belfry
