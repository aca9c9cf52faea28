// Fuzzes commands and the nodes' envelope. The first byte chooses: a command, an envelope to read, or one to write.
#include "base/frame.h"
#include "proto/envelope.h"
#include "proto/room_name.h"
#include "proto/utf8.h"

#include <stdlib.h>
#include <string.h>

using namespace belfry;

namespace {

json_reader *reader;
json_reader *checker;

void require(bool fine) {
    if (!fine) abort();
}

void check_json(view slice) {
    frame *copy = frame_copy(slice);
    require(json_valid(checker, frame_view(copy)));
    frame_unref(copy);
}

void check_payload(payload_kind kind, view payload) {
    require(kind != payload_kind::any);
    if (kind == payload_kind::json) check_json(payload);
    if (kind == payload_kind::text) require(utf8_valid(payload));
}

void check_targets(const command *c) {
    bool conn = !c->conn.empty();
    bool user = !c->user.empty();
    switch (c->op) {
    case command_op::publish:
        require(c->room_count >= 1 && c->room_count <= command_rooms_max);
        break;
    case command_op::join:
    case command_op::leave:
        require(c->room_count == 1 && conn != user);
        break;
    case command_op::disconnect:
        require(c->room_count + conn + user == 1);
        break;
    case command_op::refresh:
        require(c->room_count == 0 && conn != user);
        break;
    case command_op::unknown:
        abort();
    }
}

void check_command(const command *c) {
    check_targets(c);
    for (size_t i = 0; i < c->room_count; i++)
        require(room_name_check(c->rooms[i]) == nullptr);
    require(c->except_count <= command_except_max);
    for (size_t i = 0; i < c->except_count; i++)
        require(room_name_check(c->except[i]) == nullptr);
    for (view text : {c->conn, c->user, c->id, c->key, c->reason})
        require(utf8_valid(text));
    require(c->reason.size() <= 123);
    if (c->op == command_op::publish) check_payload(c->kind, c->data);
    if (!c->from.empty()) check_json(c->from);
}

void fuzz_command(view source) {
    frame *padded = frame_copy(source);
    buffer scratch = {};
    command c;
    error e;
    if (command_parse(reader, frame_view(padded), &c, &scratch, &e)) {
        // The reader is free for other work while the command is used.
        frame *other = frame_copy("{\"\\u0078\":\"\\u0079\\u0079\\u0079\\u0079\"}");
        json_object object;
        require(json_parse_object(reader, frame_view(other), &object, &e));
        frame_unref(other);
        check_command(&c);
    } else {
        require(e.text[0] != '\0');
        require(utf8_valid(e.text) && !strpbrk(e.text, "\n\r\x1b"));
    }
    require(scratch.size <= source.size());
    buffer_free(&scratch);
    frame_unref(padded);
}

void check_equal(const envelope *a, const envelope *b) {
    require(a->node == b->node && a->sequence == b->sequence && a->kind == b->kind && a->time_ms == b->time_ms);
    require(a->payload == b->payload && a->except_count == b->except_count);
    require(a->member == b->member && a->ack == b->ack && a->key == b->key);
    for (size_t i = 0; i < a->except_count; i++)
        require(a->except[i] == b->except[i]);
}

// What was written is read back; `from` but for its line feeds. The script puts the position in front.
void check_round(const envelope *m) {
    buffer written = {};
    buffer scratch = {};
    bool kept = m->sequence % 2;
    if (kept) buffer_append(&written, "_-9 9223372036854775807\n");
    envelope_write(m, &written);
    frame *padded = frame_copy(buffer_view(&written));
    envelope back;
    error e;
    require(envelope_parse(reader, frame_view(padded), &back, &scratch, &e));
    check_equal(m, &back);
    require(kept ? position_epoch(&back.at) == "_-9" && back.at.offset == INT64_MAX : position_none(&back.at));
    require(back.from.size() == m->from.size() && back.from.find('\n') == view::npos);
    frame_unref(padded);
    buffer_free(&scratch);
    buffer_free(&written);
}

void fuzz_envelope(view source) {
    frame *padded = frame_copy(source);
    buffer scratch = {};
    envelope m;
    error e;
    if (envelope_parse(reader, frame_view(padded), &m, &scratch, &e)) {
        if (m.kind != payload_kind::any) check_payload(m.kind, m.payload);
        if (m.member) require(m.kind == payload_kind::json && m.payload.size() > 2);
        require(position_none(&m.at) ? source.starts_with("{") : m.at.offset > 0);
        require(m.key.size() <= 255 && utf8_valid(m.key));
        if (!m.from.empty()) check_json(m.from);
        check_round(&m);
    } else {
        require(e.text[0] != '\0');
    }
    buffer_free(&scratch);
    frame_unref(padded);
}

void fuzz_write(view bytes) {
    envelope m = {};
    m.node = "k3Fq9a";
    m.sequence = bytes.size();
    m.from = "{ \"a\" :\n\"\\n\" }";
    if (bytes.size() >= 4 && room_name_check(bytes.substr(0, 4)) == nullptr) {
        m.except[0] = bytes.substr(0, 4);
        m.except_count = 1;
    }
    if (bytes.size() < 256 && utf8_valid(bytes)) m.key = bytes;
    m.payload = bytes;
    m.kind = utf8_valid(bytes) ? payload_kind::text : payload_kind::binary;
    check_round(&m);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!reader) {
        reader = json_reader_new();
        checker = json_reader_new();
    }
    if (size == 0) return 0;
    view rest(reinterpret_cast<const char *>(data) + 1, size - 1);
    if (data[0] % 3 == 0) fuzz_command(rest);
    if (data[0] % 3 == 1) fuzz_envelope(rest);
    if (data[0] % 3 == 2) fuzz_write(rest);
    return 0;
}
