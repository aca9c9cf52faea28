// The life of a cluster: the seed that is asked first, the slot map, a link to each primary, and when all of it is
// whole. Main thread, see redis_cluster.h.
#include "net/redis_cluster_impl.h"
#include "net/redis_link.h"

#include "base/log.h"

namespace belfry {

static constexpr uint64_t refresh_min_ms = 1000;   // between two questions for the map
static constexpr uint64_t refresh_idle_ms = 30000; // without a reason: for what moved and met no command of ours
static constexpr uint64_t unmapped_keep_ms = 5000; // the link to a node that has no slots
static constexpr size_t links_max = 2 * cluster_nodes_max; // with those that are going
static constexpr size_t known_max = 4 * cluster_nodes_max;

static void on_link_ready(redis *, void *context);
static void on_link_down(redis *, const char *why, void *context);

static bool same(const cluster_node *a, const cluster_node *b) {
    return a->port == b->port && a->host == b->host;
}

static void set_refresh(redis_cluster *c, uint64_t ms) {
    later_post_in(&c->refresh, ms);
}

void redis_cluster_refresh(redis_cluster *c) {
    if (c->closing || c->asking) return; // its answer looks whether all is well
    const uint64_t since = redis_now_ms() - c->asked_ms;
    set_refresh(c, since >= refresh_min_ms ? 0 : refresh_min_ms - since);
}

// ---------------------------------------------------------------- links

cluster_link *cluster_link_to(redis_cluster *c, const cluster_node *node) {
    for (cluster_link *l : c->links)
        if (same(&l->at, node)) return l;
    if (c->links.size() >= links_max) return nullptr;
    static const redis_events events = {on_link_ready, on_link_down, nullptr};
    redis_settings settings = c->settings;
    settings.host = node->host;
    settings.port = node->port;
    auto *l = new cluster_link{c, *node, nullptr, redis_now_ms(), redis_now_ms(), false};
    l->link = redis_new(c->on, &settings, "cluster", &events, l);
    if (l->link == nullptr) fatal("redis: no link to a cluster's node could be made"); // the seed's could be
    c->links.push_back(l);
    return l;
}

// Those without slots stay for a while: for answers that are under way, and since ASK points to a node that gets its
// slot later.
static void sweep_links(redis_cluster *c) {
    const uint64_t now = redis_now_ms();
    std::vector<cluster_link *> kept;
    std::vector<cluster_link *> gone;
    for (cluster_link *l : c->links) {
        const bool over = l->unmapped_ms != 0 && now - l->unmapped_ms >= unmapped_keep_ms;
        (over ? gone : kept).push_back(l);
    }
    c->links.swap(kept);
    for (cluster_link *l : gone) {
        redis_end(l->link);
        delete l;
    }
}

// A node that has come with a new map gets the time to be connected; what is for it waits.
static bool is_coming(const redis_cluster *c, const cluster_link *l) {
    return !l->was_ready && redis_now_ms() - l->born_ms < static_cast<uint64_t>(c->settings.connect_timeout_ms);
}

static void check(redis_cluster *c, const char *why) {
    bool whole = cluster_map_complete(&c->map), refreshes = !whole;
    for (const cluster_link *l : c->owners) {
        if (redis_ready(l->link)) continue;
        refreshes = true;
        whole = whole && c->ready && is_coming(c, l);
    }
    c->unsettled = refreshes;
    if (refreshes) redis_cluster_refresh(c);
    if (whole == c->ready || c->closing) return;
    c->ready = whole;
    if (whole) {
        log_info("redis cluster: %zu primaries, all slots served", c->owners.size());
        c->events.ready(c->context);
        cluster_flush(c);
    } else {
        c->events.down(why, c->context);
    }
}

static void on_link_ready(redis *, void *context) {
    auto *l = static_cast<cluster_link *>(context);
    redis_cluster *c = l->cluster;
    l->was_ready = true;
    if (!cluster_map_complete(&c->map)) redis_cluster_refresh(c);
    check(c, "");
}

static void on_link_down(redis *, const char *why, void *context) {
    auto *l = static_cast<cluster_link *>(context);
    if (l->cluster->closing) return;
    redis_cluster_refresh(l->cluster);
    check(l->cluster, why);
}

// ---------------------------------------------------------------- the map

// Takes the nodes' links along; false where there are too many.
static bool bind_links(redis_cluster *c) {
    const uint64_t now = redis_now_ms();
    c->owners.clear();
    for (cluster_link *l : c->links)
        if (l->unmapped_ms == 0) l->unmapped_ms = now;
    for (const cluster_node &node : c->map.nodes) {
        cluster_link *l = cluster_link_to(c, &node);
        if (l == nullptr) return false;
        l->unmapped_ms = 0;
        c->owners.push_back(l);
    }
    return true;
}

cluster_link *cluster_slot_moved(redis_cluster *c, uint16_t slot, const cluster_node *to) {
    redis_cluster_refresh(c);
    cluster_link *l = cluster_link_to(c, to);
    if (l == nullptr || !cluster_map_move(&c->map, slot, to)) return nullptr;
    c->patched = true;
    l->unmapped_ms = 0;
    if (c->owners.size() < c->map.nodes.size()) c->owners.push_back(l);
    return l;
}

void redis_cluster_hint(redis_cluster *c, uint16_t slot, const cluster_node *owner) {
    if (!c->closing) (void)cluster_slot_moved(c, slot, owner);
}

// True where a slot's owner is another one than before.
static bool differs(const cluster_map *a, const cluster_map *b) {
    for (size_t slot = 0; slot < cluster_slot_count; slot++) {
        const uint8_t x = a->owner[slot], y = b->owner[slot];
        if ((x == cluster_nobody) != (y == cluster_nobody)) return true;
        if (slot != 0 && x == a->owner[slot - 1] && y == b->owner[slot - 1]) continue;
        if (x != cluster_nobody && !same(&a->nodes[x], &b->nodes[y])) return true;
    }
    return false;
}

static void remember(redis_cluster *c, const redis_value *node, view asked) {
    if (node->type != redis_type::array || node->count < 2 || c->known.size() >= known_max) return;
    const view host = node->elements[0].text.empty() ? asked : node->elements[0].text;
    const int64_t port = node->elements[1].integer;
    if (host == "?" || host.size() > 253 || port <= 0 || port > 65535) return;
    const cluster_node found = {std::string(host), static_cast<uint16_t>(port)};
    for (const cluster_node &k : c->known)
        if (same(&k, &found)) return;
    c->known.push_back(found);
}

// [[FIRST, LAST, [HOST, PORT, ID, ...] of the primary, of the replicas ...], ...]
static bool read_map(redis_cluster *c, const redis_value *reply, view asked, error *e) {
    cluster_map_clear(&c->fresh);
    if (reply->type == redis_type::error) {
        error_set(e, "%.*s", static_cast<int>(reply->text.size() < 200 ? reply->text.size() : 200), reply->text.data());
        return false;
    }
    for (size_t i = 0; reply->type == redis_type::array && i < reply->count; i++) {
        const redis_value *range = &reply->elements[i];
        if (range->type != redis_type::array || range->count < 3 || range->elements[2].type != redis_type::array ||
            range->elements[2].count < 2) {
            error_set(e, "an answer of another form");
            return false;
        }
        const redis_value *primary = &range->elements[2];
        if (!cluster_map_add(&c->fresh, range->elements[0].integer, range->elements[1].integer,
                             primary->elements[0].text, primary->elements[1].integer, asked, e))
            return false;
    }
    if (c->fresh.covered == 0) error_set(e, "it knows of no slot");
    return c->fresh.covered != 0;
}

static void apply(redis_cluster *c, const redis_value *reply, view asked) {
    const bool moved = c->patched || differs(&c->map, &c->fresh);
    c->known.clear();
    for (size_t i = 0; i < reply->count; i++)
        for (size_t k = 2; k < reply->elements[i].count; k++)
            remember(c, &reply->elements[i].elements[k], asked);
    c->patched = false;
    std::swap(c->map, c->fresh);
    if (!bind_links(c)) { // many nodes have come and gone within seconds
        cluster_map_clear(&c->map);
        c->owners.clear();
    }
    check(c, "slots have no owner that can be reached");
    if (moved && !c->closing) c->events.moved(c->context);
    cluster_flush(c);
}

static void on_slots(redis *r, const redis_value *reply, void *context, uint64_t) {
    auto *c = static_cast<redis_cluster *>(context);
    c->asking = false;
    if (c->closing) return;
    set_refresh(c, c->ready && !c->unsettled ? refresh_idle_ms : refresh_min_ms);
    if (reply == nullptr) return;
    const std::string asked = redis_at(r)->host;
    error e;
    if (!read_map(c, reply, asked, &e)) {
        static log_limit limit;
        uint64_t held = 0;
        if (log_limit_pass(&limit, &held))
            log_warn("redis cluster: %s does not tell who has which slots: %s", redis_describe(redis_at(r)).c_str(),
                     e.text);
        if (r == c->seed) redis_reconnect(r, "another node is asked");
        return;
    }
    apply(c, reply, asked);
    if (c->ready && !c->unsettled) set_refresh(c, refresh_idle_ms);
    if (r != c->seed) return;
    redis_free(c->seed); // the links know more than it
    c->seed = nullptr;
}

static void ask(redis_cluster *c, redis *whom) {
    const view words[] = {"CLUSTER", "SLOTS"};
    if (!redis_command(whom, 2, words, on_slots, c, 0)) return;
    c->asking = true;
    c->asked_ms = redis_now_ms();
    c->counters.refreshes++;
}

// ---------------------------------------------------------------- the seed

static void on_seed_ready(redis *r, void *context) {
    auto *c = static_cast<redis_cluster *>(context);
    if (!c->asking) ask(c, r);
}

// Another one at each attempt: as configured, then all that were known.
static bool where_seed(void *context, std::string *host, uint16_t *port) {
    auto *c = static_cast<redis_cluster *>(context);
    const size_t i = c->next_seed++ % (c->known.size() + 1);
    *host = i == 0 ? c->settings.host : c->known[i - 1].host;
    *port = i == 0 ? c->settings.port : c->known[i - 1].port;
    return true;
}

static void start_seed(redis_cluster *c) {
    static const redis_events events = {on_seed_ready, nullptr, nullptr};
    if (c->seed != nullptr) {
        if (redis_ready(c->seed)) ask(c, c->seed);
        return;
    }
    c->seed = redis_new(c->on, &c->settings, "cluster seed", &events, c);
    if (c->seed == nullptr) fatal("redis: no link to a cluster could be made"); // the config was checked
    redis_locate(c->seed, where_seed, c);
}

static void on_refresh(later *refresh) {
    auto *c = BELFRY_CONTAINER_OF(refresh, redis_cluster, refresh);
    sweep_links(c);
    set_refresh(c, c->ready && !c->unsettled ? refresh_idle_ms : refresh_min_ms);
    if (c->asking) return; // PING ends a link that does not answer
    // Another one at each question: one that is cut off has an old map.
    for (size_t i = 0; i < c->links.size(); i++) {
        redis *candidate = c->links[c->next_asked++ % c->links.size()]->link;
        if (redis_ready(candidate)) return ask(c, candidate);
    }
    start_seed(c);
}

// ---------------------------------------------------------------- where others go

const cluster_map *redis_cluster_map(const redis_cluster *c) {
    return &c->map;
}

const cluster_node *redis_cluster_owner(const redis_cluster *c, uint16_t slot) {
    const uint8_t index = c->map.owner[slot];
    return index == cluster_nobody ? nullptr : &c->map.nodes[index];
}

bool redis_cluster_where(void *context, std::string *host, uint16_t *port) {
    auto *place = static_cast<redis_cluster_place *>(context);
    const redis_cluster *c = place->cluster;
    const cluster_node *at = nullptr;
    if (!place->anywhere)
        at = redis_cluster_owner(c, place->slot);
    else if (!c->map.nodes.empty())
        at = &c->map.nodes[place->next++ % c->map.nodes.size()];
    if (at == nullptr) return false;
    *host = at->host;
    *port = at->port;
    return true;
}

bool redis_cluster_misplaced(const redis_cluster_place *place, const redis *link) {
    const redis_settings *at = redis_at(link);
    for (size_t i = 0; place->anywhere && i < place->cluster->map.nodes.size(); i++)
        if (place->cluster->map.nodes[i].port == at->port && place->cluster->map.nodes[i].host == at->host)
            return false;
    if (place->anywhere) return true;
    const cluster_node *owner = redis_cluster_owner(place->cluster, place->slot);
    return owner == nullptr || owner->port != at->port || owner->host != at->host;
}

// ---------------------------------------------------------------- life

redis_cluster *redis_cluster_new(loop *on, const redis_settings *seed, const redis_cluster_events *events,
                                 void *context) {
    auto *c = new redis_cluster{};
    c->on = on;
    c->settings = *seed;
    c->events = *events;
    c->context = context;
    c->waits.resize(cluster_slot_count);
    cluster_map_clear(&c->map);
    later_init(&c->refresh, &on->laters, on_refresh);
    later_init(&c->flush, &on->laters, cluster_on_flush);
    set_refresh(c, 0);
    return c;
}

void redis_cluster_free(redis_cluster *c) {
    if (c == nullptr) return;
    c->closing = true;
    c->ready = false;
    later_cancel(&c->refresh);
    later_cancel(&c->flush);
    redis_free(c->seed);
    for (cluster_link *l : c->links)
        redis_end(l->link);
    cluster_traffic_end(c);
    for (cluster_link *l : c->links)
        delete l;
    delete c;
}

bool redis_cluster_ready(const redis_cluster *c) {
    return c->ready;
}

redis_cluster_counters redis_cluster_count(const redis_cluster *c) {
    return c->counters;
}

} // namespace belfry
