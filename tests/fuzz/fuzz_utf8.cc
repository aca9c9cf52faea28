// Fuzz target of proto/utf8: compared, prefix by prefix and cut at every place, with a decoder that works on numbers.
// One thread.
#include "proto/utf8.h"

#include <stdint.h>
#include <stdlib.h>

using namespace belfry;

namespace {

enum class verdict { whole, cut, bad };

// What the text is: whole characters, cut inside the last one, or beyond mending. Knows no table: a cut character may
// be mended where any of the numbers that it could still become is a scalar value of that length.
verdict judge(view text) {
    size_t at = 0;
    while (at < text.size()) {
        uint32_t lead = static_cast<uint8_t>(text[at++]);
        if (lead < 0x80) continue;
        if (lead < 0xc0 || lead >= 0xf8) return verdict::bad;
        uint32_t more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        uint32_t low = lead & (0x3f >> more), high = low;
        for (uint32_t i = 0; i < more; i++) {
            bool there = at < text.size();
            uint32_t byte = there ? static_cast<uint8_t>(text[at]) : 0;
            if (there && (byte & 0xc0) != 0x80) return verdict::bad;
            low = low << 6 | (there ? byte & 0x3f : 0);
            high = high << 6 | (there ? byte & 0x3f : 0x3f);
            at += there;
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (high < least[more] || low > 0x10ffff || (low >= 0xd800 && high <= 0xdfff)) return verdict::bad;
        if (low != high) return verdict::cut;
    }
    return verdict::whole;
}

void require(bool condition) {
    if (!condition) abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 512) return 0;
    view text(reinterpret_cast<const char *>(data), size);
    uint8_t all = utf8_step(utf8_start, text);
    require(utf8_valid(text) == (judge(text) == verdict::whole));
    uint8_t stepped = utf8_start;
    for (size_t cut = 0; cut <= size; cut++) {
        uint8_t before = utf8_step(utf8_start, text.substr(0, cut));
        switch (judge(text.substr(0, cut))) {
        case verdict::whole:
            require(before == utf8_start);
            break;
        case verdict::cut:
            require(before != utf8_start && before != utf8_bad);
            break;
        case verdict::bad:
            require(before == utf8_bad);
            break;
        }
        require(stepped == before);
        require(utf8_step(before, text.substr(cut)) == all);
        if (cut < size) stepped = utf8_step(stepped, text.substr(cut, 1));
    }
    return 0;
}
