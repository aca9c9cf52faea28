// Files and memory. Main thread.
#include "main/limits.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

namespace belfry {

static constexpr uint64_t files_of_its_own = 64; // log, event loops, Redis, control API, name look-ups

process_limits limits_of(uint64_t files, uint64_t reserved, uint64_t memory, bool tls, int64_t wanted) {
    process_limits l = {files,  reserved,         memory, tls ? connection_bytes_tls : connection_bytes_plain,
                        wanted, "max_connections"};
    uint64_t by_files = files > reserved ? files - reserved : 1;
    uint64_t by_memory = memory / 4 * 3 / l.per_connection;
    if (by_files < static_cast<uint64_t>(l.max_connections)) {
        l.max_connections = static_cast<int64_t>(by_files);
        l.bound = "files";
    }
    if (by_memory < static_cast<uint64_t>(l.max_connections)) {
        l.max_connections = by_memory ? static_cast<int64_t>(by_memory) : 1;
        l.bound = "memory";
    }
    return l;
}

// ---------------------------------------------------------------- asking the kernel

static uint64_t raise_files() {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) return UINT64_MAX;
    rlim_t before = r.rlim_cur;
    r.rlim_cur = r.rlim_max;
    if (r.rlim_cur != before && setrlimit(RLIMIT_NOFILE, &r) != 0) {
        log_warn("can't raise the limit of open files: %s", strerror(errno));
        r.rlim_cur = before;
    }
    return r.rlim_cur;
}

// The number in a small file; UINT64_MAX where there is none ("max", no such file).
static uint64_t read_number(const char *path) {
    char text[64];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : -1;
    if (fd >= 0) close(fd);
    uint64_t number = UINT64_MAX;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    return n > 0 && bytes_parse_uint(view(text, static_cast<size_t>(n)), &number) ? number : UINT64_MAX;
}

// memory.max of the process's own control group (version 2) and of all above it.
static uint64_t group_memory() {
    char text[1024];
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : -1;
    if (fd >= 0) close(fd);
    view all = n > 0 ? view(text, static_cast<size_t>(n)) : view();
    size_t at = all.starts_with("0::") ? 0 : all.find("\n0::");
    if (at == view::npos) return UINT64_MAX;
    view path = all.substr(all.find("::", at) + 2);
    std::string group(path.substr(0, path.find('\n')));
    uint64_t least = UINT64_MAX;
    for (;;) {
        uint64_t here = read_number(("/sys/fs/cgroup" + group + "/memory.max").c_str());
        least = here < least ? here : least;
        if (group.empty()) return least;
        size_t slash = group.rfind('/');
        group.resize(slash == std::string::npos ? 0 : slash);
    }
}

static uint64_t find_memory() {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t least = pages > 0 && page > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(page) : UINT64_MAX;
    uint64_t group = group_memory();
    if (group < least) least = group;
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY && r.rlim_cur < least) least = r.rlim_cur;
    return least;
}

// ---------------------------------------------------------------- the config's share

static uint64_t count_reserved(const config *c, uint64_t files) {
    uint64_t listening = 0, idle = 0;
    for (const listener_settings &l : c->relay.listeners)
        listening += l.listen.size() * c->worker_count;
    for (const upstream_settings &u : c->relay.upstreams)
        idle += u.servers.size() * static_cast<uint64_t>(u.keepalive) * c->worker_count;
    // Idle connections to backends are given up where files run short: they must not push all clients out.
    if (idle > files / 4) idle = files / 4;
    return files_of_its_own + listening + idle + 8 * uint64_t{c->worker_count};
}

process_limits limits_apply(config *c) {
    bool tls = false;
    for (const listener_settings &l : c->relay.listeners)
        tls = tls || l.tls;
    uint64_t files = raise_files();
    process_limits l = limits_of(files, count_reserved(c, files), find_memory(), tls, c->core.max_connections);
    c->relay.max_connections = l.max_connections;
    return l;
}

void limits_tell(const process_limits *l, const config *c) {
    if (l->max_connections >= c->core.max_connections) return;
    auto wanted = static_cast<long long>(c->core.max_connections), most = static_cast<long long>(l->max_connections);
    if (l->bound[0] == 'f')
        log_info("max_connections is %lld, but at most %llu files may be open (LimitNOFILE): %lld connections at most",
                 wanted, static_cast<unsigned long long>(l->files), most);
    else
        log_info("max_connections is %lld, but there are only %llu MB of memory: %lld connections at most", wanted,
                 static_cast<unsigned long long>(l->memory >> 20), most);
}

} // namespace belfry
