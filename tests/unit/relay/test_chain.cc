// Unit tests of relay/chain: the order of calls, verdicts, waits and who ends them, states, scopes, the end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <thread>
extern "C" {
#include <cmocka.h>
}

#include "chain_bench.h"

using namespace belfry;

namespace {

// ---------------------------------------------------------------- two modules that do what the test says

struct script {
    enum belfry_verdict_type type;
    struct belfry_verdict verdict; // its size is kept
    void (*hook)(const struct belfry_call *call);
};

script one_says, two_says;
std::string calls;
struct belfry_ticket last_ticket;

struct state {
    int handshakes, messages;
    char pad[40];
};

enum belfry_verdict_type play(const char *what, const script *s, const struct belfry_call *call,
                              struct belfry_verdict *verdict) {
    calls += what;
    last_ticket = call->ticket;
    if (verdict) {
        assert_int_equal(verdict->size, sizeof *verdict);
        assert_int_equal(verdict->status, 0);
        size_t size = verdict->size;
        *verdict = s->verdict;
        verdict->size = size;
    }
    if (s->hook) s->hook(call);
    return s->type;
}

enum belfry_verdict_type one_handshake(const struct belfry_call *call, struct belfry_verdict *v) {
    static_cast<state *>(call->connection)->handshakes++;
    return play("h1 ", &one_says, call, v);
}
enum belfry_verdict_type one_admitted(const struct belfry_call *call, struct belfry_verdict *v) {
    return play("a1 ", &one_says, call, v);
}
enum belfry_verdict_type one_message(const struct belfry_call *call, struct belfry_verdict *v) {
    static_cast<state *>(call->connection)->messages++;
    return play("m1 ", &one_says, call, v);
}
enum belfry_verdict_type one_publish(const struct belfry_call *call, struct belfry_verdict *v) {
    return play("p1 ", &one_says, call, v);
}
enum belfry_verdict_type one_renew(const struct belfry_call *call, struct belfry_verdict *v) {
    return play("r1 ", &one_says, call, v);
}
void one_close(const struct belfry_call *call) {
    play("c1 ", &one_says, call, nullptr);
}
enum belfry_verdict_type two_handshake(const struct belfry_call *call, struct belfry_verdict *v) {
    return play("h2 ", &two_says, call, v);
}
enum belfry_verdict_type two_message(const struct belfry_call *call, struct belfry_verdict *v) {
    return play("m2 ", &two_says, call, v);
}
enum belfry_verdict_type two_renew(const struct belfry_call *call, struct belfry_verdict *v) {
    return play("r2 ", &two_says, call, v);
}
void two_close(const struct belfry_call *call) {
    play("c2 ", &two_says, call, nullptr);
}

int workers;
void *one_worker(const struct belfry_host *host, unsigned index) {
    assert_ptr_equal(host, chain_host());
    assert_int_equal(index, 3);
    return &workers;
}
void one_worker_end(const struct belfry_host *, void *worker) {
    calls += worker == &workers ? "end " : "?";
}

struct belfry_module make_module(const char *name) {
    struct belfry_module m = {};
    m.size = sizeof m;
    m.abi = BELFRY_ABI;
    m.name = name;
    return m;
}

struct belfry_module one, two, old;

int setup(void **) {
    bench_begin(nullptr);
    one = make_module("one");
    one.conn_size = sizeof(state);
    one.worker_new = one_worker;
    one.worker_free = one_worker_end;
    one.handshake = one_handshake;
    one.admitted = one_admitted;
    one.message = one_message;
    one.publish = one_publish;
    one.renew = one_renew;
    one.close = one_close;
    two = make_module("two");
    two.conn_size = 1;
    two.handshake = two_handshake;
    two.message = two_message;
    two.renew = two_renew;
    two.close = two_close;
    one_says = two_says = {};
    calls.clear();
    return 0;
}

chain_verdict v;

struct belfry_verdict denial(int status, const char *reason) {
    struct belfry_verdict d = {};
    d.size = sizeof d;
    d.status = status;
    d.reason = text(reason);
    return d;
}

// ---------------------------------------------------------------- the handshake

void modules_are_called_in_order(void **) {
    use_modules({&one, &two});
    conn *c = connect_client();
    exchange *x = begin_exchange(c, "");
    assert_true(chain_handshake(x, &v) == chain_result::pass);
    assert_true(chain_admitted(x, &v) == chain_result::pass);
    assert_string_equal(calls.c_str(), "h1 h2 a1 ");
    chain_close(c);
    chain_close(c); // harmless
    assert_string_equal(calls.c_str(), "h1 h2 a1 c1 c2 ");
    assert_null(c->modules);
}

void without_modules_all_passes(void **) {
    use_modules({});
    conn *c = connect_client();
    assert_true(chain_handshake(begin_exchange(c, ""), &v) == chain_result::pass);
    assert_true(chain_admitted(c->exchange, &v) == chain_result::pass);
    assert_true(chain_message(c, "x", false, &v, &bench_waiter) == chain_result::pass);
    assert_true(chain_publish(c, "r", nullptr, "x", &v) == chain_result::pass);
    assert_true(chain_renew(c, "t", &v) == chain_result::deny);
    assert_int_equal(v.status, 400);
}

int scope_a, scope_b, scope_c;

void a_call_knows_its_connection(void **) {
    use_modules({&two, &one});
    bench->way.scopes = {nullptr, &scope_a};
    bench->settings.upstreams.resize(2);
    bench->settings.upstreams[1].scopes = {nullptr, &scope_b};
    bench->way.upstream_index = 1;
    one_says.hook = [](const struct belfry_call *call) {
        assert_int_equal(call->size, sizeof *call);
        assert_ptr_equal(call->host, chain_host());
        assert_ptr_equal(call->worker, &workers);
        assert_ptr_equal(call->route, &scope_a);
        assert_ptr_equal(call->upstream, &scope_b);
        assert_null(call->room);
        assert_int_equal(reinterpret_cast<uintptr_t>(call->connection) % 16, 0);
        assert_int_equal(call->now_ms, bench->s->loop->clock.monotonic_ms);
        const struct belfry_request *r = call->request;
        assert_int_equal(r->kind, BELFRY_TUNNEL);
        assert_string_equal(str(r->method).c_str(), "GET");
        assert_string_equal(str(r->path).c_str(), "/abc");
        assert_string_equal(str(r->query).c_str(), "token=a%2Bb+c&x=1&token=2");
        assert_string_equal(str(r->host).c_str(), "app.example:8443");
        assert_true(r->secure);
        static const uint8_t address[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 7};
        assert_memory_equal(r->address, address, 16);
        assert_int_equal(call->user.size, 0);
    };
    conn *c = connect_client();
    assert_true(chain_handshake(begin_exchange(c, "", BELFRY_TUNNEL), &v) == chain_result::pass);
    exchange_free(c->exchange);
    client_of(c)->user = "ann";
    one_says.hook = [](const struct belfry_call *call) {
        assert_null(call->request);
        assert_ptr_equal(call->room, &scope_c);
        assert_string_equal(str(call->room_name).c_str(), "chat:1");
        assert_string_equal(str(call->data).c_str(), "{}");
        assert_string_equal(str(call->user).c_str(), "ann");
        assert_int_equal(static_cast<state *>(call->connection)->handshakes, 1); // the same one
    };
    room_rule rule = {};
    rule.scopes = {nullptr, &scope_c};
    assert_true(chain_publish(c, "chat:1", &rule, "{}", &v) == chain_result::pass);
    one_says.hook = nullptr;
}

void a_denial_ends_the_chain(void **) {
    use_modules({&one, &two});
    one_says.type = BELFRY_DENY;
    one_says.verdict = denial(429, "too many");
    one_says.verdict.retry_after_s = 7;
    conn *c = connect_client();
    assert_true(chain_handshake(begin_exchange(c, ""), &v) == chain_result::deny);
    assert_int_equal(v.status, 429);
    assert_int_equal(v.retry_after_s, 7);
    assert_string_equal(std::string(v.reason).c_str(), "too many");
    assert_string_equal(v.module, "one");
    chain_close(c);
    assert_string_equal(calls.c_str(), "h1 c1 "); // the second never saw it
}

void what_a_module_says_is_made_safe(void **) {
    use_modules({&one});
    conn *c = connect_client();
    one_says.type = BELFRY_DENY;
    for (int status : {0, 1, 99, 101, 302, 600, -1, 204}) { // 204: nothing to answer a handshake with
        exchange *x = begin_exchange(c, "");
        one_says.verdict = denial(status, "x");
        assert_true(chain_handshake(x, &v) == chain_result::deny);
        assert_int_equal(v.status, 403);
        exchange_free(x);
    }
    exchange *x = begin_exchange(c, "", BELFRY_HTTP);
    one_says.verdict = denial(204, "x");
    assert_true(chain_handshake(x, &v) == chain_result::deny);
    assert_int_equal(v.status, 204);
    x->next_module = 0;
    one_says.type = static_cast<enum belfry_verdict_type>(3); // of a later module.h
    std::string longer(1000, 'r');
    one_says.verdict = denial(500, longer.c_str());
    assert_true(chain_handshake(x, &v) == chain_result::deny);
    assert_int_equal(v.reason.size(), chain_reason_max);
}

void a_wait_where_none_may_be_is_a_denial(void **) {
    use_modules({&one});
    conn *c = connect_client();
    exchange *x = begin_exchange(c, "");
    assert_true(chain_handshake(x, &v) == chain_result::pass);
    one_says.type = BELFRY_WAIT;
    assert_true(chain_admitted(x, &v) == chain_result::deny);
    assert_int_equal(v.status, 500);
    assert_true(chain_publish(c, "r", nullptr, "x", &v) == chain_result::deny);
    assert_int_equal(v.status, 503);
    assert_true(chain_renew(c, "t", &v) == chain_result::deny);
}

// ---------------------------------------------------------------- waits at the handshake

void resume(struct belfry_ticket t, enum belfry_verdict_type type, const struct belfry_verdict *verdict = nullptr) {
    chain_host()->resume(t, type, verdict);
}

void a_wait_ends_with_a_ticket(void **) {
    use_modules({&one, &two});
    one_says.type = BELFRY_WAIT;
    conn *c = connect_client();
    exchange *x = begin_exchange(c, "");
    assert_true(chain_handshake(x, &v) == chain_result::wait);
    assert_true(x->waiting);
    resume(last_ticket, BELFRY_PASS);
    assert_int_equal(bench->chained, 0); // not from inside
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 1);
    assert_true(bench->result == chain_result::pass);
    assert_false(x->waiting);
    assert_string_equal(calls.c_str(), "h1 h2 ");
}

void a_ticket_is_good_once(void **) {
    use_modules({&one, &two});
    one_says.type = two_says.type = BELFRY_WAIT;
    conn *c = connect_client();
    exchange *x = begin_exchange(c, "");
    assert_true(chain_handshake(x, &v) == chain_result::wait);
    struct belfry_ticket first = last_ticket;
    resume(first, BELFRY_PASS);
    resume(first, BELFRY_DENY);
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 0); // the second module waits, and not for this one
    assert_true(x->waiting);
    resume(first, BELFRY_DENY);
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 0);
    resume(last_ticket, BELFRY_WAIT); // says nothing
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 0);
    resume(last_ticket, BELFRY_PASS);
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 1);
}

void a_resume_may_come_before_the_wait(void **) {
    use_modules({&one});
    one_says.type = BELFRY_WAIT;
    one_says.hook = [](const struct belfry_call *call) { resume(call->ticket, BELFRY_PASS); };
    conn *c = connect_client();
    exchange *x = begin_exchange(c, "");
    assert_true(chain_handshake(x, &v) == chain_result::wait);
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 1);
    one_says.hook = nullptr;
}

void a_denial_by_ticket_is_copied(void **) {
    use_modules({&one, &two});
    one_says.type = BELFRY_WAIT;
    conn *c = connect_client();
    assert_true(chain_handshake(begin_exchange(c, ""), &v) == chain_result::wait);
    char reason[] = "no such user";
    struct belfry_verdict d = denial(401, reason);
    d.size = offsetof(struct belfry_verdict, close_code); // of a module that knows no more
    resume(last_ticket, BELFRY_DENY, &d);
    memset(reason, 'x', sizeof reason);
    chain_run_resumes(bench->s);
    assert_true(bench->result == chain_result::deny);
    assert_int_equal(bench->status, 401);
    assert_string_equal(bench->reason.c_str(), "no such user");
    assert_string_equal(bench->module.c_str(), "one");
    chain_close(c);
    assert_string_equal(calls.c_str(), "h1 c1 ");
}

void an_old_ticket_resumes_nobody(void **) {
    use_modules({&one});
    one_says.type = BELFRY_WAIT;
    conn *c = connect_client();
    exchange *x = begin_exchange(c, "", BELFRY_HTTP);
    assert_true(chain_handshake(x, &v) == chain_result::wait);
    struct belfry_ticket old_ticket = last_ticket;
    chain_close(c);
    exchange_free(x);
    x = begin_exchange(c, "", BELFRY_HTTP); // the next request of the same connection
    assert_true(chain_handshake(x, &v) == chain_result::wait);
    resume(old_ticket, BELFRY_DENY);
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 0);
    struct belfry_ticket gone = last_ticket;
    conn_abort(c);
    conn_bury(bench->s);
    conn *next = connect_client(); // in the same slot
    assert_true(chain_handshake(begin_exchange(next, ""), &v) == chain_result::wait);
    resume(gone, BELFRY_DENY);
    struct belfry_ticket forged = {{UINT64_MAX, 0}};
    resume(forged, BELFRY_DENY);
    forged.word[0] = uint64_t{3} << 56 | 0xffffffffffffff;
    resume(forged, BELFRY_DENY);
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 0);
    assert_true(next->exchange->waiting);
    resume(last_ticket, BELFRY_PASS);
    chain_worker_stop(bench->s);
    resume(last_ticket, BELFRY_PASS); // to a worker that has ended
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 0);
}

void the_backend_is_asked_behind_all_modules(void **) {
    use_modules({&one, &two});
    bench->has_backend = true;
    one_says.type = BELFRY_WAIT;
    one_says.hook = [](const struct belfry_call *call) { assert_true(call->host->ask_backend(call)); };
    assert_true(chain_handshake(begin_exchange(connect_client(), ""), &v) == chain_result::pass);
    assert_string_equal(calls.c_str(), "h1 h2 ");
    // One that says pass has asked all the same.
    one_says.type = BELFRY_PASS;
    assert_true(chain_handshake(begin_exchange(connect_client(), ""), &v) == chain_result::pass);
    assert_int_equal(bench->asked, 2);
    // The next module's wait is its own.
    two_says.type = BELFRY_WAIT;
    exchange *x = begin_exchange(connect_client(), "");
    assert_true(chain_handshake(x, &v) == chain_result::wait);
    assert_true(x->waiting);
    resume(last_ticket, BELFRY_PASS);
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, 1);
    assert_true(bench->result == chain_result::pass);
    // No backend: a wait is a wait.
    bench->has_backend = false;
    one_says.type = BELFRY_WAIT;
    one_says.hook = [](const struct belfry_call *call) { assert_false(call->host->ask_backend(call)); };
    assert_true(chain_handshake(begin_exchange(connect_client(), ""), &v) == chain_result::wait);
    one_says.hook = nullptr;
}

constexpr int rounds = 200;
std::vector<struct belfry_ticket> tickets;

void resumes_come_from_any_thread(void **) {
    use_modules({&one});
    one_says.type = BELFRY_WAIT;
    tickets.clear();
    for (int i = 0; i < rounds; i++) {
        conn *c = connect_client();
        assert_true(chain_handshake(begin_exchange(c, ""), &v) == chain_result::wait);
        tickets.push_back(last_ticket);
    }
    auto work = [](int from) {
        for (size_t i = static_cast<size_t>(from); i < tickets.size(); i += 2)
            resume(tickets[i], i % 3 ? BELFRY_PASS : BELFRY_DENY);
    };
    std::thread a(work, 0), b(work, 1);
    while (bench->chained < rounds) {
        loop_turn(bench->s->loop, true); // they wake it
        chain_run_resumes(bench->s);
    }
    a.join();
    b.join();
    chain_run_resumes(bench->s);
    assert_int_equal(bench->chained, rounds);
}

// ---------------------------------------------------------------- messages

conn *open_connection() {
    conn *c = connect_client();
    if (chain_handshake(begin_exchange(c, ""), &v) != chain_result::pass) fatal("not passed");
    exchange_free(c->exchange);
    c->open = true;
    calls.clear();
    return c;
}

void messages_pass(void **) {
    use_modules({&one, &two});
    conn *c = open_connection();
    one_says.hook = [](const struct belfry_call *call) {
        assert_string_equal(str(call->data).c_str(), "hello");
        assert_true(call->binary);
        assert_int_equal(static_cast<state *>(call->connection)->messages, 1);
    };
    assert_true(chain_message(c, "hello", true, &v, &bench_waiter) == chain_result::pass);
    assert_string_equal(calls.c_str(), "m1 m2 ");
    assert_false(c->paused);
    one_says.hook = nullptr;
    one_says.type = BELFRY_DENY;
    one_says.verdict.close_code = 4408;
    assert_true(chain_message(c, "hello", true, &v, &bench_waiter) == chain_result::deny);
    assert_int_equal(v.close_code, 4408);
    assert_string_equal(calls.c_str(), "m1 m2 m1 ");
}

void a_message_waits(void **) {
    use_modules({&one, &two});
    conn *c = open_connection();
    one_says.type = BELFRY_WAIT;
    std::string data = "what was said";
    assert_true(chain_message(c, data, false, &v, &bench_waiter) == chain_result::wait);
    data.assign(data.size(), 'x');
    assert_true(c->paused);
    conn_resume(c); // of somebody else
    assert_true(c->paused);
    resume(last_ticket, BELFRY_PASS);
    advance(0);
    assert_string_equal(bench->passed.c_str(), "what was said;");
    assert_int_equal(bench->opcode, ws_text);
    assert_string_equal(calls.c_str(), "m1 m2 ");
    assert_false(c->paused);
    assert_int_equal(c->holds, 0);
    // The next one waits twice, is then denied.
    two_says.type = BELFRY_WAIT;
    assert_true(chain_message(c, "again", true, &v, &bench_waiter) == chain_result::wait);
    resume(last_ticket, BELFRY_PASS);
    advance(0);
    struct belfry_verdict d = denial(0, "bad word");
    d.close_code = 4403;
    resume(last_ticket, BELFRY_DENY, &d);
    advance(0);
    assert_string_equal(bench->denied.c_str(), "4403 bad word;");
    // A module whose verdict ends before close_code says nothing about it.
    one_says.type = BELFRY_WAIT;
    assert_true(chain_message(c, "more", false, &v, &bench_waiter) == chain_result::wait);
    d.size = offsetof(struct belfry_verdict, close_code);
    resume(last_ticket, BELFRY_DENY, &d);
    advance(0);
    assert_string_equal(bench->denied.c_str(), "4403 bad word;0 bad word;");
    assert_string_equal(bench->passed.c_str(), "what was said;");
    assert_false(c->paused);
}

void a_message_does_not_wait_for_ever(void **) {
    use_modules({&one});
    conn *c = open_connection();
    one_says.type = BELFRY_WAIT;
    assert_true(chain_message(c, "hello", false, &v, &bench_waiter) == chain_result::wait);
    advance(29900);
    assert_string_equal(bench->denied.c_str(), "");
    advance(300);
    assert_string_equal(bench->denied.c_str(), "1011 a module did not decide in time;");
    resume(last_ticket, BELFRY_PASS); // too late
    advance(0);
    assert_string_equal(bench->passed.c_str(), "");
    assert_false(c->paused);
}

void a_message_that_waits_ends_with_its_connection(void **) {
    use_modules({&one});
    one_says.type = BELFRY_PASS;
    conn *c = open_connection(), *closing = open_connection();
    one_says.type = BELFRY_WAIT;
    assert_true(chain_message(c, "hello", false, &v, &bench_waiter) == chain_result::wait);
    resume(last_ticket, BELFRY_PASS);
    conn_abort(c);
    assert_true(chain_message(closing, "hello", false, &v, &bench_waiter) == chain_result::wait);
    resume(last_ticket, BELFRY_PASS);
    closing->open = false; // a Close was sent
    advance(60000);
    assert_string_equal(bench->passed.c_str(), "");
    assert_string_equal(bench->denied.c_str(), "");
    assert_int_equal(closing->holds, 0);
}

void a_module_slows_a_client_down(void **) {
    use_modules({&one, &two});
    conn *c = open_connection();
    one_says.verdict.pause_ms = 500;
    two_says.verdict.pause_ms = 2000;
    assert_true(chain_message(c, "hello", false, &v, &bench_waiter) == chain_result::pass);
    assert_true(c->paused);
    advance(1900);
    assert_true(c->paused);
    advance(200);
    assert_false(c->paused);
    assert_int_equal(c->holds, 0);
    // Also behind a wait.
    two_says.verdict.pause_ms = 0;
    two_says.type = BELFRY_WAIT;
    assert_true(chain_message(c, "hello", false, &v, &bench_waiter) == chain_result::wait);
    struct belfry_verdict slow = denial(0, "");
    slow.pause_ms = 1000;
    resume(last_ticket, BELFRY_PASS, &slow);
    advance(0);
    assert_string_equal(bench->passed.c_str(), "hello;");
    assert_true(c->paused);
    advance(1100);
    assert_false(c->paused);
}

// ---------------------------------------------------------------- tokens, versions

void the_first_module_that_takes_a_token_decides(void **) {
    use_modules({&one, &two});
    conn *c = open_connection();
    one_says.type = two_says.type = BELFRY_DENY;
    one_says.verdict = denial(401, "expired");
    two_says.verdict = denial(403, "unknown");
    assert_true(chain_renew(c, "token", &v) == chain_result::deny);
    assert_string_equal(calls.c_str(), "r1 r2 ");
    assert_int_equal(v.status, 403);
    one_says.type = BELFRY_PASS;
    one_says.hook = [](const struct belfry_call *call) { assert_string_equal(str(call->data).c_str(), "token"); };
    assert_true(chain_renew(c, "token", &v) == chain_result::pass);
    assert_string_equal(calls.c_str(), "r1 r2 r1 ");
    one_says.hook = nullptr;
}

void a_shorter_table_is_read_no_further(void **) {
    old = one;
    old.size = offsetof(struct belfry_module, message); // what stands behind is not this module's
    use_modules({&old});
    conn *c = open_connection();
    assert_true(chain_message(c, "hello", false, &v, &bench_waiter) == chain_result::pass);
    chain_close(c);
    assert_string_equal(calls.c_str(), "");
}

void states_do_not_overlap(void **) {
    bench->settings.modules = {{&one, 0}, {&two, 0}, {&one, 0}};
    chain_lay_out(&bench->settings);
    assert_int_equal(bench->settings.modules[0].conn_offset, 0);
    assert_int_equal(bench->settings.modules[1].conn_offset, 48);
    assert_int_equal(bench->settings.modules[2].conn_offset, 64);
    assert_int_equal(bench->settings.module_conn_bytes, 112);
    bench->settings.modules.clear();
    use_modules({&one});
}

} // namespace

#define on_bench(test) cmocka_unit_test_setup_teardown(test, setup, bench_end)

int main() {
    const CMUnitTest tests[] = {
        on_bench(modules_are_called_in_order),
        on_bench(without_modules_all_passes),
        on_bench(a_call_knows_its_connection),
        on_bench(a_denial_ends_the_chain),
        on_bench(what_a_module_says_is_made_safe),
        on_bench(a_wait_where_none_may_be_is_a_denial),
        on_bench(a_wait_ends_with_a_ticket),
        on_bench(a_ticket_is_good_once),
        on_bench(a_resume_may_come_before_the_wait),
        on_bench(a_denial_by_ticket_is_copied),
        on_bench(an_old_ticket_resumes_nobody),
        on_bench(the_backend_is_asked_behind_all_modules),
        on_bench(resumes_come_from_any_thread),
        on_bench(messages_pass),
        on_bench(a_message_waits),
        on_bench(a_message_does_not_wait_for_ever),
        on_bench(a_message_that_waits_ends_with_its_connection),
        on_bench(a_module_slows_a_client_down),
        on_bench(the_first_module_that_takes_a_token_decides),
        on_bench(a_shorter_table_is_read_no_further),
        on_bench(states_do_not_overlap),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
