// One row per option. From here come parsing, defaults, bounds, -T, --help-config, and the option part of
// belfry.ini(5).
#include "main/config.h"

#include <stddef.h>

namespace belfry {

// The structs hold std::string, so offsetof is only conditionally supported; gcc and clang do support it.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

static const char *const levels[] = {"error", "warn", "info", "debug", nullptr};
static const char *const formats[] = {"text", "json", nullptr};
static const char *const modes[] = {"rooms", "proxy", nullptr};
static const char *const asks[] = {"auto", "always", nullptr};
static const char *const protocols[] = {"json", "raw", nullptr};
static const char *const slow[] = {"close", nullptr};
static const char *const rights[] = {"anyone", "members", "user", "backend", "nobody", nullptr};
static const char *const brokers[] = {"memory", "redis", nullptr};

static constexpr int64_t second = 1000, minute = 60 * second, hour = 60 * minute;
static constexpr int64_t kib = 1024, mib = 1024 * kib;

#define FIELD(object, member) offsetof(object, member)
using t = option_type;

const option_row config_rows[] = {
    {"belfry", "workers", t::text, FIELD(core_options, workers), "auto", 0, 0, nullptr, false,
     "threads that hold connections, 1 to 64; auto = one for each CPU that the process may use"},
    {"belfry", "max_connections", t::integer, FIELD(core_options, max_connections), "100000", 1, 16000000, nullptr,
     false, "of the whole process; above it a handshake is answered 503"},
    {"belfry", "log", t::text, FIELD(core_options, log), "stderr", 0, 0, nullptr, false, "stderr, syslog or a file"},
    {"belfry", "log_level", t::choice, FIELD(core_options, log_level), "info", 0, 0, levels, false,
     "error, warn, info or debug: what is less urgent is not written"},
    {"belfry", "log_format", t::choice, FIELD(core_options, log_format), "text", 0, 0, formats, false,
     "text for people, json for collectors"},
    {"belfry", "pid_file", t::text, FIELD(core_options, pid_file), "", 0, 0, nullptr, false,
     "written at start, removed at the end; empty = none"},
    {"belfry", "drain_timeout", t::duration, FIELD(core_options, drain_timeout), "60s", 0, hour, nullptr, false,
     "after TERM, how long clients may take to say goodbye before they are dropped"},
    {"belfry", "modules", t::list, FIELD(core_options, modules), "origin, rate_limit, auth, sticky", 0, 0, nullptr,
     false, "who is asked about each connection, in this order; empty = nobody"},
    {"belfry", "load_module", t::lines, FIELD(core_options, load_module), "", 0, 0, nullptr, false,
     "file of a module that is not built in; repeats; asked behind the others, unless `modules` names it"},

    {"listener", "listen", t::list, FIELD(listener_settings, listen), "", 0, 0, nullptr, false,
     "address:port, [ipv6]:port or unix:/path; repeats"},
    {"listener", "tls", t::boolean, FIELD(listener_settings, tls), "no", 0, 0, nullptr, false,
     "yes needs at least one pair of certificate and private_key"},
    {"listener", "certificate", t::lines, FIELD(listener_settings, certificate), "", 0, 0, nullptr, false,
     "PEM chain, leaf first; repeats in pairs with private_key, chosen by SNI"},
    {"listener", "private_key", t::lines, FIELD(listener_settings, private_key), "", 0, 0, nullptr, false,
     "PEM key of the certificate at the same position"},
    {"listener", "proxy_protocol", t::boolean, FIELD(listener_settings, proxy_protocol), "no", 0, 0, nullptr, false,
     "yes = every connection begins with a PROXY header (version 1 or 2), which tells the client's address"},
    {"listener", "trusted_proxies", t::list, FIELD(listener_settings, trusted_proxies), "", 0, 0, nullptr, false,
     "networks (10.0.0.0/8, ::1, unix) whose X-Forwarded-For counts; from others it is thrown away; repeats"},
    {"listener", "handshake_timeout", t::duration, FIELD(listener_settings, handshake_timeout), "10s", 100, 10 * minute,
     nullptr, false, "for TLS and the whole request head together, so that idle strangers don't stay"},
    {"listener", "max_handshakes", t::integer, FIELD(listener_settings, max_handshakes), "1024", 1, 1000000, nullptr,
     false, "TLS handshakes under way at once, per thread; others wait, since each holds about 40 KB"},

    {"upstream", "server", t::lines, FIELD(upstream_settings, server), "", 0, 0, nullptr, false,
     "host:port, unix:/path or https://host:port, then weight=1 max_fails=1 fail_timeout=10s backup down; repeats"},
    {"upstream", "health_check", t::text, FIELD(upstream_settings, health_check), "", 0, 0, nullptr, false,
     "path that is asked of every server; 2xx and 3xx are healthy; empty = only failed calls tell"},
    {"upstream", "health_interval", t::duration, FIELD(upstream_settings, health_interval), "5s", 100, hour, nullptr,
     false, "between two health checks of a server"},
    {"upstream", "health_timeout", t::duration, FIELD(upstream_settings, health_timeout), "2s", 100, minute, nullptr,
     false, "for a health check's whole answer"},
    {"upstream", "keepalive", t::integer, FIELD(upstream_settings, keepalive), "64", 0, 65536, nullptr, false,
     "idle connections that are kept, for each thread and server; 0 = none"},
    {"upstream", "keepalive_timeout", t::duration, FIELD(upstream_settings, keepalive_timeout), "60s", 100, hour,
     nullptr, false, "that a connection may idle; below the backend's own, so that it is not closed under a request"},
    {"upstream", "connect_timeout", t::duration, FIELD(upstream_settings, connect_timeout), "2s", 100, 10 * minute,
     nullptr, false, "for TCP and TLS together; then the next server is tried"},
    {"upstream", "read_timeout", t::duration, FIELD(upstream_settings, read_timeout), "30s", 100, hour, nullptr, false,
     "without a byte of the answer, after which the client gets a 504"},
    {"upstream", "max_inflight", t::integer, FIELD(upstream_settings, max_inflight), "1024", 0, 1000000, nullptr, false,
     "calls at once, for each thread; others wait in the queue; 0 = no bound"},
    {"upstream", "queue", t::integer, FIELD(upstream_settings, queue), "1024", 0, 1000000, nullptr, false,
     "calls that may wait for max_inflight, for each thread; more get a 503"},
    {"upstream", "queue_timeout", t::duration, FIELD(upstream_settings, queue_timeout), "5s", 100, 10 * minute, nullptr,
     false, "that a call may wait there"},
    {"upstream", "slow_start", t::duration, FIELD(upstream_settings, slow_start), "0", 0, hour, nullptr, false,
     "over which a server that came back gets its full share again; 0 = at once"},
    {"upstream", "tls_ca", t::text, FIELD(upstream_settings, tls_ca), "", 0, 0, nullptr, false,
     "PEM file that https:// servers' certificates are checked against; empty = the system's"},
    {"upstream", "tls_verify", t::boolean, FIELD(upstream_settings, tls_verify), "yes", 0, 0, nullptr, false,
     "no = encrypt without knowing to whom; for tests"},
    {"upstream", "tls_name", t::text, FIELD(upstream_settings, tls_name), "", 0, 0, nullptr, false,
     "name that is sent (SNI) and must stand in the certificate; empty = the server's host"},

    {"route", "mode", t::choice, FIELD(route, mode), "rooms", 0, 0, modes, false,
     "rooms = WebSocket clients that join rooms; proxy = HTTP and Upgrade go to the upstream"},
    {"route", "upstream", t::text, FIELD(route, upstream), "", 0, 0, nullptr, false,
     "who is asked: by hooks, and for plain HTTP; empty = nobody"},
    {"route", "hook", t::text, FIELD(route, hook), "", 0, 0, nullptr, false,
     "path of the upstream that takes hook calls; empty = no backend is asked"},
    {"route", "hook_secret", t::secret, FIELD(route, hook_secret), "", 0, 0, nullptr, false,
     "signs hook calls (whsec_BASE64, or any text), so that the backend knows who asks; empty = unsigned"},
    {"route", "hook_timeout", t::duration, FIELD(route, hook_timeout), "5s", 100, 10 * minute, nullptr, false,
     "for a hook's answer, all tries together; then the client gets a 504"},
    {"route", "connect_hook", t::choice, FIELD(route, connect_hook), "auto", 0, 0, asks, false,
     "auto = the backend is asked at the handshake as auth says; always = also when a token has decided, or auth = "
     "none"},
    {"route", "notify", t::list, FIELD(route, notify), "", 0, 0, nullptr, false,
     "what the hook is told afterwards: connected disconnected joined left occupied vacated"},
    {"route", "publish_header", t::boolean, FIELD(route, publish_header), "no", 0, 0, nullptr, false,
     "yes = a proxied answer's Belfry-Publish field broadcasts its body; clients never see the field"},
    {"route", "max_body", t::size, FIELD(route, max_body), "16m", 0, 1024 * 1024 * mib, nullptr, false,
     "of a proxied request; above it 413; 0 = no bound"},
    {"route", "body_timeout", t::duration, FIELD(route, body_timeout), "30s", 100, hour, nullptr, false,
     "between two pieces of a request's body; then 408"},
    {"route", "min_body_rate", t::size, FIELD(route, min_body_rate), "128", 0, mib, nullptr, false,
     "bytes a second that a request's body must come at, over each body_timeout, or 408; 0 = none"},
    {"route", "keepalive_timeout", t::duration, FIELD(route, keepalive_timeout), "65s", 100, hour, nullptr, false,
     "that a client's connection may idle between two requests"},
    {"route", "tunnel_timeout", t::duration, FIELD(route, tunnel_timeout), "10m", 0, 24 * hour, nullptr, false,
     "without a byte through a tunnel, either way; 0 = never"},
    {"route", "host", t::text, FIELD(route, host), "", 0, 0, nullptr, false, "only for this Host; empty = any"},
    {"route", "protocol", t::choice, FIELD(route, protocol), "json", 0, 0, protocols, false,
     "for clients that name no subprotocol"},
    {"route", "join_on_connect", t::list, FIELD(route, join_on_connect), "", 0, 0, nullptr, false,
     "rooms every client is in from the start; {conn}, {user} and {query.NAME} are filled in"},
    {"route", "echo", t::boolean, FIELD(route, echo), "no", 0, 0, nullptr, false,
     "raw protocol: yes = a client's own message comes back to it too"},
    {"route", "max_message", t::size, FIELD(route, max_message), "64k", 1, 256 * mib, nullptr, false,
     "of a client's message, all fragments together; above it 1009"},
    {"route", "max_rooms", t::integer, FIELD(route, max_rooms), "64", 1, 65536, nullptr, false,
     "that one connection may be in; bounds what a client can make the server keep"},
    {"route", "ping_interval", t::duration, FIELD(route, ping_interval), "25s", 0, hour, nullptr, false,
     "of silence, after which a Ping is sent; below the idle time-out of what stands between; 0 = never"},
    {"route", "pong_timeout", t::duration, FIELD(route, pong_timeout), "8s", 100, hour, nullptr, false,
     "after a Ping, until the client counts as gone"},
    {"route", "idle_timeout", t::duration, FIELD(route, idle_timeout), "0", 0, 24 * hour, nullptr, false,
     "without a message from the client, after which it is closed; 0 = never"},
    {"route", "send_queue", t::size, FIELD(route, send_queue), "1m", 4 * kib, 1024 * mib, nullptr, false,
     "bytes that may wait for a slow client, 96 a frame included, before on_slow"},
    {"route", "on_slow", t::choice, FIELD(route, on_slow), "close", 0, 0, slow, false, "close = Close frame 4413"},

    {"room", "join", t::choice, FIELD(room_rule, join), "backend", 0, 0, rights, false,
     "who may join: anyone, user, backend or nobody"},
    {"room", "publish", t::choice, FIELD(room_rule, publish), "backend", 0, 0, rights, false,
     "who may publish: anyone, members, user, backend or nobody"},
    {"room", "max_members", t::integer, FIELD(room_rule, max_members), "0", 0, 16000000, nullptr, false,
     "of one room, on each thread of this node; 0 = no bound"},

    {"broker", "type", t::choice, FIELD(broker_options, type), "memory", 0, 0, brokers, false,
     "memory = one node, nothing to install; redis = any number of nodes and publishers"},
    {"broker", "url", t::secret, FIELD(broker_options, url), "redis://127.0.0.1:6379/0", 0, 0, nullptr, false,
     "redis://user:password@host:port/db, rediss:// for TLS, unix:///path?db=0"},
    {"broker", "prefix", t::text, FIELD(broker_options, prefix), "belfry:", 0, 0, nullptr, false,
     "in front of every channel, so that several applications can share a Redis"},
    {"broker", "max_message", t::size, FIELD(broker_options, max_message), "512k", 1, 256 * mib, nullptr, false,
     "of one message from Redis or the control API; larger ones are dropped and counted, or answered 413"},
    {"broker", "tls_ca", t::text, FIELD(broker_options, tls_ca), "", 0, 0, nullptr, false,
     "PEM file that Redis's certificate is checked against; empty = the system's"},
    {"broker", "tls_verify", t::boolean, FIELD(broker_options, tls_verify), "yes", 0, 0, nullptr, false,
     "no = encrypt without knowing to whom; for tests"},

    {"control", "listen", t::list, FIELD(control_options, listen), "", 0, 0, nullptr, false,
     "unix:/path (mode 0660) or address:port, which needs a token; repeats; empty = no control API"},
    {"control", "token", t::secret, FIELD(control_options, token), "", 0, 0, nullptr, false,
     "that requests on a TCP address carry as Authorization: Bearer TOKEN"},
};
const size_t config_row_count = sizeof config_rows / sizeof *config_rows;

} // namespace belfry
