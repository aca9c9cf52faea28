// The url option of [broker]: redis://, rediss:// and unix://, and HOST:PORT of its sentinels. Any thread.
//
// No message quotes a part of the URL: where a password holds an unencoded '/', '?' or '@', any part may be its.
#include "net/redis.h"

#include <sys/un.h>

namespace belfry {

namespace {

constexpr size_t host_max = 253; // RFC 1035 section 2.3.4, without the root's dot
constexpr size_t path_max = sizeof(sockaddr_un::sun_path) - 1;
constexpr uint64_t database_max = 0x7fffffff;

int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// RFC 3986 section 2.1. A NUL is refused: names and paths go to C functions.
bool decode(view in, std::string *out) {
    out->clear();
    for (size_t i = 0; i < in.size(); i++) {
        if (in[i] != '%') {
            if (in[i] == '\0') return false;
            out->push_back(in[i]);
            continue;
        }
        if (in.size() - i < 3) return false;
        const int high = hex(in[i + 1]), low = hex(in[i + 2]);
        if (high < 0 || low < 0 || high + low == 0) return false;
        out->push_back(static_cast<char>(high * 16 + low));
        i += 2;
    }
    return true;
}

bool bad(error *e, const char *what) {
    error_set(e, "%s", what);
    return false;
}

bool parse_user(view text, redis_settings *s, error *e) {
    const size_t colon = text.find(':');
    const view password = colon == view::npos ? view() : text.substr(colon + 1);
    if (!decode(text.substr(0, colon), &s->user) || !decode(password, &s->password))
        return bad(e, "the user or password holds a bad percent-encoding");
    return true;
}

bool parse_database(view text, redis_settings *s, error *e) {
    uint64_t n = 0;
    if (!bytes_parse_uint(text, &n) || n > database_max) return bad(e, "the database is not a number from 0 up");
    s->database = static_cast<int>(n);
    return true;
}

bool parse_port(view text, redis_settings *s, error *e) {
    uint64_t n = 0;
    if (!bytes_parse_uint(text, &n) || n == 0 || n > 65535)
        return bad(e, "the port is not a number from 1 to 65535 (percent-encode / ? # and @ in a password)");
    s->port = static_cast<uint16_t>(n);
    return true;
}

// HOST, HOST:PORT, [ADDRESS], [ADDRESS]:PORT
bool parse_host(view text, redis_settings *s, error *e) {
    view host = text, port;
    bool has_port = false;
    if (!text.empty() && text[0] == '[') {
        const size_t end = text.find(']');
        if (end == view::npos) return bad(e, "the address lacks its closing ]");
        host = text.substr(1, end - 1);
        const view rest = text.substr(end + 1);
        has_port = !rest.empty();
        if (has_port && rest[0] != ':') return bad(e, "only :PORT can follow the ] of an address");
        port = has_port ? rest.substr(1) : view();
    } else if (const size_t colon = text.find(':'); colon != view::npos) {
        has_port = true;
        host = text.substr(0, colon);
        port = text.substr(colon + 1);
        if (port.find(':') != view::npos) return bad(e, "an IPv6 address is written in brackets: [::1]:6379");
    }
    if (!decode(host, &s->host)) return bad(e, "the host holds a bad percent-encoding");
    if (s->host.empty()) return bad(e, "no host (percent-encode / ? # and @ in a password)");
    if (s->host.size() > host_max) return bad(e, "the host is longer than 253 bytes");
    return !has_port || parse_port(port, s, e);
}

bool parse_tcp(view rest, redis_settings *s, error *e) {
    s->unix_path.clear();
    if (rest.find_first_of("?#") != view::npos)
        return bad(e, "nothing can follow /DATABASE (percent-encode / ? # and @ in a password)");
    const size_t slash = rest.find('/');
    view authority = rest.substr(0, slash);
    if (const size_t at = authority.rfind('@'); at != view::npos) {
        if (!parse_user(authority.substr(0, at), s, e)) return false;
        authority = authority.substr(at + 1);
    }
    if (!parse_host(authority, s, e)) return false;
    const view database = slash == view::npos ? view() : rest.substr(slash + 1);
    return database.empty() || parse_database(database, s, e);
}

bool parse_unix(view rest, redis_settings *s, error *e) {
    s->host.clear();
    const size_t slash = rest.find('/');
    if (slash == view::npos) return bad(e, "no path: unix:///run/redis/redis.sock");
    const view authority = rest.substr(0, slash);
    if (!authority.empty()) {
        if (authority.back() != '@') return bad(e, "a unix URL has no host: unix:///run/redis/redis.sock");
        if (!parse_user(authority.substr(0, authority.size() - 1), s, e)) return false;
    }
    view path = rest.substr(slash);
    if (const size_t query = path.find('?'); query != view::npos) {
        const view option = path.substr(query + 1);
        path = path.substr(0, query);
        if (option.substr(0, 3) != "db=") return bad(e, "only ?db=N can follow the path");
        if (!parse_database(option.substr(3), s, e)) return false;
    }
    if (path.find('#') != view::npos || !decode(path, &s->unix_path))
        return bad(e, "the path holds a # or a bad percent-encoding");
    if (s->unix_path.size() > path_max) return bad(e, "the path is longer than a socket's name can be (107 bytes)");
    return true;
}

} // namespace

bool redis_parse_url(view url, redis_settings *out, error *e) {
    redis_settings s = *out; // what no URL says stays as it was
    s.user.clear();
    s.password.clear();
    s.port = 6379;
    s.database = 0;
    s.tls = false;
    const size_t colon = url.find("://");
    const view scheme = url.substr(0, colon == view::npos ? 0 : colon);
    const view rest = colon == view::npos ? view() : url.substr(colon + 3);
    bool good;
    if (bytes_equal_nocase(scheme, "redis"))
        good = parse_tcp(rest, &s, e);
    else if (bytes_equal_nocase(scheme, "rediss")) {
        s.tls = true;
        good = parse_tcp(rest, &s, e);
    } else if (bytes_equal_nocase(scheme, "unix"))
        good = parse_unix(rest, &s, e);
    else
        good = bad(e, "a Redis URL starts with redis://, rediss:// or unix://");
    if (good) *out = s;
    return good;
}

bool redis_parse_endpoint(view text, redis_settings *out, error *e) {
    redis_settings s = *out;
    if (text.find_first_of("/?#@ ") != view::npos) return bad(e, "HOST:PORT and nothing else is expected");
    if (!parse_host(text, &s, e)) return false;
    *out = s;
    return true;
}

std::string redis_describe(const redis_settings *s) {
    if (s->host.empty()) return "unix:" + s->unix_path;
    const bool brackets = s->host.find(':') != std::string::npos;
    return (brackets ? "[" + s->host + "]" : s->host) + ":" + std::to_string(s->port) + "/" +
           std::to_string(s->database);
}

} // namespace belfry
