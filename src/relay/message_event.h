// What a message looks like as a server-sent event: the frames of form_sse_json and form_sse_raw, and of single ones.
// Pure; any thread.
#pragma once

#include "base/frame.h"

namespace belfry {

// An object of the JSON protocol.
[[nodiscard]] frame *message_event(view object);
// A raw payload: text as it is (its line ends become LF, as the format has it), bytes as base64 in an event of the
// type "binary".
[[nodiscard]] frame *message_event_raw(view payload, bool binary);

} // namespace belfry
