// A client's messages on their way through the modules: passing at once, waiting, pausing. On the worker's thread.
#include "base/error.h"
#include "relay/chain_call.h"

#include <algorithm>
#include <stdlib.h>
#include <string.h>

namespace belfry {

static chain_block *block_of(const conn *c) {
    return static_cast<chain_block *>(c->modules);
}

// ---------------------------------------------------------------- holding the client

static void end_wait(conn *c, chain_wait *w) {
    wheel_cancel(&c->on->deadlines, &w->deadline.timer);
    buffer_free(&w->data);
    free(w);
}

void chain_message_forget(conn *c) {
    chain_wait *w = block_of(c)->wait;
    if (!w) return;
    block_of(c)->wait = nullptr;
    block_of(c)->awaiting = 0;
    end_wait(c, w);
    conn_let_go(c);
}

static void on_deadline(struct deadline *d) {
    chain_wait *w = BELFRY_CONTAINER_OF(d, chain_wait, deadline);
    conn *c = w->on;
    if (!w->then) return chain_message_forget(c); // the pause is over
    chain_verdict late = {};
    late.close_code = 1011;
    late.reason = "a module did not decide in time";
    late.module = c->on->settings->modules[w->next_module - 1].module->name;
    chain_message_resume(c, chain_result::deny, &late);
}

static chain_wait *begin_wait(conn *c, uint64_t ms) {
    auto *w = static_cast<chain_wait *>(memory_get_zeroed(sizeof(chain_wait)));
    w->on = c;
    deadline_init(&w->deadline, on_deadline);
    wheel_set(&c->on->deadlines, &w->deadline.timer, c->on->loop->clock.monotonic_ms, ms);
    block_of(c)->wait = w;
    conn_hold(c);
    return w;
}

// ---------------------------------------------------------------- the modules

struct message_walk {
    uint32_t next_module; // where it goes on
    uint32_t serial;      // wait: of the ticket
    uint64_t pause_ms;    // pass: the longest that was asked for
};

static chain_result walk(conn *c, view data, bool binary, message_walk *at, chain_verdict *v) {
    const std::vector<module_entry> &modules = c->on->settings->modules;
    chain_call k;
    chain_result result = chain_result::pass;
    bool begun = false;
    while (result == chain_result::pass && at->next_module < modules.size()) {
        uint32_t i = at->next_module++;
        const struct belfry_module *m = modules[i].module;
        if (!CHAIN_HOOK(m, message) || !chain_wants(c, i)) continue;
        if (!begun) chain_call_begin(&k, c, nullptr);
        begun = true;
        k.call.data = chain_text(data);
        k.call.binary = binary;
        at->serial = chain_call_aim(&k, i, nullptr);
        struct belfry_verdict said = {};
        said.size = sizeof said;
        result = chain_take(m->message(&k.call, &said), &said, m, v);
        chain_call_end(&k);
        at->pause_ms = std::max<uint64_t>(at->pause_ms, said.pause_ms);
    }
    return result;
}

static void keep_message(chain_wait *w, view data) {
    buffer_reserve(&w->data, data.size() + frame_padding);
    buffer_append(&w->data, data);
    memset(w->data.data + w->data.size, 0, frame_padding);
}

chain_result chain_message(conn *c, view data, bool binary, chain_verdict *v, const chain_waiter *then) {
    *v = {};
    chain_block *block = block_of(c);
    if (!block) return chain_result::pass;
    message_walk at = {};
    chain_result result = walk(c, data, binary, &at, v);
    if (result == chain_result::deny || (result == chain_result::pass && !at.pause_ms)) return result;
    if (block->wait) // nothing is read meanwhile, but for what was read before
        return result == chain_result::pass ? result : chain_deny(nullptr, 503, "a message waits already", v);
    if (result == chain_result::pass) {
        begin_wait(c, at.pause_ms);
        return result;
    }
    chain_wait *w = begin_wait(c, chain_message_wait_ms);
    w->then = then;
    w->binary = binary;
    w->next_module = at.next_module;
    keep_message(w, data);
    block->awaiting = at.serial;
    return result;
}

// The wait is taken off the connection before anybody is called: what is called may end the connection, or make the
// next message wait.
void chain_message_resume(conn *c, chain_result result, const chain_verdict *v) {
    chain_wait *w = block_of(c)->wait;
    chain_verdict own = *v;
    message_walk at = {w->next_module, 0, result == chain_result::pass ? own.pause_ms : 0};
    if (result == chain_result::pass) result = walk(c, buffer_view(&w->data), w->binary, &at, &own);
    if (result == chain_result::wait) { // the next module has its own time
        w->next_module = at.next_module;
        block_of(c)->awaiting = at.serial;
        wheel_set(&c->on->deadlines, &w->deadline.timer, c->on->loop->clock.monotonic_ms, chain_message_wait_ms);
        return;
    }
    block_of(c)->wait = nullptr;
    block_of(c)->awaiting = 0;
    if (result == chain_result::pass && at.pause_ms) begin_wait(c, at.pause_ms);
    conn_let_go(c); // reads nothing yet
    if (!c->open) { // closing meanwhile: nothing is done with data any more
    } else if (result == chain_result::pass) {
        w->then->passed(c, w->binary ? ws_binary : ws_text, w->data.data, w->data.size);
    } else {
        w->then->denied(c, &own);
    }
    end_wait(c, w);
}

} // namespace belfry
