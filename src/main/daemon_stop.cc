// The end of a worker process, stage by stage. Main thread.
#include "base/log.h"
#include "main/daemon.h"
#include "main/handover_link.h"

namespace belfry {

const char *stop_stage_name(stop_stage s) {
    static const char *const names[] = {"serving", "unready", "draining", "overdue", "ending"};
    return names[static_cast<size_t>(s)];
}

void stopping_init(stopping *s, struct daemon *of) {
    *s = {};
    s->of = of;
}

static uint64_t now_of(const stopping *s) {
    return s->of->loop->clock.monotonic_ms;
}

static const core_options *options_of(const stopping *s) {
    return &s->of->settings->core;
}

static long long connections_of(const stopping *s) {
    return s->of->node.process_live.load();
}

static double goodbyes_ms(const stopping *s) {
    const rate *r = &options_of(s)->drain_rate;
    return r->amount ? static_cast<double>(connections_of(s)) * static_cast<double>(r->period_ms) /
                           static_cast<double>(r->amount)
                     : 0;
}

static void enter(stopping *s, stop_stage stage, uint64_t for_ms) {
    s->stage = stage;
    s->due_ms = now_of(s) + for_ms;
}

static void stop_listening(stopping *s) {
    struct daemon *d = s->of;
    if (!d->listening.open.empty() || !d->reload.listening.open.empty()) daemon_stop_listening(d);
}

void stopping_ask(stopping *s, const char *why, bool delay) {
    if (s->stage > stop_stage::unready) return;
    if (s->asked) { // a second reason may be in more of a hurry
        if (!delay) s->due_ms = now_of(s);
        return;
    }
    s->asked = s->of->node.unready = true;
    s->due_ms = now_of(s) + (delay ? static_cast<uint64_t>(options_of(s)->drain_delay) : 0);
    s->stage = stop_stage::unready;
    log_info("stopping: %s", why);
}

void stopping_ask_control(stopping *s, buffer *answer) {
    if (!s->asked) master_link_stopping(s->of);
    stopping_ask(s, "asked by the control API", true);
    const auto limit = static_cast<double>(options_of(s)->drain_timeout);
    const double goodbyes = goodbyes_ms(s), left = s->stage == stop_stage::unready && s->due_ms > now_of(s)
                                                       ? static_cast<double>(s->due_ms - now_of(s))
                                                       : 0;
    buffer_printf(answer, "{\"connections\":%lld,\"seconds\":%.0f}", connections_of(s),
                  (left + (goodbyes < limit ? goodbyes : limit)) / 1000 + 0.5);
}

static void say_goodbye(stopping *s) {
    const int64_t limit = options_of(s)->drain_timeout;
    stop_listening(s);
    log_info("saying goodbye to %lld clients", connections_of(s));
    if (limit && goodbyes_ms(s) > static_cast<double>(limit))
        log_warn("drain_timeout (%lld s) is too short for %lld connections at drain_rate, which takes %.0f s: the last "
                 "ones will leave all at once",
                 static_cast<long long>(limit / 1000), connections_of(s), goodbyes_ms(s) / 1000);
    node_drain(&s->of->node);
    enter(s, stop_stage::draining, static_cast<uint64_t>(limit));
}

void stopping_at_once(stopping *s) {
    if (s->stage == stop_stage::ending) return;
    stop_listening(s);
    s->asked = true;
    log_info("ending at once: %lld connections are dropped", connections_of(s));
    node_stop(&s->of->node, true);
    enter(s, stop_stage::ending, 0);
}

void stopping_turn(stopping *s) {
    if (!s->asked || now_of(s) < s->due_ms) return;
    switch (s->stage) {
    case stop_stage::unready:
        if (!s->of->reload.next && !handover_giving(s->of))
            say_goodbye(s); // what a reload is about to open is not there yet; connections may still move away
        return;
    case stop_stage::draining:
        log_warn("drain_timeout has passed: %lld connections are dropped", connections_of(s));
        node_drain_overdue(&s->of->node);
        return enter(s, stop_stage::overdue, stopping_last_try_ms);
    case stop_stage::overdue:
        return stopping_at_once(s);
    case stop_stage::serving:
    case stop_stage::ending:
        return;
    }
}

} // namespace belfry
