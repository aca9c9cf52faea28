// Files of logs. See log_file.h.
#include "base/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

namespace belfry {

// A pipe that nobody reads is refused (ENXIO) instead of waited for; -1 where it fails, with errno.
static int open_for_appending(const char *path, int follow) {
    constexpr int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int fd = open(path, flags | follow, 0640);
    if (fd >= 0) fcntl(fd, F_SETFL, O_APPEND); // what is open may block, as ever
    return fd;
}

// Where the link points to, if it is root's own; empty where it is not.
static std::string target_of_roots_link(const char *path) {
    char target[PATH_MAX];
    struct stat s;
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool own = fd >= 0 && fstat(fd, &s) == 0 && S_ISLNK(s.st_mode) && s.st_uid == 0;
    ssize_t size = own ? readlinkat(fd, "", target, sizeof target) : -1;
    if (fd >= 0) close(fd);
    if (size <= 0 || static_cast<size_t>(size) == sizeof target) return "";
    std::string text(target, static_cast<size_t>(size)), directory(path);
    return text[0] == '/' ? text : directory.substr(0, directory.rfind('/') + 1) + text;
}

// Root follows its own links alone (/dev/stdout in a container): a log's directory is often that of the user whom the
// daemon becomes, and whoever is that user would have root open, or make, any file (CVE-2016-1247). -1 where it fails,
// with errno.
static int open_path(const char *path) {
    if (geteuid() != 0) return open_for_appending(path, 0);
    int fd = open_for_appending(path, O_NOFOLLOW);
    if (fd >= 0 || errno != ELOOP) return fd;
    std::string target = target_of_roots_link(path);
    if (!target.empty()) return open_for_appending(target.c_str(), 0);
    errno = ELOOP;
    return -1;
}

// A file that root has just made in the place of another one's is the other one's, too: the worker process, which has
// become that user, is to write to it as well.
static void give_away(int fd, int old) {
    struct stat now, before;
    if (geteuid() != 0 || fstat(fd, &now) != 0 || fstat(old, &before) != 0) return;
    if (!S_ISREG(now.st_mode) || !S_ISREG(before.st_mode) || now.st_uid != 0 || now.st_size) return;
    if (before.st_uid && fchown(fd, before.st_uid, before.st_gid) != 0) return; // the worker process says what it can't
}

// Makes the log's descriptor stand for what `fd` does; takes `fd` over. Writers beside this one see the old file or the
// new one, whole. False with errno.
static bool take_over(log_file *f, int fd) {
    int own = f->fd.load(std::memory_order_relaxed);
    if (own < 0) {
        f->fd.store(fd, std::memory_order_release);
        return true;
    }
    bool fine = dup3(fd, own, O_CLOEXEC) >= 0;
    int saved = errno;
    close(fd);
    errno = saved;
    return fine;
}

// What was written to is kept open, for its number's sake, but let go of: a deleted file's space comes back.
static void let_go(log_file *f) {
    int null = f->fd.load(std::memory_order_relaxed) < 0 ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null >= 0) (void)take_over(f, null); // where it fails, the old file stays open: no harm
}

static log_target target_of(const char *text) {
    if (strcmp(text, "off") == 0) return log_target::off;
    if (strcmp(text, "stderr") == 0) return log_target::standard_error;
    return strcmp(text, "syslog") == 0 ? log_target::syslog : log_target::file;
}

static bool refuse(const log_file *f, const char *path, error *e) {
    error_set(e, "can't open the %s \"%s\" for appending: %s", f->name, path, strerror(errno));
    return false;
}

bool log_file_check(const log_file *f, const char *text, error *e) {
    if (target_of(text) != log_target::file) return true;
    int fd = open_path(text);
    if (fd < 0) return refuse(f, text, e);
    close(fd);
    return true;
}

bool log_file_open(log_file *f, const char *text, error *e) {
    log_target target = target_of(text);
    if (target == log_target::file) {
        int fd = open_path(text);
        if (fd < 0 || !take_over(f, fd)) return refuse(f, text, e);
    }
    if (target == log_target::syslog) openlog("belfry", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    f->path = target == log_target::file ? text : "";
    f->gone = false;
    f->target.store(target, std::memory_order_release);
    if (target != log_target::file) let_go(f);
    return true;
}

bool log_file_reopen(log_file *f, error *e) {
    if (f->target != log_target::file) return true;
    int fd = open_path(f->path.c_str());
    if (fd >= 0) give_away(fd, f->fd.load(std::memory_order_relaxed));
    if (fd < 0 || !take_over(f, fd)) {
        error_set(e, "%s: can't open \"%s\" again: %s; the old file stays in use", f->name, f->path.c_str(),
                  strerror(errno));
        return false;
    }
    f->gone = false;
    return true;
}

static void drop(log_file *f, int why) {
    f->why.store(why, std::memory_order_relaxed);
    f->dropped.fetch_add(1, std::memory_order_relaxed);
}

// 0, or why it was not written.
static int write_line(log_file *f, int fd, const log_line *l) {
    char newline = '\n';
    bool torn = f->torn.load(std::memory_order_relaxed) && f->torn.exchange(false, std::memory_order_relaxed);
    struct iovec pieces[3] = {{&newline, torn}, {const_cast<char *>(l->text), l->size}, {&newline, 1}};
    ssize_t n;
    do
        n = writev(fd, pieces, 3);
    while (n < 0 && errno == EINTR);
    if (n == static_cast<ssize_t>(torn + l->size + 1)) return 0;
    if (torn || n > 0) f->torn.store(true, std::memory_order_relaxed);
    return n < 0 ? errno : ENOSPC; // a regular file takes less than all where the disk is full
}

static int write_somewhere(log_file *f, const log_line *l, int priority) {
    switch (f->target.load(std::memory_order_acquire)) {
    case log_target::off:
        return 0;
    case log_target::syslog:
        syslog(priority, "%.*s", static_cast<int>(l->size), l->text);
        return 0;
    case log_target::standard_error:
        return write_line(f, STDERR_FILENO, l);
    case log_target::file:
        break;
    }
    return f->gone.load(std::memory_order_relaxed) ? ENOENT : write_line(f, f->fd.load(std::memory_order_acquire), l);
}

void log_file_write(log_file *f, const log_line *l, int priority) {
    int saved = errno; // so that a caller may log first and look at errno after
    if (int why = write_somewhere(f, l, priority)) drop(f, why);
    errno = saved;
}

// Whoever deletes a log without saying USR1 wants a new one, not lines that nobody can read.
static void make_again(log_file *f) {
    struct stat s;
    error e;
    if (f->target != log_target::file || fstat(f->fd.load(std::memory_order_relaxed), &s) != 0 || s.st_nlink) return;
    if (!log_file_reopen(f, &e)) f->gone = true;
}

void log_file_tend(log_file *f, void (*make)(log_line *l, const char *sentence)) {
    make_again(f);
    uint64_t now = f->dropped.load(std::memory_order_relaxed);
    if (now == f->told) return;
    char sentence[200];
    log_line l;
    snprintf(sentence, sizeof sentence, "%s: %llu lines could not be written: %s", f->name,
             static_cast<unsigned long long>(now - f->told), strerror(f->why.load(std::memory_order_relaxed)));
    make(&l, sentence);
    if (write_somewhere(f, &l, LOG_WARNING) == 0) f->told = now;
}

} // namespace belfry
