// The ini file: reading, checking, and the structs that the rest of the daemon works by. Main thread, before others
// start (and, later, at reload). All errors of a file (and of what it includes) are found in one go, each with file,
// line and, where it helps, the nearest known name.
#pragma once

#include "base/options.h"
#include "main/modules.h"
#include "relay/broker.h"
#include "relay/settings.h"

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
    std::string pid_file;
    int64_t drain_timeout;
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

struct config {
    core_options core;
    broker_options broker;
    control_options control;
    relay_settings relay;
    module_set modules; // owned; made from core.modules and core.load_module
    // Values of the modules' options, at the section's place in `relay`.
    std::vector<option_values> upstream_values, route_values, room_values;
    struct broker_settings link; // made from `broker`
    uint32_t worker_count;       // made from core.workers
    std::vector<config_error> errors;
    std::vector<config_error> warnings; // what is allowed, but hardly meant for production
};

// The rows of all sections; modules bring more.
extern const option_row config_rows[];
extern const size_t config_row_count;

// Reads and checks; certificates and modules are loaded too. True where there was no error; else config->errors tells
// all of them.
[[nodiscard]] bool config_load(const char *file, config *out);
// Nothing may use the settings any more: the modules' scopes go, and the modules.
void config_free(config *c);
// The effective config as ini, every option with its value, secrets as ***.
void config_print(const config *c, buffer *out);
// Every section and option with its help and default: as ini, or as the option part of belfry.ini(5) in mdoc.
void config_print_help_ini(buffer *out);
void config_print_help_mdoc(buffer *out);

} // namespace belfry
