// Publish by answer (contracts section 8): a backend's answer that carries Belfry-Publish: ROOM[, ROOM] is broadcast as
// well as answered, where the route says publish_header = yes. What is published is Belfry-Publish-Data where there is
// such a field, else the body. The fields are for Belfry alone: http1_forward_response never passes them on.
//
// At most once: an answer that is not whole is not published, nor one whose client has reset its connection before. One
// answer's, on the thread of its connection.
#pragma once

#include "proto/http1.h"
#include "relay/conn.h"

#include <string>
#include <vector>

namespace belfry {

inline constexpr size_t publish_rooms_max = 64;

struct publish_field {
    std::vector<std::string> rooms;
    buffer payload; // owned: the field's, or the body so far
    bool from_body;
    bool too_large; // the body is
};

// Null where the answer publishes nothing: no such field, the route doesn't take it, or a reason that is logged and
// counted (publish_failures): a room's name that can't be one (that room alone is left out), a body with a
// Content-Encoding, an answer without a body. `has_body`: one comes behind this head.
publish_field *publish_field_new(conn *c, const http1_response *r, bool has_body);
// A piece of the body, decoded of its framing.
void publish_field_body(conn *c, publish_field *f, view data);
// The answer is whole: publishes.
void publish_field_end(conn *c, publish_field *f);
void publish_field_free(publish_field *f);

} // namespace belfry
