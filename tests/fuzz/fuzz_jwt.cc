// Fuzzes jwt_check with a verifier that takes every signature for good, so that the claims are reached.
//
// The first byte of the input chooses the options; behind it stands a token, or, where that byte's highest bit is set,
// HEADER NEWLINE PAYLOAD as plain text, from which the token is made: a fuzzer finds JSON in there, not in base64.
// What must hold:
// - a refusal has a reason and leaves the claims alone, and a good token has none;
// - no signature is asked for with an algorithm that is not accepted;
// - what is granted is fit for what it is used for: room names, other people's JSON, a date that was not over.
//
// One thread.
#include "base/frame.h"
#include "proto/jwt.h"
#include "proto/room_name.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

constexpr uint64_t now_ms = 1'700'000'000'000;
constexpr uint64_t date_max_ms = 253'402'300'799'000;

void require(bool holds) {
    if (!holds) abort();
}

struct asked {
    const jwt_options *options;
    view token;
    bool has = false;
    bool verified = false;
};

bool has_key(void *context, jwt_algorithm algorithm, view) {
    asked *a = static_cast<asked *>(context);
    require((a->options->algorithms & jwt_algorithm_bit(algorithm)) != 0);
    a->has = true;
    return true;
}

bool verify(void *context, jwt_algorithm, view, view signed_part, view signature) {
    asked *a = static_cast<asked *>(context);
    require(a->has && !a->verified);
    a->verified = true;
    require(signed_part.data() == a->token.data() && a->token[signed_part.size()] == '.');
    require(signature.size() <= jwt_size_max / 4 * 3);
    return true;
}

std::string base64url(view bytes) {
    std::string out(4 * ((bytes.size() + 2) / 3), '\0');
    out.resize(base64url_encode(bytes, out.data()));
    return out;
}

std::string make_token(view input) {
    const size_t newline = input.find('\n');
    if (newline == view::npos) return std::string(input);
    return base64url(input.substr(0, newline)) + "." + base64url(input.substr(newline + 1)) + ".c2ln";
}

void check_patterns(const std::vector<std::string> &patterns) {
    require(patterns.size() <= jwt_patterns_max);
    for (const std::string &pattern : patterns)
        require(room_name_check(pattern) == nullptr && !room_name_reserved(pattern));
}

void check_json(json_reader *reader, view text) {
    frame *copy = frame_copy(text);
    require(json_valid(reader, frame_view(copy)));
    frame_unref(copy);
}

void check_claims(json_reader *reader, const jwt_options *options, const jwt_claims *claims) {
    require(claims->subject.empty() || !room_name_check("@user:" + claims->subject));
    require(claims->expires || !options->expiry_required);
    require(!claims->expires || claims->expires_ms <= date_max_ms);
    require(!claims->expires || claims->expires_ms + static_cast<uint64_t>(options->leeway) * 1000 > now_ms);
    require(claims->has_rooms || claims->join.size() + claims->publish.size() == 0);
    check_patterns(claims->join);
    check_patterns(claims->publish);
    require(claims->info.size() <= jwt_info_max);
    if (!claims->info.empty()) check_json(reader, claims->info);
    require(claims->payload.size() <= jwt_size_max);
    check_json(reader, claims->payload);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_reader *reader = json_reader_new();
    if (size == 0) return 0;
    const uint8_t choice = data[0];
    const view input(reinterpret_cast<const char *>(data + 1), size - 1);
    const std::string token = (choice & 0x80) != 0 ? make_token(input) : std::string(input);
    jwt_options options;
    options.algorithms = choice & 15;
    options.expiry_required = (choice & 16) != 0;
    options.leeway = (choice & 16) != 0 ? 60 : 0;
    if ((choice & 32) != 0) options.issuer = "joe";
    if ((choice & 64) != 0) options.audiences = {"chat", "news"};
    asked a = {.options = &options, .token = token};
    const jwt_verifier verifier = {&a, has_key, verify};
    jwt_claims claims = {};
    claims.subject = "untouched";
    const char *why = nullptr;
    const jwt_result result = jwt_check(reader, token, &options, now_ms, &verifier, &claims, &why);
    require((result == jwt_result::ok) == (why == nullptr));
    require(jwt_result_name(result)[0] != '\0');
    require(a.verified || (result == jwt_result::malformed || result == jwt_result::algorithm));
    require(result == jwt_result::ok || claims.subject == "untouched");
    if (result == jwt_result::ok) check_claims(reader, &options, &claims);
    return 0;
}
