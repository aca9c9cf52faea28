// From a file to (section, name, value) with file and line: inih does the splitting, this does what inih leaves out:
// line numbers, lines that are too long, names that would be cut, indented lines, empty sections, includes, ${ENV}.
// Main thread.
#pragma once

#include "main/config.h"

namespace belfry {

struct config_sink {
    void (*section)(void *context, const char *kind_and_name, const config_place *place);
    void (*option)(void *context, const char *section, const char *name, const char *value, const config_place *place);
    void (*error)(void *context, const config_place *place, const std::string &text);
    void *context; // borrowed
};

// Reads the file and, at `include = GLOB` lines, what that names (relative to the including file; sorted; eight deep at
// the most).
void config_read(const char *file, const config_sink *sink);

enum class config_secret : uint8_t {
    none,   // an ordinary value: file: is text
    secret, // file:PATH is the first line of that file
    keys,   // file:PATH, also behind kid=NAME, is the whole of it, at most 256 KiB
};
// Replaces ${NAME} by the environment's value and, in a secret, file:PATH by what that file holds. False with a reason.
[[nodiscard]] bool config_expand(std::string *value, config_secret secret, std::string *why);

} // namespace belfry
