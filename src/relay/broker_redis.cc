// The Redis broker and its life.
//
//   PREFIXroom:ROOM      what a backend publishes, delivered verbatim
//   PREFIXmessage:ROOM   what nodes publish for their clients and the control API: an envelope (proto/envelope.h), with
//                        its position in front where the room has a history; with `sharded` PREFIXmessage:{ROOM}
//   PREFIXcommand        commands for every node
//   PREFIXnode:ID        what other nodes say to this one
//
// It is up once all connections are and everything wanted is subscribed. Main thread.
#include "relay/broker_redis_impl.h"

#include "base/log.h"
#include "net/resolve.h"
#include "net/wheel.h"

namespace belfry {

bool broker_redis_command(broker *base, view key, int argc, const view *argv, redis_reply reply, void *context,
                          uint64_t tag) {
    return redis_broker_send(redis_broker_of(base), key, argc, argv, reply, context, tag);
}

void redis_broker_check_up(redis_broker *b) {
    if (b->up || b->closing || !redis_rooms_complete(b) || !redis_links_ready(b)) return;
    b->up = true;
    if (b->was_up) b->head.count.reconnects++;
    b->was_up = true;
    log_info("broker: ready, %zu rooms subscribed", b->channels.size());
    bool missed = b->missed;
    b->missed = false;
    b->head.events->up(b->head.context, missed);
}

// ---------------------------------------------------------------- life

static void turn(broker *base) {
    redis_broker *b = redis_broker_of(base);
    if (b->reconnect_ms && broker_now_ms() >= b->reconnect_ms) {
        b->reconnect_ms = 0;
        redis_links_resubscribe(b);
    }
    redis_rooms_turn(b);
    redis_copies_sweep(b);
    redis_broker_check_up(b);
    if (b->up) redis_canary_turn(b);
}

static void pause(broker *base, bool paused) {
    redis_links_pause(redis_broker_of(base), paused);
    redis_canary_pause(redis_broker_of(base), paused);
}
static bool ready(const broker *base) {
    return reinterpret_cast<const redis_broker *>(base)->up;
}

static void destroy(broker *base) {
    redis_broker *b = redis_broker_of(base);
    b->up = false;
    b->closing = true;
    redis_links_free(b);
    redis_history_down(b);
    // Name look-ups that were cut short give their memory back on the loop (resolve.h).
    uint64_t until = broker_now_ms() + resolve_linger_ms + wheel_tick_ms;
    while (broker_now_ms() < until)
        loop_turn(b->on, true);
    redis_copies_settle(b);
    json_reader_free(b->reader);
    buffer_free(&b->scratch);
    buffer_free(&b->out);
    delete b;
}

static bool in_order(const broker *base) {
    return !reinterpret_cast<const redis_broker *>(base)->cluster;
}

static const broker_ops ops = {redis_rooms_subscribe,
                               redis_rooms_unsubscribe,
                               redis_publish,
                               redis_history_read,
                               redis_history_renew,
                               redis_send_to_node,
                               turn,
                               pause,
                               ready,
                               destroy,
                               in_order};

broker *broker_redis_new(const broker_events *events, void *context, const broker_settings *settings, loop *on) {
    auto *b = new redis_broker{};
    b->head = {&ops, events, context, {}};
    b->settings = *settings;
    b->on = on;
    b->room_prefix = settings->prefix + "room:";
    b->message_prefix = settings->prefix + "message:";
    b->command_channel = settings->prefix + "command";
    b->node_prefix = settings->prefix + "node:";
    b->node_channel = b->node_prefix + std::string(node_id());
    b->reader = json_reader_new();
    b->sequence = node_count_base();
    redis_canary_init(b);
    redis_links_new(b);
    return &b->head;
}

} // namespace belfry
