// proc(5). Any thread.
#include "main/process_stats.h"

#include "base/bytes.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

namespace belfry {

// Linux 6.2 says how many files are open as the directory's size; before, they have to be counted.
static uint64_t count_files() {
    struct stat st;
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0) return static_cast<uint64_t>(st.st_size);
    DIR *d = opendir("/proc/self/fd");
    if (!d) return 0;
    uint64_t n = 0;
    while (const dirent *e = readdir(d))
        if (e->d_name[0] != '.') n++;
    closedir(d);
    return n - 1; // the directory's own
}

static uint64_t ns_of(const timespec *t) {
    return static_cast<uint64_t>(t->tv_sec) * 1000000000 + static_cast<uint64_t>(t->tv_nsec);
}

// Boot time is not asked for: the start is as long ago now as the monotonic clock says.
static uint64_t started_ns(uint64_t start_ticks) {
    timespec since_boot = {}, now = {};
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t ticks = static_cast<uint64_t>(sysconf(_SC_CLK_TCK));
    const uint64_t start = start_ticks / ticks * 1000000000 + start_ticks % ticks * 1000000000 / ticks;
    const uint64_t age = ns_of(&since_boot) > start ? ns_of(&since_boot) - start : 0;
    return ns_of(&now) - age;
}

// Asked once, so that a clock that is set does not move it.
static uint64_t started_once(uint64_t start_ticks) {
    static const uint64_t started = started_ns(start_ticks);
    return started;
}

// The line's fields from the third on: the second, the program's name in parentheses, may hold anything.
static void read_stat(process_stats *p) {
    char line[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t n = read(fd, line, sizeof line);
    close(fd);
    view rest(line, n > 0 ? static_cast<size_t>(n) : 0);
    size_t name_end = rest.rfind(") ");
    if (name_end == view::npos) return;
    rest.remove_prefix(name_end + 2);
    for (int field = 3; field <= 24 && !rest.empty(); field++) {
        const size_t end = rest.find(' ');
        uint64_t value = 0;
        const bool number = bytes_parse_uint(rest.substr(0, end), &value);
        if (number && field == 20) p->threads = value;
        if (number && field == 22) p->started_ns = started_once(value);
        if (number && field == 23) p->virtual_bytes = value;
        if (number && field == 24) p->resident_bytes = value * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
        rest.remove_prefix(end == view::npos ? rest.size() : end + 1);
    }
}

process_stats process_stats_read() {
    process_stats p = {};
    timespec cpu = {};
    struct rlimit files;
    read_stat(&p);
    p.open_fds = count_files();
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) p.max_fds = files.rlim_cur;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) p.cpu_ns = ns_of(&cpu);
    return p;
}

} // namespace belfry
