// setuid(2) and what belongs to it; core files. Main thread.
#include "main/privileges.h"

#include "base/log.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace belfry {

struct user_account {
    uid_t user;
    gid_t group;
};

static bool look_up(const std::string &user, user_account *out, error *e) {
    struct passwd record, *found = nullptr;
    std::vector<char> room(65536); // getpwnam_r's own suggestion may be too small for long lists (its manual page)
    int number = getpwnam_r(user.c_str(), &record, room.data(), room.size(), &found);
    if (!found) {
        error_set(e, "the user \"%s\" is not known%s%s", user.c_str(), number ? ": " : "",
                  number ? strerror(number) : "");
        return false;
    }
    *out = {record.pw_uid, record.pw_gid};
    return true;
}

bool privileges_user_exists(const std::string &user, error *e) {
    user_account a;
    return look_up(user, &a, e);
}

bool privileges_drop(const std::string &user, const std::vector<std::string> &paths, error *e) {
    user_account a;
    if (!look_up(user, &a, e)) return false;
    if (geteuid() != 0) {
        if (geteuid() != a.user) log_warn("user = %s needs root: the process stays who it is", user.c_str());
        return true;
    }
    for (const std::string &path : paths)
        if (lchown(path.c_str(), a.user, a.group) != 0 && errno != ENOENT)
            return error_set(e, "user: %s can't become %s's: %s", path.c_str(), user.c_str(), strerror(errno)), false;
    if (initgroups(user.c_str(), a.group) != 0 || setgid(a.group) != 0 || setuid(a.user) != 0)
        return error_set(e, "can't go over to user \"%s\": %s", user.c_str(), strerror(errno)), false;
    if (a.user != 0 && setuid(0) == 0) return error_set(e, "root's rights can't be given up"), false;
    return true;
}

void privileges_allow_cores() {
    struct rlimit size = {};
    bool fine = getrlimit(RLIMIT_CORE, &size) == 0;
    size.rlim_cur = size.rlim_max;
    fine = fine && setrlimit(RLIMIT_CORE, &size) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0;
    if (!fine) log_warn("core_files: there will be none: %s", strerror(errno));
    if (fine && !size.rlim_max) log_warn("core_files: there will be none, the hard limit is 0 (ulimit -Hc, LimitCORE)");
}

} // namespace belfry
