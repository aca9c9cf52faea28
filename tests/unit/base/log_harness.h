// What stands in the file of a log.
#pragma once

#include <stdio.h>
#include <string>

inline std::string content(const std::string &file) {
    std::string text;
    FILE *f = fopen(file.c_str(), "re");
    if (!f) return "(no such file)";
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        text.append(chunk, n);
    fclose(f);
    return text;
}
