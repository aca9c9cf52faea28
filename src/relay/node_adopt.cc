// A reload's part of the node. Main thread.
#include "relay/adoption.h"
#include "relay/broker_memory.h"
#include "relay/node_impl.h"

namespace belfry {

// ---------------------------------------------------------------- upstreams

static int32_t find_upstream(const relay_settings *settings, const std::string &name) {
    int32_t retired = -1;
    for (size_t i = 0; i < settings->upstreams.size(); i++) {
        if (settings->upstreams[i].name != name) continue;
        if (!settings->upstreams[i].retired) return static_cast<int32_t>(i);
        retired = static_cast<int32_t>(i);
    }
    return retired;
}

// An upstream that has not changed stays, with all that is known of its servers; one that has is made anew, and takes
// over what it can. What is replaced stays until the workers have no call on it.
static void adopt_upstreams(node *n, adoption *a) {
    std::vector<bool> stays(n->upstreams.size());
    for (const upstream_settings &u : a->to->upstreams) {
        const int32_t before = find_upstream(a->from, u.name);
        const auto at = static_cast<size_t>(before);
        const bool kept = before >= 0 && !stays[at] && upstream_same(&a->from->upstreams[at], &u);
        upstream_shared *now = kept ? n->upstreams[at] : upstream_shared_new(n->on, &n->deadlines, &u);
        if (kept) {
            stays[at] = true;
            upstream_shared_aim(now, &u);
        } else if (before >= 0) {
            upstream_shared_inherit(now, n->upstreams[at]);
        }
        a->upstreams.push_back(now);
        a->before.push_back(before);
        a->kept.push_back(kept);
    }
    for (size_t i = 0; i < stays.size(); i++) {
        if (stays[i]) continue;
        upstream_shared_retire(n->upstreams[i]);
        n->retiring.push_back(n->upstreams[i]);
    }
    n->upstreams = a->upstreams;
}

void node_bury_upstreams(node *n) {
    std::erase_if(n->retiring, [](upstream_shared *u) {
        const bool over = upstream_shared_over(u);
        if (over) upstream_shared_free(u);
        return over;
    });
}

// ---------------------------------------------------------------- the adoption

static bool keeps_history(void *context, view room) {
    const room_rule *rule = room_rule_find(static_cast<const relay_settings *>(context), room);
    return rule && rule->history;
}

void node_adopt(node *n, const relay_settings *settings, std::vector<std::vector<worker_socket>> sockets,
                void (*done)(void *), void *context) {
    adoption *a = adoption_new(n->settings, settings);
    n->adopting = a;
    n->adopted = done;
    n->adopted_context = context;
    n->adopters = n->worker_count;
    n->settings = settings;
    adopt_upstreams(n, a);
    node_rooms_adopt(n, a);
    presence_adopt(n->presence, settings);
    // What a room goes on with would hide what it has not kept meanwhile: it begins a new epoch.
    broker_memory_forget(n->broker, keeps_history, const_cast<relay_settings *>(settings));
    sockets.resize(n->worker_count);
    for (uint32_t w = 0; w < n->worker_count; w++)
        node_send(n, w, &(new adopt_letter{{letter_type::adopt}, a, std::move(sockets[w])})->head);
}

void node_adopted(node *n) {
    if (--n->adopters) return;
    delete n->adopting;
    n->adopting = nullptr;
    n->adopted(n->adopted_context);
}

} // namespace belfry
