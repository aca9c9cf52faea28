// Exchanges: made and freed. Owner's thread.
#include "relay/exchange.h"

#include "proto/http1_forward.h"
#include "relay/shard.h"

#include <new>

namespace belfry {

static void rebase(view *v, const char *from, const char *to) {
    if (v->data()) *v = view(to + (v->data() - from), v->size());
}

// The parsed request looks at the thread's receive buffer; the copy of its head is what it looks at from here on.
static void keep_head(exchange *x, const http1_request *q, view head) {
    buffer_append(&x->head, head);
    http1_request *r = &x->request;
    const char *from = head.data(), *to = x->head.data;
    // The fields behind field_count are left uninitialised: three kilobytes for every request otherwise.
    memcpy(static_cast<void *>(r), q, offsetof(http1_request, fields) + q->field_count * sizeof *q->fields);
    for (view *v : {&r->method, &r->target, &r->path, &r->query, &r->authority})
        rebase(v, from, to);
    for (uint32_t i = 0; i < r->field_count; i++) {
        rebase(&r->fields[i].name, from, to);
        rebase(&r->fields[i].value, from, to);
    }
}

exchange *exchange_new(conn *c, const exchange_events *events, const http1_request *q, view head) {
    auto *x = static_cast<exchange *>(slab_get(&c->on->exchange_slab));
    memset(static_cast<void *>(x), 0, offsetof(exchange, request));
    keep_head(x, q, head);
    x->on = c;
    x->events = events;
    x->started_ms = c->on->loop->clock.monotonic_ms;
    c->exchange = x;
    return x;
}

view exchange_request_id(exchange *x) {
    static_assert(sizeof x->request_id >= http1_request_id_max && http1_request_id_max < 256);
    static const char digits[] = "0123456789abcdef";
    if (x->request_id_size) return view(x->request_id, x->request_id_size);
    const http1_field *f = http1_find(&x->request, "X-Request-Id", nullptr);
    if (f && http1_request_id_valid(f->value)) {
        memcpy(x->request_id, f->value.data(), f->value.size());
        x->request_id_size = static_cast<uint8_t>(f->value.size());
    } else {
        uint8_t random[16]; // no secret: nothing is decided by it
        random_fill(random, sizeof random);
        for (size_t i = 0; i < sizeof random; i++) {
            x->request_id[2 * i] = digits[random[i] >> 4];
            x->request_id[2 * i + 1] = digits[random[i] & 15];
        }
        x->request_id_size = 2 * sizeof random;
    }
    return view(x->request_id, x->request_id_size);
}

void exchange_free(exchange *x) {
    buffer_free(&x->head);
    buffer_free(&x->path);
    buffer_free(&x->fields);
    buffer_free(&x->claims);
    buffer_free(&x->server);
    x->on->exchange = nullptr;
    slab_put(&x->on->on->exchange_slab, x);
}

} // namespace belfry
