/* A module that speaks to the master process in its worker process's name, as whoever has taken over a worker process
 * could: for tests/e2e/test_master.py, which builds it. What it says about files is in TRAITOR_PATH. */
#define _GNU_SOURCE
#include "module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void say(int fd, const void *text, size_t size) {
    if (send(fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) perror("traitor");
}

static void say_all(int fd) {
    const char *path = getenv("TRAITOR_PATH");
    char text[4200];
    say(fd, text, (size_t)snprintf(text, sizeof text, "pid_file%c%s", 0, path));
    say(fd, text, (size_t)snprintf(text, sizeof text, "log%c%s%c2%c0", 0, path, 0, 0));
    say(fd, text, (size_t)snprintf(text, sizeof text, "node%c%s", 0, "../../etc"));
    say(fd, text, (size_t)snprintf(text, sizeof text, "keep%clistener%cpublic%c%s", 0, 0, 0, path)); /* no descriptor */
    say(fd, text, (size_t)snprintf(text, sizeof text, "retire"));
    say(fd, text, (size_t)snprintf(text, sizeof text, "ready"));
    say(fd, text, (size_t)snprintf(text, sizeof text, "alive%c", 0)); /* a field too many */
    memset(text, 'x', sizeof text);
    say(fd, text, sizeof text);
}

static enum belfry_verdict_type handshake(const struct belfry_call *call, struct belfry_verdict *verdict) {
    (void)call, (void)verdict;
    for (int fd = 3; fd < 256; fd++) {
        int type = 0;
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET) say_all(fd);
    }
    return BELFRY_PASS;
}

BELFRY_EXPORT(traitor) = {
    .size = sizeof(struct belfry_module),
    .abi = BELFRY_ABI,
    .name = "traitor",
    .handshake = handshake,
};
