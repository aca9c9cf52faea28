// A directory with files for one test, gone afterwards; and the environment variables that it set.
#pragma once

#include "base/error.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <string_view>

namespace belfry {

inline std::string *directory; // "/tmp/belfry-..."

inline void directory_begin() {
    char name[] = "/tmp/belfry-test-XXXXXX";
    if (!mkdtemp(name)) fatal("no temporary directory");
    directory = new std::string(name);
}

inline void directory_end() {
    nftw(
        directory->c_str(), [](const char *path, const struct stat *, int, FTW *) { return remove(path); }, 8,
        FTW_DEPTH | FTW_PHYS);
    delete directory;
}

// The file's whole name.
inline std::string write_file(const std::string &name, std::string_view text) {
    std::string path = *directory + "/" + name;
    FILE *f = fopen(path.c_str(), "we");
    if (!f || fwrite(text.data(), 1, text.size(), f) != text.size()) fatal("can't write %s", path.c_str());
    fclose(f);
    return path;
}

} // namespace belfry
