// Commands: what the backend tells Belfry, over Redis and in hooks' answers, and the orders among them, which are for
// this node's connections. Main thread.
#include "relay/node_impl.h"

#include "base/log.h"
#include "proto/room_name.h"
#include "relay/handover.h"
#include "relay/node_peers.h"

#include <bit>

namespace belfry {

static order_op order_of(command_op op) {
    switch (op) {
    case command_op::join:
        return order_op::join;
    case command_op::leave:
        return order_op::leave;
    case command_op::refresh:
        return order_op::refresh;
    default:
        return order_op::disconnect;
    }
}

static void send_order(node *n, uint64_t workers, const order_letter *o) {
    for (; workers; workers &= workers - 1)
        node_send(n, static_cast<uint32_t>(std::countr_zero(workers)), &(new order_letter(*o))->head);
}

// A user's connections are the members of the user's own room.
static int order_user(node *n, view user, order_letter *o, error *e) {
    std::string room = "@user:" + std::string(user);
    const node_room *r = node_room_find(n, room, hash_bytes(room));
    if (!r) {
        error_set(e, "no connection of that user on this node");
        return 404;
    }
    o->by_user = true;
    o->user = user;
    send_order(n, r->wanted, o);
    return 0;
}

static order_letter letter_of(const command *c) {
    order_letter o = {};
    o.head.type = letter_type::order;
    o.op = order_of(c->op);
    o.reconnect = c->reconnect;
    o.code = c->code;
    o.reason = c->reason;
    if (c->room_count) o.room = c->rooms[0];
    o.by_room = c->op == command_op::disconnect && c->room_count;
    o.all = o.by_room && o.room == "@all";
    return o;
}

bool node_order_older(node *n, const command *c) {
    order_letter o = letter_of(c);
    if (!o.by_room && room_name_reserved(o.room)) return false;
    o.by_user = !o.by_room && !c->user.empty();
    o.user = c->user;
    if (!o.by_room && !o.by_user && !conn_id_parse(c->conn, &o.conn)) return false;
    return handover_node_pass_on(n, &o);
}

int node_order(node *n, const command *c, error *e) {
    order_letter o = letter_of(c);
    if (o.by_room) {
        send_order(n, node_all_workers(n), &o);
        return 0;
    }
    if (room_name_reserved(o.room)) {
        error_set(e, "room: names with @ can't be joined or left");
        return 400;
    }
    if (!c->user.empty()) return order_user(n, c->user, &o, e);
    if (!conn_id_parse(c->conn, &o.conn) || o.conn.worker >= n->worker_count) {
        error_set(e, "no connection of that id on this node");
        return 404;
    }
    node_send(n, o.conn.worker, &(new order_letter(o))->head);
    return 0;
}

// ---------------------------------------------------------------- where they come from

// Every node hears the same commands, so each can tell by itself that an id was there before.
static bool said_before(node *n, const command *c, size_t room) {
    if (c->id.empty()) return false;
    uint64_t now_ms = n->on->clock.monotonic_ms;
    if (idempotency_find(&n->commanded, c->rooms[room], c->id, now_ms)) return true;
    position none = {};
    idempotency_note(&n->commanded, c->rooms[room], c->id, &none, now_ms);
    return false;
}

// A command on PREFIXcommand is for every node: a publish is delivered here, not sent round again.
static void publish_here(node *n, const command *c, frame *source, view payload) {
    struct clock now;
    clock_refresh(&now);
    for (size_t i = 0; i < c->room_count; i++) {
        message_parts parts = {c->rooms[i], source, payload, c->kind, c->from, now.wall_ms, c->except, c->except_count};
        parts.key = c->key;
        if (said_before(n, c, i)) continue;
        node_deliver(n, message_new(&parts));
    }
}

void node_command(void *context, frame *source) {
    auto *n = static_cast<node *>(context);
    static log_limit limit;
    uint64_t held = 0;
    command c;
    error e;
    n->commands++;
    bool fine = command_parse(n->reader, frame_view(source), &c, &n->scratch, &e);
    if (fine && c.op == command_op::publish) {
        frame *payload = frame_copy(c.data);
        publish_here(n, &c, payload, frame_view(payload));
        frame_unref(payload);
        return;
    }
    int code = fine ? node_order(n, &c, &e) : 400;
    if (code == 0 || code == 404) return; // 404: another node's connection
    n->command_errors++;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: a command was dropped: %s (%llu more not shown)", e.text,
                 static_cast<unsigned long long>(held));
}

bool node_publish_command(node *n, const command *c, publish_job *job, bool ack) {
    bool sent = true;
    frame *source = frame_copy(c->data);
    for (size_t i = 0; i < c->room_count && sent; i++) {
        message_parts parts = {c->rooms[i], source, frame_view(source), c->kind, c->from};
        parts.except = c->except;
        parts.except_count = c->except_count;
        parts.id = c->id;
        parts.key = c->key;
        parts.ack = ack;
        sent = node_publish(n, &parts, job);
    }
    frame_unref(source);
    return sent;
}

static void publish_for_hook(node *n, const command *c) {
    static log_limit limit;
    uint64_t held = 0;
    if (node_publish_command(n, c, nullptr)) return;
    n->publishes_dropped++;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: out of reach, a hook's publish was dropped (%llu more not shown)",
                 static_cast<unsigned long long>(held));
}

static void log_hook_error(node *n, const char *why) {
    static log_limit limit;
    uint64_t held = 0;
    n->command_errors++;
    if (log_limit_pass(&limit, &held))
        log_warn("hook: a command of the backend was dropped: %s (%llu more not shown)", why,
                 static_cast<unsigned long long>(held));
}

static void hook_ordered(void *context, int code, const char *why) {
    if (code) log_hook_error(static_cast<node *>(context), why);
}

// A command in a hook's answer: as the control API's. Nobody waits for an outcome, so the log gets it.
void node_hook_command(node *n, const command_letter *l) {
    command c;
    error e;
    n->commands++;
    bool fine = command_parse(n->reader, frame_view(l->source), &c, &n->scratch, &e);
    if (fine && c.op == command_op::publish) return publish_for_hook(n, &c);
    if (!fine) return log_hook_error(n, e.text);
    node_order_everywhere(n, &c, frame_view(l->source), hook_ordered, n);
}

} // namespace belfry
