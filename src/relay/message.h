// One broadcast: immutable, counted, encoded at most once per wire form, by the first thread that has a member who
// reads that form.
//
// Made on any thread, then shared by pointer; the last reference frees it and its forms.
#pragma once

#include "base/frame.h"
#include "proto/deflate.h"
#include "proto/envelope.h"
#include "proto/position.h"
#include "relay/conn_id.h"
#include "relay/letter.h"

#include <atomic>

namespace belfry {

// What stands on the wire: a WebSocket frame, plain or compressed (RFC 7692), or a server-sent event; of the JSON
// protocol's object or the raw payload. Narrow: for clients that asked for a window below 32 KiB.
enum wire_form : uint8_t {
    form_json,
    form_raw,
    form_json_deflated,
    form_raw_deflated,
    form_json_narrow,
    form_raw_narrow,
    form_sse_json,
    form_sse_raw,
    form_count
};

// A WebSocket client that has agreed on permessage-deflate.
inline constexpr bool form_is_deflated(uint8_t form) {
    return form >= form_json_deflated && form <= form_raw_narrow;
}
// A WebSocket client of the JSON protocol, compressed or not.
inline constexpr bool form_is_json(uint8_t form) {
    return form == form_json || form == form_json_deflated || form == form_json_narrow;
}

// A member event is what presence announces: its payload is {"event":...,"member":{...}}. The raw protocol has no words
// for it.
enum message_what : uint8_t { message_data, message_member };

struct publish_job; // publish_job.h

struct message {
    letter head; // broadcast or receipt: a message is its own letter
    std::atomic<uint32_t> references;
    payload_kind kind;
    message_what what;
    bool in_flight; // counted in message_bytes_in_flight
    uint16_t except_count;
    frame *source;      // counted: holds the payload
    view payload;       // in source
    view room;          // in the same allocation as the message
    view from;          // verbatim JSON, ditto; empty where none
    view id;            // ditto: what makes the publish idempotent; empty where none
    view key;           // ditto: what it replaces in a slow reader's queue; empty where none
    uint64_t key_hash;  // of key; 0: none
    struct position at; // in the room's history; the broker sets it before it delivers
    uint32_t keep;      // messages that the room's history holds; 0: the room has none, or this one is not kept
    int64_t keep_ttl_ms;
    uint64_t sequence; // the publishing node's number of it, over Redis; 0: none
    uint64_t ordinal;  // while connections move away (handover.h): its number in the room since the marker; 0: none
    char origin[5];    // that node's id, where it is another one's and it asks how many members get it; empty: not
    bool ack;          // this node asks the others
    uint64_t room_hash;
    uint64_t time_ms;
    uint64_t received_ns;                    // monotonic: when this process got it, from wherever
    conn_id *except;                         // in the same allocation; this node's only
    std::atomic<frame *> forms[form_count];  // counted once each
    std::atomic<uint8_t> making[form_count]; // 1 once a thread encodes
    publish_job *job;                        // main thread's: who waits for the receipt; null: nobody
    std::atomic<uint32_t> receivers;         // members to whose queue it went
    std::atomic<uint32_t> pending;           // workers that have not queued it yet
};

// room, from, id and key are copied.
struct message_parts {
    view room;
    frame *source; // borrowed: the message takes its own reference
    view payload;  // in source
    payload_kind kind = payload_kind::any;
    view from = {};
    uint64_t time_ms = 0;
    const view *except = nullptr; // may name other nodes' connections: left out
    size_t except_count = 0;
    view id = {}, key = {};
    message_what what = message_data;
    bool ack = false; // other nodes are to note how many members get it
    struct position at = {};
};
[[nodiscard]] message *message_new(const message_parts *parts);
inline message *message_ref(message *m) {
    m->references.fetch_add(1, std::memory_order_relaxed);
    return m;
}
void message_unref(message *m);

// All that goes on the wire in this form, borrowed from the message. `reader`, `scratch` and `packer` are the calling
// thread's. Where another thread is encoding it this very moment, waits for that (2 to 50 us for 100 bytes to 64 KB,
// compressed 20 us to 2 ms; encoding twice would cost the same). A compressed form is the plain one's frame where the
// payload is too short for the packer, or does not get smaller.
[[nodiscard]] frame *message_form(message *m, wire_form form, json_reader *reader, buffer *scratch, deflater *packer);

// Counts the message's payload as on its way from the node to the workers, until message_landed: for back-pressure.
// Node, once a message.
void message_set_in_flight(message *m);
// The last worker has queued it: counted no more.
void message_landed(message *m);
// Bytes of payload on their way to the workers now; encodes made since the start, and messages that went through the
// packer. Any thread.
int64_t message_bytes_in_flight();
uint64_t message_encodes();
uint64_t message_deflates();

} // namespace belfry
