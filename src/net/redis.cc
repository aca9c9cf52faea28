// The life of a Redis link: resolve, connect, TLS, AUTH, SELECT, ready, down, back-off, and the PING that finds a dead
// server. Main thread. Every entry from the loop goes through enter and leave, so that callbacks may call redis_free.
#include "net/redis.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"
#include "net/redis_link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace belfry {

namespace {

constexpr uint64_t told_again_ms = 60000; // a failure that stays the same is a warning once a minute
constexpr uint64_t where_again_ms = 1000; // where nobody knows the server

void destroy(redis *r) {
    later_cancel(&r->timer);
    later_cancel(&r->turn);
    resolve_cancel(r->resolving);
    stream_close(&r->stream);
    redis_reader_free(r->reader);
    buffer_free(&r->out);
    tls_unref(r->tls);
    delete r;
}

void enter(redis *r) {
    r->depth++;
}

void leave(redis *r) {
    if (--r->depth == 0 && r->freed) destroy(r);
}

void set_timer(redis *r, uint64_t ms) {
    later_post_in(&r->timer, ms);
}

uint64_t left_of_attempt(const redis *r) {
    const uint64_t now = redis_now_ms();
    return r->deadline_ms > now ? r->deadline_ms - now : 0;
}

void greet(redis *r) {
    const redis_settings *s = &r->settings;
    r->phase = redis_phase::greeting;
    r->reader = redis_reader_new(s->reply_max);
    redis_pending entry = {redis_awaits::auth, redis_verb::none, 0, nullptr, nullptr, 0};
    if (!s->user.empty()) {
        const view words[] = {"AUTH", s->user, s->password};
        redis_queue(r, 3, words, entry);
    } else if (!s->password.empty()) {
        const view words[] = {"AUTH", s->password};
        redis_queue(r, 2, words, entry);
    }
    if (s->database != 0) {
        const std::string number = std::to_string(s->database);
        const view words[] = {"SELECT", number};
        entry.who = redis_awaits::select;
        redis_queue(r, 2, words, entry);
    }
    if (s->primary_only) {
        const view role = "ROLE";
        entry.who = redis_awaits::role;
        redis_queue(r, 1, &role, entry);
    }
    // Always: neither AUTH nor SELECT tells that the server is still loading, and without both nothing else would tell
    // that it wants a password.
    const view ping = "PING";
    entry.who = redis_awaits::first_ping;
    redis_queue(r, 1, &ping, entry);
    redis_rewatch(r);
}

void shake_hands(redis *r) {
    switch (stream_handshake(&r->stream)) {
    case stream_result::ok:
        greet(r);
        break;
    case stream_result::again:
        stream_watch(&r->stream, r->stream.wants);
        break;
    default:
        redis_fail(r, stream_why());
    }
}

void on_stream(watch *w, unsigned ready);

// The next address that takes a connection; each may use its share of the time left.
void connect_next(redis *r, const char *why) {
    error e;
    error_set(&e, "%s", why);
    while (r->tried < r->addresses.size()) {
        const address *to = &r->addresses[(r->first + r->tried++) % r->addresses.size()];
        const int fd = address_connect(to, &e);
        if (fd < 0) continue;
        if (r->tls != nullptr)
            stream_open_tls_client(&r->stream, r->on, fd, on_stream, r->tls, r->settings.host.c_str());
        else
            stream_open_plain(&r->stream, r->on, fd, on_stream);
        r->phase = redis_phase::connecting;
        stream_watch(&r->stream, stream_writable);
        set_timer(r, left_of_attempt(r) / (r->addresses.size() - r->tried + 1));
        return;
    }
    redis_fail(r, e.text);
}

void on_connected(redis *r) {
    int code = 0;
    socklen_t size = sizeof code;
    if (getsockopt(r->stream.fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0) code = errno;
    if (code != 0) {
        stream_close(&r->stream);
        return connect_next(r, strerror(code));
    }
    r->phase = redis_phase::handshake;
    set_timer(r, left_of_attempt(r));
    shake_hands(r);
}

void on_stream(watch *w, unsigned ready) {
    redis *r = BELFRY_CONTAINER_OF(w, redis, stream.watch);
    enter(r);
    if (r->phase == redis_phase::connecting)
        on_connected(r);
    else if (r->phase == redis_phase::handshake)
        shake_hands(r);
    else {
        if ((ready & stream_readable) || r->write_for_read) redis_read(r);
        if (redis_alive(r) && (ready & stream_writable)) redis_write(r);
        redis_rewatch(r);
    }
    leave(r);
}

void reconnect(redis *r) {
    r->reconnecting = false;
    const std::string why = std::move(r->reconnect_why);
    if (r->phase != redis_phase::waiting) redis_fail(r, why.c_str());
    if (!r->freed) set_timer(r, 0);
}

// Once a turn at most, and only where something was queued, resumed or left over, or the link is to be made anew.
void on_turn(later *turn) {
    redis *r = BELFRY_CONTAINER_OF(turn, redis, turn);
    enter(r);
    if (r->reconnecting && !r->freed) reconnect(r);
    redis_deliver(r);
    if (redis_alive(r) && stream_pending(&r->stream)) redis_read(r);
    if (redis_alive(r)) redis_write(r);
    redis_rewatch(r);
    leave(r);
}

void on_resolved(const address *found, size_t count, const char *why, void *context) {
    redis *r = static_cast<redis *>(context);
    enter(r);
    r->resolving = nullptr;
    r->addresses.assign(found, found + count);
    r->tried = 0;
    connect_next(r, why);
    leave(r);
}

void begin(redis *r) {
    if (r->where != nullptr && !r->where(r->where_context, &r->settings.host, &r->settings.port))
        return set_timer(r, where_again_ms);
    r->deadline_ms = redis_now_ms() + static_cast<uint64_t>(r->settings.connect_timeout_ms);
    if (!r->settings.host.empty()) {
        r->phase = redis_phase::resolving;
        set_timer(r, left_of_attempt(r));
        r->resolving = resolve_start(r->on, r->settings.host.c_str(), r->settings.port, on_resolved, r);
        return;
    }
    address a = {};
    struct sockaddr_un *to = reinterpret_cast<struct sockaddr_un *>(&a.storage);
    to->sun_family = AF_UNIX;
    if (r->settings.unix_path.size() >= sizeof to->sun_path) return redis_fail(r, "the socket's path is too long");
    memcpy(to->sun_path, r->settings.unix_path.c_str(), r->settings.unix_path.size() + 1);
    a.size = sizeof *to;
    r->addresses.assign(1, a);
    r->tried = 0;
    connect_next(r, "no address");
}

// A dead server, or a path to it that swallows packets, shows in nothing but silence.
void check_liveness(redis *r) {
    const uint64_t now = redis_now_ms();
    const uint64_t interval = static_cast<uint64_t>(r->settings.ping_interval_ms);
    const uint64_t timeout = static_cast<uint64_t>(r->settings.ping_timeout_ms);
    if (r->paused) return set_timer(r, interval); // unread bytes are no silence
    if (r->ping_ms != 0) {
        if (now - r->ping_ms >= timeout) return redis_fail(r, "no answer to PING");
        return set_timer(r, r->ping_ms + timeout - now);
    }
    if (now - r->heard_ms < interval) return set_timer(r, r->heard_ms + interval - now);
    const view ping = "PING";
    redis_queue(r, 1, &ping, {redis_awaits::ping, redis_verb::none, 0, nullptr, nullptr, 0});
    r->ping_ms = now;
    set_timer(r, timeout);
}

void on_timer(later *timer) {
    redis *r = BELFRY_CONTAINER_OF(timer, redis, timer);
    enter(r);
    switch (r->phase) {
    case redis_phase::waiting:
        begin(r);
        break;
    case redis_phase::resolving:
        redis_fail(r, "no answer from DNS in time");
        break;
    case redis_phase::connecting:
        stream_close(&r->stream);
        connect_next(r, "no connection in time");
        break;
    case redis_phase::handshake:
    case redis_phase::greeting:
        redis_fail(r, "connected, but not served in time");
        break;
    case redis_phase::ready:
        check_liveness(r);
        break;
    }
    leave(r);
}

void tell(redis *r, bool was_ready, const char *why) {
    const uint64_t now = redis_now_ms();
    if (!was_ready && r->told == why && now - r->told_ms < told_again_ms) return;
    static log_limit limit = {.burst = 5};
    uint64_t held = 0;
    if (!log_limit_pass(&limit, &held)) return;
    log_warn("redis %s: %s: %s; trying again", r->name.c_str(), redis_describe(&r->settings).c_str(), why);
    r->told = why;
    r->told_ms = now;
}

// Full jitter, so that many nodes do not come back to a fresh server all at once. The bound falls back to the minimum
// only after a connection that lasted: one that is taken and dropped at once must not be tried ten times a second.
void back_off(redis *r, bool was_ready) {
    const uint64_t lasted = was_ready ? redis_now_ms() - r->ready_ms : 0;
    if (was_ready && lasted >= static_cast<uint64_t>(r->settings.backoff_max_ms))
        r->backoff_ms = r->settings.backoff_min_ms > 0 ? r->settings.backoff_min_ms : 1;
    set_timer(r, random_below(static_cast<uint32_t>(r->backoff_ms) + 1));
    r->backoff_ms = r->backoff_ms * 2 < r->settings.backoff_max_ms ? r->backoff_ms * 2 : r->settings.backoff_max_ms;
}

// The callbacks find the link already waiting: what they queue is refused.
void answer_with_null(redis *r) {
    std::deque<redis_pending> unanswered;
    unanswered.swap(r->pending);
    for (const redis_pending &p : unanswered)
        if (!r->freed && p.who == redis_awaits::caller && p.reply != nullptr) p.reply(r, nullptr, p.context, p.tag);
}

} // namespace

uint64_t redis_now_ms() {
    return clock_monotonic_ms(); // loop->clock is as old as the turn, which may have waited for seconds
}

void redis_became_ready(redis *r) {
    r->phase = redis_phase::ready;
    r->ready_ms = r->heard_ms = redis_now_ms();
    r->ping_ms = 0;
    r->counters.connects++;
    r->told.clear();
    set_timer(r, static_cast<uint64_t>(r->settings.ping_interval_ms));
    log_info("redis %s: connected to %s", r->name.c_str(), redis_describe(&r->settings).c_str());
    if (r->events.ready != nullptr) r->events.ready(r, r->context);
}

void redis_fail(redis *r, const char *reason) {
    const std::string why = reason;
    const bool was_ready = r->phase == redis_phase::ready;
    // An address that takes connections and then does not serve is not tried first again.
    if (r->phase == redis_phase::handshake || r->phase == redis_phase::greeting) r->first++;
    resolve_cancel(r->resolving);
    r->resolving = nullptr;
    stream_close(&r->stream);
    redis_reader_free(r->reader);
    r->reader = nullptr;
    buffer_clear(&r->out);
    r->out_done = 0;
    r->write_for_read = false;
    r->phase = redis_phase::waiting;
    r->counters.failures++;
    tell(r, was_ready, why.c_str());
    back_off(r, was_ready);
    answer_with_null(r);
    if (!r->freed && was_ready && r->events.down != nullptr) r->events.down(r, why.c_str(), r->context);
}

redis *redis_new(loop *on, const redis_settings *settings, const char *name, const redis_events *events,
                 void *context) {
    tls_context *tls = nullptr;
    if (settings->tls) {
        error e;
        const char *ca = settings->tls_ca.empty() ? nullptr : settings->tls_ca.c_str();
        tls = tls_client_new(ca, settings->tls_verify, &e);
        if (tls == nullptr) {
            log_error("redis %s: %s", name, e.text);
            return nullptr;
        }
    }
    redis *r = new redis();
    r->on = on;
    r->settings = *settings;
    r->name = name;
    r->events = *events;
    r->context = context;
    r->tls = tls;
    r->stream.fd = -1;
    r->backoff_ms = settings->backoff_min_ms > 0 ? settings->backoff_min_ms : 1;
    later_init(&r->timer, &on->laters, on_timer);
    later_init(&r->turn, &on->laters, on_turn);
    set_timer(r, 0);
    return r;
}

void redis_free(redis *r) {
    if (r == nullptr) return;
    r->freed = true;
    if (r->depth == 0) destroy(r);
}

void redis_end(redis *r) {
    if (r == nullptr) return;
    r->phase = redis_phase::waiting;
    answer_with_null(r);
    redis_free(r);
}

bool redis_ready(const redis *r) {
    return !r->freed && r->phase == redis_phase::ready;
}

void redis_pause(redis *r, bool paused) {
    if (r->paused == paused) return;
    r->paused = paused;
    r->heard_ms = redis_now_ms();
    r->ping_ms = 0;
    if (!paused) later_post(&r->turn); // what the reader and TLS held back
    redis_rewatch(r);
}

void redis_locate(redis *r, redis_where where, void *context) {
    r->where = where;
    r->where_context = context;
}

void redis_reconnect(redis *r, const char *why) {
    if (r->freed) return;
    r->reconnecting = true;
    r->reconnect_why = why;
    later_post(&r->turn);
}

const redis_settings *redis_at(const redis *r) {
    return &r->settings;
}

redis_counters redis_count(const redis *r) {
    return r->counters;
}

} // namespace belfry
