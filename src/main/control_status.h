// GET /v1/status: counters of all workers added up, as JSON. Main thread.
#pragma once

#include "main/control_context.h"

namespace belfry {

void control_status_write(const control_api *a, const query *q, buffer *out);

} // namespace belfry
