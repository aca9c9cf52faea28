// What the control API answers (contracts section 9), over control_http and the node. Main thread.
#pragma once

#include "main/control_context.h"

namespace belfry {

void control_api_init(control_api *a, node *n, const config *settings, const std::vector<bound_listener> *listeners,
                      struct reload *reload, loop *on);
void control_api_destroy(control_api *a);
// A control_handler; the context is the control_api.
void control_api_handle(control_conn *c, const control_request *q, void *context);

} // namespace belfry
