// Fuzzes what is read from Redis's streams. The input is cut at line feeds into words: the id, then fields and values;
// the last word is the rest, line feeds included, so that an envelope can stand there.
#include "base/frame.h"
#include "proto/envelope.h"
#include "proto/stream_entry.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

constexpr size_t words_max = 8;
json_reader *reader;

void require(bool fine) {
    if (!fine) abort();
}

void check_id(view text) {
    stream_id id;
    if (!stream_id_parse(text, &id)) return;
    require(std::to_string(id.ms) + "-" + std::to_string(id.sequence) == text); // one way to write it
}

void check_history(view id, const view *words, size_t count) {
    uint64_t offset = 0;
    view envelope_text;
    error e;
    e.text[0] = 0;
    if (!stream_entry_history(id, words, count, &offset, &envelope_text, &e)) return require(e.text[0] != 0);
    require(count == 2 && words[0] == "m" && envelope_text.data() == words[1].data());
    require(offset > 0 && std::to_string(offset) + "-0" == id);
    frame *padded = frame_copy(envelope_text);
    buffer scratch = {};
    envelope m;
    if (envelope_parse(reader, frame_view(padded), &m, &scratch, &e)) require(position_none(&m.at));
    buffer_free(&scratch);
    frame_unref(padded);
}

void check_command(const view *words, size_t count) {
    view text;
    error e;
    if (!stream_entry_command(words, count, &text, &e)) return;
    size_t named = 0;
    for (size_t i = 0; i < count; i += 2)
        named += words[i] == "command";
    require(count % 2 == 0 && named == 1);
    frame *padded = frame_copy(text);
    buffer scratch = {};
    command c;
    if (command_parse(reader, frame_view(padded), &c, &scratch, &e)) require(c.op != command_op::unknown);
    buffer_free(&scratch);
    frame_unref(padded);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!reader) reader = json_reader_new();
    view rest(reinterpret_cast<const char *>(data), size);
    view words[words_max];
    size_t count = 0;
    size_t wanted = size ? data[0] % words_max + 1 : 1;
    if (size) rest.remove_prefix(1);
    while (count + 1 < wanted) {
        size_t end = rest.find('\n');
        if (end == view::npos) break;
        words[count++] = rest.substr(0, end);
        rest.remove_prefix(end + 1);
    }
    words[count++] = rest;
    for (size_t i = 0; i < count; i++)
        check_id(words[i]);
    check_history(words[0], words + 1, count - 1);
    check_command(words, count);
    return 0;
}
