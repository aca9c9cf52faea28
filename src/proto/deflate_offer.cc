// Negotiation of permessage-deflate, RFC 7692 section 7.1. Pure; any thread.
#include "proto/deflate_offer.h"

#include "proto/extensions.h"

namespace belfry {

namespace {

// The parameters of section 7.1, as bits, to see one that comes twice.
enum parameter : uint8_t {
    parameter_unknown = 0,
    server_no_takeover = 1,
    client_no_takeover = 2,
    server_window = 4,
    client_window = 8,
};

struct offer {
    bool ours;       // permessage-deflate, and nothing wrong with it so far
    uint8_t seen;    // parameters
    uint8_t bits[2]; // of the window: the server's, the client's; 0: none said
};

parameter parameter_of(view name) {
    if (name == "server_no_context_takeover") return server_no_takeover;
    if (name == "client_no_context_takeover") return client_no_takeover;
    if (name == "server_max_window_bits") return server_window;
    if (name == "client_max_window_bits") return client_window;
    return parameter_unknown;
}

// 8 to 15 without leading zeros (7.1.2.1); 0 where it is not that.
uint8_t window_bits(const extension_word *w) {
    char text[2];
    uint64_t bits = 0;
    view digits = extension_value(w, text, sizeof text);
    if (!bytes_parse_uint(digits, &bits) || digits[0] == '0' || bits < 8 || bits > deflate_bits_max) return 0;
    return static_cast<uint8_t>(bits);
}

// False where the offer must be declined for this parameter.
bool accept(offer *o, const extension_word *w) {
    parameter p = parameter_of(w->name);
    if (p == parameter_unknown || o->seen & p) return false;
    o->seen |= p;
    switch (p) {
    case server_window: // 7.1.2.1: an offer must give a value
        return (o->bits[0] = window_bits(w)) != 0;
    case client_window: // 7.1.2.2: may be without
        return !w->has_value || (o->bits[1] = window_bits(w)) != 0;
    default:
        return !w->has_value;
    }
}

} // namespace

deflate_agreement deflate_offer_choose(const http1_request *r) {
    extension_reader reader = {.request = r};
    extension_word word;
    offer now = {}; // the one that is being read
    deflate_agreement first = {};
    for (;;) {
        extension_item item = extension_next(&reader, &word);
        if (item == extension_item::malformed) return {};
        if (item == extension_item::parameter) {
            now.ours = now.ours && accept(&now, &word);
            continue;
        }
        if (now.ours && !first.agreed) first = {true, now.bits[0]};
        if (item == extension_item::end) return first;
        now = {.ours = word.name == "permessage-deflate", .seen = 0, .bits = {}};
    }
}

void deflate_offer_answer(const deflate_agreement *a, buffer *out) {
    if (!a->agreed) return;
    buffer_append(out, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                       "client_no_context_takeover");
    if (a->server_bits) buffer_printf(out, "; server_max_window_bits=%u", a->server_bits);
    buffer_append(out, "\r\n");
}

} // namespace belfry
