// Taking over commands that were taken and never acknowledged, and forgetting nodes that are no more. Main thread.
#include "base/log.h"
#include "relay/command_stream_impl.h"
#include "relay/conn_id.h"

namespace belfry {

static constexpr uint64_t claim_interval_ms = 5000;
static constexpr char idle_text[] = "15000"; // ms after which a command is taken over
static constexpr char claim_at_once[] = "64";
static constexpr int64_t deliveries_max = 5;
static constexpr uint64_t tidy_interval_ms = 600000;
static constexpr char silent_text[] = "600000"; // ms

// ---------------------------------------------------------------- commands

static void on_dropped(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *s = static_cast<command_stream *>(context);
    if (!reply || reply->type != redis_type::integer || reply->integer <= 0) return; // another node was faster
    s->count.dropped += static_cast<uint64_t>(reply->integer);
    log_warn("command stream: %lld commands could not be carried out %lld times and were dropped",
             static_cast<long long>(reply->integer), static_cast<long long>(deliveries_max));
}

static void drop(command_stream *s, const std::vector<view> &ids) {
    std::vector<view> acks = {"XACK", s->key, command_group}, deletes = {"XDEL", s->key};
    acks.insert(acks.end(), ids.begin(), ids.end());
    deletes.insert(deletes.end(), ids.begin(), ids.end());
    if (broker_redis_command(s->over, s->key, static_cast<int>(acks.size()), acks.data(), on_dropped, s, 0) &&
        broker_redis_command(s->over, s->key, static_cast<int>(deletes.size()), deletes.data(), nullptr, nullptr, 0))
        return;
    log_debug("command stream: out of reach; what is to be dropped is found again");
}

static void on_claimed(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *s = static_cast<command_stream *>(context);
    s->claiming = false;
    if (!reply || !s->over || reply->type != redis_type::array) return;
    for (size_t i = 0; i < reply->count; i++) {
        if (reply->elements[i].type != redis_type::array) continue; // nil: deleted meanwhile (Redis 6.2)
        s->count.claimed++;
        command_stream_take(s, &reply->elements[i]);
    }
}

// Reads XPENDING's [id, consumer, idle, deliveries]; false where it is none.
static bool read_pending(const redis_value *v, view *id, int64_t *deliveries) {
    if (v->type != redis_type::array || v->count != 4 || v->elements[0].type != redis_type::text ||
        v->elements[3].type != redis_type::integer)
        return false;
    *id = v->elements[0].text;
    *deliveries = v->elements[3].integer;
    return true;
}

// What is idle may be our own: a command that could not be carried out the last time. Not what is under way.
static void on_pending(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *s = static_cast<command_stream *>(context);
    s->claiming = false;
    if (!reply || !s->over || reply->type != redis_type::array) return;
    std::vector<view> hopeless, claims = {"XCLAIM", s->key, command_group, node_id(), idle_text};
    size_t words = claims.size(), room = command_stream_under_way - std::min(command_stream_under_way, s->ids.size());
    for (size_t i = 0; i < reply->count; i++) {
        view id;
        int64_t deliveries = 0;
        if (!read_pending(&reply->elements[i], &id, &deliveries) || s->ids.contains(std::string(id))) continue;
        if (deliveries > deliveries_max)
            hopeless.push_back(id);
        else if (claims.size() - words < room)
            claims.push_back(id);
    }
    if (!hopeless.empty()) drop(s, hopeless);
    if (claims.size() == words) return;
    s->claiming =
        broker_redis_command(s->over, s->key, static_cast<int>(claims.size()), claims.data(), on_claimed, s, 0);
}

void command_stream_claim(command_stream *s, uint64_t now_ms) {
    if (s->claiming || now_ms < s->claim_ms) return;
    s->claim_ms = now_ms + claim_interval_ms;
    view argv[] = {"XPENDING", s->key, command_group, "IDLE", idle_text, "-", "+", claim_at_once};
    s->claiming = broker_redis_command(s->over, s->key, 8, argv, on_pending, s, 0);
}

// Every start of a node is a consumer of a new name; what is silent has died, or has had nothing to do.
void command_stream_tidy(command_stream *s, uint64_t now_ms) {
    if (now_ms < s->tidy_ms) return;
    view words[] = {s->key, command_group, silent_text};
    if (broker_redis_run(s->over, redis_script::consumers, 1, 3, words, nullptr, nullptr, 0))
        s->tidy_ms = now_ms + tidy_interval_ms;
}

} // namespace belfry
