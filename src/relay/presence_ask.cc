// Who asks for a room's members: one read answers all who ask within 100 ms, and a read never comes before what this
// node's connections had done when it was asked for. Main thread.
#include "relay/presence_room.h"

namespace belfry {

static void finish(presence *p, const presence_asker *a, const presence_page *page) {
    if (!page) p->count.asks_refused++;
    a->answer(a, page);
}

void presence_forget_page(presence_room *r) {
    if (r->page.members) frame_unref(r->page.members);
    r->page = {};
}

// The oldest `n`; the others wait on.
static void answer_first(presence *p, presence_room *r, size_t n, const presence_page *page) {
    std::vector<presence_asker> now(r->waiters.begin(), r->waiters.begin() + static_cast<ptrdiff_t>(n));
    r->waiters.erase(r->waiters.begin(), r->waiters.begin() + static_cast<ptrdiff_t>(n));
    if (r->waiters.empty()) r->waiters.shrink_to_fit();
    p->waiting -= n;
    r->asked_ms = p->now_ms;
    for (const presence_asker &a : now)
        finish(p, &a, page);
}

void presence_refuse_waiters(presence *p, presence_room *r) {
    if (!r->waiters.empty()) answer_first(p, r, r->waiters.size(), nullptr);
}

static bool fresh(const presence *p, const presence_room *r) {
    return r->page.members && !r->page_stale && !r->reading && p->now_ms < r->read_ms + presence_page_ms;
}

void presence_ask(presence *p, view room, const presence_asker *a) {
    p->count.asked++;
    if (p->waiting >= presence_waiting_max || !p->store->ops->ready(p->store)) return finish(p, a, nullptr);
    presence_room *r = presence_room_of(p, room);
    if (fresh(p, r)) return finish(p, a, &r->page);
    if (r->waiters.empty()) {
        r->asked_ms = p->now_ms;
        r->read_after = r->queue.size();
    }
    r->waiters.push_back(*a);
    p->waiting++;
    if (list_empty(&r->asking)) list_push_back(&p->asking, &r->asking);
}

// A batch under way is no hindrance: what is sent for one room is carried out in order.
static bool may_read(const presence *p, const presence_room *r) {
    return !r->reading && !r->read_after && (!r->read_ms || p->now_ms >= r->read_ms + presence_page_ms);
}

static void read(presence *p, presence_room *r) {
    p->count.reads++;
    presence_forget_page(r);
    r->read_ms = p->now_ms ? p->now_ms : 1;
    r->reading = true;
    r->page_stale = false;
    r->answering = r->waiters.size();
    if (!p->store->ops->read(p->store, r)) presence_read(p, r, nullptr);
}

// Who came while it was read is answered too, unless something has changed here since.
void presence_read(presence *p, presence_room *r, const presence_page *page) {
    size_t n = r->page_stale && r->answering < r->waiters.size() ? r->answering : r->waiters.size();
    r->reading = false;
    if (page) {
        r->page = *page;
        frame_ref(page->members);
    }
    r->read_after = r->queue.size();
    answer_first(p, r, n, page);
    if (list_empty(&r->asking)) list_push_back(&p->asking, &r->asking); // the page is forgotten in time
}

void presence_answer_waiting(presence *p, uint64_t now_ms) {
    link now;
    list_init(&now);
    list_splice(&now, &p->asking);
    while (!list_empty(&now)) {
        presence_room *r = BELFRY_CONTAINER_OF(now.next, presence_room, asking);
        list_remove(&r->asking);
        if (!r->waiters.empty() && now_ms >= r->asked_ms + presence_ask_timeout_ms) presence_refuse_waiters(p, r);
        if (!r->waiters.empty() && may_read(p, r)) read(p, r);
        if (now_ms >= r->read_ms + presence_page_ms) presence_forget_page(r);
        if (r->waiters.empty() && !r->page.members)
            presence_release(p, r);
        else if (list_empty(&r->asking))
            list_push_back(&p->asking, &r->asking);
    }
}

} // namespace belfry
