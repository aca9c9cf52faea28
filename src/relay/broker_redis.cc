// The Redis broker. Two connections (RESP2: one that subscribes can do nothing else), room by room:
//
//   PREFIXroom:ROOM      what a backend publishes, delivered verbatim
//   PREFIXmessage:ROOM   what nodes publish for their clients and the control API: an envelope (proto/envelope.h)
//   PREFIXcommand        commands for every node
//
// @all is subscribed always; @conn: rooms by one pattern, since a connection's id begins with its node's. A room's two
// channels are one entry, whose state follows what is wanted: a burst of joins is one SUBSCRIBE, and one that is
// dropped and wanted again in the same turn sends nothing. Main thread.
#include "relay/broker.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "net/resolve.h"
#include "net/wheel.h"

#include <deque>
#include <string.h>
#include <string>
#include <unordered_map>
#include <vector>

namespace belfry {

static constexpr size_t channels_a_command = 512; // rooms in one SUBSCRIBE: two channels each
static constexpr uint64_t copy_wait_ms = 5000;    // for our own copy of a publish to come back
static constexpr uint64_t subscribe_retry_ms = 1000;
static constexpr uint64_t fixed_retry_ms = 5000;

enum class channel_state : uint8_t { idle, subscribing, active, unsubscribing };

struct channel {
    std::string room;
    channel_state state = channel_state::idle;
    bool wanted = true;
    bool queued = false;       // stands in `changed`
    bool refused = false;      // by Redis, the last time
    uint8_t confirmations = 0; // of two, in the state's direction
};

// The rooms of one SUBSCRIBE, and how many of them are not confirmed yet.
struct sent_batch {
    std::vector<std::string> rooms;
    size_t left;
};

struct awaited_copy {
    publish_job *job;
    uint64_t until_ms;
};

struct redis_broker {
    broker head;
    broker_settings settings;
    loop *on;                      // borrowed
    redis *subscriber, *publisher; // owned
    std::unordered_map<std::string, channel> channels;
    std::vector<std::string> changed;
    size_t subscribing; // channels that wait for a confirmation
    uint8_t fixed;      // confirmations of the always-on subscriptions (5)
    bool up, was_up;
    uint64_t retry_ms;           // refused subscriptions are not tried again before
    uint64_t reconnect_ms;       // the fixed ones were refused: a new connection then; 0: no
    std::deque<sent_batch> sent; // SUBSCRIBEs without an answer yet, oldest first
    bool missed;                 // a room that has members was without its subscription for a while
    uint64_t sequence;
    std::unordered_map<uint64_t, awaited_copy> copies; // own publishes whose copy is to come
    uint64_t swept_ms;
    json_reader *reader;
    buffer scratch, out;
    std::string room_prefix, message_prefix, command_channel;
};

static constexpr uint8_t fixed_subscriptions = 5;

static redis_broker *of(broker *b) {
    return reinterpret_cast<redis_broker *>(b);
}

// ---------------------------------------------------------------- subscriptions

static void changed(redis_broker *b, channel *c) {
    if (c->queued) return;
    c->queued = true;
    b->changed.push_back(c->room);
}

static void subscribe(broker *base, view room) {
    redis_broker *b = of(base);
    auto [at, fresh] = b->channels.try_emplace(std::string(room));
    channel *c = &at->second;
    if (fresh) c->room = room;
    c->wanted = true;
    if (c->state == channel_state::active || !redis_ready(b->subscriber)) {
        // Already there; or the link is down: who joins now is told `gap` once it is back, like everybody else.
        b->head.events->subscribed(b->head.context, room);
        if (c->state == channel_state::active) return;
        b->missed = true;
    }
    changed(b, c);
}

static void unsubscribe(broker *base, view room) {
    redis_broker *b = of(base);
    auto at = b->channels.find(std::string(room));
    if (at == b->channels.end()) return;
    at->second.wanted = false;
    changed(b, &at->second);
}

// False where Redis's queue did not take all of it.
static bool send_batch(redis_broker *b, const char *command, const std::vector<std::string> &names) {
    for (size_t at = 0; at < names.size();) {
        std::vector<view> argv = {command};
        for (size_t n = 0; n < 2 * channels_a_command && at < names.size(); n++)
            argv.push_back(names[at++]);
        if (!redis_command(b->subscriber, static_cast<int>(argv.size()), argv.data(), nullptr, nullptr, 0))
            return false;
    }
    return true;
}

static void retry_later(redis_broker *b, channel *c) {
    b->retry_ms = clock_monotonic_ns() / 1000000 + subscribe_retry_ms;
    if (c->state == channel_state::subscribing && !c->refused) b->subscribing--;
    c->state = channel_state::idle;
    c->refused = true;
    changed(b, c);
    if (c->wanted) b->head.events->refused(b->head.context, c->room);
}

static void log_refusal(view why) {
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: Redis refused a subscription: %.*s (%llu more not shown)", static_cast<int>(why.size()),
                 why.data(), static_cast<unsigned long long>(held));
}

// Redis refused a SUBSCRIBE (an ACL, say), without saying for which channel; but it answers in order, so it is the
// oldest batch that is not confirmed. Who waits for its rooms is told no; what is still wanted is tried again in a
// second, each room by itself, so that it takes no other along twice, and readiness does not wait for it.
static void refuse_oldest(redis_broker *b, view why) {
    log_refusal(why);
    if (b->sent.empty()) return;
    std::vector<std::string> rooms;
    rooms.swap(b->sent.front().rooms);
    b->sent.pop_front();
    for (const std::string &room : rooms) {
        auto at = b->channels.find(room);
        if (at != b->channels.end() && at->second.state == channel_state::subscribing) retry_later(b, &at->second);
    }
}

static void subscribe_rooms(redis_broker *b, std::vector<std::string> *rooms) {
    if (rooms->empty()) return;
    std::vector<std::string> names;
    for (const std::string &room : *rooms)
        for (const std::string *prefix : {&b->room_prefix, &b->message_prefix})
            names.push_back(*prefix + room);
    bool fine = send_batch(b, "SUBSCRIBE", names);
    b->sent.push_back({*rooms, rooms->size()});
    rooms->clear();
    if (fine) return;
    sent_batch failed = b->sent.back(); // not sent at all: its turn does not come
    b->sent.pop_back();
    b->sent.push_front(failed);
    refuse_oldest(b, "its queue is full");
}

// Moves one channel towards what is wanted; false where it is gone.
static void send_change(redis_broker *b, channel *c, std::vector<std::string> *in, std::vector<std::string> *out) {
    if (c->state == channel_state::idle && c->wanted) {
        c->state = channel_state::subscribing;
        c->confirmations = 0;
        if (!c->refused) b->subscribing++;
        in->push_back(c->room);
        if (c->refused || in->size() == channels_a_command) subscribe_rooms(b, in);
    } else if (c->state == channel_state::active && !c->wanted) {
        c->state = channel_state::unsubscribing;
        c->confirmations = 0;
        out->push_back(b->room_prefix + c->room);
        out->push_back(b->message_prefix + c->room);
    }
}

static bool retry_due(const redis_broker *b) {
    return clock_monotonic_ns() / 1000000 >= b->retry_ms;
}

// Those with a confirmation under way are looked at again when it comes; the refused ones when a second has passed,
// each as a batch of its own behind the others.
static void send_changes(redis_broker *b) {
    std::vector<std::string> now, in, out;
    now.swap(b->changed);
    for (bool refused : {false, true}) {
        for (const std::string &room : now) {
            auto at = b->channels.find(room);
            if (at == b->channels.end() || !at->second.queued || at->second.refused != refused) continue;
            channel *c = &at->second;
            c->queued = false;
            if (c->state == channel_state::idle && !c->wanted)
                b->channels.erase(at);
            else if (refused && !retry_due(b))
                changed(b, c);
            else
                send_change(b, c, &in, &out);
        }
        subscribe_rooms(b, &in);
    }
    if (!send_batch(b, "UNSUBSCRIBE", out))
        log_refusal("its queue is full: channels without members stay until the link breaks");
}

// Whether a room still has to be subscribed before everything wanted is; those that Redis refuses are not waited for.
static bool changes_due(const redis_broker *b) {
    for (const std::string &room : b->changed) {
        auto at = b->channels.find(room);
        if (at != b->channels.end() && !at->second.refused) return true;
    }
    return false;
}

static void check_up(redis_broker *b) {
    if (b->up || b->fixed < fixed_subscriptions || b->subscribing || changes_due(b)) return;
    if (!redis_ready(b->subscriber) || !redis_ready(b->publisher)) return;
    b->up = true;
    if (b->was_up) b->head.count.reconnects++;
    b->was_up = true;
    log_info("broker: ready, %zu rooms subscribed", b->channels.size());
    bool missed = b->missed;
    b->missed = false;
    b->head.events->up(b->head.context, missed);
}

static void confirmed(redis_broker *b, view channel_name, bool in) {
    view room;
    if (channel_name.starts_with(b->room_prefix))
        room = channel_name.substr(b->room_prefix.size());
    else if (channel_name.starts_with(b->message_prefix))
        room = channel_name.substr(b->message_prefix.size());
    if (room.empty() || room == "@all") { // the command channel, or one of the fixed ones
        if (in) b->fixed++;
        return check_up(b);
    }
    auto at = b->channels.find(std::string(room));
    if (at == b->channels.end()) return;
    channel *c = &at->second;
    if (c->state != (in ? channel_state::subscribing : channel_state::unsubscribing) || ++c->confirmations < 2) return;
    c->state = in ? channel_state::active : channel_state::idle;
    if (in) {
        if (!c->refused) b->subscribing--;
        c->refused = false;
        if (!b->sent.empty() && --b->sent.front().left == 0) b->sent.pop_front();
        b->head.count.subscriptions++;
        if (c->wanted) b->head.events->subscribed(b->head.context, c->room);
    }
    if (in != c->wanted || !in) changed(b, c);
    check_up(b);
}

// ---------------------------------------------------------------- what comes in

static void drop_malformed(redis_broker *b, view channel_name, const char *why) {
    static log_limit limit;
    uint64_t held = 0;
    b->head.count.malformed++;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: a message on %.*s was dropped: %s (%llu more not shown)",
                 static_cast<int>(channel_name.size()), channel_name.data(), why,
                 static_cast<unsigned long long>(held));
}

static void on_room(redis_broker *b, view room, view payload) {
    struct clock now;
    clock_refresh(&now);
    frame *source = frame_copy(payload);
    message_parts parts = {room, source, frame_view(source), payload_kind::any, view(), now.wall_ms};
    message *m = message_new(&parts);
    frame_unref(source);
    b->head.events->deliver(b->head.context, m);
}

static void on_envelope(redis_broker *b, view channel_name, view room, view payload) {
    frame *source = frame_copy(payload);
    envelope e;
    error why;
    if (envelope_parse(b->reader, frame_view(source), &e, &b->scratch, &why)) {
        message_parts parts = {room, source, e.payload, e.kind, e.from, e.time_ms, e.except, e.except_count};
        message *m = message_new(&parts);
        auto copy = e.node == node_id() ? b->copies.find(e.sequence) : b->copies.end();
        if (copy != b->copies.end()) {
            m->job = copy->second.job;
            b->copies.erase(copy);
        }
        b->head.events->deliver(b->head.context, m);
    } else {
        drop_malformed(b, channel_name, why.text);
    }
    frame_unref(source);
}

static void on_message(redis_broker *b, view channel_name, view payload) {
    b->head.count.received++;
    if (payload.size() > static_cast<size_t>(b->settings.max_message)) {
        b->head.count.oversized++;
        return drop_malformed(b, channel_name, "it is larger than [broker] max_message");
    }
    if (channel_name.starts_with(b->room_prefix))
        return on_room(b, channel_name.substr(b->room_prefix.size()), payload);
    if (channel_name.starts_with(b->message_prefix))
        return on_envelope(b, channel_name, channel_name.substr(b->message_prefix.size()), payload);
    if (channel_name != b->command_channel) return;
    frame *source = frame_copy(payload);
    b->head.events->command(b->head.context, source);
    frame_unref(source);
}

// Redis answers in order: behind the three fixed SUBSCRIBEs comes the PSUBSCRIBE. An ACL compares its pattern
// literally, so a user who may use the channels may still be refused it; then only @conn: rooms can't be reached over
// Redis.
static void on_refusal(redis_broker *b, view why) {
    if (b->fixed < fixed_subscriptions -
                       2) { // nothing works without these three: only a new connection, with another ACL, can mend it
        log_warn("broker: Redis refused %s and @all: %.*s; the user needs the channels %s*", b->command_channel.c_str(),
                 static_cast<int>(why.size()), why.data(), b->settings.prefix.c_str());
        b->reconnect_ms = clock_monotonic_ns() / 1000000 + fixed_retry_ms;
        return;
    }
    if (b->fixed != fixed_subscriptions - 2) return refuse_oldest(b, why);
    b->fixed = fixed_subscriptions;
    log_warn("broker: Redis refused the pattern of this node's connections (%.*s): messages to @conn: rooms will not "
             "come over Redis; "
             "allow the user all channels (ACL: allchannels) to have them",
             static_cast<int>(why.size()), why.data());
    check_up(b);
}

static void on_push(redis *, const redis_value *v, void *context) {
    auto *b = static_cast<redis_broker *>(context);
    if (v->type == redis_type::error) return on_refusal(b, v->text);
    if (v->type != redis_type::array || v->count < 3 || v->elements[0].type != redis_type::text) return;
    view what = v->elements[0].text;
    const redis_value *second = &v->elements[1], *third = &v->elements[2];
    if (second->type != redis_type::text) return;
    if (what == "message" && third->type == redis_type::text) return on_message(b, second->text, third->text);
    if (what == "pmessage" && v->count == 4 && third->type == redis_type::text &&
        v->elements[3].type == redis_type::text)
        return on_message(b, third->text, v->elements[3].text);
    if (what == "subscribe") return confirmed(b, second->text, true);
    if (what == "unsubscribe") return confirmed(b, second->text, false);
    if (what == "psubscribe") {
        b->fixed++;
        check_up(b);
    }
}

// ---------------------------------------------------------------- the links

static void subscriber_ready(redis *, void *context) {
    auto *b = static_cast<redis_broker *>(context);
    b->fixed = 0;
    b->subscribing = 0;
    b->changed.clear();
    b->sent.clear();
    b->retry_ms = b->reconnect_ms = 0;
    bool fine = send_batch(b, "SUBSCRIBE", {b->command_channel, b->room_prefix + "@all", b->message_prefix + "@all"});
    std::string own = "@conn:c_" + std::string(node_id()) + "*"; // base64url has no pattern characters
    if (!send_batch(b, "PSUBSCRIBE", {b->room_prefix + own, b->message_prefix + own}) || !fine)
        log_warn("broker: Redis's queue is full before the first subscription"); // can't be: it is empty
    for (auto at = b->channels.begin(); at != b->channels.end();) {
        channel *c = &at->second;
        c->state = channel_state::idle;
        c->queued = c->refused = false;
        if (!c->wanted) {
            at = b->channels.erase(at);
            continue;
        }
        changed(b, c);
        ++at;
    }
    send_changes(b);
}

static void publisher_ready(redis *, void *context) {
    check_up(static_cast<redis_broker *>(context));
}

// Acknowledged publishes whose copy will not come back any more: they were published, how many got them is not known.
static void settle_copies(redis_broker *b) {
    std::unordered_map<uint64_t, awaited_copy> lost;
    lost.swap(b->copies);
    for (auto &[sequence, copy] : lost)
        publish_job_settle(copy.job, 0, true);
}

static void went_down(redis_broker *b, const char *which, const char *why) {
    bool was = b->up;
    b->up = false;
    if (was) {
        log_warn("broker: %s lost: %s", which, why);
        b->head.events->down(b->head.context, why);
    }
}

static void subscriber_down(redis *, const char *why, void *context) {
    auto *b = static_cast<redis_broker *>(context);
    b->missed = true; // whether it was up still or the publisher had gone first
    went_down(b, "subscriber", why);
    settle_copies(b);
    b->retry_ms = 0;
    for (auto &[name, c] : b->channels) { // who waits for a confirmation is let in: `gap` follows when the link is back
        bool waited = c.state == channel_state::subscribing || c.state == channel_state::idle ||
                      c.state == channel_state::unsubscribing;
        c.state = channel_state::idle;
        if (c.wanted && waited) b->head.events->subscribed(b->head.context, c.room);
    }
}

static void publisher_down(redis *, const char *why, void *context) {
    went_down(static_cast<redis_broker *>(context), "publisher", why);
}

// ---------------------------------------------------------------- publishing

static void on_published(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *job = static_cast<publish_job *>(context);
    if (job) publish_job_settle(job, 0, reply && reply->type == redis_type::integer);
}

static bool publish(broker *base, message *m, publish_job *job, bool local) {
    redis_broker *b = of(base);
    if (!b->up) return false;
    conn_id_text names[command_except_max];
    envelope e = {};
    e.node = node_id();
    e.sequence = ++b->sequence;
    e.kind = m->kind == payload_kind::any ? payload_kind::binary : m->kind;
    e.time_ms = m->time_ms;
    e.from = m->from;
    e.except_count = m->except_count;
    for (size_t i = 0; i < e.except_count; i++) {
        names[i] = conn_id_format(m->except[i]);
        e.except[i] = names[i];
    }
    e.payload = m->payload;
    buffer_clear(&b->out);
    envelope_write(&e, &b->out);
    std::string name = b->message_prefix + std::string(m->room);
    view argv[3] = {"PUBLISH", name, buffer_view(&b->out)};
    if (!redis_command(b->publisher, 3, argv, on_published, job, 0)) return false;
    b->head.count.published++;
    if (b->out.capacity > 65536) buffer_free(&b->out);
    if (!job) return true;
    publish_job_expect(job);
    if (local) {
        publish_job_expect(job);
        b->copies[e.sequence] = {job, clock_monotonic_ns() / 1000000 + copy_wait_ms};
    }
    return true;
}

// A copy that never came back (dropped by Redis, or malformed) must not leave its publisher waiting.
static void sweep_copies(redis_broker *b) {
    uint64_t now = clock_monotonic_ns() / 1000000;
    if (b->copies.empty() || now < b->swept_ms + 1000) return;
    b->swept_ms = now;
    for (auto at = b->copies.begin(); at != b->copies.end();) {
        if (at->second.until_ms > now) {
            ++at;
            continue;
        }
        publish_job *job = at->second.job;
        at = b->copies.erase(at);
        publish_job_settle(job, 0, true);
    }
}

static const redis_events subscriber_events = {subscriber_ready, subscriber_down, on_push};

// A new connection: what this one was refused at its start is asked anew.
static void reconnect(redis_broker *b) {
    b->reconnect_ms = 0;
    redis_free(b->subscriber);
    b->subscriber = redis_new(b->on, &b->settings.redis, "subscriber", &subscriber_events, b);
    if (!b->subscriber) fatal("broker: no Redis link could be made"); // it could be before
}

static bool read(broker *, view, uint64_t, uint32_t) {
    return false;
}

static void turn(broker *base) {
    redis_broker *b = of(base);
    if (b->reconnect_ms && clock_monotonic_ns() / 1000000 >= b->reconnect_ms) reconnect(b);
    if (redis_ready(b->subscriber) && (changes_due(b) || (!b->changed.empty() && retry_due(b)))) send_changes(b);
    sweep_copies(b);
    check_up(b);
}

static void pause(broker *base, bool paused) {
    redis_pause(of(base)->subscriber, paused);
}
static bool ready(const broker *base) {
    return reinterpret_cast<const redis_broker *>(base)->up;
}

static void destroy(broker *base) {
    redis_broker *b = of(base);
    redis_free(b->subscriber);
    redis_free(b->publisher);
    // Name look-ups that were cut short give their memory back on the loop (resolve.h).
    uint64_t until = clock_monotonic_ns() / 1000000 + resolve_linger_ms + wheel_tick_ms;
    while (clock_monotonic_ns() / 1000000 < until)
        loop_turn(b->on, true);
    settle_copies(b);
    json_reader_free(b->reader);
    buffer_free(&b->scratch);
    buffer_free(&b->out);
    delete b;
}

static const broker_ops ops = {subscribe, unsubscribe, publish, read, turn, pause, ready, destroy};
static const redis_events publisher_events = {publisher_ready, publisher_down, nullptr};

broker *broker_redis_new(const broker_events *events, void *context, const broker_settings *settings, loop *on) {
    auto *b = new redis_broker{};
    b->head = {&ops, events, context, {}};
    b->settings = *settings;
    b->on = on;
    b->room_prefix = settings->prefix + "room:";
    b->message_prefix = settings->prefix + "message:";
    b->command_channel = settings->prefix + "command";
    b->reader = json_reader_new();
    b->subscriber = redis_new(on, &b->settings.redis, "subscriber", &subscriber_events, b);
    b->publisher = redis_new(on, &b->settings.redis, "publisher", &publisher_events, b);
    if (!b->subscriber || !b->publisher)
        fatal("broker: no Redis link could be made"); // the config was checked: can't be
    return &b->head;
}

} // namespace belfry
