// The modules of a configuration (module.h): finding them, built in or in .so files, checking what they are, their
// option rows, and what they make of the sections' values. Main thread.
#pragma once

#include "base/options.h"
#include "module.h"
#include "relay/settings.h"

#include <string>
#include <vector>

namespace belfry {

// A module's option in one section: one of these is in use, by the option's type.
struct option_cell {
    bool boolean;
    int32_t choice;
    int64_t number;
    struct rate rate;
    std::string text;
    std::vector<std::string> list;
};

// Of one section: a cell for each row of its kind, in the order of module_set::rows. What the rows' offsets count in.
using option_values = std::vector<option_cell>;

struct loaded_module {
    const struct belfry_module *module; // borrowed: static, or in the .so
    void *handle;                       // dlopen's, owned by all sets together; null: built in
    std::string file;                   // empty: built in
};

struct module_set {
    std::vector<loaded_module> modules; // in the order that they are called in
    std::vector<option_row> rows;       // of all of them
    std::vector<size_t> owners;         // of the row at the same place: in `modules`
};

// A .so to load, and where its option stands, for errors.
struct module_file {
    std::string path;
    size_t place; // the caller's
};

// One error; `place`: the file's, or SIZE_MAX for the option `modules`.
struct module_problem {
    size_t place;
    std::string text;
};

// Belfry's own rows, whose names modules may not take.
struct own_rows {
    const option_row *rows; // borrowed
    size_t count;
};

// Loads `names` (built in, or found in a file) in that order, then what files bring beyond that; calls their load.
// What is wrong with any of them is in the answer, and it is left out.
std::vector<module_problem> modules_open(module_set *out, own_rows own, const std::vector<std::string> &names,
                                         const std::vector<module_file> &files);
// The same modules once more, for a config that is made beside the one in force.
void modules_share(const module_set *from, module_set *out);
// Unloads those that no set holds any more; this set's scopes must be free.
void modules_close(module_set *set);
// All that are built in, for --help-config.
const module_set *modules_built_in();
// The built-in module that has this option, though the set does not; or null.
const char *modules_missing(view section, view option);

// Cells with the defaults of a section of this kind.
option_values modules_defaults(const module_set *set, view section);

// What a CHOICE option is set to; empty where no module of the set has such an option.
view modules_choice(const module_set *set, view section, view option, const option_values *values);

// Calls scope_new of all modules that have options for this kind of section. `complain` gets the option's name, or null
// for the section as a whole.
void modules_make_scopes(const module_set *set, const char *section, const std::string &name,
                         const option_values *values, module_scopes *out,
                         void (*complain)(void *context, const char *option, const std::string &text), void *context);
void modules_free_scopes(const module_set *set, const char *section, module_scopes *scopes);

} // namespace belfry
