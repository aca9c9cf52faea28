// The chain: which module is called when, what comes of its verdict, and who is resumed. On the worker's thread, but
// for the resumes of other threads, which are queued here.
#include "relay/chain.h"

#include "base/error.h"
#include "base/log.h"
#include "relay/chain_call.h"
#include "relay/client.h"

#include <bit>
#include <mutex>
#include <new>
#include <stdlib.h>
#include <string.h>

namespace belfry {

void chain_lay_out(relay_settings *settings) {
    uint32_t at = 0;
    for (module_entry &e : settings->modules) {
        e.conn_offset = at;
        at += static_cast<uint32_t>(e.module->conn_size + 15) & ~15u;
    }
    settings->module_conn_bytes = at;
}

// ---------------------------------------------------------------- a call

static const void *scope_at(const module_scopes *scopes, size_t module) {
    return module < scopes->size() ? (*scopes)[module] : nullptr;
}

// A module that made nothing of the connection's sections has nothing to do with it (module.h, scope_new).
static bool wants(const relay_settings *settings, const struct route *r, size_t module) {
    const struct belfry_module *m = settings->modules[module].module;
    if (!CHAIN_HOOK(m, scope_new)) return true;
    if (!r) return false;
    if (scope_at(&r->scopes, module)) return true;
    const upstream_settings *u = route_upstream(settings, r);
    return u && scope_at(&u->scopes, module);
}

bool chain_wants(const conn *c, size_t module) {
    return wants(c->on->settings, c->route, module);
}

static void fill_request(struct belfry_request *out, const exchange *x) {
    out->size = sizeof *out;
    out->kind = x->kind;
    out->method = chain_text(x->request.method);
    out->path = chain_text(buffer_view(&x->path));
    out->query = chain_text(x->request.query);
    out->host = chain_text(x->request.authority);
    out->secure = x->secure;
    out->for_everybody = x->client_js;
    memcpy(out->address, x->client.bytes, sizeof out->address);
}

void chain_call_begin(chain_call *k, conn *c, exchange *x) {
    k->call = {};
    k->call.size = sizeof k->call;
    k->call.host = chain_host();
    k->call.now_ms = c->on->loop->clock.monotonic_ms;
    k->call.wall_ms = c->on->loop->clock.wall_ms;
    k->on = c;
    k->x = x;
    k->handshake = k->asked = k->renewing = false;
    k->scratch = nullptr;
    if (!x) return;
    fill_request(&k->request, x);
    k->call.request = &k->request;
}

// Serials are never 0 and never used twice on a thread (within four thousand million), so that a ticket of an earlier
// request or message of the same connection resumes nothing.
static uint32_t new_serial() {
    static thread_local uint32_t last;
    return ++last ? last : ++last;
}

// Whether the connection is the module's business; notes it where it is so from here on. A module whose scopes a reload
// has taken away keeps what it knows of the connection.
static bool is_of(const conn *c, size_t module) {
    auto *block = static_cast<chain_block *>(c->modules);
    const uint64_t bit = uint64_t{1} << module;
    if (!block) return false;
    if (chain_wants(c, module)) block->called |= bit;
    return block->called & bit;
}

uint32_t chain_call_aim(chain_call *k, size_t module, const room_rule *rule) {
    conn *c = k->on;
    const shard *s = c->on;
    const module_entry *e = &s->settings->modules[module];
    auto *block = static_cast<char *>(c->modules);
    struct belfry_call *call = &k->call;
    uint32_t serial = new_serial();
    call->ticket.word[0] =
        static_cast<uint64_t>(s->index) << 56 | static_cast<uint64_t>(c->slot & 0xffffff) << 32 | serial;
    call->ticket.word[1] = c->tag;
    call->worker = s->module_workers ? s->module_workers[module] : nullptr;
    const bool state = is_of(c, module) && e->module->conn_size && static_cast<chain_block *>(c->modules)->has_states;
    call->connection = state ? block + sizeof(chain_block) + e->conn_offset : nullptr;
    call->route = call->upstream = call->room = nullptr;
    if (c->route) {
        call->route = scope_at(&c->route->scopes, module);
        int32_t upstream = c->route->upstream_index;
        if (upstream >= 0)
            call->upstream = scope_at(&s->settings->upstreams[static_cast<size_t>(upstream)].scopes, module);
    }
    if (rule) call->room = scope_at(&rule->scopes, module);
    view user = client_user(c).substr(0, sizeof k->user);
    if (!user.empty()) memcpy(k->user, user.data(), user.size());
    call->user = {k->user, user.size()};
    return serial;
}

void chain_call_end(chain_call *k) {
    while (chain_scratch *s = k->scratch) {
        k->scratch = s->next;
        free(s);
    }
}

static bool status_fits(int status, bool may_answer) {
    return (status >= 400 && status <= 599) || (may_answer && status >= 200 && status <= 299);
}

chain_result chain_take(enum belfry_verdict_type type, const struct belfry_verdict *from, const struct belfry_module *m,
                        chain_verdict *to) {
    *to = {from->status, from->retry_after_s, from->close_code, from->pause_ms, chain_view(from->reason), m->name};
    to->reason = to->reason.substr(0, chain_reason_max);
    if (!status_fits(to->status, true)) to->status = 403;
    if (type == BELFRY_PASS) return chain_result::pass;
    if (type == BELFRY_WAIT) return chain_result::wait;
    return chain_result::deny;
}

// ---------------------------------------------------------------- handshake and admission

chain_need chain_need_of(const relay_settings *settings, const struct route *r) {
    chain_need need = chain_need::nothing;
    for (size_t i = 0; i < settings->modules.size(); i++) {
        const struct belfry_module *m = settings->modules[i].module;
        if (!wants(settings, r, i)) continue;
        if (m->conn_size) return chain_need::states;
        if (CHAIN_HOOK(m, message) || CHAIN_HOOK(m, publish) || CHAIN_HOOK(m, renew) || CHAIN_HOOK(m, close))
            need = chain_need::block;
    }
    return need;
}

static chain_block *new_block(const relay_settings *settings, bool states) {
    auto *block =
        new (memory_get_zeroed(sizeof(chain_block) + (states ? settings->module_conn_bytes : 0))) chain_block{};
    block->has_states = states;
    return block;
}

static chain_block *make_block(conn *c) {
    const bool states = !c->modules && chain_need_of(c->on->settings, c->route) == chain_need::states;
    if (!c->modules) c->modules = new_block(c->on->settings, states);
    return static_cast<chain_block *>(c->modules);
}

// No module has a pointer into a block without states, so it may be another one.
void chain_adopt(conn *c, chain_need need) {
    auto *old = static_cast<chain_block *>(c->modules);
    const bool states = need == chain_need::states;
    if (need == chain_need::nothing || (old && (old->has_states || !states))) return;
    chain_block *block = new_block(c->on->settings, states);
    if (old) {
        *block = *old;
        block->has_states = states;
        free(old);
    }
    c->modules = block;
}

// Nothing of what comes is any module's business: an idle connection keeps no block for it.
static bool block_of_no_use(const conn *c) {
    if (chain_need_of(c->on->settings, c->route) != chain_need::nothing) return false;
    for (uint64_t left = static_cast<chain_block *>(c->modules)->called; left; left &= left - 1) // before a reload
        if (CHAIN_HOOK(c->on->settings->modules[static_cast<size_t>(std::countr_zero(left))].module, close))
            return false;
    return true;
}

static chain_result call_handshake(chain_call *k, const struct belfry_module *m, chain_verdict *v) {
    struct belfry_verdict said = {};
    said.size = sizeof said;
    k->handshake = true;
    k->asked = false;
    enum belfry_verdict_type type = m->handshake(&k->call, &said);
    if (k->asked && type == BELFRY_WAIT) type = BELFRY_PASS; // the backend decides, behind all modules
    chain_result result = chain_take(type, &said, m, v);
    if (k->x->kind != BELFRY_HTTP && !status_fits(v->status, false)) v->status = 403;
    return result;
}

chain_result chain_handshake(exchange *x, chain_verdict *v) {
    const std::vector<module_entry> &modules = x->on->on->settings->modules;
    *v = {};
    if (x->next_module >= modules.size()) return chain_result::pass;
    chain_block *block = make_block(x->on);
    chain_call k;
    chain_call_begin(&k, x->on, x);
    x->chained = true;
    chain_result result = chain_result::pass;
    while (result == chain_result::pass && x->next_module < modules.size()) {
        uint32_t i = x->next_module++;
        const struct belfry_module *m = modules[i].module;
        if (!chain_wants(x->on, i)) continue;
        block->called |= uint64_t{1} << i;
        if (!CHAIN_HOOK(m, handshake)) continue;
        uint32_t serial = chain_call_aim(&k, i, nullptr);
        result = call_handshake(&k, m, v);
        chain_call_end(&k);
        if (result != chain_result::wait) continue;
        x->waiting = true;
        block->awaiting = serial;
    }
    return result;
}

chain_result chain_admitted(exchange *x, chain_verdict *v) {
    const std::vector<module_entry> &modules = x->on->on->settings->modules;
    *v = {};
    if (!x->on->modules) return chain_result::pass;
    chain_call k;
    chain_call_begin(&k, x->on, x);
    chain_result result = chain_result::pass;
    for (uint32_t i = 0; i < modules.size() && result == chain_result::pass; i++) {
        const struct belfry_module *m = modules[i].module;
        if (!CHAIN_HOOK(m, admitted) || !chain_wants(x->on, i)) continue;
        chain_call_aim(&k, i, nullptr);
        struct belfry_verdict said = {};
        said.size = sizeof said;
        result = chain_take(m->admitted(&k.call, &said), &said, m, v);
        chain_call_end(&k);
        if (!status_fits(v->status, false)) v->status = 403;
        if (result == chain_result::wait) result = chain_deny(m, 500, "a module waits where it may not", v);
    }
    if (result == chain_result::pass && block_of_no_use(x->on)) {
        free(x->on->modules);
        x->on->modules = nullptr;
    }
    return result;
}

// ---------------------------------------------------------------- publishes, tokens, the end

chain_result chain_publish(conn *c, view room, const room_rule *rule, view data, chain_verdict *v) {
    const std::vector<module_entry> &modules = c->on->settings->modules;
    *v = {};
    if (!c->modules && !rule) return chain_result::pass;
    chain_call k;
    chain_result result = chain_result::pass;
    bool begun = false; // mostly no module has anything to do with a publish
    for (uint32_t i = 0; i < modules.size() && result == chain_result::pass; i++) {
        const struct belfry_module *m = modules[i].module;
        if (!CHAIN_HOOK(m, publish)) continue;
        if (!chain_wants(c, i) && !(rule && scope_at(&rule->scopes, i))) continue;
        if (!begun) chain_call_begin(&k, c, nullptr);
        begun = true;
        k.call.data = chain_text(data);
        k.call.room_name = chain_text(room);
        chain_call_aim(&k, i, rule);
        struct belfry_verdict said = {};
        said.size = sizeof said;
        result = chain_take(m->publish(&k.call, &said), &said, m, v);
        chain_call_end(&k);
        if (!status_fits(v->status, false)) v->status = 403;
        if (result == chain_result::wait) result = chain_deny(m, 503, "a module waits where it may not", v);
    }
    return result;
}

chain_result chain_renew(conn *c, view token, chain_verdict *v) {
    const std::vector<module_entry> &modules = c->on->settings->modules;
    chain_deny(nullptr, 400, "no tokens are taken here", v);
    if (!c->modules) return chain_result::deny;
    std::string kept(token); // checking it uses the reader that it may stand in
    chain_call k;
    chain_call_begin(&k, c, nullptr);
    k.renewing = true;
    k.call.data = chain_text(kept);
    chain_result result = chain_result::deny;
    for (uint32_t i = 0; i < modules.size() && result != chain_result::pass; i++) {
        const struct belfry_module *m = modules[i].module;
        if (!CHAIN_HOOK(m, renew) || !chain_wants(c, i)) continue;
        chain_call_aim(&k, i, nullptr);
        struct belfry_verdict said = {};
        said.size = sizeof said;
        result = chain_take(m->renew(&k.call, &said), &said, m, v);
        chain_call_end(&k);
    }
    return result == chain_result::pass ? result : chain_result::deny;
}

void chain_close(conn *c) {
    auto *block = static_cast<chain_block *>(c->modules);
    if (!block) return;
    if (c->exchange) c->exchange->waiting = false;
    chain_message_forget(c);
    chain_call k;
    chain_call_begin(&k, c, nullptr);
    const uint64_t called = block->called;
    for (uint64_t left = called; left; left &= left - 1) {
        const auto i = static_cast<size_t>(std::countr_zero(left));
        const struct belfry_module *m = c->on->settings->modules[i].module;
        if (!CHAIN_HOOK(m, close)) continue;
        chain_call_aim(&k, i, nullptr);
        m->close(&k.call);
        chain_call_end(&k);
    }
    free(block);
    c->modules = nullptr;
}

// ---------------------------------------------------------------- the worker

// Which shards take resumes, by the worker's index in the ticket. The lock is held while one is queued, so that a shard
// does not end meanwhile.
static std::mutex shards_lock;
static shard *shards[shards_max]; // borrowed

void chain_worker_start(shard *s) {
    const std::vector<module_entry> &modules = s->settings->modules;
    s->module_workers = new void *[modules.size() + 1] {};
    s->resumes = new std::vector<module_resume>;
    for (size_t i = 0; i < modules.size(); i++)
        if (auto *make = CHAIN_HOOK(modules[i].module, worker_new)) s->module_workers[i] = make(chain_host(), s->index);
    std::lock_guard guard(shards_lock);
    shards[s->index] = s;
}

void chain_worker_stop(shard *s) {
    {
        std::lock_guard guard(shards_lock);
        if (shards[s->index] == s) shards[s->index] = nullptr;
    }
    const std::vector<module_entry> &modules = s->settings->modules;
    for (size_t i = 0; s->module_workers && i < modules.size(); i++) {
        auto *end = CHAIN_HOOK(modules[i].module, worker_free);
        if (end && s->module_workers[i]) end(chain_host(), s->module_workers[i]);
    }
    delete[] s->module_workers;
    delete s->resumes;
    s->module_workers = nullptr;
    s->resumes = nullptr;
}

// host->resume. Never carried out at once, also where it comes from the worker itself: it may stand in the very hook
// that is about to say wait.
void chain_queue_resume(module_resume *r) {
    static log_limit limit;
    uint64_t held = 0;
    uint64_t index = r->ticket.word[0] >> 56;
    if (index >= shards_max) return;
    std::lock_guard guard(shards_lock);
    shard *s = shards[index];
    if (!s) return;
    bool full;
    {
        std::lock_guard queue(s->resume_lock);
        full = s->resumes->size() >= chain_resumes_max;
        if (!full) s->resumes->push_back(std::move(*r));
        s->resumes_waiting.store(true, std::memory_order_release);
    }
    if (!full)
        loop_wake(s->loop);
    else if (log_limit_pass(&limit, &held))
        log_error("modules: too many resumes at once, dropped (%llu more not shown)",
                  static_cast<unsigned long long>(held));
}

static void end_wait(exchange *x, chain_result result, chain_verdict *v) {
    x->waiting = false;
    static_cast<chain_block *>(x->on->modules)->awaiting = 0;
    if (result == chain_result::pass) result = chain_handshake(x, v);
    if (result != chain_result::wait) x->events->chained(x, result, v);
}

static void carry_out(shard *s, module_resume *r) {
    auto slot = static_cast<uint32_t>(r->ticket.word[0] >> 32) & 0xffffff;
    auto serial = static_cast<uint32_t>(r->ticket.word[0]);
    conn *c = conn_find(s, {s->index, slot, r->ticket.word[1]});
    auto *block = c ? static_cast<chain_block *>(c->modules) : nullptr;
    if (!block || block->awaiting != serial || (!block->wait && !c->exchange)) return;
    uint32_t by = block->wait ? block->wait->next_module : c->exchange->next_module;
    r->verdict.reason = r->reason;
    r->verdict.module = s->settings->modules[by - 1].module->name;
    if (block->wait) return chain_message_resume(c, r->result, &r->verdict);
    if (c->exchange->kind != BELFRY_HTTP && !status_fits(r->verdict.status, false)) r->verdict.status = 403;
    end_wait(c->exchange, r->result, &r->verdict);
}

void chain_run_resumes(shard *s) {
    if (!s->resumes_waiting.load(std::memory_order_acquire)) return;
    std::vector<module_resume> now;
    {
        std::lock_guard guard(s->resume_lock);
        s->resumes_waiting.store(false, std::memory_order_relaxed);
        if (!s->resumes || s->resumes->empty()) return;
        now.swap(*s->resumes);
    }
    for (module_resume &r : now)
        carry_out(s, &r);
}

} // namespace belfry
