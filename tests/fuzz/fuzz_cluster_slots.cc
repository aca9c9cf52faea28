// Fuzzes Redis Cluster's plain data. The first byte chooses: a key, an error reply, or the ranges of a slot map.
#include "proto/cluster_slots.h"

#include <stdlib.h>
#include <string.h>

using namespace belfry;

namespace {

void require(bool fine) {
    if (!fine) abort();
}

void check_node(const cluster_node *node) {
    require(!node->host.empty() && node->host.size() <= 253 && node->port != 0);
    for (char c : node->host)
        require(c > ' ' && c < 0x7f);
}

void fuzz_key(view key) {
    require(cluster_slot(key) < cluster_slot_count);
    // A tag of its own is all that counts.
    if (key.find('{') == view::npos && !key.starts_with("}") && key.find('}') == view::npos && !key.empty())
        require(cluster_slot("a{" + std::string(key) + "}b") == cluster_slot(key));
}

void fuzz_error(view text) {
    const cluster_redirect r = cluster_advice_of(text, "asked");
    if (r.advice != cluster_advice::moved && r.advice != cluster_advice::ask) return;
    check_node(&r.node);
    require(r.slot < cluster_slot_count);
    // What was read is written back.
    const view word = r.advice == cluster_advice::moved ? "MOVED" : "ASK";
    const std::string again =
        std::string(word) + " " + std::to_string(r.slot) + " " + r.node.host + ":" + std::to_string(r.node.port);
    const cluster_redirect back = cluster_advice_of(again, "");
    require(back.advice == r.advice && back.slot == r.slot && back.node.host == r.node.host &&
            back.node.port == r.node.port);
}

int64_t take_number(view *bytes) {
    uint16_t n = 0;
    const size_t size = bytes->size() < sizeof n ? bytes->size() : sizeof n;
    memcpy(&n, bytes->data(), size);
    bytes->remove_prefix(size);
    return n < 60000 ? n : static_cast<int64_t>(n) - 65536; // some below zero
}

void fuzz_map(view bytes) {
    static cluster_map m;
    cluster_map_clear(&m);
    while (!bytes.empty()) {
        const int64_t first = take_number(&bytes), last = take_number(&bytes), port = take_number(&bytes);
        const size_t size = bytes.empty() ? 0 : static_cast<unsigned char>(bytes[0]) % 32;
        const view host = bytes.substr(0, size + 1 < bytes.size() ? size + 1 : bytes.size());
        bytes.remove_prefix(host.size());
        error e;
        if (!cluster_map_add(&m, first, last, host.substr(host.empty() ? 0 : 1), port, "asked", &e)) {
            require(e.text[0] != '\0');
            break;
        }
    }
    require(m.nodes.size() <= cluster_nodes_max);
    for (const cluster_node &node : m.nodes)
        check_node(&node);
    size_t covered = 0;
    for (uint8_t owner : m.owner) {
        require(owner == cluster_nobody || owner < m.nodes.size());
        covered += owner != cluster_nobody;
    }
    require(covered == m.covered && cluster_map_complete(&m) == (covered == cluster_slot_count));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    const view rest(reinterpret_cast<const char *>(data) + 1, size - 1);
    if (data[0] % 3 == 0) fuzz_key(rest);
    if (data[0] % 3 == 1) fuzz_error(rest);
    if (data[0] % 3 == 2) fuzz_map(rest);
    return 0;
}
