// HTTP/1 response heads: what a backend answered, read as strictly as what a client asked.
//
// Pure functions over the caller's bytes; nothing is owned here. Any thread.
#include "proto/http1.h"
#include "proto/http1_fields.h"

#include <algorithm>

namespace belfry {

namespace {

// HTTP/1.x SP 3DIGIT SP [ reason ]. The second space is there even without a reason (RFC 9112 section 4).
http1_result parse_status_line(view line, http1_response *out, const char **why) {
    constexpr const char *malformed = "the status line is not HTTP/1.x SP STATUS SP REASON";
    const view version = line.substr(0, line.find(' '));
    const http1_result result = http1_parse_version(version, malformed, &out->minor_version, why);
    if (result != http1_result::complete) return result;
    line.remove_prefix(version.size());
    if (line.size() < 5 || line[0] != ' ' || line[4] != ' ') {
        return http1_refuse(http1_result::bad_request, malformed, why);
    }
    for (size_t i = 1; i < 4; i++) {
        if (line[i] < '0' || line[i] > '9') return http1_refuse(http1_result::bad_request, malformed, why);
        out->status = out->status * 10 + (line[i] - '0');
    }
    if (out->status < 100 || out->status > 599) {
        return http1_refuse(http1_result::bad_request, "the status is not within 100 and 599", why);
    }
    out->reason = line.substr(5);
    return http1_result::complete;
}

} // namespace

http1_result http1_parse_response(view bytes, http1_scan *scan, http1_response *out, const char **why) {
    constexpr view begin = "HTTP/";
    *why = "";
    // Seen at once: a backend that speaks something else, or that answers in HTTP/0.9.
    const size_t known = std::min(bytes.size(), begin.size());
    if (bytes.substr(0, known) != begin.substr(0, known)) {
        return http1_refuse(http1_result::bad_request, "the answer does not begin with HTTP/", why);
    }
    size_t head_size = 0;
    http1_result result = http1_scan_head(bytes, scan, 0, &head_size, why);
    if (result != http1_result::complete) return result;
    *out = {};
    out->head_size = head_size;
    view rest = bytes.substr(0, head_size);
    result = parse_status_line(http1_take_line(&rest), out, why);
    if (result == http1_result::complete) result = http1_parse_fields(rest, out->fields, &out->field_count, why);
    const http1_field_list list = {out->fields, out->field_count};
    http1_framing framing = {};
    if (result == http1_result::complete) result = http1_parse_framing(list, out->minor_version, &framing, why);
    if (result != http1_result::complete) return result;
    out->has_content_length = framing.has_content_length;
    out->content_length = framing.content_length;
    out->chunked = framing.chunked;
    out->keep_alive = http1_list_persistent(list, out->minor_version);
    return result;
}

} // namespace belfry
