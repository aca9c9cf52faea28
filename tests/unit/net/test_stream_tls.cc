// TLS streams over a socket pair: records in and out, ends, bad bytes, and what an idle one costs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "net/stream.h"
#include "tls_fixture.h"

#include <malloc.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace belfry;
using namespace tls_fixture;

namespace {

void write_all(stream *s, const std::string &data) {
    for (size_t done = 0; done < data.size();) {
        const struct iovec part = {const_cast<char *>(data.data() + done), data.size() - done};
        size_t written = 0;
        assert_true(stream_write(s, &part, 1, &written) == stream_result::ok);
        assert_in_range(written, 1, 16384);
        done += written;
    }
}

void connected() {
    serve({"a"});
    trust("", false);
    open_ends("a.example.com");
    shake_hands_well();
    char byte;
    size_t got;
    assert_true(stream_read(&ends.client, &byte, 1, &got) == stream_result::again);
    assert_int_equal(ends.client.wants, stream_readable);
}

int bytes_on_wire(const stream *s) {
    int n = 0;
    assert_int_equal(ioctl(s->fd, FIONREAD, &n), 0);
    return n;
}

void test_read_takes_all_records(void **) {
    connected();
    for (int i = 0; i < 10; i++)
        write_all(&ends.client, std::string(1000, static_cast<char>('a' + i)));
    char into[16000];
    size_t got = 0;
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_int_equal(got, 10000);
    assert_int_equal(into[0], 'a');
    assert_int_equal(into[9999], 'j');
    assert_false(stream_pending(&ends.server));
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::again);
    assert_int_equal(got, 0);

    // A buffer smaller than the record: the rest is pending, though the socket holds nothing.
    write_all(&ends.client, "0123456789");
    assert_true(stream_read(&ends.server, into, 4, &got) == stream_result::ok);
    assert_int_equal(got, 4);
    assert_true(stream_pending(&ends.server));
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_memory_equal(into, "456789", 6);
    assert_false(stream_pending(&ends.server));
}

void test_write_gathers_one_record(void **) {
    connected();
    char first[] = "one ", second[] = "two ", third[] = "three";
    const struct iovec parts[] = {{first, 4}, {second, 4}, {nullptr, 0}, {third, 5}};
    size_t written = 0;
    const uint64_t writes = on->writes;
    assert_true(stream_write(&ends.server, parts, 4, &written) == stream_result::ok);
    assert_int_equal(written, 13);
    assert_int_equal(on->writes, writes + 1);
    assert_int_equal(bytes_on_wire(&ends.client), 5 + 13 + 1 + 16); // header, content, its type, tag: one record
    char into[64];
    size_t got = 0;
    assert_true(stream_read(&ends.client, into, sizeof into, &got) == stream_result::ok);
    assert_int_equal(got, 13);
    assert_memory_equal(into, "one two three", 13);

    // At most one record a call: a large first part goes straight, parts around the limit are cut.
    std::string large(20000, 'x'), half(10000, 'y');
    const struct iovec straight[] = {{large.data(), large.size()}, {half.data(), half.size()}};
    assert_true(stream_write(&ends.server, straight, 2, &written) == stream_result::ok);
    assert_int_equal(written, 16384);
    const struct iovec cut[] = {{half.data(), half.size()}, {large.data(), large.size()}};
    assert_true(stream_write(&ends.server, cut, 2, &written) == stream_result::ok);
    assert_int_equal(written, 16384);
    std::string all(40000, '\0');
    assert_true(stream_read(&ends.client, all.data(), all.size(), &got) == stream_result::ok);
    assert_int_equal(got, 32768);
    assert_true(all.substr(0, got) == std::string(16384, 'x') + half + std::string(6384, 'x'));

    assert_true(stream_write(&ends.server, parts + 2, 1, &written) == stream_result::ok); // nothing: no record
    assert_int_equal(written, 0);
    assert_int_equal(bytes_on_wire(&ends.client), 0);
}

// The socket fills up; the same bytes are offered again from elsewhere and with more behind them, as outq does it.
void test_write_again_then_more(void **) {
    connected();
    std::string expected;
    for (int i = 0; i < 4000000; i++)
        expected += static_cast<char>('A' + i % 23 + i / 1000 % 5);
    size_t done = 0, received = 0, agains = 0, grown = 0;
    std::string got_all;
    char into[65536];
    while (got_all.size() < expected.size()) {
        std::string here = expected.substr(done, 3000 + grown), there = expected.substr(done + here.size(), 500);
        const struct iovec parts[] = {{here.data(), here.size()}, {there.data(), there.size()}};
        std::string joined = here + there; // not gathered, as it is alone: the same bytes at another address
        const struct iovec alone = {joined.data(), joined.size()};
        const bool gathered = agains % 3 != 0;
        size_t written = 0;
        const stream_result r = done == expected.size() ? stream_result::again
                                : gathered              ? stream_write(&ends.server, parts, 2, &written)
                                                        : stream_write(&ends.server, &alone, 1, &written);
        assert_true(r == stream_result::ok || r == stream_result::again);
        done += written;
        if (r == stream_result::ok) {
            grown = 0;
            continue;
        }
        if (done < expected.size()) assert_int_equal(ends.server.wants, stream_writable);
        agains++;
        grown = agains % 7 * 1111;
        if (agains % 2 == 0) continue; // tries again with nothing drained
        if (stream_read(&ends.client, into, sizeof into, &received) == stream_result::ok)
            got_all.append(into, received);
    }
    assert_true(agains > 10);
    assert_true(got_all == expected);
}

void test_ends(void **) {
    char into[64];
    size_t got = 0;
    // close_notify, with data before it.
    connected();
    write_all(&ends.client, "last words");
    stream_shutdown(&ends.client);
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_int_equal(got, 10);
    assert_true(stream_pending(&ends.server));
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::eof);
    // Our side still writes; then ends: close_notify and FIN.
    write_all(&ends.server, "answer");
    stream_shutdown(&ends.server);
    assert_true(stream_read(&ends.client, into, sizeof into, &got) == stream_result::ok);
    assert_memory_equal(into, "answer", 6);
    assert_true(stream_read(&ends.client, into, sizeof into, &got) == stream_result::eof);
    assert_true((SSL_get_shutdown(ssl_of(&ends.client)) & SSL_RECEIVED_SHUTDOWN) != 0);
    stream_close(&ends.server);
    stream_close(&ends.server);
    assert_null(ends.server.tls);

    // A bare FIN is eof too.
    connected();
    write_all(&ends.client, "x");
    shutdown(ends.client.fd, SHUT_WR);
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::eof);

    // A FIN in the middle of the handshake is a failure.
    open_ends("a.example.com");
    assert_true(stream_handshake(&ends.server) == stream_result::again);
    assert_int_equal(ends.server.wants, stream_readable);
    shutdown(ends.client.fd, SHUT_WR);
    assert_true(stream_handshake(&ends.server) == stream_result::failed);
    assert_true(contains(stream_why(), "TLS handshake: the peer closed the connection"));

    // A peer that is gone: failed, and no SIGPIPE.
    connected();
    stream_close(&ends.client);
    char byte[] = "x";
    const struct iovec part = {byte, 1};
    assert_true(stream_write(&ends.server, &part, 1, &got) == stream_result::failed);
    assert_true(contains(stream_why(), "Broken pipe"));
    stream_shutdown(&ends.server);
}

void test_bad_bytes(void **) {
    // Garbage instead of a handshake.
    serve({"a"});
    trust("", false);
    for (const char *garbage :
         {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x00\x05hello", "\xff\xff\xff\xff\xff"}) {
        open_ends("a.example.com");
        const size_t size = garbage[0] == '\x16' ? 10 : strlen(garbage);
        assert_int_equal(write(ends.client.fd, garbage, size), size);
        assert_true(stream_handshake(&ends.server) == stream_result::failed);
        assert_true(contains(stream_why(), "TLS handshake: "));
        assert_true(stream_handshake(&ends.server) == stream_result::failed);
        assert_int_equal(ERR_peek_error(), 0);
    }
    // A forged record behind a good one: the data first, then the failure, which needs no readable socket.
    connected();
    write_all(&ends.client, "good");
    const char forged[] = "\x17\x03\x03\x00\x20"
                          "0123456789abcdef0123456789abcdef";
    assert_int_equal(write(ends.client.fd, forged, 37), 37);
    char into[64];
    size_t got = 0;
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_int_equal(got, 4);
    assert_true(stream_pending(&ends.server));
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::failed);
    const struct iovec part = {into, 4};
    assert_true(stream_write(&ends.server, &part, 1, &got) == stream_result::failed);
    // Alone: the reason is told.
    connected();
    assert_int_equal(write(ends.client.fd, forged, 37), 37);
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::failed);
    assert_true(contains(stream_why(), "TLS read: decryption failed or bad record mac"));
}

void test_no_renegotiation(void **) {
    serve({"a"});
    trust("", false);
    open_ends("a.example.com");
    SSL_set_max_proto_version(ssl_of(&ends.client), TLS1_2_VERSION);
    SSL_clear_options(ssl_of(&ends.client), SSL_OP_NO_RENEGOTIATION);
    shake_hands_well();
    assert_int_equal(SSL_renegotiate(ssl_of(&ends.client)), 1);
    (void)SSL_do_handshake(ssl_of(&ends.client));
    char into[64];
    size_t got = 0;
    assert_true(stream_read(&ends.server, into, sizeof into, &got) != stream_result::ok);
    ERR_clear_error();
    assert_int_equal(SSL_do_handshake(ssl_of(&ends.client)), -1);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    ERR_clear_error();
}

// An idle server connection: the SSL and all that hangs on it. The client end is freed before it is measured.
void test_memory_of_an_idle_stream(void **) {
    if (mallinfo2().uordblks == 0) skip(); // mallinfo2 knows nothing of a sanitizer's allocator
    serve({"a"});
    trust("", false);
    constexpr int warm = 10, count = 500;
    static stream held[warm + count];
    size_t before = 0;
    for (int i = 0; i < warm + count; i++) {
        if (i == warm) before = mallinfo2().uordblks;
        open_ends("a.example.com");
        shake_hands_well();
        char byte;
        size_t got;
        write_all(&ends.client, "x");
        assert_true(stream_read(&ends.server, &byte, 1, &got) == stream_result::ok);
        write_all(&ends.server, "y");
        held[i] = ends.server;
        ends.server = {};
        stream_close(&ends.client);
    }
    const size_t each = (mallinfo2().uordblks - before) / count;
    print_message("idle TLS stream: %zu bytes\n", each);
    for (stream &s : held)
        stream_close(&s);
    assert_in_range(each, 1000, 14 * 1024);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_read_takes_all_records, after_each),
        cmocka_unit_test_teardown(test_write_gathers_one_record, after_each),
        cmocka_unit_test_teardown(test_write_again_then_more, after_each),
        cmocka_unit_test_teardown(test_ends, after_each),
        cmocka_unit_test_teardown(test_bad_bytes, after_each),
        cmocka_unit_test_teardown(test_no_renegotiation, after_each),
        cmocka_unit_test_teardown(test_memory_of_an_idle_stream, after_each),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
