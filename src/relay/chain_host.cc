// What Belfry offers to modules: the functions of struct belfry_host. Those that take a call: on its worker's thread,
// while its hook runs; who calls them at another moment than module.h says gets 0 and changes nothing.
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "net/signing_keys.h"
#include "proto/cookie.h"
#include "proto/hmac.h"
#include "proto/jwt.h"
#include "proto/room_name.h"
#include "proto/uri.h"
#include "relay/chain_call.h"
#include "relay/client.h"
#include "relay/limits.h"

#include <algorithm>
#include <stdlib.h>
#include <string.h>

namespace belfry {

static_assert(BELFRY_HS256 == 1u << static_cast<unsigned>(jwt_algorithm::hs256));
static_assert(BELFRY_RS256 == 1u << static_cast<unsigned>(jwt_algorithm::rs256));
static_assert(BELFRY_ES256 == 1u << static_cast<unsigned>(jwt_algorithm::es256));
static_assert(BELFRY_EDDSA == 1u << static_cast<unsigned>(jwt_algorithm::eddsa));

// A module has a pointer to a const call; what it may change about its own call goes through the host alone.
static chain_call *call_of(const struct belfry_call *call) {
    return reinterpret_cast<chain_call *>(const_cast<struct belfry_call *>(call));
}

// ---------------------------------------------------------------- memory, log, chance

static void *host_allocate(size_t size) {
    return memory_get_zeroed(size);
}

static void host_release(void *memory) {
    free(memory);
}

// What a module has to say, a client may have made it say.
static constexpr uint32_t module_lines_a_second = 50;

static void host_log(enum belfry_level level, const char *text) {
    static log_limit limits[4] = {{.burst = module_lines_a_second},
                                  {.burst = module_lines_a_second},
                                  {.burst = module_lines_a_second},
                                  {.burst = module_lines_a_second}};
    uint64_t held = 0;
    if (!log_limit_pass(&limits[level & 3], &held)) return;
    if (held) log_warn("modules: %llu lines like the next were not shown", static_cast<unsigned long long>(held));
    switch (level) {
    case BELFRY_ERROR:
        return log_error("%s", text);
    case BELFRY_WARN:
        return log_warn("%s", text);
    case BELFRY_INFO:
        return log_info("%s", text);
    case BELFRY_DEBUG:
        return log_debug("%s", text);
    }
}

static void host_random(void *out, size_t n) {
    random_bytes(out, n);
}

static void host_hmac(struct belfry_text key, struct belfry_text data, uint8_t out[32]) {
    hmac_sha256(chain_view(key), chain_view(data), out);
}

// ---------------------------------------------------------------- the request

static int found(view v, struct belfry_text *value) {
    *value = chain_text(v);
    return 1;
}

static int host_field(const struct belfry_call *call, const char *name, size_t index, struct belfry_text *value) {
    const exchange *x = call_of(call)->x;
    *value = {};
    if (!x) return 0;
    for (uint32_t i = 0; i < x->request.field_count; i++)
        if (bytes_equal_nocase(x->request.fields[i].name, name) && index-- == 0)
            return found(x->request.fields[i].value, value);
    return 0;
}

static int host_cookie(const struct belfry_call *call, struct belfry_text name, struct belfry_text *value) {
    const exchange *x = call_of(call)->x;
    size_t count = 0;
    *value = {};
    if (!x) return 0;
    view cookie = cookie_find(&x->request, chain_view(name), &count);
    return count == 1 ? found(cookie, value) : 0;
}

static int host_query(const struct belfry_call *call, struct belfry_text wanted, struct belfry_text *value) {
    chain_call *k = call_of(call);
    *value = {};
    if (!k->x) return 0;
    view rest = k->x->request.query, name, text;
    while (uri_next_parameter(&rest, &name, &text)) {
        if (name != chain_view(wanted)) continue;
        auto *made = static_cast<chain_scratch *>(memory_get(sizeof(chain_scratch) + text.size()));
        made->next = k->scratch;
        k->scratch = made;
        size_t size = 0;
        return uri_decode(text, true, made->data, &size) ? found(view(made->data, size), value) : 0;
    }
    return 0;
}

static int host_subprotocol(const struct belfry_call *call, const char *prefix, struct belfry_text *value) {
    const exchange *x = call_of(call)->x;
    *value = {};
    if (!x || x->kind == BELFRY_HTTP) return 0;
    for (uint32_t i = 0; i < x->hello.protocol_count; i++)
        if (x->hello.protocols[i].starts_with(prefix))
            return found(x->hello.protocols[i].substr(strlen(prefix)), value);
    return 0;
}

// What Belfry itself writes: a second one would make the answer ambiguous.
static bool is_framing(view name) {
    for (view own : {"Connection", "Content-Length", "Content-Type", "Keep-Alive", "Proxy-Connection", "TE", "Trailer",
                     "Transfer-Encoding", "Upgrade", "Retry-After"})
        if (bytes_equal_nocase(name, own)) return true;
    constexpr view handshakes = "Sec-WebSocket-";
    return bytes_equal_nocase(name.substr(0, handshakes.size()), handshakes);
}

static bool is_field_value(view value) {
    for (char c : value) {
        auto byte = static_cast<unsigned char>(c);
        if ((byte < 0x20 && c != '\t') || byte == 0x7f) return false;
    }
    return true;
}

static int host_answer_field(const struct belfry_call *call, struct belfry_text name, struct belfry_text value) {
    exchange *x = call_of(call)->x;
    if (!x || !http1_is_token(chain_view(name)) || is_framing(chain_view(name))) return 0;
    if (!is_field_value(chain_view(value)) || x->fields.size + name.size + value.size + 4 > chain_fields_max) return 0;
    buffer_append(&x->fields, chain_view(name));
    buffer_append(&x->fields, ": ");
    buffer_append(&x->fields, bytes_trim(chain_view(value)));
    buffer_append(&x->fields, "\r\n");
    return 1;
}

// ---------------------------------------------------------------- the client

// Handshake, admitted and renew: the moments at which somebody's identity may be told.
static bool may_tell(const struct belfry_call *call) {
    const chain_call *k = call_of(call);
    return k->x || k->renewing;
}

// A renewal lengthens what somebody has; it makes nobody another one, whose room and limits would be the old one's.
static bool may_be(const struct belfry_call *call, view user) {
    const chain_call *k = call_of(call);
    return k->x || (k->renewing && user == client_user(k->on));
}

static int host_set_user(const struct belfry_call *call, struct belfry_text user) {
    if (!may_be(call, chain_view(user))) return 0;
    if (user.size == 0 || room_name_check(chain_view(user)) || user.size > client_user_max) return 0;
    client_of(call_of(call)->on)->user = chain_view(user);
    return 1;
}

static int host_set_info(const struct belfry_call *call, struct belfry_text json) {
    conn *c = call_of(call)->on;
    if (!may_tell(call) || json.size == 0 || json.size > client_info_max) return 0;
    std::string padded(chain_view(json));
    padded.append(frame_padding, 0);
    if (!json_valid(c->on->reader, view(padded).substr(0, json.size))) return 0;
    client_of(c)->info = chain_view(json);
    return 1;
}

// expiry.h arms the deadline when the session opens, and after a renewal.
static void host_set_expiry(const struct belfry_call *call, uint64_t seconds) {
    constexpr uint64_t most = uint64_t{100} * 365 * 86400;
    conn *c = call_of(call)->on;
    if (!may_tell(call) || (!seconds && !c->client)) return; // nothing to keep
    client_of(c)->expires_ms = seconds ? c->on->loop->clock.monotonic_ms + std::min(seconds, most) * 1000 : 0;
}

static int host_allow(const struct belfry_call *call, int publish, struct belfry_text pattern) {
    view text = chain_view(pattern);
    if (!may_tell(call) || room_name_check(text) || room_name_reserved(text)) return 0;
    client *who = client_of(call_of(call)->on);
    std::vector<std::string> *patterns = publish ? &who->publish : &who->join;
    if (patterns->size() >= client_patterns_max) return 0;
    patterns->emplace_back(text);
    return 1;
}

static void host_set_sticky_key(const struct belfry_call *call, struct belfry_text key) {
    exchange *x = call_of(call)->x;
    if (!x) return;
    view cut = chain_view(key).substr(0, sizeof x->sticky);
    if (cut.size()) memcpy(x->sticky, cut.data(), cut.size());
    x->sticky_size = static_cast<uint8_t>(cut.size());
    x->has_sticky = true;
}

static int host_ask_backend(const struct belfry_call *call) {
    chain_call *k = call_of(call);
    if (!k->handshake || !k->x->events->ask_backend(k->x)) return 0;
    k->asked = true;
    return 1;
}

static void host_resume(struct belfry_ticket ticket, enum belfry_verdict_type type,
                        const struct belfry_verdict *verdict) {
    struct belfry_verdict known = {};
    known.size = sizeof known;
    // What the module's verdict has: it may be built with a smaller one, or with a larger one.
    if (verdict) memcpy(&known, verdict, std::min(verdict->size, sizeof known));
    static const struct belfry_module nobody = {};
    module_resume r = {};
    r.ticket = ticket;
    r.result = chain_take(type, &known, &nobody, &r.verdict);
    if (r.result == chain_result::wait) return; // it waits already
    r.reason = r.verdict.reason;
    chain_queue_resume(&r);
}

// ---------------------------------------------------------------- limits

static uint64_t host_rate_take(const struct belfry_rate *rate, struct belfry_text key, int64_t amount,
                               uint64_t now_ms) {
    struct rate r = {rate->amount, rate->period_ms, rate->burst};
    // The keys are all threads', and a thread's clock may stand since its last turn: behind another's, the last of a
    // burst would be refused.
    return limits_take(&r, chain_view(key), amount, std::max(now_ms, clock_monotonic_ms()));
}

static int64_t host_count_add(struct belfry_text key, int64_t delta) {
    return limits_add(chain_view(key), delta);
}

// ---------------------------------------------------------------- tokens

// struct belfry_keys is what module.h calls signing_keys.
static struct belfry_keys *host_keys_load(const struct belfry_text *texts, size_t count, char *error_text,
                                          size_t error_size) {
    std::vector<std::string> kept;
    std::vector<const char *> pointers;
    error e;
    for (size_t i = 0; i < count; i++) {
        kept.emplace_back(chain_view(texts[i]));
        if (kept.back().find('\0') == std::string::npos) continue;
        snprintf(error_text, error_size, "key %zu: holds a NUL byte", i + 1);
        return nullptr;
    }
    for (const std::string &text : kept)
        pointers.push_back(text.c_str());
    signing_keys *keys = signing_keys_load(pointers.data(), count, &e);
    for (std::string &text : kept)
        explicit_bzero(text.data(), text.size());
    if (!keys && error_size) snprintf(error_text, error_size, "%s", e.text);
    return reinterpret_cast<struct belfry_keys *>(keys);
}

static void host_keys_free(struct belfry_keys *keys) {
    signing_keys_unref(reinterpret_cast<signing_keys *>(keys));
}

static jwt_options options_of(const struct belfry_token_rules *rules) {
    jwt_options o;
    o.algorithms = rules->algorithms;
    o.leeway = rules->leeway_s;
    o.issuer = chain_view(rules->issuer);
    for (size_t i = 0; i < rules->audience_count; i++)
        o.audiences.emplace_back(chain_view(rules->audiences[i]));
    return o;
}

// Monotonic, of a wall clock's time that was checked to be still to come (but for the leeway).
static uint64_t expiry_of(const struct belfry_call *call, const jwt_claims *claims) {
    if (!claims->expires) return 0;
    uint64_t left = claims->expires_ms > call->wall_ms ? claims->expires_ms - call->wall_ms : 0;
    return call->now_ms + std::max<uint64_t>(left, 1);
}

// In the place of what the last token gave: also where this one gives nothing, for the last one's time is over. What
// the connect hook and other modules gave stays.
static void take_patterns(std::vector<std::string> *known, size_t *from_token, const std::vector<std::string> &given) {
    known->erase(known->begin(), known->begin() + static_cast<ptrdiff_t>(*from_token));
    known->insert(known->begin(), given.begin(), given.end());
    *from_token = given.size();
}

static void take_claims(chain_call *k, jwt_claims *claims) {
    bool worth = !claims->subject.empty() || claims->expires || claims->has_rooms || !claims->info.empty();
    if (worth || k->on->client) {
        client *who = client_of(k->on);
        if (!claims->subject.empty()) who->user = claims->subject;
        if (!claims->info.empty()) who->info = claims->info;
        who->expires_ms = expiry_of(&k->call, claims);
        take_patterns(&who->join, &who->token_join, claims->join);
        take_patterns(&who->publish, &who->token_publish, claims->publish);
    }
    if (!k->x) return;
    buffer_clear(&k->x->claims);
    buffer_append(&k->x->claims, claims->payload);
}

static const char *host_take_token(const struct belfry_call *call, const struct belfry_token_rules *rules,
                                   struct belfry_text token) {
    chain_call *k = call_of(call);
    if (!may_tell(call)) return "tokens are taken at the handshake and in renew alone";
    jwt_options options = options_of(rules);
    jwt_verifier verifier = signing_keys_verifier(reinterpret_cast<const signing_keys *>(rules->keys));
    jwt_claims claims;
    const char *why = nullptr;
    jwt_result result =
        jwt_check(k->on->on->reader, chain_view(token), &options, call->wall_ms, &verifier, &claims, &why);
    if (result != jwt_result::ok) return why;
    if (!may_be(call, claims.subject)) return "the token is another user's";
    take_claims(k, &claims);
    return nullptr;
}

// ---------------------------------------------------------------- the table

static struct belfry_host host = {
    .size = sizeof(struct belfry_host),
    .abi = BELFRY_ABI,
    .version = "",
    .allocate = host_allocate,
    .release = host_release,
    .log = host_log,
    .random = host_random,
    .field = host_field,
    .cookie = host_cookie,
    .query = host_query,
    .subprotocol = host_subprotocol,
    .answer_field = host_answer_field,
    .set_user = host_set_user,
    .set_info = host_set_info,
    .set_expiry = host_set_expiry,
    .allow = host_allow,
    .set_sticky_key = host_set_sticky_key,
    .ask_backend = host_ask_backend,
    .resume = host_resume,
    .rate_take = host_rate_take,
    .count_add = host_count_add,
    .keys_load = host_keys_load,
    .keys_free = host_keys_free,
    .take_token = host_take_token,
    .hmac = host_hmac,
};

const struct belfry_host *chain_host() {
    return &host;
}

void chain_set_version(const char *version) {
    host.version = version;
}

} // namespace belfry
