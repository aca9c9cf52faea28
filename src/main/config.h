// The ini file: reading, checking, and the structs that the rest of the daemon works by. Main thread: before others
// start, and at each reload, where workers go on by the config in force until they have adopted the next one
// (config_reload.h). All errors of a file (and of what it includes) are found in one go, each with file,
// line and, where it helps, the nearest known name.
#pragma once

#include "base/options.h"
#include "main/modules.h"
#include "net/ticket_keys.h"
#include "relay/broker.h"
#include "relay/settings.h"

#include <map>
#include <string>
#include <vector>

namespace belfry {

// [belfry]
struct core_options {
    std::string workers; // "auto" or a number
    int64_t max_connections;
    int64_t compression_min; // bytes
    std::string log;
    int32_t log_level;
    int32_t log_format;
    std::string access_log; // off, stderr, syslog or a path
    std::string pid_file;
    std::string user; // to go over to, where the process is root's
    bool core_files;
    int64_t drain_delay, drain_timeout; // ms
    rate drain_rate;
    int64_t tls_ticket_rotate;            // ms; 0: no tickets
    std::vector<std::string> modules;     // names, in order
    std::vector<std::string> load_module; // paths
};

// [broker]
struct broker_options {
    int32_t type;
    std::string url;
    std::string prefix;
    int64_t max_message;
    int64_t history_memory;
    bool command_stream;
    std::string tls_ca;
    bool tls_verify;
    std::vector<std::string> sentinel; // HOST:PORT
    std::string master_name;
    std::string sentinel_password;
    bool cluster;
    bool sharded;
};

// [control]
struct control_options {
    std::vector<std::string> listen;
    std::string token;
};

struct config_error {
    std::string file;
    int line; // 0: the file as a whole
    std::string text;
};

// Where an object of the file stands, for errors that are found after reading.
struct config_place {
    std::string file;
    int line;
};

// Where things stand: by a section's text, by "SECTION\nOPTION" (the last of those that repeat),
// and by "SECTION\nOPTION#0" and so on, each; by "" the file as a whole.
using config_places = std::map<std::string, config_place>;

struct config {
    core_options core;
    broker_options broker;
    control_options control;
    relay_settings relay;
    module_set modules; // owned; made from core.modules and core.load_module
    // Values of the modules' options, at the section's place in `relay`.
    std::vector<option_values> upstream_values, route_values, room_values;
    struct broker_settings link; // made from `broker`
    ticket_keys *tickets;        // counted: those of the process, whatever the file says
    uint32_t worker_count;       // made from core.workers
    config_places places;
    std::map<std::string, uint64_t> retired_ms; // config_reload's: since when sections are retired, monotonic clock
    std::vector<config_error> errors;
    std::vector<config_error> warnings; // what is allowed, but hardly meant for production
};

// The rows of all sections; modules bring more.
extern const option_row config_rows[];
extern const size_t config_row_count;

// Reads and checks; certificates and modules are loaded too. True where there was no error; else config->errors tells
// all of them. `in_force`: null at the start; at a reload (config_reload.h) what has been in force so far, whose
// modules are shared, whatever the file says.
[[nodiscard]] bool config_load(const char *file, config *out, const config *in_force = nullptr);
// The option's place, else the section's, else the file's. `option` may be null; `which`: of one that repeats, or
// config_last.
const config_place *config_place_of(const config *c, const std::string &section, const char *option, size_t which);
inline constexpr size_t config_last = SIZE_MAX;
// Nothing may use the settings any more: the modules' scopes go, and the modules.
void config_free(config *c);
// The effective config as ini, every option with its value, secrets as ***.
void config_print(const config *c, buffer *out);
// The same as JSON: [{"kind","name","options":{NAME:VALUE}}], values as the file would write them, those of options
// that repeat in an array.
void config_print_json(const config *c, buffer *out);
// Appends {"file":...,"line":N,"message":...}, comma-separated.
void config_errors_write(const std::vector<config_error> *all, buffer *out);
// FILE:LINE: text, or FILE: text where it is about all of it.
std::string config_error_line(const config_error *e);
// Every section and option with its help and default: as ini, or as the option part of belfry.ini(5) in mdoc.
void config_print_help_ini(buffer *out);
void config_print_help_mdoc(buffer *out);

} // namespace belfry
