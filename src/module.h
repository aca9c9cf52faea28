/* module.h: what a Belfry module is. The only installed header (<belfry/module.h>), C11, and the one contract that the
 * built-in modules (src/modules/) and third-party .so modules share. belfry-module(3) tells it with examples.
 *
 * A module is one table of functions. Belfry calls it at four moments of a connection: the handshake (or the request
 * head, on routes that proxy), each message of the client, each publish into a room, and the end. Each call gets a
 * `struct belfry_call`, and answers with a verdict: pass, deny, or wait.
 *
 * Threads: load, scope_new and scope_free run on the main thread; everything else on the worker thread that owns the
 * connection, so state of a worker or of a connection needs no lock; state of a scope or of the module itself may be
 * read by several workers at once. Only host->resume may be called from any thread.
 *
 * Growth: structs that begin with `size` only ever grow at their end. Who makes one fills in sizeof as it was compiled;
 * who reads one looks at no member beyond that size (BELFRY_HAS). The others, and enums' values, never change.
 * BELFRY_ABI changes only where that is not enough, and a module of another BELFRY_ABI is refused at start.
 */
#ifndef BELFRY_MODULE_H
#define BELFRY_MODULE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BELFRY_ABI 1u

/* True where *pointer, by its own size, has the member: if (BELFRY_HAS(host, hmac)) host->hmac(...). */
#define BELFRY_HAS(pointer, member)                                                                                    \
    ((pointer)->size >=                                                                                                \
     (size_t)((const char *)&(pointer)->member - (const char *)(pointer)) + sizeof((pointer)->member))

/* Borrowed bytes, not NUL-terminated. What a call hands to a module lives until the module returns; what a module hands
 * to the host is copied before the host returns. */
struct belfry_text {
    const char *data;
    size_t size;
};

/* What a module can do with texts without a C library. */
static inline struct belfry_text belfry_text_of(const char *string) {
    struct belfry_text text = {string, 0};
    while (string[text.size])
        text.size++;
    return text;
}

/* Not in constant time: not for secrets. */
static inline int belfry_text_equal(struct belfry_text a, struct belfry_text b) {
    return a.size == b.size && (a.size == 0 || __builtin_memcmp(a.data, b.data, a.size) == 0);
}

/* Letters of ASCII without regard to case. */
static inline int belfry_text_equal_nocase(struct belfry_text a, struct belfry_text b) {
    if (a.size != b.size) return 0;
    for (size_t i = 0; i < a.size; i++) {
        unsigned x = (unsigned char)a.data[i], y = (unsigned char)b.data[i];
        if (x - 'A' < 26u) x += 'a' - 'A';
        if (y - 'A' < 26u) y += 'a' - 'A';
        if (x != y) return 0;
    }
    return 1;
}

/* Adds to the NUL-terminated text in out[size], cut where it is full: for the `error` of load and scope_new. */
static inline void belfry_text_append(char *out, size_t size, struct belfry_text part) {
    size_t at = 0;
    while (at < size && out[at])
        at++;
    for (size_t i = 0; i < part.size && at + 1 < size; i++)
        out[at++] = part.data[i];
    if (at < size) out[at] = 0;
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

enum belfry_option_type {
    BELFRY_BOOLEAN,  /* number: 0 or 1 */
    BELFRY_INTEGER,  /* number */
    BELFRY_SIZE,     /* number: bytes; written 64k, 1m */
    BELFRY_DURATION, /* number: milliseconds; written 500ms, 10s, 5m, 1h */
    BELFRY_TEXT,     /* text */
    BELFRY_LIST,     /* list: the option repeats, each value may be comma-separated */
    BELFRY_CHOICE,   /* number: index into choices */
    BELFRY_SECRETS,  /* list: the option repeats, each value whole, never printed; file:PATH and ${ENV} are expanded */
    BELFRY_RATE      /* rate; written 20/s, 20/s burst=40, 64k/s burst=256k, 100/m; 0 or empty = no limit */
};

struct belfry_rate {
    int64_t amount;    /* 0: no limit */
    int64_t period_ms; /* 1000 for /s, 60000 for /m, 3600000 for /h */
    int64_t burst;     /* at least 1; the amount where none was written */
};

/* One option of an ini section that the module understands. */
struct belfry_option {
    const char *section; /* "route", "upstream" or "room" */
    const char *name;
    enum belfry_option_type type;
    const char *default_value;  /* as it would be written */
    int64_t minimum, maximum;   /* of INTEGER, SIZE, DURATION: inclusive */
    const char *const *choices; /* of CHOICE: null-terminated */
    const char *help;           /* one line: why, not what */
};

/* The option's value in one section, in the order of the module's options for that kind of section. */
struct belfry_value {
    int64_t number;
    struct belfry_rate rate;
    struct belfry_text text;
    const struct belfry_text *list;
    size_t list_count;
};

/* ---- a call ------------------------------------------------------------------------------------------------------ */

enum belfry_kind {
    BELFRY_WEBSOCKET, /* the handshake of a client of a rooms route */
    BELFRY_HTTP,      /* a request that is proxied, or for a file of Belfry's own */
    BELFRY_TUNNEL,    /* an Upgrade that is proxied */
    BELFRY_EVENTS,    /* the GET of a client of a rooms route that opens its session without WebSocket: server-sent
                         events, or long polling. Whoever asks a handshake something asks this one too */
    BELFRY_CARRIED    /* a later request for such a session: a poll, or a POST with one of its messages */
};

/* The request, parsed strictly: fields by host->field. */
struct belfry_request {
    size_t size;
    enum belfry_kind kind;
    struct belfry_text method;
    struct belfry_text path;  /* decoded once, normal: no dot segments */
    struct belfry_text query; /* as sent, behind the '?' */
    struct belfry_text host;  /* the Host, with its port where there is one */
    int secure;               /* the client speaks https (to Belfry, or to a trusted proxy that says so) */
    uint8_t address[16]; /* the client's, behind trusted proxies; IPv4 as ::ffff:a.b.c.d; all zero: a unix socket */
    int for_everybody;   /* BELFRY_HTTP: a file of Belfry's own, the same for everybody and no secret (client_js); no
                            answer_field reaches it */
};

/* Names one connection's wait; good until it is resumed or the connection ends, harmless afterwards. */
struct belfry_ticket {
    uint64_t word[2];
};

struct belfry_host;

struct belfry_call {
    size_t size;
    const struct belfry_host *host;
    struct belfry_ticket ticket;
    void *worker;         /* what worker_new made; null without it */
    void *connection;     /* conn_size bytes of this module's, zero at first, aligned to 16; null where that is 0. The
                             same from its first hook to close; on BELFRY_HTTP and BELFRY_CARRIED each request's own */
    const void *route;    /* what scope_new made of the [route] section; null where it made nothing */
    const void *upstream; /* of the route's [upstream]; null where it has none */
    const void *room;     /* publish: of the [room] section; null where none matches */
    const struct belfry_request *request; /* handshake and admitted, else null */
    uint64_t now_ms;                      /* monotonic */
    uint64_t wall_ms;                     /* since 1970 */
    struct belfry_text user;              /* empty: nobody known (yet) */
    struct belfry_text data;              /* message: as sent; publish: the payload; renew: the token */
    struct belfry_text room_name;         /* publish */
    int binary;                           /* message: a binary frame */
};

/* ---- verdicts ---------------------------------------------------------------------------------------------------- */

enum belfry_verdict_type {
    BELFRY_PASS, /* go on with the next module */
    BELFRY_DENY, /* refuse; *verdict says how */
    BELFRY_WAIT  /* nobody knows yet: the connection waits, others don't, until host->resume. A wait is bounded: a
                    handshake's by the listener's handshake_timeout, a message's by 30 s (then Close 1011). From the
                    handshake and message hooks alone; elsewhere it is a denial */
};

/* How a denial looks. All zero but `size` is filled in before the call; status 0 means 403. */
struct belfry_verdict {
    size_t size;
    int status;                /* handshake: the HTTP status, 400 to 599, or on BELFRY_HTTP 200 to 299: the module has
                                  answered, with its answer_fields and no body; publish: the error's code */
    uint32_t retry_after_s;    /* 429, 503: Retry-After; 0: none */
    struct belfry_text reason; /* for the answer and the log, at most 255 bytes; must be static or live in what call
                                  hands to you until `close`; no secrets */
    uint16_t close_code;       /* message: closes the connection with it; 0: the message alone is dropped, and counted.
                                  publish: the same behind the error */
    uint32_t pause_ms; /* message, with PASS: nothing more is read from this client for so long (100 min at most) */
};

/* ---- what Belfry offers ------------------------------------------------------------------------------------------ */

struct belfry_keys; /* verification keys of tokens; immutable, any thread */

struct belfry_token_rules {
    size_t size;
    const struct belfry_keys *keys;
    uint32_t algorithms;       /* bits BELFRY_HS256... */
    struct belfry_text issuer; /* empty: any */
    const struct belfry_text *audiences;
    size_t audience_count; /* 0: any */
    uint32_t leeway_s;     /* clocks differ */
};
#define BELFRY_HS256 1u
#define BELFRY_RS256 2u
#define BELFRY_ES256 4u
#define BELFRY_EDDSA 8u

enum belfry_level { BELFRY_ERROR, BELFRY_WARN, BELFRY_INFO, BELFRY_DEBUG };

struct belfry_host {
    size_t size;
    uint32_t abi;
    const char *version; /* Belfry's */

    /* Zeroed memory, never null (out of memory ends the process); given back with release. Any thread. */
    void *(*allocate)(size_t size);
    void (*release)(void *memory);
    /* One line of the log. Any thread. Never a secret. */
    void (*log)(enum belfry_level level, const char *text);
    /* n bytes from the kernel. Any thread. */
    void (*random)(void *out, size_t n);

    /* Below, "Handshake" is the handshake and the admitted hook. At other times those functions return 0 and change
     * nothing. */

    /* The index-th field line of that name (any case) of the request: 1 and the value, or 0. Handshake. */
    int (*field)(const struct belfry_call *call, const char *name, size_t index, struct belfry_text *value);
    /* The cookie of that name (0 where there are several, too), the query's first parameter of that name
     * (percent-decoded), what follows `prefix` in the first offered WebSocket subprotocol that begins so: 1 and the
     * value (until the hook returns), or 0. Handshake. */
    int (*cookie)(const struct belfry_call *call, struct belfry_text name, struct belfry_text *value);
    int (*query)(const struct belfry_call *call, struct belfry_text name, struct belfry_text *value);
    int (*subprotocol)(const struct belfry_call *call, const char *prefix, struct belfry_text *value);
    /* Adds a field line to the answer, be it a 101, a refusal or a backend's. 0: refused: a byte that may not be in it,
     * a field that Belfry writes itself (Connection, Content-Length, Content-Type, Sec-WebSocket-... and the like), or
     * more than 8 KB in all. Handshake. */
    int (*answer_field)(const struct belfry_call *call, struct belfry_text name, struct belfry_text value);

    /* Who the client is. Handshake and renew (which makes nobody another user). A user is 1 to 249 bytes of what a
     * room's name may hold; info is JSON of at most 4 KB. 0: it is not. */
    int (*set_user)(const struct belfry_call *call, struct belfry_text user);
    int (*set_info)(const struct belfry_call *call, struct belfry_text json);
    void (*set_expiry)(const struct belfry_call *call, uint64_t seconds); /* from now; 0: never */
    /* A room pattern (chat:*) that this client may join (or, else, publish in) where the room's right is `backend`.
     * 0: no pattern, one that begins with @, or the 65th. Handshake and renew. */
    int (*allow)(const struct belfry_call *call, int publish, struct belfry_text pattern);
    /* What sticky hashing goes by for this client. Handshake. What is behind the first 255 bytes does not count. */
    void (*set_sticky_key)(const struct belfry_call *call, struct belfry_text key);

    /* Has the route's connect hook asked as soon as every module has passed: return BELFRY_WAIT (or PASS) after it. The
     * modules behind still come first, since one of them may refuse the client, or say which server it sticks to; then
     * the host takes over the hook's answer, or passes the backend's refusal on. 0: the route has no hook, or another
     * module has said so already. In the handshake hook alone. */
    int (*ask_backend)(const struct belfry_call *call);
    /* Ends a wait with BELFRY_PASS or BELFRY_DENY; the verdict (null: all default) is copied, its reason as well. It is
     * carried out in a later turn of the worker: it may come before the hook has returned BELFRY_WAIT. Any thread. */
    void (*resume)(struct belfry_ticket ticket, enum belfry_verdict_type type, const struct belfry_verdict *verdict);

    /* GCRA (the leaky bucket as ATM's I.371 has it), process-wide, keyed by any bytes; put a name of your own in front.
     * 0: granted; else nothing was taken, and that many ms later it would be. An amount above the burst is granted when
     * the whole burst is there. A sketch of fixed size is behind it: a key may be charged for others, never too little;
     * two keys fall together with odds of one in 2^32. Any thread. */
    uint64_t (*rate_take)(const struct belfry_rate *rate, struct belfry_text key, int64_t amount, uint64_t now_ms);
    /* A process-wide count by key, plus `delta`: the new value, never below 0. The same kind of sketch. Any thread. */
    int64_t (*count_add)(struct belfry_text key, int64_t delta);

    /* Keys from texts: PEM, JWK, JWK Set, or an HMAC secret (32 bytes or more). Null with a text in error. load and
     * scope_new. */
    struct belfry_keys *(*keys_load)(const struct belfry_text *texts, size_t count, char *error, size_t error_size);
    void (*keys_free)(struct belfry_keys *keys);
    /* Checks a JSON Web Token and takes over its claims: sub the user, exp the expiry, rooms, info. Null: all is well;
     * else a static text that says why not, and nothing has changed. In renew, a token of another user is refused.
     * Handshake and renew. */
    const char *(*take_token)(const struct belfry_call *call, const struct belfry_token_rules *rules,
                              struct belfry_text token);
    /* HMAC-SHA-256. Any thread. */
    void (*hmac)(struct belfry_text key, struct belfry_text data, uint8_t out[32]);
};

/* ---- reloads ------------------------------------------------------------------------------------------------------
 *
 * A reload (SIGHUP) reads the file anew while connections live. What it means to a module:
 *
 * - scope_new makes scopes of the new values beside those that are in use. Where something in the file is wrong,
 *   anybody's, these are freed again and nothing has changed. Else all connections change over; then the old ones are
 *   freed. So each scope has its scope_free, and no hook gets one that was freed. Who keeps a scope beyond its
 *   hook, for a thread of his own, has to count by himself who uses it.
 * - Modules and their order are changed by a restart alone: load, unload, worker_new and worker_free are not called.
 * - Between two hooks of a connection, call->route, upstream and room may become other ones. What has to be the same
 *   until the end (what was counted up, and has to be counted down) belongs into call->connection.
 * - A connection whose sections had nothing for the module, and have now, becomes its business: its further hooks are
 *   called, with a state of all zero and without a handshake before them, and close.
 * - A connection whose sections have nothing for the module any more: close alone is still called, with the state as
 *   it is, and null scopes.
 * - A wait goes on; where the connection's next hook is called, it gets the new scopes.
 */

/* ---- a module ---------------------------------------------------------------------------------------------------- */

struct belfry_module {
    size_t size;
    uint32_t abi; /* BELFRY_ABI */
    const char *name;
    const char *version;
    const struct belfry_option *options;
    size_t option_count;
    size_t conn_size; /* bytes of state per connection, up to 256 */

    /* Every function may be null. Once, before all others; 0 with a text in error: Belfry does not start (or reload).
     * `error` is an empty text of error_size bytes. */
    int (*load)(const struct belfry_host *host, char *error, size_t error_size);
    void (*unload)(void);
    /* Makes of one section's values what calls get as route, upstream or room; called for each section of a kind that
     * the module has options for. `name`: what follows the section's kind ("/ws" of [route /ws]). Null and a text in
     * error: a mistake in the file; where the text begins with an option's name and a colon, it is told with that
     * option's line. Null and an empty error: nothing to do here: where that is so of a connection's route and of its
     * upstream, the module is not called for the connection (but for publishes into rooms that it did make something
     * of), and keeps no state of it. A module without scope_new is called for every connection. */
    void *(*scope_new)(const struct belfry_host *host, const char *section, struct belfry_text name,
                       const struct belfry_value *values, size_t count, char *error, size_t error_size);
    void (*scope_free)(const struct belfry_host *host, const char *section, void *scope);
    void *(*worker_new)(const struct belfry_host *host, unsigned worker);
    void (*worker_free)(const struct belfry_host *host, void *worker);

    enum belfry_verdict_type (*handshake)(const struct belfry_call *call, struct belfry_verdict *verdict);
    /* The user is known now, all modules have passed: for what counts by user. DENY refuses still. A request of
     * BELFRY_HTTP comes here a second time, as BELFRY_EVENTS and with the same memory, where its backend's answer makes
     * it a held stream (Belfry-Hold): a connection like others from then on. */
    enum belfry_verdict_type (*admitted)(const struct belfry_call *call, struct belfry_verdict *verdict);
    enum belfry_verdict_type (*message)(const struct belfry_call *call, struct belfry_verdict *verdict);
    enum belfry_verdict_type (*publish)(const struct belfry_call *call, struct belfry_verdict *verdict);
    /* A token for the connection's next hours ({"type":"auth"}). PASS: it took it. All modules are asked until one
     * passes. */
    enum belfry_verdict_type (*renew)(const struct belfry_call *call, struct belfry_verdict *verdict);
    /* The last call, once for each connection (each request, of BELFRY_HTTP and BELFRY_CARRIED) for which the module's
     * turn came at the handshake (not where a module before it denied), or that became its business by a reload and of
     * which a hook was called since. */
    void (*close)(const struct belfry_call *call);
    /* An upgrade has brought the connection into this process, with its memory as this module, in this version, had it
     * in the old one, where close is not called. What is counted in the process's own memory is to be counted again;
     * pointers mean nothing any more. Connections of a module that has conn_size or close, but not this, are not
     * brought over: they are asked to come back. */
    void (*arrived)(const struct belfry_call *call);
};

/* The one symbol of a .so: BELFRY_EXPORT(origin) = {...};  Built into Belfry itself it is belfry_module_origin. */
#ifdef BELFRY_BUILT_IN
#define BELFRY_EXPORT(name)                                                                                            \
    extern const struct belfry_module belfry_module_##name;                                                            \
    const struct belfry_module belfry_module_##name
#elif defined(__cplusplus)
#define BELFRY_EXPORT(name)                                                                                            \
    extern __attribute__((visibility("default"))) const struct belfry_module belfry_module;                            \
    const struct belfry_module belfry_module
#else
#define BELFRY_EXPORT(name) __attribute__((visibility("default"))) const struct belfry_module belfry_module
#endif

#ifdef __cplusplus
}
#endif

#endif
