// Tests of proto/utf8: exactly the characters of RFC 3629, and refusal at the first byte that can't be mended.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "proto/utf8.h"

#include <stdlib.h>
#include <string.h>

using namespace belfry;

namespace {

// The state after each byte fed on its own; SIZE_MAX where no byte was refused, else the index of the first refused.
size_t first_refused(view bytes) {
    uint8_t state = utf8_start;
    for (size_t i = 0; i < bytes.size(); i++) {
        state = utf8_step(state, bytes.substr(i, 1));
        if (state == utf8_bad) return i;
    }
    return SIZE_MAX;
}

// RFC 3629 section 3, without any check.
size_t encode(uint32_t character, char out[4]) {
    if (character < 0x80) {
        out[0] = static_cast<char>(character);
        return 1;
    }
    size_t size = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        out[i] = static_cast<char>(0x80 | (character & 0x3f));
        character >>= 6;
    }
    static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
    out[0] = static_cast<char>(marks[size] | character);
    return size;
}

void every_scalar_is_valid_and_no_surrogate(void **) {
    for (uint32_t character = 0; character < 0x200000; character++) {
        char bytes[4];
        size_t size = encode(character, bytes);
        bool scalar = character <= 0x10ffff && !(character >= 0xd800 && character <= 0xdfff);
        if (utf8_valid(view(bytes, size)) != scalar) fail_msg("U+%04X", character);
        // Every proper beginning is a text cut inside a character.
        for (size_t cut = 1; scalar && cut < size; cut++) {
            uint8_t state = utf8_step(utf8_start, view(bytes, cut));
            if (state == utf8_start || state == utf8_bad) fail_msg("U+%04X cut at %zu", character, cut);
            if (utf8_step(state, view(bytes + cut, size - cut)) != utf8_start) fail_msg("U+%04X joined", character);
        }
    }
}

// Together with the test above, the counts say that nothing else is valid: there are as many valid sequences as
// characters of that length. Sequences that are valid as two shorter characters are not counted.
void nothing_else_is_valid(void **) {
    size_t one = 0, two = 0, three = 0, four = 0;
    for (int a = 0; a < 256; a++) {
        char bytes[4] = {static_cast<char>(a)};
        one += utf8_valid(view(bytes, 1));
        for (int b = 0; a >= 0x80 && b < 256; b++) {
            bytes[1] = static_cast<char>(b);
            two += utf8_valid(view(bytes, 2));
            if (utf8_valid(view(bytes, 2))) continue;
            for (int c = 0; c < 256; c++) {
                bytes[2] = static_cast<char>(c);
                three += utf8_valid(view(bytes, 3));
                if (utf8_valid(view(bytes, 3))) continue;
                for (int d : {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff}) {
                    bytes[3] = static_cast<char>(d);
                    four += utf8_valid(view(bytes, 4));
                }
            }
        }
    }
    assert_int_equal(one, 0x80);
    assert_int_equal(two, 0x800 - 0x80);
    assert_int_equal(three, 0x10000 - 0x800 - 0x800);
    assert_int_equal(four, 0x100000 / 64 * 2); // of the 64 possible last bytes 80..BF two were tried
}

void refused_at_the_earliest_byte(void **) {
    static const struct {
        const char *bytes;
        size_t size;
        size_t at;
    } cases[] = {
        {"\x80", 1, 0},                                                               // a continuation alone
        {"\xbf", 1, 0},                                                               //
        {"\xc0\x80", 2, 0},                                                           // overlong NUL
        {"\xc1\xbf", 2, 0},                                                           // overlong DEL
        {"\xc2\x41", 2, 1},                                                           // not continued
        {"\xc3\xc3", 2, 1},                                                           //
        {"\xe0\x80\x80", 3, 1},                                                       // overlong of three
        {"\xe0\x9f\xbf", 3, 1},                                                       // U+07FF in three
        {"\xed\xa0\x80", 3, 1},                                                       // U+D800
        {"\xed\xbf\xbf", 3, 1},                                                       // U+DFFF
        {"\xe2\x82\x28", 3, 2},                                                       //
        {"\xf0\x80\x80\x80", 4, 1},                                                   // overlong of four
        {"\xf0\x8f\xbf\xbf", 4, 1},                                                   // U+FFFF in four
        {"\xf4\x90\x80\x80", 4, 1},                                                   // U+110000
        {"\xf5\x80\x80\x80", 4, 0},                                                   // beyond, by its first byte
        {"\xf8\x88\x80\x80\x80", 5, 0},                                               // five bytes
        {"\xfe", 1, 0},                                                               //
        {"\xff", 1, 0},                                                               //
        {"\xf0\x9f\x92\x41", 4, 3},                                                   //
        {"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65", 16, 12}, // Autobahn 6.4.1
    };
    for (const auto &c : cases) {
        view bytes(c.bytes, c.size);
        assert_int_equal(first_refused(bytes), c.at);
        assert_int_equal(utf8_step(utf8_start, bytes.substr(0, c.at + 1)), utf8_bad);
        assert_int_not_equal(utf8_step(utf8_start, bytes.substr(0, c.at)), utf8_bad);
    }
}

// The words of eight ASCII bytes that are skipped at once must hide nothing, wherever the text begins and ends.
void a_bad_byte_is_found_at_every_place(void **) {
    for (size_t size = 1; size <= 40; size++) {
        char *exact = static_cast<char *>(malloc(size)); // AddressSanitizer sees a read behind it
        for (size_t at = 0; at < size; at++) {
            memset(exact, 'a', size);
            bool clean = utf8_valid(view(exact, size));
            exact[at] = static_cast<char>(0x80);
            bool found = utf8_step(utf8_start, view(exact, size)) == utf8_bad;
            if (!clean || !found) fail_msg("%zu of %zu", at, size);
        }
        free(exact);
    }
}

void the_state_is_carried_over_every_cut(void **) {
    // One, two, three and four bytes, the edges of each row of the table, and ASCII runs between them.
    static const char text[] = "plain ascii text \xc2\x80\xdf\xbf\xe0\xa0\x80\xec\xbf\xbf\xed\x9f\xbf\xee\x80\x80"
                               "more than eight \xef\xbf\xbf\xf0\x90\x80\x80\xf3\xbf\xbf\xbf\xf4\x8f\xbf\xbf end";
    view whole(text, sizeof text - 1);
    for (size_t i = 0; i <= whole.size(); i++)
        for (size_t j = i; j <= whole.size(); j++) {
            uint8_t state = utf8_step(utf8_start, whole.substr(0, i));
            state = utf8_step(state, whole.substr(i, j - i));
            assert_int_equal(utf8_step(state, whole.substr(j)), utf8_start);
        }
    assert_int_equal(first_refused(whole), SIZE_MAX);
}

void nothing_changes_nothing(void **) {
    assert_true(utf8_valid(view()));
    assert_true(utf8_valid(view("\0a\0", 3)));
    uint8_t inside = utf8_step(utf8_start, "\xe2");
    assert_int_equal(utf8_step(inside, view()), inside);
}

void bad_stays_bad(void **) {
    assert_int_equal(utf8_step(utf8_bad, "a"), utf8_bad);
    assert_int_equal(utf8_step(utf8_bad, view()), utf8_bad);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_is_valid_and_no_surrogate),
        cmocka_unit_test(nothing_else_is_valid),
        cmocka_unit_test(refused_at_the_earliest_byte),
        cmocka_unit_test(a_bad_byte_is_found_at_every_place),
        cmocka_unit_test(the_state_is_carried_over_every_cut),
        cmocka_unit_test(nothing_changes_nothing),
        cmocka_unit_test(bad_stays_bad),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
