// HMAC-SHA-256 against the test cases of RFC 4231 section 4.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/hmac.h"

#include <string>

using namespace belfry;

namespace {

std::string hex_of(view key, view data) {
    uint8_t out[hmac_sha256_size];
    hmac_sha256(key, data, out);
    std::string hex;
    for (uint8_t byte : out) {
        hex += "0123456789abcdef"[byte >> 4];
        hex += "0123456789abcdef"[byte & 15];
    }
    return hex;
}

struct vector {
    std::string key, data;
    const char *wanted;
};

std::string counting(int from, int to) {
    std::string out;
    for (int i = from; i <= to; i++)
        out += static_cast<char>(i);
    return out;
}

void the_vectors_of_rfc_4231(void **) {
    const vector vectors[] = {
        {std::string(20, '\x0b'), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {std::string(20, '\xaa'), std::string(50, '\xdd'),
         "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {counting(1, 25), std::string(50, '\xcd'), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
        {std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {std::string(131, '\xaa'),
         "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
         "hashed before being used by the HMAC algorithm.",
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    };
    for (const vector &v : vectors)
        assert_string_equal(hex_of(v.key, v.data).c_str(), v.wanted);
}

// Test case 5 gives the first 128 bits alone.
void the_truncated_vector(void **) {
    const std::string hex = hex_of(std::string(20, '\x0c'), "Test With Truncation");
    assert_string_equal(hex.substr(0, 32).c_str(), "a3b6167473100ee06e0c796c2955552b");
}

// Views of nothing, with null pointers in them.
void an_empty_key_and_empty_data(void **) {
    const char *wanted = "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad";
    assert_string_equal(hex_of("", "").c_str(), wanted);
    assert_string_equal(hex_of(view(), view()).c_str(), wanted);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_rfc_4231),
        cmocka_unit_test(the_truncated_vector),
        cmocka_unit_test(an_empty_key_and_empty_data),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
