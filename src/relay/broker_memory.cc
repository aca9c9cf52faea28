// The memory broker: one node, nothing to install. A publish is delivered at once, in the order of the calls; history
// lives as long as the process. Main thread.
#include "relay/broker_memory.h"

#include "relay/history.h"
#include "relay/idempotency.h"

namespace belfry {

struct memory_broker {
    broker head;
    loop *on; // borrowed
    struct history history;
    struct idempotency ids;
};

static memory_broker *of(broker *b) {
    return reinterpret_cast<memory_broker *>(b);
}

static uint64_t now(const memory_broker *b) {
    return b->on->clock.monotonic_ms;
}

static void subscribe(broker *b, view room) {
    b->events->subscribed(b->context, room);
}
static void unsubscribe(broker *, view) {}

// Published before: the first one's position, and nothing is sent.
static bool answer_duplicate(memory_broker *b, const message *m, publish_job *job) {
    const position *first = idempotency_find(&b->ids, m->room, m->id, now(b));
    if (!first) return false;
    b->head.count.duplicates++;
    if (!job) return true;
    job->duplicate = true;
    job->at = *first;
    publish_job_expect(job);
    publish_job_settle(job, 0, true);
    return true;
}

static bool publish(broker *base, message *m, publish_job *job, bool local) {
    memory_broker *b = of(base);
    if (!m->id.empty() && answer_duplicate(b, m, job)) return true;
    base->count.published++;
    if (m->keep) history_keep(&b->history, m, now(b));
    if (!m->id.empty()) idempotency_note(&b->ids, m->room, m->id, &m->at, now(b));
    if (job) {
        job->at = m->at;
        publish_job_expect(job);
        if (local) publish_job_expect(job);
    }
    m->job = local ? job : nullptr;
    base->events->deliver(base->context, message_ref(m));
    if (job) publish_job_settle(job, 0, true);
    return true;
}

static bool read(broker *base, view room, uint64_t after, uint32_t limit, uint64_t tag) {
    memory_broker *b = of(base);
    history_slice s = history_read(&b->history, room, after, limit, now(b));
    history_page page = {room, after, tag, false, s.whole, s.top, s.messages, s.count};
    base->count.history_reads++;
    base->events->history(base->context, &page);
    return true;
}

static void turn(broker *b) {
    history_turn(&of(b)->history, now(of(b)));
}
static void pause(broker *, bool) {}
static bool ready(const broker *) {
    return true;
}

static void destroy(broker *base) {
    memory_broker *b = of(base);
    history_destroy(&b->history);
    idempotency_destroy(&b->ids);
    delete b;
}

static const broker_ops ops = {subscribe, unsubscribe, publish, read, nullptr, nullptr, turn, pause, ready, destroy};

broker *broker_memory_new(const broker_events *events, void *context, const broker_settings *settings, loop *on) {
    auto *b = new memory_broker{};
    b->head = {&ops, events, context, {}};
    b->on = on;
    history_init(&b->history, static_cast<uint64_t>(settings->history_memory), on->clock.monotonic_ms);
    idempotency_init(&b->ids);
    return &b->head;
}

const history_counters *broker_memory_history(const broker *b) {
    return b->ops == &ops ? &reinterpret_cast<const memory_broker *>(b)->history.count : nullptr;
}

void broker_memory_forget(broker *b, bool (*keeps)(void *, view), void *context) {
    if (b->ops == &ops) history_forget(&of(b)->history, keeps, context);
}

const position *broker_memory_place(const broker *b, view room) {
    return b->ops == &ops ? history_place(&reinterpret_cast<const memory_broker *>(b)->history, room) : nullptr;
}

} // namespace belfry
