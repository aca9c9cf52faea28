// What request and response heads have in common: the scan, field lines, framing fields, look-ups.
//
// Pure functions over the caller's bytes; nothing is owned here. Any thread.
#include "proto/http1_fields.h"

#include <algorithm>

namespace belfry {

// ---- the scan

const char *http1_byte_refused(char before, char c) {
    // RFC 9112 section 2.2 lets a recipient take a bare LF for a line's end; those who do and those who don't see
    // different messages, so it is refused.
    if (c == '\n') return before == '\r' ? nullptr : "a line ends in LF without CR";
    if (before == '\r') return "CR without LF";
    // obs-fold, RFC 9112 sections 2.2 and 5.2
    if (before == '\n' && (c == ' ' || c == '\t')) return "white space at the start of a line";
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    return control && c != '\r' && c != '\t' ? "a control character in a head or in trailers" : nullptr;
}

http1_result http1_scan_head(view bytes, http1_scan *scan, size_t target_begin, size_t *head_size, const char **why) {
    const size_t target_limit = target_begin + http1_target_max; // the first byte that can't belong to a target
    const size_t end = std::min(bytes.size(), http1_head_max);
    for (size_t i = scan->scanned; i < end; i++) {
        const char before = i > 0 ? bytes[i - 1] : '\0';
        // Nearly all bytes are neither controls nor behind a CR: they need no second look.
        const bool plain = bytes[i] > ' ' && bytes[i] < 0x7f && before != '\r';
        const char *refused = plain ? nullptr : http1_byte_refused(before, bytes[i]);
        if (refused != nullptr) return http1_refuse(http1_result::bad_request, refused, why);
        if (bytes[i] == '\n' && i > 2 && bytes[i - 2] == '\n') {
            *head_size = i + 1;
            return http1_result::complete;
        }
        if (target_begin > 0 && i == target_limit &&
            bytes.substr(target_begin, http1_target_max + 1).find_first_of(" \r") == view::npos) {
            return http1_refuse(http1_result::target_too_long, "the request target is too long", why);
        }
    }
    if (end == http1_head_max) return http1_refuse(http1_result::head_too_large, "the head is too large", why);
    scan->scanned = static_cast<uint32_t>(end);
    return http1_result::incomplete;
}

// ---- lines

view http1_take_line(view *rest) {
    const view line = rest->substr(0, rest->find('\r'));
    rest->remove_prefix(line.size() + 2);
    return line;
}

http1_result http1_parse_version(view version, const char *malformed, uint8_t *minor, const char **why) {
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (version.size() != 8 || !version.starts_with("HTTP/") || !is_digit(version[5]) || version[6] != '.' ||
        !is_digit(version[7])) {
        return http1_refuse(http1_result::bad_request, malformed, why);
    }
    if (version[5] != '1') {
        return http1_refuse(http1_result::version_not_supported, "only HTTP/1.0 and HTTP/1.1 are spoken here", why);
    }
    // A higher minor version is read as the highest that is known (RFC 9110 section 2.5).
    *minor = version[7] == '0' ? 0 : 1;
    return http1_result::complete;
}

bool http1_split_field(view line, http1_field *out, const char **why) {
    const size_t colon = line.find(':');
    if (colon == view::npos) {
        *why = "a header line without a colon";
        return false;
    }
    out->name = line.substr(0, colon);
    out->value = bytes_trim(line.substr(colon + 1));
    if (http1_is_token(out->name)) return true;
    *why = "a header field's name is not a token"; // white space before the colon, too (RFC 9112 section 5.1)
    return false;
}

http1_result http1_parse_fields(view rest, http1_field *fields, uint32_t *count, const char **why) {
    for (;;) {
        const view line = http1_take_line(&rest);
        if (line.empty()) return http1_result::complete;
        if (*count == http1_field_max) {
            return http1_refuse(http1_result::head_too_large, "too many header fields", why);
        }
        if (!http1_split_field(line, &fields[*count], why)) return http1_result::bad_request;
        (*count)++;
    }
}

// ---- what the fields mean

http1_result http1_parse_framing(http1_field_list list, uint8_t minor_version, http1_framing *out, const char **why) {
    const auto bad_request = [why](const char *text) { return http1_refuse(http1_result::bad_request, text, why); };
    size_t lengths = 0;
    size_t encodings = 0;
    const http1_field *length = http1_list_find(list, "Content-Length", &lengths);
    const http1_field *encoding = http1_list_find(list, "Transfer-Encoding", &encodings);
    if (lengths > 1) return bad_request("several Content-Length fields");
    if (encodings > 1) return bad_request("several Transfer-Encoding fields");
    if (lengths + encodings > 1) return bad_request("both Content-Length and Transfer-Encoding");
    if (length != nullptr) {
        if (!bytes_parse_uint(length->value, &out->content_length))
            return bad_request("Content-Length is not a number");
        out->has_content_length = true;
    }
    if (encoding != nullptr) {
        if (minor_version == 0) return bad_request("Transfer-Encoding in HTTP/1.0");
        if (!bytes_equal_nocase(encoding->value, "chunked")) return bad_request("Transfer-Encoding is not chunked");
        out->chunked = true;
    }
    return http1_result::complete;
}

const http1_field *http1_list_find(http1_field_list list, view name, size_t *count) {
    const http1_field *found = nullptr;
    size_t n = 0;
    for (uint32_t i = 0; i < list.count; i++) {
        if (!bytes_equal_nocase(list.fields[i].name, name)) continue;
        found = &list.fields[i];
        n++;
    }
    if (count != nullptr) *count = n;
    return n == 1 ? found : nullptr;
}

bool http1_list_contains(http1_field_list list, view name, view token) {
    for (uint32_t i = 0; i < list.count; i++) {
        if (!bytes_equal_nocase(list.fields[i].name, name)) continue;
        view rest = list.fields[i].value;
        view element;
        while (http1_next_element(&rest, &element)) {
            if (bytes_equal_nocase(element, token)) return true;
        }
    }
    return false;
}

bool http1_list_persistent(http1_field_list list, uint8_t minor_version) {
    const bool persistent = minor_version >= 1 || http1_list_contains(list, "Connection", "keep-alive");
    return persistent && !http1_list_contains(list, "Connection", "close");
}

const http1_field *http1_find(const http1_request *r, view name, size_t *count) {
    return http1_list_find({r->fields, r->field_count}, name, count);
}

const http1_field *http1_find(const http1_response *r, view name, size_t *count) {
    return http1_list_find({r->fields, r->field_count}, name, count);
}

bool http1_list_has(const http1_request *r, view name, view token) {
    return http1_list_contains({r->fields, r->field_count}, name, token);
}

bool http1_list_has(const http1_response *r, view name, view token) {
    return http1_list_contains({r->fields, r->field_count}, name, token);
}

bool http1_next_element(view *rest, view *element) {
    while (!rest->empty()) {
        const size_t comma = std::min(rest->find(','), rest->size());
        *element = bytes_trim(rest->substr(0, comma));
        rest->remove_prefix(std::min(comma + 1, rest->size()));
        if (!element->empty()) return true;
    }
    return false;
}

bool http1_is_token(view s) {
    return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return http1_in_table(http1_tchars, c); });
}

} // namespace belfry
