// rate_limit: how much one address, one user, one connection and one room may do. Rates are GCRA, the leaky bucket of
// ITU-T I.371 that needs one number a counter: the theoretical arrival time of what comes next.
//
// A scope per [route] and [room], made on the main thread, read by all workers. What is counted per address, user and
// room is process-wide, in the host's lock-free arrays; what is counted per connection is in its block, 64 bytes.
#include "module.h"

namespace {

// In the order of the options below, per section.
enum {
    route_connection_rate,
    route_connections_per_ip,
    route_connections_per_user,
    route_message_rate,
    route_byte_rate,
    route_user_message_rate,
    route_request_rate,
    route_on_limit
};
enum { room_message_rate };
enum { on_limit_close, on_limit_drop, on_limit_slow };

struct route_limits {
    belfry_rate connection, message, byte, user_message, request;
    int64_t per_ip, per_user; // 0: no limit
    int64_t on_limit;
    uint64_t id;    // of the route's path, in keys: the same after a reload
    uint32_t rates; // of `message` and `byte`, to know them again; never 0
};

struct room_limits {
    belfry_rate message;
};

// What a connection has taken must be given back exactly, whatever a reload makes of the route meanwhile: the keys'
// parts are kept.
struct connection_state {
    uint64_t message_arrival; // theoretical, in ns of now_ms's clock
    uint64_t byte_arrival;
    uint64_t route; // route_limits::id at the handshake; 0: there were no limits then
    uint8_t address[16];
    uint8_t user[16]; // digest of the user's name
    bool plain;       // a proxied request: neither a connection nor a user's
    bool has_user, counted_address, counted_user;
    uint32_t rates; // route_limits::rates that the arrivals are of; 0: none yet
};

constexpr uint16_t close_rate_limit = 4408; // Belfry's own: "rate limit"
constexpr uint32_t pause_max_ms = 60000;

// ---- keys --------------------------------------------------------------------------------------------------------

struct limit_key {
    char data[28];
};

// What is counted, where, of whom.
limit_key key_of(const char tag[5], uint64_t route, const uint8_t id[16]) {
    limit_key key;
    __builtin_memcpy(key.data, tag, 4);
    __builtin_memcpy(key.data + 4, &route, 8);
    __builtin_memcpy(key.data + 12, id, 16);
    return key;
}

belfry_text text_of(const limit_key *key) {
    return {key->data, sizeof key->data};
}

// FNV-1a: names a route among a config's few.
uint64_t hash_of(belfry_text text, uint64_t hash = 0xcbf29ce484222325u) {
    for (size_t i = 0; i < text.size; i++) {
        hash = (hash ^ static_cast<uint8_t>(text.data[i])) * 0x100000001b3u;
    }
    return hash;
}

// What was taken at one rate says nothing about another one: a key's part that changes where a reload changes the rate.
uint64_t mark_of(const belfry_rate *rate, uint64_t hash) {
    const int64_t numbers[3] = {rate->amount, rate->period_ms, rate->burst};
    return hash_of({reinterpret_cast<const char *>(numbers), sizeof numbers}, hash);
}

// IPv4 whole; of IPv6 the /64, within which anybody has addresses without number. False: a unix socket, behind which
// all clients look alike.
bool address_of(const belfry_request *request, uint8_t out[16]) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t none[16] = {};
    __builtin_memcpy(out, request->address, 16);
    if (__builtin_memcmp(out, none, 16) == 0) return false;
    if (__builtin_memcmp(out, mapped, 12) != 0) __builtin_memset(out + 8, 0, 8);
    return true;
}

// The digest of the user's name, made once: names may be long, and the key must be the same at the end. False: nobody.
bool know_user(const belfry_call *call, connection_state *state) {
    if (!state->has_user && call->user.size) {
        uint8_t digest[32];
        call->host->hmac(belfry_text_of("rate_limit user"), call->user, digest);
        __builtin_memcpy(state->user, digest, sizeof state->user);
        state->has_user = true;
    }
    return state->has_user;
}

// ---- GCRA of a connection ----------------------------------------------------------------------------------------

using wide = unsigned __int128; // amount times nanoseconds: 63 and 52 bits

// The time that `amount` takes at this rate. Rounded down, so that a burst of n and n times one never disagree.
wide time_of(const belfry_rate *rate, uint64_t amount) {
    const wide period_ns = static_cast<wide>(static_cast<uint64_t>(rate->period_ms)) * 1000000u;
    return static_cast<wide>(amount) * period_ns / static_cast<uint64_t>(rate->amount);
}

uint64_t narrow(wide value) {
    return value > UINT64_MAX ? UINT64_MAX : static_cast<uint64_t>(value);
}

// What the arrival time would become, in *next; the ms by which that is too early, 0: within the limit.
uint64_t early_by(const belfry_rate *rate, uint64_t arrival, uint64_t amount, uint64_t now_ms, uint64_t *next) {
    if (rate->amount <= 0) {
        *next = arrival;
        return 0;
    }
    const wide now = static_cast<wide>(now_ms) * 1000000u;
    const wide after = (arrival > now ? arrival : now) + time_of(rate, amount);
    const wide allowed = now + time_of(rate, static_cast<uint64_t>(rate->burst));
    *next = narrow(after);
    return after <= allowed ? 0 : narrow((after - allowed + 999999u) / 1000000u);
}

// ---- verdicts ----------------------------------------------------------------------------------------------------

belfry_verdict_type refuse(belfry_verdict *verdict, uint64_t wait_ms, const char *reason) {
    const uint64_t seconds = wait_ms / 1000 + (wait_ms % 1000 != 0);
    verdict->status = 429;
    verdict->retry_after_s = seconds > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(seconds);
    verdict->reason = belfry_text_of(reason);
    return BELFRY_DENY;
}

// When a connection of another will end nobody knows; a client that retries at once helps nobody.
constexpr uint64_t retry_count_ms = 5000;

// By its address; a connection is counted then.
belfry_verdict_type arrive(const belfry_call *call, belfry_verdict *verdict) {
    const auto *limits = static_cast<const route_limits *>(call->route);
    auto *state = static_cast<connection_state *>(call->connection);
    const bool plain = state->plain;
    if (!address_of(call->request, state->address)) return BELFRY_PASS;
    const belfry_rate *rate = plain ? &limits->request : &limits->connection;
    if (rate->amount > 0) {
        const limit_key key = key_of(plain ? "rl:h" : "rl:c", mark_of(rate, state->route), state->address);
        const uint64_t wait_ms = call->host->rate_take(rate, text_of(&key), 1, call->now_ms);
        if (wait_ms) return refuse(verdict, wait_ms, plain ? "too many requests" : "too many new connections");
    }
    if (plain) return BELFRY_PASS;
    const limit_key key = key_of("rl:a", state->route, state->address);
    const int64_t count = call->host->count_add(text_of(&key), 1);
    state->counted_address = true;
    if (limits->per_ip <= 0 || count <= limits->per_ip) return BELFRY_PASS;
    return refuse(verdict, retry_count_ms, "too many connections from this address");
}

belfry_verdict_type handshake(const belfry_call *call, belfry_verdict *verdict) {
    const auto *limits = static_cast<const route_limits *>(call->route);
    auto *state = static_cast<connection_state *>(call->connection);
    const belfry_kind kind = call->request->kind;
    state->route = limits->id;
    state->plain = kind == BELFRY_HTTP || kind == BELFRY_CARRIED;
    return arrive(call, verdict);
}

belfry_verdict_type admitted(const belfry_call *call, belfry_verdict *verdict) {
    const auto *limits = static_cast<const route_limits *>(call->route);
    auto *state = static_cast<connection_state *>(call->connection);
    if (!state->route) return BELFRY_PASS;                      // it came before a reload brought the limits
    if (state->plain && call->request->kind == BELFRY_EVENTS) { // its backend has made the request a held stream
        state->plain = false;
        if (arrive(call, verdict) == BELFRY_DENY) return BELFRY_DENY;
    }
    if (state->plain || state->counted_user || !know_user(call, state)) return BELFRY_PASS;
    const limit_key key = key_of("rl:u", state->route, state->user);
    const int64_t count = call->host->count_add(text_of(&key), 1);
    state->counted_user = true;
    if (limits->per_user <= 0 || count <= limits->per_user) return BELFRY_PASS;
    return refuse(verdict, retry_count_ms, "too many connections of this user");
}

belfry_verdict_type message(const belfry_call *call, belfry_verdict *verdict) {
    const auto *limits = static_cast<const route_limits *>(call->route);
    auto *state = static_cast<connection_state *>(call->connection);
    if (limits->message.amount <= 0 && limits->byte.amount <= 0) return BELFRY_PASS;
    if (state->rates != limits->rates) { // a reload has changed them: they begin anew
        state->message_arrival = state->byte_arrival = 0;
        state->rates = limits->rates;
    }
    uint64_t message_next, byte_next;
    const uint64_t by_message = early_by(&limits->message, state->message_arrival, 1, call->now_ms, &message_next);
    const uint64_t by_byte = early_by(&limits->byte, state->byte_arrival, call->data.size, call->now_ms, &byte_next);
    const uint64_t early_ms = by_message > by_byte ? by_message : by_byte;
    // Only what passes is counted: who was refused does not wait the longer for it.
    if (early_ms == 0 || limits->on_limit == on_limit_slow) {
        state->message_arrival = message_next;
        state->byte_arrival = byte_next;
        verdict->pause_ms = early_ms > pause_max_ms ? pause_max_ms : static_cast<uint32_t>(early_ms);
        return BELFRY_PASS;
    }
    verdict->status = 429;
    verdict->reason = belfry_text_of("rate limit");
    verdict->close_code = limits->on_limit == on_limit_close ? close_rate_limit : uint16_t{0};
    return BELFRY_DENY;
}

// A room that is full of others' messages is no fault of this client: it gets an error, and stays.
belfry_verdict_type room_verdict(const belfry_call *call, belfry_verdict *verdict) {
    const auto *limits = static_cast<const room_limits *>(call->room);
    if (!limits || limits->message.amount <= 0) return BELFRY_PASS;
    char key[12 + 255];
    const size_t size = call->room_name.size < 255 ? call->room_name.size : 255;
    const uint64_t mark = mark_of(&limits->message, 0);
    __builtin_memcpy(key, "rl:r", 4);
    __builtin_memcpy(key + 4, &mark, 8);
    if (size) __builtin_memcpy(key + 12, call->room_name.data, size);
    const uint64_t wait_ms = call->host->rate_take(&limits->message, {key, 12 + size}, 1, call->now_ms);
    return wait_ms ? refuse(verdict, wait_ms, "too many messages in this room") : BELFRY_PASS;
}

belfry_verdict_type publish(const belfry_call *call, belfry_verdict *verdict) {
    const auto *limits = static_cast<const route_limits *>(call->route); // null: the room alone has a limit
    auto *state = static_cast<connection_state *>(call->connection);
    if (limits && limits->user_message.amount > 0 && know_user(call, state)) {
        const limit_key key = key_of("rl:m", mark_of(&limits->user_message, limits->id), state->user);
        const uint64_t wait_ms = call->host->rate_take(&limits->user_message, text_of(&key), 1, call->now_ms);
        if (wait_ms) {
            if (limits->on_limit == on_limit_close) verdict->close_code = close_rate_limit;
            return refuse(verdict, wait_ms, "too many messages of this user");
        }
    }
    return room_verdict(call, verdict);
}

// The counts are each process's own.
void arrived(const belfry_call *call) {
    const auto *state = static_cast<const connection_state *>(call->connection);
    if (state->counted_address) {
        const limit_key key = key_of("rl:a", state->route, state->address);
        call->host->count_add(text_of(&key), 1);
    }
    if (state->counted_user) {
        const limit_key key = key_of("rl:u", state->route, state->user);
        call->host->count_add(text_of(&key), 1);
    }
}

void close(const belfry_call *call) {
    auto *state = static_cast<connection_state *>(call->connection);
    if (state->counted_address) {
        const limit_key key = key_of("rl:a", state->route, state->address);
        call->host->count_add(text_of(&key), -1);
    }
    if (state->counted_user) {
        const limit_key key = key_of("rl:u", state->route, state->user);
        call->host->count_add(text_of(&key), -1);
    }
    state->counted_address = state->counted_user = false;
}

// ---- configuration -----------------------------------------------------------------------------------------------

bool any_limit(const belfry_value *values) {
    static const int rates[] = {route_connection_rate, route_message_rate, route_byte_rate, route_user_message_rate,
                                route_request_rate};
    for (const int rate : rates) {
        if (values[rate].rate.amount > 0) return true;
    }
    return values[route_connections_per_ip].number > 0 || values[route_connections_per_user].number > 0;
}

void *scope_new(const belfry_host *host, const char *section, belfry_text name, const belfry_value *values, size_t,
                char *, size_t) {
    if (belfry_text_equal(belfry_text_of(section), belfry_text_of("room"))) {
        if (values[room_message_rate].rate.amount <= 0) return nullptr;
        auto *room = static_cast<room_limits *>(host->allocate(sizeof(room_limits)));
        room->message = values[room_message_rate].rate;
        return room;
    }
    if (!any_limit(values)) return nullptr; // an idle connection keeps nothing for it
    auto *route = static_cast<route_limits *>(host->allocate(sizeof(route_limits)));
    route->connection = values[route_connection_rate].rate;
    route->per_ip = values[route_connections_per_ip].number;
    route->per_user = values[route_connections_per_user].number;
    route->message = values[route_message_rate].rate;
    route->byte = values[route_byte_rate].rate;
    route->user_message = values[route_user_message_rate].rate;
    route->request = values[route_request_rate].rate;
    route->on_limit = values[route_on_limit].number;
    route->id = hash_of(name);
    route->rates = static_cast<uint32_t>(mark_of(&route->byte, mark_of(&route->message, 0))) | 1;
    return route;
}

void scope_free(const belfry_host *host, const char *, void *scope) {
    host->release(scope);
}

const char *const on_limit_choices[] = {"close", "drop", "slow", nullptr};

constexpr belfry_option rate_option(const char *section, const char *name, const char *help) {
    return {.section = section,
            .name = name,
            .type = BELFRY_RATE,
            .default_value = "",
            .minimum = 0,
            .maximum = 0,
            .choices = nullptr,
            .help = help};
}

constexpr belfry_option count_option(const char *name, const char *default_value, const char *help) {
    return {.section = "route",
            .name = name,
            .type = BELFRY_INTEGER,
            .default_value = default_value,
            .minimum = 0,
            .maximum = 1000000,
            .choices = nullptr,
            .help = help};
}

const belfry_option options[] = {
    rate_option("route", "connection_rate",
                "handshakes of one address (IPv6: one /64), so that nobody storms the backend; 10/s burst=20"),
    count_option(
        "connections_per_ip", "0",
        "of one address (IPv6: one /64) at once; first see that trusted_proxies names what stands in front, or "
        "all its clients share this; 0 = no limit"),
    count_option("connections_per_user", "0", "at once, so that one account cannot take every place; 0 = no limit"),
    rate_option("route", "message_rate", "messages of one connection; 20/s burst=40"),
    rate_option("route", "byte_rate",
                "bytes in messages of one connection; one larger than the burst is always too much; 64k/s burst=256k"),
    rate_option("route", "user_message_rate", "publishes of one user over all connections; 20/s burst=40"),
    rate_option("route", "request_rate", "plain HTTP requests of one address (IPv6: one /64); above it 429"),
    {.section = "route",
     .name = "on_limit",
     .type = BELFRY_CHOICE,
     .default_value = "close",
     .minimum = 0,
     .maximum = 0,
     .choices = on_limit_choices,
     .help = "for message_rate and byte_rate: close with 4408; drop the message and count it; slow = read on later"},
    rate_option("room", "message_rate", "publishes of clients into one room, so that its members can follow; 50/s"),
};

} // namespace

BELFRY_EXPORT(rate_limit) = {
    .size = sizeof(belfry_module),
    .abi = BELFRY_ABI,
    .name = "rate_limit",
    .version = "1",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .conn_size = sizeof(connection_state),
    .load = nullptr,
    .unload = nullptr,
    .scope_new = scope_new,
    .scope_free = scope_free,
    .worker_new = nullptr,
    .worker_free = nullptr,
    .handshake = handshake,
    .admitted = admitted,
    .message = message,
    .publish = publish,
    .renew = nullptr,
    .close = close,
    .arrived = arrived,
};
