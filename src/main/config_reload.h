// A configuration for a process that runs by another one: the file is read anew beside what is in force, and whatever
// has to stay as it is, stays. Nothing of the one in force is touched. Main thread.
//
// - Options whose row does not say option_row::reload are not felt: the value in force stays, and a warning names the
//   option.
// - Sections that are no more in the file, but that connections may still point at (listeners, upstreams, routes), are
//   carried over as retired ones, behind all others of their kind: for drain_timeout and a little more, by the time of
//   the reload that looks. A route is known by its host and path, the others by their names; a listener also by its
//   addresses, where all of them have one new name.
// - Certificates, included files, ${ENV} and file: secrets are read again, whether the ini file has changed or not.
#pragma once

#include "main/config.h"

namespace belfry {

// How many retired sections there may be at once: a reload that would make more is refused until some have ended.
inline constexpr size_t config_retired_max = 1024;
// That a retired section is kept beyond drain_timeout, in which its connections are asked to leave, and then dropped.
inline constexpr int64_t config_retired_slack_ms = 5000;

// True where `out` can take over from `in_force`; else out->errors tells why not. Either way config_free ends it.
[[nodiscard]] bool config_reload(const char *file, const config *in_force, uint64_t monotonic_ms, config *out);

} // namespace belfry
