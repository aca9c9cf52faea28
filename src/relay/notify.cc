// Notifications. On the worker's thread.
#include "relay/notify.h"

#include "base/log.h"
#include "proto/room_name.h"
#include "relay/client.h"
#include "relay/conn.h"
#include "relay/hook_post.h"

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

namespace belfry {

static constexpr uint64_t retry_first_ms = 500, retry_last_ms = 30000, retry_hurried_ms = 1000;
static constexpr size_t event_cost = 64; // bytes of memory beside an event's text

// What one route is still to be told by this worker.
struct spool {
    notifier *of;                   // borrowed
    const struct route *way;        // borrowed, in the settings
    std::deque<std::string> events; // as JSON, the oldest first; the first `batch` are under way
    size_t bytes, batch;
    uint64_t retry_ms; // the next pause between two tries; 0: the last one went well
    bool asking;
    struct hook_post post;
    struct deadline wait; // for company, or for the next try
};

struct notifier {
    shard *on;                   // borrowed
    std::vector<spool *> spools; // owned: of the routes that want anything
    bool hurried;                // nobody is left who could cause more
    uint64_t give_up_ms;         // monotonic: of failures behind it none is repeated; once hurried
    bool closing;                // one last try each
    uint64_t next_id;
    char prefix[24]; // of ids: unlike any other worker's, of any life
    notify_counters counters;
};

const char *notify_type_name(notify_type t) {
    static const char *const names[notify_type_count] = {"connected", "disconnected", "joined",
                                                         "left",      "occupied",     "vacated"};
    return names[t];
}

// ---------------------------------------------------------------- the spool

static void drop_oldest(spool *s, size_t from) {
    auto at = s->events.begin() + static_cast<ptrdiff_t>(from);
    s->bytes -= at->size() + event_cost;
    s->events.erase(at);
    s->of->counters.spooled--;
}

static void count_dropped(spool *s, size_t n) {
    static log_limit limit = {.burst = 1};
    uint64_t held = 0;
    s->of->counters.dropped += n;
    if (log_limit_pass(&limit, &held))
        log_warn("notify: %s: %zu events dropped, the backend does not take them (%llu more such lines not shown)",
                 s->way->path.c_str(), n, static_cast<unsigned long long>(held));
}

static void bound(spool *s) {
    size_t n = 0;
    while (s->bytes > notify_spool_max && s->events.size() > s->batch) { // what is under way may arrive yet
        drop_oldest(s, s->batch);
        n++;
    }
    if (n) count_dropped(s, n);
}

static void drop_all(spool *s) {
    size_t n = s->events.size();
    while (!s->events.empty())
        drop_oldest(s, 0);
    s->batch = 0;
    if (n) count_dropped(s, n);
}

// ---------------------------------------------------------------- sending

static void done(hook_post *p, int status, const char *why);

static void wait(spool *s, uint64_t ms) {
    shard *on = s->of->on;
    wheel_set(&on->deadlines, &s->wait.timer, on->loop->clock.monotonic_ms, ms);
}

static void send(spool *s) {
    shard *on = s->of->on;
    wheel_cancel(&on->deadlines, &s->wait.timer);
    s->batch = s->events.size() < notify_batch_max ? s->events.size() : notify_batch_max;
    s->asking = true;
    s->post = {};
    hook_post_init(&s->post, on, done);
    hook_write_notify_begin(&s->post.body);
    for (size_t i = 0; i < s->batch; i++) {
        if (i) buffer_append_char(&s->post.body, ',');
        buffer_append(&s->post.body, s->events[i]);
    }
    hook_write_notify_end(&s->post.body);
    on->count.edge.hook_calls++;
    hook_post_start(&s->post, s->way, nullptr, true);
}

static void timed(deadline *d) {
    spool *s = BELFRY_CONTAINER_OF(d, spool, wait);
    if (!s->asking && !s->events.empty()) send(s);
}

static void go_on(spool *s) {
    if (s->events.empty()) return;
    if (s->of->hurried || s->events.size() >= notify_batch_max)
        send(s);
    else
        wait(s, notify_delay_ms);
}

// Commands in the answer are welcome here, too; there is nobody to disconnect and no state to keep.
static void read_answer(spool *s) {
    static log_limit limit = {.burst = 2};
    uint64_t held = 0;
    buffer scratch = {};
    hook_answer a;
    error e;
    view body = buffer_view(&s->post.answer);
    if (body.empty()) return;
    if (hook_answer_parse(s->of->on->reader, body, &a, &scratch, &e)) {
        hook_commands(s->of->on, &a);
    } else { // the events are taken all the same
        s->of->on->count.edge.hook_failures++;
        if (log_limit_pass(&limit, &held))
            log_warn("notify: %s: the backend's answer is malformed: %s (%llu more not shown)", s->way->path.c_str(),
                     e.text, static_cast<unsigned long long>(held));
    }
    buffer_free(&scratch);
}

static void log_failure(const spool *s, int status, const char *why) {
    static log_limit limit = {.burst = 2};
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_warn("notify: %s failed with %d%s%s, %zu events wait (%llu more not shown)", s->way->path.c_str(), status,
                 *why ? ": " : "", why, s->events.size(), static_cast<unsigned long long>(held));
}

static void failed(spool *s, int status, const char *why) {
    notifier *n = s->of;
    n->on->count.edge.hook_failures++;
    log_failure(s, status, why);
    s->batch = 0;
    if (n->closing || (n->hurried && n->on->loop->clock.monotonic_ms >= n->give_up_ms)) {
        s->retry_ms = 0;
        return drop_all(s);
    }
    n->counters.retried++;
    s->retry_ms = s->retry_ms ? s->retry_ms * 2 : retry_first_ms;
    const uint64_t most = n->hurried ? retry_hurried_ms : retry_last_ms;
    if (s->retry_ms > most) s->retry_ms = most;
    bound(s);
    wait(s, s->retry_ms);
}

static void done(hook_post *p, int status, const char *why) {
    spool *s = BELFRY_CONTAINER_OF(p, spool, post);
    shard *on = s->of->on;
    s->asking = false;
    histogram_add(&on->count.hook_times[static_cast<size_t>(hook_event::notify)], clock_monotonic_ns() - p->started_ns);
    if (status < 200 || status > 299) {
        failed(s, status, why);
    } else {
        read_answer(s);
        s->of->counters.sent += s->batch;
        for (; s->batch; s->batch--)
            drop_oldest(s, 0);
        s->retry_ms = 0;
        hook_post_cancel(p);
        return go_on(s);
    }
    hook_post_cancel(p);
}

// ---------------------------------------------------------------- events

static void add(spool *s, hook_notification *e) {
    notifier *n = s->of;
    buffer out = {};
    std::string id = n->prefix + std::to_string(++n->next_id);
    e->id = id;
    e->time_ms = n->on->loop->clock.wall_ms;
    hook_write_notification(&out, e);
    s->events.emplace_back(buffer_view(&out));
    s->bytes += out.size + event_cost;
    n->counters.spooled++;
    buffer_free(&out);
    bound(s);
    if (s->asking || s->retry_ms) return;
    if (n->hurried || s->events.size() >= notify_batch_max)
        send(s);
    else if (!timer_armed(&s->wait.timer))
        wait(s, notify_delay_ms);
}

static bool wanted(const struct route *r, notify_type type) {
    return r && (r->notify_bits & (uint32_t{1} << type));
}

void notify_event(const conn *c, notify_type type, view room, int code) {
    if (!wanted(c->route, type) || room_name_reserved(room)) return;
    notifier *n = c->on->notifier;
    conn_id_text id = conn_id_format(conn_id_of(c));
    hook_notification e = {};
    e.type = notify_type_name(type);
    e.conn = id;
    e.user = client_user(c);
    e.room = room;
    e.code = code;
    for (spool *s : n->spools)
        if (s->way == c->route) add(s, &e);
}

void notify_room(shard *s, notify_type type, view room) {
    notifier *n = s->notifier;
    hook_notification e = {};
    e.type = notify_type_name(type);
    e.room = room;
    for (spool *p : n->spools)
        if (!p->way->retired && wanted(p->way, type)) add(p, &e);
}

// ---------------------------------------------------------------- life

// For each route that wants something and has none.
static void add_spools(notifier *n) {
    for (const struct route &r : n->on->settings->routes) {
        const auto told = [&r](const spool *s) { return s->way == &r; };
        if (!r.notify_bits || std::any_of(n->spools.begin(), n->spools.end(), told)) continue;
        auto *s = new spool{};
        s->of = n;
        s->way = &r;
        deadline_init(&s->wait, timed);
        n->spools.push_back(s);
    }
}

notifier *notifier_new(shard *s) {
    auto *n = new notifier{};
    char random[12];
    n->on = s;
    random_bytes(random, sizeof random);
    n->prefix[0] = 'n';
    n->prefix[1] = '_';
    size_t size = 2 + base64url_encode(view(random, sizeof random), n->prefix + 2);
    n->prefix[size] = '.';
    add_spools(n);
    return n;
}

static void spool_free(spool *s) {
    hook_post_cancel(&s->post);
    wheel_cancel(&s->of->on->deadlines, &s->wait.timer);
    drop_all(s);
    delete s;
}

// A route that wants nothing any more is still told what happened before. One that is gone, or has lost its hook, can't
// be: that is dropped, and counted.
void notifier_adopt(notifier *n, const struct route *old, const struct route *const *images) {
    std::erase_if(n->spools, [old, images](spool *s) {
        const struct route *now = images[s->way - old];
        const bool deaf = !now || now->hook.empty() || now->upstream_index < 0;
        if (deaf)
            spool_free(s); // its log line names the old route
        else
            s->way = now;
        return deaf;
    });
    add_spools(n);
}

static void send_all(notifier *n) {
    for (spool *s : n->spools)
        if (!s->asking && !s->events.empty()) send(s);
}

void notifier_hurry(notifier *n) {
    if (n->hurried) return;
    n->hurried = true;
    n->give_up_ms = n->on->loop->clock.monotonic_ms + notify_hurry_ms;
    send_all(n);
}

void notifier_close(notifier *n) {
    if (n->closing) return;
    n->hurried = n->closing = true;
    send_all(n);
}

bool notifier_idle(const notifier *n) {
    for (const spool *s : n->spools)
        if (s->asking || !s->events.empty()) return false;
    return true;
}

void notifier_free(notifier *n) {
    for (spool *s : n->spools)
        spool_free(s);
    delete n;
}

notify_counters notifier_counters(const notifier *n) {
    return n->counters;
}

} // namespace belfry
