// The modules around a connection (module.h), called in the order of the config: at the handshake (which may wait),
// once it is admitted, for each message and publish, at the end. Also Belfry's half of module.h, struct belfry_host.
//
// A connection has one block of memory for its modules (conn::modules), from its first handshake hook to chain_close.
// Owner's thread; chain_host's log, allocate, release, random, hmac and resume: any.
#pragma once

#include "module.h"
#include "relay/exchange.h"

#include <string>

namespace belfry {

inline constexpr uint64_t chain_message_wait_ms = 30000; // that a module may let a message wait
inline constexpr size_t chain_resumes_max = 1 << 17;     // that may stand in shard::resumes; later ones are dropped
inline constexpr size_t chain_reason_max = 255;          // bytes of a verdict's reason that are kept
inline constexpr size_t chain_fields_max = 8192;         // bytes of field lines that modules add to one answer
inline constexpr size_t chain_modules_max = 64;          // in one config
inline constexpr size_t chain_state_max = 256;           // bytes of one module's state in a connection

// The functions that modules call. Static; the same for all.
const struct belfry_host *chain_host();
// What host->version says. Static text; before modules are loaded. Main thread.
void chain_set_version(const char *version);
// Gives each module of the settings its place in a connection's block. Main thread, once the modules are known.
void chain_lay_out(relay_settings *settings);

// Runs the handshake hooks from exchange->next_module on. wait: x->waiting, and x->events->chained comes later,
// from the worker's turn.
[[nodiscard]] chain_result chain_handshake(exchange *x, chain_verdict *v);
// After all have passed and the user is known.
[[nodiscard]] chain_result chain_admitted(exchange *x, chain_verdict *v);

// What becomes of a message that had to wait. One of the two is called, from the worker's turn, reading goes on behind
// it; none where the connection ends before.
struct chain_waiter {
    void (*passed)(conn *c, uint8_t opcode, char *data, size_t size); // frame_padding readable behind it
    void (*denied)(conn *c, const chain_verdict *v); // close_code 0: the message alone is dropped, and counted
};
// wait: the client is not read from, the message is copied; without a decision in chain_message_wait_ms it is denied
// with close code 1011. pass: a pause_ms was heeded already, by a conn_hold of that length. A verdict's views live
// until the next call.
[[nodiscard]] chain_result chain_message(conn *c, view data, bool binary, chain_verdict *v, const chain_waiter *then);
// `rule`: null where none matches. wait is a denial here (503). deny: status is the error's code; with a close_code the
// connection is closed behind that.
[[nodiscard]] chain_result chain_publish(conn *c, view room, const room_rule *rule, view data, chain_verdict *v);
// All modules that take tokens are asked until one passes; deny where there is none. Uses the shard's reader: texts of
// its last json_parse_object are gone afterwards, `token` may be one of them.
[[nodiscard]] chain_result chain_renew(conn *c, view token, chain_verdict *v);
// What of a connection's block its route's modules need.
enum class chain_need : uint8_t {
    nothing,
    block,
    states, // with the modules' states behind it
};
[[nodiscard]] chain_need chain_need_of(const relay_settings *settings, const struct route *r);
// A reload: the connection's route has other scopes. Sees to it that it has the block that they need (chain_need_of the
// route); for connections whose modules are still to be called.
void chain_adopt(conn *c, chain_need need);
// Calls close of every module whose turn came, frees the connection's block. Called with the exchange still there
// (request null) or without. Harmless where no chain ran.
void chain_close(conn *c);

// The worker's: its modules' worker state; the resumes that came meanwhile, once a turn. From start to stop tickets of
// this worker are good. Resumes that came too late find nobody, which is no error.
void chain_worker_start(shard *s);
void chain_worker_stop(shard *s);
void chain_run_resumes(shard *s);

// One host->resume on its way to the worker that the ticket names.
struct module_resume {
    struct belfry_ticket ticket;
    chain_result result;
    chain_verdict verdict; // but for the reason, which is
    std::string reason;    // here
};

} // namespace belfry
