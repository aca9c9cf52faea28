// belfry(8): the command line.
#ifdef HAVE_CONFIG_H
#include <config.h>
#else
#define PACKAGE_VERSION "unknown"
#endif
#ifndef BELFRY_SYSCONFDIR
#define BELFRY_SYSCONFDIR "/etc"
#endif

#include "base/log.h"
#include "main/daemon.h"
#include "main/master.h"
#include "main/upgrade_state.h"
#include "main/versions.h"
#include "relay/chain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace belfry {

static int usage(FILE *out, int code) {
    fputs("usage: belfry [-c FILE] [-t] [-T] [-v] [-V] [-h] [--help-config ini|mdoc]\n"
          "  -c FILE  config file (default " BELFRY_SYSCONFDIR "/belfry/belfry.ini)\n"
          "  -t       test the config; exit 0, or print FILE:LINE: MESSAGE for every error and exit 1\n"
          "  -T       test, then print the effective config, every option with its value\n"
          "  -v       version            -V  version and libraries            -h  this\n"
          "  --help-config ini|mdoc      every option with its default and what it is for\n",
          out);
    return code;
}

static int print(const buffer *b) {
    fwrite(b->data, 1, b->size, stdout);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int help_config(const char *form) {
    buffer out = {};
    if (strcmp(form, "ini") == 0)
        config_print_help_ini(&out);
    else if (strcmp(form, "mdoc") == 0)
        config_print_help_mdoc(&out);
    else
        return usage(stderr, 2);
    int code = print(&out);
    buffer_free(&out);
    return code;
}

static int free_config(config *settings, int code) {
    config_free(settings);
    delete settings;
    return code;
}

// -t and -T.
static int show_config(const char *file, bool all) {
    auto *settings = new config{};
    chain_set_version(PACKAGE_VERSION);
    // A master that would be replaced by this binary asks first whether it would be understood.
    const char *format = getenv(upgrade_format_variable);
    if (format && strcmp(format, upgrade_format) != 0) {
        fprintf(stderr, "belfry %s can't take over from a master of format %s\n", PACKAGE_VERSION, format);
        return free_config(settings, 1);
    }
    if (!config_load(file, settings)) {
        for (const config_error &e : settings->errors)
            fprintf(stderr, "%s\n", config_error_line(&e).c_str());
        return free_config(settings, 1);
    }
    for (const config_error &w : settings->warnings)
        if (!all) fprintf(stderr, "%s\n", config_error_line(&w).c_str());
    if (!all) return free_config(settings, printf("%s: ok\n", file) < 0);
    buffer out = {};
    config_print(settings, &out);
    int code = print(&out);
    buffer_free(&out);
    return free_config(settings, code);
}

// A worker process, from its fork on.
static int serve(birth *born, const char *file) {
    auto *settings = new config{};
    chain_set_version(PACKAGE_VERSION);
    if (config_load(file, settings)) return daemon_run(born, file, settings);
    for (const config_error &e : settings->errors) {
        std::string line = config_error_line(&e);
        if (born->first)
            fprintf(stderr, "%s\n", line.c_str());
        else
            log_error("%s", line.c_str());
    }
    return free_config(settings, 1);
}

} // namespace belfry

int main(int argc, char **argv) {
    using namespace belfry;
    const char *file = BELFRY_SYSCONFDIR "/belfry/belfry.ini";
    bool test = false, show = false;
    if (argc == 3 && strcmp(argv[1], "--help-config") == 0) return help_config(argv[2]);
    for (int ch; (ch = getopt(argc, argv, "c:tTvVh")) != -1;) {
        switch (ch) {
        case 'c':
            file = optarg;
            break;
        case 't':
            test = true;
            break;
        case 'T':
            show = true;
            break;
        case 'v':
            return printf("belfry %s\n", PACKAGE_VERSION) < 0;
        case 'V':
            return versions_print();
        case 'h':
            return usage(stdout, 0);
        default:
            return usage(stderr, 2);
        }
    }
    if (optind != argc) return usage(stderr, 2);
    if (test || show) return show_config(file, show);
    master_program program = {argv, file, serve};
    return master_run(&program);
}
