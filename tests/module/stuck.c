/* A module that does what none may: it never comes back, and with it the worker thread that called it. For the test of
 * the watchdog (tests/e2e/test_systemd.py), which builds it. */
#define _POSIX_C_SOURCE 200809L
#include "module.h"

#include <unistd.h>

static enum belfry_verdict_type handshake(const struct belfry_call *call, struct belfry_verdict *verdict) {
    (void)call, (void)verdict;
    while (pause() != 0)
        ; /* it fails, whenever a signal has come */
    return BELFRY_PASS;
}

BELFRY_EXPORT(stuck) = {
    .size = sizeof(struct belfry_module),
    .abi = BELFRY_ABI,
    .name = "stuck",
    .handshake = handshake,
};
