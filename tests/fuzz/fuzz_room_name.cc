// Fuzz target of proto/room_name: the check against a list of forbidden byte sequences, the patterns against a matcher
// by dynamic programming. The first byte says how much of the input is the pattern, the rest is the name. One thread.
#include "proto/room_name.h"
#include "proto/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

using namespace belfry;

namespace {

void require(bool condition) {
    if (!condition) abort();
}

// As bytes, so that nothing is decoded: in valid UTF-8 no character's bytes can be found inside others.
bool has_forbidden(view name) {
    for (char c : name)
        if ((c >= 0 && c <= 0x20) || c == 0x7f) return true;
    for (int c1 = 0x80; c1 <= 0xa0; c1++) {
        char bytes[2] = {'\xc2', static_cast<char>(c1)};
        if (name.find(view(bytes, 2)) != view::npos) return true;
    }
    for (int i = 0x80; i <= 0x8a; i++) {
        char bytes[3] = {'\xe2', '\x80', static_cast<char>(i)};
        if (name.find(view(bytes, 3)) != view::npos) return true;
    }
    for (view space : {"\xe1\x9a\x80", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"})
        if (name.find(space) != view::npos) return true;
    return false;
}

// matches[j]: the pattern so far matches the first j bytes of the name.
bool match_slowly(view pattern, view name) {
    static bool matches[1024];
    memset(matches, 0, sizeof matches);
    matches[0] = true;
    for (char c : pattern) {
        if (c == '*') {
            for (size_t j = 1; j <= name.size(); j++)
                matches[j] = matches[j] || matches[j - 1];
        } else {
            for (size_t j = name.size(); j > 0; j--)
                matches[j] = matches[j - 1] && name[j - 1] == c;
            matches[0] = false;
        }
    }
    return matches[name.size()];
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 1000) return 0;
    view all(reinterpret_cast<const char *>(data) + 1, size - 1);
    view pattern = all.substr(0, data[0]);
    view name = all.substr(pattern.size());

    for (view text : {all, pattern, name}) {
        const char *why = room_name_check(text);
        bool fine = !text.empty() && text.size() <= room_name_max && utf8_valid(text) && !has_forbidden(text);
        require(fine == !why);
        require(!why || *why);
    }
    require(room_pattern_match(pattern, name) == match_slowly(pattern, name));
    require(room_pattern_match("*", name));
    require(room_pattern_match(name, name)); // a star in it matches itself
    return 0;
}
