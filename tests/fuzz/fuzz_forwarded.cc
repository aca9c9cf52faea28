// Fuzzes proto/forwarded and, by it, base/ip. The input's lines are field values: those that begin with 'p' of
// X-Forwarded-Proto, 'f' of X-Forwarded-For, others of another field. What must hold for any of them:
// - who isn't trusted is the client, and no field of his counts;
// - the client is the peer or somebody with an address: no field can name the peers of a unix socket;
// - a client that isn't trusted stays the client whatever is put to the left of the list: this is what a client that
//   sends fields of its own can do.
//
// One thread.
#include "proto/forwarded.h"

#include <algorithm>
#include <stdlib.h>
#include <string>
#include <vector>

using namespace belfry;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

ip_range range(view text) {
    ip_range out;
    error e;
    require(ip_range_parse(text, &out, &e));
    return out;
}

const ip_range trusted[] = {range("10.0.0.0/8"), range("2001:db8::/32"), range("unix")};

forwarded ask(const http1_request *r, const ip *peer) {
    return forwarded_client(r, peer, trusted, std::size(trusted));
}

bool is_trusted(const ip *a) {
    return ip_in_ranges(a, trusted, std::size(trusted));
}

bool same(const forwarded *a, const forwarded *b) {
    return ip_equal(&a->client, &b->client) && a->trusted == b->trusted && a->https_known == b->https_known &&
           a->https == b->https;
}

http1_request make_request(view bytes) {
    http1_request r = {};
    while (!bytes.empty() && r.field_count < http1_field_max) {
        const size_t end = std::min(bytes.find('\n'), bytes.size());
        const view line = bytes.substr(0, end);
        bytes.remove_prefix(std::min(end + 1, bytes.size()));
        const char kind = line.empty() ? ' ' : line[0];
        const view name = kind == 'f' ? "x-forwarded-for" : kind == 'p' ? "X-Forwarded-Proto" : "Host";
        r.fields[r.field_count++] = {name, bytes_trim(line.substr(line.empty() ? 0 : 1))};
    }
    return r;
}

// The first X-Forwarded-For line with `more` in front; without such a line there is nothing to do.
bool prepend(http1_request *r, view more, std::string *memory) {
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (r->fields[i].name != "x-forwarded-for") continue;
        *memory = std::string(more) + "," + std::string(r->fields[i].value);
        r->fields[i].value = *memory;
        return true;
    }
    return false;
}

void check_text(view bytes) {
    ip a;
    if (ip_parse(bytes, &a)) {
        ip again;
        require(!ip_is_none(&a) && ip_parse(ip_format(&a), &again) && ip_equal(&a, &again));
    }
    ip_range r;
    error e;
    if (ip_range_parse(bytes, &r, &e))
        require(r.bits <= 128 && ip_in_ranges(&r.first, &r, 1) == (r.bits == 128 || !ip_is_none(&r.first)));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const view bytes(reinterpret_cast<const char *>(data), size);
    check_text(bytes);
    http1_request r = make_request(bytes);
    const ip proxy = range("10.0.0.1").first, stranger = range("192.0.2.1").first, local = {};

    const forwarded outside = ask(&r, &stranger);
    require(ip_equal(&outside.client, &stranger) && !outside.trusted && !outside.https_known && !outside.https);

    for (const ip *peer : {&proxy, &local}) {
        const forwarded got = ask(&r, peer);
        require(got.trusted && (got.https_known || !got.https));
        require(ip_equal(&got.client, peer) || !ip_is_none(&got.client));
        http1_request longer = r;
        std::string memory;
        if (is_trusted(&got.client) || !prepend(&longer, "6.6.6.6, 10.1.1.1, unix, ::", &memory)) continue;
        const forwarded again = ask(&longer, peer);
        require(same(&got, &again));
    }
    return 0;
}
