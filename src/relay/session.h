// What a session speaks, whatever its transport (transport.h): JSON objects or raw messages. Two tables of functions
// (session_json.cc, session_raw.cc) that admission picks and the transports call. Owner's thread.
#pragma once

#include "relay/conn.h"
#include "relay/letter.h"
#include "relay/room.h"

namespace belfry {

struct plain_rejoin;

struct session_ops {
    const char *subprotocol; // as negotiated
    wire_form form;
    void (*opened)(conn *c); // 101 is queued, the first rooms are joined
    void (*message)(conn *c, uint8_t opcode, char *data,
                    size_t size);           // a whole message; frame_padding readable behind it
    void (*joined)(conn *c, membership *m); // a waiting join became active and was admitted
    void (*refused)(conn *c, membership *m, int code,
                    const char *why); // a waiting join came to nothing; the membership goes after it
    // What a waiting join has asked for (room_ask_since) is there: it is to be admitted, and then gets the replay.
    void (*recovered)(conn *c, membership *m, const join_answer_letter *a);
    void (*published)(conn *c, const answer_letter *a);      // the node's answer to a publish with an id
    void (*removed)(conn *c, view room, const char *reason); // taken out of a room by the backend
    void (*bye)(conn *c, uint16_t code, view reason, bool reconnect, uint64_t after_ms); // before a Close that we begin
    void (*rejoin)(conn *c, const plain_rejoin *r) = nullptr; // as a join that names `since`, without an id
};

extern const session_ops session_json;
extern const session_ops session_raw;

// Sends a publish of this connection to the node. Takes `source` over.
void session_publish(conn *c, view room, frame *source, payload_kind kind, bool echo, bool wants_answer,
                     int64_t request_id);

} // namespace belfry
