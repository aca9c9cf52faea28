// The part of the configuration that the relay works by. main/config fills these plain structs from the ini file (each
// field is one option row) and hands them out as an immutable snapshot; a reload makes a new one beside it.
#pragma once

#include "net/tls.h"

#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

enum route_protocol : int32_t { route_json, route_raw };
enum slow_policy : int32_t { slow_close };
enum room_right : int32_t { right_anyone, right_members, right_user, right_backend, right_nobody };

// [route PATH]
struct route {
    std::string path; // prefix, begins with '/'
    std::string host; // lower case; empty: any
    int32_t mode;     // 0: rooms
    int32_t protocol; // route_protocol
    std::vector<std::string> join_on_connect;
    bool echo;
    int64_t max_message;   // bytes
    int64_t max_rooms;     // per connection
    int64_t ping_interval; // ms, 0: never
    int64_t pong_timeout;  // ms
    int64_t idle_timeout;  // ms, 0: never
    int64_t send_queue;    // bytes
    int32_t on_slow;       // slow_policy
};

// [room PATTERN]
struct room_rule {
    std::string pattern;
    int32_t join;        // room_right
    int32_t publish;     // room_right
    int64_t max_members; // on this node's threads, each; 0: no bound
};

// [listener NAME]
struct listener_settings {
    std::string name;
    std::vector<std::string> listen;
    bool tls;
    std::vector<std::string> certificate;
    std::vector<std::string> private_key;
    int64_t handshake_timeout;      // ms: TLS and request head together
    int64_t max_handshakes;         // TLS handshakes in flight, per thread
    tls_context *context = nullptr; // counted; null: plain
};

// What every thread reads and nobody changes. Lives as long as the process until reload exists.
struct relay_settings {
    std::vector<route> routes;    // longest path first
    std::vector<room_rule> rooms; // longest pattern first
    std::vector<listener_settings> listeners;
    int64_t max_connections; // of the whole process
};

// The route of a (normalised) path and host. Longest path prefix wins (at a '/' boundary), then one with a host. Null
// where none fits; *other_host then tells whether one with another host would have (421 instead of 404).
const route *route_find(const relay_settings *s, std::string_view path, std::string_view host, bool *other_host);
// The rule of a room's name, or null: the backend's alone.
const room_rule *room_rule_find(const relay_settings *s, std::string_view name);

} // namespace belfry
