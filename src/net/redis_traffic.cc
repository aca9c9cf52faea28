// Redis traffic: commands out, replies matched to who waits for them, frames to `push`. Main thread, see redis.h.
#include "base/log.h"
#include "net/redis_link.h"

namespace belfry {

namespace {

constexpr size_t queue_max = 64u << 20;  // bytes that wait for the socket
constexpr size_t pending_max = 1u << 20; // commands without an answer: 48 MB
constexpr size_t queue_kept = 1u << 20;  // memory kept for the next turn
constexpr size_t word_overhead = 24;     // "$SIZE\r\n" and "\r\n" around a word, at most
constexpr int calls_a_turn = 64;         // reads or writes, so that no link holds up the main thread

bool starts_with(view text, view start) {
    return text.substr(0, start.size()) == start;
}

// A server that can't serve yet, or not us any more: the link is of no use until that has changed.
bool is_unusable(const redis *r, const redis_value *v) {
    if (v->type != redis_type::error) return false;
    if (r->settings.primary_only && starts_with(v->text, "READONLY")) return true;
    return starts_with(v->text, "LOADING") || starts_with(v->text, "NOAUTH");
}

void fail_with_text(redis *r, const char *what, view text) {
    std::string why(what);
    why.append(": ");
    // No server should quote the password; if one does, the log must not.
    const bool quotes = !r->settings.password.empty() && text.find(r->settings.password) != view::npos;
    why.append(quotes ? view("(its text is withheld)") : text.substr(0, 200));
    redis_fail(r, why.c_str());
}

// True where the frame answers the subscription in front.
bool answers_front(const redis *r, redis_verb verb) {
    return !r->pending.empty() && r->pending.front().who == redis_awaits::subscription &&
           r->pending.front().verb == verb;
}

// A subscriber's frames stand between replies. True where it was one.
bool deliver_frame(redis *r, const redis_value *v) {
    if (r->events.push == nullptr || v->type != redis_type::array || v->count < 2) return false;
    const redis_verb verb = redis_verb_of(v->elements[0].text);
    // In subscriber state PING is answered by ["pong", ""] in place of +PONG.
    if (verb == redis_verb::none || verb == redis_verb::pong) return false;
    if (redis_verb_subscribes(verb) && answers_front(r, verb)) {
        redis_pending *front = &r->pending.front();
        if (front->remaining != 0 && --front->remaining == 0) r->pending.pop_front();
    }
    // Others are nobody's answer: messages, and the sunsubscribe that a cluster sends when a slot moves away.
    r->counters.pushes++;
    r->events.push(r, v, r->context);
    return true;
}

void greeted(redis *r, redis_awaits who, const redis_value *v) {
    const bool error = v->type == redis_type::error;
    if (who == redis_awaits::auth && error) return fail_with_text(r, "AUTH was refused", v->text);
    if (who == redis_awaits::select && error) return fail_with_text(r, "SELECT was refused", v->text);
    if (who == redis_awaits::role) {
        if (error) return fail_with_text(r, "ROLE was refused", v->text);
        if (v->type != redis_type::array || v->count == 0 || v->elements[0].text != "master")
            return redis_fail(r, "the server is no primary");
        return;
    }
    // An ACL user without the right to PING is answered NOPERM, which proves as much as PONG does.
    if (who == redis_awaits::first_ping && error && !starts_with(v->text, "NOPERM"))
        return fail_with_text(r, "the server is not ready", v->text);
    if (who == redis_awaits::first_ping) redis_became_ready(r);
}

void refused_subscription(redis *r, const redis_value *v) {
    static log_limit limit = {.burst = 2};
    uint64_t held = 0;
    const bool elsewhere = starts_with(v->text, "MOVED "); // a cluster's everyday: it is subscribed there
    if (!elsewhere && log_limit_pass(&limit, &held))
        log_warn("redis %s: a subscription was refused: %.*s (%llu more held back)", r->name.c_str(),
                 static_cast<int>(v->text.size() < 200 ? v->text.size() : 200), v->text.data(),
                 static_cast<unsigned long long>(held));
    r->counters.pushes++;
    r->events.push(r, v, r->context);
}

void deliver(redis *r, const redis_value *v) {
    if (deliver_frame(r, v)) return;
    // A subscription whose frames did not all come (or a bare UNSUBSCRIBE, of whose frames nobody knows the number) is
    // over once a later command is answered.
    while (!r->pending.empty() && r->pending.front().who == redis_awaits::subscription && v->type != redis_type::error)
        r->pending.pop_front();
    if (r->pending.empty()) {
        if (v->type == redis_type::error) return fail_with_text(r, "the server ended it", v->text);
        return redis_fail(r, "a reply that no command asked for");
    }
    const redis_pending front = r->pending.front();
    r->pending.pop_front();
    switch (front.who) {
    case redis_awaits::auth:
    case redis_awaits::select:
    case redis_awaits::role:
    case redis_awaits::first_ping:
        return greeted(r, front.who, v);
    case redis_awaits::subscription:
        if (!is_unusable(r, v)) return refused_subscription(r, v);
        break;
    case redis_awaits::caller:
        r->counters.replies++;
        if (front.reply != nullptr) front.reply(r, v, front.context, front.tag);
        break;
    case redis_awaits::ping:
        break;
    }
    if (redis_alive(r) && is_unusable(r, v)) fail_with_text(r, "the server is not ready", v->text);
}

bool holds_back(const redis *r) {
    return r->paused && r->phase == redis_phase::ready;
}

} // namespace

void redis_deliver(redis *r) {
    error e;
    while (redis_alive(r) && !holds_back(r)) {
        const redis_value *value = nullptr;
        switch (redis_reader_next(r->reader, &value, &e)) {
        case redis_next::value:
            deliver(r, value);
            break;
        case redis_next::more:
            return;
        case redis_next::broken:
            return redis_fail(r, e.text);
        }
    }
}

void redis_read(redis *r) {
    char *into = r->on->receive + loop_headroom;
    for (int i = 0; i < calls_a_turn && redis_alive(r) && !holds_back(r); i++) {
        size_t got = 0;
        const stream_result result = stream_read(&r->stream, into, loop_receive_size, &got);
        if (result == stream_result::eof) return redis_fail(r, "the server closed the connection");
        if (result == stream_result::failed) return redis_fail(r, stream_why());
        if (result == stream_result::again) {
            r->write_for_read = r->stream.wants == stream_writable;
            return;
        }
        r->counters.bytes_in += got;
        r->heard_ms = redis_now_ms(); // 25 ns, for up to 64 KB
        r->ping_ms = 0;
        r->write_for_read = false;
        redis_reader_feed(r->reader, view(into, got));
        redis_deliver(r);
        if (!redis_alive(r) || !stream_pending(&r->stream)) return;
    }
    // What TLS still holds makes no socket readable.
    if (redis_alive(r) && !holds_back(r)) later_post(&r->turn);
}

void redis_write(redis *r) {
    for (int i = 0; i < calls_a_turn && r->out_done < r->out.size; i++) {
        const struct iovec part = {r->out.data + r->out_done, r->out.size - r->out_done};
        size_t written = 0;
        const stream_result result = stream_write(&r->stream, &part, 1, &written);
        if (result == stream_result::again) break;
        if (result != stream_result::ok) return redis_fail(r, stream_why());
        r->out_done += written;
        r->counters.bytes_out += written;
    }
    if (r->out_done == r->out.size) {
        buffer_clear(&r->out);
        r->out_done = 0;
        if (r->out.capacity > queue_kept) buffer_free(&r->out);
    } else if (r->out_done > r->out.size / 2) { // moved at most once for each byte written
        buffer_consume(&r->out, r->out_done);
        r->out_done = 0;
    }
}

void redis_rewatch(redis *r) {
    if (!redis_alive(r)) return;
    unsigned what = holds_back(r) ? 0 : stream_readable;
    if (r->out.size != 0 || r->write_for_read) what |= stream_writable;
    stream_watch(&r->stream, what);
}

void redis_queue(redis *r, int argc, const view *argv, const redis_pending &entry) {
    redis_format(&r->out, argc, argv);
    r->pending.push_back(entry);
    later_post(&r->turn);
}

bool redis_command(redis *r, int argc, const view *argv, redis_reply reply, void *context, uint64_t tag) {
    if (!redis_ready(r) || argc < 1 || r->pending.size() >= pending_max) return false;
    size_t size = r->out.size - r->out_done;
    for (int i = 0; i < argc; i++)
        size += argv[i].size() + word_overhead;
    if (size > queue_max) return false;
    redis_pending entry = {redis_awaits::caller, redis_verb::none, 0, reply, context, tag};
    const redis_verb verb = redis_verb_of(argv[0]);
    if (r->events.push != nullptr && reply == nullptr && redis_verb_subscribes(verb)) {
        entry.who = redis_awaits::subscription;
        entry.verb = verb;
        entry.remaining = static_cast<uint32_t>(argc - 1);
    }
    redis_queue(r, argc, argv, entry);
    r->counters.commands++;
    return true;
}

} // namespace belfry
