// belfryctl(1): the control API from the shell. One blocking HTTP request, the answer printed. Its own process.
#include "base/bytes.h"
#include "base/frame.h"
#include "main/belfryctl_top.h"
#include "main/control_client.h"
#include "proto/json.h"
#include "proto/uri.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>

namespace belfry {

static int fail(const std::string &text) {
    fprintf(stderr, "belfryctl: %s\n", text.c_str());
    return 1;
}

// ---------------------------------------------------------------- printing

// JSON, one member a line, for people; as it came with --json.
static void print_pretty(const std::string &json) {
    int depth = 0;
    bool text = false;
    auto newline = [&depth] { printf("\n%*s", depth * 2, ""); };
    for (size_t i = 0; i < json.size(); i++) {
        char c = json[i];
        if (text) {
            putchar(c);
            if (c == '\\' && i + 1 < json.size())
                putchar(json[++i]);
            else if (c == '"')
                text = false;
            continue;
        }
        if (c == '"') text = true;
        bool opens = c == '{' || c == '[', closes = c == '}' || c == ']',
             empty = opens && i + 1 < json.size() && json[i + 1] == c + 2;
        if (closes && i && json[i - 1] != c - 2) {
            depth--;
            newline();
        }
        if (c != '\n') putchar(c);
        if (opens && !empty) {
            depth++;
            newline();
        }
        if (c == ':') putchar(' ');
        if (c == ',') newline();
    }
    putchar('\n');
}

static int unanswered(const control_target *t) {
    return fail("no answer from " + (t->url.empty() ? t->socket : t->url) + ": " + strerror(errno));
}

static int show(const control_target *t, const std::string &method, const std::string &path, const std::string &body) {
    control_answer answer;
    if (!control_ask(t, method, path, body, &answer)) return unanswered(t);
    if (t->json)
        printf("%s\n", answer.body.c_str());
    else
        print_pretty(answer.body);
    if (answer.status < 300) return 0;
    return fail("the daemon answered " + std::to_string(answer.status));
}

// ---------------------------------------------------------------- reload, config

static bool print_mistake(view raw, json_type, void *context) {
    auto *reader = static_cast<json_reader *>(context);
    json_object mistake;
    error e;
    if (!json_parse_nested(reader, raw, &mistake, &e)) return false;
    const json_member *file = json_find(&mistake, "file"), *line = json_find(&mistake, "line"),
                      *message = json_find(&mistake, "message");
    if (!file || !line || !message) return false;
    std::string at = line->is_integer && line->integer ? ":" + std::to_string(line->integer) : "";
    fprintf(stderr, "%.*s%s: %.*s\n", static_cast<int>(file->text.size()), file->text.data(), at.c_str(),
            static_cast<int>(message->text.size()), message->text.data());
    return true;
}

// FILE:LINE: MESSAGE for each of what `member` lists, as belfry -t has them.
static void print_mistakes(const std::string &body, const char *member) {
    json_reader *reader = json_reader_new();
    frame *padded = frame_copy(body);
    json_object answer;
    error e;
    if (json_parse_object(reader, frame_view(padded), &answer, &e))
        if (const json_member *all = json_find(&answer, member))
            if (!json_each_element(reader, all->raw, print_mistake, reader, &e)) fprintf(stderr, "%s\n", e.text);
    frame_unref(padded);
    json_reader_free(reader);
}

static int reload(const control_target *t) {
    if (t->json) return show(t, "POST", "/v1/reload", "");
    control_answer answer;
    if (!control_ask(t, "POST", "/v1/reload", "", &answer)) return unanswered(t);
    print_mistakes(answer.body, answer.status == 200 ? "warnings" : "errors");
    if (answer.status == 422) return fail("nothing has changed");
    print_pretty(answer.body);
    return answer.status == 200 ? 0 : fail("the daemon answered " + std::to_string(answer.status));
}

// As belfry -T prints it.
static int config(const control_target *t) {
    if (t->json) return show(t, "GET", "/v1/config", "");
    control_answer answer;
    if (!control_ask(t, "GET", "/v1/config?format=ini", "", &answer)) return unanswered(t);
    fputs(answer.body.c_str(), stdout);
    return answer.status == 200 ? 0 : fail("the daemon answered " + std::to_string(answer.status));
}

// ---------------------------------------------------------------- commands

static std::string quoted(const char *text) {
    buffer b = {};
    json_write_string(&b, text);
    std::string out(buffer_view(&b));
    buffer_free(&b);
    return out;
}

static std::string encoded(const char *text) {
    buffer b = {};
    uri_encode(text, &b);
    std::string out(buffer_view(&b));
    buffer_free(&b);
    return out;
}

static int usage(FILE *out, int code) {
    fputs("usage: belfryctl [-s SOCKET | -u URL] [--json] COMMAND\n"
          "  status                            what runs, and what was counted\n"
          "  rooms                             rooms and their members\n"
          "  room ROOM                         one room\n"
          "  connections [--room R] [--user U] who is connected\n"
          "  upstreams [--key K]               backends, their health and load; which one a key gets\n"
          "  publish ROOM DATA                 DATA, verbatim, to a room\n"
          "  command JSON                      one command, or an array of them\n"
          "  disconnect --conn C|--user U|--room R [--code N] [--reason T]\n"
          "  config                            the configuration in force, as ini\n"
          "  reload                            read the file again; prints every mistake, and changes nothing then\n"
          "  drain                             ask all clients to leave, at drain_rate, then end\n"
          "  top [--once]                      a live view; q ends it\n"
          "A token for TCP is taken from the environment: BELFRY_TOKEN.\n",
          out);
    return code;
}

// The value behind `name` among the arguments, or null.
static const char *option(int argc, char **argv, const char *name) {
    for (int i = 0; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return argv[i + 1];
    return nullptr;
}

static int disconnect(const control_target *t, int argc, char **argv) {
    const char *conn = option(argc, argv, "--conn"), *user = option(argc, argv, "--user"),
               *room = option(argc, argv, "--room"), *code = option(argc, argv, "--code"),
               *reason = option(argc, argv, "--reason");
    uint64_t number = 0;
    if (!!conn + !!user + !!room != 1) return fail("disconnect: give one of --conn, --user and --room");
    if (code && !bytes_parse_uint(code, &number))
        return fail(std::string("disconnect: --code ") + code + " is no number");
    std::string body = std::string("{\"op\":\"disconnect\",\"") +
                       (conn   ? "conn"
                        : user ? "user"
                               : "room") +
                       "\":" +
                       quoted(conn   ? conn
                              : user ? user
                                     : room);
    if (code) body += ",\"code\":" + std::to_string(number);
    if (reason) body += ",\"reason\":" + quoted(reason);
    return show(t, "POST", "/v1/commands", body + "}");
}

static int run(const control_target *t, int argc, char **argv) {
    if (argc < 1) return usage(stderr, 2);
    std::string command = argv[0];
    if (command == "status" && argc == 1) return show(t, "GET", "/v1/status", "");
    if (command == "rooms" && argc == 1) return show(t, "GET", "/v1/rooms?limit=10000", "");
    if (command == "room" && argc == 2) return show(t, "GET", "/v1/rooms/" + encoded(argv[1]), "");
    if (command == "publish" && argc == 3) return show(t, "POST", "/v1/rooms/" + encoded(argv[1]), argv[2]);
    if (command == "command" && argc == 2) return show(t, "POST", "/v1/commands", argv[1]);
    if (command == "config" && argc == 1) return config(t);
    if (command == "reload" && argc == 1) return reload(t);
    if (command == "top" && (argc == 1 || (argc == 2 && strcmp(argv[1], "--once") == 0)))
        return belfryctl_top(t, argc == 2);
    if (command == "drain" && argc == 1) return show(t, "POST", "/v1/drain", "");
    if (command == "disconnect") return disconnect(t, argc - 1, argv + 1);
    if (command == "connections" && argc % 2 == 1) {
        const char *room = option(argc - 1, argv + 1, "--room"), *user = option(argc - 1, argv + 1, "--user");
        if (argc != 1 + 2 * (!!room + !!user)) return usage(stderr, 2);
        return show(t, "GET",
                    "/v1/connections?limit=10000" + (room ? "&room=" + encoded(room) : "") +
                        (user ? "&user=" + encoded(user) : ""),
                    "");
    }
    if (command == "upstreams" && (argc == 1 || argc == 3)) {
        const char *key = option(argc - 1, argv + 1, "--key");
        if (argc == 3 && !key) return usage(stderr, 2);
        return show(t, "GET", std::string("/v1/upstreams") + (key ? "?key=" + encoded(key) : ""), "");
    }
    return usage(stderr, 2);
}

} // namespace belfry

int main(int argc, char **argv) {
    using namespace belfry;
    control_target t;
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--json") == 0)
            t.json = true;
        else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc)
            t.socket = argv[++i];
        else if (strcmp(argv[i], "-u") == 0 && i + 1 < argc)
            t.url = argv[++i];
        else if (strcmp(argv[i], "-h") == 0)
            return usage(stdout, 0);
        else
            return usage(stderr, 2);
    }
    return run(&t, argc - i, argv + i);
}
