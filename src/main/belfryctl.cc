// belfryctl(1): the control API from the shell. One blocking HTTP request, the answer printed. Its own process.
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#ifndef BELFRY_RUNSTATEDIR
#define BELFRY_RUNSTATEDIR "/run"
#endif

#include "base/bytes.h"
#include "base/frame.h"
#include "proto/json.h"
#include "proto/uri.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace belfry {

struct control_target {
    std::string socket = BELFRY_RUNSTATEDIR "/belfry/control.sock";
    std::string url; // http://HOST:PORT, instead of the socket
    bool json = false;
};

struct control_answer {
    int status = 0;
    std::string body;
};

static int fail(const std::string &text) {
    fprintf(stderr, "belfryctl: %s\n", text.c_str());
    return 1;
}

// ---------------------------------------------------------------- one request

static int connect_unix(const std::string &path) {
    struct sockaddr_un a = {};
    a.sun_family = AF_UNIX;
    if (path.size() >= sizeof a.sun_path) return errno = ENAMETOOLONG, -1;
    memcpy(a.sun_path, path.c_str(), path.size() + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, reinterpret_cast<struct sockaddr *>(&a), sizeof a) == 0) return fd;
    int saved = errno;
    if (fd >= 0) close(fd);
    errno = saved;
    return -1;
}

static int connect_tcp(const std::string &url, std::string *host) {
    std::string rest = url.compare(0, 7, "http://") == 0 ? url.substr(7) : url;
    *host = rest = rest.substr(0, rest.find('/'));
    size_t colon = rest.rfind(':');
    if (colon == std::string::npos) return errno = EINVAL, -1;
    std::string name = rest.substr(0, colon), port = rest.substr(colon + 1);
    if (name.size() > 2 && name[0] == '[') name = name.substr(1, name.size() - 2);
    struct addrinfo hints = {}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(name.c_str(), port.c_str(), &hints, &found) != 0) return errno = EADDRNOTAVAIL, -1;
    int fd = -1;
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) == 0) continue;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static bool send_all(int fd, view bytes) {
    while (!bytes.empty()) {
        ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
}

static std::string receive_all(int fd) {
    std::string out;
    char piece[16384];
    for (ssize_t n; (n = recv(fd, piece, sizeof piece, 0)) > 0;)
        out.append(piece, static_cast<size_t>(n));
    return out;
}

// False with errno where nobody answers.
static bool ask(const control_target *t, const std::string &method, const std::string &path, const std::string &body,
                control_answer *out) {
    std::string host = "localhost";
    int fd = t->url.empty() ? connect_unix(t->socket) : connect_tcp(t->url, &host);
    if (fd < 0) return false;
    struct timeval patience = {30, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    std::string request = method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n";
    if (const char *token = getenv("BELFRY_TOKEN")) request += std::string("Authorization: Bearer ") + token + "\r\n";
    request += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    std::string answer;
    if (send_all(fd, request)) answer = receive_all(fd);
    close(fd);
    size_t end = answer.find("\r\n\r\n");
    if (end == std::string::npos || answer.compare(0, 9, "HTTP/1.1 ") != 0) return errno = EPROTO, false;
    out->status = atoi(answer.c_str() + 9);
    out->body = answer.substr(end + 4);
    return true;
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
    if (!ask(t, method, path, body, &answer)) return unanswered(t);
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
    if (!ask(t, "POST", "/v1/reload", "", &answer)) return unanswered(t);
    print_mistakes(answer.body, answer.status == 200 ? "warnings" : "errors");
    if (answer.status == 422) return fail("nothing has changed");
    print_pretty(answer.body);
    return answer.status == 200 ? 0 : fail("the daemon answered " + std::to_string(answer.status));
}

// As belfry -T prints it.
static int config(const control_target *t) {
    if (t->json) return show(t, "GET", "/v1/config", "");
    control_answer answer;
    if (!ask(t, "GET", "/v1/config?format=ini", "", &answer)) return unanswered(t);
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
          "  drain                             ask all clients to leave, then end; at drain_rate\n"
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
