// A Redis broker against a real redis-server, and a node above it that notes what it is told.
#pragma once

#include "../net/redis_fixture.h"
#include "relay/broker_redis.h"

namespace broker_redis_bench {

using namespace belfry;
using namespace redis_fixture;

inline broker *tested;
inline std::string events_seen; // since it was last asked for
inline bool job_came;           // the last delivery brought a job with it
inline int done_calls;
inline uint64_t done_receivers;
inline bool done_failed, done_duplicate;
inline struct position done_at;
inline history_page page_seen; // without its views
inline std::vector<std::string> page_messages;

// ---- the node above, as far as the broker sees it ----

inline void see(const std::string &what) {
    events_seen += what + " ";
}
inline void on_subscribed(void *, view room) {
    see("+" + std::string(room));
}
inline void on_refused(void *, view room) {
    see("!" + std::string(room));
}
inline void on_deliver(void *, message *m) {
    std::string place = position_none(&m->at) ? "" : "#" + std::to_string(m->at.offset);
    see(std::string(m->room) + place + "=" + std::string(m->payload.substr(0, 40)));
    if (m->what == message_member) see("(member)");
    if (!m->key.empty()) see("key " + std::string(m->key));
    if (m->origin[0]) see("asked by " + std::string(m->origin));
    if (!m->from.empty()) see("from " + std::string(m->from));
    job_came = m->job;
    if (m->job) publish_job_settle(m->job, 5, true); // the workers' receipt
    message_unref(m);
}
inline void on_history(void *, const history_page *page) {
    page_seen = *page;
    page_messages.clear();
    for (size_t i = 0; i < page->count; i++) {
        const message *m = page->messages[i];
        assert_true(position_same_epoch(&m->at, &page->top));
        assert_true(m->room == page->room);
        page_messages.push_back(std::to_string(m->at.offset) + "=" + std::string(m->payload));
    }
    see("page " + std::string(page->room));
}
inline void on_peer(void *, view bytes) {
    see("peer " + std::string(bytes));
}
inline void on_command(void *, frame *source) {
    see("command " + std::string(frame_view(source)));
}
inline void on_up(void *, bool missed) {
    see(missed ? "up,missed" : "up");
}
inline void on_gone(void *, const char *) {
    see("down");
}
inline constexpr broker_events events = {on_subscribed, on_refused, on_deliver, on_history,
                                         on_command,    on_up,      on_gone,    on_peer};

inline void on_done(publish_job *job, void *) {
    done_calls++;
    done_receivers = job->receivers;
    done_failed = job->failed;
    done_duplicate = job->duplicate;
    done_at = job->at;
}

// ---- waiting ----

template <typename F> bool until(F done) {
    return turn_until([&done] {
        if (tested) tested->ops->turn(tested);
        return done();
    });
}

// Waits until this was seen, and forgets what was.
inline bool saw(const std::string &text) {
    bool fine = until([&text] { return events_seen.find(text) != std::string::npos; });
    if (!fine) print_message("instead of \"%s\": \"%s\"\n", text.c_str(), events_seen.c_str());
    events_seen.clear();
    return fine;
}

// Asks Redis over a connection of the test's own.
inline std::string ask(std::vector<view> words) {
    probe *p = &probes[0];
    p->replies.clear();
    assert_true(send(p, words, on_reply, 1));
    assert_true(until([p] { return !p->replies.empty(); }));
    return p->replies[0].substr(2);
}

// Redis and the broker have both done all that was begun: two round trips, since a confirmation may cause a command.
inline void settle() {
    for (int i = 0; i < 3; i++) {
        ask({"PING"});
        until([end = clock_monotonic_ns() + 20000000] { return clock_monotonic_ns() > end; });
    }
}

// How often the server carried out the command.
inline int calls(const std::string &command) {
    std::string stats = ask({"INFO", "commandstats"}), key = "cmdstat_" + command + ":calls=";
    size_t at = stats.find(key);
    return at == std::string::npos ? 0 : atoi(stats.c_str() + at + key.size());
}

inline std::string subscribers(const char *channel) {
    return ask({"PUBSUB", "NUMSUB", channel}).substr(strlen(channel) + 1);
}

inline void begin(const std::string &conf) {
    start_server(free_port(), conf);
    start_ready(0, fast_settings(), false);
    broker_settings s = {};
    s.type = 1;
    s.prefix = "b:";
    s.max_message = 1000;
    s.redis = fast_settings();
    s.redis.ping_timeout_ms = 5000; // a busy machine is no dead one
    tested = broker_redis_new(&events, nullptr, &s, on);
    assert_false(tested->ops->ready(tested));
    assert_true(saw("up "));
    assert_true(tested->ops->ready(tested));
}

inline void subscribe(const char *room) {
    tested->ops->subscribe(tested, room);
}
inline void unsubscribe(const char *room) {
    tested->ops->unsubscribe(tested, room);
}

inline bool publish(message_parts parts, view payload, publish_job *job, bool local, uint32_t keep = 0) {
    frame *source = frame_copy(payload);
    parts.source = source;
    parts.payload = frame_view(source);
    parts.kind = payload_kind::text;
    parts.time_ms = 1;
    message *m = message_new(&parts);
    frame_unref(source);
    m->keep = keep;
    m->keep_ttl_ms = 60000;
    bool sent = tested->ops->publish(tested, m, job, local);
    message_unref(m);
    return sent;
}

inline bool publish(view room, view payload, publish_job *job, bool local) {
    message_parts parts = {};
    parts.room = room;
    parts.from = R"({"conn":"x"})";
    return publish(parts, payload, job, local);
}

inline int setup(void **state) {
    alarm(60);
    node_id_init();
    events_seen.clear();
    job_came = done_failed = done_duplicate = false;
    done_at = {};
    page_seen = {};
    page_messages.clear();
    done_calls = 0;
    return before_each(state);
}

inline int teardown(void **state) {
    if (tested) tested->ops->free(tested);
    tested = nullptr;
    alarm(0);
    return after_each(state);
}

} // namespace broker_redis_bench
