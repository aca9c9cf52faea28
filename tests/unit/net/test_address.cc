// Addresses: the notation both ways, and real sockets on loopback and in a directory of the test's own.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "net/address.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace belfry;

namespace {

constexpr int descriptors_max = 8;

struct bench {
    char directory[64];
    char path[96];
    int open[descriptors_max]; // closed in teardown
    int count;
    mode_t mask;
};

int setup(void **state) {
    bench *b = static_cast<bench *>(calloc(1, sizeof(bench)));
    snprintf(b->directory, sizeof b->directory, "/tmp/belfry-address-XXXXXX");
    if (mkdtemp(b->directory) == nullptr) return -1;
    snprintf(b->path, sizeof b->path, "%s/socket", b->directory);
    b->mask = umask(022);
    *state = b;
    return 0;
}

int teardown(void **state) {
    bench *b = static_cast<bench *>(*state);
    for (int i = 0; i < b->count; i++)
        close(b->open[i]);
    unlink(b->path);
    rmdir(b->directory);
    umask(b->mask);
    free(b);
    return 0;
}

int keep(bench *b, int fd) {
    if (fd >= 0) b->open[b->count++] = fd;
    return fd;
}

const struct sockaddr *generic(const address *a) {
    return reinterpret_cast<const struct sockaddr *>(&a->storage);
}

address parse(const char *text) {
    address a;
    error e;
    if (!address_parse(text, &a, &e)) fail_msg("%s: %s", text, e.text);
    return a;
}

address parse_unix(const char *path) {
    char text[128];
    snprintf(text, sizeof text, "unix:%s", path);
    return parse(text);
}

void the_notation_reads_and_prints(void **) {
    const struct {
        const char *text, *printed, *host;
    } rows[] = {
        {"127.0.0.1:8443", "127.0.0.1:8443", "127.0.0.1"},
        {"*:80", "0.0.0.0:80", "0.0.0.0"},
        {"0.0.0.0:0", "0.0.0.0:0", "0.0.0.0"},
        {"255.255.255.255:65535", "255.255.255.255:65535", "255.255.255.255"},
        {"[::1]:443", "[::1]:443", "::1"},
        {"[::]:0", "[::]:0", "::"},
        {"[2001:DB8:0::1]:9", "[2001:db8::1]:9", "2001:db8::1"},
        {"[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.1]:1", "::ffff:192.0.2.1"},
        {"unix:/run/belfry/edge.sock", "unix:/run/belfry/edge.sock", "unix:"},
        {"unix:relative", "unix:relative", "unix:"},
    };
    for (const auto &row : rows) {
        address a = parse(row.text);
        assert_string_equal(address_format(generic(&a), a.size).text, row.printed);
        assert_string_equal(address_format_host(generic(&a), a.size).text, row.host);
    }
}

void what_is_no_address_is_refused_with_a_reason(void **) {
    const struct {
        const char *text, *reason;
    } rows[] = {
        {"", "port"},
        {"127.0.0.1", "port"},
        {":80", "host"},
        {"127.0.0.1:", "0 to 65535"},
        {"127.0.0.1:65536", "0 to 65535"},
        {"127.0.0.1:000080", "0 to 65535"},
        {"127.0.0.1:-1", "0 to 65535"},
        {"127.0.0.1:80x", "0 to 65535"},
        {"127.0.0.1 :80", "no host names"},
        {"127.1:80", "no host names"},
        {"256.0.0.1:80", "no host names"},
        {"localhost:80", "no host names"},
        {"127.0.0.1127.0.0.1127.0.0.1:80", "no host names"},
        {"::1:80", "brackets"},
        {"[::1]", "0 to 65535"},
        {"[::1:80", "brackets"},
        {"[]:80", "no host names"},
        {"[127.0.0.1]:80", "no host names"},
        {"[*]:80", "no host names"},
        {"[::1%lo]:80", "no host names"},
        {"[:80", "no host names"},
        {"[0000000000000000000000000000000000000000000000000000000000::1]:80", "no host names"},
        {"unix:", "path"},
        {"unix:/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
         "0123456",
         "107 bytes"},
    };
    for (const auto &row : rows) {
        address a;
        error e;
        if (address_parse(row.text, &a, &e)) fail_msg("%s was taken", row.text);
        if (strstr(e.text, row.reason) == nullptr) fail_msg("%s: unexpected reason: %s", row.text, e.text);
        assert_non_null(strstr(e.text, row.text)); // names what was wrong
    }
    address a;
    error e;
    assert_false(address_parse(view("127.0.0.1\0:80", 13), &a, &e));
    assert_false(address_parse(view("unix:/a\0b", 9), &a, &e));
}

void the_longest_path_fits(void **) {
    char text[128] = "unix:";
    memset(text + 5, 'p', 107);
    address a = parse(text);
    assert_string_equal(address_format(generic(&a), a.size).text, text);
}

void peers_without_a_name_print(void **) {
    struct sockaddr_un unnamed = {};
    unnamed.sun_family = AF_UNIX;
    const struct sockaddr *peer = reinterpret_cast<const struct sockaddr *>(&unnamed);
    assert_string_equal(address_format(peer, sizeof(sa_family_t)).text, "unix:");
    assert_string_equal(address_format_host(peer, sizeof(sa_family_t)).text, "unix:");
    memcpy(unnamed.sun_path, "\0name", 5);
    assert_string_equal(address_format(peer, offsetof(struct sockaddr_un, sun_path) + 5).text, "unix:@name");
    unnamed.sun_family = 4242;
    assert_string_equal(address_format(peer, sizeof unnamed).text, "family-4242");
}

void the_address_alone_is_one_value_for_both_families(void **) {
    const struct {
        const char *text, *alone;
    } rows[] = {
        {"192.0.2.1:8443", "192.0.2.1"},
        {"[::ffff:192.0.2.1]:1", "192.0.2.1"}, // as a socket without IPV6_V6ONLY shows it
        {"[2001:db8::1]:443", "2001:db8::1"},
        {"[::1]:0", "::1"},
        {"unix:/run/belfry/edge.sock", "unix:"},
    };
    for (const auto &row : rows) {
        address a = parse(row.text);
        ip alone = address_ip(generic(&a), a.size);
        assert_string_equal(ip_format(&alone).text, row.alone);
    }
    address four = parse("192.0.2.1:1"), six = parse("[2001:db8::1]:1");
    ip none = address_ip(generic(&four), sizeof(struct sockaddr_in) - 1);
    assert_true(ip_is_none(&none));
    none = address_ip(generic(&six), sizeof(struct sockaddr_in6) - 1);
    assert_true(ip_is_none(&none));
    none = address_ip(generic(&six), 0); // what getpeername(2) says of an unnamed peer
    assert_true(ip_is_none(&none));
    six.storage.ss_family = 4242;
    none = address_ip(generic(&six), six.size);
    assert_true(ip_is_none(&none));
    // The scope of a link-local peer is no part of it.
    address local = parse("[fe80::1]:1");
    reinterpret_cast<struct sockaddr_in6 *>(&local.storage)->sin6_scope_id = 2;
    ip alone = address_ip(generic(&local), local.size);
    assert_string_equal(ip_format(&alone).text, "fe80::1");
}

int option(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(fd, level, name, &value, &size);
    return value;
}

int accept_one(bench *b, int listening) {
    struct pollfd wait = {listening, POLLIN, 0};
    assert_int_equal(poll(&wait, 1, 5000), 1);
    return keep(b, accept4(listening, nullptr, nullptr, 0));
}

void check_listening_and_connecting(bench *b, const char *text) {
    address any = parse(text), bound;
    error e;
    int fd = keep(b, address_listen(&any, false, &e));
    if (fd < 0) fail_msg("%s", e.text);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
    assert_true(address_of_socket(fd, &bound));
    assert_string_not_equal(address_format(generic(&bound), bound.size).text, text); // port 0 resolved

    int client = keep(b, address_connect(&bound, &e));
    if (client < 0) fail_msg("%s", e.text);
    assert_true(fcntl(client, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(option(client, IPPROTO_TCP, TCP_NODELAY), 1);
    int server = accept_one(b, fd);
    assert_int_equal(option(server, IPPROTO_TCP, TCP_NODELAY), 1); // inherited

    error taken;
    assert_int_equal(address_listen(&bound, false, &taken), -1);
    assert_non_null(strstr(taken.text, address_format(generic(&bound), bound.size).text));
    assert_non_null(strstr(taken.text, strerror(EADDRINUSE)));
}

void ipv4_listens_and_connects(void **state) {
    check_listening_and_connecting(static_cast<bench *>(*state), "127.0.0.1:0");
}

bool ipv6_here() {
    address a = parse("[::1]:0");
    error e;
    int fd = address_listen(&a, false, &e);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

void ipv6_listens_alone(void **state) {
    bench *b = static_cast<bench *>(*state);
    if (!ipv6_here()) skip();
    check_listening_and_connecting(b, "[::1]:0");

    // IPV6_V6ONLY: both families on one port, as two `listen` lines ask for.
    address any = parse("[::]:0"), bound;
    error e;
    int six = keep(b, address_listen(&any, false, &e));
    assert_true(six >= 0);
    assert_int_equal(option(six, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    assert_true(address_of_socket(six, &bound));
    char text[32];
    snprintf(text, sizeof text, "*:%u",
             static_cast<unsigned>(ntohs(reinterpret_cast<struct sockaddr_in6 *>(&bound.storage)->sin6_port)));
    address four = parse(text);
    assert_true(keep(b, address_listen(&four, false, &e)) >= 0);
}

void threads_share_a_port(void **state) {
    bench *b = static_cast<bench *>(*state);
    address any = parse("127.0.0.1:0"), bound;
    error e;
    int first = keep(b, address_listen(&any, true, &e));
    assert_true(first >= 0);
    assert_true(address_of_socket(first, &bound));
    assert_true(keep(b, address_listen(&bound, true, &e)) >= 0);
    assert_int_equal(address_listen(&bound, false, &e), -1);
}

unsigned mode_of(const char *path) {
    struct stat at;
    return lstat(path, &at) == 0 ? static_cast<unsigned>(at.st_mode & 07777) : 0;
}

void a_unix_socket_has_its_mode_whatever_the_umask(void **state) {
    bench *b = static_cast<bench *>(*state);
    const mode_t masks[] = {0, 022, 077};
    for (mode_t mask : masks) {
        umask(mask);
        address a = parse_unix(b->path);
        error e;
        int fd = keep(b, address_listen(&a, true, &e));
        if (fd < 0) fail_msg("%s", e.text);
        assert_int_equal(mode_of(b->path), 0660);
        int client = keep(b, address_connect(&a, &e));
        if (client < 0) fail_msg("%s", e.text);
        assert_true(accept_one(b, fd) >= 0);
        unlink(b->path);
        while (b->count != 0)
            close(b->open[--b->count]);
    }
}

void a_left_over_unix_socket_is_replaced_and_a_live_one_is_not(void **state) {
    bench *b = static_cast<bench *>(*state);
    address a = parse_unix(b->path);
    error e;
    int dead = address_listen(&a, false, &e);
    assert_true(dead >= 0);
    close(dead); // the file stays, as after kill -9
    assert_int_equal(mode_of(b->path), 0660);

    int live = keep(b, address_listen(&a, false, &e));
    if (live < 0) fail_msg("%s", e.text);
    assert_int_equal(address_listen(&a, false, &e), -1);
    assert_non_null(strstr(e.text, b->path));
    assert_non_null(strstr(e.text, "another process is listening"));
    assert_true(keep(b, address_connect(&a, &e)) >= 0); // and it is still there
}

// Its owner is only slow: connect(2) says EAGAIN there, and the socket must stay.
void a_unix_socket_with_a_full_backlog_is_a_live_one(void **state) {
    bench *b = static_cast<bench *>(*state);
    address a = parse_unix(b->path);
    int owner = keep(b, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    assert_int_equal(bind(owner, generic(&a), a.size), 0);
    assert_int_equal(listen(owner, 0), 0);
    error e;
    while (b->count < descriptors_max && keep(b, address_connect(&a, &e)) >= 0)
        continue;
    assert_non_null(strstr(e.text, strerror(EAGAIN)));
    assert_int_equal(address_listen(&a, false, &e), -1);
    assert_non_null(strstr(e.text, "another process is listening"));
    assert_int_not_equal(mode_of(b->path), 0);
}

void a_file_that_is_no_socket_is_left_alone(void **state) {
    bench *b = static_cast<bench *>(*state);
    int file = keep(b, open(b->path, O_CREAT | O_WRONLY, 0600));
    assert_true(file >= 0);
    address a = parse_unix(b->path);
    error e;
    assert_int_equal(address_listen(&a, false, &e), -1);
    assert_non_null(strstr(e.text, b->path));
    assert_non_null(strstr(e.text, "not a socket"));
    assert_int_equal(mode_of(b->path), 0600);
}

void failures_name_the_address_and_leak_nothing(void **state) {
    bench *b = static_cast<bench *>(*state);
    int next = dup(0);
    close(next);
    error e;
    address nobody = parse_unix(b->path);
    assert_int_equal(address_connect(&nobody, &e), -1);
    assert_non_null(strstr(e.text, b->path));
    assert_non_null(strstr(e.text, strerror(ENOENT)));
    address nowhere = parse_unix("/nonexistent-directory/socket");
    assert_int_equal(address_listen(&nowhere, false, &e), -1);
    assert_non_null(strstr(e.text, "unix:/nonexistent-directory/socket"));
    address foreign = parse("192.0.2.1:0"); // TEST-NET-1 (RFC 5737)
    assert_int_equal(address_listen(&foreign, false, &e), -1);
    assert_non_null(strstr(e.text, "192.0.2.1:0"));
    int after = dup(0);
    close(after);
    assert_int_equal(after, next);
    address unused;
    assert_false(address_of_socket(-1, &unused));
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_notation_reads_and_prints),
        cmocka_unit_test(what_is_no_address_is_refused_with_a_reason),
        cmocka_unit_test(the_longest_path_fits),
        cmocka_unit_test(peers_without_a_name_print),
        cmocka_unit_test(the_address_alone_is_one_value_for_both_families),
        cmocka_unit_test_setup_teardown(ipv4_listens_and_connects, setup, teardown),
        cmocka_unit_test_setup_teardown(ipv6_listens_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_share_a_port, setup, teardown),
        cmocka_unit_test_setup_teardown(a_unix_socket_has_its_mode_whatever_the_umask, setup, teardown),
        cmocka_unit_test_setup_teardown(a_left_over_unix_socket_is_replaced_and_a_live_one_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(a_unix_socket_with_a_full_backlog_is_a_live_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_socket_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_name_the_address_and_leak_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
