// The ring of ticket keys: its page, its times, and OpenSSL's callback. The page is guarded by a lock; only the main
// thread writes to it, so that the main thread reads it without.
#include "net/ticket_keys.h"

#include "base/error.h"
#include "base/log.h"

#include <algorithm>
#include <atomic>
#include <errno.h>
#include <mutex>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace belfry {

namespace {

constexpr size_t name_size = 16; // RFC 5077 section 4; and what OpenSSL gives us room for
constexpr size_t iv_size = 16;

struct ticket_key {
    unsigned char name[name_size]; // goes in the clear: says nothing but which key it is
    unsigned char cipher[32], mac[32];
    uint64_t until_ms; // is erased then; of the one that seals: never
};

// What the page holds. [0] seals.
struct ring {
    size_t count;
    ticket_key keys[ticket_keys_max];
};
static_assert(sizeof(ring) <= 4096);

// What is written for the next process. Raise the digit where the form changes: an unknown form is not taken.
constexpr char lent_mark[16] = {'b', 'e', 'l', 'f', 'r', 'y', ' ', 't', 'i', 'c', 'k', 'e', 't', 's', ' ', '1'};
struct lent {
    char mark[sizeof lent_mark];
    ticket_key keys[ticket_keys_max];
};

} // namespace

struct ticket_keys {
    std::atomic<uint32_t> references;
    std::mutex lock; // guards the page
    ring *page;      // owned (mmap)
    uint64_t sealing_since_ms;
    EVP_CIPHER *cipher; // owned: fetching one for each ticket would take OpenSSL's own locks
    std::atomic<uint64_t> rotations, sealed, newest, older, unknown;
};

namespace {

// ---------------------------------------------------------------- the ring

bool make_key(ticket_key *out) {
    if (RAND_bytes(out->name, sizeof out->name) == 1 && RAND_priv_bytes(out->cipher, sizeof out->cipher) == 1 &&
        RAND_priv_bytes(out->mac, sizeof out->mac) == 1) {
        out->until_ms = UINT64_MAX;
        return true;
    }
    ERR_clear_error();
    return false;
}

uint64_t until(int64_t rotate_ms, uint64_t now_ms) {
    return now_ms + static_cast<uint64_t>(std::min(rotate_ms, ticket_lifetime_ms));
}

void rotate(ticket_keys *k, int64_t rotate_ms, uint64_t now_ms) {
    ticket_key fresh;
    if (!make_key(&fresh)) {
        static log_limit limit = {.burst = 1}; // it is tried again each turn
        uint64_t held = 0;
        if (log_limit_pass(&limit, &held))
            log_error("tls: no random bytes: the ticket key stays (%llu more not shown)",
                      static_cast<unsigned long long>(held));
        return;
    }
    {
        const std::lock_guard<std::mutex> hold(k->lock);
        ring *r = k->page;
        r->keys[0].until_ms = until(rotate_ms, now_ms);
        r->count = std::min(r->count + 1, ticket_keys_max);
        memmove(&r->keys[1], &r->keys[0], (r->count - 1) * sizeof(ticket_key));
        r->keys[0] = fresh;
    }
    OPENSSL_cleanse(&fresh, sizeof fresh);
    k->sealing_since_ms = now_ms;
    k->rotations.fetch_add(1, std::memory_order_relaxed);
    log_debug("tls: tickets are sealed with a new key");
}

// Keys that came with an upgrade may have other times than our own: each is looked at.
void erase_due(ticket_keys *k, uint64_t now_ms) {
    ring *r = k->page;
    for (size_t i = r->count; i-- > 1;) {
        if (now_ms < r->keys[i].until_ms) continue;
        const std::lock_guard<std::mutex> hold(k->lock);
        memmove(&r->keys[i], &r->keys[i + 1], (r->count - i - 1) * sizeof(ticket_key));
        r->count--;
        OPENSSL_cleanse(&r->keys[r->count], sizeof(ticket_key));
    }
}

const ticket_key *find(const ring *r, const unsigned char *name) {
    for (size_t i = 0; i < r->count; i++)
        if (memcmp(r->keys[i].name, name, name_size) == 0) return &r->keys[i];
    return nullptr;
}

// ---------------------------------------------------------------- the callback

ticket_keys *keys_of(SSL *ssl);

bool begin_mac(EVP_MAC_CTX *mac, ticket_key *key) {
    char digest[] = "SHA256";
    const OSSL_PARAM given[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, given) == 1;
}

int seal(ticket_keys *k, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac) {
    ticket_key key;
    {
        const std::lock_guard<std::mutex> hold(k->lock);
        key = k->page->keys[0];
    }
    memcpy(name, key.name, name_size);
    const bool good = RAND_bytes(iv, iv_size) == 1 &&
                      EVP_EncryptInit_ex(cipher, k->cipher, nullptr, key.cipher, iv) == 1 && begin_mac(mac, &key);
    OPENSSL_cleanse(&key, sizeof key);
    if (!good) return -1; // 0 would say "no ticket", for which TLS 1.3 has no form (OpenSSL 3.0 writes a broken one)
    k->sealed.fetch_add(1, std::memory_order_relaxed);
    return 1;
}

int open(ticket_keys *k, const unsigned char *name, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
         bool single_use) {
    ticket_key key;
    bool known, newest;
    {
        const std::lock_guard<std::mutex> hold(k->lock);
        const ticket_key *found = find(k->page, name);
        known = found != nullptr;
        newest = found == &k->page->keys[0];
        if (known) key = *found;
    }
    (!known ? &k->unknown : newest ? &k->newest : &k->older)->fetch_add(1, std::memory_order_relaxed);
    if (!known) return 0; // a whole handshake
    const bool good = EVP_DecryptInit_ex(cipher, k->cipher, nullptr, key.cipher, iv) == 1 && begin_mac(mac, &key);
    OPENSSL_cleanse(&key, sizeof key);
    if (!good) return -1;
    return newest && !single_use ? 1 : 2;
}

// A ticket of TLS 1.3 should be used once (RFC 8446 appendix C.4), so the client gets the next one; with a callback,
// OpenSSL leaves that to us.
int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int sealing) {
    ticket_keys *k = keys_of(ssl);
    if (k == nullptr) return -1;
    return sealing == 1 ? seal(k, name, iv, cipher, mac)
                        : open(k, name, iv, cipher, mac, SSL_version(ssl) >= TLS1_3_VERSION);
}

void context_gone(void *, void *value, CRYPTO_EX_DATA *, int, long, void *) {
    ticket_keys_unref(static_cast<ticket_keys *>(value));
}

int keys_index() {
    static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, context_gone); // once a process
    return index;
}

ticket_keys *keys_of(SSL *ssl) {
    return static_cast<ticket_keys *>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), keys_index()));
}

} // namespace

// ---------------------------------------------------------------- life

ticket_keys *ticket_keys_new(uint64_t now_ms) {
    auto *k = new ticket_keys{};
    k->references.store(1, std::memory_order_relaxed);
    void *page = mmap(nullptr, sizeof(ring), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    k->cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr);
    if (page == MAP_FAILED || k->cipher == nullptr) fatal("tls: out of memory");
    madvise(page, sizeof(ring), MADV_DONTDUMP);
    (void)mlock(page, sizeof(ring)); // refused where the limit is used up: the keys work all the same
    k->page = static_cast<ring *>(page);
    if (!make_key(&k->page->keys[0])) fatal("tls: no random bytes");
    k->page->count = 1;
    k->sealing_since_ms = now_ms;
    return k;
}

ticket_keys *ticket_keys_ref(ticket_keys *k) {
    k->references.fetch_add(1, std::memory_order_relaxed);
    return k;
}

void ticket_keys_unref(ticket_keys *k) {
    if (k == nullptr || k->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    OPENSSL_cleanse(k->page, sizeof(ring));
    munmap(k->page, sizeof(ring));
    EVP_CIPHER_free(k->cipher);
    delete k;
}

void ticket_keys_tend(ticket_keys *k, int64_t rotate_ms, uint64_t now_ms) {
    if (rotate_ms == 0) rotate_ms = ticket_lifetime_ms;
    if (now_ms >= k->sealing_since_ms + static_cast<uint64_t>(rotate_ms)) rotate(k, rotate_ms, now_ms);
    erase_due(k, now_ms);
}

void ticket_keys_serve(ticket_keys *k, SSL_CTX *native) {
    if (SSL_CTX_set_ex_data(native, keys_index(), ticket_keys_ref(k)) != 1) fatal("tls: out of memory");
    SSL_CTX_set_timeout(native, ticket_lifetime_ms / 1000);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(native, on_ticket);
}

ticket_counters ticket_keys_count(const ticket_keys *k) {
    auto of = [](const std::atomic<uint64_t> &n) { return n.load(std::memory_order_relaxed); };
    return {of(k->rotations), of(k->sealed), of(k->newest), of(k->older), of(k->unknown)};
}

// ---------------------------------------------------------------- an upgrade

int ticket_keys_lend(const ticket_keys *k) {
    const int fd = memfd_create("belfry-tickets", MFD_CLOEXEC);
    if (fd < 0) return -1;
    lent all = {};
    memcpy(all.mark, lent_mark, sizeof lent_mark);
    memcpy(all.keys, k->page->keys, k->page->count * sizeof(ticket_key));
    const size_t size = offsetof(lent, keys) + k->page->count * sizeof(ticket_key);
    const bool written = pwrite(fd, &all, size, 0) == static_cast<ssize_t>(size);
    OPENSSL_cleanse(&all, sizeof all);
    if (written) return fd;
    close(fd);
    return -1;
}

bool ticket_keys_borrow(ticket_keys *k, int fd, int64_t rotate_ms, uint64_t now_ms) {
    lent all;
    const ssize_t got = pread(fd, &all, sizeof all, 0);
    const size_t bytes = got > 0 ? static_cast<size_t>(got) : 0;
    const bool good = bytes > offsetof(lent, keys) && (bytes - offsetof(lent, keys)) % sizeof(ticket_key) == 0 &&
                      memcmp(all.mark, lent_mark, sizeof lent_mark) == 0;
    const size_t count = good ? (bytes - offsetof(lent, keys)) / sizeof(ticket_key) : 0;
    for (size_t i = 0; i < count; i++) {
        const std::lock_guard<std::mutex> hold(k->lock);
        ring *r = k->page;
        if (r->count == ticket_keys_max || find(r, all.keys[i].name) != nullptr) continue;
        r->keys[r->count] = all.keys[i];
        // Also of the one that sealed: the other process takes no more clients.
        r->keys[r->count].until_ms = std::min(all.keys[i].until_ms, until(rotate_ms, now_ms));
        r->count++;
    }
    OPENSSL_cleanse(&all, sizeof all);
    return good;
}

} // namespace belfry
