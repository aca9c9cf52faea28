// Modules' states on their way from process to process. On the connection's thread.
#include "relay/chain_move.h"

#include "relay/chain_call.h"

#include <stdlib.h>
#include <string.h>

namespace belfry {

static chain_block *block_of(const conn *c) {
    return static_cast<chain_block *>(c->modules);
}

static char *state_of(const conn *c, size_t module) {
    const module_entry *e = &c->on->settings->modules[module];
    return static_cast<char *>(c->modules) + sizeof(chain_block) + e->conn_offset;
}

static bool called(const conn *c, size_t module) {
    return (block_of(c)->called >> module & 1) != 0;
}

bool chain_quiet(const conn *c) {
    return !c->modules || (!block_of(c)->wait && !block_of(c)->awaiting);
}

// What a module keeps in its own memory of a connection, or points to, only the module can bring over.
static bool movable(const struct belfry_module *m) {
    return (!m->conn_size && !CHAIN_HOOK(m, close)) || CHAIN_HOOK(m, arrived);
}

bool chain_describe(const conn *c, std::vector<handover_module> *out) {
    const std::vector<module_entry> &modules = c->on->settings->modules;
    for (size_t i = 0; c->modules && i < modules.size(); i++) {
        const struct belfry_module *m = modules[i].module;
        if (!called(c, i)) continue;
        if (!movable(m)) return false;
        view state = block_of(c)->has_states ? view(state_of(c, i), m->conn_size) : view();
        out->push_back({m->name, m->version, state, true});
    }
    return true;
}

static size_t place_of(const std::vector<module_entry> &modules, view name) {
    size_t i = 0;
    while (i < modules.size() && name != modules[i].module->name)
        i++;
    return i;
}

static bool restore_one(conn *c, const handover_module *from) {
    const std::vector<module_entry> &modules = c->on->settings->modules;
    size_t i = place_of(modules, from->name);
    if (i == modules.size()) return true;
    const struct belfry_module *m = modules[i].module;
    if (from->version != m->version || !movable(m)) return false;
    if (!from->state.empty()) {
        if (!block_of(c)->has_states) return true; // nothing here wants a state of its connections any more
        if (from->state.size() != m->conn_size) return false;
        memcpy(state_of(c, i), from->state.data(), from->state.size());
    } else if (m->conn_size) {
        return true; // it was not called for its state; here it has a fresh one, as after a reload
    }
    block_of(c)->called |= uint64_t{1} << i;
    return true;
}

bool chain_restore(conn *c, const std::vector<handover_module> &modules) {
    chain_need need = chain_need_of(c->on->settings, c->route);
    if (need == chain_need::nothing) return true;
    chain_adopt(c, need);
    block_of(c)->called = 0;
    for (const handover_module &m : modules)
        if (m.called && !restore_one(c, &m)) return false;
    chain_call k;
    chain_call_begin(&k, c, nullptr);
    for (size_t i = 0; i < c->on->settings->modules.size(); i++) {
        const struct belfry_module *m = c->on->settings->modules[i].module;
        if (!called(c, i) || !CHAIN_HOOK(m, arrived)) continue;
        chain_call_aim(&k, i, nullptr);
        m->arrived(&k.call);
        chain_call_end(&k);
    }
    return true;
}

void chain_forget(conn *c) {
    free(c->modules);
    c->modules = nullptr;
}

} // namespace belfry
