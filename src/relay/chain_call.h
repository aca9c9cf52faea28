// What a module's call looks like from this side: struct belfry_call with the connection behind it, and the block that
// a connection's modules keep their state in. For chain.cc, chain_message.cc and chain_host.cc alone. Owner's thread.
#pragma once

#include "net/deadline.h"
#include "relay/chain.h"

namespace belfry {

// The module's function, or null: also where its table, from a .so built with an older module.h, has no place for it.
#define CHAIN_HOOK(module, hook) (BELFRY_HAS(module, hook) ? (module)->hook : nullptr)

// A message that waits for a module, or a pause that one asked for.
struct chain_wait {
    struct deadline deadline;
    conn *on;                 // borrowed
    const chain_waiter *then; // borrowed, static; null: a pause
    buffer data;              // owned: the message, with room for frame_padding
    bool binary;
    uint32_t next_module;
};

// conn::modules: this, then each module's state at its conn_offset.
struct alignas(16) chain_block {
    uint64_t called;   // bits: modules whose turn came, at the handshake or since a reload: close is due
    chain_wait *wait;  // owned; or null
    uint32_t awaiting; // serial of the ticket that ends the wait; 0: none does
    bool has_states;   // the modules' states are behind it
};
static_assert(sizeof(chain_block) % 16 == 0); // the states behind it are aligned

// A text that was made for a module, until its hook returns.
struct chain_scratch {
    chain_scratch *next; // owned
    char data[];
};

struct chain_call {
    struct belfry_call call; // first: the host's functions get its address
    conn *on;                // borrowed
    exchange *x;             // borrowed; null but at handshake and admitted
    bool handshake;          // it is the handshake hook's
    bool asked;              // it wants the connect hook to be asked
    bool renewing;           // the hook is renew
    chain_scratch *scratch;  // owned
    struct belfry_request request;
    char user[255]; // what call.user shows: the client's own may change under the module's hands
};

inline struct belfry_text chain_text(view v) {
    return {v.data(), v.size()};
}
inline view chain_view(struct belfry_text t) {
    return t.size ? view(t.data, t.size) : view();
}

// Everything but what differs from module to module.
void chain_call_begin(chain_call *k, conn *c, exchange *x);
// False where the module has nothing to do with this connection's route and upstream: it is not called.
bool chain_wants(const conn *c, size_t module);
// For the module at that place: its states, its scopes, a new ticket. Returns the ticket's serial.
uint32_t chain_call_aim(chain_call *k, size_t module, const room_rule *rule);
// After the hook: frees the texts made for it.
void chain_call_end(chain_call *k);

// A module's answer made safe: unknown verdicts become denials, statuses that are none 403, reasons are cut.
chain_result chain_take(enum belfry_verdict_type type, const struct belfry_verdict *from, const struct belfry_module *m,
                        chain_verdict *to);

// A denial that is Belfry's own.
inline chain_result chain_deny(const struct belfry_module *m, int status, const char *reason, chain_verdict *to) {
    *to = {};
    to->status = status;
    to->reason = reason;
    to->module = m ? m->name : nullptr;
    return chain_result::deny;
}

// host->resume: takes `r` to its worker. Any thread.
void chain_queue_resume(module_resume *r);

// Of a message that waits: the module's decision. `result` is pass or deny.
void chain_message_resume(conn *c, chain_result result, const chain_verdict *v);
// The connection ends, or it is over with the wait.
void chain_message_forget(conn *c);

} // namespace belfry
