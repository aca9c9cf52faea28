// One broadcast and its wire forms.
#include "relay/message.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "proto/server_json.h"
#include "proto/utf8.h"
#include "proto/wsframe.h"
#include "relay/message_event.h"

#include <new>
#include <stdlib.h>
#include <string.h>

namespace belfry {

static std::atomic<int64_t> bytes_in_flight;
static std::atomic<uint64_t> encodes, deflates;

int64_t message_bytes_in_flight() {
    return bytes_in_flight.load(std::memory_order_relaxed);
}
uint64_t message_encodes() {
    return encodes.load(std::memory_order_relaxed);
}
uint64_t message_deflates() {
    return deflates.load(std::memory_order_relaxed);
}

// Copies `from` to *at, which moves on.
static view keep_text(char **at, view from) {
    if (!from.empty()) memcpy(*at, from.data(), from.size());
    view kept(*at, from.size());
    *at += from.size();
    return kept;
}

message *message_new(const message_parts *p) {
    conn_id ids[command_except_max];
    uint16_t count = 0;
    for (size_t i = 0; i < p->except_count && count < command_except_max; i++)
        if (conn_id_parse(p->except[i], &ids[count])) count++;
    size_t ids_size = count * sizeof(conn_id);
    size_t texts = p->room.size() + p->from.size() + p->id.size() + p->key.size();
    char *memory = static_cast<char *>(memory_get(sizeof(message) + ids_size + texts));
    message *m = new (memory) message{};
    m->head = {letter_type::broadcast};
    m->references.store(1, std::memory_order_relaxed);
    m->kind = p->kind;
    m->what = p->what;
    m->ack = p->ack;
    m->source = frame_ref(p->source);
    m->payload = p->payload;
    m->time_ms = p->time_ms;
    m->received_ns = clock_monotonic_ns();
    m->at = p->at;
    m->except = reinterpret_cast<conn_id *>(memory + sizeof(message));
    m->except_count = count;
    if (count) memcpy(static_cast<void *>(m->except), ids, ids_size);
    char *text = memory + sizeof(message) + ids_size;
    m->room = keep_text(&text, p->room);
    m->from = keep_text(&text, p->from);
    m->id = keep_text(&text, p->id);
    m->key = keep_text(&text, p->key);
    m->room_hash = hash_bytes(m->room);
    m->key_hash = m->key.empty() ? 0 : hash_bytes(m->key) | 2; // no mark of base/frame.h
    return m;
}

void message_set_in_flight(message *m) {
    m->in_flight = true;
    bytes_in_flight.fetch_add(m->source->size, std::memory_order_relaxed);
}

void message_landed(message *m) {
    m->in_flight = false;
    bytes_in_flight.fetch_sub(m->source->size, std::memory_order_relaxed);
}

void message_unref(message *m) {
    if (m->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    for (auto &form : m->forms)
        if (frame *f = form.load(std::memory_order_relaxed)) frame_unref(f);
    frame_unref(m->source);
    m->~message();
    free(m);
}

// "text where it is valid UTF-8, else binary" is for payloads that nobody gave a type; a client's frame keeps its own.
static ws_opcode raw_opcode(const message *m) {
    if (m->kind == payload_kind::any) return utf8_valid(m->payload) ? ws_text : ws_binary;
    return m->kind == payload_kind::binary ? ws_binary : ws_text;
}

static void write_json(const message *m, json_reader *reader, buffer *out) {
    payload_kind kind = m->kind;
    const server_message head = {m->room, m->from, m->time_ms, m->at};
    if (m->what == message_member) return server_json_member(out, m->room, m->payload);
    // Bytes from Redis or a raw client: JSON where it parses, else a string, else base64 (contracts section 8).
    if (kind != payload_kind::json && json_valid(reader, m->payload)) kind = payload_kind::json;
    if (kind == payload_kind::json)
        server_json_message(out, &head, m->payload);
    else if (utf8_valid(m->payload))
        server_json_message_text(out, &head, m->payload);
    else
        server_json_message_binary(out, &head, m->payload);
}

static frame *encode(const message *m, wire_form form, json_reader *reader, buffer *scratch) {
    char header[10];
    encodes.fetch_add(1, std::memory_order_relaxed);
    if (form == form_raw) {
        size_t n = ws_write_header(raw_opcode(m), m->payload.size(), header);
        return frame_join(view(header, n), m->payload);
    }
    if (form == form_sse_raw) return message_event_raw(m->payload, raw_opcode(m) == ws_binary);
    buffer_clear(scratch);
    write_json(m, reader, scratch);
    if (form == form_sse_json) return message_event(buffer_view(scratch));
    size_t n = ws_write_header(ws_text, scratch->size, header);
    return frame_join(view(header, n), buffer_view(scratch));
}

// Null where it does not get smaller.
static frame *encode_deflated(const message *m, wire_form form, json_reader *reader, buffer *scratch,
                              deflater *packer) {
    view body = m->payload;
    uint8_t opcode = ws_text;
    if (form_is_json(form)) {
        buffer_clear(scratch);
        write_json(m, reader, scratch);
        body = buffer_view(scratch);
    } else {
        opcode = raw_opcode(m);
    }
    bool narrow = form == form_json_narrow || form == form_raw_narrow;
    buffer packed = {};
    frame *f = nullptr;
    deflates.fetch_add(1, std::memory_order_relaxed);
    if (deflate_message(packer, narrow ? deflate_narrow : deflate_wide, body, &packed)) {
        encodes.fetch_add(1, std::memory_order_relaxed);
        char header[10];
        size_t n = ws_write_header(opcode | ws_rsv1, packed.size, header);
        f = frame_join(view(header, n), buffer_view(&packed));
    }
    buffer_free(&packed);
    return f;
}

static frame *make(message *m, wire_form form, json_reader *reader, buffer *scratch, deflater *packer) {
    if (!form_is_deflated(form)) return encode(m, form, reader, scratch);
    frame *f = nullptr;
    if (deflater_tries(packer, m->payload.size())) f = encode_deflated(m, form, reader, scratch, packer);
    return f ? f : frame_ref(message_form(m, form_is_json(form) ? form_json : form_raw, reader, scratch, packer));
}

// What a slow reader's queue may do with it. A frame of another form that serves for this one too has its marks
// already.
static void mark(const message *m, frame *f) {
    if (f->room) return;
    f->room = m->room_hash;
    f->key = m->key_hash;
}

frame *message_form(message *m, wire_form form, json_reader *reader, buffer *scratch, deflater *packer) {
    frame *made = m->forms[form].load(std::memory_order_acquire);
    if (made) return made;
    if (m->making[form].exchange(1, std::memory_order_acq_rel) == 0) {
        made = make(m, form, reader, scratch, packer);
        mark(m, made);
        m->forms[form].store(made, std::memory_order_release);
        m->forms[form].notify_all();
        return made;
    }
    m->forms[form].wait(nullptr, std::memory_order_acquire);
    return m->forms[form].load(std::memory_order_acquire);
}

} // namespace belfry
