// The Redis broker's connections, wherever Redis is: one server, the primary that Sentinel names, or a cluster. RESP2:
// one that subscribes can do nothing else.
//
//   one server, Sentinel   the subscriber, and the publisher for all commands
//   cluster                the subscriber at any primary, since PUBLISH goes through the cluster's bus; commands over
//                          net/redis_cluster; with `sharded` rooms are subscribed over net/redis_shards
//
// Main thread.
#include "relay/broker_redis_impl.h"

#include "base/log.h"

namespace belfry {

bool redis_broker_send(redis_broker *b, view key, int argc, const view *argv, redis_reply reply, void *context,
                       uint64_t tag) {
    if (b->cluster) return redis_cluster_command(b->cluster, key, argc, argv, reply, context, tag);
    return redis_command(b->publisher, argc, argv, reply, context, tag);
}

bool redis_links_ready(const redis_broker *b) {
    if (!redis_ready(b->subscriber)) return false;
    if (b->shards && !redis_shards_whole(b->shards)) return false;
    return b->cluster ? redis_cluster_ready(b->cluster) : redis_ready(b->publisher);
}

static void went_down(redis_broker *b, const char *which, const char *why) {
    bool was = b->up;
    b->up = false;
    redis_canary_end(b);
    if (b->closing) return;
    if (was) {
        log_warn("broker: %s lost: %s", which, why);
        redis_history_down(b);
        b->head.events->down(b->head.context, why);
    }
}

// ---------------------------------------------------------------- the subscriber and the publisher

static void subscriber_ready(redis *, void *context) {
    redis_rooms_ready(static_cast<redis_broker *>(context));
}

static void subscriber_down(redis *, const char *why, void *context) {
    auto *b = static_cast<redis_broker *>(context);
    went_down(b, "subscriber", why);
    redis_copies_settle(b);
    redis_rooms_down(b);
}

static void publisher_ready(redis *, void *context) {
    auto *b = static_cast<redis_broker *>(context);
    redis_scripts_load(b);
    redis_broker_check_up(b);
}

static void publisher_down(redis *, const char *why, void *context) {
    went_down(static_cast<redis_broker *>(context), "publisher", why);
}

static const redis_events subscriber_events = {subscriber_ready, subscriber_down, redis_incoming};
static const redis_events publisher_events = {publisher_ready, publisher_down, nullptr};

// ---------------------------------------------------------------- links that go where Redis is

static void locate(redis_broker *b, placed_link *p) {
    if (b->sentinel)
        redis_locate(p->link, redis_sentinel_where, b->sentinel);
    else if (b->cluster)
        redis_locate(p->link, redis_cluster_where, &p->place);
}

static redis *new_link(redis_broker *b, const char *name, bool anywhere, view key, const redis_events *events,
                       void *context) {
    auto *p = new placed_link{nullptr, {b->cluster, anywhere, cluster_slot(key), 0}};
    p->link = redis_new(b->on, &b->settings.redis, name, events, context);
    if (!p->link) fatal("broker: no Redis link could be made"); // the config was checked: can't be
    locate(b, p);
    b->placed.push_back(p);
    return p->link;
}

// The place goes with the link: redis_free and redis_end ask for it no more.
static void forget(redis_broker *b, redis *link) {
    for (size_t i = 0; i < b->placed.size(); i++) {
        if (b->placed[i]->link != link) continue;
        delete b->placed[i];
        b->placed.erase(b->placed.begin() + static_cast<ptrdiff_t>(i));
        return;
    }
}

redis *broker_redis_link(broker *base, const char *name, view key, const redis_events *events, void *context) {
    return new_link(redis_broker_of(base), name, false, key, events, context);
}

void broker_redis_link_free(broker *base, redis *link) {
    forget(redis_broker_of(base), link);
    redis_free(link);
}

// A link that Sentinel locates has ended by itself at READONLY (redis_settings::primary_only).
void broker_redis_link_misled(broker *base, redis *) {
    redis_broker *b = redis_broker_of(base);
    if (b->cluster) redis_cluster_refresh(b->cluster);
}

void redis_links_resubscribe(redis_broker *b) {
    forget(b, b->subscriber);
    redis_free(b->subscriber);
    b->subscriber = new_link(b, "subscriber", true, view(), &subscriber_events, b);
}

// ---------------------------------------------------------------- Sentinel

static void primary_changed(void *context) {
    auto *b = static_cast<redis_broker *>(context);
    for (placed_link *p : b->placed)
        redis_reconnect(p->link, "the primary is another server");
}

// ---------------------------------------------------------------- the cluster

static void cluster_ready(void *context) {
    auto *b = static_cast<redis_broker *>(context);
    for (placed_link *p : b->placed) // those that did not know where to go need not wait for their second to pass
        if (!redis_ready(p->link)) redis_reconnect(p->link, "the cluster is known");
    redis_scripts_load(b);
    redis_broker_check_up(b);
}

// What a primary had taken and not passed on when it died is lost, whoever had published it.
static void cluster_down(const char *why, void *context) {
    auto *b = static_cast<redis_broker *>(context);
    went_down(b, "a node of the cluster", why);
    redis_copies_settle(b);
    if (b->shards)
        redis_rooms_stranded(b);
    else
        b->missed = true;
}

static void cluster_moved(void *context) {
    auto *b = static_cast<redis_broker *>(context);
    for (placed_link *p : b->placed)
        if (redis_cluster_misplaced(&p->place, p->link)) redis_reconnect(p->link, "its slot is another node's");
    if (b->shards) redis_shards_moved(b->shards);
}

// ---------------------------------------------------------------- its shards

static void shard_confirmed(view channel, bool in, void *context) {
    redis_rooms_confirmed(static_cast<redis_broker *>(context), channel, true, in);
}

static void shard_refused(view channel, view why, void *context) {
    redis_rooms_shard_refused(static_cast<redis_broker *>(context), channel, why);
}

static void shard_missed(view channel, void *context) {
    redis_rooms_missed(static_cast<redis_broker *>(context), channel);
}

static void shard_down(const char *why, void *context) {
    auto *b = static_cast<redis_broker *>(context);
    went_down(b, "a shard's subscriber", why);
    redis_copies_settle(b);
    redis_rooms_stranded(b);
}

static void shards_whole(void *context) {
    redis_broker_check_up(static_cast<redis_broker *>(context));
}

// ---------------------------------------------------------------- life

static void make_sentinel(redis_broker *b) {
    b->settings.redis.primary_only = true;
    const redis_sentinel_settings settings = {b->settings.redis, b->settings.sentinels, b->settings.master_name};
    b->sentinel = redis_sentinel_new(b->on, &settings, primary_changed, b);
}

static void make_cluster(redis_broker *b) {
    static const redis_cluster_events events = {cluster_ready, cluster_down, cluster_moved};
    static const redis_shards_events shard_events = {shard_confirmed, shard_refused, shard_missed,
                                                     shard_down,      shards_whole,  redis_incoming};
    b->cluster = redis_cluster_new(b->on, &b->settings.redis, &events, b);
    if (b->settings.sharded) b->shards = redis_shards_new(b->on, &b->settings.redis, b->cluster, &shard_events, b);
}

void redis_links_new(redis_broker *b) {
    if (!b->settings.sentinels.empty()) make_sentinel(b);
    if (b->settings.cluster) make_cluster(b);
    b->subscriber = new_link(b, "subscriber", true, view(), &subscriber_events, b);
    if (!b->cluster) b->publisher = new_link(b, "publisher", true, view(), &publisher_events, b);
}

void redis_links_pause(redis_broker *b, bool paused) {
    redis_pause(b->subscriber, paused);
    if (b->shards) redis_shards_pause(b->shards, paused);
}

void redis_links_free(redis_broker *b) {
    redis_shards_free(b->shards);
    redis_free(b->subscriber);
    redis_end(b->publisher); // who waits for an answer gets none
    redis_cluster_free(b->cluster);
    redis_sentinel_free(b->sentinel);
    for (placed_link *p : b->placed)
        delete p;
}

bool broker_redis_counters(const broker *base, struct redis_place_counters *out) {
    const auto *b = reinterpret_cast<const redis_broker *>(base);
    *out = {};
    if (b->cluster) out->cluster = redis_cluster_count(b->cluster);
    if (b->sentinel) out->switches = redis_sentinel_switches(b->sentinel);
    return b->cluster || b->sentinel;
}

} // namespace belfry
