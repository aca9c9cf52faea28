// A configuration beside the one in force: what stays as it was, what is felt, what is carried on as retired, and that
// a mistake leaves everything alone.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "../net/throwaway_certificate.h"
#include "main/config_reload.h"
#include "temporary_files.h"

#include <string.h>
#include <sys/stat.h>

using namespace belfry;

namespace {

config *in_force, *next;
std::string *told;

int setup(void **) {
    directory_begin();
    in_force = new config{};
    next = new config{};
    told = new std::string;
    return 0;
}

int teardown(void **) {
    config_free(next);
    config_free(in_force);
    delete next;
    delete in_force;
    delete told;
    directory_end();
    unsetenv("BELFRY_TEST_SECRET");
    return 0;
}

std::string lines_of(const std::vector<config_error> &all) {
    std::string out;
    for (const config_error &e : all)
        out += std::to_string(e.line) + ": " + e.text + "\n";
    return out;
}

std::string file() {
    return *directory + "/belfry.ini";
}

void starts(std::string_view text) {
    write_file("belfry.ini", text);
    bool good = config_load(file().c_str(), in_force);
    *told = lines_of(in_force->errors);
    assert_string_equal(told->c_str(), "");
    assert_true(good);
}

bool reload(uint64_t now_ms) {
    config_free(next);
    *next = config{};
    return config_reload(file().c_str(), in_force, now_ms, next);
}

void reloads(std::string_view text, uint64_t now_ms = 1000) {
    write_file("belfry.ini", text);
    bool good = reload(now_ms);
    *told = lines_of(next->errors);
    assert_string_equal(told->c_str(), "");
    assert_true(good);
}

void fails(std::string_view text, const char *want) {
    write_file("belfry.ini", text);
    assert_false(reload(1000));
    *told = lines_of(next->errors);
    assert_string_equal(told->c_str(), want);
}

void warns(const char *want) {
    *told = lines_of(next->warnings);
    assert_string_equal(told->c_str(), want);
}

// What the daemon does once the node has gone over.
void goes_over() {
    config_free(in_force);
    std::swap(in_force, next);
    *next = config{};
}

#define LEAST "[listener web]\nlisten = 127.0.0.1:0\n[route /]\nhost =\n"

// ---------------------------------------------------------------- options

void what_is_felt_is_taken(void **) {
    starts(LEAST "[belfry]\nmax_connections = 5\n[control]\nlisten = unix:/x\n");
    reloads("[belfry]\nmax_connections = 7\nlog_level = debug\ncompression_min = 1k\n"
            "[listener web]\nlisten = 127.0.0.1:1\n[route /]\nmax_message = 2k\norigin = https://a.example\n"
            "[room *]\njoin = anyone\n[upstream app]\nserver = a:1\n[control]\nlisten = unix:/y\ntoken = t\n");
    warns("");
    assert_int_equal(next->relay.max_connections, 7);
    assert_int_equal(next->relay.compression_min, 1024);
    assert_int_equal(next->core.log_level, 3);
    assert_string_equal(next->relay.listeners[0].listen[0].c_str(), "127.0.0.1:1");
    assert_int_equal(next->relay.routes[0].max_message, 2048);
    assert_int_equal(next->relay.rooms[0].join, right_anyone);
    assert_string_equal(next->relay.upstreams[0].name.c_str(), "app");
    assert_string_equal(next->control.listen[0].c_str(), "unix:/y");
    assert_string_equal(next->control.token.c_str(), "t");
    assert_true(next->retired_ms.empty());
    // The old one is as it was.
    assert_int_equal(in_force->relay.max_connections, 5);
    assert_string_equal(in_force->control.listen[0].c_str(), "unix:/x");
}

void what_needs_a_restart_stays_and_is_told(void **) {
    starts(LEAST "[belfry]\nworkers = 3\nlog = /tmp/one\n"
                 "[broker]\ntype = redis\nurl = redis://:secret@a:1/2\nprefix = one:\nmax_message = 256k\n");
    reloads(LEAST "[belfry]\nworkers = 4\nlog = /tmp/two\npid_file = /tmp/pid\n"
                  "[broker]\ntype = redis\nurl = redis://:other@b:1/2\nprefix = two:\nmax_message = 300k\n");
    warns("6: workers: has changed, which needs a restart or an upgrade (USR2): the old value stays\n"
          "7: log: has changed, which needs a restart or an upgrade (USR2): the old value stays\n"
          "8: pid_file: has changed, which needs a restart or an upgrade (USR2): the old value stays\n"
          "11: url: has changed, which needs a restart or an upgrade (USR2): the old value stays\n"
          "12: prefix: has changed, which needs a restart or an upgrade (USR2): the old value stays\n"
          "13: max_message: has changed, which needs a restart or an upgrade (USR2): the old value stays\n");
    assert_string_equal(next->core.workers.c_str(), "3");
    assert_int_equal(next->worker_count, 3);
    assert_string_equal(next->core.log.c_str(), "/tmp/one");
    assert_string_equal(next->core.pid_file.c_str(), "");
    assert_string_equal(next->broker.url.c_str(), "redis://:secret@a:1/2");
    assert_string_equal(next->link.redis.host.c_str(), "a");
    assert_string_equal(next->link.prefix.c_str(), "one:");
    assert_int_equal(next->link.max_message, 256 * 1024);
    assert_int_equal(next->relay.max_message, 256 * 1024);
    // The next one warns again, as long as the file says so.
    goes_over();
    reloads(LEAST "[belfry]\nworkers = 3\n[broker]\ntype = redis\nurl = redis://:secret@a:1/2\nprefix = one:\n"
                  "max_message = 256k\n");
    warns("5: log: has changed, which needs a restart or an upgrade (USR2): the old value stays\n");
}

// A value that could not be started with is a mistake, also where it would not be felt.
void mistakes_in_what_needs_a_restart_are_mistakes(void **) {
    starts(LEAST);
    fails(LEAST "[belfry]\nworkers = 99\n[broker]\ntype = redis\nurl = http://x\n",
          "6: workers: \"99\" is neither auto nor a number from 1 to 64\n"
          "9: url: a Redis URL starts with redis://, rediss:// or unix://\n");
}

void a_queue_fits_the_message_in_force_too(void **) {
    starts(LEAST "[broker]\nmax_message = 512k\n");
    fails("[listener web]\nlisten = 127.0.0.1:0\n[route /]\nsend_queue = 300k\n[broker]\nmax_message = 256k\n",
          "4: send_queue: must be at least the max_message in force + 1k, in [route /]: [broker] changes with a "
          "restart\n");
}

void modules_stay(void **) {
    starts("[listener web]\nlisten = 127.0.0.1:0\n[belfry]\nmodules = origin, rate_limit\n[route /]\norigin = "
           "https://a.example\n");
    reloads("[belfry]\nmodules = rate_limit, sticky\nload_module = /no/such/module.so\n"
            "[listener web]\nlisten = 127.0.0.1:0\n[route /]\norigin = https://b.example\n");
    warns("2: modules: has changed, which needs a restart or an upgrade (USR2): the old value stays\n"
          "3: load_module: has changed, which needs a restart or an upgrade (USR2): the old value stays\n");
    assert_int_equal(next->modules.modules.size(), 2);
    assert_int_equal(next->relay.modules.size(), 2);
    assert_int_equal(next->relay.module_conn_bytes, in_force->relay.module_conn_bytes);
    for (size_t i = 0; i < 2; i++) {
        assert_ptr_equal(next->relay.modules[i].module, in_force->relay.modules[i].module);
        assert_int_equal(next->relay.modules[i].conn_offset, in_force->relay.modules[i].conn_offset);
    }
    assert_non_null(next->relay.routes[0].scopes[0]);
    assert_ptr_not_equal(next->relay.routes[0].scopes[0], in_force->relay.routes[0].scopes[0]);
    goes_over(); // and the modules live on with the second
    assert_int_equal(in_force->core.modules.size(), 2);
    assert_string_equal(in_force->core.modules[0].c_str(), "origin");
    reloads(LEAST "[belfry]\nmodules = origin, rate_limit\n");
    warns("");
}

void an_option_of_a_module_that_is_not_loaded_is_a_mistake(void **) {
    starts(LEAST "[belfry]\nmodules = origin\n");
    fails(LEAST "message_rate = 5/s\n[belfry]\nmodules = origin, rate_limit\n",
          "5: \"message_rate\" is an option of module rate_limit, which is not loaded: [belfry] modules is read at a "
          "restart\n");
}

void every_mistake_is_told_and_nothing_is_touched(void **) {
    starts(LEAST "[room a]\njoin = user\n");
    fails("[belfry]\nmax_conections = 5\n[listener web]\nlisten = nowhere\n[route /]\nupstream = app\n",
          "2: unknown option \"max_conections\" in [belfry]; did you mean \"max_connections\"?\n"
          "4: listen: \"nowhere\" is not an address: it needs a port, as 127.0.0.1:8443\n"
          "6: upstream: there is no [upstream app]\n");
    assert_int_equal(in_force->relay.rooms.size(), 1);
    assert_string_equal(in_force->relay.listeners[0].listen[0].c_str(), "127.0.0.1:0");
    remove(file().c_str());
    assert_false(reload(1000));
    assert_non_null(strstr(next->errors[0].text.c_str(), "can't read it"));
}

void files_and_environment_are_read_again(void **) {
    setenv("BELFRY_TEST_SECRET", "one", 1);
    write_file("secret", "first\n");
    mkdir((*directory + "/more").c_str(), 0700);
    const std::string text = LEAST "hook_secret = file:" + *directory +
                             "/secret\n[control]\ntoken = ${BELFRY_TEST_SECRET}\ninclude = more/*.ini\n";
    starts(text);
    assert_string_equal(in_force->relay.routes[0].hook_secret.c_str(), "first");
    setenv("BELFRY_TEST_SECRET", "two", 1);
    write_file("secret", "second\n");
    write_file("more/rooms.ini", "[room chat]\n");
    reloads(text);
    assert_string_equal(next->relay.routes[0].hook_secret.c_str(), "second");
    assert_string_equal(next->control.token.c_str(), "two");
    assert_string_equal(next->relay.rooms[0].pattern.c_str(), "chat");
}

#define TLS "[listener web]\nlisten = 127.0.0.1:0\ntls = yes\n"

void certificates_are_read_again(void **) {
    std::string chain = *directory + "/chain.pem", key = *directory + "/key.pem";
    throwaway::make({.dns = {"one"}}, chain, key);
    const std::string text = TLS "certificate = " + chain + "\nprivate_key = " + key + "\n[route /]\n";
    starts(text);
    throwaway::make({.dns = {"two"}}, chain, key);
    reloads(text);
    assert_ptr_not_equal(next->relay.listeners[0].context, in_force->relay.listeners[0].context);
    assert_ptr_equal(next->tickets, in_force->tickets); // TLS sessions go on
    write_file("key.pem", "no key");
    fails(text,
          ("4: certificate: " + key +
           ": no PEM private key without pass phrase: unsupported (No supported data to decode. Input type: PEM)\n")
              .c_str());
    assert_non_null(in_force->relay.listeners[0].context);
}

// ---------------------------------------------------------------- retired sections

#define MORE                                                                                                           \
    "[listener old]\nlisten = 127.0.0.1:0\nmax_handshakes = 7\n"                                                       \
    "[upstream app]\nserver = a:1\nread_timeout = 3s\nhealth_check = /up\n"                                            \
    "[route /old]\nupstream = app\nhook = /h\nhook_secret = s\nnotify = joined\norigin = https://a.example\n"          \
    "[route /old b]\nhost = b.example\nmax_rooms = 9\n"

void what_is_gone_is_carried_as_retired(void **) {
    starts(LEAST MORE);
    reloads(LEAST);
    assert_int_equal(next->relay.listeners.size(), 2);
    const listener_settings &l = next->relay.listeners[1];
    assert_true(l.retired && !next->relay.listeners[0].retired);
    assert_string_equal(l.name.c_str(), "old");
    assert_int_equal(l.max_handshakes, 7);
    assert_int_equal(next->relay.upstreams.size(), 1);
    const upstream_settings &u = next->relay.upstreams[0];
    assert_true(u.retired);
    assert_string_equal(u.health_check.c_str(), ""); // nobody asks after it any more
    assert_int_equal(u.read_timeout, 3000);
    assert_string_equal(u.servers[0].text.c_str(), "a:1");
    assert_int_equal(next->relay.routes.size(), 3);
    assert_false(next->relay.routes[0].retired);
    const route &r = next->relay.routes[1].host.empty() ? next->relay.routes[1] : next->relay.routes[2];
    const route &hosted = next->relay.routes[1].host.empty() ? next->relay.routes[2] : next->relay.routes[1];
    assert_true(r.retired && hosted.retired);
    assert_string_equal(r.path.c_str(), "/old");
    assert_int_equal(r.notify_bits, 1 << 2);
    assert_ptr_equal(route_upstream(&next->relay, &r), &u);
    assert_int_equal(hosted.max_rooms, 9);
    assert_int_equal(next->retired_ms.size(), 4);
    // Scopes of its own, so that the old config may go.
    assert_non_null(r.scopes[0]);
    goes_over();
    // The printed config has what the file has.
    buffer out = {};
    config_print(in_force, &out);
    bool printed = buffer_view(&out).find("/old") != view::npos || buffer_view(&out).find("old]") != view::npos;
    buffer_free(&out);
    assert_false(printed);
}

void a_retired_route_asks_the_upstream_of_that_name(void **) {
    starts(LEAST MORE);
    reloads(LEAST "[upstream aaa]\nserver = x:1\n[upstream app]\nserver = b:1\n");
    const route &r = next->relay.routes.back().host.empty() ? next->relay.routes.back() : next->relay.routes[1];
    assert_string_equal(r.path.c_str(), "/old");
    assert_string_equal(route_upstream(&next->relay, &r)->server[0].c_str(), "b:1");
    assert_int_equal(next->relay.upstreams.size(), 2);
}

void retired_sections_end_after_their_time(void **) {
    starts(LEAST MORE "[belfry]\ndrain_timeout = 10s\n");
    reloads(LEAST "[belfry]\ndrain_timeout = 10s\n", 1000);
    goes_over();
    reloads(LEAST "[belfry]\ndrain_timeout = 10s\n", 16000); // 10 s and 5 s
    assert_int_equal(next->retired_ms.size(), 4);
    goes_over();
    reloads(LEAST "[belfry]\ndrain_timeout = 10s\n", 16001);
    assert_true(next->retired_ms.empty());
    assert_int_equal(next->relay.listeners.size(), 1);
    assert_int_equal(next->relay.routes.size(), 1);
    assert_int_equal(next->relay.upstreams.size(), 0);
}

void what_comes_back_is_retired_no_more(void **) {
    starts(LEAST MORE);
    reloads(LEAST, 1000);
    goes_over();
    reloads(LEAST MORE, 2000);
    assert_true(next->retired_ms.empty());
    assert_int_equal(next->relay.routes.size(), 3);
    for (const route &r : next->relay.routes)
        assert_false(r.retired);
    assert_false(next->relay.listeners[0].retired || next->relay.listeners[1].retired);
    assert_false(next->relay.upstreams[0].retired);
    goes_over();
    reloads(LEAST, 9000); // counts anew
    assert_int_equal(next->retired_ms.at("route /old"), 9000);
}

void a_route_with_another_host_is_another_route(void **) {
    starts("[listener web]\nlisten = 127.0.0.1:0\n[route /ws]\nhost = a.example\n");
    reloads("[listener web]\nlisten = 127.0.0.1:0\n[route /ws]\nhost = b.example\n");
    assert_int_equal(next->relay.routes.size(), 2);
    assert_true(next->relay.routes[1].retired);
    assert_string_equal(next->relay.routes[1].host.c_str(), "a.example");
    bool other_host;
    assert_string_equal(route_find(&next->relay, "/ws", "b.example", &other_host)->host.c_str(), "b.example");
    assert_null(route_find(&next->relay, "/ws", "a.example", &other_host));
}

void a_listener_that_is_retired_keeps_its_certificate(void **) {
    std::string chain = *directory + "/chain.pem", key = *directory + "/key.pem";
    throwaway::make({.dns = {"one"}}, chain, key);
    starts(TLS "certificate = " + chain + "\nprivate_key = " + key + "\n[route /]\n");
    reloads("[listener new]\nlisten = 127.0.0.1:1\n[route /]\n");
    assert_string_equal(next->relay.listeners[1].name.c_str(), "web");
    assert_ptr_equal(next->relay.listeners[1].context, in_force->relay.listeners[0].context);
    goes_over(); // counted: the sanitizer would see a context that is freed too early, or never
}

// Its connections are the new one's; two may become one.
void a_listener_under_another_name_is_not_retired(void **) {
    starts("[listener a]\nlisten = 127.0.0.1:80, unix:/x\n[listener b]\nlisten = *:81\n[listener c]\nlisten = "
           "127.0.0.1:82\n[route /]\n");
    reloads("[listener new]\nlisten = unix:/x\nlisten = 127.0.0.1:80, 0.0.0.0:81, 127.0.0.1:99\n[listener d]\nlisten "
            "= 127.0.0.1:83\n[route /]\n");
    assert_int_equal(next->relay.listeners.size(), 3);
    assert_int_equal(next->retired_ms.size(), 1);
    assert_string_equal(next->relay.listeners[2].name.c_str(), "c");
    const listener_settings &l = next->relay.listeners[1];
    assert_string_equal(l.name.c_str(), "new");
    assert_int_equal(l.formerly.size(), 2);
    assert_true(l.formerly[0] == "a" && l.formerly[1] == "b");
    assert_true(next->relay.listeners[0].formerly.empty());
    goes_over();
    reloads("[listener new]\nlisten = 127.0.0.1:80\n[route /]\n");
    assert_true(next->relay.listeners[0].formerly.empty());
    // One that was there before does not take others' connections over.
    goes_over();
    reloads("[listener c]\nlisten = 127.0.0.1:80\n[listener e]\nlisten = 127.0.0.1:1\n[route /]\n");
    assert_int_equal(next->relay.listeners[0].formerly.size(), 0);
}

void there_is_a_bound_of_retired_sections(void **) {
    std::string many = LEAST;
    for (size_t i = 0; i <= config_retired_max; i++)
        many += "[route /r" + std::to_string(i) + "]\n";
    starts(many);
    fails(LEAST, "0: more than 1024 sections are no more in the file, but have connections: wait for drain_timeout\n");
    many = many.substr(0, many.rfind("[route"));
    config_free(in_force);
    *in_force = config{};
    starts(many);
    reloads(LEAST);
    assert_int_equal(next->retired_ms.size(), config_retired_max);
}

} // namespace

#define with_files(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_files(what_is_felt_is_taken),
        with_files(what_needs_a_restart_stays_and_is_told),
        with_files(mistakes_in_what_needs_a_restart_are_mistakes),
        with_files(a_queue_fits_the_message_in_force_too),
        with_files(modules_stay),
        with_files(an_option_of_a_module_that_is_not_loaded_is_a_mistake),
        with_files(every_mistake_is_told_and_nothing_is_touched),
        with_files(files_and_environment_are_read_again),
        with_files(certificates_are_read_again),
        with_files(what_is_gone_is_carried_as_retired),
        with_files(a_retired_route_asks_the_upstream_of_that_name),
        with_files(retired_sections_end_after_their_time),
        with_files(what_comes_back_is_retired_no_more),
        with_files(a_route_with_another_host_is_another_route),
        with_files(a_listener_that_is_retired_keeps_its_certificate),
        with_files(a_listener_under_another_name_is_not_retired),
        with_files(there_is_a_bound_of_retired_sections),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
