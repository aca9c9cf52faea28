// Joiners of a room with history, and the cache that they are served from: 1,000 who come back at once are one read.
// Main thread.
#include "relay/feed_joiners.h"

#include "relay/history.h"

namespace belfry {

static size_t cache_size(const feed *f) {
    return f->cache.size() - f->cache_first;
}

static void drop_first(feed *f) {
    feed_cached *c = &f->cache[f->cache_first++];
    f->of->cache_bytes -= c->charge;
    message_unref(c->what);
}

// Gone entries stay in front until they are half of it: a push is one step on average.
static void compact(feed *f) {
    if (f->cache_first < 64 || f->cache_first < f->cache.size() / 2) return;
    f->cache.erase(f->cache.begin(), f->cache.begin() + static_cast<ptrdiff_t>(f->cache_first));
    f->cache_first = 0;
}

void feed_cache_clear(feed *f) {
    while (cache_size(f))
        drop_first(f);
    f->cache = {};
    f->cache_first = 0;
    f->cache_whole = false;
    list_remove(&f->caching);
}

const message *feed_cache_find(const feed *f, uint64_t offset) {
    uint64_t back = f->at.offset - offset;
    return offset <= f->at.offset && back < cache_size(f) ? f->cache[f->cache.size() - 1 - back].what : nullptr;
}

static void keep_to_budget(feeds *all) {
    while (all->cache_bytes > all->cache_budget && !list_empty(&all->caching))
        feed_cache_clear(BELFRY_CONTAINER_OF(all->caching.next, feed, caching));
}

void feed_cache_settle(feed *f) {
    while (cache_size(f) > f->limit)
        drop_first(f);
    keep_to_budget(f->of);
}

static feed_cached cached(feed *f, message *m) {
    uint32_t charge = history_charge(m);
    f->of->cache_bytes += charge;
    return {message_ref(m), charge};
}

void feed_cache_push(feed *f, message *m) {
    feeds *all = f->of;
    if (!all->cache_budget) return;
    f->cache.push_back(cached(f, m));
    while (cache_size(f) > f->limit)
        drop_first(f);
    compact(f);
    list_remove(&f->caching);
    list_push_back(&all->caching, &f->caching);
    keep_to_budget(all);
}

void feed_cache_fill(feed *f, const history_page *page) {
    uint64_t first = f->at.offset - cache_size(f) + 1; // of what is there
    std::vector<feed_cached> more;
    if (!position_same_epoch(&page->top, &f->at)) return;
    for (size_t i = 0; i < page->count && page->messages[i]->at.offset < first; i++)
        more.push_back(cached(f, page->messages[i]));
    // All that is kept, but for what came since; a hole between the two can only be where the cache was given up since.
    if (!more.empty() && more.back().what->at.offset + 1 != first) {
        for (feed_cached c : more) {
            f->of->cache_bytes -= c.charge;
            message_unref(c.what);
        }
        return;
    }
    more.insert(more.end(), f->cache.begin() + static_cast<ptrdiff_t>(f->cache_first), f->cache.end());
    f->cache.swap(more);
    f->cache_first = 0;
    f->cache_whole = page->after == 0;
    list_remove(&f->caching);
    list_push_back(&f->of->caching, &f->caching);
}

// ---------------------------------------------------------------- joiners

enum class verdict : uint8_t {
    recovered,
    lost,   // it is not to be had
    read,   // history may have it
    behind, // the client has got from another node what is still on its way to this one; not where there are no others
};

static verdict judge(const feed *f, const feed_ask *ask) {
    if (!f->known || position_none(&f->at) || !position_same_epoch(&f->at, &ask->since)) return verdict::lost;
    if (ask->since.offset > f->at.offset) return f->of->cache_budget ? verdict::behind : verdict::lost;
    uint64_t missed = f->at.offset - ask->since.offset;
    if (missed <= cache_size(f)) return verdict::recovered; // or nothing was missed
    return missed > f->limit || f->cache_whole ? verdict::lost : verdict::read;
}

// False where the payloads alone are more than the client's queue takes: none then, never half.
static bool slice(feed *f, const feed_ask *ask) {
    uint64_t missed = f->at.offset - ask->since.offset, bytes = 0;
    f->of->slice.clear();
    for (size_t i = f->cache.size() - missed; i < f->cache.size(); i++) {
        bytes += f->cache[i].what->payload.size();
        if (bytes > ask->room_for) return false;
        f->of->slice.push_back(f->cache[i].what);
    }
    return true;
}

static void answer(feed *f, const feed_ask *ask, bool recovered) {
    feed_answer a = {};
    if (recovered && slice(f, ask)) a = {true, f->of->slice.data(), f->of->slice.size()};
    (a.recovered ? f->of->count.recovered : f->of->count.not_recovered)++;
    f->of->host->answer(f->of->context, f, ask, &a);
}

void feed_answer_asks(feed *f, bool final) {
    if (!f->live || f->check || f->asks.empty()) return;
    size_t left = 0;
    for (size_t i = 0; i < f->asks.size(); i++) {
        feed_ask ask = f->asks[i];
        verdict v = judge(f, &ask);
        if (v == verdict::behind || (v == verdict::read && !final))
            f->asks[left++] = ask;
        else
            answer(f, &ask, v == verdict::recovered);
    }
    f->asks.resize(left);
}

void feed_refuse_asks(feed *f) {
    std::vector<feed_ask> asks;
    asks.swap(f->asks);
    for (const feed_ask &ask : asks)
        answer(f, &ask, false);
}

void feed_expire_asks(feed *f, uint64_t now_ms) {
    if (!f->live) return; // the first read has its own time
    size_t late = 0;      // in the order of coming, so of time
    while (late < f->asks.size() && f->asks[late].until_ms <= now_ms)
        answer(f, &f->asks[late++], false);
    f->asks.erase(f->asks.begin(), f->asks.begin() + static_cast<ptrdiff_t>(late));
}

bool feed_asks_read(const feed *f) {
    for (const feed_ask &ask : f->asks)
        if (judge(f, &ask) == verdict::read) return true;
    return false;
}

// With a cache all that is there is read, so that who asks next needs no read; without one, what the joiner needs.
uint64_t feed_asks_after(const feed *f) {
    if (f->of->cache_budget) return 0;
    uint64_t after = f->at.offset;
    for (const feed_ask &ask : f->asks)
        if (judge(f, &ask) == verdict::read && ask.since.offset < after) after = ask.since.offset;
    return after;
}

} // namespace belfry
