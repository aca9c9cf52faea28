// Who is behind a connection, as far as anybody knows: the user, what the backend keeps with it, what it may join and
// publish in, when its credentials end, and its calls to the backend in order. Made when there is something to keep, so
// that anonymous connections cost nothing. Owner's thread.
#pragma once

#include "net/deadline.h"
#include "relay/conn.h"

#include <string>
#include <vector>

namespace belfry {

struct hook_call;

inline constexpr size_t client_user_max = 249;  // bytes: @user:ID is a room's name
inline constexpr size_t client_info_max = 4096; // bytes of info, and of state
inline constexpr size_t client_patterns_max = 64;
// Hook calls at once: the one that the client's message caused (reading stops until it is done) and a refresh or two.
inline constexpr size_t client_calls_max = 4;

struct client {
    conn *on; // borrowed
    std::string user;
    std::string info;                       // verbatim JSON; empty: none
    std::string state;                      // verbatim JSON; empty: none
    std::vector<std::string> rooms;         // that the connect hook names: joined before the 101
    std::vector<std::string> join, publish; // room patterns that `backend` rights are given for
    size_t token_join, token_publish;       // how many of those, at the front, the token has given
    std::string greeting;                   // the connect hook's data (JSON) or data64 (bytes), for the welcome
    bool has_greeting, greeting_binary;
    std::string sticky; // what sticky hashing goes by
    bool has_sticky;
    ip address;
    uint64_t expires_ms; // monotonic; 0: never; expiry.h acts on it
    bool refreshing;     // the refresh hook was asked
    bool expired;        // it said no: it is not asked again
    struct deadline expiry;
    link calls; // hook_call::place: the first one runs, the others wait
    uint32_t call_count;
};

// conn->client, made where it was null.
client *client_of(conn *c);
// conn->client is null afterwards. Its calls are hook.h's: hook_cancel_all comes first. Harmless without a client.
void client_free(conn *c);
inline view client_user(const conn *c) {
    return c->client ? view(c->client->user) : view();
}
// {"conn":"c_...","user":"56","info":...}, for `from` and members.
void client_write_from(const conn *c, buffer *out);
// One of its patterns matches; never for Belfry's own names (@...).
bool client_may_join(const conn *c, view room);
bool client_may_publish(const conn *c, view room);

} // namespace belfry
