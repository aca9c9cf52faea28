// One connection to Redis, kept alive: hiredis's reader and formatter over our own transport (TCP, unix socket, TLS),
// so that it is the same on hiredis 0.14 and 1.x. RESP2: one connection subscribes, another publishes.
//
// (where?) -> resolve (evdns) -> connect -> TLS -> AUTH -> SELECT -> (ROLE?) -> ready -> (down -> back-off with jitter
// -> again). Main thread.
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/loop.h"

#include <stdint.h>
#include <string>

namespace belfry {

struct redis; // opaque; owns its stream, reader, queues and timers

struct redis_settings {
    std::string host; // name or address; empty: unix
    uint16_t port = 6379;
    std::string unix_path;
    bool tls = false;   // rediss://
    std::string tls_ca; // file; empty: the system's
    bool tls_verify = true;
    std::string user;     // ACL user; empty: AUTH PASSWORD alone
    std::string password; // never logged
    int database = 0;
    bool primary_only = false;         // asks ROLE, refuses a replica, and ends where one answers READONLY later
    int64_t connect_timeout_ms = 2000; // resolve, connect, TLS, AUTH, SELECT together
    int64_t ping_interval_ms = 5000;   // silence after which PING is sent
    int64_t ping_timeout_ms = 3000;    // silence after a PING that means it is down
    int64_t backoff_min_ms = 100;      // then doubling, each with full jitter, to:
    int64_t backoff_max_ms = 2000;
    size_t reply_max = 64u << 20; // bytes of one reply; above it the connection is dropped
};

// redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], rediss://..., unix://[USER:PASSWORD@]/PATH[?db=N]; percent-encoding
// decoded. False with a reason that does not quote the password.
[[nodiscard]] bool redis_parse_url(view url, redis_settings *out, error *e);
// HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT, nothing else; without a port `out` keeps its own.
[[nodiscard]] bool redis_parse_endpoint(view text, redis_settings *out, error *e);
// HOST:PORT/DB or unix:/PATH without user and password: for the log.
std::string redis_describe(const redis_settings *s);

// The reply as plain data, without hiredis in the header. Strings are views valid during the callback; a string has
// frame_padding readable bytes behind it only if copied: copy before parsing as JSON.
enum class redis_type : uint8_t { nil, integer, text, status, error, array };
struct redis_value {
    redis_type type;
    int64_t integer;
    view text;    // text, status, error
    size_t count; // array
    const redis_value *elements;
};

struct redis_events {
    // Authenticated and selected: commands sent from here on go out at once. The caller subscribes again.
    void (*ready)(redis *r, void *context);
    // Was ready and is not any more. Commands still unanswered got their reply callback with null before.
    void (*down)(redis *r, const char *why, void *context);
    // A pub/sub frame (subscribe, unsubscribe, message, pmessage and the sharded ones), in order; or a value of type
    // error, where a subscribe command was refused as a whole (ACL). Null on a connection that never subscribes.
    void (*push)(redis *r, const redis_value *frame, void *context);
};

using redis_reply = void (*)(redis *r, const redis_value *reply /* null: the link broke */, void *context,
                             uint64_t tag);

// Starts connecting; no callback comes before the loop turns. `name` ("subscriber", "publisher") is for the log. Null
// where the CA certificates can't be read (logged).
[[nodiscard]] redis *redis_new(loop *on, const redis_settings *settings, const char *name, const redis_events *events,
                               void *context);
// No callback is called from here on. May be called from a callback.
void redis_free(redis *r);
// The same, but commands still unanswered get their reply callback with null before.
void redis_end(redis *r);
bool redis_ready(const redis *r);
// A link whose server changes: `where` is asked before each attempt to connect and sets host and port, which hold
// settings' own or the last ones. False: nobody knows yet; it is asked again in a second, or at redis_reconnect. Set
// before the loop turns; called from it.
using redis_where = bool (*)(void *context, std::string *host, uint16_t *port);
void redis_locate(redis *r, redis_where where, void *context);
// Ends the connection, where there is one, as if it had broken, and starts the next attempt without a back-off; both
// when the loop comes round. May be called from a callback.
void redis_reconnect(redis *r, const char *why);
// Where it is, or goes to, at present.
const redis_settings *redis_at(const redis *r);

// Queues one command; all that is queued in a turn goes out in one write, by itself, when the loop comes round.
// Subscribe and unsubscribe commands take no reply callback (null): their answers come to `push`. False (nothing
// queued) where not ready, where the queue would hold more than 64 MiB, or where a million commands are unanswered.
[[nodiscard]] bool redis_command(redis *r, int argc, const view *argv, redis_reply reply, void *context, uint64_t tag);
// Stops and starts reading, for back-pressure. While paused the liveness check rests.
void redis_pause(redis *r, bool paused);

struct redis_counters {
    uint64_t connects, failures, commands, replies, pushes, bytes_in, bytes_out;
};
redis_counters redis_count(const redis *r);

} // namespace belfry
