// The table of known field names, and its look-up: once for each field of each head that is forwarded.
//
// Pure; the table is constant. Any thread.
#include "proto/http1_names.h"

#include <array>
#include <stddef.h>

namespace belfry {

namespace {

struct row {
    view name; // in lower case
    uint8_t traits;
};

constexpr uint8_t hop = http1_name_hop | http1_name_no_trailer;
constexpr uint8_t remade = http1_name_remade | http1_name_no_trailer;
constexpr uint8_t client = http1_name_client | http1_name_essential | http1_name_no_trailer;
constexpr uint8_t essential = http1_name_essential | http1_name_no_trailer;

// By length, so that a look-up compares with the few names of its own length.
constexpr row rows[] = {
    {"te", hop},
    {"age", http1_name_no_trailer},
    {"date", http1_name_no_trailer},
    {"host", remade | http1_name_essential},
    {"vary", http1_name_no_trailer},
    // CGI programs take it for the variable HTTP_PROXY ("httpoxy"); no request of a client needs it.
    {"proxy", remade},
    {"range", http1_name_no_trailer},
    {"cookie", essential},
    {"expect", remade},
    {"origin", essential},
    {"pragma", http1_name_no_trailer},
    {"expires", http1_name_no_trailer},
    {"trailer", http1_name_trailer | http1_name_no_trailer},
    {"upgrade", hop},
    {"warning", http1_name_no_trailer},
    {"location", http1_name_no_trailer},
    {"forwarded", client},
    {"x-real-ip", client},
    {"connection", hop},
    {"keep-alive", hop},
    {"set-cookie", essential},
    {"tracestate", remade | http1_name_essential},
    {"retry-after", http1_name_no_trailer},
    {"traceparent", remade | http1_name_essential},
    {"max-forwards", http1_name_no_trailer},
    {"x-request-id", remade | http1_name_essential},
    {"authorization", essential},
    {"cache-control", http1_name_no_trailer},
    {"content-length", hop | http1_name_essential},
    {"http2-settings", hop},
    {"proxy-connection", hop},
    {"www-authenticate", http1_name_no_trailer},
    {"transfer-encoding", hop | http1_name_essential},
    {"proxy-authenticate", hop},
    {"proxy-authorization", hop},
    {"proxy-authentication-info", hop},
};

constexpr row prefixes[] = {
    {"access-control-", http1_name_no_trailer},
    {"belfry-", hop | http1_name_essential}, // from Belfry, or for it: no client writes them, none reads them
    {"content-", essential},
    {"if-", http1_name_no_trailer},
    {"sec-websocket-", http1_name_websocket | essential},
    {"sec-", essential},
    {"x-forwarded-", client},
};

constexpr size_t longest = rows[std::size(rows) - 1].name.size();

// begins[n] is the first row whose name has n bytes or more.
constexpr std::array<size_t, longest + 2> begins = [] {
    std::array<size_t, longest + 2> table = {};
    for (size_t n = 0; n < table.size(); n++) {
        size_t i = 0;
        while (i < std::size(rows) && rows[i].name.size() < n)
            i++;
        table[n] = i;
    }
    return table;
}();

constexpr bool sorted = [] {
    for (size_t i = 1; i < std::size(rows); i++) {
        if (rows[i - 1].name.size() > rows[i].name.size()) return false;
    }
    return true;
}();
static_assert(sorted);

constexpr char plain(char c) {
    if (c >= 'A' && c <= 'Z') return static_cast<char>(c + ('a' - 'A'));
    return c == '_' ? '-' : c;
}

// Whether `name` begins with `known`, which is lower case with '-'.
bool begins_with(view name, view known) {
    if (name.size() < known.size()) return false;
    for (size_t i = 0; i < known.size(); i++) {
        if (plain(name[i]) != known[i]) return false;
    }
    return true;
}

// No known name has a '_' of its own.
uint8_t found(const row &r, view name) {
    const bool respelt = name.substr(0, r.name.size()).find('_') != view::npos;
    return respelt ? static_cast<uint8_t>(r.traits | http1_name_respelt) : r.traits;
}

} // namespace

uint8_t http1_name_traits(view name) {
    if (name.size() <= longest) {
        for (size_t i = begins[name.size()]; i < begins[name.size() + 1]; i++) {
            if (begins_with(name, rows[i].name)) return found(rows[i], name);
        }
    }
    for (const row &r : prefixes) {
        if (begins_with(name, r.name)) return found(r, name);
    }
    return 0;
}

bool http1_name_collides(view a, view b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); i++) {
        if (plain(a[i]) != plain(b[i])) return false;
    }
    return true;
}

} // namespace belfry
