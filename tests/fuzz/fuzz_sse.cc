// Fuzzes proto/sse: the bytes are the data of an event, with a type where the first one says so, between blocks of all
// other kinds. What must hold: a reader by the standard (WHATWG HTML, section 9.2.6) dispatches exactly this event, its
// data the same but for line ends, all of which have become LF, and knows the last event id and the retry time.
//
// One thread.
#include "proto/sse.h"

#include <stdlib.h>
#include <string>

using namespace belfry;
using std::string;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

struct reader {
    string data, type, id, retry;
    int events = 0;
    string got, got_type;
};

void dispatch(reader *r) {
    if (!r->data.empty()) {
        r->data.pop_back(); // the last LF
        r->events++;
        r->got = r->data;
        r->got_type = r->type;
    }
    r->data.clear();
    r->type.clear();
}

void take_line(reader *r, const string &line) {
    if (line.empty()) return dispatch(r);
    const size_t colon = line.find(':');
    if (colon == 0) return;
    const string field = line.substr(0, colon);
    string value = colon == string::npos ? "" : line.substr(colon + 1);
    if (!value.empty() && value[0] == ' ') value.erase(0, 1);
    if (field == "event") r->type = value;
    if (field == "data") r->data += value + "\n";
    if (field == "id" && value.find('\0') == string::npos) r->id = value;
    if (field == "retry" && value.find_first_not_of("0123456789") == string::npos) r->retry = value;
}

void read_all(reader *r, view stream) {
    string line;
    for (size_t i = 0; i < stream.size(); i++) {
        if (stream[i] != '\r' && stream[i] != '\n') {
            line += stream[i];
            continue;
        }
        take_line(r, line);
        line.clear();
        if (stream[i] == '\r' && i + 1 < stream.size() && stream[i + 1] == '\n') i++;
    }
    require(line.empty()); // blocks end with a line
}

string with_line_feeds(view data) {
    string out;
    for (size_t i = 0; i < data.size(); i++) {
        if (data[i] == '\r' && i + 1 < data.size() && data[i + 1] == '\n') continue;
        out += data[i] == '\r' ? '\n' : data[i];
    }
    return out;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    view text(reinterpret_cast<const char *>(data), size);
    const bool named = !text.empty() && (text[0] & 1);
    if (!text.empty()) text.remove_prefix(1);
    buffer out = {};
    sse_write_retry(&out, size);
    sse_write_id(&out, "before");
    sse_write_event(&out, named ? "binary" : "", text);
    sse_write_comment(&out, "");
    sse_write_id(&out, "e:1:room");
    reader r;
    read_all(&r, buffer_view(&out));
    buffer_free(&out);
    require(r.events == 1 && r.got == with_line_feeds(text));
    require(r.got_type == (named ? "binary" : "") && r.id == "e:1:room" && r.retry == std::to_string(size));
    return 0;
}
