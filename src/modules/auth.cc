// auth: who the client is. A JSON Web Token that is checked here, or the backend's connect hook that decides with the
// client's own cookies, or a token where there is one and else the backend.
//
// A scope per [route], made on the main thread, read by all workers; no state of a connection.
#include "module.h"

namespace {

enum {
    option_auth,
    option_jwt_key,
    option_jwt_algorithms,
    option_jwt_issuer,
    option_jwt_audience,
    option_jwt_leeway,
    option_token,
    option_auth_http
};
enum { auth_none, auth_backend, auth_jwt, auth_jwt_or_backend };

enum source_kind { source_header, source_cookie, source_query, source_subprotocol };

struct token_source {
    source_kind kind;
    belfry_text name; // of the cookie or parameter; borrowed: from the route_auth's texts
};

constexpr size_t sources_max = 8, audiences_max = 16;

struct route_auth {
    int64_t mode;
    bool http; // plain requests need the token too
    belfry_token_rules rules;
    belfry_keys *keys;                 // owned; null where no token is looked at
    token_source sources[sources_max]; // in the order of search
    size_t source_count;
    belfry_text audiences[audiences_max]; // borrowed: behind this struct, as the issuer and the sources' names
};

// ---- configuration -----------------------------------------------------------------------------------------------

bool is(belfry_text text, const char *word) {
    return belfry_text_equal(text, belfry_text_of(word));
}

// NAME: "VALUE" TAIL, for scope_new.
bool complain(char *error, size_t size, const char *name, belfry_text value, const char *tail) {
    belfry_text_append(error, size, belfry_text_of(name));
    belfry_text_append(error, size, belfry_text_of(": \""));
    belfry_text_append(error, size, value);
    belfry_text_append(error, size, belfry_text_of("\" "));
    belfry_text_append(error, size, belfry_text_of(tail));
    return false;
}

bool complain(char *error, size_t size, const char *text) {
    belfry_text_append(error, size, belfry_text_of(text));
    return false;
}

bool algorithms_parse(const belfry_value *value, uint32_t *bits, char *error, size_t size) {
    static const struct {
        const char *name;
        uint32_t bit;
    } known[] = {{"HS256", BELFRY_HS256}, {"RS256", BELFRY_RS256}, {"ES256", BELFRY_ES256}, {"EdDSA", BELFRY_EDDSA}};
    *bits = 0;
    for (size_t i = 0; i < value->list_count; i++) {
        uint32_t bit = 0;
        for (const auto &algorithm : known) {
            if (is(value->list[i], algorithm.name)) bit = algorithm.bit;
        }
        if (!bit)
            return complain(error, size, "jwt_algorithms", value->list[i], "is none of HS256, RS256, ES256, EdDSA");
        *bits |= bit;
    }
    return *bits || complain(error, size, "jwt_algorithms: needs at least one of HS256, RS256, ES256, EdDSA");
}

// A cookie's or a parameter's name: nothing that would never match.
bool name_is_valid(belfry_text name) {
    if (name.size == 0 || name.size > 100) return false;
    for (size_t i = 0; i < name.size; i++) {
        const char c = name.data[i];
        if (c <= ' ' || c > '~' || c == ';' || c == '=' || c == '&' || c == '"') return false;
    }
    return true;
}

bool source_parse(belfry_text text, token_source *out) {
    static const struct {
        const char *word;
        source_kind kind;
        bool named;
    } forms[] = {{"header", source_header, false},
                 {"subprotocol", source_subprotocol, false},
                 {"cookie:", source_cookie, true},
                 {"query:", source_query, true}};
    for (const auto &form : forms) {
        const belfry_text word = belfry_text_of(form.word);
        out->kind = form.kind;
        out->name = {};
        if (!form.named && belfry_text_equal(text, word)) return true;
        if (!form.named || text.size < word.size || !belfry_text_equal({text.data, word.size}, word)) continue;
        out->name = {text.data + word.size, text.size - word.size};
        return name_is_valid(out->name);
    }
    return false;
}

bool sources_parse(const belfry_value *value, route_auth *out, char *error, size_t size) {
    for (size_t i = 0; i < value->list_count; i++) {
        if (out->source_count == sources_max) return complain(error, size, "token: more than 8 places");
        if (!source_parse(value->list[i], &out->sources[out->source_count++])) {
            return complain(error, size, "token", value->list[i],
                            "is none of header, cookie:NAME, query:NAME, subprotocol");
        }
    }
    return out->source_count || complain(error, size,
                                         "token: needs at least one of header, cookie:NAME, query:NAME, "
                                         "subprotocol");
}

// Everything but the keys, into *out, whose texts are still the config's.
bool rules_parse(const belfry_value *values, route_auth *out, char *error, size_t size) {
    out->mode = values[option_auth].number;
    out->http = values[option_auth_http].number != 0;
    const bool tokens = out->mode == auth_jwt || out->mode == auth_jwt_or_backend;
    if (out->http && !tokens) return complain(error, size, "auth_http: needs auth = jwt or jwt_or_backend");
    if (!tokens) return true;
    if (values[option_jwt_key].list_count == 0) {
        return complain(error, size, "auth: needs a jwt_key to check tokens with");
    }
    if (values[option_jwt_audience].list_count > audiences_max) {
        return complain(error, size, "jwt_audience: more than 16");
    }
    if (!algorithms_parse(&values[option_jwt_algorithms], &out->rules.algorithms, error, size)) return false;
    if (!sources_parse(&values[option_token], out, error, size)) return false;
    out->rules.size = sizeof out->rules;
    out->rules.issuer = values[option_jwt_issuer].text;
    out->rules.audience_count = values[option_jwt_audience].list_count;
    for (size_t i = 0; i < out->rules.audience_count; i++) {
        out->audiences[i] = values[option_jwt_audience].list[i];
    }
    out->rules.leeway_s = static_cast<uint32_t>(values[option_jwt_leeway].number / 1000);
    return true;
}

void keep(belfry_text *text, char **at) {
    if (text->size) __builtin_memcpy(*at, text->data, text->size);
    text->data = *at;
    *at += text->size;
}

// A lasting copy of *parsed and of the texts that it borrows.
route_auth *scope_copy(const belfry_host *host, const route_auth *parsed) {
    size_t bytes = sizeof(route_auth) + parsed->rules.issuer.size;
    for (size_t i = 0; i < parsed->rules.audience_count; i++) {
        bytes += parsed->audiences[i].size;
    }
    for (size_t i = 0; i < parsed->source_count; i++) {
        bytes += parsed->sources[i].name.size;
    }
    auto *made = static_cast<route_auth *>(host->allocate(bytes));
    *made = *parsed;
    char *at = reinterpret_cast<char *>(made + 1);
    keep(&made->rules.issuer, &at);
    for (size_t i = 0; i < made->rules.audience_count; i++) {
        keep(&made->audiences[i], &at);
    }
    for (size_t i = 0; i < made->source_count; i++) {
        keep(&made->sources[i].name, &at);
    }
    made->rules.keys = made->keys;
    made->rules.audiences = made->audiences;
    return made;
}

void *scope_new(const belfry_host *host, const char *, belfry_text, const belfry_value *values, size_t, char *error,
                size_t error_size) {
    route_auth parsed = {};
    if (!rules_parse(values, &parsed, error, error_size)) return nullptr;
    if (parsed.mode == auth_none) return nullptr; // not even called
    if (parsed.rules.algorithms) {
        char problem[256] = "";
        const belfry_value *keys = &values[option_jwt_key];
        parsed.keys = host->keys_load(keys->list, keys->list_count, problem, sizeof problem);
        if (!parsed.keys) {
            complain(error, error_size, "jwt_key: ");
            complain(error, error_size, problem);
            return nullptr;
        }
    }
    return scope_copy(host, &parsed);
}

void scope_free(const belfry_host *host, const char *, void *scope) {
    auto *route = static_cast<route_auth *>(scope);
    if (route->keys) host->keys_free(route->keys);
    host->release(route);
}

// ---- requests ----------------------------------------------------------------------------------------------------

belfry_verdict_type deny(belfry_verdict *verdict, int status, const char *reason) {
    verdict->status = status;
    verdict->reason = belfry_text_of(reason);
    return BELFRY_DENY;
}

// RFC 6750 section 3: the challenge says how to come back, and after a bad token that it was the token.
belfry_verdict_type challenge(const belfry_call *call, belfry_verdict *verdict, const char *bad_token) {
    call->host->answer_field(call, belfry_text_of("WWW-Authenticate"),
                             belfry_text_of(bad_token ? "Bearer error=\"invalid_token\"" : "Bearer"));
    return deny(verdict, 401, bad_token ? bad_token : "a token is needed");
}

// What follows "Bearer " (any case, RFC 9110 section 11.1). Another scheme, or nothing behind it, is no token.
bool bearer_parse(belfry_text field, belfry_text *token) {
    const belfry_text scheme = belfry_text_of("Bearer");
    if (field.size <= scheme.size || field.data[scheme.size] != ' ') return false;
    if (!belfry_text_equal_nocase({field.data, scheme.size}, scheme)) return false;
    size_t at = scheme.size;
    while (at < field.size && field.data[at] == ' ')
        at++;
    *token = {field.data + at, field.size - at};
    return token->size > 0;
}

// The first token that there is, in the order of the option `token`.
bool token_find(const belfry_call *call, const route_auth *route, belfry_text *token) {
    const belfry_host *host = call->host;
    for (size_t i = 0; i < route->source_count; i++) {
        const token_source *source = &route->sources[i];
        belfry_text field = {};
        bool found = false;
        *token = {};
        switch (source->kind) {
        case source_header:
            found = host->field(call, "Authorization", 0, &field) != 0 && bearer_parse(field, token);
            break;
        case source_cookie:
            found = host->cookie(call, source->name, token) != 0;
            break;
        case source_query:
            found = host->query(call, source->name, token) != 0;
            break;
        case source_subprotocol:
            found = host->subprotocol(call, "belfry.token.", token) != 0;
            break;
        }
        if (found && token->size) return true;
    }
    return false;
}

belfry_verdict_type ask_backend(const belfry_call *call, belfry_verdict *verdict) {
    if (call->request->kind == BELFRY_HTTP) return BELFRY_PASS;    // which the backend is about to see itself
    if (call->request->kind == BELFRY_CARRIED) return BELFRY_PASS; // it was asked when the session was opened
    if (call->host->ask_backend(call)) return BELFRY_WAIT;
    return deny(verdict, 500, "auth asks the backend, and the route has no hook");
}

belfry_verdict_type handshake(const belfry_call *call, belfry_verdict *verdict) {
    const auto *route = static_cast<const route_auth *>(call->route);
    if (BELFRY_HAS(call->request, for_everybody) && call->request->for_everybody) return BELFRY_PASS;
    if (route->mode == auth_backend) return ask_backend(call, verdict);
    if (call->request->kind == BELFRY_HTTP && !route->http) return BELFRY_PASS;
    belfry_text second = {}, token = {};
    if (call->host->field(call, "Authorization", 1, &second)) {
        // Which of two counts is a guess that the backend may make otherwise.
        return deny(verdict, 400, "more than one Authorization");
    }
    if (!token_find(call, route, &token)) {
        return route->mode == auth_jwt ? challenge(call, verdict, nullptr) : ask_backend(call, verdict);
    }
    const char *problem = call->host->take_token(call, &route->rules, token);
    return problem ? challenge(call, verdict, problem) : BELFRY_PASS;
}

// The same check for {"type":"auth"}; that the token is the same user's is the host's to see, before it takes it.
belfry_verdict_type renew(const belfry_call *call, belfry_verdict *verdict) {
    const auto *route = static_cast<const route_auth *>(call->route);
    if (!route->keys) return deny(verdict, 403, "no tokens are taken here");
    const char *problem = call->host->take_token(call, &route->rules, call->data);
    return problem ? deny(verdict, 403, problem) : BELFRY_PASS;
}

const char *const auth_choices[] = {"none", "backend", "jwt", "jwt_or_backend", nullptr};

constexpr belfry_option row(const char *name, belfry_option_type type, const char *default_value, const char *help) {
    return {.section = "route",
            .name = name,
            .type = type,
            .default_value = default_value,
            .minimum = 0,
            .maximum = type == BELFRY_DURATION ? 600000 : 0,
            .choices = type == BELFRY_CHOICE ? auth_choices : nullptr,
            .help = help};
}

const belfry_option options[] = {
    row("auth", BELFRY_CHOICE, "none",
        "who the client is: jwt = by a token, checked here; backend = the connect hook says; jwt_or_backend = the hook "
        "where there is no token"),
    row("jwt_key", BELFRY_SECRETS, "",
        "public keys (PEM, JWK, JWK Set) or an HMAC secret of 32 bytes or more; repeats, so that keys can change; best "
        "as file:PATH"),
    row("jwt_algorithms", BELFRY_LIST, "HS256, RS256, ES256, EdDSA",
        "what tokens may be signed with; a key never serves another algorithm than its own"),
    row("jwt_issuer", BELFRY_TEXT, "", "the claim iss must be this; empty = any"),
    row("jwt_audience", BELFRY_LIST, "",
        "one of them must be in the claim aud, so that tokens for others are not taken"),
    row("jwt_leeway", BELFRY_DURATION, "10s", "for exp and nbf, since clocks differ"),
    row("token", BELFRY_LIST, "header, subprotocol",
        "where it is looked for, the first found counts: header (Authorization: Bearer), cookie:NAME, query:NAME (ends "
        "in logs), subprotocol (belfry.token.TOKEN)"),
    row("auth_http", BELFRY_BOOLEAN, "no",
        "yes = plain HTTP needs the token too; no = the backend looks after its own requests"),
};

} // namespace

BELFRY_EXPORT(auth) = {
    .size = sizeof(belfry_module),
    .abi = BELFRY_ABI,
    .name = "auth",
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
    .renew = renew,
    .close = nullptr,
    .arrived = nullptr,
};
