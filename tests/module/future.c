/* A module for an ABI that this Belfry does not know yet: it has to be refused with a clear error, before anything of
 * it but size and abi is looked at. Built as tests/module/future.so. */
#include "module.h"

static int load(const struct belfry_host *host, char *error, size_t error_size) {
    (void)host, (void)error, (void)error_size;
    __builtin_trap(); /* nobody may call it */
}

BELFRY_EXPORT(future) = {
    .size = sizeof(struct belfry_module) + 64,
    .abi = BELFRY_ABI + 1,
    .name = (const char *)1, /* whatever stands there in that ABI */
    .load = load,
};
