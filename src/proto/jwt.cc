// Checks JSON Web Tokens: form, header, signature, dates, issuer and audience, then what the token grants.
// Owns nothing; the reader's thread. Everything in a token is a stranger's until the signature was found good; what
// comes behind that is still checked like a client's own words, for it goes into room names and into others' JSON.
#include "proto/jwt.h"

#include "base/frame.h"
#include "proto/room_name.h"

#include <algorithm>
#include <charconv>
#include <string.h>

namespace belfry {

namespace {

// The last second of the year 9999.
constexpr int64_t date_max = 253'402'300'799;
// `sub` must fit into the room name "@user:ID".
constexpr size_t subject_max = room_name_max - sizeof "@user:" + 1;

struct algorithm_row {
    view name;
    jwt_algorithm algorithm;
};

constexpr algorithm_row algorithms[] = {
    {"HS256", jwt_algorithm::hs256},
    {"RS256", jwt_algorithm::rs256},
    {"ES256", jwt_algorithm::es256},
    {"EdDSA", jwt_algorithm::eddsa},
};

// A token taken apart. The decoded parts stand in `bytes`, with what the JSON reader needs behind each.
struct parts {
    view signed_part; // of the token: header and payload as they were signed
    view header;
    view payload;
    view signature;
    char bytes[jwt_size_max / 4 * 3 + 2 * frame_padding];
};

struct checking {
    json_reader *reader; // borrowed
    const jwt_options *options;
    int64_t now; // milliseconds
    jwt_claims *out;
    const char **why;
};

jwt_result refuse(const checking *c, jwt_result result, const char *why) {
    *c->why = why;
    return result;
}

// Decodes one part to *at and moves that behind it and its padding.
bool decode_part(view text, char **at, view *out) {
    size_t size = 0;
    if (!base64url_decode(text, *at, &size)) return false;
    *out = view(*at, size);
    memset(*at + size, 0, frame_padding);
    *at += size + frame_padding;
    return true;
}

// RFC 7515 section 7.1: BASE64URL(header) '.' BASE64URL(payload) '.' BASE64URL(signature).
jwt_result split(const checking *c, view token, parts *out) {
    if (token.size() > jwt_size_max) return refuse(c, jwt_result::malformed, "token too large");
    const size_t first = token.find('.');
    const size_t second = first == view::npos ? first : token.find('.', first + 1);
    if (second == view::npos || token.find('.', second + 1) != view::npos)
        return refuse(c, jwt_result::malformed, "the token does not have three parts");
    out->signed_part = token.substr(0, second);
    char *at = out->bytes;
    if (!decode_part(token.substr(0, first), &at, &out->header) ||
        !decode_part(token.substr(first + 1, second - first - 1), &at, &out->payload))
        return refuse(c, jwt_result::malformed, "a part of the token is not base64url");
    // The signature is no JSON: the bytes behind it are not promised.
    size_t size = 0;
    if (!base64url_decode(token.substr(second + 1), at, &size))
        return refuse(c, jwt_result::malformed, "the token's signature is not base64url");
    out->signature = view(at, size);
    return jwt_result::ok;
}

// The string member `name`, or an empty view where it is absent. False where it is something else.
bool take_text(const json_object *object, view name, view *out) {
    const json_member *member = json_find(object, name);
    if (!member) return true;
    if (member->type != json_type::string || !member->text_valid) return false;
    *out = member->text;
    return true;
}

// *kid lives until the reader's next document.
jwt_result check_header(const checking *c, view header, jwt_algorithm *algorithm, view *kid) {
    json_object object;
    error ignored;
    if (!json_parse_object(c->reader, header, &object, &ignored))
        return refuse(c, jwt_result::malformed, "the token's header is not a JSON object with each member once");
    // Section 4.1.11: what is critical must be understood, and no extension is. RFC 7797's b64 is such a one, and is
    // refused without its crit too, because others would then read another payload.
    if (json_find(&object, "crit") || json_find(&object, "b64"))
        return refuse(c, jwt_result::malformed, "the token's header asks for an extension");
    view type;
    if (!take_text(&object, "typ", &type)) return refuse(c, jwt_result::malformed, "the token's typ must be a string");
    if (!take_text(&object, "kid", kid) || (kid->empty() && json_find(&object, "kid")))
        return refuse(c, jwt_result::malformed, "the token's kid must be a string that is not empty");
    view name;
    if (!take_text(&object, "alg", &name) || name.empty())
        return refuse(c, jwt_result::malformed, "the token's alg must be a string that is not empty");
    if (!jwt_algorithm_parse(name, algorithm))
        return refuse(c, jwt_result::algorithm, "the token's alg is none of HS256, RS256, ES256, EdDSA");
    if ((c->options->algorithms & jwt_algorithm_bit(*algorithm)) == 0)
        return refuse(c, jwt_result::algorithm, "the token's alg is not accepted here");
    return jwt_result::ok;
}

// ---- dates

// Milliseconds; false where the member is no NumericDate of the years that there are.
bool read_date(const json_member *member, int64_t *out) {
    if (member->type != json_type::number) return false;
    if (member->is_integer) {
        if (member->integer > date_max || member->integer < -date_max) return false;
        *out = member->integer * 1000;
        return true;
    }
    // from_chars knows no locale. JSON has no NaN and no infinity, and what no double can hold is an error here.
    double seconds = 0;
    const char *end = member->raw.data() + member->raw.size();
    const std::from_chars_result result = std::from_chars(member->raw.data(), end, seconds);
    if (result.ec != std::errc() || result.ptr != end) return false;
    constexpr double most = static_cast<double>(date_max);
    if (!(seconds <= most && seconds >= -most)) return false;
    *out = static_cast<int64_t>(seconds * 1000);
    return true;
}

jwt_result check_dates(const checking *c, const json_object *claims) {
    const struct {
        const char *name, *why;
    } rows[] = {
        {"exp", "exp must be a date in seconds since 1970"},
        {"nbf", "nbf must be a date in seconds since 1970"},
        {"iat", "iat must be a date in seconds since 1970"},
    };
    const json_member *members[3];
    int64_t dates[3] = {};
    for (size_t i = 0; i < 3; i++) {
        members[i] = json_find(claims, rows[i].name);
        if (members[i] && !read_date(members[i], &dates[i])) return refuse(c, jwt_result::claims, rows[i].why);
    }
    if (!members[0] && c->options->expiry_required)
        return refuse(c, jwt_result::claims, "exp is missing: a token must expire");
    const int64_t leeway = std::clamp<int64_t>(c->options->leeway, 0, jwt_leeway_max) * 1000;
    if (members[0] && c->now >= dates[0] + leeway) return refuse(c, jwt_result::expired, "the token has expired");
    if (members[1] && c->now < dates[1] - leeway) return refuse(c, jwt_result::early, "the token is not valid yet");
    c->out->expires = members[0] != nullptr;
    c->out->expires_ms = static_cast<uint64_t>(std::max<int64_t>(dates[0], 0));
    return jwt_result::ok;
}

// ---- issuer and audience

jwt_result check_issuer(const checking *c, const json_object *claims) {
    view issuer;
    if (!take_text(claims, "iss", &issuer)) return refuse(c, jwt_result::claims, "iss must be a string");
    if (!c->options->issuer.empty() && issuer != c->options->issuer)
        return refuse(c, jwt_result::issuer, "the token is from another issuer");
    return jwt_result::ok;
}

jwt_result check_audience(const checking *c, const json_object *claims) {
    const json_member *member = json_find(claims, "aud");
    view names[jwt_audiences_max];
    size_t count = 0;
    buffer scratch;
    bool fine = true;
    if (member && member->type == json_type::array) {
        buffer_reserve(&scratch, member->raw.size());
        fine = json_read_strings(member->raw, names, jwt_audiences_max, &count, &scratch) == nullptr;
    } else if (member) {
        fine = take_text(claims, "aud", &names[0]);
        count = 1;
    }
    const std::vector<std::string> &wanted = c->options->audiences;
    const bool meant = wanted.empty() || std::any_of(names, names + (fine ? count : 0), [&wanted](view name) {
                           return std::find(wanted.begin(), wanted.end(), name) != wanted.end();
                       });
    buffer_free(&scratch);
    if (!fine) return refuse(c, jwt_result::claims, "aud must be a string or an array of at most 64 strings");
    return meant ? jwt_result::ok : refuse(c, jwt_result::audience, "the token is for another audience");
}

// ---- what the token grants

jwt_result take_subject(const checking *c, const json_object *claims) {
    view subject;
    if (!take_text(claims, "sub", &subject)) return refuse(c, jwt_result::claims, "sub must be a string");
    if (!json_find(claims, "sub")) return jwt_result::ok;
    if (subject.size() > subject_max || room_name_check(subject))
        return refuse(c, jwt_result::claims, "sub must be 1 to 249 bytes without white space or control characters");
    c->out->subject = subject;
    return jwt_result::ok;
}

// An array of room patterns.
bool take_patterns(const json_member *member, std::vector<std::string> *out) {
    if (member->type != json_type::array) return false;
    view patterns[jwt_patterns_max];
    size_t count = 0;
    buffer scratch;
    buffer_reserve(&scratch, member->raw.size());
    bool fine = json_read_strings(member->raw, patterns, jwt_patterns_max, &count, &scratch) == nullptr;
    for (size_t i = 0; fine && i < count; i++) {
        fine = !room_name_check(patterns[i]) && !room_name_reserved(patterns[i]);
        out->emplace_back(patterns[i]);
    }
    buffer_free(&scratch);
    return fine;
}

jwt_result take_rooms(const checking *c, const json_object *claims) {
    static constexpr char rule[] = "rooms must be an array, or an object with the arrays join and publish, of at most "
                                   "64 room patterns that do not begin with @";
    const json_member *rooms = json_find(claims, "rooms");
    if (!rooms) return jwt_result::ok;
    c->out->has_rooms = true;
    if (rooms->type == json_type::array) {
        if (!take_patterns(rooms, &c->out->join)) return refuse(c, jwt_result::claims, rule);
        c->out->publish = c->out->join;
        return jwt_result::ok;
    }
    json_object object;
    error ignored;
    if (rooms->type != json_type::object || !json_parse_nested(c->reader, rooms->raw, &object, &ignored))
        return refuse(c, jwt_result::claims, rule);
    const json_member *join = json_find(&object, "join");
    const json_member *publish = json_find(&object, "publish");
    if ((join && !take_patterns(join, &c->out->join)) || (publish && !take_patterns(publish, &c->out->publish)))
        return refuse(c, jwt_result::claims, rule);
    return jwt_result::ok;
}

jwt_result take_info(const checking *c, const json_object *claims) {
    const json_member *info = json_find(claims, "info");
    if (!info) return jwt_result::ok;
    if (info->raw.size() > jwt_info_max) return refuse(c, jwt_result::claims, "info must be 1024 bytes at most");
    c->out->info = info->raw;
    return jwt_result::ok;
}

jwt_result check_claims(const checking *c, view payload) {
    json_object object;
    error ignored;
    if (!json_parse_object(c->reader, payload, &object, &ignored))
        return refuse(c, jwt_result::malformed, "the claims are not a JSON object of at most 32 members, each once");
    // take_rooms parses on and is last: a reader keeps one document's texts.
    constexpr jwt_result (*steps[])(const checking *, const json_object *) = {
        check_dates, check_issuer, check_audience, take_subject, take_info, take_rooms,
    };
    for (auto *step : steps) {
        const jwt_result result = step(c, &object);
        if (result != jwt_result::ok) return result;
    }
    c->out->payload = payload;
    return jwt_result::ok;
}

} // namespace

bool jwt_algorithm_parse(view name, jwt_algorithm *out) {
    for (const algorithm_row &row : algorithms) {
        if (row.name != name) continue;
        *out = row.algorithm;
        return true;
    }
    return false;
}

const char *jwt_result_name(jwt_result result) {
    static constexpr const char *names[] = {"ok",      "malformed", "algorithm", "key",      "signature",
                                            "expired", "early",     "issuer",    "audience", "claims"};
    return names[static_cast<size_t>(result)];
}

jwt_result jwt_check(json_reader *r, view token, const jwt_options *options, uint64_t wall_ms,
                     const jwt_verifier *verifier, jwt_claims *out, const char **why) {
    jwt_claims claims = {};
    const checking c = {r, options, static_cast<int64_t>(wall_ms), &claims, why};
    parts p;
    jwt_result result = split(&c, token, &p);
    if (result != jwt_result::ok) return result;
    jwt_algorithm algorithm;
    view kid;
    result = check_header(&c, p.header, &algorithm, &kid);
    if (result != jwt_result::ok) return result;
    if (!verifier->has_key(verifier->context, algorithm, kid))
        return refuse(&c, jwt_result::key, "there is no key for the token's alg and kid");
    if (!verifier->verify(verifier->context, algorithm, kid, p.signed_part, p.signature))
        return refuse(&c, jwt_result::signature, "the token's signature is wrong");
    result = check_claims(&c, p.payload);
    if (result == jwt_result::ok) *out = std::move(claims);
    return result;
}

} // namespace belfry
