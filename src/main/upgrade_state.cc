// The state's codec: a sequence of values, each as LENGTH ':' BYTES ','; numbers are decimal, lists follow their
// length. No state, no thread.
#include "main/upgrade_state.h"

#include <limits.h>

namespace belfry {

static constexpr const char *mark = "belfry master";
static constexpr uint64_t list_max = 65536;

// ---------------------------------------------------------------- writing

static void put(std::string *out, view bytes) {
    *out += std::to_string(bytes.size());
    *out += ':';
    *out += bytes;
    *out += ',';
}

static void put(std::string *out, uint64_t number) {
    put(out, view(std::to_string(number)));
}

static void put(std::string *out, const std::vector<kept_address> *all) {
    put(out, all->size());
    for (const kept_address &a : *all) {
        put(out, uint64_t{a.control});
        put(out, view(a.listener));
        put(out, view(a.written));
        put(out, a.fds.size());
        for (int fd : a.fds)
            put(out, static_cast<uint64_t>(fd));
    }
}

std::string upgrade_state_encode(const upgrade_state *s) {
    std::string out;
    for (view text : {view(mark), view(upgrade_format)})
        put(&out, text);
    for (uint64_t number : {s->generation, s->crashes, s->backoff_ms})
        put(&out, number);
    for (const std::string *text : {&s->pid_file, &s->log_target, &s->log_level, &s->log_json})
        put(&out, view(*text));
    put(&out, &s->inherited);
    put(&out, &s->orphans);
    put(&out, s->workers.size());
    for (const upgrade_worker &w : s->workers) {
        for (uint64_t number :
             {w.pid, w.channel, uint64_t{w.retired}, uint64_t{w.stopping}, w.generation, w.started_ms})
            put(&out, number);
        put(&out, view(w.node));
        put(&out, &w.kept);
    }
    return out;
}

// ---------------------------------------------------------------- reading

struct state_reading {
    view rest;
    bool wrong;
};

static view take(state_reading *r) {
    size_t colon = r->rest.find(':');
    uint64_t size = 0;
    r->wrong = r->wrong || colon == view::npos || !bytes_parse_uint(r->rest.substr(0, colon), &size) ||
               size >= r->rest.size() - colon - 1 || r->rest[colon + 1 + size] != ',';
    if (r->wrong) return {};
    view value = r->rest.substr(colon + 1, size);
    r->rest.remove_prefix(colon + size + 2);
    return value;
}

static uint64_t take_number(state_reading *r, uint64_t most = UINT64_MAX) {
    uint64_t number = 0;
    r->wrong = !bytes_parse_uint(take(r), &number) || number > most || r->wrong;
    return r->wrong ? 0 : number;
}

static void take_addresses(state_reading *r, std::vector<kept_address> *out) {
    uint64_t count = take_number(r, list_max);
    for (uint64_t i = 0; i < count && !r->wrong; i++) {
        kept_address a = {};
        a.control = take_number(r, 1) != 0;
        a.listener = take(r);
        a.written = take(r);
        uint64_t fds = take_number(r, list_max);
        for (uint64_t n = 0; n < fds && !r->wrong; n++)
            a.fds.push_back(static_cast<int>(take_number(r, INT_MAX)));
        out->push_back(a);
    }
}

bool upgrade_state_decode(view bytes, upgrade_state *out) {
    *out = {};
    state_reading r = {bytes, false};
    if (take(&r) != mark || take(&r) != upgrade_format) return false;
    for (uint64_t *number : {&out->generation, &out->crashes, &out->backoff_ms})
        *number = take_number(&r);
    for (std::string *text : {&out->pid_file, &out->log_target, &out->log_level, &out->log_json})
        *text = take(&r);
    take_addresses(&r, &out->inherited);
    take_addresses(&r, &out->orphans);
    uint64_t count = take_number(&r, list_max);
    for (uint64_t i = 0; i < count && !r.wrong; i++) {
        upgrade_worker w = {};
        w.pid = take_number(&r, INT_MAX);
        w.channel = take_number(&r, INT_MAX);
        w.retired = take_number(&r, 1) != 0;
        w.stopping = take_number(&r, 1) != 0;
        w.generation = take_number(&r, UINT32_MAX);
        w.started_ms = take_number(&r);
        w.node = take(&r);
        take_addresses(&r, &w.kept);
        out->workers.push_back(w);
    }
    return !r.wrong && r.rest.empty();
}

void upgrade_state_descriptors(const upgrade_state *s, void (*with)(int fd)) {
    auto each = [with](const std::vector<kept_address> *all) {
        for (const kept_address &a : *all)
            for (int fd : a.fds)
                with(fd);
    };
    each(&s->inherited);
    each(&s->orphans);
    for (const upgrade_worker &w : s->workers) {
        with(static_cast<int>(w.channel));
        each(&w.kept);
    }
}

} // namespace belfry
