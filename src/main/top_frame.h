// What belfryctl top shows: an object of GET /v1/live read, and a frame of text made of two of them. Pure.
#pragma once

#include "base/error.h"
#include "proto/json.h"

#include <map>
#include <string>
#include <vector>

namespace belfry {

struct top_room {
    std::string name;
    double rate, bytes_rate;
    uint64_t members;
};

struct top_reader {
    std::string conn, user, route, ip;
    uint64_t queue, blocked_ms, dropped;
};

struct top_server {
    std::string name, state;
    uint64_t inflight, requests, failures;
};

struct top_sample {
    // Numbers by name; of an object within, "broker.ready". Booleans are 0 and 1.
    std::map<std::string, uint64_t> numbers;
    std::map<std::string, std::string> texts;
    std::vector<top_room> rooms;
    std::vector<top_reader> slow;
    std::vector<top_server> servers;
    std::map<std::string, uint64_t> reasons; // "refused: origin", so far
};

// `json` is padded (frame_padding). False with a reason where it is no such object.
[[nodiscard]] bool top_sample_read(json_reader *r, view json, top_sample *out, error *e);

// At most `height` lines of at most `width` columns, without newlines. `colour`: with ANSI's bold, red and green. Rates
// are the differences to `last`, an older sample of the same process; null: there is none yet. Whatever clients have
// named, no control character comes out.
[[nodiscard]] std::vector<std::string> top_frame(const top_sample *now, const top_sample *last, size_t width,
                                                 size_t height, bool colour);

} // namespace belfry
