// What a client of the JSON protocol says: one object a text frame, parsed once. Pure; the reader's thread. Fuzzed.
#pragma once

#include "proto/json.h"

namespace belfry {

enum class client_op : uint8_t { join, leave, publish, call, members, auth, ping, unknown };

// Views into the source or the reader's scratch: valid until the reader parses again.
struct client_request {
    client_op op;
    view type; // as sent, unescaped; for the error text of an unknown one
    bool has_id;
    int64_t id;
    view room; // unescaped; empty where there is none
    bool has_room;
    view data;      // publish, call: the verbatim JSON slice; "null" where absent
    bool echo;      // publish: false leaves the sender out; true by default
    view method;    // call
    view token;     // auth
    bool has_since; // join
    view since_epoch;
    uint64_t since_offset;
};

enum class client_parse : uint8_t {
    ok,
    not_an_object, // no valid JSON object, or no string "type": the connection closes with 4400
    bad_member,    // a known member has the wrong type: error 400 with has_id/id filled in
};

// `source` is padded (frame_padding). On anything but ok, `e` says why without quoting the client's data.
[[nodiscard]] client_parse client_json_parse(json_reader *r, view source, client_request *out, error *e);

} // namespace belfry
