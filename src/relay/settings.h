// The part of the configuration that the relay works by. main/config fills these plain structs from the ini file (each
// field is one option row) and hands them out as an immutable snapshot; a reload makes a new one beside it.
#pragma once

#include "base/bytes.h"
#include "base/ip.h"
#include "base/options.h"
#include "net/tls.h"

struct belfry_module; // module.h

#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

enum route_protocol : int32_t { route_json, route_raw };
enum route_mode : int32_t { mode_rooms, mode_proxy };
enum route_asks : int32_t { asks_auto, asks_always };
enum slow_policy : int32_t { slow_close, slow_drop_oldest, slow_latest };
enum room_right : int32_t { right_anyone, right_members, right_user, right_backend, right_nobody };

// What the modules' scope_new made of a section, by the module's place in relay_settings::modules.
using module_scopes = std::vector<void *>;

// [upstream NAME]: a server line, parsed
struct server_settings {
    std::string text; // as written, without its parameters: names the server in the ring, the log and the status
    std::string host; // to resolve, or for SNI and the unix path
    uint16_t port;
    bool tls, unix;
    uint32_t weight;      // 1 to 10,000
    uint32_t max_fails;   // failures within fail_timeout that take it out; 0: never
    int64_t fail_timeout; // ms: the window, and how long it stays out
    bool backup;          // only while all others are out
    bool down;            // draining: keeps what runs, gets nothing new
};

// [upstream NAME]
struct upstream_settings {
    std::string name;
    std::vector<std::string> server; // as written
    std::vector<server_settings> servers;
    std::string health_check;  // path; empty: passive health alone
    int64_t health_interval;   // ms
    int64_t health_timeout;    // ms
    int64_t keepalive;         // idle links a worker and server
    int64_t keepalive_timeout; // ms
    int64_t connect_timeout;   // ms, TLS included
    int64_t read_timeout;      // ms between two reads of an answer
    int64_t max_inflight;      // calls at once, per worker; 0: no bound
    int64_t queue;             // calls that may wait for that
    int64_t queue_timeout;     // ms
    int64_t slow_start;        // ms over which a server that came back gets its weight; 0: at once
    std::string tls_ca;
    bool tls_verify;
    std::string tls_name;       // for SNI and verification; empty: the server's host
    tls_context *tls = nullptr; // counted; where a server is https://
    bool retired = false;       // no more in the file: connections may still use it
    module_scopes scopes = {};
};

// [route PATH]
struct route {
    std::string path;            // prefix, begins with '/'
    std::string host;            // lower case; empty: any
    int32_t mode;                // route_mode
    std::string upstream;        // its name; empty: none
    int32_t upstream_index = -1; // in relay_settings::upstreams
    std::string hook;            // path of the upstream that takes hook calls; empty: no backend is asked
    std::string hook_secret;
    int64_t hook_timeout;            // ms
    int32_t connect_hook;            // route_asks
    std::vector<std::string> notify; // names of notify_type
    uint32_t notify_bits = 0;        // made from it
    bool publish_header;
    bool client_js;            // serves the browser client (client_js.h)
    int64_t max_body;          // bytes of a proxied request's body; 0: no bound
    int64_t body_timeout;      // ms between two reads of a request's body
    int64_t min_body_rate;     // bytes a second, over any body_timeout; 0: none
    int64_t keepalive_timeout; // ms that a client's connection may idle between requests
    int64_t tunnel_timeout;    // ms without a byte either way; 0: none
    module_scopes scopes = {};
    int32_t protocol; // route_protocol
    std::vector<std::string> join_on_connect;
    bool echo;
    bool sse;                     // server-sent events
    bool poll;                    // long polling
    int64_t poll_wait;            // ms that a poll waits for something
    int64_t poll_timeout;         // ms without a poll, after which the session ends
    int64_t max_message;          // bytes
    int64_t max_rooms;            // per connection
    int64_t ping_interval;        // ms, 0: never
    int64_t pong_timeout;         // ms
    int64_t idle_timeout;         // ms, 0: never
    int64_t send_queue;           // bytes
    int64_t send_queue_soft;      // bytes; 0: none
    int64_t send_queue_soft_time; // ms
    int32_t on_slow;              // slow_policy
    bool compression;             // permessage-deflate where a client offers it
    bool retired = false;         // no more in the file: never found, its connections are asked to leave
};

// [room PATTERN]
struct room_rule {
    std::string pattern;
    int32_t join;            // room_right
    int32_t publish;         // room_right
    int64_t max_members;     // on this node's threads, each; 0: no bound
    int64_t history = 0;     // messages that are kept; 0: none
    int64_t history_ttl = 0; // ms after the last of them
    bool presence = false;   // who is in it can be asked for
    bool announce = false;   // who comes and goes is told to it; implies presence
    module_scopes scopes = {};
};

// [listener NAME]
struct listener_settings {
    std::string name;
    std::vector<std::string> listen;
    bool tls;
    std::vector<std::string> certificate;
    std::vector<std::string> private_key;
    bool proxy_protocol;
    std::vector<std::string> trusted_proxies;
    std::vector<ip_range> trusted;     // made from it
    int64_t handshake_timeout;         // ms: TLS and request head together
    int64_t max_handshakes;            // TLS handshakes in flight, per thread
    tls_context *context = nullptr;    // counted; null: plain
    bool retired = false;              // no more in the file: accepts nothing, its connections are asked to leave
    std::vector<std::string> formerly; // names that its addresses had in the configuration before: theirs are its own
};

// A module in the order that it is called in.
struct module_entry {
    const struct belfry_module *module; // borrowed: static or in a loaded .so
    uint32_t conn_offset;               // of its state in a connection's block
};

// What every thread reads and nobody changes. Lives as long as the process until reload exists.
struct relay_settings {
    std::vector<module_entry> modules;
    uint32_t module_conn_bytes = 0; // of a connection's block
    std::vector<upstream_settings> upstreams;
    std::vector<route> routes;    // longest path first
    std::vector<room_rule> rooms; // longest pattern first
    std::vector<listener_settings> listeners;
    int64_t max_connections;       // of the whole process
    int64_t compression_min;       // bytes of a payload below which nobody gets it compressed
    int64_t max_message;           // bytes of one broadcast: [broker] max_message
    rate drain_rate;               // of goodbyes, over all threads
    int64_t drain_timeout = 60000; // ms from the first goodbye, until who is still there is dropped
};

// The route of a (normalised) path and host. Longest path prefix wins (at a '/' or ';' boundary; '/'s that follow each
// other count as one), then one with a host, which is compared without port and without a dot at its end. Null
// where none fits; *other_host then tells whether one with another host would have (421 instead of 404).
const route *route_find(const relay_settings *s, std::string_view path, std::string_view host, bool *other_host);
// The route's upstream, or null.
const upstream_settings *route_upstream(const relay_settings *s, const route *r);
// True where a worker would notice no difference: all that the file says of them is the same, certificates aside.
bool upstream_same(const upstream_settings *a, const upstream_settings *b);
// Appends the Host field that Belfry's own calls to the server carry: tls_name, else the server's name and port.
void upstream_host(const upstream_settings *u, const server_settings *s, buffer *out);
// The rule of a room's name, or null: the backend's alone.
const room_rule *room_rule_find(const relay_settings *s, std::string_view name);

} // namespace belfry
