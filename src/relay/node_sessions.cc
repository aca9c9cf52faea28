// Requests for sessions without WebSocket, through the node. Main thread.
#include "relay/node_sessions.h"

#include "proto/cursor.h"
#include "relay/carry.h"
#include "relay/handover_in_carry.h"
#include "relay/node_carry.h"
#include "relay/node_impl.h"

namespace belfry {

void node_carried(node *n, carried_letter *l) {
    if (l->remote && handover_carry_answered(n, l)) return;
    if (l->remote) return node_carried_remote(n, l);
    node_send(n, l->to.worker, &l->head);
}

static void not_found(node *n, carry_letter *l) {
    frame *body = carry_error(404, "there is no such session");
    auto *answer = new carried_letter{{letter_type::carried}, l->remote, l->from, 404, body};
    carry_free(l);
    node_carried(n, answer);
}

void node_carry_local(node *n, carry_letter *l) {
    session_name name;
    conn_id id;
    handover_carry_note(n, l);
    bool ours = session_name_parse(l->session, &name) && conn_id_parse(name.conn, &id) && id.worker < n->worker_count;
    if (!ours) return not_found(n, l);
    node_send(n, id.worker, &l->head);
}

void node_carry(node *n, carry_letter *l) {
    session_name name;
    if (!session_name_parse(l->session, &name)) return not_found(n, l);
    view of = conn_id_node(name.conn);
    if (of.empty() || of == node_id()) return node_carry_local(n, l);
    node_carry_remote(n, l);
}

} // namespace belfry
