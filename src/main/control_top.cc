// The busiest rooms and the slowest readers. Main thread.
#include "main/control_top.h"

#include <algorithm>

namespace belfry {

struct top_question {
    control_api *api; // borrowed
    std::vector<room_rate> rooms;
    void (*done)(control_api *a, view json, void *context);
    void *context; // borrowed
};

struct slow_line {
    uint64_t queue;
    view json;
};

// A worker's answer, query.h's form. One that had ended has said nothing.
static void read_part(view rest, std::vector<uint64_t> *members, std::vector<slow_line> *slow) {
    for (uint64_t &sum : *members) {
        uint64_t n = 0;
        if (bytes_parse_uint(query_line(&rest), &n)) sum += n;
    }
    while (!rest.empty()) {
        view line = query_line(&rest);
        size_t tab = line.find('\t');
        uint64_t queue = 0;
        if (tab != view::npos && bytes_parse_uint(line.substr(0, tab), &queue))
            slow->push_back({queue, line.substr(tab + 1)});
    }
}

static void write_rooms(const top_question *t, const std::vector<uint64_t> &members, buffer *out) {
    buffer_append(out, "{\"rooms\":[");
    for (size_t i = 0; i < t->rooms.size(); i++) {
        buffer_append(out, i ? ",{\"room\":" : "{\"room\":");
        json_write_string(out, t->rooms[i].name);
        buffer_printf(out, ",\"rate\":%.1f,\"bytes_rate\":%.0f,\"members\":%llu}", t->rooms[i].messages,
                      t->rooms[i].bytes, static_cast<unsigned long long>(members[i]));
    }
}

static void answered(query *q, void *context, uint64_t) {
    auto *t = static_cast<top_question *>(context);
    std::vector<uint64_t> members(t->rooms.size());
    std::vector<slow_line> slow;
    for (uint32_t i = 0; i < q->part_count; i++)
        read_part(buffer_view(&q->parts[i].out), &members, &slow);
    std::stable_sort(slow.begin(), slow.end(),
                     [](const slow_line &a, const slow_line &b) { return a.queue > b.queue; });
    buffer out = {};
    write_rooms(t, members, &out);
    buffer_append(&out, "],\"slow\":[");
    for (size_t i = 0; i < slow.size() && i < control_top_slow; i++) {
        if (i) buffer_append_char(&out, ',');
        buffer_append(&out, slow[i].json);
    }
    buffer_append(&out, "]}");
    t->done(t->api, buffer_view(&out), t->context);
    buffer_free(&out);
    delete t;
}

void control_top_ask(control_api *a, void (*done)(control_api *a, view json, void *context), void *context) {
    auto *t = new top_question{a, {}, done, context};
    t->rooms = room_rates_top(&a->node->rates, a->on->clock.monotonic_ms, control_top_rooms);
    std::string names;
    for (const room_rate &r : t->rooms)
        names += r.name + "\n";
    node_query(a->node, query_type::top, names, view(), control_top_slow, answered, t, 0);
}

} // namespace belfry
