// What the tests of feeds share: one feed over a source that the test plays. What the feed does is written down as
// text. One bench at a time, in `bench`.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/feed.h"

#include <string>
#include <utility>

namespace feed_bench {

using namespace belfry;

struct asked_read {
    uint64_t after, tag;
    uint32_t limit;
};

struct bench_state {
    struct feeds all;
    struct clock clock;
    feed *of;
    std::string seen;              // what the feed did
    std::vector<asked_read> reads; // not answered yet
    bool away;                     // reads are not taken
    bool at_once;                  // reads are answered inside the call, from `store`
    std::vector<message *> store;  // counted
    size_t in_flight_max;
};

inline bench_state *bench;

inline constexpr uint32_t limit = 4;

inline message *make(const char *epoch, uint64_t offset, const char *payload) {
    frame *source = frame_copy(payload);
    message_parts parts = {"r", source, frame_view(source), payload_kind::text};
    if (*epoch) assert_true(position_set(&parts.at, epoch, offset));
    parts.time_ms = 1000 + offset;
    message *m = message_new(&parts);
    frame_unref(source);
    return m;
}
inline message *make(const char *epoch, uint64_t offset) {
    return make(epoch, offset, ("m" + std::to_string(offset)).c_str());
}

inline std::string place(const position *p) {
    return position_none(p) ? "-" : std::string(position_epoch(p)) + std::to_string(p->offset);
}
inline void let_go(message *m) {
    if (m->in_flight) message_landed(m);
    message_unref(m);
}

inline void answer_at_once(uint64_t after, uint32_t most, uint64_t tag) {
    history_page page = {"r", after, tag, false, true, {}, nullptr, 0};
    std::vector<message *> found;
    for (message *m : bench->store) {
        page.top = m->at;
        if (m->at.offset > after) found.push_back(m);
    }
    while (found.size() > most) {
        found.erase(found.begin());
        page.whole = false;
    }
    page.messages = found.data();
    page.count = found.size();
    feed_page(bench->of, &page);
}

inline bool on_read(void *, view room, uint64_t after, uint32_t most, uint64_t tag) {
    assert_true(room == "r");
    if (bench->away) return false;
    if (bench->at_once) {
        answer_at_once(after, most, tag);
        return true;
    }
    bench->seen += "read " + std::to_string(after) + " " + std::to_string(most) + "; ";
    bench->reads.push_back({after, tag, most});
    return true;
}
inline void on_renew(void *, view, const position *seen) {
    bench->seen += "renew " + place(seen) + "; ";
}
inline void on_hand_over(void *, feed *f, message *m) {
    assert_true(position_none(&m->at) || memcmp(&f->at, &m->at, sizeof m->at) == 0);
    bench->seen += std::string(m->payload) + "; ";
    let_go(m);
}
inline void on_discard(void *, message *m) {
    bench->seen += "(" + std::string(m->payload) + "); ";
    let_go(m);
}
inline void on_live(void *, feed *f) {
    bench->seen += "live " + place(&f->at) + "; ";
}
inline void on_gap(void *, feed *f) {
    bench->seen += "gap " + place(&f->at) + "; ";
}
inline void on_answer(void *, feed *f, const feed_ask *ask, const feed_answer *a) {
    bench->seen += "answer " + std::to_string(ask->number) + (a->recovered ? " yes" : " no");
    uint64_t offset = ask->since.offset;
    for (size_t i = 0; i < a->count; i++) {
        assert_int_equal(a->replay[i]->at.offset, ++offset);
        bench->seen += " " + std::string(a->replay[i]->payload);
    }
    if (a->recovered) assert_int_equal(offset, f->at.offset);
    bench->seen += "; ";
}

inline constexpr feed_host host = {on_read, on_renew, on_hand_over, on_discard, on_live, on_gap, on_answer};

inline std::string seen() {
    return std::exchange(bench->seen, "");
}

#define assert_seen(text) assert_string_equal(seen().c_str(), text)

inline void live_message(const char *epoch, uint64_t offset) {
    feed_message(bench->of, make(epoch, offset));
}
// Answers the oldest read with messages first..top.
inline void page(const char *epoch, uint64_t first, uint64_t top, const char *mark = "m") {
    assert_true(!bench->reads.empty());
    asked_read r = bench->reads.front();
    bench->reads.erase(bench->reads.begin());
    history_page p = {"r", r.after, r.tag, false, first <= r.after + 1, {}, nullptr, 0};
    std::vector<message *> found;
    for (uint64_t offset = first; offset <= top && r.limit; offset++)
        found.push_back(make(epoch, offset, (mark + std::to_string(offset)).c_str()));
    if (*epoch) assert_true(position_set(&p.top, epoch, top));
    p.messages = found.data();
    p.count = found.size();
    feed_page(bench->of, &p);
    for (message *m : found)
        message_unref(m);
}
inline void failed_page() {
    asked_read r = bench->reads.front();
    bench->reads.erase(bench->reads.begin());
    history_page p = {"r", r.after, r.tag, true, false, {}, nullptr, 0};
    feed_page(bench->of, &p);
}
inline void ask(uint32_t number, const char *epoch, uint64_t offset, uint64_t room_for = 1000) {
    feed_ask a = {{0, number, 1}, number, room_for, {}};
    assert_true(position_set(&a.since, epoch, offset));
    feed_ask_since(bench->of, &a);
}
inline void pass(uint64_t ms) {
    bench->clock.monotonic_ms += ms;
    feeds_turn(&bench->all);
}
inline void check() {
    feed_check(bench->of);
    pass(1);
}
// Live behind offset 10 of epoch E.
inline void begin() {
    feed_subscribed(bench->of, true);
    page("E", 11, 10);
    assert_seen("read 0 1; live E10; ");
}

inline int setup_with(uint64_t budget) {
    bench = new bench_state{};
    bench->clock.monotonic_ms = 1000000;
    feeds_init(&bench->all, &host, bench, &bench->clock, budget);
    bench->of = feed_new(&bench->all, "r", limit, nullptr);
    return 0;
}
inline int setup(void **) {
    return setup_with(1 << 20);
}
inline int setup_at_once(void **) {
    return setup_with(0);
}
inline int teardown(void **) {
    feed_free(bench->of);
    for (message *m : bench->store)
        message_unref(m);
    uint64_t left = bench->all.cache_bytes;
    bool lists = list_empty(&bench->all.caching) && list_empty(&bench->all.timed) && list_empty(&bench->all.unread);
    delete bench;
    return left != 0 || !lists || message_bytes_in_flight() != 0;
}

} // namespace feed_bench
