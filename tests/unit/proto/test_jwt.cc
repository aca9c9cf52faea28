// JSON Web Tokens: the form, the header, the claims, and that nothing of a token is believed before its signature.
// Real keys but HMAC's are in net/test_signing_keys.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "jwt_harness.h"
#include "proto/jwt.h"

#include <string.h>
#include <string>

using namespace belfry;

namespace {

constexpr uint64_t now_ms = 1'700'000'000'000;
constexpr char header[] = R"({"alg":"HS256","typ":"JWT"})";
const std::string secret(32, 's');

// A verifier of HMAC with one secret, which keeps count and what it was asked.
struct keeper {
    std::string secret;
    bool trusting = false; // says yes to any signature
    bool has = true;
    int verified = 0;
    jwt_algorithm algorithm = jwt_algorithm::hs256;
    std::string kid;
};

json_reader *reader;
keeper keys;
jwt_options options;
jwt_claims claims;
const char *why;

bool keeper_has(void *context, jwt_algorithm, view) {
    return static_cast<keeper *>(context)->has;
}

bool keeper_verify(void *context, jwt_algorithm algorithm, view kid, view signed_part, view signature) {
    keeper *k = static_cast<keeper *>(context);
    k->verified++;
    k->algorithm = algorithm;
    k->kid = kid;
    uint8_t wanted[hmac_sha256_size];
    hmac_sha256(k->secret, signed_part, wanted);
    return k->trusting || view(reinterpret_cast<char *>(wanted), sizeof wanted) == signature;
}

const jwt_verifier verifier = {&keys, keeper_has, keeper_verify};

int setup(void **) {
    reader = json_reader_new();
    keys = {};
    keys.secret = secret;
    options = {};
    options.algorithms = jwt_algorithm_bit(jwt_algorithm::hs256);
    claims = {};
    claims.subject = "untouched";
    why = nullptr;
    return 0;
}

int teardown(void **) {
    json_reader_free(reader);
    keys = {};
    options = {};
    claims = {};
    return 0;
}

jwt_result check(const std::string &token, uint64_t at_ms = now_ms) {
    why = nullptr;
    // A copy of exactly the token's size, so that a sanitizer sees a byte read behind it.
    char *copy = static_cast<char *>(malloc(token.size() + 1));
    memcpy(copy, token.data(), token.size());
    const jwt_result result = jwt_check(reader, view(copy, token.size()), &options, at_ms, &verifier, &claims, &why);
    free(copy);
    return result;
}

jwt_result check_payload(const std::string &payload, uint64_t at_ms = now_ms) {
    return check(hs256_token(header, payload, secret), at_ms);
}

jwt_result check_header(const std::string &head) {
    return check(hs256_token(head, R"({"exp":1700000100})", secret));
}

void expect(jwt_result got, jwt_result wanted, const char *about) {
    if (got != wanted) fail_msg("%s: %s instead of %s", about, jwt_result_name(got), jwt_result_name(wanted));
    if ((got == jwt_result::ok) != (why == nullptr)) fail_msg("%s: a reason goes with a refusal alone", about);
}

// ---- RFC 7515

void appendix_a1(void **) {
    keys.secret = from_base64url(rfc7515_a1_key);
    expect(check(rfc7515_a1_token, rfc7515_expires_ms - 1), jwt_result::ok, "A.1");
    assert_true(claims.expires);
    assert_int_equal(claims.expires_ms, rfc7515_expires_ms);
    assert_string_equal(claims.subject.c_str(), "");
    assert_false(claims.has_rooms);
    assert_string_equal(claims.payload.c_str(), "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n "
                                                "\"http://example.com/is_root\":true}");
    claims.subject = "untouched";
    expect(check(rfc7515_a1_token), jwt_result::expired, "A.1 today");
    assert_string_equal(claims.subject.c_str(), "untouched");
}

void appendix_a5_none(void **) {
    keys.trusting = true;
    expect(check(std::string("eyJhbGciOiJub25lIn0.") + rfc7515_payload + ".", rfc7515_expires_ms - 1),
           jwt_result::algorithm, "A.5");
    for (const char *name : {"none", "None", "NONE", "nOnE", "hs256", "HS256 ", "HS384", "RS512", "PS256", "Ed25519"}) {
        expect(check_header(std::string(R"({"alg":")") + name + R"("})"), jwt_result::algorithm, name);
    }
    assert_int_equal(keys.verified, 0);
}

void each_bit_of_a_token_counts(void **) {
    const std::string good = hs256_token(header, R"({"exp":1700000100,"sub":"u"})", secret);
    expect(check(good), jwt_result::ok, "as it was signed");
    const size_t first = good.find('.');
    for (size_t at = 0; at < good.size(); at++) {
        for (char other : {'A', 'Q', '_', '.', '=', '\0', '\xff'}) {
            std::string bad = good;
            if (bad[at] == other) continue;
            bad[at] = other;
            const jwt_result result = check(bad);
            if (result == jwt_result::ok) fail_msg("byte %zu as %d was good", at, other);
            // What stands behind the header can break the form or the signature, and nothing else.
            if (at > first && result != jwt_result::malformed) expect(result, jwt_result::signature, "altered");
        }
    }
}

void claims_wait_for_the_signature(void **) {
    for (const char *payload : {"no JSON", R"({"exp":1})", R"({"exp":"x"})", "{}", R"({"exp":1700000100,"rooms":7})"}) {
        const std::string token = hs256_token(header, payload, "another secret");
        expect(check(token), jwt_result::signature, payload);
    }
    keys.has = false;
    expect(check_payload(R"({"exp":1})"), jwt_result::key, "without a key");
    assert_int_equal(keys.verified, 5);
}

// ---- form

void three_parts_of_base64url(void **) {
    keys.trusting = true;
    const std::string head = base64url(header), body = base64url(R"({"exp":1700000100})");
    expect(check(head + "." + body + "."), jwt_result::ok, "an empty signature is for the verifier to refuse");
    for (const std::string &bad : {std::string(""),
                                   std::string("."),
                                   std::string(".."),
                                   std::string("..."),
                                   head,
                                   head + ".",
                                   head + "." + body,
                                   head + "." + body + ".AA.AA",
                                   head + "." + body + ".AA.",
                                   "." + body + ".AA",
                                   head + "..AA",
                                   "." + head + "." + body,
                                   head + "=." + body + ".AA",
                                   head + "." + body + "=.AA",
                                   head + "." + body + ".AA==",
                                   head + "." + body + ".A",
                                   head + "." + body + ".AB",
                                   head + "." + body + ".A+",
                                   " " + head + "." + body + ".AA",
                                   head + "." + body + ".AA\n",
                                   head + ". " + body + ".AA"}) {
        expect(check(bad), jwt_result::malformed, bad.c_str());
    }
}

// A payload of `bytes` bytes.
std::string long_payload(size_t bytes) {
    const std::string begin = R"({"exp":1700000100,"pad":")";
    return begin + std::string(bytes - begin.size() - 2, 'x') + "\"}";
}

void eight_kilobytes_and_no_more(void **) {
    const char *head = R"({"alg":"HS256"})"; // 20 characters; 43 the signature
    const std::string most = hs256_token(head, long_payload(6095), secret);
    assert_int_equal(most.size(), jwt_size_max);
    expect(check(most), jwt_result::ok, "8192 bytes");
    assert_int_equal(claims.payload.size(), 6095);
    const std::string more = hs256_token(head, long_payload(6096), secret);
    assert_int_equal(more.size(), jwt_size_max + 1);
    keys.verified = 0;
    expect(check(more), jwt_result::malformed, "8193 bytes");
    assert_string_equal(why, "token too large");
    assert_int_equal(keys.verified, 0);
    // Each part may be the large one.
    keys.trusting = true;
    expect(check(base64url(header) + "." + base64url(R"({"exp":1700000100})") + "." + std::string(8000, 'A')),
           jwt_result::ok, "a large signature");
    expect(check(unsigned_token(R"({"alg":"HS256","x":")" + std::string(5900, 'x') + "\"}", R"({"exp":1700000100})") +
                 "."),
           jwt_result::ok, "a large header");
}

// ---- header

void headers_that_are_taken(void **) {
    for (const char *head :
         {R"({"alg":"HS256"})", R"({"alg":"HS256","typ":"at+jwt"})", R"({"alg":"HS256","cty":"JWT"})",
          R"( { "alg" : "HS256" } )", R"({"alg":"\u0048S256"})",
          // What the token says about keys and packing is as if it were not there.
          R"({"alg":"HS256","jku":"https://evil.example/","jwk":{"kty":"oct","k":"AA"},"x5u":1,"x5c":[],"zip":"DEF"})"})
        expect(check_header(head), jwt_result::ok, head);
    assert_string_equal(keys.kid.c_str(), "");
    expect(check_header(R"({"alg":"HS256","kid":"a\u0062c"})"), jwt_result::ok, "kid");
    assert_string_equal(keys.kid.c_str(), "abc");
}

void headers_that_are_refused(void **) {
    for (const char *head : {"",
                             "{}",
                             "[]",
                             "null",
                             R"("HS256")",
                             R"({"alg":"HS256")",
                             R"({"alg":"HS256"}})",
                             R"({"alg":null})",
                             R"({"alg":["HS256"]})",
                             R"({"alg":""})",
                             R"({"alg":"HS256","alg":"HS256"})",
                             R"({"alg":"none","alg":"HS256"})",
                             R"({"alg":"HS256","\u0061lg":"none"})",
                             R"({"alg":"HS256","crit":["exp"],"exp":1})",
                             R"({"alg":"HS256","crit":[]})",
                             R"({"alg":"HS256","b64":false,"crit":["b64"]})",
                             R"({"alg":"HS256","b64":true})",
                             R"({"alg":"HS256","kid":7})",
                             R"({"alg":"HS256","kid":""})",
                             R"({"alg":"HS256","kid":null})",
                             R"({"alg":"HS256","kid":"\ud800"})",
                             R"({"alg":"HS256","typ":1})"})
        expect(check_header(head), jwt_result::malformed, head);
    expect(check(hs256_token("{\"alg\":\"HS256\xff\"}", R"({"exp":1700000100})", secret)), jwt_result::malformed,
           "UTF-8");
    assert_int_equal(keys.verified, 0);
}

void an_algorithm_must_be_accepted(void **) {
    keys.trusting = true;
    const jwt_algorithm all[] = {jwt_algorithm::hs256, jwt_algorithm::rs256, jwt_algorithm::es256,
                                 jwt_algorithm::eddsa};
    const char *names[] = {"HS256", "RS256", "ES256", "EdDSA"};
    for (size_t accepted = 0; accepted < 4; accepted++) {
        options.algorithms = jwt_algorithm_bit(all[accepted]);
        for (size_t i = 0; i < 4; i++) {
            const std::string head = std::string(R"({"alg":")") + names[i] + "\"}";
            expect(check_header(head), i == accepted ? jwt_result::ok : jwt_result::algorithm, names[i]);
        }
        assert_int_equal(keys.algorithm, all[accepted]);
    }
    assert_int_equal(keys.verified, 4);
    options.algorithms = 0;
    expect(check_header(header), jwt_result::algorithm, "none is accepted by itself");
}

// ---- dates

void a_token_is_good_up_to_exp(void **) {
    expect(check_payload(R"({"exp":1700000000})"), jwt_result::expired, "at exp");
    expect(check_payload(R"({"exp":1700000000})", now_ms - 1), jwt_result::ok, "just before");
    expect(check_payload(R"({"exp":1700000000.5})", now_ms + 499), jwt_result::ok, "within the fraction");
    assert_int_equal(claims.expires_ms, now_ms + 500);
    expect(check_payload(R"({"exp":1700000000.5})", now_ms + 500), jwt_result::expired, "at the fraction");
    expect(check_payload(R"({"exp":1.7000001e9})"), jwt_result::ok, "with an exponent");
    assert_int_equal(claims.expires_ms, 1700000100'000);
    options.leeway = 30;
    expect(check_payload(R"({"exp":1699999971})"), jwt_result::ok, "within the leeway");
    assert_int_equal(claims.expires_ms, 1699999971'000); // the leeway is not in it
    expect(check_payload(R"({"exp":1699999970})"), jwt_result::expired, "at its end");
    options.leeway = INT64_MAX; // cut to a day, and nothing overflows
    expect(check_payload(R"({"exp":1699913601})"), jwt_result::ok, "a day");
    expect(check_payload(R"({"exp":1699913600})"), jwt_result::expired, "more than a day");
    options.leeway = INT64_MIN;
    expect(check_payload(R"({"exp":1700000001})"), jwt_result::ok, "a negative leeway is none");
}

void a_token_is_good_from_nbf_on(void **) {
    expect(check_payload(R"({"exp":1700000100,"nbf":1700000000})"), jwt_result::ok, "at nbf");
    expect(check_payload(R"({"exp":1700000100,"nbf":1700000000})", now_ms - 1), jwt_result::early, "before");
    expect(check_payload(R"({"exp":1700000100,"nbf":-5})"), jwt_result::ok, "long ago");
    options.leeway = 10;
    expect(check_payload(R"({"exp":1700000100,"nbf":1700000010})"), jwt_result::ok, "within the leeway");
    expect(check_payload(R"({"exp":1700000100,"nbf":1700000011})"), jwt_result::early, "beyond it");
    // iat is only looked at for its form.
    expect(check_payload(R"({"exp":1700000100,"iat":1800000000})"), jwt_result::ok, "made in the future");
}

void a_token_must_expire_unless_told_otherwise(void **) {
    expect(check_payload("{}"), jwt_result::claims, "no exp");
    options.expiry_required = false;
    expect(check_payload("{}"), jwt_result::ok, "no exp needed");
    assert_false(claims.expires);
    expect(check_payload(R"({"exp":1})"), jwt_result::expired, "but respected");
    expect(check_payload(R"({"exp":null})"), jwt_result::claims, "null is no date");
}

void dates_that_are_none(void **) {
    for (const char *name : {"exp", "nbf", "iat"}) {
        for (const char *bad :
             {"\"1700000100\"", "null", "true", "[1700000100]", "{}", "1700000100000", "253402300800", "1e12", "1e300",
              "1e999", "-1e999", "1e-999", "-253402300800", "-1e300", "9223372036854775807", "-9223372036854775808",
              "9223372036854775808", "99999999999999999999999999999999999999999999", "253402300799.5"}) {
            const std::string payload = std::string(R"({"x":1,")") + name + "\":" + bad + "}";
            options.expiry_required = false;
            expect(check_payload(payload), jwt_result::claims, payload.c_str());
        }
    }
    // JSON knows no such numbers.
    for (const char *bad : {"NaN", "Infinity", "-Infinity", "0x7fffffff", "+1700000100", "01700000100", "1700000100."})
        expect(check_payload(std::string(R"({"exp":)") + bad + "}"), jwt_result::malformed, bad);
    expect(check_payload(R"({"exp":253402300799})"), jwt_result::ok, "the last second of 9999");
    assert_int_equal(claims.expires_ms, 253402300799'000);
    for (const char *old : {"-1", "0", "-0", "-0.0", "0.001", "-253402300799", "1e-300"})
        expect(check_payload(std::string(R"({"exp":)") + old + "}"), jwt_result::expired, old);
    // Where the clock stands at the beginning, a date before it is not taken for one far in the future.
    options.leeway = 10;
    expect(check_payload(R"({"exp":-5})", 0), jwt_result::ok, "before 1970, within the leeway");
    assert_true(claims.expires);
    assert_int_equal(claims.expires_ms, 0);
}

// ---- issuer and audience

void the_issuer_must_be_the_one(void **) {
    expect(check_payload(R"({"exp":1700000100,"iss":"anybody"})"), jwt_result::ok, "not asked for");
    expect(check_payload(R"({"exp":1700000100,"iss":5})"), jwt_result::claims, "a number");
    options.issuer = "https://id.example";
    expect(check_payload(R"({"exp":1700000100,"iss":"https:\/\/id.example"})"), jwt_result::ok, "it");
    for (const char *bad :
         {R"({"exp":1700000100})", R"({"exp":1700000100,"iss":""})",
          R"({"exp":1700000100,"iss":"https://id.example/"})", R"({"exp":1700000100,"iss":"https://id.exampl"})",
          R"({"exp":1700000100,"iss":"HTTPS://id.example"})", R"({"exp":1700000100,"iss":"https://id.example\u0000"})"})
        expect(check_payload(bad), jwt_result::issuer, bad);
    expect(check_payload(R"({"exp":1700000100,"iss":["https://id.example"]})"), jwt_result::claims, "an array");
}

void one_audience_must_be_ours(void **) {
    expect(check_payload(R"({"exp":1700000100,"aud":"anybody"})"), jwt_result::ok, "not asked for");
    options.audiences = {"chat", "news"};
    for (const char *good : {R"("chat")", R"("news")", R"(["x","news"])", R"(["ch\u0061t"])", R"(["x\n","chat","y"])"})
        expect(check_payload(std::string(R"({"exp":1700000100,"aud":)") + good + "}"), jwt_result::ok, good);
    for (const char *bad : {R"("cha")", R"("chat2")", R"("")", "[]", R"(["x","y"])", R"(["Chat"])"})
        expect(check_payload(std::string(R"({"exp":1700000100,"aud":)") + bad + "}"), jwt_result::audience, bad);
    expect(check_payload(R"({"exp":1700000100})"), jwt_result::audience, "none");
    for (const char *bad : {"7", "null", R"({"chat":1})", R"(["chat",7])", R"([["chat"]])", R"(["chat","\ud800"])"})
        expect(check_payload(std::string(R"({"exp":1700000100,"aud":)") + bad + "}"), jwt_result::claims, bad);
    std::string many = R"(["chat")";
    for (size_t i = 1; i < jwt_audiences_max; i++)
        many += R"(,"x")";
    expect(check_payload(R"({"exp":1700000100,"aud":)" + many + "]}"), jwt_result::ok, "64");
    expect(check_payload(R"({"exp":1700000100,"aud":)" + many + R"(,"x"]})"), jwt_result::claims, "65");
    // The dates come first: who is refused for the audience would have been in time.
    expect(check_payload(R"({"exp":1,"aud":"x"})"), jwt_result::expired, "expired, and for others");
}

// ---- what is granted

void the_user(void **) {
    expect(check_payload(R"({"exp":1700000100,"sub":"auth0|\u00fc5"})"), jwt_result::ok, "sub");
    assert_string_equal(claims.subject.c_str(), "auth0|\xc3\xbc"
                                                "5");
    const std::string longest(249, 'u');
    expect(check_payload(R"({"exp":1700000100,"sub":")" + longest + "\"}"), jwt_result::ok, "249 bytes");
    assert_string_equal(claims.subject.c_str(), longest.c_str());
    for (const std::string &bad : {std::string("7"), std::string("null"), std::string("\"\""), std::string("\"a b\""),
                                   std::string(R"("a\u0000")"), std::string(R"("a\r\n")"), std::string(R"("\udc00")"),
                                   std::string("[\"a\"]"), "\"u" + longest + "\""})
        expect(check_payload(R"({"exp":1700000100,"sub":)" + bad + "}"), jwt_result::claims, bad.c_str());
}

void rooms_for_both(void **) {
    expect(check_payload(R"({"exp":1700000100,"sub":"a","rooms":["chat:*","l\u00f6bby"]})"), jwt_result::ok, "array");
    assert_true(claims.has_rooms);
    for (const std::vector<std::string> *list : {&claims.join, &claims.publish}) {
        assert_int_equal(list->size(), 2);
        assert_string_equal((*list)[0].c_str(), "chat:*");
        assert_string_equal((*list)[1].c_str(), "l\xc3\xb6"
                                                "bby");
    }
    expect(check_payload(R"({"exp":1700000100,"rooms":[]})"), jwt_result::ok, "none at all");
    assert_true(claims.has_rooms);
    assert_int_equal(claims.join.size() + claims.publish.size(), 0); // nor any of the last token's
    assert_string_equal(claims.subject.c_str(), "");
}

void rooms_for_each(void **) {
    expect(check_payload(R"({"rooms":{"join":["a","b"],"publish":["\u0063"],"more":7},"exp":1700000100,"sub":"x"})"),
           jwt_result::ok, "object");
    assert_int_equal(claims.join.size(), 2);
    assert_string_equal(claims.join[1].c_str(), "b");
    assert_int_equal(claims.publish.size(), 1);
    assert_string_equal(claims.publish[0].c_str(), "c");
    assert_string_equal(claims.subject.c_str(), "x");
    expect(check_payload(R"({"exp":1700000100,"rooms":{"join":["*"]}})"), jwt_result::ok, "join alone");
    assert_int_equal(claims.publish.size(), 0);
    expect(check_payload(R"({"exp":1700000100,"rooms":{}})"), jwt_result::ok, "neither");
    assert_true(claims.has_rooms);
}

void rooms_that_are_refused(void **) {
    for (const char *bad :
         {"7", "null", R"("chat")", R"([7])", R"(["a",["b"]])", R"([""])", R"(["@all"])", R"(["a","@user:*"])",
          R"(["\u0040conn:x"])", R"(["a b"])", R"(["a\n"])", R"(["\ud800"])", R"({"join":"a"})", R"({"join":[1]})",
          R"({"publish":["@all"]})", R"({"join":[],"publish":null})", R"({"join":["a"],"join":["b"]})"}) {
        expect(check_payload(std::string(R"({"exp":1700000100,"rooms":)") + bad + "}"), jwt_result::claims, bad);
    }
    expect(check_payload(R"({"exp":1700000100,"rooms":[")" + std::string(256, 'r') + "\"]}"), jwt_result::claims,
           "256");
    std::string many = "[\"r\"";
    for (size_t i = 1; i < jwt_patterns_max; i++)
        many += ",\"r\"";
    expect(check_payload(R"({"exp":1700000100,"rooms":{"join":)" + many + R"(],"publish":)" + many + "]}}"),
           jwt_result::ok, "64 each");
    assert_int_equal(claims.join.size(), 64);
    expect(check_payload(R"({"exp":1700000100,"rooms":)" + many + ",\"r\"]}"), jwt_result::claims, "65");
}

void info_is_passed_on_verbatim(void **) {
    expect(check_payload(R"({"exp":1700000100,"info": {"n" : 1.50,"t":"\u00fc"} })"), jwt_result::ok, "object");
    assert_string_equal(claims.info.c_str(), R"({"n" : 1.50,"t":"\u00fc"})");
    expect(check_payload(R"({"exp":1700000100,"info":null})"), jwt_result::ok, "null");
    assert_string_equal(claims.info.c_str(), "null");
    expect(check_payload(R"({"exp":1700000100})"), jwt_result::ok, "none");
    assert_string_equal(claims.info.c_str(), "");
    const std::string most(1022, 'i');
    expect(check_payload(R"({"exp":1700000100,"info":")" + most + "\"}"), jwt_result::ok, "1024");
    assert_int_equal(claims.info.size(), 1024);
    expect(check_payload(R"({"exp":1700000100,"info":"i)" + most + "\"}"), jwt_result::claims, "1025");
}

void payloads_that_are_no_claims(void **) {
    for (const char *bad : {"", "null", "[]", "7", "Example of Ed25519 signing", R"({"exp":1700000100)",
                            R"({"exp":1700000100}x)", R"({"exp":1,"exp":1700000100})",
                            R"({"exp":1700000100,"sub":"a","s\u0075b":"b"})", R"({"exp":1700000100,"x":tru})"})
        expect(check_payload(bad), jwt_result::malformed, bad);
    expect(check_payload("{\"exp\":1700000100,\"x\":\"\xff\"}"), jwt_result::malformed, "UTF-8");
}

void no_reason_quotes_the_token(void **) {
    options.issuer = "wanted";
    for (const char *payload : {R"({"exp":"canary"})", R"({"exp":1700000100,"iss":"canary"})", "canary",
                                R"({"exp":1700000100,"iss":"wanted","sub":"canary canary"})",
                                R"({"exp":1700000100,"iss":"wanted","rooms":["@canary"]})"}) {
        assert_int_not_equal(check_payload(payload), jwt_result::ok);
        assert_null(strstr(why, "canary"));
        assert_null(strstr(why, base64url(payload).c_str()));
    }
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        TEST(appendix_a1),
        TEST(appendix_a5_none),
        TEST(each_bit_of_a_token_counts),
        TEST(claims_wait_for_the_signature),
        TEST(three_parts_of_base64url),
        TEST(eight_kilobytes_and_no_more),
        TEST(headers_that_are_taken),
        TEST(headers_that_are_refused),
        TEST(an_algorithm_must_be_accepted),
        TEST(a_token_is_good_up_to_exp),
        TEST(a_token_is_good_from_nbf_on),
        TEST(a_token_must_expire_unless_told_otherwise),
        TEST(dates_that_are_none),
        TEST(the_issuer_must_be_the_one),
        TEST(one_audience_must_be_ours),
        TEST(the_user),
        TEST(rooms_for_both),
        TEST(rooms_for_each),
        TEST(rooms_that_are_refused),
        TEST(info_is_passed_on_verbatim),
        TEST(payloads_that_are_no_claims),
        TEST(no_reason_quotes_the_token),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
