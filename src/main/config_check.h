// What can only be checked when the whole file is read: what must be there, what goes together, files that must load.
// Main thread.
#pragma once

#include "main/config.h"

namespace belfry {

// Appends to c->errors, makes what is derived (worker count, Redis settings, TLS contexts). `route_names`: what stands
// in the brackets behind "route", in the order of the routes.
void config_check(config *c, const std::vector<std::string> &route_names);

} // namespace belfry
