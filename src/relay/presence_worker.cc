// Letters of presence. The connection's thread; the charges and members_letter_free also the main thread.
#include "relay/presence_worker.h"

#include "base/frame.h"
#include "relay/client.h"
#include "relay/shard.h"

namespace belfry {

template <typename T> static void send(shard *s, T *l) {
    s->outbox_bytes.fetch_add(presence_charge(l), std::memory_order_relaxed);
    mailbox_send(&s->outbox, &l->head);
}

static void send_entered(const conn *c, const room_rule *rule, view room, bool news) {
    if (!rule || !rule->presence) return;
    view info = c->client ? view(c->client->info) : view();
    send(c->on, new member_letter{{letter_type::entered, c->on->index},
                                  conn_id_of(c),
                                  std::string(room),
                                  std::string(client_user(c)),
                                  std::string(info),
                                  news});
}

void presence_entered(const conn *c, const room_rule *rule, view room) {
    send_entered(c, rule, room, true);
}

void presence_present(const conn *c, const room_rule *rule, view room) {
    send_entered(c, rule, room, false);
}

void presence_exited(const conn *c, const room_rule *rule, view room) {
    if (!rule || !rule->presence) return;
    send(c->on, new member_letter{{letter_type::exited, c->on->index}, conn_id_of(c), std::string(room), {}, {}});
}

void presence_ask_members(conn *c, view room, int64_t request_id) {
    if (c->asking < UINT8_MAX) c->asking++;
    send(c->on,
         new members_letter{
             {letter_type::members, c->on->index}, conn_id_of(c), request_id, std::string(room), nullptr, 0, false});
}

int64_t presence_charge(const member_letter *l) {
    return letter_charge + static_cast<int64_t>(l->info.size());
}

int64_t presence_charge(const members_letter *) {
    return letter_charge;
}

void members_letter_free(members_letter *l) {
    if (l->members) frame_unref(l->members);
    delete l;
}

} // namespace belfry
