// A feed's cache and who joins with `since`: for feed.cc alone. Main thread.
#pragma once

#include "relay/feed.h"

namespace belfry {

// The message that `at` has just reached joins the cache; the oldest go.
void feed_cache_push(feed *f, message *m);
void feed_cache_clear(feed *f);
// The cached message of that offset, borrowed, or null.
[[nodiscard]] const message *feed_cache_find(const feed *f, uint64_t offset);
// What a read brought goes in front of what is there.
void feed_cache_fill(feed *f, const history_page *page);
// Brings all caches back under the budget, when who asked has been answered.
void feed_cache_settle(feed *f);

// True where somebody asks for what is not in the cache, and may be in history.
[[nodiscard]] bool feed_asks_read(const feed *f);
// The offset behind which they need it.
[[nodiscard]] uint64_t feed_asks_after(const feed *f);
// Answers who can be answered. `final`: history was read for them (or can't be), so what is not in the cache is not to
// be had.
void feed_answer_asks(feed *f, bool final);
// Nobody who asks gets anything.
void feed_refuse_asks(feed *f);
// Those who have waited too long get none.
void feed_expire_asks(feed *f, uint64_t now_ms);

} // namespace belfry
