// UTF-8 as a state machine of eight states: which bytes may come next, and where they lead.
// Owns nothing; pure; any thread. Wrong forms are refused by the range of a character's second byte (RFC 3629
// section 4), so the first byte that no continuation could mend is also the one that fails.
#include "proto/utf8.h"

#include <string.h>

namespace belfry {

namespace {

// Inside a character the next byte must lie in [low, high] and leads to `next`. The numbers are kept in ws_parser
// between reads. Row 0 is utf8_start, where the lead byte decides instead.
struct continuation {
    uint8_t low;
    uint8_t high;
    uint8_t next;
};

enum state : uint8_t {
    one_more = 1,
    two_more = 2,
    three_more = 3,
    after_e0 = 4, // below A0: overlong
    after_ed = 5, // above 9F: a surrogate
    after_f0 = 6, // below 90: overlong
    after_f4 = 7, // above 8F: beyond U+10FFFF
};

constexpr continuation continuations[] = {
    {1, 0, utf8_bad}, // never used: utf8_start
    {0x80, 0xbf, utf8_start}, {0x80, 0xbf, one_more}, {0x80, 0xbf, two_more}, {0xa0, 0xbf, one_more},
    {0x80, 0x9f, one_more},   {0x90, 0xbf, two_more}, {0x80, 0x8f, two_more},
};
constexpr uint8_t state_count = sizeof continuations / sizeof continuations[0];

// The state behind a first byte.
constexpr uint8_t lead(uint8_t byte) {
    if (byte < 0x80) return utf8_start;
    if (byte < 0xc2) return utf8_bad; // a stray continuation; C0 and C1 only begin overlong forms
    if (byte < 0xe0) return one_more;
    if (byte == 0xe0) return after_e0;
    if (byte == 0xed) return after_ed;
    if (byte < 0xf0) return two_more;
    if (byte == 0xf0) return after_f0;
    if (byte < 0xf4) return three_more;
    return byte == 0xf4 ? uint8_t{after_f4} : utf8_bad;
}

struct lead_table {
    uint8_t next[256];
};

constexpr lead_table make_leads() {
    lead_table table = {};
    for (int byte = 0; byte < 256; byte++)
        table.next[byte] = lead(static_cast<uint8_t>(byte));
    return table;
}

constexpr lead_table leads = make_leads();

// Where the first byte may be that is not ASCII: skips whole words only.
const char *skip_ascii(const char *at, const char *end) {
    constexpr uint64_t high_bits = 0x8080808080808080u;
    while (static_cast<size_t>(end - at) >= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        if (word & high_bits) break;
        at += sizeof word;
    }
    return at;
}

} // namespace

uint8_t utf8_step(uint8_t state, view bytes) {
    const char *at = bytes.data();
    const char *end = at + bytes.size();
    if (state >= state_count) return utf8_bad;
    while (at < end) {
        uint8_t byte = static_cast<uint8_t>(*at);
        if (state == utf8_start) {
            if (byte < 0x80) {
                at = skip_ascii(at, end);
                // Up to seven ASCII bytes in front of a character or of the end.
                while (at < end && static_cast<uint8_t>(*at) < 0x80)
                    at++;
                continue;
            }
            state = leads.next[byte];
        } else {
            const continuation *rule = &continuations[state];
            state = byte >= rule->low && byte <= rule->high ? rule->next : utf8_bad;
        }
        if (state == utf8_bad) return utf8_bad;
        at++;
    }
    return state;
}

} // namespace belfry
