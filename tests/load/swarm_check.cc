// What the swarm's clients were sent, and the report about it. Payloads hold `seq=N;` and `room=R;`, and may hold
// `t=NS;`, the monotonic clock when it was published. Who stays must get 1, 2, 3, ... of its room, each once; who
// churns, an unbroken run for as long as it is a member, and nothing before or after.
#include "swarm.h"

#include <bit>
#include <charconv>
#include <stdio.h>
#include <time.h>

namespace swarm {

static bool number_after(std::string_view text, std::string_view name, uint64_t *out) {
    size_t at = text.find(name);
    if (at == std::string_view::npos) return false;
    const char *begin = text.data() + at + name.size(), *end = text.data() + text.size();
    return std::from_chars(begin, end, *out).ec == std::errc();
}

// ---------------------------------------------------------------- latency

static uint32_t bucket_of(uint64_t ns) {
    if (ns < 8) return static_cast<uint32_t>(ns);
    uint32_t exponent = 63 - static_cast<uint32_t>(std::countl_zero(ns));
    return exponent * 8 + static_cast<uint32_t>(ns >> (exponent - 3) & 7);
}

static double bucket_us(uint32_t bucket) {
    if (bucket < 32) return 0.001 * bucket;
    uint32_t exponent = bucket / 8;
    return static_cast<double>((uint64_t{8} + bucket % 8) << (exponent - 3)) / 1000;
}

static void note_latency(totals *t, uint64_t published_ns) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t ns = static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
    t->latency[bucket_of(ns > published_ns ? ns - published_ns : 0)]++;
    t->latencies++;
}

static double quantile_us(const totals *t, double q) {
    double left = q * static_cast<double>(t->latencies);
    for (uint32_t i = 0; i < latency_buckets; i++) {
        left -= static_cast<double>(t->latency[i]);
        if (left <= 0 && t->latencies) return bucket_us(i);
    }
    return 0;
}

// ---------------------------------------------------------------- messages

static void check_stayer(totals *t, client *c, uint32_t sequence) {
    size_t word = sequence / 64;
    uint64_t bit = uint64_t{1} << sequence % 64;
    if (word >= c->seen.size()) c->seen.resize(word + 1);
    if (c->seen[word] & bit) {
        t->duplicates++;
        return;
    }
    c->seen[word] |= bit;
    if (sequence < c->highest)
        t->reordered++;
    else
        c->highest = sequence;
}

static void check_churner(const world *w, totals *t, client *c, uint32_t sequence) {
    t->churn_messages++;
    bool member = !w->options.json || c->joined || c->phase == phase::leaving;
    if (!member) t->churn_stray++;
    if (c->highest && sequence != c->highest + 1) t->churn_broken++;
    c->highest = sequence;
}

static void check_message(world *w, client *c, std::string_view text) {
    totals *t = &w->totals;
    uint64_t sequence = 0, room = 0, published = 0;
    if (!number_after(text, "seq=", &sequence) || sequence > 10000000 || !number_after(text, "room=", &room)) {
        t->unnumbered++;
        return;
    }
    if (!c->churner) t->messages++;
    if (room != c->room) {
        t->misrouted++;
        return;
    }
    if (number_after(text, "t=", &published)) note_latency(t, published);
    if (c->churner)
        check_churner(w, t, c, static_cast<uint32_t>(sequence));
    else
        check_stayer(t, c, static_cast<uint32_t>(sequence));
}

// ---------------------------------------------------------------- the JSON protocol

static void answered(world *w, client *c) {
    if (c->phase == phase::leaving) {
        c->joined = false;
        c->phase = phase::open;
        w->totals.churn_leaves++;
    } else if (c->phase == phase::joining) {
        c->joined = true;
        c->phase = phase::open;
        if (c->churner)
            w->totals.churn_joins++;
        else
            client_opened(w, c);
    }
}

static void on_error(world *w, client *c, std::string_view text) {
    w->totals.errors++;
    if (!w->ready) give_up(c, text);
    if (c->phase == phase::joining || c->phase == phase::leaving) c->phase = phase::open;
}

// {"type":"message","room":"...","epoch":"...","offset":17,...
static void note_place(client *c, std::string_view text) {
    size_t at = text.find("\"epoch\":\""), end = text.find("\"offset\":");
    if (at == std::string_view::npos || end == std::string_view::npos || end < at) return;
    end = text.find_first_of(",}", end);
    if (end != std::string_view::npos) c->since = text.substr(at, end - at);
}

static void on_bye(world *w, client *c, std::string_view text) {
    uint64_t after_ms = 0;
    w->totals.byes++;
    c->asked_back = text.find("\"reconnect\":true") != std::string_view::npos;
    if (c->asked_back && number_after(text, "\"after_ms\":", &after_ms))
        c->due = seconds() + static_cast<double>(after_ms) / 1000;
}

static void note_return(world *w, client *c, std::string_view text) {
    if (!w->options.returning || !w->ready || c->churner || c->phase != phase::joining) return;
    w->totals.returned++;
    if (text.find("\"recovered\":true") != std::string_view::npos) w->totals.recovered++;
}

void check_text(world *w, client *c, std::string_view text) {
    if (!w->options.json) return check_message(w, c, text);
    std::string_view type = text.starts_with("{\"type\":\"") ? text.substr(9, text.find('"', 9) - 9) : "";
    if (w->options.returning && (type == "message" || type == "ok")) note_place(c, text);
    if (type == "message") return check_message(w, c, text);
    if (type == "ok") {
        note_return(w, c, text);
        return answered(w, c);
    }
    if (type == "bye") return on_bye(w, c, text);
    if (type == "error") return on_error(w, c, text);
    if (type == "gap") {
        w->totals.gaps++;
        c->gaps++;
        return;
    }
    if (type != "welcome" && type != "pong") w->totals.bad_frames++;
}

// ---------------------------------------------------------------- the report

// How many of the expected messages those who are still connected did not get.
static uint64_t missing(const world *w) {
    uint64_t count = 0;
    for (const client &c : w->clients) {
        if (c.churner || c.fd < 0) continue;
        for (uint32_t s = w->first; s <= w->last; s++)
            if (s / 64 >= c.seen.size() || !(c.seen[s / 64] >> s % 64 & 1)) count++;
    }
    return count;
}

static uint64_t gap_clients(const world *w) {
    uint64_t count = 0;
    for (const client &c : w->clients)
        if (!c.churner && c.gaps) count++;
    return count;
}

static void field(const char *name, uint64_t value) {
    printf("\"%s\":%llu,", name, static_cast<unsigned long long>(value));
}

void report(const world *w) {
    const totals *t = &w->totals;
    printf("{");
    field("alive", w->alive);
    field("messages", t->messages);
    field("missing", missing(w));
    field("duplicates", t->duplicates);
    field("reordered", t->reordered);
    field("misrouted", t->misrouted);
    field("unnumbered", t->unnumbered);
    field("bad_frames", t->bad_frames);
    field("gaps", t->gaps);
    field("gap_clients", gap_clients(w));
    field("errors", t->errors);
    field("compressed", t->compressed);
    field("bytes", t->bytes);
    field("churn_messages", t->churn_messages);
    field("churn_broken", t->churn_broken);
    field("churn_stray", t->churn_stray);
    field("churn_joins", t->churn_joins);
    field("churn_leaves", t->churn_leaves);
    field("byes", t->byes);
    field("returned", t->returned);
    field("recovered", t->recovered);
    printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"closed\":{", quantile_us(t, 0.5), quantile_us(t, 0.99));
    const char *separator = "";
    for (auto [code, count] : w->closed) {
        printf("%s\"%u\":%llu", separator, code, static_cast<unsigned long long>(count));
        separator = ",";
    }
    printf("}}\n");
    fflush(stdout);
}

} // namespace swarm
