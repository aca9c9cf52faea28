// Frame boundaries must not depend on how the bytes are cut, and what passes is a prefix of what came.
// The first byte seeds the cuts; the rest is a backend's stream.
#include "proto/wsboundary.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

static void check(bool holds) {
    if (!holds) abort();
}

static std::string pass(ws_boundary *b, view bytes) {
    ws_passed p = ws_boundary_pass(b, bytes);
    std::string out(p.first);
    out += p.second;
    ws_boundary_release(b);
    check(b->held.size < ws_held_max);
    check(b->held.size != 0 || b->held.data == nullptr);
    return out;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    uint32_t cuts = data[0] + 1u;
    view bytes(reinterpret_cast<const char *>(data) + 1, size - 1);
    ws_boundary whole = {}, pieces = {};
    std::string at_once = pass(&whole, bytes), cut;
    for (size_t at = 0; at < bytes.size();) {
        cuts = cuts * 1664525u + 1013904223u;
        size_t n = (cuts >> 24) % 37 + 1;
        if (cuts & 1) n = 1;
        cut += pass(&pieces, bytes.substr(at, n));
        at += n;
        check(bytes.starts_with(cut));
    }
    check(cut == at_once);
    check(whole.left == pieces.left && whole.closed == pieces.closed && whole.why == pieces.why);
    check(view(whole.held.data, whole.held.size) == view(pieces.held.data, pieces.held.size));
    if (!whole.closed && !whole.why) check(at_once.size() + whole.held.size == bytes.size());
    ws_boundary_free(&whole);
    ws_boundary_free(&pieces);
    return 0;
}
