// Server lines of [upstream]. Main thread.
#include "main/config_upstream.h"

namespace belfry {

static view next_word(view *rest) {
    *rest = bytes_trim(*rest);
    view word = rest->substr(0, rest->find_first_of(" \t"));
    rest->remove_prefix(word.size());
    return word;
}

static bool bad(error *e, view what, const char *why) {
    error_set(e, "\"%.*s\" %s", static_cast<int>(what.size()), what.data(), why);
    return false;
}

static bool parse_port(view text, uint16_t *out) {
    uint64_t n = 0;
    if (!bytes_parse_uint(text, &n) || n < 1 || n > 65535) return false;
    *out = static_cast<uint16_t>(n);
    return true;
}

// host, host:port, [v6]:port; the port may be missing.
static bool parse_host(view text, server_settings *out, error *e) {
    size_t end = text.starts_with('[') ? text.find(']') : text.find(':');
    view port;
    if (text.starts_with('[')) {
        if (end == view::npos) return bad(e, text, "has a [ without its ]");
        out->host = text.substr(1, end - 1);
        port = text.substr(end + 1);
    } else {
        out->host = text.substr(0, end);
        port = end == view::npos ? view() : text.substr(end);
    }
    if (out->host.empty() || out->host.size() > 253 || out->host.find_first_of("/@?#%\"'") != std::string::npos)
        return bad(e, text, "names no host: write host:port, unix:/path or https://host:port");
    if (!port.empty() && (port[0] != ':' || !parse_port(port.substr(1), &out->port)))
        return bad(e, text, "has a bad port: a number from 1 to 65535");
    return true;
}

static bool parse_place(view word, server_settings *out, error *e) {
    out->port = 80;
    if (word.starts_with("https://")) {
        out->tls = true;
        out->port = 443;
        word.remove_prefix(8);
    } else if (word.starts_with("http://")) {
        word.remove_prefix(7);
    }
    out->text = word;
    if (!word.starts_with("unix:")) return parse_host(word, out, e);
    out->unix = true;
    out->host = word.substr(5);
    if (out->host.empty() || out->host[0] != '/' || out->host.size() > 107)
        return bad(e, word, "needs an absolute path of at most 107 bytes behind unix:");
    return true;
}

// The parameters by way of option rows, so that units and bounds are the ini file's.
struct parameter_values {
    int64_t weight, max_fails, fail_timeout;
};

static bool parse_parameter(view word, parameter_values *values, error *e) {
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
    static const option_row rows[] = {
        {"server", "weight", option_type::integer, offsetof(parameter_values, weight), "1", 1, 10000, nullptr, false,
         ""},
        {"server", "max_fails", option_type::integer, offsetof(parameter_values, max_fails), "1", 0, 1000000, nullptr,
         false, ""},
        {"server", "fail_timeout", option_type::duration, offsetof(parameter_values, fail_timeout), "10s", 100, 3600000,
         nullptr, false, ""},
    };
    size_t equals = word.find('=');
    view name = word.substr(0, equals);
    const option_row *row = option_find(rows, 3, "server", name);
    if (!row || equals == view::npos)
        return bad(e, word, "is unknown: weight=1 max_fails=1 fail_timeout=10s backup down");
    error why;
    if (option_parse(row, word.substr(equals + 1), values, &why)) return true;
    error_set(e, "%.*s: %s", static_cast<int>(name.size()), name.data(), why.text);
    return false;
}

bool config_parse_server(view line, server_settings *out, error *e) {
    *out = {};
    parameter_values values = {1, 1, 10000};
    view word = next_word(&line);
    if (word.empty()) return bad(e, line, "names no server");
    if (!parse_place(word, out, e)) return false;
    while (!(word = next_word(&line)).empty()) {
        if (word == "backup")
            out->backup = true;
        else if (word == "down")
            out->down = true;
        else if (!parse_parameter(word, &values, e))
            return false;
    }
    out->weight = static_cast<uint32_t>(values.weight);
    out->max_fails = static_cast<uint32_t>(values.max_fails);
    out->fail_timeout = values.fail_timeout;
    return true;
}

} // namespace belfry
