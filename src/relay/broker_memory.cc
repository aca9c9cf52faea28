// The memory broker: one node, nothing to install. A publish is delivered at once, in the order of the calls. Main
// thread.
#include "relay/broker.h"

namespace belfry {

static void subscribe(broker *b, view room) {
    b->events->subscribed(b->context, room);
}
static void unsubscribe(broker *, view) {}

static bool publish(broker *b, message *m, publish_job *job, bool local) {
    b->count.published++;
    if (job) {
        publish_job_expect(job);
        if (local) publish_job_expect(job);
    }
    m->job = local ? job : nullptr;
    b->events->deliver(b->context, message_ref(m));
    if (job) publish_job_settle(job, 0, true);
    return true;
}

static bool read(broker *, view, uint64_t, uint32_t) {
    return false;
}
static void turn(broker *) {}
static void pause(broker *, bool) {}
static bool ready(const broker *) {
    return true;
}
static void destroy(broker *b) {
    delete b;
}

static const broker_ops ops = {subscribe, unsubscribe, publish, read, turn, pause, ready, destroy};

broker *broker_memory_new(const broker_events *events, void *context) {
    return new broker{&ops, events, context, {}};
}

} // namespace belfry
