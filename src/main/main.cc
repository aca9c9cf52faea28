// belfry(8): the command line.
#ifdef HAVE_CONFIG_H
#include <config.h>
#else
#define PACKAGE_VERSION "unknown"
#endif
#ifndef BELFRY_SYSCONFDIR
#define BELFRY_SYSCONFDIR "/etc"
#endif

#include "main/daemon.h"
#include "main/versions.h"
#include "relay/chain.h"

#include <stdio.h>
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

static int with_config(const char *file, bool test, bool show) {
    config settings = {};
    int code = 0;
    chain_set_version(PACKAGE_VERSION);
    if (!config_load(file, &settings)) {
        for (const config_error &e : settings.errors)
            fprintf(stderr, "%s\n", config_error_line(&e).c_str());
        code = 1;
    } else if (show) {
        buffer out = {};
        config_print(&settings, &out);
        code = print(&out);
        buffer_free(&out);
    } else if (test) {
        for (const config_error &w : settings.warnings)
            fprintf(stderr, "%s\n", config_error_line(&w).c_str());
        printf("%s: ok\n", file);
    } else {
        code = daemon_run(&settings);
    }
    config_free(&settings);
    return code;
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
    return with_config(file, test, show);
}
