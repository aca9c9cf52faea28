// A proxied request's body on its way to the backend: read from the client, its end found, framed anew, sent on as the
// backend takes it. Bounded by max_body, body_timeout and min_body_rate. Owner's thread.
#pragma once

#include "relay/proxying.h"

namespace belfry {

// Takes bytes of the client, returns where it stopped. Pauses the client where the link, or what is kept before there
// is one, has enough. May refuse the request; *p is gone then, and all bytes are taken.
char *proxy_body_bytes(proxying *p, char *begin, char *end);
// Appends what is kept of the body, framed, and its end where that is known: for the frame that the head stands in.
void proxy_body_write_kept(proxying *p, buffer *out);
// That frame was sent.
void proxy_body_sent(proxying *p);
// What is kept is of no use any more: an answer has come.
void proxy_body_forget(proxying *p);
// The link has room again, or there is one now: reads on. May refuse the request, or end the connection.
void proxy_body_resume(proxying *p);
// The client has ended its side. False where the body is not whole by that; what is left in conn->rest is taken as the
// link takes it.
[[nodiscard]] bool proxy_body_eof(proxying *p);

} // namespace belfry
