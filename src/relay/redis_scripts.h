// The scripts of conf/redis/, which are built into the program. The make rule that writes redis_scripts.cc has them in
// the same order (redis_scripts in Makefile.am). Any thread.
#pragma once

#include "base/bytes.h"

namespace belfry {

enum class redis_script : uint8_t { consumers, history, presence, publish, renew, count };

// The script's text, NUL-terminated too. Static.
view redis_script_text(redis_script script);

} // namespace belfry
