// Fuzzes proto/uri. What must hold for any bytes:
// - what was encoded decodes to itself, and decoding never makes text longer;
// - the parameters of a query, put together again, are the query but for empty pieces;
// - a path that was accepted has no dot segment, no control, no backslash, and as many slashes as before.
//
// One thread.
#include "proto/uri.h"

#include <algorithm>
#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

void check_codings(view in) {
    buffer encoded = {};
    uri_encode(in, &encoded);
    require(buffer_view(&encoded).find_first_of(" /?#&=+\"<>\\\r\n") == view::npos);
    std::string decoded(encoded.size, '\0');
    size_t size = 0;
    require(uri_decode(buffer_view(&encoded), true, decoded.data(), &size));
    require(decoded.substr(0, size) == in);
    buffer_free(&encoded);

    std::string plain(in.size(), '\0');
    std::string plus(in.size(), '\0');
    size_t plus_size = 0;
    const bool fine = uri_decode(in, false, plain.data(), &size);
    require(uri_decode(in, true, plus.data(), &plus_size) == fine);
    require(!fine || (size == plus_size && size <= in.size()));
}

void check_parameters(view in) {
    view rest = in;
    view name;
    view value;
    std::string together;
    while (uri_next_parameter(&rest, &name, &value)) {
        require(name.find_first_of("&=") == view::npos && value.find('&') == view::npos);
        together += name;
        together += value;
        require(rest.size() < in.size());
    }
    const auto bare = [](view text) {
        std::string copy(text);
        std::erase_if(copy, [](char c) { return c == '&' || c == '='; });
        return copy;
    };
    require(bare(together) == bare(in));
}

void check_path(view in) {
    std::string out(in.size(), '\0');
    size_t size = 0;
    if (!uri_normalise_path(in, out.data(), &size)) return;
    require(size <= in.size());
    out.resize(size);
    require(out.starts_with('/') && in.starts_with('/'));
    require(std::count(out.begin(), out.end(), '/') == std::count(in.begin(), in.end(), '/'));
    const std::string fenced = out + "/";
    require(fenced.find("/./") == std::string::npos && fenced.find("/../") == std::string::npos);
    require(fenced.find('\\') == std::string::npos);
    require(std::none_of(out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const view bytes(reinterpret_cast<const char *>(data), size);
    check_codings(bytes);
    check_parameters(bytes);
    check_path(bytes);
    return 0;
}
