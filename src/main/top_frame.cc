// Samples and frames of belfryctl top. Pure.
#include "main/top_frame.h"

#include "base/bytes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

namespace belfry {

// ---------------------------------------------------------------- reading

static std::string text_of(const json_object *o, view name) {
    const json_member *m = json_find(o, name);
    return m && m->type == json_type::string ? std::string(m->text) : std::string();
}

static uint64_t number_of(const json_object *o, view name) {
    const json_member *m = json_find(o, name);
    return m && m->is_integer && m->integer > 0 ? static_cast<uint64_t>(m->integer) : 0;
}

static double real_of(const json_object *o, view name) {
    const json_member *m = json_find(o, name);
    return m && m->type == json_type::number ? strtod(std::string(m->raw).c_str(), nullptr) : 0;
}

// What each of an array's objects is read by, and into.
struct each_object {
    json_reader *reader; // borrowed
    top_sample *out;     // borrowed
    std::string prefix;
    void (*read)(const each_object *e, const json_object *o);
};

static bool on_element(view raw, json_type, void *context) {
    const auto *e = static_cast<each_object *>(context);
    json_object o;
    error why;
    if (!json_parse_nested(e->reader, raw, &o, &why)) return false;
    e->read(e, &o);
    return true;
}

static bool read_array(json_reader *r, const json_object *of, view name, top_sample *out, const std::string &prefix,
                       void (*read)(const each_object *e, const json_object *o)) {
    const json_member *m = json_find(of, name);
    error why;
    each_object each = {r, out, prefix, read};
    return m && m->type == json_type::array && json_each_element(r, m->raw, on_element, &each, &why);
}

static void read_room(const each_object *e, const json_object *o) {
    e->out->rooms.push_back(
        {text_of(o, "room"), real_of(o, "rate"), real_of(o, "bytes_rate"), number_of(o, "members")});
}

static void read_slow(const each_object *e, const json_object *o) {
    e->out->slow.push_back({text_of(o, "conn"), text_of(o, "user"), text_of(o, "route"), text_of(o, "ip"),
                            number_of(o, "queue"), number_of(o, "blocked_ms"), number_of(o, "dropped")});
}

static void read_server(const each_object *e, const json_object *o) {
    e->out->servers.push_back({e->prefix + " " + text_of(o, "server"), text_of(o, "state"), number_of(o, "inflight"),
                               number_of(o, "requests"), number_of(o, "failures")});
}

static void read_upstream(const each_object *e, const json_object *o) {
    (void)read_array(e->reader, o, "servers", e->out, text_of(o, "name"), read_server);
}

// Numbers, booleans and texts of an object; those of objects within it one level down.
static bool read_values(json_reader *r, const json_object *o, const std::string &prefix, top_sample *out) {
    for (size_t i = 0; i < o->count; i++) {
        const json_member *m = &o->members[i];
        std::string name = prefix + std::string(m->name);
        if (m->type == json_type::string) out->texts[name] = m->text;
        if (m->type == json_type::boolean) out->numbers[name] = m->raw == "true";
        if (m->type == json_type::number) out->numbers[name] = number_of(o, m->name);
        if (m->type != json_type::object || !prefix.empty() || m->name == "top") continue;
        json_object inner;
        error why;
        if (!json_parse_nested(r, m->raw, &inner, &why) || !read_values(r, &inner, name + ".", out)) return false;
    }
    return true;
}

static void take_reasons(top_sample *out) {
    for (const char *kind : {"refused", "dropped", "closed"})
        for (const auto &[name, count] : out->numbers)
            if (name.starts_with(std::string(kind) + "."))
                out->reasons[std::string(kind) + ": " + name.substr(name.find('.') + 1)] = count;
}

bool top_sample_read(json_reader *r, view json, top_sample *out, error *e) {
    json_object o, top;
    if (!json_parse_object(r, json, &o, e)) return false;
    const json_member *m = json_find(&o, "top");
    bool fine = read_values(r, &o, "", out) && read_array(r, &o, "upstreams", out, "", read_upstream) && m &&
                m->type == json_type::object && json_parse_nested(r, m->raw, &top, e) &&
                read_array(r, &top, "rooms", out, "", read_room) && read_array(r, &top, "slow", out, "", read_slow);
    if (!fine) return error_set(e, "this is no live view of Belfry's"), false;
    take_reasons(out);
    return true;
}

// ---------------------------------------------------------------- words

static std::string format(const char *pattern, double value, const char *unit) {
    char text[64];
    snprintf(text, sizeof text, pattern, value, unit);
    return text;
}

static std::string shortened(double n, double unit, const char *letters) {
    if (n < unit) return format(n < 10 && n != floor(n) ? "%.1f%s" : "%.0f%s", n, "");
    char letter[2] = {letters[0], 0};
    for (n /= unit; n >= unit && letters[1]; n /= unit)
        letter[0] = *++letters;
    return format(n < 100 ? "%.1f%s" : "%.0f%s", n, letter);
}

static std::string amount(double n) {
    return n < 10000 ? shortened(n, 1e4, "k") : shortened(n, 1000, "kMGT");
}

static std::string octets(double n) {
    return shortened(n, 1024, "kMGT") + "B";
}

static std::string span(uint64_t s) {
    char text[64];
    unsigned long long days = s / 86400, hours = s / 3600 % 24, minutes = s / 60 % 60;
    if (days)
        snprintf(text, sizeof text, "%llud %lluh", days, hours);
    else if (hours)
        snprintf(text, sizeof text, "%lluh %llumin", hours, minutes);
    else
        snprintf(text, sizeof text, "%llumin %us", minutes, static_cast<unsigned>(s % 60));
    return text;
}

// A character of UTF-8 counts as one column. What a terminal obeys becomes a question mark: names are from clients.
static std::string clean(view text, size_t columns) {
    std::string out;
    size_t used = 0;
    for (size_t i = 0; i < text.size(); i++) {
        auto c = static_cast<unsigned char>(text[i]);
        bool continues = (c & 0xc0) == 0x80;
        if (!continues && used++ == columns) break;
        bool c1 = c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
        if (c1) i++;
        out += c < 0x20 || c == 0x7f || c1 ? '?' : static_cast<char>(c);
    }
    return out;
}

static size_t columns_of(view text) {
    size_t n = 0;
    for (char c : text)
        n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    return n;
}

// ---------------------------------------------------------------- a frame

enum class paint : uint8_t { plain, bold, good, bad };

struct cell {
    std::string text;
    paint colour = paint::plain;
};

struct frame_maker {
    const top_sample *now, *last; // borrowed
    size_t width, height;
    bool colour;
    double seconds; // between the two; 0: no rates
    std::vector<std::string> lines;
};

static uint64_t number(const top_sample *s, const char *name) {
    auto at = s->numbers.find(name);
    return at == s->numbers.end() ? 0 : at->second;
}

static uint64_t value(const frame_maker *f, const char *name) {
    return number(f->now, name);
}

static std::string word(const frame_maker *f, const char *name) {
    auto at = f->now->texts.find(name);
    return at == f->now->texts.end() ? "" : at->second;
}

static double rate(const frame_maker *f, const char *name) {
    uint64_t now = value(f, name), before = f->last ? number(f->last, name) : 0;
    return f->seconds > 0 && now > before ? static_cast<double>(now - before) / f->seconds : 0;
}

static std::string painted(const frame_maker *f, const std::string &text, paint colour) {
    static const char *const codes[] = {"", "\x1b[1m", "\x1b[32m", "\x1b[31m"};
    if (!f->colour || colour == paint::plain) return text;
    return codes[static_cast<size_t>(colour)] + text + "\x1b[0m";
}

// Cells one behind the other, as many columns as there are.
static void add_line(frame_maker *f, const std::vector<cell> &cells) {
    if (f->lines.size() == f->height) return;
    std::string line;
    size_t used = 0;
    for (const cell &c : cells) {
        std::string text = clean(c.text, f->width - used);
        used += columns_of(text);
        line += painted(f, text, c.colour);
    }
    f->lines.push_back(line);
}

static paint alarm_if(bool wrong) {
    return wrong ? paint::bad : paint::plain;
}

static cell named(const char *name, double n) {
    return {std::string(name) + amount(n)};
}

static void add_head(frame_maker *f) {
    bool ready = value(f, "ready") && !value(f, "stopping");
    add_line(
        f, {{"belfry top", paint::bold},
            {"  node " + word(f, "node") + "  " + word(f, "version") + "  up " + span(value(f, "uptime")) + "  " +
             std::to_string(value(f, "workers")) + " workers  config " + std::to_string(value(f, "generation")) + "  "},
            {value(f, "stopping") ? "STOPPING"
             : ready              ? "READY"
                                  : "NOT READY",
             ready ? paint::good : paint::bad}});
}

static void add_traffic(frame_maker *f) {
    std::string kinds;
    for (const auto &[name, count] : f->now->numbers)
        if (name.starts_with("kinds."))
            kinds += (kinds.empty() ? "  (" : ", ") + amount(static_cast<double>(count)) + " " + name.substr(6);
    if (!kinds.empty()) kinds += ")";
    auto total = [f](const char *name) { return static_cast<double>(value(f, name)); };
    add_line(f, {{"connections  "},
                 {amount(total("connections")), paint::bold},
                 {" of " + amount(total("limit")) + kinds},
                 named("  tls ", total("tls")),
                 named("  new/s ", rate(f, "handshakes"))});
    add_line(f, {{"messages/s   "},
                 {"in " + amount(rate(f, "messages_in")), paint::bold},
                 {"  delivered " + amount(rate(f, "deliveries")), paint::bold},
                 {"  bytes/s  in " + octets(rate(f, "bytes_in")) + "  out " + octets(rate(f, "bytes_out"))}});
    add_line(f, {{"waiting      " + octets(total("queue_bytes"))},
                 named(" for ", total("blocked")),
                 {" full sockets"},
                 named("  rooms ", total("rooms")),
                 named("  memberships ", total("memberships"))});
}

static void add_parts(frame_maker *f) {
    auto total = [f](const char *name) { return static_cast<double>(value(f, name)); };
    bool ready = value(f, "broker.ready");
    add_line(f, {{"broker       " + word(f, "broker.type") + " "},
                 {ready ? "connected" : "OUT OF REACH", ready ? paint::good : paint::bad},
                 named("  received/s ", rate(f, "broker.received")),
                 named("  published/s ", rate(f, "broker.published")),
                 named("  reconnects ", total("broker.reconnects")),
                 {"  lost " + amount(total("broker.lost")), alarm_if(value(f, "broker.lost"))}});
    add_line(f, {{"backends     hooks/s " + amount(rate(f, "hooks.calls"))},
                 {"  failed " + amount(total("hooks.failures")), alarm_if(rate(f, "hooks.failures") > 0)},
                 named("  proxied/s ", rate(f, "proxy.requests")),
                 {"  failed " + amount(total("proxy.failures")), alarm_if(rate(f, "proxy.failures") > 0)},
                 {"  notify waits " + octets(total("notify.spooled"))}});
    add_line(f, {{"process      cpu " + format("%.1f%s", rate(f, "cpu_ms") / 10, "%")},
                 {"  memory " + octets(total("resident"))},
                 named("  files ", total("files")),
                 {"  longest turn " + format("%.1f%s", total("lag_us") / 1000, " ms")},
                 {"  log: errors " + amount(total("log.error")), alarm_if(value(f, "log.error"))},
                 named(" warnings ", total("log.warn")),
                 {" lost " + amount(total("log.dropped")), alarm_if(value(f, "log.dropped"))}});
}

// The first column takes what the others leave; those are aligned to the right.
struct section {
    std::vector<std::string> head;
    std::vector<std::vector<cell>> rows;
    const char *nothing; // static: what stands there where it has no rows
};

static constexpr size_t column_width = 12;

static std::string fitted(const std::string &text, size_t width, bool right) {
    std::string cut = clean(text, width);
    std::string gap(width - columns_of(cut), ' ');
    return right ? gap + cut : cut + gap;
}

static std::vector<cell> row_of(const frame_maker *f, const std::vector<cell> &cells) {
    size_t others = (cells.size() - 1) * column_width;
    size_t first = f->width > others + 16 ? f->width - others : 16;
    std::vector<cell> out = {{fitted(cells[0].text, first - 1, false) + " ", cells[0].colour}};
    for (size_t i = 1; i < cells.size(); i++)
        out.push_back({" " + fitted(cells[i].text, column_width - 1, true), cells[i].colour});
    return out;
}

static void add_section(frame_maker *f, const section *s, size_t most) {
    std::vector<cell> head;
    for (const std::string &name : s->head)
        head.push_back({name, paint::bold});
    add_line(f, {});
    add_line(f, row_of(f, head));
    if (s->rows.empty()) add_line(f, {{s->nothing}});
    for (size_t i = 0; i < s->rows.size() && i < most; i++)
        add_line(f, row_of(f, s->rows[i]));
}

static section rooms_of(const frame_maker *f) {
    section s = {{"ROOM", "messages/s", "bytes/s", "members"}, {}, "no messages in the last ten seconds"};
    for (const top_room &r : f->now->rooms)
        s.rows.push_back(
            {{r.name}, {amount(r.rate)}, {octets(r.bytes_rate)}, {amount(static_cast<double>(r.members))}});
    return s;
}

static section slow_of(const frame_maker *f) {
    section s = {{"SLOW READER", "queue", "stuck", "lost", "route"}, {}, "everybody reads fast enough"};
    for (const top_reader &r : f->now->slow)
        s.rows.push_back({{r.conn + " " + r.ip + (r.user.empty() ? "" : " " + r.user)},
                          {octets(static_cast<double>(r.queue))},
                          {format("%.1f%s", static_cast<double>(r.blocked_ms) / 1000, " s")},
                          {amount(static_cast<double>(r.dropped)), alarm_if(r.dropped)},
                          {r.route}});
    return s;
}

static section servers_of(const frame_maker *f) {
    section s = {{"UPSTREAM", "state", "under way", "requests", "failures"}, {}, "none configured"};
    for (const top_server &u : f->now->servers)
        s.rows.push_back({{u.name},
                          {u.state, u.state == "up" ? paint::good : paint::bad},
                          {amount(static_cast<double>(u.inflight))},
                          {amount(static_cast<double>(u.requests))},
                          {amount(static_cast<double>(u.failures))}});
    return s;
}

static section reasons_of(const frame_maker *f) {
    section s = {{"REFUSED, DROPPED, CLOSED", "so far", "per second"}, {}, "nothing so far"};
    for (const auto &[name, count] : f->now->reasons) {
        uint64_t before = 0;
        if (f->last && f->last->reasons.contains(name)) before = f->last->reasons.at(name);
        double now = f->seconds > 0 && count > before ? static_cast<double>(count - before) / f->seconds : 0;
        s.rows.push_back({{name}, {amount(static_cast<double>(count))}, {amount(now)}});
    }
    return s;
}

std::vector<std::string> top_frame(const top_sample *now, const top_sample *last, size_t width, size_t height,
                                   bool colour) {
    frame_maker f = {now, last, width, height, colour, 0, {}};
    if (last && number(last, "pid") == number(now, "pid") && number(now, "time") > number(last, "time"))
        f.seconds = static_cast<double>(number(now, "time") - number(last, "time")) / 1000;
    add_head(&f);
    add_traffic(&f);
    add_parts(&f);
    const section all[] = {rooms_of(&f), slow_of(&f), servers_of(&f), reasons_of(&f)};
    // Each has three lines at least; what is left is given to those that need it, from the top.
    size_t sections = sizeof all / sizeof *all,
           spare = height > f.lines.size() + 3 * sections ? height - f.lines.size() - 3 * sections : 0;
    for (const section &s : all) {
        size_t more = s.rows.size() > 1 ? s.rows.size() - 1 : 0, given = more < spare ? more : spare;
        add_section(&f, &s, 1 + given);
        spare -= given;
    }
    return f.lines;
}

} // namespace belfry
