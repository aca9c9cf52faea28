// Which names rooms may have, and how the patterns of [room] sections match them.
// Owns nothing; pure; any thread.
#include "proto/room_name.h"

#include "proto/utf8.h"

#include <stdint.h>

namespace belfry {

namespace {

// The character that begins at name[*at], behind which *at then points. The name is valid UTF-8, so the lead byte
// tells the length and every byte that it promises is there.
uint32_t next_character(view name, size_t *at) {
    uint8_t lead = static_cast<uint8_t>(name[(*at)++]);
    if (lead < 0x80) return lead;
    int more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    uint32_t character = lead & (0x3fu >> more);
    for (; more > 0; more--)
        character = character << 6 | (static_cast<uint8_t>(name[(*at)++]) & 0x3fu);
    return character;
}

// C0, DEL and C1 (general category Cc).
bool is_control(uint32_t character) {
    return character < 0x20 || (character >= 0x7f && character <= 0x9f);
}

// The property White_Space of Unicode's PropList.txt, without the controls among it (U+0009 to U+000D, U+0085),
// which is_control names first. Format characters such as U+200B and U+FEFF do not have the property.
bool is_white_space(uint32_t character) {
    switch (character) {
    case 0x0020: // space
    case 0x00a0: // no-break space
    case 0x1680: // ogham space mark
    case 0x2028: // line separator
    case 0x2029: // paragraph separator
    case 0x202f: // narrow no-break space
    case 0x205f: // medium mathematical space
    case 0x3000: // ideographic space
        return true;
    default:
        return character >= 0x2000 && character <= 0x200a; // en quad to hair space
    }
}

} // namespace

const char *room_name_check(view name) {
    if (name.empty()) return "a room name may not be empty";
    if (name.size() > room_name_max) return "a room name may not be longer than 255 bytes";
    if (!utf8_valid(name)) return "a room name must be valid UTF-8";
    for (size_t at = 0; at < name.size();) {
        uint32_t character = next_character(name, &at);
        if (is_control(character)) return "a room name may not contain control characters";
        if (is_white_space(character)) return "a room name may not contain white space";
    }
    return nullptr;
}

// What stands behind the last star must end the name, so that is compared once; a pattern with one star is thereby
// done in linear time. The rest ends in a star. Where a byte of it does not fit, the latest star takes one byte more.
// Going back to that star alone is enough: an earlier star that took more could only leave less of the name to the
// rest of the pattern. So there is no recursion and no exponential case.
bool room_pattern_match(view pattern, view name) {
    size_t last_star = pattern.rfind('*');
    if (last_star == view::npos) return pattern == name;
    view tail = pattern.substr(last_star + 1);
    if (!name.ends_with(tail)) return false;
    name.remove_suffix(tail.size());
    pattern.remove_suffix(tail.size());

    size_t in_pattern = 0, in_name = 0;
    size_t behind_star = 0; // in the pattern: where the text behind the latest star begins; 0: no star yet
    size_t star_end = 0;    // in the name: where the run that the star took ends
    while (in_name < name.size()) {
        if (pattern[in_pattern] == '*') {
            behind_star = ++in_pattern;
            star_end = in_name;
            if (in_pattern == pattern.size()) return true; // the last star takes all that is left
        } else if (pattern[in_pattern] == name[in_name]) {
            in_pattern++;
            in_name++;
        } else if (behind_star > 0) {
            in_pattern = behind_star;
            in_name = ++star_end;
        } else {
            return false;
        }
    }
    return pattern.find_first_not_of('*', in_pattern) == view::npos;
}

} // namespace belfry
