// For unit tests: runs a function that must end the process by fatal(), in a child, and looks at its last words.
#pragma once

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

// True where `body` wrote one line to standard error that begins with "belfry: fatal: " and holds `words`, and
// then aborted.
inline bool expect_fatal(void (*body)(), const char *words) {
    int ends[2];
    if (pipe(ends) != 0) return false;
    pid_t child = fork();
    if (child == 0) {
        rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL); // cmocka's handler is not wanted here
        dup2(ends[1], STDERR_FILENO);
        body();
        _exit(0);
    }
    close(ends[1]);
    char text[4096] = {0};
    size_t size = 0;
    for (ssize_t n; (n = read(ends[0], text + size, sizeof text - 1 - size)) > 0;)
        size += static_cast<size_t>(n);
    close(ends[0]);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return false;
    static constexpr char prefix[] = "belfry: fatal: ";
    bool said = strncmp(text, prefix, sizeof prefix - 1) == 0 && strstr(text, words) != nullptr;
    bool one_line = size > 0 && strchr(text, '\n') == text + size - 1;
    return said && one_line && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
