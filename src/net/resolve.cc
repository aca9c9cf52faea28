// Host names to addresses by evdns. One question, one evdns_base; it belongs to the loop that asked and frees itself.
#include "net/resolve.h"

#include "base/error.h"
#include "net/later.h"

#include <event2/dns.h>
#include <event2/util.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace belfry {

struct resolve {
    loop *on;                           // borrowed
    resolve_done done;                  // null: cancelled, or done
    void *context;                      // borrowed
    evdns_base *dns;                    // owned; null: numeric
    evdns_getaddrinfo_request *request; // owned by dns; null once answered
    struct later later;                 // tells the answer; then ends the lingering
    const char *why;                    // borrowed, static
    size_t count;
    address found[resolve_max];
};

namespace {

void take(resolve *r, const struct addrinfo *list) {
    for (; list != nullptr && r->count < resolve_max; list = list->ai_next) {
        if (list->ai_addrlen > sizeof(struct sockaddr_storage)) continue;
        address *a = &r->found[r->count++];
        memcpy(&a->storage, list->ai_addr, list->ai_addrlen);
        a->size = list->ai_addrlen;
    }
}

// Put off, so that the asker is never called from within its own resolve_start (hosts file, numeric address); and
// the evdns_base stays for a while behind the answer, since evdns still has callbacks of its own on the way (2.1.12
// answers with the A record alone where the AAAA is late, and cancels that one afterwards).
void resolve_later(later *l) {
    resolve *r = BELFRY_CONTAINER_OF(l, resolve, later);
    if (r->done != nullptr) {
        resolve_done done = r->done;
        r->done = nullptr;
        done(r->found, r->count, r->why, r->context);
        later_post_in(&r->later, resolve_linger_ms);
        return;
    }
    if (r->dns != nullptr) evdns_base_free(r->dns, 0);
    free(r);
}

void resolve_answered(int result, struct evutil_addrinfo *list, void *context) {
    resolve *r = static_cast<resolve *>(context);
    r->request = nullptr;
    take(r, list);
    if (list != nullptr) evutil_freeaddrinfo(list);
    r->why = result != 0 ? evutil_gai_strerror(result) : "the name has no address";
    if (r->done != nullptr)
        later_post(&r->later);
    else
        later_post_in(&r->later, resolve_linger_ms);
}

bool take_numeric(resolve *r, const char *host, const char *port) {
    struct addrinfo hints = {}, *list = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    if (getaddrinfo(host, port, &hints, &list) != 0) return false;
    take(r, list);
    freeaddrinfo(list);
    return true;
}

} // namespace

resolve *resolve_start(loop *on, const char *host, uint16_t port, resolve_done done, void *context) {
    resolve *r = static_cast<resolve *>(memory_get_zeroed(sizeof(resolve)));
    r->on = on;
    r->done = done;
    r->context = context;
    later_init(&r->later, &on->laters, resolve_later);
    char port_text[8];
    snprintf(port_text, sizeof port_text, "%u", port);
    if (take_numeric(r, host, port_text)) {
        later_post(&r->later);
        return r;
    }
    r->dns = evdns_base_new(loop_library(on), EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (r->dns == nullptr) fatal("resolve: no evdns_base");
    // Its result is not looked at: without a usable resolv.conf the hosts file still answers, and the rest fails below.
    evdns_base_resolv_conf_parse(r->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf");
    // A caller's patience is a few seconds: a silent name server must not use it up before the next one is asked.
    evdns_base_set_option(r->dns, "timeout:", "1");
    evdns_base_set_option(r->dns, "attempts:", "2");
    struct evutil_addrinfo hints = {};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_protocol = IPPROTO_TCP;
    evdns_getaddrinfo_request *request = evdns_getaddrinfo(r->dns, host, port_text, &hints, resolve_answered, r);
    r->request = request; // null: answered already
    return r;
}

void resolve_cancel(resolve *r) {
    if (r == nullptr) return;
    r->done = nullptr;
    // Its answer, "cancelled", still comes by resolve_answered; where the answer was there, `later` is posted.
    if (r->request != nullptr) evdns_getaddrinfo_cancel(r->request);
}

} // namespace belfry
