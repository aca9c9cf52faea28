// Versions, asked of the floors that may name the libraries.
#ifdef HAVE_CONFIG_H
#include <config.h>
#else
#define PACKAGE_VERSION "unknown"
#endif

#include "main/versions.h"

#include "net/versions.h"
#include "proto/json.h"

#include <stdio.h>

namespace belfry {

int versions_print() {
    printf("belfry %s\n%slibsimdjson: built with %s\n", PACKAGE_VERSION, net_versions(), json_library_version());
    return fflush(stdout) == 0 ? 0 : 1;
}

} // namespace belfry
