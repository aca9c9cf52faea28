// The bodies of HTTP/1 messages: a state machine that takes chunk lines and trailers byte by byte and content in
// slices.
//
// Works on an http1_body, which its connection owns. One thread at a time for each.
#include "proto/http1_body.h"

#include "proto/http1_fields.h"
#include "proto/http1_names.h"

#include <algorithm>
#include <charconv>

namespace belfry {

namespace {

enum body_state : uint8_t {
    ended, // zero: a body of kind none
    failed,
    payload,         // content, of a chunk or of the whole body
    chunk_size,      // hex digits
    extension_begin, // behind ';'
    extension_name,
    value_begin, // behind '='
    value_token,
    value_quoted,
    value_escaped, // behind a backslash in quotes
    value_quoted_end,
    line_feed,       // of the chunk line
    chunk_return,    // behind the content of a chunk
    chunk_line_feed, // behind that
    trailer_begin,   // at the start of a line behind the last chunk
    trailer_line,
    last_line_feed, // of the empty line that ends the body
};

void fail(http1_body *b, const char *why) {
    b->state = failed;
    b->why = why;
}

void go(http1_body *b, body_state next) {
    b->state = next;
}

// ---- chunk lines

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void step_size(http1_body *b, char c) {
    const int value = hex_value(c);
    if (value >= 0) {
        // 16 digits fill 64 bits. More, were they zeros, are a way to be read differently by two parsers.
        if (b->digits == 16) return fail(b, "a chunk size of more than 16 digits");
        b->digits++;
        b->left = b->left << 4 | static_cast<uint64_t>(value);
        return;
    }
    if (b->digits == 0) return fail(b, "a chunk does not begin with its size");
    if (c == ';') return go(b, extension_begin);
    return c == '\r' ? go(b, line_feed) : fail(b, "a byte behind the chunk size that may not be");
}

// A quoted string may hold tabs and spaces, and bytes above ASCII (RFC 9110 section 5.6.4).
void step_quoted(http1_body *b, char c) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) return fail(b, "a control character in a chunk extension");
    if (b->state == value_escaped) return go(b, value_quoted);
    if (c == '"') return go(b, value_quoted_end);
    if (c == '\\') go(b, value_escaped);
}

void step_extension(http1_body *b, char c) {
    if (b->state == value_quoted || b->state == value_escaped) return step_quoted(b, c);
    if (b->state != value_quoted_end && http1_in_table(http1_tchars, c)) {
        if (b->state == extension_begin) return go(b, extension_name);
        if (b->state == value_begin) go(b, value_token);
        return;
    }
    if (b->state == value_begin && c == '"') return go(b, value_quoted);
    if (b->state == extension_name && c == '=') return go(b, value_begin);
    const bool complete = b->state == extension_name || b->state == value_token || b->state == value_quoted_end;
    if (complete && c == ';') return go(b, extension_begin);
    return complete && c == '\r' ? go(b, line_feed) : fail(b, "a malformed chunk extension");
}

void step_chunk_line(http1_body *b, char c) {
    if (++b->line_size > http1_chunk_line_max) return fail(b, "a chunk's line is too long");
    if (b->state == chunk_size) return step_size(b, c);
    if (b->state != line_feed) return step_extension(b, c);
    if (c != '\n') return fail(b, "CR without LF behind a chunk size");
    return go(b, b->left > 0 ? payload : trailer_begin);
}

void step_chunk_end(http1_body *b, char c) {
    if (c != (b->state == chunk_return ? '\r' : '\n')) return fail(b, "a chunk is not followed by CRLF");
    if (b->state == chunk_return) return go(b, chunk_line_feed);
    b->digits = 0;
    b->line_size = 0;
    return go(b, chunk_size); // `left` is 0: the chunk is used up
}

// ---- trailers

// The line behind the accepted ones is whole: it joins them, written anew, or goes.
void take_trailer(http1_body *b) {
    http1_field field = {};
    view line = buffer_view(&b->trailers).substr(b->kept);
    line.remove_suffix(2);
    if (b->trailer_count++ == http1_trailer_max) return fail(b, "too many trailers");
    if (!http1_split_field(line, &field, &b->why)) return fail(b, b->why);
    buffer written = {};
    if ((http1_name_traits(field.name) & http1_name_no_trailer) == 0) {
        buffer_append(&written, field.name);
        buffer_append(&written, ": ");
        buffer_append(&written, field.value);
        buffer_append(&written, "\r\n");
    }
    b->trailers.size = b->kept;
    buffer_append(&b->trailers, buffer_view(&written));
    b->kept = static_cast<uint32_t>(b->trailers.size);
    buffer_free(&written);
    return go(b, trailer_begin);
}

void step_trailer(http1_body *b, char c) {
    if (++b->trailers_size > http1_trailers_max) return fail(b, "the trailers are too large");
    if (b->state == last_line_feed) {
        return c == '\n' ? go(b, ended) : fail(b, "CR without LF behind the last chunk");
    }
    const bool begins = b->state == trailer_begin;
    if (begins && c == '\r') return go(b, last_line_feed); // most bodies have no trailers, and so no buffer
    const char before = begins ? '\n' : b->trailers.data[b->trailers.size - 1];
    const char *refused = http1_byte_refused(before, c);
    if (refused != nullptr) return fail(b, refused);
    buffer_append_char(&b->trailers, c);
    return c == '\n' ? take_trailer(b) : go(b, trailer_line);
}

// ---- the content

// True where there is a piece.
bool take_payload(http1_body *b, view *rest, view *data) {
    if (b->kind == http1_body_kind::until_close) {
        *data = *rest;
    } else {
        *data = rest->substr(0, static_cast<size_t>(std::min<uint64_t>(b->left, rest->size())));
        b->left -= data->size();
        if (data->empty() && b->left == 0) go(b, b->kind == http1_body_kind::chunked ? chunk_return : ended);
    }
    rest->remove_prefix(data->size());
    return !data->empty();
}

void step(http1_body *b, char c) {
    if (b->state >= trailer_begin) return step_trailer(b, c);
    return b->state >= chunk_return ? step_chunk_end(b, c) : step_chunk_line(b, c);
}

} // namespace

http1_body_kind http1_request_body_kind(const http1_request *r) {
    if (r->chunked) return http1_body_kind::chunked;
    return r->has_content_length ? http1_body_kind::length : http1_body_kind::none;
}

http1_body_kind http1_response_body_kind(const http1_response *r, view request_method) {
    const bool tunnel = request_method == "CONNECT" && r->status >= 200 && r->status < 300;
    if (request_method == "HEAD" || tunnel || r->status < 200 || r->status == 204 || r->status == 304) {
        return http1_body_kind::none;
    }
    if (r->chunked) return http1_body_kind::chunked;
    return r->has_content_length ? http1_body_kind::length : http1_body_kind::until_close;
}

http1_body_kind http1_client_body_kind(http1_body_kind from_backend, bool client_http11) {
    if (from_backend == http1_body_kind::none || from_backend == http1_body_kind::length) return from_backend;
    return client_http11 ? http1_body_kind::chunked : http1_body_kind::until_close;
}

void http1_body_start(http1_body *b, http1_body_kind kind, uint64_t length) {
    http1_body_free(b);
    b->kind = kind;
    if (kind == http1_body_kind::none) return;
    b->state = kind == http1_body_kind::chunked ? chunk_size : payload;
    if (kind == http1_body_kind::length) b->left = length;
}

http1_body_event http1_body_next(http1_body *b, view *rest, view *data, const char **why) {
    *data = {};
    *why = "";
    for (;;) {
        if (b->state == ended) return http1_body_event::end;
        if (b->state == failed) {
            *why = b->why;
            return http1_body_event::failed;
        }
        if (b->state == payload) {
            if (take_payload(b, rest, data)) return http1_body_event::data;
            if (b->state != payload) continue;
        }
        if (rest->empty()) return http1_body_event::more;
        const char c = rest->front();
        rest->remove_prefix(1);
        step(b, c);
    }
}

http1_body_event http1_body_eof(http1_body *b, const char **why) {
    *why = "";
    const bool whole = b->state == payload && (b->kind == http1_body_kind::until_close ||
                                               (b->kind == http1_body_kind::length && b->left == 0));
    if (whole) b->state = ended;
    if (b->state == ended) return http1_body_event::end;
    if (b->state != failed) fail(b, "the body was cut short");
    *why = b->why;
    return http1_body_event::failed;
}

view http1_body_trailers(const http1_body *b) {
    return view(b->trailers.data, b->kept);
}

void http1_body_free(http1_body *b) {
    buffer_free(&b->trailers);
    *b = {};
}

size_t http1_write_chunk_head(uint64_t size, char out[http1_chunk_head_size]) {
    const std::to_chars_result end = std::to_chars(out, out + http1_chunk_head_size - 2, size, 16);
    end.ptr[0] = '\r';
    end.ptr[1] = '\n';
    return static_cast<size_t>(end.ptr - out) + 2;
}

void http1_write_last_chunk(view trailers, buffer *out) {
    buffer_append(out, "0\r\n");
    buffer_append(out, trailers);
    buffer_append(out, "\r\n");
}

} // namespace belfry
