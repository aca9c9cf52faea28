// The other end of the control API, for belfryctl: a blocking HTTP request. Its own process, one thread.
#pragma once

#include <string>

namespace belfry {

extern const char *const control_socket_default; // where the daemon's packages put it

struct control_target {
    std::string socket = control_socket_default;
    std::string url; // http://HOST:PORT, instead of the socket
    bool json = false;
};

struct control_answer {
    int status = 0;
    std::string body;
};

// With the token of the environment, BELFRY_TOKEN. False with errno where nobody answers within half a minute.
[[nodiscard]] bool control_ask(const control_target *t, const std::string &method, const std::string &path,
                               const std::string &body, control_answer *out);

} // namespace belfry
