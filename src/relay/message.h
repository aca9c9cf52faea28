// One broadcast: immutable, counted, encoded at most once per wire form, by the first thread that has a member who
// reads that form.
//
// Made on any thread, then shared by pointer; the last reference frees it and its forms.
#pragma once

#include "base/frame.h"
#include "proto/envelope.h"
#include "relay/conn_id.h"
#include "relay/letter.h"

#include <atomic>

namespace belfry {

enum wire_form : uint8_t { form_json, form_raw, form_count };

struct publish_job; // publish_job.h

struct message {
    letter head; // broadcast or receipt: a message is its own letter
    std::atomic<uint32_t> references;
    payload_kind kind;
    bool in_flight; // counted in message_bytes_in_flight
    uint16_t except_count;
    frame *source; // counted: holds the payload
    view payload;  // in source
    view room;     // in the same allocation as the message
    view from;     // verbatim JSON, ditto; empty where none
    uint64_t room_hash;
    uint64_t time_ms;
    conn_id *except;                         // in the same allocation; this node's only
    std::atomic<frame *> forms[form_count];  // counted once each
    std::atomic<uint8_t> making[form_count]; // 1 once a thread encodes
    publish_job *job;                        // main thread's: who waits for the receipt; null: nobody
    std::atomic<uint32_t> receivers;         // members to whose queue it went
    std::atomic<uint32_t> pending;           // workers that have not queued it yet
};

// Takes its own reference to `source`; room and from are copied; `except` may name other nodes' connections (left out).
[[nodiscard]] message *message_new(view room, frame *source, view payload, payload_kind kind, view from,
                                   uint64_t time_ms, const view *except, size_t except_count);
inline message *message_ref(message *m) {
    m->references.fetch_add(1, std::memory_order_relaxed);
    return m;
}
void message_unref(message *m);

// The whole WebSocket frame for this form, borrowed from the message. `reader` and `scratch` are the calling thread's.
// Where another thread is encoding it this very moment, waits for that (2 to 50 us for 100 bytes to 64 KB; encoding
// twice would cost the same).
[[nodiscard]] frame *message_form(message *m, wire_form form, json_reader *reader, buffer *scratch);

// Counts the message's payload as on its way from the node to the workers, until message_landed: for back-pressure.
// Node, once a message.
void message_set_in_flight(message *m);
// The last worker has queued it: counted no more.
void message_landed(message *m);
// Bytes of payload on their way to the workers now; and encodes made since the start. Any thread.
int64_t message_bytes_in_flight();
uint64_t message_encodes();

} // namespace belfry
