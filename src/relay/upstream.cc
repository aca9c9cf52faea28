// Calls over an upstream: from waiting for a place to the last byte of the answer, with the attempts in between. On the
// worker's thread.
//
//   state       waits for                        ends by
//   queued      a place (max_inflight)           -> due; queue_timeout
//   due         the loop's next turn             -> resolving, connecting, running
//   resolving   the first address                -> due; connect_timeout
//   connecting  the link                         -> running; connect_timeout, refused -> due (another server) or over
//   running     the answer                       end; failure -> due, where it may be repeated, or over
//   tunnelling  either side's end
//   doomed      the loop's next turn             failed
//
// A call that is over belongs to its owner again, who may free it within end and failed: these come last.
#include "relay/upstream.h"

#include "base/log.h"
#include "relay/upstream_pool.h"

namespace belfry {

enum call_state : uint8_t { idle, queued, due, resolving, connecting, running, tunnelling, doomed };

static constexpr uint64_t resolve_poll_ms = 100;

static uint64_t now_of(const upstream *u) {
    return u->on->loop->clock.monotonic_ms;
}

static void set_deadline(upstream_call *c, uint64_t after_ms) {
    wheel_set(&c->of->on->deadlines, &c->deadline.timer, now_of(c->of), after_ms);
}

static upstream_call *call_at(struct link *place) {
    return BELFRY_CONTAINER_OF(place, upstream_call, place);
}

static pooled_link *link_of(const upstream_call *c) {
    return c->link ? static_cast<pooled_link *>(c->link->owner) : nullptr;
}

// ---------------------------------------------------------------- places

static void make_due(upstream_call *c) {
    c->state = due;
    list_push_back(&c->of->due, &c->place);
    later_post(&c->of->later);
}

static bool place_free(const upstream *u) {
    const auto max = static_cast<uint64_t>(u->settings->max_inflight);
    return max == 0 || number_get(&u->running) < max;
}

static void give_place(upstream_call *c) {
    number_add(&c->of->running, 1);
    make_due(c);
}

static void free_place(upstream *u) {
    number_add(&u->running, -1);
    while (!list_empty(&u->waiting) && place_free(u)) {
        upstream_call *next = call_at(u->waiting.next);
        list_remove(&next->place);
        wheel_cancel(&u->on->deadlines, &next->deadline.timer);
        number_add(&u->queued, -1);
        give_place(next);
    }
}

// Takes the call out of everything but its link.
static void settle(upstream_call *c) {
    upstream *u = c->of;
    const uint8_t was = c->state;
    c->state = idle;
    list_remove(&c->place);
    wheel_cancel(&u->on->deadlines, &c->deadline.timer);
    if (c->server) number_add(&c->server->inflight, -1);
    c->server = nullptr;
    if (was == queued) number_add(&u->queued, -1);
    if (was != queued && was != doomed && was != tunnelling) free_place(u);
}

static void fail(upstream_call *c, upstream_failure why) {
    const bool answered = c->answered;
    settle(c);
    c->ops->failed(c, why, answered);
}

// ---------------------------------------------------------------- attempts

static void count_failure(upstream_call *c, const char *why) {
    static log_limit limit;
    uint64_t held = 0;
    upstream *u = c->of;
    number_add(&c->server->failures, 1);
    if (!c->answered) server_failed(c->server->shared, now_of(u), c->trial); // half an answer shows a server that works
    if (log_limit_pass(&limit, &held))
        log_warn("upstream %s: %s: %s: %s (%llu more not shown)", u->settings->name.c_str(),
                 c->server->shared->settings->text.c_str(), upstream_failure_name(c->reason), why,
                 static_cast<unsigned long long>(held));
}

// Whether the call may go on elsewhere; notes what the next attempt must avoid. `unsent`: or it may be sent twice.
static bool may_repeat(upstream_call *c, bool stale, bool unsent, bool unreached) {
    if (c->attempts > c->of->count || c->answered || c->state == tunnelling) return false;
    if (!unreached && (c->reason != upstream_failure::closed || !unsent)) return false;
    if (c->other_address) return true;
    if (stale) return c->fresh = true;
    c->tried |= uint64_t{1} << c->server->index;
    return true;
}

static void attempt_failed(upstream_call *c, upstream_failure reason, const char *why) {
    pooled_link *l = link_of(c);
    const bool unreached = c->state == connecting;
    const bool silent = !l || c->link->received == 0;
    const bool stale = l && l->kept && reason == upstream_failure::closed && silent;
    const bool unsent = silent && (c->safe || !l || c->link->sent == 0);
    c->reason = reason;
    // "localhost" has two addresses, and mostly one of them is listened on.
    c->other_address = unreached && !c->other_address && c->server->addresses.size() > 1 && c->attempts <= c->of->count;
    if (!stale && !c->other_address && c->state != tunnelling) count_failure(c, why);
    const bool again = may_repeat(c, stale, unsent, unreached);
    c->link = nullptr;
    if (l) pool_discard(l);
    if (!again) return fail(c, reason);
    wheel_cancel(&c->of->on->deadlines, &c->deadline.timer);
    number_add(&c->server->inflight, -1);
    c->server = nullptr;
    c->sent = c->paused = false;
    make_due(c);
}

static uint64_t read_timeout(const upstream_call *c) {
    return c->read_timeout_ms ? c->read_timeout_ms : static_cast<uint64_t>(c->of->settings->read_timeout);
}

// Hands the link to the owner, who may do anything with the call.
static void hand_over(upstream_call *c, pooled_link *l) {
    c->state = running;
    c->other_address = false;
    c->active_ms = now_of(c->of);
    c->sent = true;
    set_deadline(c, read_timeout(c));
    c->ops->ready(c);
    if (l->call == c) c->sent_seen = l->http.sent; // else the call, and perhaps its memory, is gone
}

// ---------------------------------------------------------------- what links tell

static upstream_call *call_of(http_link *l) {
    return static_cast<pooled_link *>(l->owner)->call;
}

static void on_connected(http_link *l) {
    hand_over(call_of(l), static_cast<pooled_link *>(l->owner));
}

static void on_head(http_link *l, const http1_response *r) {
    upstream_call *c = call_of(l);
    c->active_ms = now_of(c->of);
    if (r->status >= 200 || r->status == 101) {
        c->answered = true;
        if (c->trial) server_back(c->server->shared, c->active_ms);
        c->trial = false;
    }
    c->ops->head(c, r);
}

static void on_body(http_link *l, view data) {
    upstream_call *c = call_of(l);
    c->active_ms = now_of(c->of);
    c->ops->body(c, data);
}

static void on_end(http_link *l) {
    auto *pooled = static_cast<pooled_link *>(l->owner);
    upstream_call *c = pooled->call;
    pooled->call = nullptr;
    settle(c);
    c->ops->end(c, http1_body_trailers(&l->body));
    pool_put(pooled);
}

static upstream_failure failure_of(http_failure what) {
    if (what == http_failure::connect) return upstream_failure::connect;
    return what == http_failure::closed ? upstream_failure::closed : upstream_failure::malformed;
}

static void on_failed(http_link *l, http_failure what, const char *why) {
    upstream_call *c = call_of(l);
    if (!c) return pool_discard(static_cast<pooled_link *>(l->owner)); // it was idle
    attempt_failed(c, failure_of(what), why);
}

static void on_drained(http_link *l) {
    upstream_call *c = call_of(l);
    if (c && c->ops->drained) c->ops->drained(c);
}

static const http_link_events link_events = {on_connected, on_head, on_body, on_end, on_failed, on_drained};

// ---------------------------------------------------------------- the next attempt

static void park(upstream_call *c) {
    upstream *u = c->of;
    c->state = resolving;
    list_push_back(&u->resolving, &c->place);
    set_deadline(c, static_cast<uint64_t>(u->settings->connect_timeout));
    if (!timer_armed(&u->poll.timer)) wheel_set(&u->on->deadlines, &u->poll.timer, now_of(u), resolve_poll_ms);
}

static void attempt(upstream_call *c) {
    upstream *u = c->of;
    upstream_refresh(u);
    const int i = upstream_pick(u, c);
    if (i < 0) return fail(c, c->reason);
    upstream_server *s = &u->servers[i];
    if (s->addresses.empty() && s->resolved == resolve_state::asked) return park(c);
    c->attempts++;
    c->server = s;
    c->sent_seen = 0;
    number_add(&s->requests, 1);
    number_add(&s->inflight, 1);
    pooled_link *l = c->fresh || c->trial ? nullptr : pool_take(s); // a trial is to show that it can be reached
    if (l) {
        l->call = c;
        c->link = &l->http;
        return hand_over(c, l);
    }
    error e;
    c->state = connecting;
    if (s->addresses.empty()) return attempt_failed(c, upstream_failure::connect, "its host name is not found");
    l = pool_open(u, s, &link_events, &e);
    if (!l) return attempt_failed(c, upstream_failure::connect, e.text);
    l->call = c;
    c->link = &l->http;
    set_deadline(c, static_cast<uint64_t>(u->settings->connect_timeout));
}

// ---------------------------------------------------------------- time

// The answer's time runs from the last byte either way. A request that still goes out makes progress by what the socket
// takes, and where nothing waits for the socket it is the owner who has nothing to send.
static void on_silence(upstream_call *c) {
    const uint64_t limit = read_timeout(c), silent = now_of(c->of) - c->active_ms;
    const bool owner_waits = !c->link->request_done && http_link_queued(c->link) == 0;
    if (owner_waits || c->link->sent != c->sent_seen) {
        c->sent_seen = c->link->sent;
        c->active_ms = now_of(c->of);
        return set_deadline(c, limit);
    }
    if (silent < limit) return set_deadline(c, limit - silent);
    attempt_failed(c, upstream_failure::timeout, "read_timeout passed");
}

static void on_deadline(deadline *d) {
    upstream_call *c = BELFRY_CONTAINER_OF(d, upstream_call, deadline);
    switch (c->state) {
    case queued:
        number_add(&c->of->queue_timeouts, 1);
        return fail(c, upstream_failure::queue_timeout);
    case resolving:
        return fail(c, upstream_failure::timeout);
    case connecting:
        return attempt_failed(c, upstream_failure::timeout, "connect_timeout passed");
    default:
        return on_silence(c);
    }
}

// There is no word from the main thread when a name is found: until the first time, a look now and then.
void upstream_look(deadline *d) {
    upstream *u = BELFRY_CONTAINER_OF(d, upstream, poll);
    if (list_empty(&u->resolving)) return;
    if (u->shared->generation.load(std::memory_order_acquire) == u->generation)
        return wheel_set(&u->on->deadlines, &u->poll.timer, now_of(u), resolve_poll_ms);
    while (!list_empty(&u->resolving)) {
        upstream_call *c = call_at(u->resolving.next);
        list_remove(&c->place);
        wheel_cancel(&u->on->deadlines, &c->deadline.timer);
        make_due(c);
    }
}

void upstream_work(later *l) {
    upstream *u = BELFRY_CONTAINER_OF(l, upstream, later);
    pool_bury(u);
    struct link now;
    list_init(&now);
    list_splice(&now, &u->due); // those that are due again have to wait for the next time
    while (!list_empty(&now)) {
        upstream_call *c = call_at(now.next);
        list_remove(&c->place);
        attempt(c);
    }
    list_splice(&now, &u->over);
    while (!list_empty(&now)) {
        upstream_call *c = call_at(now.next);
        fail(c, c->reason);
    }
}

// ---------------------------------------------------------------- for owners

void upstream_call_start(upstream_call *c, upstream *u, const upstream_call_ops *ops, const view *key, bool safe) {
    *c = {};
    c->ops = ops;
    c->of = u;
    c->safe = safe;
    c->reason = upstream_failure::no_server;
    c->started_ms = now_of(u);
    list_init(&c->place);
    deadline_init(&c->deadline, on_deadline);
    if (key && !key->empty()) {
        c->has_key = true;
        c->hash = balancer_key_hash(*key);
    }
    if (place_free(u)) return give_place(c);
    if (number_get(&u->queued) < static_cast<uint64_t>(u->settings->queue)) {
        c->state = queued;
        list_push_back(&u->waiting, &c->place);
        number_add(&u->queued, 1);
        return set_deadline(c, static_cast<uint64_t>(u->settings->queue_timeout));
    }
    number_add(&u->queue_full, 1);
    c->state = doomed;
    c->reason = upstream_failure::queue_full;
    list_push_back(&u->over, &c->place);
    later_post(&u->later);
}

void upstream_call_cancel(upstream_call *c) {
    if (c->state == idle) return;
    pooled_link *l = link_of(c);
    // Else clients that ask and leave would keep a server out that has long come back.
    if (c->trial && c->server) server_untried(c->server->shared, now_of(c->of));
    c->link = nullptr;
    settle(c);
    if (l) pool_discard(l);
}

void upstream_call_tunnel(upstream_call *c) {
    if (c->state != running) return;
    c->state = tunnelling;
    c->tunnel = true;
    wheel_cancel(&c->of->on->deadlines, &c->deadline.timer);
    http_link_tunnel(c->link);
    free_place(c->of);
}

void upstream_call_pause(upstream_call *c) {
    if (c->state < running || c->state == doomed || c->paused) return;
    c->paused = true;
    wheel_cancel(&c->of->on->deadlines, &c->deadline.timer);
    http_link_pause(c->link);
}

void upstream_call_resume(upstream_call *c) {
    if (!c->paused) return;
    c->paused = false;
    http_link_resume(c->link);
    c->active_ms = now_of(c->of);
    if (c->state == running) set_deadline(c, read_timeout(c));
}

} // namespace belfry
