// Modules and sessions. On the thread of the connection.
#include "relay/session_edge.h"

#include "relay/plain_session.h"
#include "relay/transport.h"

namespace belfry {

void session_close_denied(conn *c, const chain_verdict *v) {
    if (!v->close_code || c->closed || c->close_sent) return;
    // Limits pass; anything else that closes a connection would do so again.
    bool reconnect = v->close_code == 4408;
    c->session->bye(c, v->close_code, v->reason, reconnect, uint64_t{v->retry_after_s} * 1000);
    transport_close(c, v->close_code, v->reason);
}

void session_message_denied(conn *c, const chain_verdict *v) {
    c->on->count.dropped[drop_rate]++;
    plain_session_denied(c, v->status, v->reason);
    session_close_denied(c, v);
}

bool session_message_passes(conn *c, uint8_t opcode, char *data, size_t size, const chain_waiter *then) {
    chain_verdict v = {};
    switch (chain_message(c, view(data, size), opcode == ws_binary, &v, then)) {
    case chain_result::pass:
        return true;
    case chain_result::wait:
        return false;
    case chain_result::deny:
        break;
    }
    session_message_denied(c, &v);
    return false;
}

bool session_publish_passes(conn *c, view room, const room_rule *rule, view data, chain_verdict *v) {
    *v = {};
    if (chain_publish(c, room, rule, data, v) == chain_result::pass) return true;
    if (!v->status) v->status = 403;
    if (v->reason.empty()) v->reason = "not allowed to publish";
    c->on->count.dropped[drop_rate]++;
    return false;
}

void session_raw_text(view data, buffer *out) {
    if (data.starts_with('"'))
        json_unescape(data, out);
    else
        buffer_append(out, data);
}

} // namespace belfry
