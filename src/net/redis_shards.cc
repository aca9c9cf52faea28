// Sharded subscriptions; see redis_shards.h. A channel's state follows what is wanted and where its slot is: one
// command of it is under way at a time, and each link's answers are matched to its commands in order. Main thread.
#include "net/redis_shards.h"

#include "base/log.h"
#include "net/redis_link.h"

#include <unordered_map>

namespace belfry {

static constexpr uint64_t retry_ms = 50; // after MOVED, and where a link's queue is full

namespace {

enum class shard_state : uint8_t { idle, asked, active, leaving };

struct shard_link;

struct shard_channel {
    std::string name;
    shard_link *at; // borrowed; null while idle
    uint16_t slot;
    shard_state state;
    bool wanted;
    bool told;        // confirmed, and not given up since
    bool interrupted; // told, and has to be subscribed again
    bool queued;      // stands in `changed`
};

struct shard_sent {
    std::string name;
    bool in;
};

// The subscriber link to one primary.
struct shard_link {
    redis_shards *shards; // borrowed
    cluster_node node;
    redis *link;                 // owned
    std::deque<shard_sent> sent; // commands without an answer, oldest first
    size_t channels;             // that are not idle, here
    bool going;                  // has no slot any more; freed at the next turn
};

} // namespace

struct redis_shards {
    loop *on; // borrowed
    redis_settings settings;
    redis_cluster *cluster; // borrowed
    redis_shards_events events;
    void *context; // borrowed
    std::unordered_map<std::string, shard_channel> channels;
    std::vector<std::string> changed; // to be brought where they belong
    std::vector<shard_link *> links;  // owned
    size_t interrupted;               // channels
    bool paused, closing, broken;     // broken: `down` was told
    later retry;
};

static void pump(redis_shards *s);

static void retry_soon(redis_shards *s) {
    if (!later_posted(&s->retry)) later_post_in(&s->retry, retry_ms);
}

static shard_channel *find(redis_shards *s, view name) {
    auto at = s->channels.find(std::string(name));
    return at == s->channels.end() ? nullptr : &at->second;
}

static void changed(shard_channel *c, redis_shards *s) {
    if (c->queued) return;
    c->queued = true;
    s->changed.push_back(c->name);
}

static void interrupt(redis_shards *s, shard_channel *c) {
    if (c->interrupted || !c->told) return;
    c->interrupted = true;
    s->interrupted++;
}

static void resume(redis_shards *s, shard_channel *c) {
    if (!c->interrupted) return;
    c->interrupted = false;
    s->interrupted--;
}

static void check(redis_shards *s) {
    if (!s->broken || s->interrupted != 0) return;
    s->broken = false;
    s->events.whole(s->context);
}

// The channel is nowhere any more: it is subscribed again where it is wanted, else forgotten.
static void became_idle(redis_shards *s, shard_channel *c) {
    if (c->at != nullptr) c->at->channels--;
    c->at = nullptr;
    c->state = shard_state::idle;
    if (c->wanted) return changed(c, s);
    const std::string name = c->name;
    resume(s, c);
    s->channels.erase(name);
    s->events.confirmed(name, false, s->context);
}

// ---------------------------------------------------------------- answers

static void on_subscribed(shard_link *l, view name) {
    redis_shards *s = l->shards;
    if (!l->sent.empty() && l->sent.front().in && l->sent.front().name == name) l->sent.pop_front();
    shard_channel *c = find(s, name);
    if (c == nullptr || c->at != l || c->state != shard_state::asked) return;
    c->state = shard_state::active;
    const bool again = c->interrupted;
    resume(s, c);
    c->told = c->wanted;
    if (!c->wanted) {
        changed(c, s);
        retry_soon(s);
    }
    const std::string told = c->name;
    if (again)
        s->events.missed(told, s->context);
    else
        s->events.confirmed(told, true, s->context);
    check(s);
}

// As an answer; or unasked, since the slot has moved away.
static void on_unsubscribed(shard_link *l, view name) {
    redis_shards *s = l->shards;
    const bool asked = !l->sent.empty() && !l->sent.front().in && l->sent.front().name == name;
    if (asked) l->sent.pop_front();
    shard_channel *c = find(s, name);
    if (c == nullptr || c->at != l) return;
    if (!asked && c->state != shard_state::active && c->state != shard_state::leaving) return;
    if (!asked) redis_cluster_refresh(s->cluster);
    if (!asked && c->state == shard_state::leaving) return; // the answer is still to come
    interrupt(s, c);
    became_idle(s, c);
    retry_soon(s);
}

static void on_refused(shard_link *l, view why) {
    redis_shards *s = l->shards;
    if (l->sent.empty()) return;
    const shard_sent sent = l->sent.front();
    l->sent.pop_front();
    shard_channel *c = find(s, sent.name);
    if (c == nullptr || c->at != l) return;
    const cluster_redirect advice = cluster_advice_of(why, redis_at(l->link)->host);
    if (advice.advice != cluster_advice::none) {
        if (advice.advice == cluster_advice::moved) redis_cluster_hint(s->cluster, advice.slot, &advice.node);
        redis_cluster_refresh(s->cluster);
        if (c->state == shard_state::asked || c->state == shard_state::leaving) became_idle(s, c);
        return retry_soon(s);
    }
    if (c->state != shard_state::asked || !c->wanted) return became_idle(s, c);
    resume(s, c);
    l->channels--;
    s->channels.erase(sent.name);
    s->events.refused(sent.name, why, s->context);
    check(s);
}

static void on_push(redis *r, const redis_value *v, void *context) {
    auto *l = static_cast<shard_link *>(context);
    redis_shards *s = l->shards;
    if (s->closing) return;
    if (v->type == redis_type::error) return on_refused(l, v->text);
    if (v->type != redis_type::array || v->count < 3) return;
    const view what = v->elements[0].text;
    if (what == "smessage") return s->events.push(r, v, s->context);
    if (what == "ssubscribe") return on_subscribed(l, v->elements[1].text);
    if (what == "sunsubscribe") return on_unsubscribed(l, v->elements[1].text);
}

// ---------------------------------------------------------------- links

static void on_ready(redis *, void *context) {
    pump(static_cast<shard_link *>(context)->shards);
}

static void on_down(redis *, const char *why, void *context) {
    auto *l = static_cast<shard_link *>(context);
    redis_shards *s = l->shards;
    l->sent.clear();
    redis_cluster_refresh(s->cluster);
    if (l->channels == 0 || s->closing) return;
    std::vector<std::string> here;
    for (auto &[name, c] : s->channels)
        if (c.at == l) here.push_back(name);
    const size_t before = s->interrupted;
    for (const std::string &name : here) {
        shard_channel *c = find(s, name);
        if (c == nullptr || c->at != l) continue;
        interrupt(s, c);
        became_idle(s, c);
    }
    if (s->interrupted == before || s->broken) return;
    s->broken = true;
    s->events.down(why, s->context);
}

static shard_link *link_to(redis_shards *s, const cluster_node *node) {
    for (shard_link *l : s->links)
        if (l->node.port == node->port && l->node.host == node->host) {
            l->going = false;
            return l;
        }
    static const redis_events events = {on_ready, on_down, on_push};
    redis_settings settings = s->settings;
    settings.host = node->host;
    settings.port = node->port;
    auto *l = new shard_link{s, *node, nullptr, {}, 0, false};
    l->link = redis_new(s->on, &settings, "shard subscriber", &events, l);
    if (l->link == nullptr) fatal("redis: no link to a cluster's node could be made"); // the cluster's own could be
    redis_pause(l->link, s->paused);
    s->links.push_back(l);
    return l;
}

static void sweep_links(redis_shards *s) {
    std::vector<shard_link *> kept;
    for (shard_link *l : s->links) {
        if (!l->going || l->channels != 0) {
            kept.push_back(l);
            continue;
        }
        redis_free(l->link);
        delete l;
    }
    s->links.swap(kept);
}

// ---------------------------------------------------------------- what is wanted

static bool send(shard_link *l, shard_channel *c, bool in) {
    const view words[] = {in ? "SSUBSCRIBE" : "SUNSUBSCRIBE", c->name};
    if (!redis_command(l->link, 2, words, nullptr, nullptr, 0)) return false;
    l->sent.push_back({c->name, in});
    c->state = in ? shard_state::asked : shard_state::leaving;
    return true;
}

static bool belongs_here(const shard_channel *c, const cluster_node *owner) {
    return owner != nullptr && c->at != nullptr && c->at->node.port == owner->port && c->at->node.host == owner->host;
}

// One step towards where the channel belongs. It may be gone afterwards. What can't be done now stays in `changed`:
// until its link is ready, there is another map, or, where a queue is full, a moment later.
static void step(redis_shards *s, shard_channel *c) {
    const cluster_node *owner = redis_cluster_owner(s->cluster, c->slot);
    if (c->state == shard_state::active) {
        if (c->wanted && belongs_here(c, owner)) return;
        if (send(c->at, c, false)) return;
        changed(c, s);
        return retry_soon(s);
    }
    if (c->state != shard_state::idle) return; // its answer comes first
    if (!c->wanted) return became_idle(s, c);
    shard_link *l = owner == nullptr ? nullptr : link_to(s, owner);
    if (l != nullptr && redis_ready(l->link)) {
        if (send(l, c, true)) {
            c->at = l;
            l->channels++;
            return;
        }
        retry_soon(s);
    }
    changed(c, s);
}

static void pump(redis_shards *s) {
    std::vector<std::string> now;
    now.swap(s->changed);
    for (const std::string &name : now) {
        shard_channel *c = find(s, name);
        if (c == nullptr || !c->queued) continue;
        c->queued = false;
        step(s, c);
    }
}

static void on_retry(later *retry) {
    auto *s = BELFRY_CONTAINER_OF(retry, redis_shards, retry);
    sweep_links(s);
    pump(s);
}

void redis_shards_subscribe(redis_shards *s, view channel) {
    auto [at, fresh] = s->channels.try_emplace(std::string(channel));
    shard_channel *c = &at->second;
    if (fresh) {
        c->name = channel;
        c->slot = cluster_slot(channel);
    }
    c->wanted = true;
    if (c->state == shard_state::active) {
        c->told = true;
        return s->events.confirmed(channel, true, s->context);
    }
    if (c->state == shard_state::idle && !c->queued) step(s, c);
}

void redis_shards_unsubscribe(redis_shards *s, view channel) {
    shard_channel *c = find(s, channel);
    if (c == nullptr) return s->events.confirmed(channel, false, s->context);
    c->wanted = c->told = false;
    resume(s, c);
    step(s, c);
    check(s);
}

bool redis_shards_whole(const redis_shards *s) {
    return s->interrupted == 0;
}

void redis_shards_moved(redis_shards *s) {
    for (auto &[name, c] : s->channels) {
        if (!belongs_here(&c, redis_cluster_owner(s->cluster, c.slot))) changed(&c, s);
    }
    for (shard_link *l : s->links) {
        l->going = true;
        for (const cluster_node &node : redis_cluster_map(s->cluster)->nodes)
            if (node.port == l->node.port && node.host == l->node.host) l->going = false;
    }
    pump(s);
    retry_soon(s);
}

void redis_shards_pause(redis_shards *s, bool paused) {
    s->paused = paused;
    for (shard_link *l : s->links)
        redis_pause(l->link, paused);
}

redis_shards *redis_shards_new(loop *on, const redis_settings *settings, redis_cluster *cluster,
                               const redis_shards_events *events, void *context) {
    auto *s = new redis_shards{};
    s->on = on;
    s->settings = *settings;
    s->cluster = cluster;
    s->events = *events;
    s->context = context;
    later_init(&s->retry, &on->laters, on_retry);
    return s;
}

void redis_shards_free(redis_shards *s) {
    if (s == nullptr) return;
    s->closing = true;
    later_cancel(&s->retry);
    for (shard_link *l : s->links) {
        redis_free(l->link);
        delete l;
    }
    delete s;
}

} // namespace belfry
