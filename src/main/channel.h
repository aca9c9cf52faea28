// What the master and a worker process say to each other: messages of one word and its fields, over net/packets.
// A worker that has given up its privileges is not believed everything (master_workers.cc). Any thread.
#pragma once

#include "base/bytes.h"

#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

enum class channel_kind : uint8_t {
    // Worker to master, before `ready`, while it still has the master's privileges:
    log,      // target, level (number), json (0 or 1): where the master's lines go too
    pid_file, // path: to be removed at the end
    node,     // the node's id
    // At any time: the listening sockets, all anew each time.
    keep_none, // the list begins
    keep,      // "listener" or "control", name, address as written; with the sockets
    kept,      // the list is whole and takes the place of the one before
    ready,     // clients are served
    reloading,
    reloaded,
    stopping,
    alive,   // the main thread and all worker threads have turned since the last time
    settled, // an upgrade's handover is over
    // Master to worker:
    retire,  // another one serves from now on: hand over to it (over the socket that comes along), then drain
    succeed, // take over from the one before, over the socket that comes along
};
inline constexpr int channel_kind_count = static_cast<int>(channel_kind::succeed) + 1;

struct channel_message {
    channel_kind kind;
    std::vector<std::string> fields;
};

// The message as bytes: the word, and each field behind a NUL. A field is no longer than a path.
std::string channel_encode(const channel_message *m);
// False where the bytes are none of the messages above: an unknown word, or not as many fields as it has.
[[nodiscard]] bool channel_decode(view bytes, channel_message *out);

} // namespace belfry
