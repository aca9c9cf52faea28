// Checks over the whole config. Main thread.
#include "main/config_check.h"

#include "main/config_upstream.h"
#include "main/privileges.h"
#include "net/address.h"
#include "proto/room_name.h"
#include "relay/balancer.h"
#include "relay/notify.h"
#include "relay/shard.h"

#include <sched.h>
#include <set>

namespace belfry {

struct checking {
    config *out;
};

static constexpr size_t last = config_last;
static constexpr size_t sentinels_max = 16;
static constexpr uint16_t sentinel_port = 26379; // Sentinel's own default

static config_error placed(const checking *c, const std::string &section, const char *option, const std::string &text,
                           size_t which = last) {
    const config_place *place = config_place_of(c->out, section, option, which);
    return {place->file, place->line, (option ? std::string(option) + ": " : std::string()) + text};
}

static void complain(checking *c, const std::string &section, const char *option, const std::string &text,
                     size_t which = last) {
    c->out->errors.push_back(placed(c, section, option, text, which));
}

static void warn(checking *c, const std::string &section, const char *option, const std::string &text) {
    c->out->warnings.push_back(placed(c, section, option, text));
}

static void check_core(checking *c) {
    const core_options *o = &c->out->core;
    uint64_t n = 0;
    error e;
    if (o->drain_rate.burst != o->drain_rate.amount)
        complain(c, "belfry", "drain_rate", "takes no burst: goodbyes are evenly spaced");
    if (!o->user.empty() && !privileges_user_exists(o->user, &e)) complain(c, "belfry", "user", e.text);
    if (o->tls_ticket_rotate && o->tls_ticket_rotate < 1000)
        complain(c, "belfry", "tls_ticket_rotate", "must be 0 or at least 1s");
    if (o->workers == "auto") {
        cpu_set_t set; // what this process may run on: taskset, cgroups' cpusets
        int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
        c->out->worker_count =
            cpus > static_cast<int>(shards_max) ? static_cast<uint32_t>(shards_max) : static_cast<uint32_t>(cpus);
        return;
    }
    if (!bytes_parse_uint(o->workers, &n) || n < 1 || n > shards_max)
        return complain(c, "belfry", "workers", "\"" + o->workers + "\" is neither auto nor a number from 1 to 64");
    c->out->worker_count = static_cast<uint32_t>(n);
}

static void check_tls(checking *c, const std::string &section, listener_settings *l) {
    if (!l->tls) {
        if (!l->certificate.empty() || !l->private_key.empty())
            complain(c, section, "certificate", "is given, but tls = no");
        return;
    }
    if (l->certificate.empty()) return complain(c, section, nullptr, "tls = yes needs certificate and private_key");
    if (l->certificate.size() != l->private_key.size())
        return complain(c, section, "private_key",
                        std::to_string(l->certificate.size()) + " certificates, but " +
                            std::to_string(l->private_key.size()) + " keys");
    std::vector<tls_certificate> pairs;
    for (size_t i = 0; i < l->certificate.size(); i++)
        pairs.push_back({l->certificate[i].c_str(), l->private_key[i].c_str()});
    error e;
    ticket_keys *tickets = c->out->core.tls_ticket_rotate ? c->out->tickets : nullptr;
    l->context = tls_server_new(pairs.data(), pairs.size(), tickets, l->name, &e);
    if (!l->context) complain(c, section, "certificate", e.text);
}

static void check_trusted(checking *c, const std::string &section, listener_settings *l) {
    for (const std::string &text : l->trusted_proxies) {
        ip_range range;
        error e;
        if (ip_range_parse(text, &range, &e))
            l->trusted.push_back(range);
        else
            complain(c, section, "trusted_proxies", e.text);
    }
}

static void check_listener(checking *c, listener_settings *l) {
    std::string section = "listener " + l->name;
    check_trusted(c, section, l);
    if (l->listen.empty()) complain(c, section, nullptr, "[" + section + "] has no listen");
    for (const std::string &text : l->listen) {
        address a;
        error e;
        if (!address_parse(text, &a, &e)) complain(c, section, "listen", e.text);
    }
    check_tls(c, section, l);
}

// Null where all that stands in braces is known, else what is wrong.
static std::string check_template(const std::string &pattern) {
    for (size_t at = 0; (at = pattern.find_first_of("{}", at)) != std::string::npos;) {
        size_t close = pattern.find('}', at);
        if (pattern[at] == '}' || close == std::string::npos) return "unbalanced braces in \"" + pattern + "\"";
        std::string name = pattern.substr(at + 1, close - at - 1);
        if (name != "conn" && name != "user" && (name.compare(0, 6, "query.") != 0 || name.size() == 6))
            return "unknown {" + name + "}; write {conn}, {user} or {query.NAME}";
        at = close + 1;
    }
    if (room_name_reserved(pattern)) return "names with @ are reserved";
    return "";
}

static void check_upstream(checking *c, upstream_settings *u) {
    std::string section = "upstream " + u->name;
    bool tls = false;
    if (u->server.empty()) complain(c, section, nullptr, "[" + section + "] has no server");
    if (u->server.size() > balancer_servers_max)
        complain(c, section, "server", "more than " + std::to_string(balancer_servers_max) + " servers");
    for (size_t i = 0; i < u->server.size(); i++) {
        server_settings server;
        error e;
        if (!config_parse_server(u->server[i], &server, &e)) {
            complain(c, section, "server", e.text, i);
            continue;
        }
        tls = tls || server.tls;
        for (const server_settings &other : u->servers)
            if (other.text == server.text) complain(c, section, "server", server.text + " is there twice", i);
        u->servers.push_back(std::move(server));
    }
    if (!u->health_check.empty() &&
        (u->health_check[0] != '/' || u->health_check.find_first_of(" \t#") != std::string::npos))
        complain(c, section, "health_check", "\"" + u->health_check + "\" is no path");
    if (!tls) return;
    error e;
    u->tls = tls_client_new(u->tls_ca.empty() ? nullptr : u->tls_ca.c_str(), u->tls_verify, &e);
    if (!u->tls) return complain(c, section, "tls_ca", e.text);
    if (!u->tls_verify) warn(c, section, "tls_verify", "no: the backend could be anybody");
}

static void bind_upstream(checking *c, const std::string &section, route *r) {
    std::vector<const char *> names;
    for (size_t i = 0; i < c->out->relay.upstreams.size(); i++) {
        names.push_back(c->out->relay.upstreams[i].name.c_str());
        if (r->upstream == names.back()) r->upstream_index = static_cast<int32_t>(i);
    }
    if (!r->upstream.empty() && r->upstream_index < 0) {
        const char *nearest = nearest_name(r->upstream, names.data(), names.size());
        return complain(c, section, "upstream",
                        "there is no [upstream " + r->upstream + "]" +
                            (nearest ? std::string("; did you mean \"") + nearest + "\"?" : ""));
    }
    if (r->mode == mode_proxy && r->upstream.empty()) complain(c, section, "mode", "proxy needs an upstream");
    if (!r->hook.empty() && r->upstream.empty()) complain(c, section, "hook", "needs an upstream to ask");
    if (!r->hook.empty() && (r->hook[0] != '/' || r->hook.find_first_of(" \t#") != std::string::npos))
        complain(c, section, "hook", "\"" + r->hook + "\" is no path");
    if (r->connect_hook == asks_always && r->hook.empty()) complain(c, section, "connect_hook", "always needs a hook");
    if (!r->hook.empty() && r->hook_secret.empty())
        warn(c, section, "hook", "without a hook_secret the backend can't tell Belfry's calls from anybody else's");
}

static void check_notify(checking *c, const std::string &section, route *r) {
    const char *names[notify_type_count];
    for (int i = 0; i < notify_type_count; i++)
        names[i] = notify_type_name(static_cast<notify_type>(i));
    for (const std::string &name : r->notify) {
        uint32_t bit = 0;
        for (int i = 0; i < notify_type_count; i++)
            if (name == names[i]) bit = 1u << i;
        r->notify_bits |= bit;
        const char *nearest = bit ? nullptr : nearest_name(name, names, notify_type_count);
        if (!bit)
            complain(c, section, "notify",
                     "unknown \"" + name + "\"" + (nearest ? std::string("; did you mean \"") + nearest + "\"?" : ""));
    }
    if (r->notify_bits && r->hook.empty()) complain(c, section, "notify", "needs a hook to tell it to");
}

static void check_route(checking *c, route *r, const std::string &name, std::set<std::string> *seen) {
    std::string section = "route " + name;
    if (r->path.empty() || r->path[0] != '/')
        complain(c, section, nullptr, "[" + section + "]: a route's path begins with /");
    if (!seen->insert(r->host + " " + r->path).second)
        complain(c, section, nullptr, "another route has the same host and path");
    bind_upstream(c, section, r);
    if (r->client_js && r->mode == mode_proxy) complain(c, section, "client_js", "needs mode = rooms");
    check_notify(c, section, r);
    for (const std::string &pattern : r->join_on_connect) {
        std::string wrong = check_template(pattern);
        if (!wrong.empty()) complain(c, section, "join_on_connect", wrong);
    }
    if (r->send_queue < r->max_message + 1024)
        complain(c, section, "send_queue",
                 "must be at least max_message + 1k, or a message that one client may send could not reach another");
    if (r->send_queue_soft >= r->send_queue) complain(c, section, "send_queue_soft", "must be below send_queue");
    if (r->send_queue < c->out->broker.max_message + 1024)
        complain(c, section, "send_queue",
                 "must be at least [broker] max_message + 1k, or every client would be closed as slow");
}

static void check_room(checking *c, const room_rule *r) {
    std::string section = "room " + r->pattern;
    if (const char *bad = room_name_check(r->pattern))
        complain(c, section, nullptr, "[" + section + "]: " + bad);
    else if (room_name_reserved(r->pattern))
        complain(c, section, nullptr, "[" + section + "]: names with @ are Belfry's own");
}

// Whom to ask for the primary. They are spoken to as the primary is: with TLS or without.
static void check_sentinels(checking *c) {
    const broker_options *o = &c->out->broker;
    broker_settings *link = &c->out->link;
    if (o->sentinel.empty()) {
        if (!o->master_name.empty()) complain(c, "broker", "master_name", "needs a sentinel to ask");
        if (!o->sentinel_password.empty()) complain(c, "broker", "sentinel_password", "needs a sentinel to ask");
        return;
    }
    if (o->master_name.empty()) complain(c, "broker", "sentinel", "needs master_name: they may watch several");
    if (o->master_name.find_first_of(" \t") != std::string::npos)
        complain(c, "broker", "master_name", "\"" + o->master_name + "\" is no name");
    if (o->cluster) complain(c, "broker", "sentinel", "a cluster fails over by itself: either sentinel or cluster");
    if (o->sentinel.size() > sentinels_max)
        complain(c, "broker", "sentinel", "more than " + std::to_string(sentinels_max) + " of them");
    for (const std::string &text : o->sentinel) {
        redis_settings s = link->redis;
        error e;
        s.user.clear();
        s.password = o->sentinel_password;
        s.database = 0;
        s.port = sentinel_port;
        if (redis_parse_endpoint(text, &s, &e))
            link->sentinels.push_back(s);
        else
            complain(c, "broker", "sentinel", e.text);
    }
    link->master_name = o->master_name;
}

// Where Redis is, and in how many places.
static void check_places(checking *c) {
    const broker_options *o = &c->out->broker;
    broker_settings *link = &c->out->link;
    check_sentinels(c);
    link->cluster = o->cluster;
    link->sharded = o->sharded;
    const char *several = o->cluster ? "cluster" : !o->sentinel.empty() ? "sentinel" : nullptr;
    if (o->type != 1) {
        if (several) complain(c, "broker", several, "needs type = redis");
        if (o->sharded) complain(c, "broker", "sharded", "needs type = redis");
        return;
    }
    if (several && link->redis.host.empty() && !link->redis.unix_path.empty())
        complain(c, "broker", "url", std::string("a unix socket leads to one server, not to ") + several);
    if (o->cluster && link->redis.database != 0) complain(c, "broker", "url", "a cluster has no database but 0");
    if (o->cluster && o->prefix.find_first_of("{}") != std::string::npos)
        complain(c, "broker", "prefix", "braces would decide where in the cluster all rooms go");
}

static void check_broker(checking *c) {
    const broker_options *o = &c->out->broker;
    error e;
    c->out->link.type = o->type;
    c->out->link.prefix = o->prefix;
    c->out->link.max_message = o->max_message;
    c->out->link.history_memory = o->history_memory;
    c->out->link.command_stream = o->command_stream;
    if (o->type == 1 && !redis_parse_url(o->url, &c->out->link.redis, &e)) complain(c, "broker", "url", e.text);
    c->out->link.redis.tls_ca = o->tls_ca;
    c->out->link.redis.tls_verify = o->tls_verify;
    check_places(c);
    if (o->type != 1 || !c->out->link.redis.tls) return;
    tls_context *tried = tls_client_new(o->tls_ca.empty() ? nullptr : o->tls_ca.c_str(), o->tls_verify, &e);
    if (!tried) return complain(c, "broker", "tls_ca", e.text);
    tls_unref(tried);
    if (!o->tls_verify) warn(c, "broker", "tls_verify", "no: Redis could be anybody");
}

static void check_control(checking *c) {
    const control_options *o = &c->out->control;
    for (const std::string &text : o->listen) {
        address a;
        error e;
        if (!address_parse(text, &a, &e))
            complain(c, "control", "listen", e.text);
        else if (a.storage.ss_family != AF_UNIX && o->token.empty())
            complain(c, "control", "listen", text + " is a TCP address: it needs a token");
    }
}

void config_check(config *out, const std::vector<std::string> &route_names) {
    checking c = {out};
    check_core(&c);
    if (out->relay.listeners.empty()) complain(&c, "", nullptr, "there is no [listener NAME]: nobody could connect");
    if (out->relay.routes.empty()) complain(&c, "", nullptr, "there is no [route PATH]: everybody would get a 404");
    for (listener_settings &l : out->relay.listeners)
        check_listener(&c, &l);
    for (upstream_settings &u : out->relay.upstreams)
        check_upstream(&c, &u);
    std::set<std::string> seen;
    for (size_t i = 0; i < out->relay.routes.size(); i++)
        check_route(&c, &out->relay.routes[i], route_names[i], &seen);
    for (room_rule &r : out->relay.rooms) {
        check_room(&c, &r);
        r.presence = r.presence || r.announce;
    }
    check_broker(&c);
    check_control(&c);
    out->relay.max_connections = out->core.max_connections;
    out->relay.compression_min = out->core.compression_min;
    out->relay.drain_rate = out->core.drain_rate;
    out->relay.drain_timeout = out->core.drain_timeout;
    out->relay.max_message = out->broker.max_message;
}

} // namespace belfry
