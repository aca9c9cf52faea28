// The control API: which path does what, and the questions to workers. Commands are in control_commands.cc, status in
// control_status.cc. Main thread.
#include "main/control_api.h"

#include "main/control_commands.h"
#include "main/control_live.h"
#include "main/control_status.h"
#include "main/control_top.h"
#include "main/dashboard.h"
#include "main/metrics.h"
#include "main/reload.h"
#include "main/stopping.h"
#include "proto/room_name.h"
#include "proto/uri.h"

#include <map>

namespace belfry {

static constexpr uint64_t limit_default = 100, limit_max = 10000;

void control_api_init(control_api *a, node *n, const config *settings, const std::vector<bound_listener> *listeners,
                      struct reload *reload, loop *on) {
    struct clock now;
    clock_refresh(&now);
    *a = {n, settings, listeners, nullptr, reload, nullptr, nullptr, json_reader_new(), now.wall_ms, on};
    a->live = control_live_new(a);
}

void control_api_destroy(control_api *a) {
    control_live_free(a->live);
    json_reader_free(a->reader);
}

// False where it is no number in range; the error is answered.
static bool limit_of(control_conn *c, view query, uint64_t *limit) {
    std::string text = uri_parameter(query, "limit");
    *limit = limit_default;
    if (text.empty()) return true;
    if (bytes_parse_uint(text, limit) && *limit >= 1 && *limit <= limit_max) return true;
    control_reply_error(c, 400, "limit: a number from 1 to 10000", view());
    return false;
}

static void reply_json(control_conn *c, buffer *body) {
    control_reply(c, 200, "application/json", buffer_view(body), view());
    buffer_free(body);
    control_unref(c);
}

// ---------------------------------------------------------------- what comes back from the workers

// ?receivers=all
static bool receivers_of(control_conn *c, view query, bool *all) {
    std::string text = uri_parameter(query, "receivers");
    *all = text == "all";
    if (*all || text.empty() || text == "node") return true;
    control_reply_error(c, 400, "receivers: all, or node (this one, the default)", view());
    return false;
}

static void rooms_done(query *q, void *context, uint64_t) {
    std::map<std::string, uint64_t> merged;
    for (uint32_t i = 0; i < q->part_count; i++)
        for (view rest = buffer_view(&q->parts[i].out); !rest.empty();) {
            view line = query_line(&rest);
            size_t tab = line.find('\t');
            uint64_t n = 0;
            if (tab != view::npos && bytes_parse_uint(line.substr(tab + 1), &n))
                merged[std::string(line.substr(0, tab))] += n;
        }
    buffer out = {};
    buffer_append(&out, "{\"rooms\":[");
    uint64_t count = 0;
    for (auto &[name, members] : merged) {
        if (count == q->limit) break;
        buffer_append(&out, count++ ? ",{\"room\":" : "{\"room\":");
        json_write_string(&out, name);
        buffer_printf(&out, ",\"members\":%llu}", static_cast<unsigned long long>(members));
    }
    buffer_append(&out, "]}");
    reply_json(static_cast<control_conn *>(context), &out);
}

// Nothing where the room keeps no history.
static void write_place(const position *at, buffer *out) {
    if (position_none(at)) return;
    buffer_append(out, ",\"epoch\":");
    json_write_string(out, position_epoch(at));
    buffer_append(out, ",\"offset\":");
    buffer_append_uint(out, at->offset);
}

// Who asked for a room with presence: its members on all nodes are in the answer.
struct room_question {
    control_api *api;   // borrowed
    control_conn *from; // counted
    std::string room;
};

static void members_told(const presence_asker *asker, const presence_page *page) {
    auto *q = static_cast<room_question *>(asker->context);
    if (page) {
        buffer out = {};
        buffer_append(&out, "{\"room\":");
        json_write_string(&out, q->room);
        buffer_append(&out, ",\"members\":[");
        bool first = true;
        for (view rest = frame_view(page->members); !rest.empty(); first = false) {
            size_t end = rest.find(presence_separator);
            if (!first) buffer_append_char(&out, ',');
            buffer_append(&out, rest.substr(0, end));
            rest.remove_prefix(end + 1);
        }
        buffer_printf(&out, "],\"count\":%llu%s", static_cast<unsigned long long>(page->count),
                      page->truncated ? ",\"truncated\":true" : "");
        position at = node_place(q->api->node, q->room);
        write_place(&at, &out);
        buffer_append_char(&out, '}');
        reply_json(q->from, &out);
    } else {
        control_reply_error(q->from, 503, "who is in the room is not known now", "Retry-After: 1\r\n");
        control_unref(q->from);
    }
    delete q;
}

static void room_done(query *q, void *context, uint64_t tag) {
    uint64_t members = 0;
    for (uint32_t i = 0; i < q->part_count; i++)
        members += q->parts[i].count;
    buffer out = {};
    buffer_append(&out, "{\"room\":");
    json_write_string(&out, q->room);
    buffer_printf(&out, ",\"members\":%llu", static_cast<unsigned long long>(members));
    position at = node_place(reinterpret_cast<control_api *>(tag)->node, q->room);
    write_place(&at, &out);
    buffer_append_char(&out, '}');
    reply_json(static_cast<control_conn *>(context), &out);
}

static void connections_done(query *q, void *context, uint64_t) {
    buffer out = {};
    buffer_append(&out, "{\"connections\":[");
    uint64_t count = 0;
    for (uint32_t i = 0; i < q->part_count; i++)
        for (view rest = buffer_view(&q->parts[i].out); !rest.empty() && count < q->limit; count++) {
            if (count) buffer_append_char(&out, ',');
            buffer_append(&out, query_line(&rest));
        }
    buffer_append(&out, "]}");
    reply_json(static_cast<control_conn *>(context), &out);
}

static void status_done(query *q, void *context, uint64_t tag) {
    buffer out = {};
    control_status_write(reinterpret_cast<control_api *>(tag), q, &out);
    reply_json(static_cast<control_conn *>(context), &out);
}

static void metrics_done(query *q, void *context, uint64_t tag) {
    auto *c = static_cast<control_conn *>(context);
    buffer out = {};
    metrics_write(reinterpret_cast<control_api *>(tag), q, &out);
    control_reply(c, 200, metrics_content_type, buffer_view(&out), view());
    buffer_free(&out);
    control_unref(c);
}

// ---------------------------------------------------------------- paths

static void get_rooms(control_api *a, control_conn *c, const control_request *q) {
    uint64_t limit;
    if (limit_of(c, q->query, &limit))
        node_query(a->node, query_type::rooms, view(), uri_parameter(q->query, "after"), limit, rooms_done,
                   control_ref(c), 0);
}

static void get_connections(control_api *a, control_conn *c, const control_request *q) {
    uint64_t limit;
    conn_id id;
    std::string after = uri_parameter(q->query, "after");
    if (!after.empty() && !conn_id_parse(after, &id))
        return control_reply_error(c, 400, "after: no connection id of this node", view());
    if (limit_of(c, q->query, &limit))
        node_query(a->node, query_type::connections, uri_parameter(q->query, "room"), after, limit, connections_done,
                   control_ref(c), 0, uri_parameter(q->query, "user"));
}

static void with_room(control_api *a, control_conn *c, const control_request *q, view encoded) {
    std::string room(encoded.size(), 0);
    size_t size = 0;
    if (!uri_decode(encoded, false, room.data(), &size))
        return control_reply_error(c, 400, "the room's name is badly percent-encoded", view());
    room.resize(size);
    if (const char *bad = room_name_check(room)) return control_reply_error(c, 400, bad, view());
    bool all;
    if (q->method == "POST") {
        if (receivers_of(c, q->query, &all)) control_publish_body(a, c, room, q->body, all);
        return;
    }
    if (q->method != "GET") return control_reply_error(c, 405, "GET or POST", "Allow: GET, POST\r\n");
    if (presence_wanted(a->node->presence, room)) {
        presence_asker asker = {members_told, new room_question{a, control_ref(c), room}, {}, 0};
        return presence_ask(a->node->presence, room, &asker);
    }
    node_query(a->node, query_type::room, room, view(), 1, room_done, control_ref(c), reinterpret_cast<uint64_t>(a));
}

static void write_unready(const node *n, buffer *out) {
    const broker_canary *canary = &n->broker->canary;
    if (n->unready) return buffer_append(out, "stopping\n");
    if (!n->broker->ops->ready(n->broker)) return buffer_append(out, "the broker is out of reach\n");
    buffer_append(out, "the subscription does not deliver: ");
    if (!canary->heard_ms) return buffer_append(out, "no canary has come back yet\n");
    buffer_printf(out, "last canary %llu s ago\n",
                  static_cast<unsigned long long>((n->on->clock.monotonic_ms - canary->heard_ms) / 1000));
}

static void ready(control_api *a, control_conn *c) {
    if (node_ready(a->node)) return control_reply(c, 200, "text/plain", "ready\n", view());
    buffer why = {};
    write_unready(a->node, &why);
    control_reply(c, 503, "text/plain", buffer_view(&why), "Retry-After: 1\r\n");
    buffer_free(&why);
}

static void get_upstreams(control_api *a, control_conn *c, const control_request *q) {
    const std::string key = uri_parameter(q->query, "key");
    const view asked = key;
    buffer out = {};
    buffer_append(&out, "{\"upstreams\":[");
    for (size_t i = 0; i < a->node->upstreams.size(); i++) {
        if (i) buffer_append_char(&out, ',');
        upstream_status_write(a->node->upstreams[i], key.empty() ? nullptr : &asked, &out);
    }
    buffer_append(&out, "]}");
    control_reply(c, 200, "application/json", buffer_view(&out), view());
    buffer_free(&out);
}

// The configuration in force; with format=ini as belfry -T prints it.
static void get_config(control_api *a, control_conn *c, const control_request *q) {
    std::string format = uri_parameter(q->query, "format");
    if (!format.empty() && format != "ini" && format != "json")
        return control_reply_error(c, 400, "format: ini, or json (the default)", view());
    buffer out = {};
    if (format == "ini") {
        config_print(a->settings, &out);
        control_reply(c, 200, "text/plain; charset=utf-8", buffer_view(&out), view());
    } else {
        buffer_printf(&out, "{\"generation\":%llu,\"file\":", static_cast<unsigned long long>(a->reload->generation));
        json_write_string(&out, a->reload->file);
        buffer_append(&out, ",\"sections\":");
        config_print_json(a->settings, &out);
        buffer_append_char(&out, '}');
        control_reply(c, 200, "application/json", buffer_view(&out), view());
    }
    buffer_free(&out);
}

static void drain(control_api *a, control_conn *c, const control_request *) {
    buffer out = {};
    stopping_ask_control(a->stopping, &out);
    control_reply(c, 202, "application/json", buffer_view(&out), view());
    buffer_free(&out);
}

static void top_known(control_api *, view json, void *context) {
    auto *c = static_cast<control_conn *>(context);
    control_reply(c, 200, "application/json", json, view());
    control_unref(c);
}

struct api_path {
    const char *method, *path;
    void (*act)(control_api *a, control_conn *c, const control_request *q);
};

static const api_path paths[] = {
    {"GET", "/", [](control_api *, control_conn *c, const control_request *) { dashboard_reply(c); }},
    {"GET", "/healthz",
     [](control_api *, control_conn *c, const control_request *) {
         control_reply(c, 200, "text/plain", "alive\n", view());
     }},
    {"GET", "/metrics",
     [](control_api *a, control_conn *c, const control_request *) {
         node_query(a->node, query_type::status, view(), view(), 1, metrics_done, control_ref(c),
                    reinterpret_cast<uint64_t>(a));
     }},
    {"GET", "/readyz", [](control_api *a, control_conn *c, const control_request *) { ready(a, c); }},
    {"POST", "/v1/commands",
     [](control_api *a, control_conn *c, const control_request *q) {
         bool all;
         if (receivers_of(c, q->query, &all)) control_run_commands(a, c, q->body, all);
     }},
    {"GET", "/v1/rooms", get_rooms},
    {"GET", "/v1/connections", get_connections},
    {"GET", "/v1/upstreams", get_upstreams},
    {"GET", "/v1/config", get_config},
    {"POST", "/v1/drain", drain},
    {"POST", "/v1/reload", [](control_api *a, control_conn *c, const control_request *) { reload_ask(a->reload, c); }},
    {"GET", "/v1/live", control_live_handle},
    {"GET", "/v1/top",
     [](control_api *a, control_conn *c, const control_request *) { control_top_ask(a, top_known, control_ref(c)); }},
    {"GET", "/v1/status",
     [](control_api *a, control_conn *c, const control_request *) {
         node_query(a->node, query_type::status, view(), view(), 1, status_done, control_ref(c),
                    reinterpret_cast<uint64_t>(a));
     }},
};

void control_api_handle(control_conn *c, const control_request *q, void *context) {
    auto *a = static_cast<control_api *>(context);
    static constexpr view room_prefix = "/v1/rooms/";
    if (q->path.starts_with(room_prefix)) return with_room(a, c, q, q->path.substr(room_prefix.size()));
    for (const api_path &p : paths) {
        if (q->path != p.path) continue;
        if (q->method == p.method) return p.act(a, c, q);
        return control_reply_error(c, 405, p.method, q->method == "GET" ? "Allow: POST\r\n" : "Allow: GET\r\n");
    }
    control_reply_error(c, 404, "no such path; see belfryctl(1)", view());
}

} // namespace belfry
