// The ring of ticket keys, under real handshakes: which key seals, which open, when they go, what an upgrade passes on.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <thread> // before cmocka, which has a macro called fail
extern "C" {
#include <cmocka.h>
}

#include "net/ticket_keys.h"
#include "tls_fixture.h"

#include <atomic>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

using namespace belfry;
using namespace tls_fixture;

namespace {

constexpr int64_t hour = 3600 * 1000;
constexpr int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
constexpr const char *host = "a.example.com";

// A listener's contexts with keys of its own, which begin at 0.
void begin() {
    ticket_keys_unref(tickets);
    tickets = ticket_keys_new(0);
    serve({"a", "other"});
    trust("", false);
    keep_sessions();
}

void tend(int64_t rotate_ms, int64_t now_ms) {
    ticket_keys_tend(tickets, rotate_ms, static_cast<uint64_t>(now_ms));
}

SSL_SESSION *ticket_of_whole_handshake(int version) {
    assert_false(resumes(host, version, nullptr));
    assert_non_null(kept);
    return take_kept();
}

std::string key_name(const SSL_SESSION *session) {
    const std::string ticket = ticket_of(session);
    assert_true(ticket.size() > 16 + 16 + 32);
    return ticket.substr(0, 16);
}

void expect_counted(uint64_t rotations, uint64_t newest, uint64_t older, uint64_t unknown) {
    const ticket_counters n = ticket_keys_count(tickets);
    assert_int_equal(n.rotations, rotations);
    assert_int_equal(n.newest, newest);
    assert_int_equal(n.older, older);
    assert_int_equal(n.unknown, unknown);
}

// ---------------------------------------------------------------- one key

void the_newest_key_seals_and_opens(void **) {
    for (int version : versions) {
        begin();
        SSL_SESSION *first = ticket_of_whole_handshake(version);
        SSL_SESSION *second = ticket_of_whole_handshake(version);
        assert_true(key_name(first) == key_name(second));
        // RFC 5077 section 4: an IV of its own for each ticket.
        assert_true(ticket_of(first).substr(16, 16) != ticket_of(second).substr(16, 16));
        assert_true(resumes(host, version, first));
        // A ticket of TLS 1.3 is used once, so the client needs the next one; one of TLS 1.2 goes on to be good.
        assert_true((kept != nullptr) == (version == TLS1_3_VERSION));
        assert_true(resumes(host, version, first));
        expect_counted(0, 2, 0, 0);
        assert_int_equal(ticket_keys_count(tickets).sealed, version == TLS1_3_VERSION ? 4 : 2);
        assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(first), ticket_lifetime_ms / 1000);
        SSL_SESSION_free(first);
        SSL_SESSION_free(second);
        SSL_SESSION_free(take_kept());
    }
}

// Name, cipher's key and MAC's key of a ring's first.
void read_key(std::string out[3]) {
    ticket_keys *k = ticket_keys_new(0);
    const int fd = ticket_keys_lend(k);
    off_t at = 16;
    for (int i = 0; i < 3; i++) {
        out[i].resize(i == 0 ? 16 : 32);
        assert_int_equal(pread(fd, out[i].data(), out[i].size(), at), out[i].size());
        at += static_cast<off_t>(out[i].size());
    }
    close(fd);
    ticket_keys_unref(k);
}

void all_of_a_key_is_random(void **) {
    std::string one[3], other[3];
    read_key(one);
    read_key(other);
    for (int i = 0; i < 3; i++)
        assert_true(one[i] != other[i] && one[i] != std::string(one[i].size(), one[i][0]));
    assert_true(one[1] != one[2]);
}

// The session with other bytes where its ticket was: there is no way to set a ticket but through ASN.1.
SSL_SESSION *with_ticket(SSL_SESSION *session, const std::string &ticket) {
    unsigned char *der = nullptr;
    const int size = i2d_SSL_SESSION(session, &der);
    const std::string now = ticket_of(session);
    auto *at = static_cast<unsigned char *>(memmem(der, static_cast<size_t>(size), now.data(), now.size()));
    assert_non_null(at);
    memcpy(at, ticket.data(), ticket.size());
    const unsigned char *in = der;
    SSL_SESSION *out = d2i_SSL_SESSION(nullptr, &in, size);
    OPENSSL_free(der);
    assert_non_null(out);
    return out;
}

void an_altered_ticket_opens_nothing(void **) {
    begin();
    for (int version : versions) {
        SSL_SESSION *good = ticket_of_whole_handshake(version);
        const std::string ticket = ticket_of(good);
        for (size_t at : {size_t{0}, size_t{15}, size_t{16}, size_t{31}, size_t{32}, ticket.size() - 33,
                          ticket.size() - 32, ticket.size() - 1}) {
            std::string altered = ticket;
            altered[at] = static_cast<char>(altered[at] ^ 1);
            SSL_SESSION *bad = with_ticket(good, altered);
            assert_false(resumes(host, version, bad));
            SSL_SESSION_free(bad);
        }
        SSL_SESSION *same = with_ticket(good, ticket);
        assert_true(resumes(host, version, same));
        SSL_SESSION_free(same);
        SSL_SESSION_free(good);
    }
    assert_int_equal(ticket_keys_count(tickets).unknown, 4); // bytes 0 and 15 name the key
}

void keys_of_another_server_open_nothing(void **) {
    for (int version : versions) {
        begin();
        SSL_SESSION *foreign = ticket_of_whole_handshake(version);
        begin();
        assert_false(resumes(host, version, foreign));
        expect_counted(0, 0, 0, 1);
        SSL_SESSION_free(foreign);
    }
}

// Nothing but the session id context keeps them apart: the key opens the ticket.
void names_and_listeners_share_keys_and_no_sessions(void **) {
    for (int version : versions) {
        begin();
        SSL_SESSION *session = ticket_of_whole_handshake(version);
        SSL_SESSION *moved = SSL_SESSION_dup(session);
        SSL_SESSION_set1_hostname(moved, "other.example.org");
        assert_false(resumes("other.example.org", version, moved));
        SSL_SESSION_free(moved);
        expect_counted(0, 1, 0, 0);
        scope = "private";
        serve({"a", "other"});
        scope = "public";
        assert_false(resumes(host, version, session));
        expect_counted(0, 2, 0, 0);
        SSL_SESSION_free(session);
    }
}

void without_keys_there_are_no_tickets(void **) {
    for (int version : versions) {
        begin();
        SSL_SESSION *session = ticket_of_whole_handshake(version);
        ticket_keys *keys = std::exchange(tickets, nullptr);
        serve({"a", "other"});
        tickets = keys;
        assert_false(resumes(host, version, nullptr));
        assert_false(SSL_SESSION_has_ticket(SSL_get0_session(ssl_of(&ends.client))));
        assert_false(resumes(host, version, session));
        assert_true(kept == nullptr || !SSL_SESSION_has_ticket(kept));
        expect_counted(0, 0, 0, 0);
        SSL_SESSION_free(session);
        SSL_SESSION_free(take_kept());
    }
}

// A client that offers a group that the server does not have, and psk_ke: with that the session could be resumed, but
// whoever gets the ticket's key later could read all of it.
void tls13_resumes_with_a_key_exchange_only(void **) {
    begin();
    SSL_SESSION *session = ticket_of_whole_handshake(TLS1_3_VERSION);
    assert_true(resumes(host, TLS1_3_VERSION, session));
    EVP_PKEY *key = nullptr;
    assert_int_equal(SSL_get_peer_tmp_key(ssl_of(&ends.client), &key), 1);
    EVP_PKEY_free(key);
    open_ends(host);
    SSL_set_session(ssl_of(&ends.client), session);
    SSL_set_options(ssl_of(&ends.client), SSL_OP_ALLOW_NO_DHE_KEX);
    assert_int_equal(SSL_set1_groups_list(ssl_of(&ends.client), "P-521"), 1);
    const outcome o = shake_hands();
    assert_true(o.server == stream_result::failed);
    assert_true(contains(o.server_why, "no suitable key share"));
    SSL_SESSION_free(session);
}

// ---------------------------------------------------------------- rotation

void a_rotation_renews_tickets(void **) {
    for (int version : versions) {
        begin();
        SSL_SESSION *first = ticket_of_whole_handshake(version);
        tend(12 * hour, 12 * hour - 1);
        expect_counted(0, 0, 0, 0);
        tend(12 * hour, 12 * hour);
        assert_true(resumes(host, version, first));
        expect_counted(1, 0, 1, 0);
        assert_non_null(kept);
        SSL_SESSION *renewed = take_kept();
        assert_true(key_name(renewed) != key_name(first));
        assert_true(resumes(host, version, renewed));
        expect_counted(1, 1, 1, 0);
        SSL_SESSION_free(first);
        SSL_SESSION_free(renewed);
        SSL_SESSION_free(take_kept());
    }
}

void a_key_opens_as_long_as_its_tickets_are_good(void **) {
    for (int version : versions) {
        begin();
        SSL_SESSION *session = ticket_of_whole_handshake(version);
        tend(12 * hour, 13 * hour); // a main thread that was late
        tend(12 * hour, 15 * hour - 1);
        assert_true(resumes(host, version, session));
        tend(12 * hour, 15 * hour);
        assert_false(resumes(host, version, session));
        expect_counted(1, 0, 1, 1);
        SSL_SESSION_free(session);
    }
}

void a_key_opens_no_longer_than_it_has_sealed(void **) {
    begin();
    SSL_SESSION *session = ticket_of_whole_handshake(TLS1_3_VERSION);
    tend(10000, 10000);
    tend(10000, 19999);
    assert_true(resumes(host, TLS1_3_VERSION, session));
    tend(10000, 20000);
    expect_counted(2, 0, 1, 0);
    assert_false(resumes(host, TLS1_3_VERSION, session));
    // Those that are sealed now are of the third key.
    SSL_SESSION_free(session);
    session = take_kept();
    for (int64_t now = 30000; now < 90000; now += 10000) { // each ticket renewed in time
        assert_true(resumes(host, TLS1_3_VERSION, session));
        SSL_SESSION_free(session);
        session = take_kept();
        tend(10000, now);
    }
    SSL_SESSION_free(session);
}

// Contexts of before a reload still seal for handshakes that have begun.
void switched_off_keys_do_not_stay(void **) {
    begin();
    SSL_SESSION *session = ticket_of_whole_handshake(TLS1_3_VERSION);
    tend(0, 2 * hour);
    expect_counted(1, 0, 0, 0);
    assert_true(resumes(host, TLS1_3_VERSION, session));
    tend(0, 4 * hour);
    assert_false(resumes(host, TLS1_3_VERSION, session));
    SSL_SESSION_free(session);
}

// ---------------------------------------------------------------- memory

constexpr size_t key_at = 16 + 16, key_size = 32; // in a lent file: behind the mark and the first key's name
constexpr unsigned char veil = 0x5a;              // so that the test's own copy is not found

void veiled_key(unsigned char out[key_size]) {
    const int fd = ticket_keys_lend(tickets);
    assert_true(fd >= 0);
    for (size_t i = 0; i < key_size; i++) {
        unsigned char byte;
        assert_int_equal(pread(fd, &byte, 1, static_cast<off_t>(key_at + i)), 1);
        out[i] = byte ^ veil;
    }
    close(fd);
}

// How often the key's first half stands in this process's memory, and where.
int found_in_memory(const unsigned char *veiled, unsigned long *place = nullptr) {
    static unsigned char piece[1 << 16];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char line[512];
    while (fgets(line, sizeof line, maps) != nullptr) {
        unsigned long from, to;
        char mode[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) != 3 || mode[1] != 'w' || to - from > (64ul << 20)) continue;
        for (unsigned long at = from; at < to; at += sizeof piece - 15) {
            const ssize_t n = pread(memory, piece, std::min(sizeof piece, to - at), static_cast<off_t>(at));
            for (ssize_t i = 0; i + 16 <= n; i++) {
                ssize_t same = 0;
                while (same < 16 && piece[i + same] == (veiled[same] ^ veil))
                    same++;
                // This buffer is memory, too.
                const unsigned long where = at + static_cast<unsigned long>(i);
                const auto self = reinterpret_cast<unsigned long>(piece);
                if (same < 16 || (where >= self && where < self + sizeof piece)) continue;
                found++;
                if (place != nullptr) *place = where;
            }
        }
        memset(piece, 0, sizeof piece);
    }
    close(memory);
    fclose(maps);
    return found;
}

void an_erased_key_is_nowhere(void **) {
    begin();
    unsigned char veiled[key_size];
    veiled_key(veiled);
    for (int version : versions) {
        SSL_SESSION *session = ticket_of_whole_handshake(version);
        assert_true(resumes(host, version, session));
        SSL_SESSION_free(session);
    }
    assert_int_equal(found_in_memory(veiled), 1);
    tend(12 * hour, 12 * hour);
    assert_int_equal(found_in_memory(veiled), 1);
    tend(12 * hour, 14 * hour);
    assert_int_equal(found_in_memory(veiled), 0);
}

// What smaps says of the mapping at an address.
std::string flags_at(unsigned long address) {
    char line[512];
    std::string flags;
    bool there = false;
    FILE *in = fopen("/proc/self/smaps", "r");
    while (fgets(line, sizeof line, in) != nullptr) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) there = address >= from && address < to;
        if (there && strncmp(line, "VmFlags:", 8) == 0) flags = line;
    }
    fclose(in);
    return flags;
}

void keys_go_into_no_core_file(void **) {
    begin();
    unsigned char veiled[key_size];
    veiled_key(veiled);
    unsigned long where = 0;
    assert_int_equal(found_in_memory(veiled, &where), 1);
    assert_true(contains(flags_at(where), " dd"));
}

// ---------------------------------------------------------------- an upgrade

void the_next_process_opens_tickets(void **) {
    for (int version : versions) {
        begin();
        SSL_SESSION *oldest = ticket_of_whole_handshake(version);
        tend(12 * hour, 12 * hour);
        SSL_SESSION *session = ticket_of_whole_handshake(version);
        const int fd = ticket_keys_lend(tickets);
        assert_true(fd >= 0);
        struct stat about;
        assert_int_equal(fstat(fd, &about), 0);
        assert_true(S_ISREG(about.st_mode) && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        begin();
        assert_false(resumes(host, version, session));
        assert_true(ticket_keys_borrow(tickets, fd, 12 * hour, 13 * hour));
        SSL_SESSION_free(take_kept());
        assert_true(resumes(host, version, session));
        assert_non_null(kept); // renewed, with a key of its own
        assert_true(key_name(kept) != key_name(session));
        assert_true(resumes(host, version, oldest));
        expect_counted(0, 0, 2, 1);
        tend(24 * hour, 14 * hour - 1);
        assert_true(resumes(host, version, oldest));
        tend(24 * hour, 14 * hour); // what was due there is due here
        assert_false(resumes(host, version, oldest));
        tend(24 * hour, 15 * hour - 1);
        assert_true(resumes(host, version, session));
        tend(24 * hour, 15 * hour);
        assert_false(resumes(host, version, session));
        expect_counted(0, 0, 4, 3);
        close(fd);
        SSL_SESSION_free(session);
        SSL_SESSION_free(oldest);
        SSL_SESSION_free(take_kept());
    }
}

void keys_that_came_do_not_outlive_the_rotation(void **) {
    begin();
    SSL_SESSION *session = ticket_of_whole_handshake(TLS1_3_VERSION);
    const int fd = ticket_keys_lend(tickets);
    begin();
    assert_true(ticket_keys_borrow(tickets, fd, 10000, 1000));
    tend(60000, 10999);
    assert_true(resumes(host, TLS1_3_VERSION, session));
    tend(60000, 11000);
    assert_false(resumes(host, TLS1_3_VERSION, session));
    close(fd);
    SSL_SESSION_free(session);
}

// One upgrade after the other: the ring is full of keys that came.
void a_full_ring_stays_in_bounds(void **) {
    begin();
    SSL_SESSION *session[6];
    for (int i = 0; i < 6; i++) {
        session[i] = ticket_of_whole_handshake(TLS1_3_VERSION);
        const int fd = ticket_keys_lend(tickets);
        begin();
        assert_true(ticket_keys_borrow(tickets, fd, 12 * hour, 0));
        close(fd);
    }
    int good = 0;
    for (SSL_SESSION *s : session)
        good += resumes(host, TLS1_3_VERSION, s);
    assert_int_equal(good, ticket_keys_max - 1);
    assert_true(resumes(host, TLS1_3_VERSION, session[5]));
    tend(12 * hour, hour); // too early for any of them
    tend(hour, hour + 1);
    assert_true(resumes(host, TLS1_3_VERSION, session[5]));
    assert_false(resumes(host, TLS1_3_VERSION, session[3])); // the oldest has made room
    for (SSL_SESSION *s : session)
        SSL_SESSION_free(s);
}

void a_key_takes_room_once(void **) {
    begin();
    const int first = ticket_keys_lend(tickets);
    begin();
    SSL_SESSION *session = ticket_of_whole_handshake(TLS1_3_VERSION);
    const int second = ticket_keys_lend(tickets);
    begin();
    for (size_t i = 0; i < ticket_keys_max; i++)
        assert_true(ticket_keys_borrow(tickets, first, 12 * hour, 0));
    assert_true(ticket_keys_borrow(tickets, second, 12 * hour, 0));
    assert_true(resumes(host, TLS1_3_VERSION, session));
    close(first);
    close(second);
    SSL_SESSION_free(session);
}

void other_files_are_not_taken(void **) {
    begin();
    SSL_SESSION *session = ticket_of_whole_handshake(TLS1_3_VERSION);
    const int fd = ticket_keys_lend(tickets);
    struct stat about;
    assert_int_equal(fstat(fd, &about), 0);
    begin();
    assert_false(ticket_keys_borrow(tickets, -1, 12 * hour, 0));
    std::string whole(static_cast<size_t>(about.st_size), '\0');
    assert_int_equal(pread(fd, whole.data(), whole.size(), 0), about.st_size);
    close(fd);
    std::string other_form = whole;
    other_form[15] = '2';
    for (const std::string &bytes : {std::string(), whole.substr(0, 16), whole.substr(0, whole.size() - 1), whole + "x",
                                     other_form, std::string(100000, 'x')}) {
        const int made = memfd_create("test", MFD_CLOEXEC);
        assert_int_equal(write(made, bytes.data(), bytes.size()), bytes.size());
        assert_false(ticket_keys_borrow(tickets, made, 12 * hour, 0));
        close(made);
    }
    assert_false(resumes(host, TLS1_3_VERSION, session));
    SSL_SESSION_free(session);
}

// ---------------------------------------------------------------- threads

// Handshakes in memory, one after the other, each with the ticket of the one before. How many were resumed.
int handshakes(SSL_CTX *server_side, SSL_CTX *client_side, int count) {
    int resumed = 0;
    SSL_SESSION *session = nullptr;
    for (int i = 0; i < count; i++) {
        SSL *server = SSL_new(server_side), *client = SSL_new(client_side);
        BIO *one = nullptr, *other = nullptr;
        BIO_new_bio_pair(&one, 0, &other, 0);
        SSL_set_bio(server, one, one);
        SSL_set_bio(client, other, other);
        SSL_set_accept_state(server);
        SSL_set_connect_state(client);
        SSL_set_max_proto_version(client, TLS1_2_VERSION); // whose ticket comes within the handshake
        SSL_set_tlsext_host_name(client, host);
        if (session != nullptr) SSL_set_session(client, session);
        for (int n = 0; n < 10 && (!SSL_is_init_finished(server) || !SSL_is_init_finished(client)); n++) {
            SSL_do_handshake(client);
            SSL_do_handshake(server);
        }
        resumed += SSL_session_reused(server);
        SSL_SESSION_free(session);
        session = SSL_get1_session(client);
        SSL_shutdown(client);
        SSL_free(client);
        SSL_free(server);
    }
    SSL_SESSION_free(session);
    ERR_clear_error();
    return resumed;
}

void rotation_under_handshakes(void **) {
    begin();
    constexpr int each = 50;
    std::atomic<int> resumed = 0, running = 2;
    auto work = [&] {
        resumed += handshakes(tls_native(server_context), tls_native(client_context), each);
        running--;
    };
    std::thread one(work), two(work);
    uint64_t now = 0;
    for (; running > 0; now++) {
        ticket_keys_tend(tickets, 1, now);
        const int fd = ticket_keys_lend(tickets);
        if (ticket_keys_borrow(tickets, fd, 1, now)) close(fd);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    one.join();
    two.join();
    const ticket_counters n = ticket_keys_count(tickets);
    assert_true(n.rotations > 0 && n.sealed > 0);
    assert_int_equal(n.newest + n.older + n.unknown, 2 * (each - 1)); // every ticket was looked at
    assert_int_equal(resumed, n.newest + n.older);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_newest_key_seals_and_opens, after_each),
        cmocka_unit_test_teardown(all_of_a_key_is_random, after_each),
        cmocka_unit_test_teardown(an_altered_ticket_opens_nothing, after_each),
        cmocka_unit_test_teardown(keys_of_another_server_open_nothing, after_each),
        cmocka_unit_test_teardown(names_and_listeners_share_keys_and_no_sessions, after_each),
        cmocka_unit_test_teardown(without_keys_there_are_no_tickets, after_each),
        cmocka_unit_test_teardown(tls13_resumes_with_a_key_exchange_only, after_each),
        cmocka_unit_test_teardown(a_rotation_renews_tickets, after_each),
        cmocka_unit_test_teardown(a_key_opens_as_long_as_its_tickets_are_good, after_each),
        cmocka_unit_test_teardown(a_key_opens_no_longer_than_it_has_sealed, after_each),
        cmocka_unit_test_teardown(switched_off_keys_do_not_stay, after_each),
        cmocka_unit_test_teardown(an_erased_key_is_nowhere, after_each),
        cmocka_unit_test_teardown(keys_go_into_no_core_file, after_each),
        cmocka_unit_test_teardown(the_next_process_opens_tickets, after_each),
        cmocka_unit_test_teardown(keys_that_came_do_not_outlive_the_rotation, after_each),
        cmocka_unit_test_teardown(a_full_ring_stays_in_bounds, after_each),
        cmocka_unit_test_teardown(a_key_takes_room_once, after_each),
        cmocka_unit_test_teardown(other_files_are_not_taken, after_each),
        cmocka_unit_test_teardown(rotation_under_handshakes, after_each),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
