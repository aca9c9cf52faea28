// origin: which web sites may connect, by the Origin field that browsers send and pages cannot forge (RFC 6454; against
// cross-site WebSocket hijacking), and CORS answers for the same sites on the route's plain HTTP.
//
// A scope per [route], made on the main thread, read by all workers; no state of a connection.
#include "module.h"

namespace {

enum { option_origin };

// From the most specific to the most general: of several entries that match, the first of these counts.
enum entry_kind { entry_exact, entry_below, entry_null, entry_same, entry_any, entry_none };

struct site {
    belfry_text scheme;
    belfry_text host; // of entry_below: what follows the '*', dot included
    uint32_t port;    // 0: the scheme has no default and none was written
};

struct entry {
    entry_kind kind;
    struct site site; // of exact and below; borrowed: from the route_list's texts
};

struct route_list {
    size_t count;
    entry *entries; // borrowed: behind this struct, in one block with the texts
    bool varies;    // the answer to a plain request depends on its Origin
};

// ---- texts -------------------------------------------------------------------------------------------------------

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_alphanumeric(char c) {
    const char lower = static_cast<char>(c | 0x20);
    return is_digit(c) || (lower >= 'a' && lower <= 'z');
}

bool one_of(char c, const char *set) {
    for (; *set; set++) {
        if (*set == c) return true;
    }
    return false;
}

// tchar of RFC 9110 section 5.6.2.
bool is_token_char(char c) {
    return is_alphanumeric(c) || one_of(c, "!#$%&'*+-.^_`|~");
}

bool is(belfry_text text, const char *word) {
    return belfry_text_equal(text, belfry_text_of(word));
}

bool is_nocase(belfry_text text, const char *word) {
    return belfry_text_equal_nocase(text, belfry_text_of(word));
}

belfry_text part(belfry_text text, size_t from, size_t to) {
    return {text.data + from, to - from};
}

// ---- scheme://host:port ------------------------------------------------------------------------------------------

enum site_problem { site_fine, site_no_scheme, site_user, site_path, site_port, site_host };

bool host_is_valid(belfry_text host) {
    if (host.size == 0 || host.size > 255) return false;
    if (host.data[0] == '[') {
        if (host.size < 4) return false;
        for (size_t i = 1; i + 1 < host.size; i++) {
            const char c = static_cast<char>(host.data[i] | 0x20);
            if (!is_digit(host.data[i]) && !(c >= 'a' && c <= 'f') && !one_of(host.data[i], ":.")) return false;
        }
        return true;
    }
    char before = '.'; // no label is empty; a dot at the end stays, and names another host than without
    for (size_t i = 0; i < host.size; i++) {
        const char c = host.data[i];
        if (c == '.' ? before == '.' : !is_alphanumeric(c) && c != '-' && c != '_') return false;
        before = c;
    }
    return true;
}

// 1 to 65535 without leading zeros.
bool port_parse(belfry_text text, uint32_t *port) {
    if (text.size == 0 || text.size > 5 || text.data[0] == '0') return false;
    uint32_t value = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (!is_digit(text.data[i])) return false;
        value = value * 10 + static_cast<uint32_t>(text.data[i] - '0');
    }
    *port = value;
    return value <= 65535;
}

uint32_t default_port(belfry_text scheme) {
    return is_nocase(scheme, "https") ? 443 : is_nocase(scheme, "http") ? 80 : 0;
}

// host[:port] into *out, whose scheme is there. `wildcard`: the host may begin with "*.".
site_problem authority_parse(belfry_text text, bool wildcard, site *out) {
    size_t host_size = text.size;
    if (text.size && text.data[0] == '[') {
        host_size = 0;
        while (host_size < text.size && text.data[host_size++] != ']') {
        }
        if (text.data[host_size - 1] != ']') return site_host;
        if (host_size < text.size && text.data[host_size] != ':') return site_host;
    } else {
        for (host_size = 0; host_size < text.size && text.data[host_size] != ':'; host_size++) {
        }
    }
    out->host = part(text, 0, host_size);
    out->port = default_port(out->scheme);
    if (host_size < text.size && !port_parse(part(text, host_size + 1, text.size), &out->port)) return site_port;
    if (wildcard && host_size > 2 && out->host.data[0] == '*' && out->host.data[1] == '.') {
        out->host = part(out->host, 1, host_size);
        return host_is_valid(part(out->host, 1, out->host.size)) && out->host.data[1] != '[' ? site_fine : site_host;
    }
    return host_is_valid(out->host) ? site_fine : site_host;
}

// The serialised form of RFC 6454 section 6.2 and nothing else: no list, no path, no user. On site_path, *end is where
// the path begins.
site_problem site_parse(belfry_text text, bool wildcard, site *out, size_t *end) {
    size_t colon = 0;
    while (colon < text.size && (is_alphanumeric(text.data[colon]) || one_of(text.data[colon], "+-.")))
        colon++;
    if (colon == 0 || is_digit(text.data[0]) || text.size - colon < 3) return site_no_scheme;
    if (__builtin_memcmp(text.data + colon, "://", 3) != 0) return site_no_scheme;
    out->scheme = part(text, 0, colon);
    *end = colon + 3;
    while (*end < text.size && !one_of(text.data[*end], "/?#\\@"))
        (*end)++;
    if (*end < text.size) return text.data[*end] == '@' ? site_user : site_path;
    return authority_parse(part(text, colon + 3, text.size), wildcard, out);
}

bool same_place(const site *a, const site *b) {
    return a->port == b->port && belfry_text_equal_nocase(a->scheme, b->scheme);
}

// Whether `of` lies in the domain that the entry names: at least one whole label stands to the left of the dot.
bool is_below(const site *of, const site *domain) {
    const size_t tail = domain->host.size;
    return same_place(of, domain) && of->host.size > tail &&
           belfry_text_equal_nocase(part(of->host, of->host.size - tail, of->host.size), domain->host);
}

// ---- configuration -----------------------------------------------------------------------------------------------

const char *problem_text(site_problem problem) {
    switch (problem) {
    case site_no_scheme:
        return " has no scheme; write https://app.example, https://*.example, same, any, null or none";
    case site_user:
        return " names a user, which an Origin never does";
    case site_path:
        return " has a path; write ";
    case site_port:
        return " has a bad port; it is a number from 1 to 65535";
    case site_host:
        return " has a bad host; it is made of letters, digits, '-', '_' and single dots (other scripts as xn--...), "
               "or "
               "is an IPv6 address in brackets";
    case site_fine:
        break;
    }
    return "";
}

bool entry_parse(belfry_text text, entry *out, char *error, size_t error_size) {
    static const struct {
        const char *word;
        entry_kind kind;
    } words[] = {{"same", entry_same}, {"any", entry_any}, {"null", entry_null}, {"none", entry_none}};
    for (const auto &known : words) {
        if (is(text, known.word)) {
            out->kind = known.kind;
            return true;
        }
    }
    size_t end = 0;
    const site_problem problem = site_parse(text, true, &out->site, &end);
    if (problem != site_fine) {
        belfry_text_append(error, error_size, belfry_text_of("origin: \""));
        belfry_text_append(error, error_size, text);
        belfry_text_append(error, error_size, belfry_text_of("\""));
        belfry_text_append(error, error_size, belfry_text_of(problem_text(problem)));
        if (problem == site_path) belfry_text_append(error, error_size, part(text, 0, end));
        return false;
    }
    out->kind = out->site.host.data[0] == '.' ? entry_below : entry_exact;
    // Who thinks of the socket's address means the page's: an Origin's scheme is the page's.
    const bool plain = is_nocase(out->site.scheme, "ws");
    if (plain || is_nocase(out->site.scheme, "wss")) {
        out->site.scheme = belfry_text_of(plain ? "http" : "https");
        if (out->site.port == 0) out->site.port = default_port(out->site.scheme);
    }
    return true;
}

void *scope_new(const belfry_host *host, const char *section, belfry_text, const belfry_value *values, size_t,
                char *error, size_t error_size) {
    if (!is(belfry_text_of(section), "route")) return nullptr;
    const belfry_text fallback[] = {belfry_text_of("same"), belfry_text_of("none")};
    const bool written = values[option_origin].list_count > 0; // `origin =` takes nothing away
    const belfry_text *list = written ? values[option_origin].list : fallback;
    const size_t count = written ? values[option_origin].list_count : 2;
    size_t bytes = sizeof(route_list) + count * sizeof(entry);
    for (size_t i = 0; i < count; i++) {
        bytes += list[i].size;
    }
    auto *made = static_cast<route_list *>(host->allocate(bytes));
    made->entries = reinterpret_cast<entry *>(made + 1);
    char *texts = reinterpret_cast<char *>(made->entries + count);
    for (size_t i = 0; i < count; i++) {
        if (list[i].size) __builtin_memcpy(texts, list[i].data, list[i].size);
        entry *added = &made->entries[made->count++];
        if (!entry_parse({texts, list[i].size}, added, error, error_size)) {
            host->release(made);
            return nullptr;
        }
        texts += list[i].size;
        if (added->kind <= entry_null) made->varies = true;
    }
    return made;
}

void scope_free(const belfry_host *host, const char *, void *scope) {
    host->release(scope);
}

// ---- requests ----------------------------------------------------------------------------------------------------

// A rooms route's without WebSocket.
bool is_session(belfry_kind kind) {
    return kind == BELFRY_EVENTS || kind == BELFRY_CARRIED;
}

// The origin that the request itself was sent to.
bool own_site(const belfry_request *request, site *out) {
    out->scheme = belfry_text_of(request->secure ? "https" : "http");
    return authority_parse(request->host, false, out) == site_fine;
}

bool entry_matches(const entry *e, const belfry_call *call, bool present, belfry_text text, const site *from) {
    site own = {};
    switch (e->kind) {
    case entry_exact:
        return from && same_place(from, &e->site) && belfry_text_equal_nocase(from->host, e->site.host);
    case entry_below:
        return from && is_below(from, &e->site);
    case entry_null:
        return is(text, "null");
    case entry_same:
        return from && own_site(call->request, &own) && same_place(from, &own) &&
               belfry_text_equal_nocase(from->host, own.host);
    case entry_any:
        return true;
    case entry_none:
        return !present;
    }
    return false;
}

// A GET that a page of our own site fetches carries no Origin, nor does one that a page of another causes without being
// let to read the answer (an image, a script); which of the two it is, the browser says where no script can (Fetch
// Metadata, section 2.2). Empty: it does not, or the client is none.
belfry_text page_relation(const belfry_call *call) {
    belfry_text relation = {};
    if (is_session(call->request->kind)) call->host->field(call, "Sec-Fetch-Site", 0, &relation);
    return relation;
}

// The most specific entry that allows this Origin, or null.
const entry *find(const route_list *list, const belfry_call *call, bool present, belfry_text text) {
    site parsed = {};
    size_t end = 0;
    const site *from = present && site_parse(text, false, &parsed, &end) == site_fine ? &parsed : nullptr;
    const belfry_text relation = present ? belfry_text{} : page_relation(call);
    if (is(relation, "same-origin")) {
        present = true;
        if (own_site(call->request, &parsed)) from = &parsed;
    }
    if (is(relation, "cross-site") || is(relation, "same-site")) present = true; // of whom, it does not say
    const entry *found = nullptr;
    for (size_t i = 0; i < list->count; i++) {
        const entry *e = &list->entries[i];
        if ((!found || e->kind < found->kind) && entry_matches(e, call, present, text, from)) found = e;
    }
    return found;
}

belfry_verdict_type deny(belfry_verdict *verdict, int status, const char *reason) {
    verdict->status = status;
    verdict->reason = belfry_text_of(reason);
    return BELFRY_DENY;
}

void answer(const belfry_call *call, const char *name, belfry_text value) {
    call->host->answer_field(call, belfry_text_of(name), value);
}

// A token, or a list of them; empty too. Bounded: it is sent back.
bool tokens_are_valid(belfry_text text, bool list) {
    if (text.size > 1024) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (!is_token_char(text.data[i]) && !(list && one_of(text.data[i], ", \t"))) return false;
    }
    return true;
}

// The browser asks whether a page may send this request (Fetch, section 4.8). What it asks for is granted: the origin
// is what decides here, and the backend may still refuse the request itself.
belfry_verdict_type preflight(const belfry_call *call, belfry_text method, belfry_verdict *verdict) {
    belfry_text headers = {};
    const bool names_headers = call->host->field(call, "Access-Control-Request-Headers", 0, &headers) != 0;
    if (method.size == 0 || !tokens_are_valid(method, false) || (names_headers && !tokens_are_valid(headers, true))) {
        return deny(verdict, 400, "malformed preflight request");
    }
    answer(call, "Access-Control-Allow-Methods", method);
    if (names_headers && headers.size) answer(call, "Access-Control-Allow-Headers", headers);
    answer(call, "Access-Control-Max-Age", belfry_text_of("600"));
    answer(call, "Vary", belfry_text_of("Access-Control-Request-Method, Access-Control-Request-Headers"));
    return deny(verdict, 204, "preflight");
}

// Plain HTTP is never refused for its Origin (forms and links cross sites too): what is not allowed gets no CORS field,
// so that the browser keeps the answer from the page. Credentials (cookies) are for sites that are named: neither `any`
// nor `null`, which every sandboxed frame of every site has, may read what a cookie opens.
belfry_verdict_type cors(const route_list *list, const belfry_call *call, const entry *found, belfry_text origin,
                         belfry_verdict *verdict) {
    if (list->varies) answer(call, "Vary", belfry_text_of("Origin"));
    if (!found || found->kind == entry_same || found->kind == entry_none) return BELFRY_PASS;
    if (origin.size == 0 && found->kind != entry_any) return BELFRY_PASS; // nobody that the answer could name
    answer(call, "Access-Control-Allow-Origin", found->kind == entry_any ? belfry_text_of("*") : origin);
    if (found->kind == entry_exact || found->kind == entry_below) {
        answer(call, "Access-Control-Allow-Credentials", belfry_text_of("true"));
    }
    belfry_text method = {};
    if (is(call->request->method, "OPTIONS") &&
        call->host->field(call, "Access-Control-Request-Method", 0, &method) != 0) {
        return preflight(call, method, verdict);
    }
    return BELFRY_PASS;
}

belfry_verdict_type handshake(const belfry_call *call, belfry_verdict *verdict) {
    const auto *list = static_cast<const route_list *>(call->route);
    belfry_text origin = {}, second = {};
    const bool present = call->host->field(call, "Origin", 0, &origin) != 0;
    // Which of two counts is a guess that the backend may make otherwise; no browser sends two.
    if (call->host->field(call, "Origin", 1, &second) != 0) return deny(verdict, 403, "more than one Origin");
    const entry *found = find(list, call, present, origin);
    if (call->request->kind == BELFRY_HTTP) return cors(list, call, found, origin, verdict);
    // Sessions over plain HTTP are refused as those over WebSocket are, and who may come in may also read.
    if (found && is_session(call->request->kind)) return cors(list, call, found, origin, verdict);
    return found ? BELFRY_PASS : deny(verdict, 403, "origin not allowed");
}

const belfry_option options[] = {{
    .section = "route",
    .name = "origin",
    .type = BELFRY_LIST,
    .default_value = "same, none",
    .minimum = 0,
    .maximum = 0,
    .choices = nullptr,
    .help = "pages that may connect, else other sites act with a visitor's cookies: https://app.example, "
            "https://*.example, same, any, null, none (= no Origin header, which browsers always send)",
}};

} // namespace

BELFRY_EXPORT(origin) = {
    .size = sizeof(belfry_module),
    .abi = BELFRY_ABI,
    .name = "origin",
    .version = "1",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .conn_size = 0,
    .load = nullptr,
    .unload = nullptr,
    .scope_new = scope_new,
    .scope_free = scope_free,
    .worker_new = nullptr,
    .worker_free = nullptr,
    .handshake = handshake,
    .admitted = nullptr,
    .message = nullptr,
    .publish = nullptr,
    .renew = nullptr,
    .close = nullptr,
    .arrived = nullptr,
};
