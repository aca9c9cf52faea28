// What a master leaves to the new binary that it executes in its own place: the same process, with the same children
// and descriptors, that has forgotten everything else. Written to a memory file, whose descriptor BELFRY_UPGRADE
// names. No thread.
#pragma once

#include "base/bytes.h"
#include "main/birth.h"

#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

// Raised where the form changes. A binary is asked whether it understands the form before it is executed: the form is
// in BELFRY_UPGRADE_FORMAT when it runs with -t.
inline constexpr const char *upgrade_format = "1";
inline constexpr const char *upgrade_format_variable = "BELFRY_UPGRADE_FORMAT";
inline constexpr const char *upgrade_variable = "BELFRY_UPGRADE";

struct upgrade_worker {
    uint64_t pid, channel; // the descriptor
    bool retired, stopping;
    uint64_t generation, started_ms;
    std::string node;
    std::vector<kept_address> kept;
};

struct upgrade_state {
    uint64_t generation, crashes, backoff_ms;
    std::string pid_file, log_target, log_level, log_json;
    std::vector<kept_address> inherited, orphans;
    std::vector<upgrade_worker> workers;
};

std::string upgrade_state_encode(const upgrade_state *s);
// False where the bytes are not of this form. Descriptors and processes are numbers here, which the caller checks.
[[nodiscard]] bool upgrade_state_decode(view bytes, upgrade_state *out);
// Calls `with` for every descriptor that is named.
void upgrade_state_descriptors(const upgrade_state *s, void (*with)(int fd));

} // namespace belfry
