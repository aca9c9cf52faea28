// The steps of reload.h, on the daemon. Main thread.
#include "main/daemon.h"

#include "base/access_log.h"
#include "base/log.h"
#include "main/config_reload.h"

#include <algorithm>

namespace belfry {

void reload_init(reload *r, struct daemon *of, const char *file) {
    struct clock now;
    clock_refresh(&now);
    *r = {};
    r->of = of;
    r->file = file;
    r->generation = 1;
    r->loaded_ms = now.wall_ms;
}

// ---------------------------------------------------------------- answers

static void answer(std::vector<control_conn *> *waiting, int status, const buffer *body) {
    std::vector<control_conn *> all = std::move(*waiting);
    waiting->clear();
    for (control_conn *c : all) {
        control_reply(c, status, "application/json", buffer_view(body), view());
        control_unref(c);
    }
}

static void answer_generation(reload *r) {
    buffer body = {};
    buffer_printf(&body, "{\"generation\":%llu%s}", static_cast<unsigned long long>(r->generation),
                  r->warnings.c_str());
    answer(&r->answering, 200, &body);
    buffer_free(&body);
}

static void answer_mistakes(reload *r, const std::vector<config_error> *mistakes) {
    buffer body = {};
    json_write_error(&body, 422, "nothing has changed: " + r->error);
    body.size--; // the last brace, for there is more to tell
    buffer_append(&body, ",\"errors\":[");
    config_errors_write(mistakes, &body);
    buffer_append(&body, "]}");
    answer(&r->answering, 422, &body);
    buffer_free(&body);
}

static void refuse(std::vector<control_conn *> *waiting) {
    buffer body = {};
    json_write_error(&body, 409, "the node is stopping: it will read no config again");
    answer(waiting, 409, &body);
    buffer_free(&body);
}

// ---------------------------------------------------------------- a candidate

static void complain_address(config *c, const std::string &section, size_t which, const char *why) {
    const config_place *place = config_place_of(c, section, "listen", which);
    c->errors.push_back({place->file, place->line, std::string("listen: ") + why});
}

// Everything that can fail, before anything changes.
static bool prepare(reload *r) {
    struct daemon *d = r->of;
    config *c = r->next;
    error e;
    if (!config_reload(r->file.c_str(), d->settings, d->loop->clock.monotonic_ms, c)) return false;
    r->limits = limits_apply(c);
    sockets_fault fault;
    if (!sockets_open(&d->listening, &c->relay, d->node.worker_count, &r->listening, &fault, &e))
        complain_address(c, "listener " + fault.listener, fault.which, e.text);
    size_t which = 0;
    r->control = control_http_change(d->http, c->control.listen, &which, &e);
    if (!r->control) complain_address(c, "control", which, e.text);
    if (!access_log_check(c->core.access_log.c_str(), &e)) {
        const config_place *place = config_place_of(c, "belfry", "access_log", config_last);
        c->errors.push_back({place->file, place->line, e.text});
    }
    return c->errors.empty();
}

static void drop_candidate(reload *r) {
    if (r->control) control_http_discard(r->control);
    r->control = nullptr;
    sockets_discard(&r->of->listening, &r->listening);
}

static void fail(reload *r) {
    const std::vector<config_error> *mistakes = &r->next->errors;
    for (const config_error &e : *mistakes)
        log_error("reload: %s", config_error_line(&e).c_str());
    r->failed++;
    r->error = config_error_line(&mistakes->front());
    if (mistakes->size() > 1) r->error += " (and " + std::to_string(mistakes->size() - 1) + " more)";
    r->error_ms = r->of->loop->clock.wall_ms;
    log_error("reload failed, nothing has changed: generation %llu goes on",
              static_cast<unsigned long long>(r->generation));
    answer_mistakes(r, mistakes);
    drop_candidate(r);
    config_free(r->next);
    delete r->next;
    r->next = nullptr;
    master_link_reloaded(r->of);
}

// ---------------------------------------------------------------- going over

static void on_adopted(void *context) {
    static_cast<reload *>(context)->adopted = true;
}

static const listener_settings *listener_of(const config *c, const std::string &name) {
    for (const listener_settings &l : c->relay.listeners)
        if (!l.retired && l.name == name) return &l;
    return nullptr;
}

static void go_over(reload *r) {
    std::vector<std::vector<worker_socket>> all(r->of->node.worker_count);
    for (listening_socket &s : r->listening.open) {
        all[s.worker].push_back({s.fd, listener_of(r->next, s.listener)});
        s.given = true;
    }
    node_adopt(&r->of->node, &r->next->relay, std::move(all), on_adopted, r);
}

static void begin(reload *r) {
    r->wanted = false;
    r->answering.swap(r->asking);
    log_info("reloading %s", r->file.c_str());
    master_link_reloading(r->of);
    r->next = new config{};
    if (!prepare(r)) return fail(r);
    go_over(r);
}

static bool listens(const std::vector<bound_listener> *all, const bound_listener &l) {
    return std::any_of(all->begin(), all->end(), [&](const bound_listener &other) {
        return other.name == l.name && other.address == l.address && other.tls == l.tls;
    });
}

static void tell_listeners(const std::vector<bound_listener> *before, const std::vector<bound_listener> *now) {
    for (const bound_listener &l : *before)
        if (!listens(now, l)) log_info("no more listening on %s (listener %s)", l.address.c_str(), l.name.c_str());
    for (const bound_listener &l : *now)
        if (!listens(before, l))
            log_info("listening on %s (listener %s%s)", l.address.c_str(), l.name.c_str(), l.tls ? ", tls" : "");
}

static void tell_warnings(reload *r) {
    r->warnings.clear();
    const std::vector<config_error> *all = &r->of->settings->warnings;
    if (all->empty()) return;
    for (const config_error &w : *all)
        log_warn("%s", config_error_line(&w).c_str());
    buffer out = {};
    buffer_append(&out, ",\"warnings\":[");
    config_errors_write(all, &out);
    buffer_append_char(&out, ']');
    r->warnings = buffer_view(&out);
    buffer_free(&out);
}

static void finish(reload *r) {
    struct daemon *d = r->of;
    error e;
    config *old = d->settings;
    d->settings = r->next;
    r->next = nullptr;
    r->adopted = false;
    d->api.settings = d->settings;
    sockets_replace(&d->listening, &r->listening);
    control_http_commit(r->control, d->settings->control.token);
    r->control = nullptr;
    std::vector<bound_listener> before = std::move(d->listeners);
    d->listeners = sockets_bound(&d->listening, &d->settings->relay);
    log_set_level(static_cast<log_level>(d->settings->core.log_level));
    log_set_json(d->settings->core.log_format == 1);
    if (!access_log_open(d->settings->core.access_log.c_str(), d->settings->core.log_format == 1, &e))
        log_error("%s; the old one stays in use", e.text); // it could be opened when the candidate was looked at
    config_free(old);
    delete old;
    r->generation++;
    r->done++;
    r->loaded_ms = d->loop->clock.wall_ms;
    if (r->limits.max_connections != d->limits.max_connections) limits_tell(&r->limits, d->settings);
    d->limits = r->limits;
    master_link_sockets(d);
    master_link_reloaded(d);
    tell_listeners(&before, &d->listeners);
    tell_warnings(r);
    log_info("reloaded: generation %llu (%lld connections go on, %zu sections retired)",
             static_cast<unsigned long long>(r->generation), static_cast<long long>(d->node.process_live.load()),
             d->settings->retired_ms.size());
    answer_generation(r);
}

// ---------------------------------------------------------------- life

void reload_ask(reload *r, control_conn *from) {
    r->wanted = true;
    if (from) r->asking.push_back(control_ref(from));
}

void reload_turn(reload *r) {
    if (r->adopted) finish(r);
    if (!r->wanted || r->next) return;
    if (!r->of->node.unready && !r->of->retired) return begin(r);
    r->wanted = false;
    log_warn("no reload: the node is stopping");
    refuse(&r->asking);
}

void reload_end(reload *r) {
    refuse(&r->answering);
    refuse(&r->asking);
    drop_candidate(r);
}

void reload_destroy(reload *r) {
    if (!r->next) return;
    config_free(r->next);
    delete r->next;
    r->next = nullptr;
}

} // namespace belfry
