// Whole configuration files: what they make, every mistake in one go, and the printed config loads again.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "main/config.h"
#include "temporary_files.h"

#include <string.h>

using namespace belfry;

namespace {

config *c;
std::string *errors; // "LINE: TEXT" lines

int setup(void **) {
    directory_begin();
    c = new config{};
    errors = new std::string;
    return 0;
}

int teardown(void **) {
    config_free(c);
    delete c;
    delete errors;
    directory_end();
    return 0;
}

bool load(std::string_view text) {
    config_free(c);
    *c = config{};
    errors->clear();
    bool good = config_load(write_file("belfry.ini", text).c_str(), c);
    for (const config_error &e : c->errors) {
        size_t slash = e.file.rfind('/');
        std::string name = e.file.substr(slash + 1);
        *errors += (name == "belfry.ini" ? "" : name + ":") + std::to_string(e.line) + ": " + e.text + "\n";
    }
    return good;
}

void loads(std::string_view text) {
    bool good = load(text);
    assert_string_equal(errors->c_str(), "");
    assert_true(good);
}

// The file's mistakes, all of them and no others.
void fails(std::string_view text, const char *want) {
    assert_false(load(text));
    assert_string_equal(errors->c_str(), want);
}

// What every config needs, for tests of something else. Two sections of two lines each.
#define LEAST "[listener web]\nlisten = 127.0.0.1:0\n[route /]\nhost =\n"

void the_least_config_has_all_defaults(void **) {
    loads(LEAST);
    assert_string_equal(c->core.workers.c_str(), "auto");
    assert_true(c->worker_count >= 1);
    assert_int_equal(c->core.max_connections, 100000);
    assert_int_equal(c->relay.max_connections, 100000);
    assert_int_equal(c->relay.compression_min, 256);
    assert_string_equal(c->core.log.c_str(), "stderr");
    assert_int_equal(c->core.log_level, 2);
    assert_int_equal(c->core.drain_delay, 0);
    assert_true((c->relay.drain_rate == rate{500, 1000, 500}));
    assert_int_equal(c->core.tls_ticket_rotate, 12 * 3600 * 1000);
    assert_int_equal(c->relay.drain_timeout, 60000);
    assert_int_equal(c->relay.listeners.size(), 1);
    const listener_settings &l = c->relay.listeners[0];
    assert_string_equal(l.name.c_str(), "web");
    assert_int_equal(l.listen.size(), 1);
    assert_false(l.tls);
    assert_null(l.context);
    assert_int_equal(l.handshake_timeout, 10000);
    assert_int_equal(c->relay.routes.size(), 1);
    const route &r = c->relay.routes[0];
    assert_string_equal(r.path.c_str(), "/");
    assert_int_equal(r.protocol, route_json);
    assert_int_equal(r.max_message, 65536);
    assert_int_equal(r.max_rooms, 64);
    assert_int_equal(r.ping_interval, 25000);
    assert_int_equal(r.pong_timeout, 8000);
    assert_int_equal(r.idle_timeout, 0);
    assert_int_equal(r.send_queue, 1 << 20);
    assert_true(r.compression);
    assert_int_equal(r.send_queue_soft, 0);
    assert_int_equal(r.send_queue_soft_time, 10000);
    assert_int_equal(r.on_slow, slow_close);
    assert_false(r.echo);
    assert_int_equal(c->broker.type, 0);
    assert_int_equal(c->link.type, 0);
    assert_string_equal(c->link.prefix.c_str(), "belfry:");
    assert_int_equal(c->link.max_message, 512 * 1024);
    assert_true(c->control.listen.empty());
}

void a_room_without_options_is_the_backends(void **) {
    loads(LEAST "[room chat]\n");
    assert_int_equal(c->relay.rooms[0].join, right_backend);
    assert_int_equal(c->relay.rooms[0].publish, right_backend);
    assert_int_equal(c->relay.rooms[0].max_members, 0);
}

void announce_implies_presence(void **) {
    loads(LEAST "[room plain]\n[room asked]\npresence = yes\n[room told]\nannounce = yes\n");
    for (const room_rule &r : c->relay.rooms) {
        assert_int_equal(r.presence, r.pattern != "plain");
        assert_int_equal(r.announce, r.pattern == "told");
    }
}

void what_is_given_is_taken(void **) {
    loads("[belfry]\nworkers = 3\nmax_connections = 7\ncompression_min = 1k\nlog_level = debug\n"
          "drain_delay = 5s\ndrain_rate = 100/m\ndrain_timeout = 2m\n"
          "[listener a]\nlisten = 127.0.0.1:1, 127.0.0.1:2\nlisten = unix:/tmp/x\n"
          "[route /ws]\nprotocol = raw\necho = yes\nmax_message = 2k\nping_interval = 0\n"
          "join_on_connect = lobby, {query.room}\njoin_on_connect = me-{conn}\n"
          "[room chat-*]\njoin = anyone\npublish = members\nmax_members = 10\n"
          "[broker]\ntype = redis\nurl = redis://u:p@127.0.0.1:7000/3\nprefix = x:\n"
          "[control]\nlisten = 127.0.0.1:0\ntoken = secret\n");
    assert_int_equal(c->worker_count, 3);
    assert_int_equal(c->relay.max_connections, 7);
    assert_int_equal(c->relay.compression_min, 1024);
    assert_int_equal(c->core.log_level, 3);
    assert_int_equal(c->core.drain_delay, 5000);
    assert_true((c->relay.drain_rate == rate{100, 60000, 100}));
    assert_int_equal(c->core.drain_timeout, 120000);
    assert_int_equal(c->relay.drain_timeout, 120000);
    assert_int_equal(c->relay.listeners[0].listen.size(), 3);
    assert_string_equal(c->relay.listeners[0].listen[2].c_str(), "unix:/tmp/x");
    const route &r = c->relay.routes[0];
    assert_int_equal(r.protocol, route_raw);
    assert_true(r.echo);
    assert_int_equal(r.max_message, 2048);
    assert_int_equal(r.ping_interval, 0);
    assert_int_equal(r.join_on_connect.size(), 3);
    assert_string_equal(r.join_on_connect[2].c_str(), "me-{conn}");
    assert_int_equal(c->relay.rooms[0].join, right_anyone);
    assert_int_equal(c->relay.rooms[0].publish, right_members);
    assert_int_equal(c->relay.rooms[0].max_members, 10);
    assert_int_equal(c->link.type, 1);
    assert_string_equal(c->link.prefix.c_str(), "x:");
    assert_string_equal(c->control.token.c_str(), "secret");
}

void routes_and_rooms_are_sorted_longest_first(void **) {
    loads("[listener web]\nlisten = 127.0.0.1:0\n"
          "[route /]\n[route /ws/chat]\n[route /ws]\n[route /ws b]\nhost = b.example\n"
          "[room *]\n[room chat-*]\n[room chat-lobby]\n[room chat-]\n");
    const char *const paths[] = {"/ws/chat", "/ws", "/ws", "/"};
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(c->relay.routes[i].path.c_str(), paths[i]);
    const char *const patterns[] = {"chat-lobby", "chat-", "chat-*", "*"};
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(c->relay.rooms[i].pattern.c_str(), patterns[i]);
    bool other_host;
    assert_string_equal(route_find(&c->relay, "/ws/x", "b.example:80", &other_host)->host.c_str(), "b.example");
}

void goodbyes_come_in_no_bursts(void **) {
    loads("[belfry]\ndrain_rate = 0\n" LEAST);
    assert_int_equal(c->relay.drain_rate.amount, 0);
    loads("[belfry]\ntls_ticket_rotate = 0\n" LEAST);
    assert_int_equal(c->core.tls_ticket_rotate, 0);
    loads("[belfry]\ntls_ticket_rotate = 1s\n" LEAST);
    assert_int_equal(c->core.tls_ticket_rotate, 1000);
    fails("[belfry]\ntls_ticket_rotate = 999ms\n" LEAST, "2: tls_ticket_rotate: must be 0 or at least 1s\n");
    fails("[belfry]\ndrain_rate = 10/s burst=20\n" LEAST,
          "2: drain_rate: takes no burst: goodbyes are evenly spaced\n");
}

void ten_mistakes_are_told_in_one_go(void **) {
    fails("[belfry]\n"
          "workers = many\n"        // 2
          "max_conections = 5\n"    // 3
          "drain_timeout = 10\n"    // 4
          "[listner web]\n"         // 5
          "listen = 127.0.0.1:80\n" // belongs to a section that was told
          "[listener web]\n"        // 7
          "listen = example.com\n"  // 8
          "[route ws]\n"            // 9
          "max_message = 1x\n"      // 10
          "protocol = jsn\n"        // 11
          "[room @all]\n"           // 12
          "[route]\n"               // 13
          "[control]\n"             // 14
          "listen = 127.0.0.1:0\n", // 15
          "3: unknown option \"max_conections\" in [belfry]; did you mean \"max_connections\"?\n"
          "4: drain_timeout: \"10\" has no unit: write 500ms, 10s, 5m, 1h or 2d\n"
          "5: unknown section [listner]; did you mean \"listener\"?\n"
          "10: max_message: \"1x\" is not a size: write plain bytes, or 64k, 1m or 2g\n"
          "11: protocol: \"jsn\" is not known here: write json or raw; did you mean json?\n"
          "13: [route] needs a name: [route NAME]\n"
          "2: workers: \"many\" is neither auto nor a number from 1 to 64\n"
          "8: listen: \"example.com\" is not an address: it needs a port, as 127.0.0.1:8443\n"
          "9: [route ws]: a route's path begins with /\n"
          "12: [room @all]: names with @ are Belfry's own\n"
          "15: listen: 127.0.0.1:0 is a TCP address: it needs a token\n");
}

void far_names_are_not_guessed(void **) {
    fails(LEAST "[belfry]\nqwertyuiop = 1\n[zzzzzz]\n", "6: unknown option \"qwertyuiop\" in [belfry]\n"
                                                        "7: unknown section [zzzzzz]\n");
}

void an_option_of_another_section_is_unknown(void **) {
    fails(LEAST "[belfry]\nurl = x\n", "6: unknown option \"url\" in [belfry]\n");
}

void an_empty_file_lacks_everything(void **) {
    fails("", "0: there is no [listener NAME]: nobody could connect\n"
              "0: there is no [route PATH]: everybody would get a 404\n");
}

void a_section_stands_once(void **) {
    std::string file = *directory + "/belfry.ini";
    fails(LEAST "[belfry]\nlog = a\n[belfry]\nworkers = 1\n",
          ("7: [belfry] is there already, at " + file + ":5\n").c_str());
    fails(LEAST "[room x]\n[room y]\n[room x]\n", ("7: [room x] is there already, at " + file + ":5\n").c_str());
}

// White space does not make another section of it: its options would be lost without a word.
void a_section_stands_once_however_it_is_spaced(void **) {
    std::string file = *directory + "/belfry.ini";
    fails(LEAST "[belfry]\nworkers = 2\n[belfry ]\n", ("7: [belfry] is there already, at " + file + ":5\n").c_str());
    assert_int_equal(c->worker_count, 2);
    fails(LEAST "[room x]\njoin = anyone\n[room   x ]\n",
          ("7: [room x] is there already, at " + file + ":5\n").c_str());
    assert_int_equal(c->relay.rooms.size(), 1);
    assert_int_equal(c->relay.rooms[0].join, right_anyone);
    loads("[listener  web ]\nlisten = 127.0.0.1:0\n[route\t/]\nmax_rooms = 5\n");
    assert_int_equal(c->relay.routes[0].max_rooms, 5);
}

void an_option_stands_once_unless_it_is_a_list(void **) {
    fails(LEAST "[belfry]\nlog = a\nlog = b\n", "7: \"log\" is there already, at line 6\n");
    assert_string_equal(c->core.log.c_str(), "a");
}

void sections_without_and_with_names(void **) {
    fails(LEAST "[belfry x]\n[listener]\n[room]\n", "5: [belfry] takes no name\n"
                                                    "6: [listener] needs a name: [listener NAME]\n"
                                                    "7: [room] needs a name: [room NAME]\n");
}

void an_option_before_any_section_is_told(void **) {
    fails("log = x\n" LEAST, "1: \"log\" stands before any [section]\n");
}

void what_does_not_go_together_is_told(void **) {
    fails("[listener web]\nlisten = 127.0.0.1:0\ncertificate = a.pem\n"
          "[listener tls]\nlisten = 127.0.0.1:0\ntls = yes\n"
          "[listener none]\n"
          "[route /]\nsend_queue = 64k\nsend_queue_soft = 64k\n[route / again]\njoin_on_connect = {user}, {x}, a}, "
          "@all\n",
          "7: [listener none] has no listen\n"
          "4: tls = yes needs certificate and private_key\n"
          "3: certificate: is given, but tls = no\n"
          "9: send_queue: must be at least max_message + 1k, or a message that one client may send could not reach "
          "another\n"
          "10: send_queue_soft: must be below send_queue\n"
          "9: send_queue: must be at least [broker] max_message + 1k, or every client would be closed as slow\n"
          "11: another route has the same host and path\n"
          "12: join_on_connect: unknown {x}; write {conn}, {user} or {query.NAME}\n"
          "12: join_on_connect: unbalanced braces in \"a}\"\n"
          "12: join_on_connect: names with @ are reserved\n");
}

void redis_in_several_places(void **) {
    loads(LEAST "[broker]\ntype = redis\nurl = rediss://u:p@unused/3\ntls_verify = no\nmaster_name = m\n"
                "sentinel = a:26380, [::1]:1\nsentinel = b\nsentinel_password = s\nsharded = yes\n");
    assert_int_equal(c->link.sentinels.size(), 3);
    const redis_settings &s = c->link.sentinels[1];
    assert_string_equal(s.host.c_str(), "::1");
    assert_int_equal(s.port, 1);
    assert_true(s.tls && !s.tls_verify && s.user.empty() && s.database == 0);
    assert_string_equal(s.password.c_str(), "s");
    assert_int_equal(c->link.sentinels[2].port, 26379);
    assert_string_equal(c->link.master_name.c_str(), "m");
    assert_int_equal(c->link.redis.database, 3);
    assert_true(c->link.sharded && !c->link.cluster);

    fails(LEAST "[broker]\ntype = redis\ncluster = yes\nsentinel = a\nurl = redis://h/1\nprefix = {x\n",
          "8: sentinel: needs master_name: they may watch several\n"
          "8: sentinel: a cluster fails over by itself: either sentinel or cluster\n"
          "9: url: a cluster has no database but 0\n"
          "10: prefix: braces would decide where in the cluster all rooms go\n");
    fails(LEAST "[broker]\ntype = redis\nmaster_name = m\nsentinel_password = hidden\n",
          "7: master_name: needs a sentinel to ask\n8: sentinel_password: needs a sentinel to ask\n");
    fails(LEAST "[broker]\ntype = redis\nmaster_name = m\nsentinel = a:0\nsentinel = u:p@b\n",
          "9: sentinel: the port is not a number from 1 to 65535 (percent-encode / ? # and @ in a password)\n"
          "9: sentinel: HOST:PORT and nothing else is expected\n");
    fails(LEAST "[broker]\ntype = redis\nurl = unix:///x\ncluster = yes\n",
          "7: url: a unix socket leads to one server, not to cluster\n");
    fails(LEAST "[broker]\ncluster = yes\nsharded = yes\n",
          "6: cluster: needs type = redis\n7: sharded: needs type = redis\n");
}

void mistakes_in_included_files_have_their_place(void **) {
    write_file("more.ini", "[broker]\ntyp = redis\n");
    fails(LEAST "include = more.ini\n", "more.ini:2: unknown option \"typ\" in [broker]; did you mean \"type\"?\n");
}

void routes_and_upstreams_go_together(void **) {
    fails(LEAST "[upstream app]\n[route /a]\nupstream = ap\n[route /b]\nmode = proxy\n[route /c]\nhook = /x\n"
                "[route /d]\nupstream = app\nhook = x\n[route /e]\nnotify = conected\nconnect_hook = always\n",
          "5: [upstream app] has no server\n"
          "7: upstream: there is no [upstream ap]; did you mean \"app\"?\n"
          "9: mode: proxy needs an upstream\n"
          "11: hook: needs an upstream to ask\n"
          "14: hook: \"x\" is no path\n"
          "17: connect_hook: always needs a hook\n"
          "16: notify: unknown \"conected\"; did you mean \"connected\"?\n");
    fails(LEAST "[upstream app]\nserver = a:1\nserver = a:1 weight=2\nserver = b:x\nhealth_check = no\n",
          "7: server: a:1 is there twice\n"
          "8: server: \"b:x\" has a bad port: a number from 1 to 65535\n"
          "9: health_check: \"no\" is no path\n");
    loads(LEAST "[upstream one]\nserver = a:1\n[upstream two]\nserver = unix:/run/b\n"
                "[route /x]\nupstream = two\nhook = /h\nhook_secret = s\nnotify = joined, vacated\n");
    const route *r = &c->relay.routes[0];
    assert_string_equal(r->path.c_str(), "/x");
    assert_string_equal(route_upstream(&c->relay, r)->name.c_str(), "two");
    assert_int_equal(r->notify_bits, 1 << 2 | 1 << 5);
    assert_null(route_upstream(&c->relay, &c->relay.routes[1]));
    assert_int_equal(c->warnings.size(), 0);
}

void what_is_hardly_meant_is_warned_of(void **) {
    loads(LEAST "[upstream app]\nserver = https://a\ntls_verify = no\n[route /x]\nupstream = app\nhook = /h\n");
    std::string all;
    for (const config_error &w : c->warnings)
        all += std::to_string(w.line) + ": " + w.text + "\n";
    assert_string_equal(all.c_str(),
                        "7: tls_verify: no: the backend could be anybody\n"
                        "10: hook: without a hook_secret the backend can't tell Belfry's calls from anybody else's\n");
}

void values_come_from_the_environment(void **) {
    setenv("BELFRY_TEST_WORKERS", "5", 1);
    loads(LEAST "[belfry]\nworkers = ${BELFRY_TEST_WORKERS}\n");
    assert_int_equal(c->worker_count, 5);
    unsetenv("BELFRY_TEST_WORKERS");
    fails(LEAST "[belfry]\nworkers = ${BELFRY_TEST_WORKERS}\n",
          "6: workers: the environment has no BELFRY_TEST_WORKERS\n");
}

// ---------------------------------------------------------------- printing

std::string printed() {
    buffer b = {};
    config_print(c, &b);
    std::string text(buffer_view(&b));
    buffer_free(&b);
    return text;
}

void the_printed_config_loads_and_prints_the_same(void **) {
    loads("[belfry]\nworkers = 3\n"
          "[listener a]\nlisten = 127.0.0.1:1, unix:/tmp/x\n"
          "[route /ws]\nmax_message = 1536\njoin_on_connect = lobby, {query.room}\n"
          "[route /ws b]\nhost = b.example\nidle_timeout = 90s\n"
          "[room chat-*]\njoin = anyone\n[room *]\n"
          "[broker]\ntype = redis\n"
          "[control]\nlisten = unix:/tmp/y\n");
    std::string first = printed();
    loads(first);
    assert_string_equal(printed().c_str(), first.c_str());
    assert_int_equal(c->relay.routes.size(), 2);
    assert_int_equal(c->relay.routes[0].max_message + c->relay.routes[1].max_message, 1536 + 65536);
    assert_int_equal(c->relay.listeners[0].listen.size(), 2);
    assert_int_equal(c->worker_count, 3);
}

void every_option_is_printed(void **) {
    loads(LEAST "[room x]\n[upstream app]\nserver = 127.0.0.1:1\n");
    std::string text = printed();
    for (size_t i = 0; i < config_row_count; i++)
        assert_non_null(strstr(text.c_str(), (std::string("\n") + config_rows[i].name + " = ").c_str()));
    assert_non_null(strstr(text.c_str(), "\nping_interval = 25s\n"));
    assert_non_null(strstr(text.c_str(), "\nsend_queue = 1m\n"));
}

void secrets_are_not_printed(void **) {
    loads(LEAST "[broker]\ntype = redis\nurl = redis://user:hidden1@127.0.0.1:6379/0\n"
                "[control]\nlisten = 127.0.0.1:0\ntoken = hidden2\n");
    std::string text = printed();
    assert_null(strstr(text.c_str(), "hidden"));
    assert_non_null(strstr(text.c_str(), "token = ***\n"));
    assert_non_null(strstr(text.c_str(), "127.0.0.1:6379/0"));
}

// ---------------------------------------------------------------- modules

void options_of_modules_are_options(void **) {
    loads("[belfry]\nmodules = sticky, origin\n[upstream app]\nserver = 127.0.0.1:1\nsticky = ip\n" LEAST
          "upstream = app\norigin = https://a.example, https://b.example\norigin = null\n");
    assert_int_equal(c->relay.modules.size(), 2);
    assert_string_equal(c->relay.modules[0].module->name, "sticky");
    assert_int_equal(c->relay.modules[1].conn_offset % 16, 0);
    assert_non_null(c->relay.upstreams[0].scopes[0]);
    assert_non_null(c->relay.routes[0].scopes[1]);
    assert_null(c->relay.routes[0].scopes[0]); // sticky has nothing in [route]
    std::string text = printed();
    assert_non_null(strstr(text.c_str(), "\nmodules = sticky, origin\nload_module = \n"));
    assert_non_null(strstr(text.c_str(), "\nsticky = ip\n"));
    assert_non_null(strstr(text.c_str(), "\norigin = https://a.example, https://b.example, null\n"));
}

void mistakes_in_options_of_modules_have_their_place(void **) {
    fails(LEAST "orign = same\norigin = https://a.example\norigin = https://a.example/path\nauth = jtw\n"
                "[route /b]\norigin = ftp\n",
          "5: unknown option \"orign\" in [route]; did you mean \"origin\"?\n"
          "8: auth: \"jtw\" is not known here: write none, backend, jwt or jwt_or_backend; did you mean jwt?\n"
          "10: origin: \"ftp\" has no scheme; write https://app.example, https://*.example, same, any, null or none\n");
    fails(LEAST "auth = backend\n", "5: auth: asks the backend, but the route has no hook\n");
    fails(LEAST "origin = https://a.example\norigin = https://a.example/path\n",
          "6: origin: \"https://a.example/path\" has a path; write https://a.example\n");
}

void modules_that_are_not_there(void **) {
    fails("[belfry]\nmodules = orgin, auth\nload_module = /nonexistent/x.so\n" LEAST "origin = same\nsticky = ip\n",
          "3: load_module: /nonexistent/x.so: cannot open shared object file: No such file or directory\n"
          "2: modules: there is no module \"orgin\"; did you mean \"origin\"?\n"
          "8: \"origin\" is an option of module origin, which is not in [belfry] modules\n"
          "9: unknown option \"sticky\" in [route]\n");
    loads("[belfry]\nmodules =\n" LEAST);
    assert_int_equal(c->relay.modules.size(), 0);
    assert_int_equal(c->modules.rows.size(), 0);
}

void the_help_names_the_options_of_modules(void **) {
    buffer out = {};
    config_print_help_ini(&out);
    std::string ini(buffer_view(&out));
    buffer_clear(&out);
    config_print_help_mdoc(&out);
    std::string mdoc(buffer_view(&out));
    buffer_free(&out);
    size_t route = ini.find("[route]"), room = ini.find("[room]");
    assert_true(ini.find("\norigin = ") > route && ini.find("\norigin = ") < room);
    assert_true(ini.find("\nmessage_rate = ", room) != std::string::npos);
    assert_non_null(strstr(mdoc.c_str(), "\n.It Cm jwt_key\n"));
}

void the_help_says_what_needs_a_restart(void **) {
    buffer out = {};
    config_print_help_ini(&out);
    std::string ini(buffer_view(&out));
    buffer_free(&out);
    std::string restart, kind;
    for (size_t at = 0, end; (end = ini.find('\n', at)) != std::string::npos; at = end + 1) {
        std::string line = ini.substr(at, end - at);
        if (line[0] == '[') kind = line;
        if (line.ends_with(" (needs a restart)"))
            restart += kind + ini.substr(end + 1, ini.find(' ', end + 1) - end - 1);
        if (line[0] == ';') assert_true(line.ends_with(" (needs a restart)") || line.ends_with(" (felt at a reload)"));
    }
    assert_int_equal(restart.find("[belfry]workers[belfry]log[belfry]pid_file"), 0);
    assert_non_null(strstr(restart.c_str(), "[belfry]modules[belfry]load_module[broker]type[broker]url"));
    for (const char *felt : {"[listener]", "[upstream]", "[route]", "[room]", "[control]", "log_level"})
        assert_null(strstr(restart.c_str(), felt));
}

void the_config_is_printed_as_json(void **) {
    loads("[listener web]\nlisten = 127.0.0.1:1, 127.0.0.1:2\n[route /]\nhook_secret = s\"\n"
          "[upstream app]\nserver = a:1 weight=2\nserver = b:1\n");
    buffer out = {};
    config_print_json(c, &out);
    std::string json(buffer_view(&out));
    buffer_free(&out);
    assert_int_equal(
        json.find("[{\"kind\":\"belfry\",\"name\":\"\",\"options\":{\"workers\":\"auto\",\"max_connections\":"), 0);
    assert_non_null(strstr(json.c_str(),
                           "{\"kind\":\"listener\",\"name\":\"web\",\"options\":{\"listen\":[\"127.0.0.1:1\","
                           "\"127.0.0.1:2\"],\"tls\":\"no\",\"certificate\":[]"));
    assert_non_null(strstr(json.c_str(), "\"server\":[\"a:1 weight=2\",\"b:1\"]"));
    assert_non_null(strstr(json.c_str(), "\"hook_secret\":\"***\""));
    assert_true(json.ends_with("}}]"));
}

} // namespace

#define with_config(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_config(the_least_config_has_all_defaults),
        with_config(a_room_without_options_is_the_backends),
        with_config(announce_implies_presence),
        with_config(what_is_given_is_taken),
        with_config(routes_and_rooms_are_sorted_longest_first),
        with_config(goodbyes_come_in_no_bursts),
        with_config(ten_mistakes_are_told_in_one_go),
        with_config(far_names_are_not_guessed),
        with_config(an_option_of_another_section_is_unknown),
        with_config(an_empty_file_lacks_everything),
        with_config(a_section_stands_once),
        with_config(a_section_stands_once_however_it_is_spaced),
        with_config(an_option_stands_once_unless_it_is_a_list),
        with_config(sections_without_and_with_names),
        with_config(an_option_before_any_section_is_told),
        with_config(what_does_not_go_together_is_told),
        with_config(redis_in_several_places),
        with_config(mistakes_in_included_files_have_their_place),
        with_config(routes_and_upstreams_go_together),
        with_config(what_is_hardly_meant_is_warned_of),
        with_config(values_come_from_the_environment),
        with_config(the_printed_config_loads_and_prints_the_same),
        with_config(every_option_is_printed),
        with_config(secrets_are_not_printed),
        with_config(options_of_modules_are_options),
        with_config(mistakes_in_options_of_modules_have_their_place),
        with_config(modules_that_are_not_there),
        with_config(the_help_names_the_options_of_modules),
        with_config(the_help_says_what_needs_a_restart),
        with_config(the_config_is_printed_as_json),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
