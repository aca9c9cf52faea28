// Clocks of proxied requests. The deadline is armed when a wait begins and looked at when it fires, not with every
// read. Owner's thread.
#include "relay/proxy_clock.h"

namespace belfry {

static bool awaits_body(const proxying *p) {
    return proxying_linked(p) && !p->in_done && !p->on->paused && p->on->route->body_timeout;
}

static bool awaits_reading(const proxying *p) {
    return p->paused || p->finishing;
}

static uint64_t last_read(const proxying *p) {
    return p->on->heard_ms > p->clock_ms ? p->on->heard_ms : p->clock_ms;
}

static uint64_t written(const proxying *p) {
    return p->out_bytes - p->on->outq.bytes;
}

void proxy_clock_arm(proxying *p) {
    uint64_t due = UINT64_MAX, now = proxying_now(p);
    if (awaits_body(p)) {
        uint64_t from = p->window_ms < last_read(p) ? p->window_ms : last_read(p);
        due = from + static_cast<uint64_t>(p->on->route->body_timeout);
    }
    if (awaits_reading(p) && p->progress_ms + proxy_stall_ms < due) due = p->progress_ms + proxy_stall_ms;
    if (due == UINT64_MAX)
        wheel_cancel(&p->on->on->wheel, &p->on->timer);
    else
        conn_set_deadline(p->on, due > now ? due - now : 0);
}

void proxy_clock_body(proxying *p) {
    p->clock_ms = p->window_ms = proxying_now(p);
    p->window_bytes = p->in_bytes;
    proxy_clock_arm(p);
}

void proxy_clock_answer(proxying *p) {
    p->seen_written = written(p);
    p->progress_ms = proxying_now(p);
    proxy_clock_arm(p);
}

// Null where the body comes fast enough. A window that was fast enough is followed by the next.
static const char *body_too_slow(proxying *p) {
    const struct route *r = p->on->route;
    uint64_t now = proxying_now(p), window = now - p->window_ms;
    auto most = static_cast<uint64_t>(r->body_timeout);
    if (now - last_read(p) >= most) return "no byte of the body within body_timeout";
    if (window < most) return nullptr;
    uint64_t bytes = p->in_bytes - p->window_bytes;
    if (bytes * 1000 < static_cast<uint64_t>(r->min_body_rate) * window)
        return "the body came slower than min_body_rate";
    p->window_ms = now;
    p->window_bytes = p->in_bytes;
    return nullptr;
}

static bool reads_nothing(proxying *p) {
    uint64_t now = proxying_now(p);
    if (written(p) == p->seen_written) return now - p->progress_ms >= proxy_stall_ms;
    p->seen_written = written(p);
    p->progress_ms = now;
    return false;
}

proxy_lateness proxy_clock_check(proxying *p, const char **why) {
    if (awaits_body(p) && (*why = body_too_slow(p)) != nullptr) return proxy_lateness::body;
    if (awaits_reading(p) && reads_nothing(p)) {
        *why = "the client has read nothing of its answer for 60 s";
        return proxy_lateness::answer;
    }
    proxy_clock_arm(p);
    return proxy_lateness::none;
}

} // namespace belfry
