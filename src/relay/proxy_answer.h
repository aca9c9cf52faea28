// A backend's answer on its way to the client: its head written anew, its body framed as the client can read it, no
// faster than the client reads. Owner's thread.
#pragma once

#include "relay/proxying.h"

namespace belfry {

// The upstream call's events. A final head decides how the answer ends: by length, in chunks, or with the connection.
void proxy_answer_head(proxying *p, const http1_response *r);
void proxy_answer_body(proxying *p, view data);
// All of it is here: hands the exchange back once the client has read most of it. *p may be gone then.
void proxy_answer_end(proxying *p, view trailers);
// The client has read all that was queued.
void proxy_answer_flushed(proxying *p);

} // namespace belfry
