// Giving up root's rights: `user` in [belfry]. Main thread, before others start.
#pragma once

#include "base/error.h"

#include <string>
#include <vector>

namespace belfry {

// False with a reason where the machine knows no such user.
[[nodiscard]] bool privileges_user_exists(const std::string &user, error *e);
// Where this process is root's: the files of `paths` become the user's (those that exist), and the process goes over to
// the user, its group and its supplementary groups, for good. Where it is not, it stays who it is; that is said in the
// log if it is somebody else. False with a reason: the process must not go on.
[[nodiscard]] bool privileges_drop(const std::string &user, const std::vector<std::string> &paths, error *e);

} // namespace belfry
