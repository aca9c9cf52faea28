// Feeds: the order of a room's messages. Main thread.
#include "relay/feed.h"

#include "base/hash.h"
#include "relay/feed_joiners.h"

#include <algorithm>

namespace belfry {

static uint64_t now(const feed *f) {
    return f->of->clock->monotonic_ms;
}

// ---------------------------------------------------------------- handing over

static void gap(feed *f) {
    f->of->count.gaps++;
    f->of->host->gap(f->of->context, f);
}

static void discard(feed *f, message *m) {
    f->of->host->discard(f->of->context, m);
}

static void discard_held(feed *f) {
    for (message *m : f->held)
        discard(f, m);
    f->held.clear();
}

// What comes next follows on `at`; members are told that something was skipped.
static void jump(feed *f, const position *at) {
    feed_cache_clear(f);
    f->at = *at;
    f->mark = 0;
    f->known = true;
    gap(f);
}

static position before(const position *p) {
    position at = *p;
    at.offset--;
    return at;
}

// Tells two messages of the same offset apart, well enough and at a bounded price.
static uint64_t mark_of(const message *m) {
    return (hash_bytes(m->payload.substr(0, 256)) ^ m->payload.size() ^ m->time_ms ^ m->sequence << 20) | 1;
}

static void give(feed *f, message *m) {
    f->at = m->at;
    f->mark = f->of->cache_budget ? mark_of(m) : 0; // the memory broker's history does not change
    feed_cache_push(f, m);
    f->of->host->hand_over(f->of->context, f, m);
}

// Gives what was held and follows on `at`.
static void drain_held(feed *f) {
    size_t n = 0;
    for (; n < f->held.size() && f->held[n]->at.offset <= f->at.offset + 1; n++) {
        if (f->held[n]->at.offset <= f->at.offset)
            discard(f, f->held[n]);
        else
            give(f, f->held[n]);
    }
    if (!n) return;
    f->held.erase(f->held.begin(), f->held.begin() + static_cast<ptrdiff_t>(n));
    f->until_ms = f->held.empty() ? 0 : now(f) + feed_wait_ms; // for the next hole
}

// What is missing before the first held one is not to be had.
static void skip_hole(feed *f) {
    if (f->held.empty()) return;
    position at = before(&f->held.front()->at);
    jump(f, &at);
    drain_held(f);
}

// Too many bytes of them stop the reading from the broker.
static void charge(message *m) {
    if (!m->in_flight) message_set_in_flight(m);
}

static void hold(feed *f, message *m) {
    if (f->held.size() == feed_held_max) skip_hole(f);
    auto at = std::lower_bound(f->held.begin(), f->held.end(), m->at.offset,
                               [](const message *a, uint64_t offset) { return a->at.offset < offset; });
    if (at != f->held.end() && (*at)->at.offset == m->at.offset) {
        f->of->count.duplicates++;
        return discard(f, m);
    }
    charge(m);
    if (f->held.empty()) f->until_ms = now(f) + feed_wait_ms;
    f->held.insert(at, m);
}

// ---------------------------------------------------------------- messages

// A message of another epoch: the room began again.
static void begin_epoch(feed *f, const message *m) {
    position start = m->at;
    start.offset = 0;
    discard_held(f);
    f->until_ms = 0;
    f->check = false;
    position behind = before(&m->at);
    if (f->at.offset == 0 && behind.offset == 0) // nothing had been published before
        f->at = start;
    else
        jump(f, &behind);
}

// History went back behind what was handed over: a fail-over to a replica that was behind, say. Its offsets are given
// out again, to other messages. Its new epoch is read at once: until it is known, who joins with an offset of the old
// one would be taken for somebody who has seen what has it now.
static void went_back(feed *f, const position *to) {
    position seen = f->at;
    f->of->host->renew(f->of->context, f->room, &seen);
    discard_held(f);
    f->until_ms = 0;
    f->check = true;
    f->reading = feed_read::none; // a page that was asked for before names the old epoch
    jump(f, to);
}

// Whether a message of an offset that was handed over is the one that had it; yes where nobody knows any more.
static bool seen_before(const feed *f, const message *m) {
    if (m->at.offset == f->at.offset && f->mark) return mark_of(m) == f->mark;
    const message *other = feed_cache_find(f, m->at.offset);
    return !other || mark_of(other) == mark_of(m);
}

static void accept(feed *f, message *m) {
    if (!f->known) {
        position at = before(&m->at);
        jump(f, &at);
    } else if (position_none(&f->at)) {
        f->at = m->at;
        f->at.offset = 0;
    } else if (!position_same_epoch(&f->at, &m->at)) {
        begin_epoch(f, m);
    }
    if (f->check) return hold(f, m); // until it is known whether it follows on what was handed over
    if (m->at.offset <= f->at.offset && !seen_before(f, m)) {
        position at = before(&m->at);
        went_back(f, &at);
        return hold(f, m);
    }
    if (m->at.offset <= f->at.offset) {
        f->of->count.duplicates++;
        return discard(f, m);
    }
    if (m->at.offset > f->at.offset + 1) {
        hold(f, m);
        return drain_held(f); // where the hole before it was skipped to make room
    }
    give(f, m);
    drain_held(f);
}

// ---------------------------------------------------------------- reading

static feed_read needed(const feed *f) {
    if (!f->live) return !f->subscribed ? feed_read::none : f->asks.empty() ? feed_read::position : feed_read::cache;
    if (f->check || !f->held.empty()) return feed_read::hole;
    return feed_asks_read(f) ? feed_read::cache : feed_read::none;
}

static void arm(feed *f) {
    list_remove(&f->timed);
    if (f->until_ms || !f->asks.empty()) list_push_back(&f->of->timed, &f->timed);
}

// Sends the read that is needed now, one at a time. The answer may come inside the call.
static void pursue(feed *f) {
    arm(f);
    if (f->reading != feed_read::none) return;
    feed_read why = needed(f);
    list_remove(&f->unread);
    if (why == feed_read::none) return;
    uint64_t after = why == feed_read::hole ? f->at.offset - (f->at.offset != 0) // with the last one, to know it again
                     : why == feed_read::cache ? feed_asks_after(f)
                                               : 0;
    uint32_t limit = why == feed_read::position || (f->live && !f->known) ? f->of->cache_budget != 0
                     : why == feed_read::hole                             ? f->limit + 1
                                                                          : f->limit;
    f->reading = why;
    f->tag = ++f->of->last_tag;
    f->asked_at = f->at;
    f->of->count.reads++;
    if (f->of->host->read(f->of->context, f->room, after, limit, f->tag)) return;
    f->of->count.reads--;
    f->reading = feed_read::none;
    list_push_back(&f->of->unread, &f->unread);
}

// From here on the room's messages go to the workers; what came before is looked at now.
static void go_live(feed *f) {
    std::vector<message *> came;
    came.swap(f->held);
    f->live = true;
    f->until_ms = 0;
    f->of->host->live(f->of->context, f);
    for (message *m : came)
        accept(f, m);
}

// The last message is the one at `at`: after an outage it is to be known again, though it was not handed over here.
static void mark_last(feed *f, const history_page *page) {
    if (!f->of->cache_budget || !page->count) return;
    const message *last = page->messages[page->count - 1];
    if (memcmp(&last->at, &f->at, sizeof f->at) == 0) f->mark = mark_of(last);
}

static void first_page(feed *f, const history_page *page, feed_read why) {
    f->known = !page->failed;
    if (f->known) f->at = page->top;
    if (f->known) mark_last(f, page);
    if (f->known && why == feed_read::cache) feed_cache_fill(f, page);
    go_live(f);
}

// The messages of the page that are missing; the copy that came by itself, if it did, has somebody who waits for it.
static void fill(feed *f, const history_page *page) {
    for (size_t i = 0; i < page->count; i++) {
        message *m = page->messages[i];
        drain_held(f);
        if (m->at.offset > f->at.offset + 1) { // history is not long enough
            position at = before(&m->at);
            jump(f, &at);
            drain_held(f);
        }
        if (m->at.offset <= f->at.offset) continue;
        f->of->count.filled++;
        give(f, message_ref(m));
    }
    drain_held(f);
    if (page->top.offset > f->at.offset) {
        jump(f, &page->top);
        drain_held(f);
    }
}

// The page tells of another epoch than `at`'s. It is the newer one if `at` has not changed since it was asked for; if
// it has, nobody knows, and it is asked again.
static void other_epoch(feed *f, const history_page *page) {
    if (!position_same_epoch(&f->asked_at, &f->at)) return;
    f->check = false;
    discard_held(f);
    f->until_ms = 0;
    if (f->at.offset == 0 && f->known) {
        f->at = page->top;
        f->at.offset = 0;
        if (page->whole) return fill(f, page);
    }
    jump(f, &page->top);
}

// By its length, or by another message in the last one's place.
static bool tells_of_going_back(const feed *f, const history_page *page) {
    if (position_same_epoch(&f->asked_at, &f->at) && page->top.offset < f->asked_at.offset) return true;
    for (size_t i = 0; f->mark && i < page->count && page->messages[i]->at.offset <= f->at.offset; i++)
        if (page->messages[i]->at.offset == f->at.offset) return mark_of(page->messages[i]) != f->mark;
    return false;
}

static void take_page(feed *f, const history_page *page, feed_read why) {
    if (!f->known) {
        f->check = false;
        return jump(f, &page->top);
    }
    if (position_none(&f->at)) {
        f->at = page->top;
        f->at.offset = 0;
    }
    if (!position_same_epoch(&page->top, &f->at)) return other_epoch(f, page);
    if (tells_of_going_back(f, page)) return went_back(f, &page->top);
    if (why == feed_read::cache) return feed_cache_fill(f, page);
    f->check = false;
    fill(f, page);
    bool moved = memcmp(&f->asked_at, &f->at, sizeof f->at) != 0;
    if (!moved) skip_hole(f); // history has not got what is missing either
}

// History can't be read: what may be missing is told.
static void go_on_without(feed *f) {
    bool told = !f->held.empty() && f->held.front()->at.offset > f->at.offset + 1;
    if (f->check && !told) gap(f);
    f->check = false;
    drain_held(f);
    skip_hole(f);
}

void feed_page(feed *f, const history_page *page) {
    feed_read why = f->reading;
    if (why == feed_read::none || page->tag != f->tag) return; // it was given up
    f->reading = feed_read::none;
    if (!f->live)
        first_page(f, page, why);
    else if (!page->failed) {
        take_page(f, page, why);
        mark_last(f, page);
    } else if (why == feed_read::hole)
        go_on_without(f);
    feed_answer_asks(f, why == feed_read::cache);
    feed_cache_settle(f);
    pursue(f);
}

// ---------------------------------------------------------------- what the node calls

void feed_subscribed(feed *f, bool readable) {
    if (f->live || f->subscribed) return;
    f->subscribed = true;
    if (readable)
        f->until_ms = now(f) + feed_wait_ms;
    else
        go_live(f);
    feed_answer_asks(f, true);
    pursue(f);
}

void feed_message(feed *f, message *m) {
    if (position_none(&m->at) || !m->at.offset) {
        // Who comes and goes is told anew by whoever asks for the members.
        if (m->what == message_data) f->bare = true;
        return f->of->host->hand_over(f->of->context, f, m);
    }
    if (!f->live) {
        if (f->held.size() == feed_held_max) { // the first read is behind it
            discard(f, f->held.front());
            f->held.erase(f->held.begin());
        }
        charge(m);
        f->held.push_back(m);
        return;
    }
    accept(f, m);
    if (f->asks.empty() && f->held.empty() && !f->until_ms) return;
    feed_answer_asks(f, false);
    pursue(f);
}

// Nothing has changed for those who wait already, and they may be many thousands: none of them is looked at again.
void feed_ask_since(feed *f, const feed_ask *ask) {
    std::vector<feed_ask> waiting;
    waiting.swap(f->asks);
    f->asks.push_back(*ask);
    f->asks.back().until_ms = now(f) + feed_wait_ms;
    feed_answer_asks(f, false);
    bool waits = !f->asks.empty(), reads = !f->live || f->check || feed_asks_read(f);
    if (waits) waiting.push_back(f->asks.back());
    waiting.swap(f->asks);
    if (waits && reads)
        pursue(f);
    else
        arm(f);
}

// Many rooms at once after an outage: each turn sends some of the reads.
void feed_check(feed *f) {
    if (!f->live) return;
    if (f->bare) gap(f);
    discard_held(f); // the read brings it
    f->until_ms = 0;
    f->reading = feed_read::none; // a page that was asked for before tells nothing
    f->check = true;
    list_remove(&f->unread);
    list_push_back(&f->of->unread, &f->unread);
}

static void give_up(feed *f) {
    f->reading = feed_read::none; // a page that comes later is nobody's
    f->until_ms = 0;
    if (f->live)
        go_on_without(f);
    else
        go_live(f);
    feed_answer_asks(f, true);
    pursue(f);
}

static void look_at_the_late(feeds *all, uint64_t now_ms) {
    if (now_ms < all->looked_ms + feed_deadline_ms) return;
    all->looked_ms = now_ms;
    link late;
    list_init(&late);
    list_splice(&late, &all->timed);
    while (!list_empty(&late)) {
        feed *f = BELFRY_CONTAINER_OF(late.next, feed, timed);
        list_remove(&f->timed);
        feed_expire_asks(f, now_ms);
        if (f->until_ms && f->until_ms <= now_ms) give_up(f);
        arm(f);
    }
}

void feeds_turn(feeds *all) {
    look_at_the_late(all, all->clock->monotonic_ms);
    for (size_t n = 0; n < feed_reads_a_turn && !list_empty(&all->unread); n++) {
        feed *f = BELFRY_CONTAINER_OF(all->unread.next, feed, unread);
        pursue(f);
        if (all->unread.previous == &f->unread) return; // the broker takes no more now
    }
}

// ---------------------------------------------------------------- life

void feed_settle(feed *f) {
    f->reading = feed_read::none;
    if (f->subscribed && !f->live) go_live(f);
    f->check = false;
    drain_held(f);
    while (!f->held.empty())
        skip_hole(f);
    feed_refuse_asks(f);
}

void feeds_init(feeds *all, const feed_host *host, void *context, const struct clock *clock, uint64_t cache_budget) {
    all->host = host;
    all->context = context;
    all->clock = clock;
    all->cache_budget = cache_budget;
    for (link *l : {&all->caching, &all->timed, &all->unread})
        list_init(l);
}

feed *feed_new(feeds *all, view room, uint32_t limit, void *owner) {
    auto *f = new feed{};
    f->of = all;
    f->limit = limit;
    f->owner = owner;
    f->room = room;
    for (link *l : {&f->caching, &f->timed, &f->unread})
        list_init(l);
    return f;
}

void feed_free(feed *f) {
    discard_held(f);
    feed_cache_clear(f);
    list_remove(&f->timed);
    list_remove(&f->unread);
    delete f;
}

} // namespace belfry
