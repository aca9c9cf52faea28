// The versions of net/'s libraries. Any thread.
#pragma once

namespace belfry {

// One line a library, "NAME: built with X, running Y"; static text.
const char *net_versions();

} // namespace belfry
