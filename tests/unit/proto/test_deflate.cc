// Tests of proto/deflate: RFC 7692's examples as bytes, sizes and bounds, and against zlib used another way.
//
// One thread. What must be freed is static, because a failed assertion jumps past destructors.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/frame.h"
#include "proto/deflate.h"

#include <string.h>
#include <string>
#include <zlib.h>

using namespace belfry;
using std::string;

namespace {

deflater *packer;
inflater *unpacker;
buffer packed, unpacked;

int setup(void **) {
    packer = deflater_new(0);
    unpacker = inflater_new();
    return 0;
}

int teardown(void **) {
    deflater_free(packer);
    inflater_free(unpacker);
    buffer_free(&packed);
    buffer_free(&unpacked);
    return 0;
}

void inflates_to(view payload, view want, size_t limit = 1 << 20) {
    assert_int_equal(static_cast<int>(inflate_message(unpacker, payload, limit, &unpacked)),
                     static_cast<int>(inflate_result::ok));
    assert_int_equal(unpacked.size, want.size());
    if (!want.empty()) assert_memory_equal(unpacked.data, want.data(), want.size());
    assert_true(unpacked.capacity >= unpacked.size + frame_padding);
}

void fails(view payload, inflate_result want, size_t limit = 1 << 20) {
    assert_int_equal(static_cast<int>(inflate_message(unpacker, payload, limit, &unpacked)), static_cast<int>(want));
    inflates_to({"\xf2\x48\xcd\xc9\xc9\x07\x00", 7}, "Hello"); // nothing of it stays
}

// Bytes that repeat nothing, or what a chat says.
string noise(size_t n, uint32_t seed = 1) {
    string s;
    for (size_t i = 0; i < n; i++)
        s += static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
    return s;
}

string chat(size_t n) {
    static const char *const words[] = {"\"user\":", "\"price\":", "the ", "river ", "{", "}", ",", "null", "north "};
    string s;
    uint32_t seed = 7;
    while (s.size() < n) {
        seed = seed * 1664525 + 1013904223;
        s += words[(seed >> 16) % 9];
        s += std::to_string(seed >> 20);
    }
    s.resize(n);
    return s;
}

// zlib, one byte of output at a time, so that it goes by its window of 2^bits bytes and nothing else: what reaches
// further back is an error.
bool inflates_with_window(view payload, int bits, const string &want) {
    string in(payload);
    in += string("\0\0\xff\xff", 4);
    z_stream z = {};
    if (inflateInit2(&z, -bits) != Z_OK) return false;
    z.next_in = reinterpret_cast<Bytef *>(in.data());
    z.avail_in = static_cast<uInt>(in.size());
    string out;
    int result = Z_OK;
    while (result == Z_OK) {
        char byte;
        z.next_out = reinterpret_cast<Bytef *>(&byte);
        z.avail_out = 1;
        result = inflate(&z, Z_SYNC_FLUSH);
        if (!z.avail_out) out += byte;
    }
    inflateEnd(&z);
    return result == Z_BUF_ERROR && z.avail_in == 0 && out == want;
}

// ---------------------------------------------------------------- in

void examples_of_the_rfc(void **) {
    inflates_to({"\xf2\x48\xcd\xc9\xc9\x07\x00", 7}, "Hello");                          // 7.2.3.1
    inflates_to({"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11}, "Hello");         // 7.2.3.3: not compressed
    inflates_to({"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8}, "Hello");                      // 7.2.3.4: BFINAL
    inflates_to({"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13}, "Hello"); // 7.2.3.5: two blocks
    inflates_to({"\x00", 1}, "");                                                       // 7.2.3.6: empty
    fails({"\xf2\x00\x11\x00\x00", 5}, inflate_result::bad); // 7.2.3.2: the second message reaches into the first
}

void ends_of_messages(void **) {
    inflates_to("", "");
    inflates_to({"\xf3\x48\xcd\xc9\xc9\x07\x00", 7}, "Hello"); // ends with its BFINAL block: all of it is there
    inflates_to({"\x01", 1}, "");                              // the tail ends a stored BFINAL block
    inflates_to({"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", 14}, "HelloHello");
    string many;
    for (int i = 0; i < 1000; i++)
        many += string("\x03\x00", 2); // an empty BFINAL block
    inflates_to(many, "");
    inflates_to(many + string("\x00", 1), "");
}

// However the output fits the buffer that grows: also where a BFINAL block ends with the last byte of its room.
void ends_at_the_end_of_the_room(void **) {
    for (size_t n : {4095u, 4096u, 4097u, 8192u, 16384u}) {
        string text(n, 'a'), ended(200, 0);
        z_stream z = {};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = reinterpret_cast<Bytef *>(text.data());
        z.avail_in = static_cast<uInt>(n);
        z.next_out = reinterpret_cast<Bytef *>(ended.data());
        z.avail_out = static_cast<uInt>(ended.size());
        int result = deflate(&z, Z_FINISH);
        ended.resize(z.total_out);
        deflateEnd(&z);
        assert_int_equal(result, Z_STREAM_END);
        buffer_free(&unpacked);
        inflates_to(ended, text);
        inflates_to(ended, text, n);
        buffer_free(&unpacked);
        inflates_to(ended + string("\0", 1), text, n);
    }
}

void every_cut_is_noticed(void **) {
    string text = chat(300);
    assert_true(deflate_message(packer, deflate_wide, text, &packed));
    for (size_t n = 1; n < packed.size; n++)
        fails(buffer_view(&packed).substr(0, n), inflate_result::bad);
    inflates_to(buffer_view(&packed), text);
}

void garbage(void **) {
    fails("\x06", inflate_result::bad);                                           // a reserved type of block
    fails({"\x00\x05\x00\xfa\xfe", 5}, inflate_result::bad);                      // LEN and NLEN that do not fit
    fails({"\x62\x01\x02\x00", 4}, inflate_result::bad);                          // reaches back behind the beginning
    fails({"\xf3\x48\xcd\xc9\xc9\x07\x00\x06", 8}, inflate_result::bad);          // behind a BFINAL block
    fails({"\xf3\x48\xcd\xc9\xc9\x07\x00\x02\x11\x00", 10}, inflate_result::bad); // reaches back over BFINAL
    fails({"\x00\x01\x00\xfe\xff", 5}, inflate_result::bad); // a stored byte that the tail would have to give
    fails(noise(1000), inflate_result::bad);
}

void limits_of_output(void **) {
    string text = chat(5000);
    assert_true(deflate_message(packer, deflate_wide, text, &packed));
    inflates_to(buffer_view(&packed), text, 5000);
    fails(buffer_view(&packed), inflate_result::too_big, 4999);
    inflates_to("", "", 0);
    fails({"\xf2\x48\xcd\xc9\xc9\x07\x00", 7}, inflate_result::too_big, 4);
    fails({"\xf2\x48\xcd\xc9\xc9\x07\x00", 7}, inflate_result::too_big, 0);
}

// 100 MB of zeros in 100 KB: what is allocated goes by the limit.
void bombs(void **) {
    string zeros(100'000'000, '\0');
    assert_true(deflate_message(packer, deflate_wide, zeros, &packed));
    assert_true(packed.size < 500'000);
    buffer_free(&unpacked);
    for (size_t limit : {1u, 1000u, 65536u, 1000000u}) {
        assert_int_equal(static_cast<int>(inflate_message(unpacker, buffer_view(&packed), limit, &unpacked)),
                         static_cast<int>(inflate_result::too_big));
        assert_true(unpacked.size <= limit + 1);
        assert_true(unpacked.capacity <= 2 * limit + 2 * 4096 + frame_padding);
        buffer_free(&unpacked);
    }
}

// ---------------------------------------------------------------- out, and back

void sizes(void **) {
    for (deflate_window window : {deflate_wide, deflate_narrow})
        for (size_t n : {16u, 64u, 256u, 1024u, 4096u, 8192u, 16384u, 32768u, 65536u, 131072u, 1000000u}) {
            string text = n == 16 ? "aaaaaaaaaaaaaaaa" : chat(n);
            assert_true(deflate_message(packer, window, text, &packed));
            assert_true(packed.size < n);
            if (n >= 1024) assert_true(packed.size < n * 2 / 3);
            inflates_to(buffer_view(&packed), text);
            assert_true(inflates_with_window(buffer_view(&packed), window == deflate_wide ? 15 : 8, text));
        }
}

void bytes_of_a_message(void **) {
    assert_true(deflate_message(packer, deflate_wide, "HelloHelloHelloHello", &packed));
    assert_int_equal(packed.size, 10);
    // The literals of "Hello" as in the RFC's example, a match of length 15 and distance 5, the end of the block.
    assert_memory_equal(packed.data, "\xf2\x48\xcd\xc9\xc9\xf7\x40\x25\x00\x00", 10);
    char first[16];
    memcpy(first, packed.data, 10);
    assert_true(deflate_message(packer, deflate_wide, "HelloHelloHelloHello", &packed));
    assert_memory_equal(packed.data, first, 10); // the second time, too: there is no window that is taken over
}

void what_does_not_shrink_goes_plain(void **) {
    for (view plain : {view(""), view("a"), view("Hello"), view("abcdefgh")})
        assert_false(deflate_message(packer, deflate_wide, plain, &packed));
    for (size_t n : {100u, 10000u, 200000u}) {
        assert_false(deflate_message(packer, deflate_wide, noise(n), &packed));
        assert_false(deflate_message(packer, deflate_narrow, noise(n), &packed));
    }
    string text = chat(1000); // and the next is not troubled by it
    assert_true(deflate_message(packer, deflate_wide, text, &packed));
    inflates_to(buffer_view(&packed), text);
}

// server_max_window_bits=8: no distance above 256. 300 bytes of noise twice are out of reach, 200 are not.
void narrow_reaches_back_256_bytes_at_most(void **) {
    for (size_t n = 100; n <= 600; n++) {
        string text = noise(n) + noise(n);
        bool smaller = deflate_message(packer, deflate_narrow, text, &packed);
        if (n <= 200) assert_true(smaller);
        if (n > 256) assert_false(smaller);
        if (smaller) assert_true(inflates_with_window(buffer_view(&packed), 8, text));
        assert_true(deflate_message(packer, deflate_wide, text, &packed));
        assert_true(inflates_with_window(buffer_view(&packed), 15, text));
        if (n > 256) assert_false(inflates_with_window(buffer_view(&packed), 8, text)); // the check sees it
    }
}

void short_messages_are_not_tried(void **) {
    deflater_free(packer);
    packer = deflater_new(256);
    assert_false(deflater_tries(packer, 255));
    assert_true(deflater_tries(packer, 256));
}

void nothing_to_free(void **) {
    deflater_free(nullptr);
    inflater_free(nullptr);
}

#define with_both(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

} // namespace

int main() {
    const CMUnitTest tests[] = {
        with_both(examples_of_the_rfc),
        with_both(ends_of_messages),
        with_both(ends_at_the_end_of_the_room),
        with_both(every_cut_is_noticed),
        with_both(garbage),
        with_both(limits_of_output),
        with_both(bombs),
        with_both(sizes),
        with_both(bytes_of_a_message),
        with_both(what_does_not_shrink_goes_plain),
        with_both(narrow_reaches_back_256_bytes_at_most),
        with_both(short_messages_are_not_tried),
        cmocka_unit_test(nothing_to_free),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
