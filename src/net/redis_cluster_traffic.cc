// Commands of a cluster: to the owner of their slot, after redirections to another, again after a wait. Main thread,
// see redis_cluster.h.
#include "net/redis_cluster_impl.h"
#include "net/redis_link.h"

namespace belfry {

static constexpr uint8_t redirects_max = 5;
static constexpr uint64_t wait_max_ms = 4000; // for TRYAGAIN, CLUSTERDOWN and links that are being made
static constexpr uint64_t wait_first_ms = 10; // then doubling, to:
static constexpr uint64_t wait_between_ms = 200;
static constexpr uint64_t flush_ms = 10;       // how often what waits is looked at
static constexpr size_t bytes_max = 64u << 20; // of all commands' words
static constexpr size_t count_max = 1u << 20;

static void finish(cluster_command *m, redis *r, const redis_value *reply) {
    redis_cluster *c = m->cluster;
    c->bytes -= m->bytes.size();
    c->count--;
    if (m->reply != nullptr) m->reply(r, reply, m->context, m->tag);
    delete m;
}

static void wait(cluster_command *m, uint64_t ms) {
    redis_cluster *c = m->cluster;
    m->due_ms = redis_now_ms() + ms;
    if (m->until_ms == 0) m->until_ms = redis_now_ms() + wait_max_ms;
    c->waiting.push_back(m);
    c->waits[m->slot]++;
    if (!later_posted(&c->flush)) later_post_in(&c->flush, flush_ms);
}

static void on_answer(redis *r, const redis_value *reply, void *context, uint64_t tag);

// False where the link takes nothing.
static bool send(cluster_command *m, cluster_link *to, bool asking) {
    std::vector<view> argv;
    view rest = m->bytes;
    for (size_t size : m->sizes) {
        argv.push_back(rest.substr(0, size));
        rest.remove_prefix(size);
    }
    const view word = "ASKING"; // holds for the next command on that connection; a link keeps the order
    if (asking && !redis_command(to->link, 1, &word, nullptr, nullptr, 0)) return false;
    if (!redis_command(to->link, static_cast<int>(argv.size()), argv.data(), on_answer, m, 0)) return false;
    return true;
}

static void again_later(cluster_command *m) {
    uint64_t ms = wait_first_ms << (m->retries < 8 ? m->retries : 8);
    if (m->retries < UINT8_MAX) m->retries++;
    m->cluster->counters.retries++;
    wait(m, ms < wait_between_ms ? ms : wait_between_ms);
}

// To where an error has pointed; what was pointed at too often is told the error.
static bool redirect(cluster_command *m, const cluster_redirect *where) {
    redis_cluster *c = m->cluster;
    if (where->advice == cluster_advice::none) return false;
    if (where->advice == cluster_advice::try_again) {
        redis_cluster_refresh(c);
        if (m->until_ms != 0 && redis_now_ms() >= m->until_ms) return false;
        again_later(m);
        return true;
    }
    if (++m->redirects > redirects_max) return false;
    c->counters.redirects++;
    const bool asking = where->advice == cluster_advice::ask;
    cluster_link *to = asking ? cluster_link_to(c, &where->node) : cluster_slot_moved(c, where->slot, &where->node);
    if (to == nullptr) return false;
    if (!redis_ready(to->link) || (!asking && c->waits[m->slot] != 0) || !send(m, to, asking)) again_later(m);
    return true;
}

static void on_answer(redis *r, const redis_value *reply, void *context, uint64_t) {
    auto *m = static_cast<cluster_command *>(context);
    redis_cluster *c = m->cluster;
    if (reply != nullptr && reply->type == redis_type::error && !c->closing) {
        const cluster_redirect where = cluster_advice_of(reply->text, redis_at(r)->host);
        if (redirect(m, &where)) return;
    }
    finish(m, r, reply);
}

// The owner's link; null where it can't take a command now.
static cluster_link *owner_of(const redis_cluster *c, uint16_t slot) {
    const uint8_t index = c->map.owner[slot];
    if (index == cluster_nobody) return nullptr;
    cluster_link *l = c->owners[index];
    return redis_ready(l->link) ? l : nullptr;
}

void cluster_flush(redis_cluster *c) {
    std::deque<cluster_command *> now;
    now.swap(c->waiting);
    std::vector<bool> held(cluster_slot_count); // an earlier command of the slot has to wait on
    const uint64_t ms = redis_now_ms();
    for (cluster_command *m : now) {
        c->waits[m->slot]--;
        if (ms >= m->until_ms) {
            finish(m, nullptr, nullptr);
            continue;
        }
        cluster_link *to = owner_of(c, m->slot);
        if (!held[m->slot] && ms >= m->due_ms && to != nullptr && send(m, to, false)) continue;
        held[m->slot] = true;
        c->waits[m->slot]++;
        c->waiting.push_back(m);
    }
}

void cluster_on_flush(later *flush) {
    auto *c = BELFRY_CONTAINER_OF(flush, redis_cluster, flush);
    cluster_flush(c);
    if (!c->waiting.empty()) later_post_in(&c->flush, flush_ms);
}

void cluster_traffic_end(redis_cluster *c) {
    std::deque<cluster_command *> now;
    now.swap(c->waiting);
    for (cluster_command *m : now)
        finish(m, nullptr, nullptr);
}

bool redis_cluster_command(redis_cluster *c, view key, int argc, const view *argv, redis_reply reply, void *context,
                           uint64_t tag) {
    size_t bytes = 0;
    for (int i = 0; i < argc; i++)
        bytes += argv[i].size();
    if (!c->ready || c->closing || argc < 1 || c->count >= count_max || c->bytes + bytes > bytes_max) return false;
    auto *m = new cluster_command{c, {}, {}, reply, context, tag, cluster_slot(key), 0, 0, 0, 0};
    m->bytes.reserve(bytes);
    m->sizes.reserve(static_cast<size_t>(argc));
    for (int i = 0; i < argc; i++) {
        m->bytes.append(argv[i]);
        m->sizes.push_back(argv[i].size());
    }
    c->bytes += bytes;
    c->count++;
    // Behind what waits already, so that a slot's commands stay in order.
    cluster_link *to = owner_of(c, m->slot);
    if (c->waits[m->slot] != 0 || to == nullptr || !send(m, to, false)) wait(m, 0);
    return true;
}

} // namespace belfry
