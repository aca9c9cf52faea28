// The modules of a connection that moves to another process, or comes from one. Owner's thread.
#pragma once

#include "proto/handover.h"
#include "relay/conn.h"

namespace belfry {

// No module waits, or lets a message wait.
[[nodiscard]] bool chain_quiet(const conn *c);
// The modules whose turn came, and their state; views into the connection's block. False where one of them can't have
// its connections moved (module.h, arrived).
[[nodiscard]] bool chain_describe(const conn *c, std::vector<handover_module> *out);
// In the new process, once route and user are known: the block, and each module's `arrived`. False where a module is
// of another version, or its state of another size. A module that is not there any more is passed over.
[[nodiscard]] bool chain_restore(conn *c, const std::vector<handover_module> &modules);
// Frees the block: close is the new process's to call. Harmless without one.
void chain_forget(conn *c);

} // namespace belfry
