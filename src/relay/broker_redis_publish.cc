// Publishing over Redis: PUBLISH for a room without history; the script where the message is kept or has an id; bytes
// for another node. Every publish that somebody waits for has two outcomes: Redis's answer, and where this node has
// members, what became of its own copy when that came back. Main thread.
#include "relay/broker_redis_impl.h"

#include "base/hash.h"
#include "base/log.h"

namespace belfry {

static constexpr uint64_t copy_wait_ms = 5000; // for our own copy of a publish to come back
static constexpr char id_ttl_ms[] =
    "300000"; // a second publish of the same id within that is none (contracts section 8)

std::string redis_message_channel(const redis_broker *b, view room) {
    return b->message_prefix + (redis_room_sharded(b, room) ? broker_redis_tag(room) : std::string(room));
}

static void write_head(redis_broker *b, const message *m, uint64_t sequence) {
    conn_id_text names[command_except_max];
    envelope e = {};
    e.node = node_id();
    e.sequence = sequence;
    e.kind = m->kind;
    e.member = m->what == message_member;
    e.ack = m->ack;
    e.time_ms = m->time_ms;
    e.from = m->from;
    e.key = m->key;
    e.except_count = m->except_count;
    for (size_t i = 0; i < e.except_count; i++) {
        names[i] = conn_id_format(m->except[i]);
        e.except[i] = names[i];
    }
    buffer_clear(&b->out);
    envelope_write_head(&e, &b->out);
}

// ---------------------------------------------------------------- by PUBLISH

static void on_published(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *job = static_cast<publish_job *>(context);
    if (job) publish_job_settle(job, 0, reply && reply->type == redis_type::integer);
}

static bool publish_plain(redis_broker *b, const message *m, publish_job *job) {
    buffer_append_char(&b->out, '\n');
    buffer_append(&b->out, m->payload);
    std::string channel = redis_message_channel(b, m->room);
    view argv[3] = {redis_room_sharded(b, m->room) ? "SPUBLISH" : "PUBLISH", channel, buffer_view(&b->out)};
    return redis_broker_send(b, channel, 3, argv, on_published, job, 0);
}

// ---------------------------------------------------------------- by the script

// One publish by script that is under way.
struct kept_publish {
    redis_broker *on; // borrowed
    publish_job *job; // borrowed, it waits for this outcome; may be null
    uint64_t sequence;
};

// No copy comes of a publish that failed or was a duplicate.
static void forget_copy(redis_broker *b, uint64_t sequence) {
    auto copy = b->copies.find(sequence);
    if (copy == b->copies.end()) return;
    publish_job *job = copy->second.job;
    b->copies.erase(copy);
    publish_job_settle(job, 0, true);
}

// What conf/redis/publish.lua answers. False: that is no answer of it.
static bool read_answer(const redis_value *v, struct position *at, bool *duplicate) {
    if (v->type != redis_type::array || v->count != 4) return false;
    const redis_value *epoch = &v->elements[0], *offset = &v->elements[1], *again = &v->elements[2];
    if (epoch->type != redis_type::text || offset->type != redis_type::integer || again->type != redis_type::integer)
        return false;
    *duplicate = again->integer == 1;
    *at = {};
    if (epoch->text.empty()) return offset->integer == 0;
    return offset->integer > 0 && position_set(at, epoch->text, static_cast<uint64_t>(offset->integer));
}

static void log_failure(const redis_value *reply) {
    static log_limit limit;
    uint64_t held = 0;
    if (!reply || !log_limit_pass(&limit, &held)) return; // null: the link's own words say why
    view why = reply->type == redis_type::error ? reply->text : "an answer that the script does not give";
    log_warn("broker: Redis did not take a message into the history: %.*s (%llu more not shown)",
             static_cast<int>(why.size()), why.data(), static_cast<unsigned long long>(held));
}

static void on_kept(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *kept = static_cast<kept_publish *>(context);
    redis_broker *b = kept->on;
    publish_job *job = kept->job;
    struct position at = {};
    bool duplicate = false;
    bool fine = reply && read_answer(reply, &at, &duplicate);
    if (!fine) log_failure(reply);
    if (duplicate) b->head.count.duplicates++;
    if (!fine || duplicate) forget_copy(b, kept->sequence);
    delete kept;
    if (!job) return;
    if (fine) job->at = at;
    if (duplicate) job->duplicate = true;
    publish_job_settle(job, 0, fine);
}

static bool publish_kept(redis_broker *b, const message *m, publish_job *job, uint64_t sequence) {
    std::string tag = broker_redis_tag(m->room), history = b->settings.prefix + "history:";
    std::string stream = history + tag, meta = history + "meta:" + tag, id = history + "id:" + tag + ":";
    id.append(m->id);
    std::string channel = redis_message_channel(b, m->room), keep = std::to_string(m->keep),
                ttl = std::to_string(m->keep_ttl_ms);
    redis_epoch epoch = redis_epoch_new();
    std::vector<view> words = {stream, meta};
    if (!m->id.empty()) words.push_back(id);
    int keys = static_cast<int>(words.size());
    words.insert(words.end(), {channel, buffer_view(&b->out), m->payload, keep, ttl, id_ttl_ms,
                               view(epoch.text, sizeof epoch.text), redis_room_sharded(b, m->room) ? "1" : "0"});
    auto *kept = new kept_publish{b, job, sequence};
    if (broker_redis_run(&b->head, redis_script::publish, keys, static_cast<int>(words.size()), words.data(), on_kept,
                         kept, 0))
        return true;
    delete kept;
    return false;
}

bool redis_publish(broker *base, message *m, publish_job *job, bool local) {
    redis_broker *b = redis_broker_of(base);
    if (!b->up) return false;
    uint64_t sequence = ++b->sequence;
    write_head(b, m, sequence);
    bool by_script = m->keep || !m->id.empty();
    bool sent = by_script ? publish_kept(b, m, job, sequence) : publish_plain(b, m, job);
    if (b->out.capacity > 65536) buffer_free(&b->out);
    if (!sent) return false;
    m->sequence = sequence;
    b->head.count.published++;
    if (!job) return true;
    publish_job_expect(job);
    if (local) {
        publish_job_expect(job);
        b->copies[sequence] = {job, broker_now_ms() + copy_wait_ms, hash_bytes(m->room)};
    }
    return true;
}

// ---------------------------------------------------------------- the copies

// A copy that never came back (dropped by Redis, or malformed) must not leave its publisher waiting.
void redis_copies_sweep(redis_broker *b) {
    uint64_t now = broker_now_ms();
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

// They were published; how many got them is not known.
void redis_copies_settle(redis_broker *b) {
    std::unordered_map<uint64_t, awaited_copy> lost;
    lost.swap(b->copies);
    for (auto &[sequence, copy] : lost)
        publish_job_settle(copy.job, 0, true);
}

// A slot has moved: what its new owner published before it knew our subscription has no copy for us. Of those that are
// on their way all the same the publisher is told no number.
void redis_copies_missed(redis_broker *b, const std::unordered_set<std::string> &rooms) {
    if (b->copies.empty()) return;
    std::unordered_set<uint64_t> hashes;
    for (const std::string &room : rooms)
        hashes.insert(hash_bytes(room));
    for (auto at = b->copies.begin(); at != b->copies.end();) {
        if (!hashes.contains(at->second.room)) {
            ++at;
            continue;
        }
        publish_job *job = at->second.job;
        at = b->copies.erase(at);
        publish_job_settle(job, 0, true);
    }
}

// ---------------------------------------------------------------- for one other node

struct peer_send {
    void (*sent)(void *context, uint64_t tag, int64_t nodes);
    void *context; // borrowed
    bool in_cluster;
};

static void on_peer(redis *, const redis_value *reply, void *context, uint64_t tag) {
    auto *send = static_cast<peer_send *>(context);
    int64_t nodes = reply && reply->type == redis_type::integer ? reply->integer : -1;
    // A cluster's node counts its own subscribers alone.
    if (send->sent) send->sent(send->context, tag, nodes == 0 && send->in_cluster ? -1 : nodes);
    delete send;
}

bool redis_send_to_node(broker *base, view node, view bytes, void (*sent)(void *context, uint64_t tag, int64_t nodes),
                        void *context, uint64_t tag) {
    redis_broker *b = redis_broker_of(base);
    std::string channel = b->node_prefix + std::string(node);
    view argv[3] = {"PUBLISH", channel, bytes};
    auto *send = new peer_send{sent, context, b->cluster != nullptr};
    if (redis_broker_send(b, channel, 3, argv, on_peer, send, tag)) return true;
    delete send;
    return false;
}

} // namespace belfry
