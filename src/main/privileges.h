// Giving up root's rights: `user` in [belfry]. And core files, which that has to do with. Main thread, before others
// start.
#pragma once

#include "base/error.h"

#include <string>
#include <vector>

namespace belfry {

// False with a reason where the machine knows no such user.
[[nodiscard]] bool privileges_user_exists(const std::string &user, error *e);
// Where this process is root's: the files of `paths` become the user's (those that exist), and the process goes over to
// the user, its group and its supplementary groups, for good. Where it is not, it stays who it is; that is said in the
// log if it is somebody else. False with a reason: the process must not go on. By going over it becomes one that no
// other process of the user may trace or read (PR_SET_DUMPABLE in prctl(2), ptrace(2)), and that leaves no core file,
// unless fs.suid_dumpable says otherwise (2: one that root alone can read).
[[nodiscard]] bool privileges_drop(const std::string &user, const std::vector<std::string> &paths, error *e);
// Behind privileges_drop: `core_files`. A crash leaves a core file as large as the hard limit lets it be, and other
// processes of the user may read this one's memory from now on. Where that limit is 0 the log says so.
void privileges_allow_cores();

} // namespace belfry
