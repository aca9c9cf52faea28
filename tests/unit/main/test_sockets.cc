// Listening sockets over reloads and upgrades: what is kept by its address, what is opened beside it, and that a
// failure leaves nothing behind.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "main/sockets.h"
#include "net/address.h"
#include "temporary_files.h"

#include <errno.h>
#include <fcntl.h>
#include <set>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace belfry;

namespace {

sockets *now, *next;
relay_settings *settings;
sockets_fault *fault;
error e;

int setup(void **) {
    directory_begin();
    now = new sockets;
    next = new sockets;
    settings = new relay_settings{};
    fault = new sockets_fault;
    return 0;
}

int teardown(void **) {
    sockets_discard(now, next);
    sockets_close(now);
    delete now;
    delete next;
    delete settings;
    delete fault;
    directory_end();
    return 0;
}

using addresses = std::vector<std::string>;

void wants(const std::string &name, const addresses &listen, bool retired = false) {
    listener_settings l = {};
    l.name = name;
    l.listen = listen;
    l.retired = retired;
    settings->listeners.push_back(l);
}

bool open_next(uint32_t workers = 2) {
    return sockets_open(now, settings, workers, next, fault, &e);
}

// Opens them and goes over to them.
void begins(uint32_t workers = 2) {
    assert_true(open_next(workers));
    sockets_replace(now, next);
    settings->listeners.clear();
}

int fd_of(const sockets *s, const std::string &listener, uint32_t worker, const char *written = nullptr) {
    for (const listening_socket &one : s->open)
        if (one.listener == listener && one.worker == worker && (!written || one.written == written)) return one.fd;
    return -1;
}

bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

bool exists(const std::string &path) {
    struct stat at;
    return lstat(path.c_str(), &at) == 0;
}

std::string bound_of(const sockets *s, const std::string &listener) {
    for (const listening_socket &one : s->open)
        if (one.listener == listener) return one.bound;
    return "";
}

void each_worker_has_one_of_each_address(void **) {
    wants("web", {"127.0.0.1:0", "unix:" + *directory + "/s"});
    begins(3);
    assert_int_equal(now->open.size(), 6);
    std::set<int> fds;
    for (const listening_socket &one : now->open)
        fds.insert(one.fd);
    assert_int_equal(fds.size(), 6);
    for (uint32_t w = 1; w < 3; w++)
        assert_string_equal(now->open[w].bound.c_str(), now->open[0].bound.c_str());
}

void an_address_is_kept_under_another_name(void **) {
    wants("web", {"127.0.0.1:0"});
    begins();
    int fds[] = {fd_of(now, "web", 0), fd_of(now, "web", 1)};
    wants("edge", {"127.0.0.1:0"});
    assert_true(open_next());
    assert_int_equal(next->open.size(), 2);
    for (uint32_t w = 0; w < 2; w++)
        assert_int_equal(fd_of(next, "edge", w), fds[w]);
    sockets_replace(now, next);
    assert_true(is_open(fds[0]) && is_open(fds[1]));
}

void a_listener_keeps_its_own_before_others_take_it(void **) {
    wants("web", {"127.0.0.1:0"});
    begins();
    int fd = fd_of(now, "web", 0);
    wants("admin", {"127.0.0.1:0"}); // comes first, and would fit as well
    wants("web", {"127.0.0.1:0"});
    assert_true(open_next());
    assert_int_equal(fd_of(next, "web", 0), fd);
    assert_true(fd_of(next, "admin", 0) >= 0 && fd_of(next, "admin", 0) != fd);
    assert_string_not_equal(bound_of(next, "admin").c_str(), bound_of(next, "web").c_str());
}

void an_address_may_be_written_in_another_way(void **) {
    wants("web", {"*:0"});
    begins();
    int fd = fd_of(now, "web", 1);
    wants("web", {"0.0.0.0:0"});
    assert_true(open_next());
    assert_int_equal(fd_of(next, "web", 1), fd);
    assert_string_equal(next->open[0].written.c_str(), "0.0.0.0:0");
    sockets_replace(now, next);
    settings->listeners.clear();
    std::string bound = now->open[0].bound; // and by the port that it has got
    wants("web", {bound});
    assert_true(open_next());
    assert_int_equal(fd_of(next, "web", 1), fd);
    assert_string_equal(address_canonical("unix:/a:b").c_str(), "unix:/a:b");
    assert_string_equal(address_canonical("[0:0::1]:5").c_str(), "[::1]:5");
    assert_string_equal(address_canonical("nothing").c_str(), "nothing");
}

void what_is_gone_is_closed_unless_a_worker_has_it(void **) {
    std::string path = *directory + "/s", kept = *directory + "/k";
    wants("web", {"127.0.0.1:0", "unix:" + path, "unix:" + kept});
    begins();
    int mine = fd_of(now, "web", 0, "127.0.0.1:0"), given = fd_of(now, "web", 1, "127.0.0.1:0");
    for (listening_socket &one : now->open)
        one.given = one.fd == given;
    wants("web", {"unix:" + kept});
    assert_true(open_next());
    assert_true(is_open(mine) && exists(path)); // nothing changes before it is sure
    sockets_replace(now, next);
    assert_false(is_open(mine));
    assert_true(is_open(given));
    assert_false(exists(path));
    assert_true(exists(kept));
    close(given);
}

void a_failure_leaves_all_as_it_was(void **) {
    std::string path = *directory + "/s";
    wants("web", {"127.0.0.1:0"});
    begins();
    std::string taken = *directory + "/file";
    write_file("file", "no socket");
    wants("new", {"127.0.0.1:0", "unix:" + path});
    wants("web", {"127.0.0.1:0", "unix:" + taken});
    int lowest = dup(0);
    close(lowest);
    assert_false(open_next());
    assert_string_equal(fault->listener.c_str(), "web");
    assert_int_equal(fault->which, 1);
    assert_non_null(strstr(e.text, taken.c_str()));
    assert_true(next->open.empty());
    assert_false(exists(path));
    assert_true(exists(taken));
    assert_int_equal(now->open.size(), 2);
    assert_true(is_open(now->open[0].fd) && is_open(now->open[1].fd));
    int again = dup(0);
    close(again);
    assert_int_equal(again, lowest); // none was left open
}

// 0.0.0.0 and 127.0.0.1 of one port, one after the other: the second is opened beside the first.
void a_narrower_address_of_the_same_port(void **) {
    wants("web", {"0.0.0.0:0"});
    begins();
    std::string bound = now->open[0].bound, narrow = "127.0.0.1" + bound.substr(bound.rfind(':'));
    wants("web", {narrow});
    if (!open_next()) fail_msg("%s", e.text);
    assert_int_equal(next->open.size(), 2);
    assert_string_equal(next->open[0].bound.c_str(), narrow.c_str());
    assert_false(next->open[0].fd == now->open[0].fd);
}

// SO_REUSEPORT alone would let the second in.
void an_address_of_another_process_is_refused(void **) {
    wants("web", {"127.0.0.1:0"});
    begins();
    std::string bound = now->open[0].bound;
    sockets other = {};
    wants("web", {bound});
    assert_false(sockets_open(&other, settings, 2, next, fault, &e));
    assert_non_null(strstr(e.text, bound.c_str()));
}

// Nor twice in one file, whether it is open already or not.
void an_address_is_opened_once(void **) {
    wants("web", {"127.0.0.1:0"});
    begins();
    std::string bound = now->open[0].bound;
    wants("web", {bound, "127.0.0.1:0"});
    wants("more", {bound});
    assert_false(open_next());
    assert_non_null(strstr(e.text, bound.c_str()));
}

void retired_listeners_have_no_sockets(void **) {
    wants("web", {"127.0.0.1:0"});
    wants("old", {"127.0.0.1:0"}, true);
    assert_true(open_next());
    assert_int_equal(next->open.size(), 2);
    assert_string_equal(next->open[1].listener.c_str(), "web");
}

// An upgrade: sockets of three workers come to two, or to five.
void sockets_of_more_workers_are_shared_out(void **) {
    wants("web", {"127.0.0.1:0"});
    begins(3);
    std::string bound = now->open[0].bound;
    int third = fd_of(now, "web", 2);
    wants("web", {"127.0.0.1:0"});
    assert_true(open_next(2));
    assert_int_equal(next->open.size(), 3);
    assert_int_equal(next->open[2].fd, third);
    assert_int_equal(next->open[2].worker, 0);
    assert_int_equal(sockets_bound(next, settings).size(), 1);
    sockets_replace(now, next);
    assert_true(open_next(2)); // and the next reload keeps them all
    assert_int_equal(next->open.size(), 3);
    assert_int_equal(next->open[2].fd, third);
    assert_int_equal(next->open[2].worker, 0);
}

void missing_sockets_are_opened_beside(void **) {
    std::string path = "unix:" + *directory + "/s";
    wants("web", {"127.0.0.1:0", path});
    begins(1);
    std::string bound = now->open[0].bound;
    int first = now->open[0].fd;
    wants("web", {"127.0.0.1:0", path});
    if (!open_next(3)) fail_msg("%s", e.text);
    assert_int_equal(next->open.size(), 6);
    assert_int_equal(next->open[0].fd, first);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(next->open[i].bound.c_str(), bound.c_str());
        assert_int_equal(next->open[i].worker, i);
        assert_string_equal(next->open[3 + i].bound.c_str(), path.c_str());
    }
}

// A reload's are those of `user`; the process that an upgrade starts is root's yet, and the kernel lets it bind no
// other socket beside them.
void beside_another_users_one_is_shared(void **) {
    if (geteuid() != 0) skip();
    wants("web", {"127.0.0.1:0"});
    assert_int_equal(seteuid(65534), 0);
    bool fine = open_next(1);
    assert_int_equal(seteuid(0), 0);
    assert_true(fine);
    sockets_replace(now, next);
    std::string bound = now->open[0].bound;
    if (!open_next(3)) fail_msg("%s", e.text);
    assert_int_equal(next->open.size(), 3);
    for (uint32_t w = 0; w < 3; w++) {
        assert_string_equal(next->open[w].bound.c_str(), bound.c_str());
        assert_int_equal(next->open[w].worker, w);
        assert_true(w == 0 || next->open[w].fd != next->open[w - 1].fd);
    }
}

void what_is_bound_is_told_in_the_order_of_the_config(void **) {
    wants("b", {"127.0.0.1:0", "unix:" + *directory + "/s"});
    settings->listeners.back().tls = true;
    wants("a", {"127.0.0.1:0"});
    assert_true(open_next());
    std::vector<bound_listener> all = sockets_bound(next, settings);
    assert_int_equal(all.size(), 3);
    assert_string_equal(all[0].name.c_str(), "b");
    assert_true(all[0].tls && all[1].tls && !all[2].tls);
    assert_string_equal(all[1].address.c_str(), ("unix:" + *directory + "/s").c_str());
    assert_string_equal(all[2].name.c_str(), "a");
}

} // namespace

#define with_sockets(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_sockets(each_worker_has_one_of_each_address),
        with_sockets(an_address_is_kept_under_another_name),
        with_sockets(a_listener_keeps_its_own_before_others_take_it),
        with_sockets(an_address_may_be_written_in_another_way),
        with_sockets(what_is_gone_is_closed_unless_a_worker_has_it),
        with_sockets(a_failure_leaves_all_as_it_was),
        with_sockets(a_narrower_address_of_the_same_port),
        with_sockets(an_address_of_another_process_is_refused),
        with_sockets(an_address_is_opened_once),
        with_sockets(retired_listeners_have_no_sockets),
        with_sockets(sockets_of_more_workers_are_shared_out),
        with_sockets(missing_sockets_are_opened_beside),
        with_sockets(beside_another_users_one_is_shared),
        with_sockets(what_is_bound_is_told_in_the_order_of_the_config),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
