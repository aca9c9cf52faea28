// How slow a client of a proxied request may be: with its body (body_timeout, min_body_rate), and with reading the
// answer (proxy_stall_ms). While it is Belfry or the backend that keeps it waiting, no clock runs. Both share the
// connection's one deadline. Owner's thread.
#pragma once

#include "relay/proxying.h"

namespace belfry {

// The body is read from now on.
void proxy_clock_body(proxying *p);
// The client is waited for to read the answer, from now on.
void proxy_clock_answer(proxying *p);
// Sets the connection's deadline by what is waited for now, or none. To be called when that has changed.
void proxy_clock_arm(proxying *p);

enum class proxy_lateness : uint8_t { none, body, answer };
// The deadline has passed: who is late. none: the deadline is set anew. *why: a static text.
[[nodiscard]] proxy_lateness proxy_clock_check(proxying *p, const char **why);

} // namespace belfry
