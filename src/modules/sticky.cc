// sticky: what a client sticks to a backend server by. It names the key; the consistent hash behind it is the
// balancer's, and the one that nginx's `hash KEY consistent` computes, so the keys are written as nginx writes them.
//
// A scope per [upstream], made on the main thread, read by all workers. The one state of the module itself is the
// secret of this process, written at load.
#include "module.h"

namespace {

enum { option_sticky, option_secret };

enum sticky_kind { sticky_ip, sticky_cookie, sticky_issue, sticky_header, sticky_query, sticky_user, sticky_conn };

struct upstream_key {
    sticky_kind kind;
    belfry_text name;     // of the cookie, field or parameter, NUL behind it; borrowed: behind this struct
    belfry_text *secrets; // of issue; borrowed: behind this struct. The first signs, each verifies
    size_t secret_count;
};

constexpr size_t key_max = 255;                  // the host's bound of a sticky key
constexpr size_t value_size = 16, tag_size = 32; // hexadecimal digits: 64 random bits, 128 bits of HMAC
constexpr size_t cookie_size = value_size + 1 + tag_size;

uint8_t process_secret[32];

bool is_token_char(char c) {
    const char lower = static_cast<char>(c | 0x20);
    if ((c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z')) return true;
    for (const char *set = "!#$%&'*+-.^_`|~"; *set; set++) {
        if (*set == c) return true;
    }
    return false;
}

void to_hex(const uint8_t *bytes, size_t count, char *out) {
    for (size_t i = 0; i < count; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
}

// ---- configuration -----------------------------------------------------------------------------------------------

bool starts_with(belfry_text text, const char *prefix) {
    const belfry_text begin = belfry_text_of(prefix);
    return text.size >= begin.size && belfry_text_equal({text.data, begin.size}, begin);
}

belfry_text behind(belfry_text text, size_t skip) {
    return {text.data + skip, text.size - skip};
}

// Takes the last word " issue" off.
bool take_issue(belfry_text *name) {
    const belfry_text word = belfry_text_of("issue");
    if (name->size <= word.size || !belfry_text_equal(behind(*name, name->size - word.size), word)) return false;
    size_t end = name->size - word.size;
    if (name->data[end - 1] != ' ') return false;
    while (end > 0 && name->data[end - 1] == ' ')
        end--;
    name->size = end;
    return true;
}

// One of the forms of the option `sticky`; false: none of them.
bool form_parse(belfry_text text, sticky_kind *kind, belfry_text *name) {
    static const struct {
        const char *word;
        sticky_kind kind;
    } words[] = {{"ip", sticky_ip}, {"user", sticky_user}, {"conn", sticky_conn}},
      prefixes[] = {{"cookie:", sticky_cookie}, {"header:", sticky_header}, {"query:", sticky_query}};
    for (const auto &known : words) {
        if (belfry_text_equal(text, belfry_text_of(known.word))) {
            *kind = known.kind;
            return true;
        }
    }
    for (const auto &known : prefixes) {
        if (!starts_with(text, known.word)) continue;
        *kind = known.kind;
        *name = behind(text, belfry_text_of(known.word).size);
        if (*kind == sticky_cookie && take_issue(name)) *kind = sticky_issue;
        for (size_t i = 0; i < name->size; i++) {
            if (!is_token_char(name->data[i]) || (*kind == sticky_query && name->data[i] == '&')) return false;
        }
        return name->size > 0 && name->size <= 100;
    }
    return false;
}

bool check(belfry_text text, const belfry_value *secrets, sticky_kind *kind, belfry_text *name, char *error,
           size_t size) {
    if (!form_parse(text, kind, name)) {
        belfry_text_append(error, size, belfry_text_of("sticky: \""));
        belfry_text_append(error, size, text);
        belfry_text_append(error, size,
                           belfry_text_of("\" is none of none, ip, cookie:NAME, cookie:NAME issue, "
                                          "header:NAME, query:NAME, user, conn"));
        return false;
    }
    for (size_t i = 0; i < secrets->list_count; i++) {
        if (secrets->list[i].size < 16) {
            belfry_text_append(error, size, belfry_text_of("sticky_secret: needs 16 bytes or more"));
            return false;
        }
    }
    return true;
}

void *scope_new(const belfry_host *host, const char *, belfry_text, const belfry_value *values, size_t, char *error,
                size_t error_size) {
    const belfry_text text = values[option_sticky].text;
    if (text.size == 0 || belfry_text_equal(text, belfry_text_of("none"))) return nullptr;
    const belfry_value *secrets = &values[option_secret];
    sticky_kind kind = sticky_ip;
    belfry_text name = {};
    if (!check(text, secrets, &kind, &name, error, error_size)) return nullptr;
    size_t bytes = sizeof(upstream_key) + secrets->list_count * sizeof(belfry_text) + name.size + 1;
    for (size_t i = 0; i < secrets->list_count; i++) {
        bytes += secrets->list[i].size;
    }
    auto *made = static_cast<upstream_key *>(host->allocate(bytes));
    made->kind = kind;
    made->secrets = reinterpret_cast<belfry_text *>(made + 1);
    char *at = reinterpret_cast<char *>(made->secrets + secrets->list_count);
    if (name.size) __builtin_memcpy(at, name.data, name.size);
    made->name = {at, name.size};
    at += name.size + 1;
    for (; made->secret_count < secrets->list_count; made->secret_count++) {
        const belfry_text secret = secrets->list[made->secret_count];
        __builtin_memcpy(at, secret.data, secret.size);
        made->secrets[made->secret_count] = {at, secret.size};
        at += secret.size;
    }
    return made;
}

void scope_free(const belfry_host *host, const char *, void *scope) {
    host->release(scope);
}

int load(const belfry_host *host, char *, size_t) {
    host->random(process_secret, sizeof process_secret);
    return 1;
}

// ---- addresses as nginx's $remote_addr has them --------------------------------------------------------------------

size_t write_decimal(uint8_t value, char *out) {
    size_t size = 0;
    if (value >= 100) out[size++] = static_cast<char>('0' + value / 100);
    if (value >= 10) out[size++] = static_cast<char>('0' + value / 10 % 10);
    out[size++] = static_cast<char>('0' + value % 10);
    return size;
}

size_t write_ipv4(const uint8_t bytes[4], char *out) {
    size_t size = 0;
    for (int i = 0; i < 4; i++) {
        if (i) out[size++] = '.';
        size += write_decimal(bytes[i], out + size);
    }
    return size;
}

size_t write_group(uint32_t group, char *out) {
    size_t size = 0;
    for (int shift = 12; shift >= 0; shift -= 4) {
        const uint32_t digit = group >> shift & 15;
        if (size || digit || shift == 0) out[size++] = "0123456789abcdef"[digit];
    }
    return size;
}

// RFC 5952: lower case, the first of the longest runs of two or more zero groups is "::"; and as nginx has it, an
// address that begins with six (or seven, but for small numbers) zero groups ends as IPv4 is written.
size_t write_ipv6(const uint8_t bytes[16], char *out) {
    uint32_t groups[8];
    int run = 0, longest = 1, zeros_at = 8;
    for (int i = 0; i < 8; i++) {
        groups[i] = static_cast<uint32_t>(bytes[2 * i]) << 8 | bytes[2 * i + 1];
        run = groups[i] ? 0 : run + 1;
        if (run > longest) {
            longest = run;
            zeros_at = i + 1 - run;
        }
    }
    const bool tail = zeros_at == 0 && (longest == 6 || (longest == 7 && bytes[14] != 0 && bytes[15] != 1));
    size_t size = 0;
    for (int i = 0; i < (tail ? 6 : 8);) {
        if (i == zeros_at) {
            out[size++] = ':';
            if (i == 0) out[size++] = ':';
            i += longest;
            continue;
        }
        size += write_group(groups[i++], out + size);
        if (i < 8) out[size++] = ':';
    }
    return tail ? size + write_ipv4(bytes + 12, out + size) : size;
}

belfry_text address_text(const uint8_t address[16], char *out) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t none[16] = {};
    if (__builtin_memcmp(address, none, 16) == 0) return belfry_text_of("unix:");
    const bool ipv4 = __builtin_memcmp(address, mapped, 12) == 0;
    return {out, ipv4 ? write_ipv4(address + 12, out) : write_ipv6(address, out)};
}

// ---- keys --------------------------------------------------------------------------------------------------------

// A key too long for the host goes by its digest: cut off, all of one issuer's tokens would begin alike and meet on one
// server.
void stick_to(const belfry_call *call, belfry_text key) {
    if (key.size == 0) return;
    if (key.size <= key_max) {
        call->host->set_sticky_key(call, key);
        return;
    }
    uint8_t digest[32];
    char hex[64];
    call->host->hmac(belfry_text_of("sticky key"), key, digest);
    to_hex(digest, sizeof digest, hex);
    call->host->set_sticky_key(call, {hex, sizeof hex});
}

belfry_text random_text(const belfry_host *host, char out[value_size]) {
    uint8_t bytes[value_size / 2];
    host->random(bytes, sizeof bytes);
    to_hex(bytes, sizeof bytes, out);
    return {out, value_size};
}

// ---- the affinity cookie: VALUE.TAG, TAG of HMAC(secret, VALUE) ----------------------------------------------------

void write_tag(const belfry_host *host, belfry_text secret, const char value[value_size], char out[tag_size]) {
    uint8_t digest[32];
    host->hmac(secret, {value, value_size}, digest);
    to_hex(digest, tag_size / 2, out);
}

belfry_text secret_at(const upstream_key *scope, size_t i) {
    if (scope->secret_count) return scope->secrets[i];
    return {reinterpret_cast<const char *>(process_secret), sizeof process_secret};
}

bool cookie_is_ours(const belfry_host *host, const upstream_key *scope, belfry_text cookie) {
    if (cookie.size != cookie_size || cookie.data[value_size] != '.') return false;
    unsigned good = 0;
    for (size_t i = 0; i < scope->secret_count || i == 0; i++) {
        char tag[tag_size];
        write_tag(host, secret_at(scope, i), cookie.data, tag);
        unsigned differs = 0; // all digits are looked at: the time tells nothing about how many were right
        for (size_t j = 0; j < tag_size; j++) {
            differs |= static_cast<unsigned>(tag[j] ^ cookie.data[value_size + 1 + j]);
        }
        good |= differs == 0;
    }
    return good != 0;
}

// Gives the client a cookie, whose text is in `cookie` then.
void issue_cookie(const belfry_call *call, const upstream_key *scope, char cookie[cookie_size]) {
    random_text(call->host, cookie);
    cookie[value_size] = '.';
    write_tag(call->host, secret_at(scope, 0), cookie, cookie + value_size + 1);
    char field[256] = "";
    belfry_text_append(field, sizeof field, scope->name);
    belfry_text_append(field, sizeof field, belfry_text_of("="));
    belfry_text_append(field, sizeof field, {cookie, cookie_size});
    belfry_text_append(field, sizeof field, belfry_text_of("; Path=/; HttpOnly; SameSite=Lax"));
    if (call->request->secure) belfry_text_append(field, sizeof field, belfry_text_of("; Secure"));
    call->host->answer_field(call, belfry_text_of("Set-Cookie"), belfry_text_of(field));
}

void stick_to_issued(const belfry_call *call, const upstream_key *scope) {
    belfry_text cookie = {};
    if (call->host->cookie(call, scope->name, &cookie) && cookie_is_ours(call->host, scope, cookie)) {
        stick_to(call, cookie);
        return;
    }
    char made[cookie_size];
    issue_cookie(call, scope, made);
    stick_to(call, {made, cookie_size});
}

belfry_verdict_type handshake(const belfry_call *call, belfry_verdict *) {
    const auto *scope = static_cast<const upstream_key *>(call->upstream);
    if (!scope) return BELFRY_PASS;
    char room[64];
    belfry_text key = {};
    switch (scope->kind) {
    case sticky_ip:
        key = address_text(call->request->address, room);
        break;
    case sticky_cookie:
        call->host->cookie(call, scope->name, &key);
        break;
    case sticky_issue:
        stick_to_issued(call, scope);
        break;
    case sticky_header:
        call->host->field(call, scope->name.data, 0, &key);
        break;
    case sticky_query:
        call->host->query(call, scope->name, &key);
        break;
    case sticky_conn:
        key = random_text(call->host, room);
        break;
    case sticky_user:
        break; // not known before all modules have passed
    }
    stick_to(call, key);
    return BELFRY_PASS;
}

belfry_verdict_type admitted(const belfry_call *call, belfry_verdict *) {
    const auto *scope = static_cast<const upstream_key *>(call->upstream);
    if (scope && scope->kind == sticky_user) stick_to(call, call->user);
    return BELFRY_PASS;
}

const belfry_option options[] = {
    {.section = "upstream",
     .name = "sticky",
     .type = BELFRY_TEXT,
     .default_value = "none",
     .minimum = 0,
     .maximum = 0,
     .choices = nullptr,
     .help = "keeps a client at one server, for what that server remembers of it: ip, cookie:NAME, cookie:NAME issue "
             "(Belfry sets it), header:NAME, query:NAME, user, conn, none"},
    {.section = "upstream",
     .name = "sticky_secret",
     .type = BELFRY_SECRETS,
     .default_value = "",
     .minimum = 0,
     .maximum = 0,
     .choices = nullptr,
     .help = "signs the cookies of cookie:NAME issue, the first of several; empty = random, and clients change servers "
             "when Belfry restarts or asks another node"},
};

} // namespace

BELFRY_EXPORT(sticky) = {
    .size = sizeof(belfry_module),
    .abi = BELFRY_ABI,
    .name = "sticky",
    .version = "1",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .conn_size = 0,
    .load = load,
    .unload = nullptr,
    .scope_new = scope_new,
    .scope_free = scope_free,
    .worker_new = nullptr,
    .worker_free = nullptr,
    .handshake = handshake,
    .admitted = admitted,
    .message = nullptr,
    .publish = nullptr,
    .renew = nullptr,
    .close = nullptr,
    .arrived = nullptr,
};
