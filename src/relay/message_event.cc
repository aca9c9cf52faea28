// Messages as server-sent events. Any thread.
#include "relay/message_event.h"

#include "proto/sse.h"

namespace belfry {

static frame *frame_of_event(view name, view data) {
    buffer event = {};
    sse_write_event(&event, name, data);
    frame *f = frame_copy(buffer_view(&event));
    buffer_free(&event);
    return f;
}

frame *message_event(view object) {
    return frame_of_event(view(), object);
}

frame *message_event_raw(view payload, bool binary) {
    if (!binary) return frame_of_event(view(), payload);
    buffer text = {};
    buffer_reserve(&text, 4 * ((payload.size() + 2) / 3));
    text.size = base64_encode(payload, text.data);
    frame *f = frame_of_event("binary", buffer_view(&text));
    buffer_free(&text);
    return f;
}

} // namespace belfry
