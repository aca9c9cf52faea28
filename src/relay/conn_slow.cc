// The limits of output queues. See conn_slow.h; on the connection's thread.
//
// A delivery looks at one number, conn::limit: the level of the queue at which something is to be thought about. Not
// written yet: half of send_queue, where the flush must come before further messages (shard::pressed). Socket full:
// send_queue, or where on_slow = latest has something to replace. In both cases send_queue_soft, if its clock does not
// run yet.
#include "relay/conn_slow.h"

#include "net/outq_thin.h"
#include "relay/conn.h"

namespace belfry {

static slow_policy policy_of(const conn *c) {
    return c->session ? static_cast<slow_policy>(c->route->on_slow) : slow_close;
}

static uint64_t soft_of(const conn *c) {
    return c->session ? static_cast<uint64_t>(c->route->send_queue_soft) : 0;
}

static bool soft_runs(const conn *c) {
    return c->slow && timer_armed(&c->slow->soft.timer);
}

static void aim(conn *c) {
    const uint64_t half = c->send_queue / 2, queued = conn_queued(c), soft = soft_of(c);
    uint64_t level = half;
    if (c->blocked) {
        level = c->send_queue;
        // Replacing looks at the whole queue: again when it has grown by an eighth.
        if (policy_of(c) == slow_latest)
            level = queued < half ? half : std::min<uint64_t>(level, queued + c->send_queue / 8);
    }
    if (soft && soft < level && !soft_runs(c)) level = soft;
    c->limit = static_cast<uint32_t>(level);
    c->crowded = c->blocked || soft_runs(c);
}

void conn_set_send_queue(conn *c, uint32_t bytes) {
    c->send_queue = bytes;
    aim(c);
}

static void watch_soft(conn *c);

void conn_slow_retuned(conn *c) {
    c->send_queue = static_cast<uint32_t>(c->route->send_queue);
    watch_soft(c);
    aim(c);
}

// ---------------------------------------------------------------- the record

static void soft_passed(deadline *d);

static slow_reader *record(conn *c) {
    if (c->slow) return c->slow;
    c->slow = new slow_reader{};
    c->slow->who = c;
    deadline_init(&c->slow->soft, soft_passed);
    return c->slow;
}

static void forget(conn *c) {
    wheel_cancel(&c->on->deadlines, &c->slow->soft.timer);
    delete c->slow;
    c->slow = nullptr;
}

void conn_slow_restore(conn *c, uint64_t dropped, uint64_t replaced) {
    slow_reader *r = record(c);
    r->dropped = dropped;
    r->replaced = replaced;
}

void conn_slow_end(conn *c) {
    if (c->slow) forget(c);
}

static void watch_soft(conn *c) {
    const uint64_t soft = soft_of(c);
    const bool above = soft && conn_queued(c) > soft;
    if (above && !soft_runs(c))
        wheel_set(&c->on->deadlines, &record(c)->soft.timer, c->on->loop->clock.monotonic_ms,
                  static_cast<uint64_t>(c->route->send_queue_soft_time));
    if (!above && soft_runs(c)) wheel_cancel(&c->on->deadlines, &c->slow->soft.timer);
}

// ---------------------------------------------------------------- what is done

// Closed behind the fan-out that is under way, which walks the rooms that closing changes.
static void doom(conn *c) {
    c->on->count.slow.closed_hard++;
    c->open = false; // no more deliveries in this turn
    list_remove(&c->place);
    list_push_back(&c->on->doomed, &c->place);
}

static frame *gap_frame(void *context, uint64_t room) {
    conn *c = static_cast<conn *>(context);
    frame *f = c->on->slow->gap(c, room);
    if (f) c->on->count.slow.gaps++;
    return f;
}

static void thin(conn *c, uint64_t most) {
    const outq_thinning how = {most, conn_frame_cost, policy_of(c) == slow_latest, gap_frame, c};
    const outq_thinned done = outq_thin(&c->outq, &c->on->chunk_slab, &how);
    c->on->count.dropped[drop_as_oldest] += done.dropped;
    c->on->count.dropped[drop_replaced] += done.replaced;
    if (!done.dropped && !done.replaced) return;
    slow_reader *r = record(c);
    r->dropped += done.dropped;
    r->replaced += done.replaced;
}

// An eighth less than the limit: see conn_slow.h.
static uint64_t below(uint64_t limit) {
    return limit - limit / 8;
}

static void soft_passed(deadline *d) {
    conn *c = BELFRY_CONTAINER_OF(d, slow_reader, soft)->who;
    if (!c->open) return;
    if (policy_of(c) == slow_close) {
        c->on->count.slow.closed_soft++;
        c->on->slow->close(c);
        return;
    }
    thin(c, below(soft_of(c)));
    conn_slow_queued(c);
}

// ---------------------------------------------------------------- when

void conn_slow_queued(conn *c) {
    watch_soft(c);
    aim(c);
}

// Messages must not come faster than they are written; what a client asks for, or a proxied answer, holds nobody back.
static void queued_message(conn *c) {
    conn_slow_queued(c);
    if (c->blocked) return;
    if (!c->dirty) conn_mark_dirty(c);
    if (conn_queued(c) > c->send_queue / 2) c->on->pressed = true;
}

// No queue of this size could take it, so its reader is not slow; but it misses something.
static void refuse_oversized(conn *c, const frame *f) {
    c->on->count.dropped[drop_oversized]++;
    frame *gap = f->room ? gap_frame(c, f->room) : nullptr;
    if (!gap) return;
    if (conn_queued(c) + conn_charge(gap) > c->send_queue) {
        frame_unref(gap);
        return doom(c);
    }
    outq_push(&c->outq, &c->on->chunk_slab, gap);
    queued_message(c);
}

bool conn_deliver_slowly(conn *c, frame *f) {
    if (conn_charge(f) > c->send_queue) {
        refuse_oversized(c, f);
        return false;
    }
    const bool full = conn_queued(c) + conn_charge(f) > c->send_queue;
    if (full && policy_of(c) == slow_close) {
        doom(c);
        return false;
    }
    outq_push(&c->outq, &c->on->chunk_slab, f);
    if (full)
        thin(c, below(c->send_queue));
    else if (c->blocked && policy_of(c) == slow_latest && conn_queued(c) > c->send_queue / 2)
        thin(c, c->send_queue); // replaces what it can
    if (conn_queued(c) > c->send_queue)
        doom(c); // of answers, control frames and gaps
    else
        queued_message(c);
    return true;
}

bool conn_slow_make_room(conn *c, uint64_t charge) {
    if (policy_of(c) == slow_close || charge > c->send_queue) return false;
    thin(c, std::min(below(c->send_queue), c->send_queue - charge));
    return conn_queued(c) + charge <= c->send_queue;
}

void conn_slow_written(conn *c) {
    watch_soft(c);
    if (c->slow && !soft_runs(c) && !c->slow->dropped && !c->slow->replaced) forget(c);
    aim(c);
}

} // namespace belfry
