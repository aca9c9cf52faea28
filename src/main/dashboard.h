// GET / of the control API: one page that shows GET /v1/live as it comes, without a byte from anywhere else. Main
// thread.
#pragma once

#include "main/control_http.h"

namespace belfry {

// The same for everybody; it asks for the token where one is needed.
void dashboard_reply(control_conn *c);

} // namespace belfry
