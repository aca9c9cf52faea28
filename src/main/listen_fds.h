// Sockets that systemd opened (sd_listen_fds(3)): LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES. The master's.
#pragma once

#include "base/error.h"
#include "main/birth.h"

namespace belfry {

inline constexpr int listen_fds_first = 3; // SD_LISTEN_FDS_START
inline constexpr uint64_t listen_fds_max = 256;

// The descriptors' names by the three variables (null: not set), those without one are called "unknown" as systemd
// does. Empty where none are meant for the process `pid`. False with a reason where the variables are no such thing.
[[nodiscard]] bool listen_fds_parse(const char *pid_text, const char *count, const char *names, int64_t pid,
                                    std::vector<std::string> *out, error *e);
// Takes over what the environment names: close-on-exec, non-blocking, and the variables go, since they are nobody
// else's. False where one of them is no listening stream socket.
[[nodiscard]] bool listen_fds_take(std::vector<kept_address> *out, error *e);

} // namespace belfry
