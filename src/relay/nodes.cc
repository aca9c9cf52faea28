// Leases of nodes. Main thread.
#include "relay/nodes.h"

#include "base/log.h"

#include <string.h>
#include <vector>

namespace belfry {

struct known_node {
    char id[node_id_size];
    bool alive;
    bool listed;          // in PREFIXnodes, when it was last read
    uint64_t tidy_due_ms; // not asked to tidy up behind it before
};

struct nodes {
    broker *over; // borrowed
    nodes_command send;
    std::string prefix, own;
    const nodes_events *events; // borrowed
    void *context;              // borrowed
    std::vector<known_node> known;
    nodes_counters count;
    uint64_t now_ms, due_ms;
    uint64_t watching_ms; // since when no question went unanswered; 0: not at all
    bool registered;      // the lease was there
    bool leaving, left;
};

static view id_of(const known_node *k) {
    return view(k->id, node_id_size);
}

static bool is_id(view text) {
    static constexpr view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    return text.size() == node_id_size && text.find_first_not_of(alphabet) == view::npos;
}

// An id is as large as half a tag.
static uint64_t tag_of(view id) {
    uint32_t number = 0;
    memcpy(&number, id.data(), node_id_size);
    return number;
}

static known_node *find(const nodes *n, view id) {
    for (const known_node &k : n->known)
        if (id_of(&k) == id) return const_cast<known_node *>(&k);
    return nullptr;
}

static known_node *tagged(const nodes *n, uint64_t tag) {
    char id[node_id_size];
    auto number = static_cast<uint32_t>(tag);
    memcpy(id, &number, sizeof id);
    return find(n, view(id, sizeof id));
}

static std::string lease_of(const nodes *n, view id) {
    return n->prefix + "node:" + std::string(id);
}

static void broke(nodes *n) {
    n->watching_ms = 0;
}

// `words`: the command; its second is the key.
static bool ask(nodes *n, const std::vector<view> &words, redis_reply reply, uint64_t tag) {
    if (n->send(n->over, words[1], static_cast<int>(words.size()), words.data(), reply, n, tag)) return true;
    broke(n);
    return false;
}

// For commands whose answer says no more than that they were carried out.
static void done(redis *, const redis_value *reply, void *context, uint64_t) {
    if (!reply || reply->type == redis_type::error) broke(static_cast<nodes *>(context));
}

static bool is_number(nodes *n, const redis_value *reply) {
    if (reply && reply->type == redis_type::integer) return true;
    broke(n);
    return false;
}

// ---------------------------------------------------------------- the own lease

static void take_lease(nodes *n) {
    std::string lease = lease_of(n, n->own), ms = std::to_string(nodes_lease_ms);
    ask(n, {"SET", lease, "1", "PX", ms}, done, 0);
}

static void knows_whether_lost(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *n = static_cast<nodes *>(context);
    if (!is_number(n, reply)) return;
    n->count.back++;
    log_warn("nodes: the lease of this node had ended%s",
             reply->integer ? ", another node has taken it for lost" : ": Redis has lost its data");
    if (n->events->back) n->events->back(n->context, reply->integer != 0);
}

static void renewed(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *n = static_cast<nodes *>(context);
    if (!is_number(n, reply) || n->leaving) return;
    if (reply->integer) {
        n->registered = true;
        return;
    }
    std::string mark = lease_of(n, n->own) + ":lost";
    take_lease(n);
    if (n->registered) ask(n, {"DEL", mark}, knows_whether_lost, 0);
    n->registered = true;
}

// ---------------------------------------------------------------- the others

static void on_task(redis *, const redis_value *reply, void *context, uint64_t tag) {
    auto *n = static_cast<nodes *>(context);
    if (!reply || reply->type == redis_type::error) return broke(n);
    known_node *k = tagged(n, tag);
    if (reply->type == redis_type::nil || !k || k->alive || n->leaving) return; // another node has the task
    log_warn("nodes: node %.*s is lost", static_cast<int>(node_id_size), k->id);
    n->count.lost++;
    const known_node copy = *k;
    if (n->events->tidy)
        n->events->tidy(n->context, id_of(&copy));
    else
        nodes_tidied(n, id_of(&copy));
}

static void take_task(nodes *n, known_node *k) {
    if (!n->watching_ms || n->now_ms - n->watching_ms < nodes_lease_ms || n->now_ms < k->tidy_due_ms) return;
    k->tidy_due_ms = n->now_ms + nodes_tidy_ms;
    std::string mark = lease_of(n, id_of(k)) + ":lost", ms = std::to_string(nodes_tidy_ms);
    ask(n, {"SET", mark, n->own, "NX", "PX", ms}, on_task, tag_of(id_of(k)));
}

static void set_alive(nodes *n, known_node *k, bool alive) {
    if (k->alive == alive) return;
    k->alive = alive;
    const known_node copy = *k;
    auto tell = alive ? n->events->joined : n->events->left;
    if (tell) tell(n->context, id_of(&copy));
}

static void on_lease(redis *, const redis_value *reply, void *context, uint64_t tag) {
    auto *n = static_cast<nodes *>(context);
    known_node *k = tagged(n, tag);
    if (!is_number(n, reply) || !k) return;
    if (reply->integer) k->tidy_due_ms = 0;
    set_alive(n, k, reply->integer != 0);
    if (!reply->integer && k->listed) take_task(n, k);
}

static void on_list(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *n = static_cast<nodes *>(context);
    if (!reply || reply->type != redis_type::array) return broke(n);
    if (!n->watching_ms) n->watching_ms = n->now_ms;
    n->count.looks++;
    for (known_node &k : n->known)
        k.listed = false;
    for (size_t i = 0; i < reply->count; i++) {
        view id = reply->elements[i].text;
        if (reply->elements[i].type != redis_type::text || !is_id(id) || id == n->own) continue;
        known_node *k = find(n, id);
        if (!k) {
            if (n->known.size() == nodes_max) continue;
            known_node fresh = {};
            memcpy(fresh.id, id.data(), node_id_size);
            n->known.push_back(fresh);
            k = &n->known.back();
        }
        k->listed = true;
    }
    for (size_t i = 0; i < n->known.size();) { // who left in order stands there no more
        if (n->known[i].listed) {
            std::string lease = lease_of(n, id_of(&n->known[i]));
            ask(n, {"EXISTS", lease}, on_lease, tag_of(id_of(&n->known[i])));
            i++;
            continue;
        }
        set_alive(n, &n->known[i], false);
        n->known.erase(n->known.begin() + static_cast<ptrdiff_t>(i));
    }
}

static void look(nodes *n) {
    std::string lease = lease_of(n, n->own), all = n->prefix + "nodes", ms = std::to_string(nodes_lease_ms);
    ask(n, {"PEXPIRE", lease, ms}, renewed, 0);
    ask(n, {"SADD", all, n->own}, done, 0);
    ask(n, {"SMEMBERS", all}, on_list, 0);
}

// ---------------------------------------------------------------- what others call

nodes *nodes_new(broker *over, nodes_command send, view prefix, view own, const nodes_events *events, void *context) {
    auto *n = new nodes{};
    n->over = over;
    n->send = send;
    n->prefix = prefix;
    n->own = own;
    n->events = events;
    n->context = context;
    return n;
}

void nodes_free(nodes *n) {
    delete n;
}

void nodes_turn(nodes *n, uint64_t now_ms) {
    n->now_ms = now_ms;
    if (n->leaving || now_ms < n->due_ms || !n->over->ops->ready(n->over)) return;
    n->due_ms = now_ms + nodes_look_ms;
    look(n);
}

void nodes_up(nodes *n) {
    broke(n);
    n->due_ms = 0;
}

void nodes_tidied(nodes *n, view id) {
    std::string all = n->prefix + "nodes", mark = lease_of(n, id) + ":lost", ms = std::to_string(nodes_remember_ms);
    n->count.tidied++;
    ask(n, {"SET", mark, n->own, "PX", ms}, done, 0);
    ask(n, {"SREM", all, id}, done, 0);
}

static void on_left(redis *, const redis_value *, void *context, uint64_t) {
    static_cast<nodes *>(context)->left = true;
}

void nodes_leave(nodes *n) {
    n->leaving = true;
    std::string lease = lease_of(n, n->own), all = n->prefix + "nodes";
    ask(n, {"SREM", all, n->own}, done, 0);
    if (!ask(n, {"DEL", lease}, on_left, 0)) n->left = true;
}

bool nodes_has_left(const nodes *n) {
    return n->left;
}

void nodes_each(const nodes *n, void (*visit)(view id, void *context), void *context) {
    for (const known_node &k : n->known)
        if (k.alive) visit(id_of(&k), context);
}

bool nodes_alive(const nodes *n, view id) {
    const known_node *k = find(n, id);
    return k && k->alive;
}

size_t nodes_count(const nodes *n) {
    size_t alive = 0;
    for (const known_node &k : n->known)
        alive += k.alive;
    return alive;
}

nodes_counters nodes_count_of(const nodes *n) {
    return n->count;
}

} // namespace belfry
