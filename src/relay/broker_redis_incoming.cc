// What the Redis broker's subscriber is sent: payloads of backends, envelopes of nodes, commands, other nodes' words.
// All of it is checked: Redis is shared. Main thread.
#include "relay/broker_redis_impl.h"

#include "base/log.h"

#include <string.h>

namespace belfry {

static constexpr size_t head_max =
    16384; // bytes of an envelope's head and position, and of what peers write around a message

static void drop_malformed(redis_broker *b, view channel_name, const char *why) {
    static log_limit limit;
    uint64_t held = 0;
    b->head.count.malformed++;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: a message on %.*s was dropped: %s (%llu more not shown)",
                 static_cast<int>(channel_name.size()), channel_name.data(), why,
                 static_cast<unsigned long long>(held));
}

static void drop_oversized(redis_broker *b, view channel_name) {
    b->head.count.oversized++;
    drop_malformed(b, channel_name, "it is larger than [broker] max_message");
}

static void on_room(redis_broker *b, view room, view payload) {
    struct clock now;
    clock_refresh(&now);
    frame *source = frame_copy(payload);
    message_parts parts = {room, source, frame_view(source), payload_kind::any, view(), now.wall_ms};
    message *m = message_new(&parts);
    frame_unref(source);
    b->head.events->deliver(b->head.context, m);
}

static void on_envelope(redis_broker *b, view channel_name, view room, view payload) {
    frame *source = frame_copy(payload);
    envelope e;
    error why;
    if (!envelope_parse(b->reader, frame_view(source), &e, &b->scratch, &why)) {
        drop_malformed(b, channel_name, why.text);
    } else if (e.payload.size() > static_cast<size_t>(b->settings.max_message)) {
        drop_oversized(b, channel_name);
    } else {
        message_parts parts = {room, source, e.payload, e.kind, e.from, e.time_ms, e.except, e.except_count};
        parts.key = e.key;
        parts.what = e.member ? message_member : message_data;
        parts.at = e.at;
        message *m = message_new(&parts);
        m->sequence = e.sequence;
        if (e.ack && e.node != node_id() && e.node.size() < sizeof m->origin)
            memcpy(m->origin, e.node.data(), e.node.size()); // the rest is zeros
        auto copy = e.node == node_id() ? b->copies.find(e.sequence) : b->copies.end();
        if (copy != b->copies.end()) {
            m->job = copy->second.job;
            b->copies.erase(copy);
        }
        b->head.events->deliver(b->head.context, m);
    }
    frame_unref(source);
}

static void on_message(redis_broker *b, view channel_name, view payload, bool sharded) {
    if (channel_name == b->node_channel && redis_canary_heard(b, payload)) return; // no message: it counts nowhere
    b->head.count.received++;
    view room = redis_room_of_channel(b, channel_name, sharded);
    bool framed = channel_name.starts_with(b->message_prefix) || channel_name == b->node_channel;
    if (payload.size() > static_cast<size_t>(b->settings.max_message) + (framed ? head_max : 0))
        return drop_oversized(b, channel_name);
    if (channel_name.starts_with(b->room_prefix)) return on_room(b, room, payload);
    if (channel_name.starts_with(b->message_prefix)) return on_envelope(b, channel_name, room, payload);
    if (channel_name == b->node_channel && b->head.events->peer) b->head.events->peer(b->head.context, payload);
    if (channel_name != b->command_channel) return;
    frame *source = frame_copy(payload);
    b->head.events->command(b->head.context, source);
    frame_unref(source);
}

void redis_incoming(redis *, const redis_value *v, void *context) {
    auto *b = static_cast<redis_broker *>(context);
    if (v->type == redis_type::error) return redis_rooms_refused(b, v->text);
    if (v->type != redis_type::array || v->count < 3 || v->elements[0].type != redis_type::text) return;
    view what = v->elements[0].text;
    const redis_value *second = &v->elements[1], *third = &v->elements[2];
    if (second->type != redis_type::text) return;
    bool sharded = what == "smessage" || what == "ssubscribe" || what == "sunsubscribe";
    if ((what == "message" || what == "smessage") && third->type == redis_type::text)
        return on_message(b, second->text, third->text, sharded);
    if (what == "pmessage" && v->count == 4 && third->type == redis_type::text &&
        v->elements[3].type == redis_type::text)
        return on_message(b, third->text, v->elements[3].text, false);
    if (what == "subscribe" || what == "ssubscribe") return redis_rooms_confirmed(b, second->text, sharded, true);
    if (what == "unsubscribe" || what == "sunsubscribe") return redis_rooms_confirmed(b, second->text, sharded, false);
    if (what == "psubscribe") redis_rooms_pattern_confirmed(b);
}

} // namespace belfry
