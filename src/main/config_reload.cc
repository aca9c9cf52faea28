// What a reload keeps of the configuration in force. Main thread.
#include "main/config_reload.h"

#include "main/sockets.h"

#include <algorithm>
#include <string.h>

namespace belfry {

struct reloading {
    const config *in_force; // borrowed
    config *out;            // borrowed
    uint64_t now_ms;
};

static void complain(const reloading *r, const std::string &section, const char *option, const std::string &text) {
    const config_place *place = config_place_of(r->out, section, option, config_last);
    r->out->errors.push_back({place->file, place->line, (option ? std::string(option) + ": " : std::string()) + text});
}

static std::string route_name(const route *r) {
    return r->host.empty() ? r->path : r->path + " " + r->host;
}

// ---------------------------------------------------------------- options that need a restart

static void keep_option(const reloading *r, const option_row *row, const void *in_force, void *next) {
    if (row->reload || option_equal(row, in_force, next)) return;
    option_copy(row, in_force, next);
    const config_place *place = config_place_of(r->out, row->section, row->name, config_last);
    r->out->warnings.push_back(
        {place->file, place->line,
         std::string(row->name) + ": has changed, which needs a restart or an upgrade (USR2): the old value stays"});
}

// What was checked of the file's values holds for the next start; these hold for now.
static void keep_options(const reloading *r) {
    const config *old = r->in_force;
    config *c = r->out;
    for (size_t i = 0; i < config_row_count; i++) {
        const option_row *row = &config_rows[i];
        if (strcmp(row->section, "belfry") == 0) keep_option(r, row, &old->core, &c->core);
        if (strcmp(row->section, "broker") == 0) keep_option(r, row, &old->broker, &c->broker);
        if (strcmp(row->section, "control") == 0) keep_option(r, row, &old->control, &c->control);
    }
    c->link = old->link;
    c->worker_count = old->worker_count;
    c->relay.max_message = old->relay.max_message;
    for (const route &way : c->relay.routes)
        if (way.send_queue < c->relay.max_message + 1024)
            complain(r, "route " + way.path, "send_queue",
                     "must be at least the max_message in force + 1k, in [route " + route_name(&way) +
                         "]: [broker] changes with a restart");
}

// ---------------------------------------------------------------- retired sections

// Whether the section, which is not in the file, is carried on; `text` names it.
static bool retire(const reloading *r, const std::string &text, bool retired) {
    auto at = r->in_force->retired_ms.find(text);
    uint64_t since = retired && at != r->in_force->retired_ms.end() ? at->second : r->now_ms;
    int64_t longest = r->out->core.drain_timeout + config_retired_slack_ms;
    if (r->now_ms - since > static_cast<uint64_t>(longest)) return false;
    r->out->retired_ms[text] = since;
    return true;
}

struct scope_complaint {
    const reloading *of; // borrowed
    std::string text;    // of the section
};

static void complain_scope(void *context, const char *option, const std::string &why) {
    auto *c = static_cast<scope_complaint *>(context);
    complain(c->of, c->text, nullptr,
             "[" + c->text + "] is no more in the file, but its connections need it: " +
                 (option ? std::string(option) + ": " : std::string()) + why);
}

static void make_scopes(const reloading *r, const char *kind, const std::string &name, const option_values *values,
                        module_scopes *scopes) {
    scope_complaint c = {r, std::string(kind) + " " + name};
    modules_make_scopes(&r->out->modules, kind, name, values, scopes, complain_scope, &c);
}

static bool listens(const listener_settings *l, const std::string &address) {
    return std::any_of(l->listen.begin(), l->listen.end(), [&](const std::string &other) {
        return address_canonical(other) == address_canonical(address);
    });
}

static bool is_new(const reloading *r, const listener_settings *l) {
    const std::vector<listener_settings> *before = &r->in_force->relay.listeners;
    return std::none_of(before->begin(), before->end(), [l](const listener_settings &b) { return b.name == l->name; });
}

// The new listener that has all addresses of one that is gone: it is the same under another name. Or null.
static listener_settings *renamed(const reloading *r, const listener_settings *old) {
    for (listener_settings &l : r->out->relay.listeners)
        if (!l.retired && is_new(r, &l) &&
            std::all_of(old->listen.begin(), old->listen.end(), [&](const std::string &a) { return listens(&l, a); }))
            return &l;
    return nullptr;
}

static void retire_listeners(const reloading *r) {
    std::vector<listener_settings> *all = &r->out->relay.listeners;
    for (const listener_settings &old : r->in_force->relay.listeners) {
        auto same = [&](const listener_settings &l) { return !l.retired && l.name == old.name; };
        if (std::any_of(all->begin(), all->end(), same)) continue;
        listener_settings *now = old.retired ? nullptr : renamed(r, &old);
        if (now) now->formerly.push_back(old.name);
        if (now || !retire(r, "listener " + old.name, old.retired)) continue;
        listener_settings *l = &all->emplace_back(old);
        l->retired = true;
        if (l->context) tls_ref(l->context);
    }
}

static void retire_upstreams(const reloading *r) {
    std::vector<upstream_settings> *all = &r->out->relay.upstreams;
    for (size_t i = 0; i < r->in_force->relay.upstreams.size(); i++) {
        const upstream_settings &old = r->in_force->relay.upstreams[i];
        auto same = [&](const upstream_settings &u) { return !u.retired && u.name == old.name; };
        if (std::any_of(all->begin(), all->end(), same) || !retire(r, "upstream " + old.name, old.retired)) continue;
        upstream_settings *u = &all->emplace_back(old);
        u->retired = true;
        u->health_check.clear(); // this copy may be there for long after its last connection
        if (u->tls) tls_ref(u->tls);
        r->out->upstream_values.push_back(r->in_force->upstream_values[i]);
        make_scopes(r, "upstream", u->name, &r->out->upstream_values.back(), &u->scopes);
    }
}

// The one of that name; it is there, for an upstream outlives the routes that name it.
static int32_t upstream_of(const config *c, const std::string &name) {
    for (size_t i = 0; i < c->relay.upstreams.size(); i++)
        if (c->relay.upstreams[i].name == name) return static_cast<int32_t>(i);
    return -1;
}

static void retire_routes(const reloading *r) {
    std::vector<route> *all = &r->out->relay.routes;
    for (size_t i = 0; i < r->in_force->relay.routes.size(); i++) {
        const route &old = r->in_force->relay.routes[i];
        auto same = [&](const route &way) { return !way.retired && way.path == old.path && way.host == old.host; };
        std::string name = route_name(&old);
        if (std::any_of(all->begin(), all->end(), same) || !retire(r, "route " + name, old.retired)) continue;
        route *way = &all->emplace_back(old);
        way->retired = true;
        way->upstream_index = upstream_of(r->out, way->upstream);
        r->out->route_values.push_back(r->in_force->route_values[i]);
        make_scopes(r, "route", name, &r->out->route_values.back(), &way->scopes);
    }
}

bool config_reload(const char *file, const config *in_force, uint64_t monotonic_ms, config *out) {
    if (!config_load(file, out, in_force)) return false;
    reloading r = {in_force, out, monotonic_ms};
    keep_options(&r);
    retire_listeners(&r);
    retire_upstreams(&r);
    retire_routes(&r);
    if (out->retired_ms.size() > config_retired_max)
        complain(&r, "", nullptr,
                 "more than " + std::to_string(config_retired_max) +
                     " sections are no more in the file, but have connections: wait for drain_timeout");
    return out->errors.empty();
}

} // namespace belfry
