// Server-sent events, written. Owns nothing; any thread.
#include "proto/sse.h"

namespace belfry {

// Cuts the first line off; its end may be LF, CR or CRLF. False: that was the last one.
static bool cut_line(view *rest, view *line) {
    size_t end = rest->find_first_of("\r\n");
    *line = rest->substr(0, end);
    if (end == view::npos) return false;
    rest->remove_prefix(end);
    rest->remove_prefix(rest->starts_with("\r\n") ? 2 : 1);
    return true;
}

void sse_write_event(buffer *out, view name, view data) {
    buffer_reserve(out, name.size() + data.size() + 32);
    if (!name.empty()) {
        buffer_append(out, "event: ");
        buffer_append(out, name);
        buffer_append_char(out, '\n');
    }
    view line;
    for (bool more = true; more;) {
        more = cut_line(&data, &line);
        buffer_append(out, "data: ");
        buffer_append(out, line);
        buffer_append_char(out, '\n');
    }
    buffer_append_char(out, '\n');
}

void sse_write_id(buffer *out, view id) {
    buffer_append(out, "id: ");
    buffer_append(out, id);
    buffer_append(out, "\n\n");
}

void sse_write_retry(buffer *out, uint64_t ms) {
    buffer_append(out, "retry: ");
    buffer_append_uint(out, ms);
    buffer_append(out, "\n\n");
}

void sse_write_comment(buffer *out, view text) {
    buffer_append_char(out, ':');
    buffer_append(out, text);
    buffer_append(out, "\n\n");
}

} // namespace belfry
