// [upstream]: server lines, certificates, and which route asks which upstream. Main thread.
#pragma once

#include "base/error.h"
#include "relay/settings.h"

namespace belfry {

// "127.0.0.1:8000 weight=1 max_fails=1 fail_timeout=10s backup down"; also unix:/path, host:port, [::1]:port,
// http://host[:port] and https://host[:port]. False with a reason.
[[nodiscard]] bool config_parse_server(view line, server_settings *out, error *e);

} // namespace belfry
