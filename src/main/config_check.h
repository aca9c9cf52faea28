// What can only be checked when the whole file is read: what must be there, what goes together, files that must load.
// Main thread.
#pragma once

#include "main/config.h"

#include <map>

namespace belfry {

// Where things stand: by a section's text, by "SECTION\nOPTION" (the last of those that repeat),
// and by "SECTION\nOPTION#0" and so on, each.
using config_places = std::map<std::string, config_place>;

// Appends to c->errors, makes what is derived (worker count, Redis settings, TLS contexts). `route_names`: what stands
// in the brackets behind "route", in the order of the routes.
void config_check(config *c, const char *file, const config_places *places,
                  const std::vector<std::string> &route_names);

} // namespace belfry
