// Names of connections. The node id is written once at the start and only read afterwards.
#include "relay/conn_id.h"

#include "base/hash.h"

#include <string.h>

namespace belfry {

static unsigned char node_bytes[3];
static char node_text[node_id_size + 1];
static uint64_t count_base;

void node_id_init(view id) {
    size_t size = 0;
    if (id.size() != node_id_size || !base64url_decode(id, reinterpret_cast<char *>(node_bytes), &size))
        random_bytes(node_bytes, sizeof node_bytes);
    base64url_encode(view(reinterpret_cast<char *>(node_bytes), sizeof node_bytes), node_text);
    count_base = id == node_id() ? uint64_t{1 + random_below((1 << 20) - 1)} << 32 : 0;
}

view node_id() {
    return view(node_text, node_id_size);
}

uint64_t node_count_base() {
    return count_base;
}

conn_id_text conn_id_format(conn_id id) {
    unsigned char raw[15];
    memcpy(raw, node_bytes, 3);
    raw[3] = id.worker;
    for (int i = 0; i < 3; i++)
        raw[4 + i] = static_cast<unsigned char>(id.slot >> (16 - 8 * i));
    for (int i = 0; i < 8; i++)
        raw[7 + i] = static_cast<unsigned char>(id.tag >> (56 - 8 * i));
    conn_id_text out = {{'c', '_'}};
    base64url_encode(view(reinterpret_cast<char *>(raw), sizeof raw), out.text + 2);
    return out;
}

bool conn_id_parse(view text, conn_id *out) {
    if (text.size() != conn_id_size || !text.starts_with("c_")) return false;
    unsigned char raw[15];
    size_t size = 0;
    if (!base64url_decode(text.substr(2), reinterpret_cast<char *>(raw), &size)) return false;
    if (memcmp(raw, node_bytes, sizeof node_bytes) != 0) return false;
    out->worker = raw[3];
    out->slot = static_cast<uint32_t>(raw[4]) << 16 | static_cast<uint32_t>(raw[5]) << 8 | raw[6];
    out->tag = 0;
    for (int i = 0; i < 8; i++)
        out->tag = out->tag << 8 | raw[7 + i];
    return true;
}

view conn_id_node(view text) {
    char raw[15];
    size_t size = 0;
    if (text.size() != conn_id_size || !text.starts_with("c_") || !base64url_decode(text.substr(2), raw, &size))
        return view();
    return text.substr(2, node_id_size);
}

} // namespace belfry
