// Fuzzes proto/deflate_offer. The input is the values of one to four Sec-WebSocket-Extensions fields, a line each. What
// must hold:
// - only what the handshake accepts is agreed on, and only where permessage-deflate was offered;
// - the window that is answered was asked for, as it stands or in quotes;
// - an offer in front that must be declined changes nothing, a good one in front is taken;
// - the answer is one field line, and a good offer itself.
//
// One thread.
#include "proto/deflate_offer.h"
#include "proto/extensions.h"

#include <stdlib.h>
#include <string>

using namespace belfry;
using std::string;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

bool parse(const string &head, http1_request *request) {
    http1_scan scan = {};
    const char *why = nullptr;
    return http1_parse_request(head, &scan, request, &why) == http1_result::complete;
}

deflate_agreement choose(const string &fields) {
    http1_request request;
    string head = "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
    return parse(head, &request) ? deflate_offer_choose(&request) : deflate_agreement{};
}

bool well_formed(const http1_request *r) {
    extension_reader reader = {.request = r};
    extension_word word;
    extension_item item;
    size_t words = 0;
    while ((item = extension_next(&reader, &word)) != extension_item::end) {
        if (item == extension_item::malformed) return false;
        require(http1_is_token(word.name) && word.has_value == !word.value.empty());
        require(++words < 100000);
    }
    return true;
}

void check_answer(const deflate_agreement *a) {
    buffer out = {};
    deflate_offer_answer(a, &out);
    const string answer(buffer_view(&out));
    buffer_free(&out);
    if (!a->agreed) return require(answer.empty() && a->server_bits == 0);
    require(answer.find("\r\n") == answer.size() - 2);
    deflate_agreement again = choose(answer);
    require(again.agreed && again.server_bits == a->server_bits);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const string name = "Sec-WebSocket-Extensions: ";
    string fields = name;
    int lines = 1;
    for (size_t i = 0; i < size && size < 8192; i++) {
        char c = static_cast<char>(data[i]);
        if (c == '\n' && lines++ < 4)
            fields += "\r\n" + name;
        else if (c != '\n' && c != '\r' && c != '\0')
            fields += c;
    }
    fields += "\r\n";
    string head = "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
    http1_request request;
    if (!parse(head, &request)) return 0;
    bool fine = well_formed(&request);
    deflate_agreement a = deflate_offer_choose(&request);
    check_answer(&a);
    if (a.agreed) require(fine && fields.find("permessage-deflate") != string::npos);
    if (a.server_bits) {
        require(a.server_bits >= 8 && a.server_bits <= deflate_bits_max);
        require(fields.find("server_max_window_bits") != string::npos);
    }
    if (!fine) return 0;
    deflate_agreement behind =
        choose(name + "permessage-deflate; x, permessage-deflate; server_max_window_bits=7\r\n" + fields);
    require(behind.agreed == a.agreed && behind.server_bits == a.server_bits);
    deflate_agreement in_front = choose(name + "permessage-deflate; server_max_window_bits=\"13\"\r\n" + fields);
    require(in_front.agreed && in_front.server_bits == 13);
    return 0;
}
