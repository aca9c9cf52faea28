// What the tests of the built-in modules share: a struct belfry_host that notes what a module asks of it, and a call
// to hand to the module. The rates and counts behind it are exact, so that what a test sees is the module's doing.
// One host at a time, in `fake`; one thread.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "module.h"

#include <initializer_list>
#include <map>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <strings.h>
#include <utility>
#include <vector>

namespace fake_host {

using std::string;

struct taken_rate {
    string key;
    belfry_rate rate;
    int64_t amount;
    uint64_t now_ms;
};

struct fake_state {
    // What the request has.
    std::vector<std::pair<string, string>> fields;
    std::map<string, string> cookies, parameters;
    string subprotocol; // what follows the prefix
    // What was asked of the host.
    std::vector<std::pair<string, string>> answers;
    std::vector<string> sticky_keys;
    std::vector<taken_rate> rates;
    std::map<string, int64_t> counts;
    string taken_token, logged;
    belfry_token_rules taken_rules;
    // How the host answers.
    uint64_t rate_wait = 0; // 0: granted
    bool has_hook = false;
    const char *token_problem = nullptr;
    const char *keys_problem = nullptr;
    int asked_backend = 0;
    int blocks = 0, keys = 0; // allocated, not yet released
    uint8_t next_random = 0;
    // The call in the making.
    belfry_request request;
    belfry_call call;
    belfry_verdict verdict;
    string host_name, method, error;
    alignas(16) uint8_t connection[256];
};

inline fake_state *fake;

inline belfry_text text_of(const string &s) {
    return {s.data(), s.size()};
}

inline string string_of(belfry_text text) {
    return string(text.data ? text.data : "", text.size);
}

// ---- struct belfry_host ----

inline void *host_allocate(size_t size) {
    fake->blocks++;
    return calloc(1, size ? size : 1);
}

inline void host_release(void *memory) {
    if (memory) fake->blocks--;
    free(memory);
}

inline void host_log(belfry_level, const char *text) {
    fake->logged += text;
}

// Different at each call, and known.
inline void host_random(void *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        static_cast<uint8_t *>(out)[i] = fake->next_random++;
    }
}

inline int host_field(const belfry_call *, const char *name, size_t index, belfry_text *value) {
    for (const auto &field : fake->fields) {
        if (strcasecmp(field.first.c_str(), name) != 0) continue;
        if (index-- == 0) {
            *value = text_of(field.second);
            return 1;
        }
    }
    return 0;
}

inline int found_in(const std::map<string, string> &map, belfry_text name, belfry_text *value) {
    const auto found = map.find(string_of(name));
    if (found == map.end()) return 0;
    *value = text_of(found->second);
    return 1;
}

inline int host_cookie(const belfry_call *, belfry_text name, belfry_text *value) {
    return found_in(fake->cookies, name, value);
}

inline int host_query(const belfry_call *, belfry_text name, belfry_text *value) {
    return found_in(fake->parameters, name, value);
}

inline int host_subprotocol(const belfry_call *, const char *prefix, belfry_text *value) {
    assert_string_equal(prefix, "belfry.token.");
    if (fake->subprotocol.empty()) return 0;
    *value = text_of(fake->subprotocol);
    return 1;
}

inline int host_answer_field(const belfry_call *, belfry_text name, belfry_text value) {
    fake->answers.emplace_back(string_of(name), string_of(value));
    return 1;
}

inline void host_set_sticky_key(const belfry_call *, belfry_text key) {
    assert_in_range(key.size, 1, 255);
    fake->sticky_keys.push_back(string_of(key));
}

inline int host_ask_backend(const belfry_call *) {
    fake->asked_backend++;
    return fake->has_hook;
}

inline uint64_t host_rate_take(const belfry_rate *rate, belfry_text key, int64_t amount, uint64_t now_ms) {
    fake->rates.push_back({string_of(key), *rate, amount, now_ms});
    return fake->rate_wait;
}

inline int64_t host_count_add(belfry_text key, int64_t delta) {
    return fake->counts[string_of(key)] += delta;
}

inline belfry_keys *host_keys_load(const belfry_text *, size_t, char *error, size_t error_size) {
    if (fake->keys_problem) {
        belfry_text_append(error, error_size, belfry_text_of(fake->keys_problem));
        return nullptr;
    }
    fake->keys++;
    return reinterpret_cast<belfry_keys *>(fake);
}

inline void host_keys_free(belfry_keys *) {
    fake->keys--;
}

inline const char *host_take_token(const belfry_call *, const belfry_token_rules *rules, belfry_text token) {
    fake->taken_token = string_of(token);
    fake->taken_rules = *rules;
    return fake->token_problem;
}

// No HMAC, but each byte of the digest depends on each of key and data.
inline void host_hmac(belfry_text key, belfry_text data, uint8_t out[32]) {
    const string whole = string_of(key) + '\0' + string_of(data);
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < 32; i++) {
        for (char c : whole) {
            hash = (hash ^ static_cast<uint8_t>(c) ^ i) * 1099511628211u;
        }
        out[i] = static_cast<uint8_t>(hash >> 32);
    }
}

inline constexpr belfry_host host = {
    .size = sizeof(belfry_host),
    .abi = BELFRY_ABI,
    .version = "test",
    .allocate = host_allocate,
    .release = host_release,
    .log = host_log,
    .random = host_random,
    .field = host_field,
    .cookie = host_cookie,
    .query = host_query,
    .subprotocol = host_subprotocol,
    .answer_field = host_answer_field,
    .set_user = nullptr,
    .set_info = nullptr,
    .set_expiry = nullptr,
    .allow = nullptr,
    .set_sticky_key = host_set_sticky_key,
    .ask_backend = host_ask_backend,
    .resume = nullptr,
    .rate_take = host_rate_take,
    .count_add = host_count_add,
    .keys_load = host_keys_load,
    .keys_free = host_keys_free,
    .take_token = host_take_token,
    .hmac = host_hmac,
};

// ---- values of a section ----

inline size_t option_index(const belfry_module *module, const char *section, const char *name) {
    size_t index = 0;
    for (size_t i = 0; i < module->option_count; i++) {
        if (strcmp(module->options[i].section, section) != 0) continue;
        if (strcmp(module->options[i].name, name) == 0) return index;
        index++;
    }
    fail_msg("no option %s in [%s]", name, section);
    return 0;
}

inline size_t option_count(const belfry_module *module, const char *section) {
    size_t count = 0;
    for (size_t i = 0; i < module->option_count; i++) {
        count += strcmp(module->options[i].section, section) == 0;
    }
    return count;
}

inline belfry_value number_value(int64_t number) {
    belfry_value value = {};
    value.number = number;
    return value;
}

inline belfry_value rate_value(int64_t amount, int64_t period_ms, int64_t burst) {
    belfry_value value = {};
    value.rate = {amount, period_ms, burst};
    return value;
}

inline belfry_value text_value(const char *text) {
    belfry_value value = {};
    value.text = belfry_text_of(text);
    return value;
}

inline belfry_value list_value(const std::vector<belfry_text> &list) {
    belfry_value value = {};
    value.list = list.data();
    value.list_count = list.size();
    return value;
}

struct setting {
    const char *name;
    belfry_value value;
};

// scope_new with these options set; null: fake->error says why, or there is nothing to keep.
inline void *scope_with(const belfry_module *module, const char *section, const char *name,
                        const std::vector<setting> &settings) {
    std::vector<belfry_value> values(option_count(module, section));
    for (const setting &s : settings) {
        values[option_index(module, section, s.name)] = s.value;
    }
    char error[512] = "";
    void *scope =
        module->scope_new(&host, section, belfry_text_of(name), values.data(), values.size(), error, sizeof error);
    fake->error = error;
    return scope;
}

// ---- calls ----

inline belfry_call *call_of(belfry_kind kind, const void *route) {
    fake->request.kind = kind;
    fake->request.host = text_of(fake->host_name);
    fake->request.method = text_of(fake->method);
    fake->call.request = &fake->request;
    fake->call.route = route;
    fake->verdict = {};
    fake->verdict.size = sizeof fake->verdict;
    fake->answers.clear();
    return &fake->call;
}

inline void ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    const uint8_t address[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d};
    memcpy(fake->request.address, address, 16);
}

// Eight groups.
inline void ipv6(std::initializer_list<int> groups) {
    assert_int_equal(groups.size(), 8);
    size_t i = 0;
    for (int group : groups) {
        fake->request.address[i++] = static_cast<uint8_t>(group >> 8);
        fake->request.address[i++] = static_cast<uint8_t>(group);
    }
}

inline string reason() {
    return string_of(fake->verdict.reason);
}

// The answer's fields of that name, joined by " | ".
inline string answered(const char *name) {
    string all;
    for (const auto &field : fake->answers) {
        if (strcasecmp(field.first.c_str(), name) == 0) all += (all.empty() ? "" : " | ") + field.second;
    }
    return all;
}

inline int setup(void **) {
    fake = new fake_state();
    fake->request.size = sizeof fake->request;
    fake->call.size = sizeof fake->call;
    fake->call.host = &host;
    fake->call.connection = fake->connection;
    fake->host_name = "app.example";
    fake->method = "GET";
    ipv4(203, 0, 113, 7);
    return 0;
}

// Also fails the test that leaves a scope's memory or keys behind.
inline int teardown(void **) {
    const bool clean = fake->blocks == 0 && fake->keys == 0;
    delete fake;
    return clean ? 0 : -1;
}

#define ASSERT_TEXT(got, want)                                                                                         \
    do {                                                                                                               \
        const std::string got_text(got);                                                                               \
        assert_string_equal(got_text.c_str(), want);                                                                   \
    } while (0)

} // namespace fake_host
