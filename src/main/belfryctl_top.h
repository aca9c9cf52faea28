// belfryctl top: the terminal's half. Its own process.
#pragma once

#include "main/control_client.h"

namespace belfry {

// Shows a frame a second until q, Ctrl-C or the end of input; `once`: a single one, of two samples a second apart. The
// process's exit code.
int belfryctl_top(const control_target *t, bool once);

} // namespace belfry
