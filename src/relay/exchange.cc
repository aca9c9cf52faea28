// Exchanges: made and freed. Owner's thread.
#include "relay/exchange.h"

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
    c->exchange = x;
    return x;
}

void exchange_free(exchange *x) {
    buffer_free(&x->head);
    buffer_free(&x->path);
    buffer_free(&x->fields);
    buffer_free(&x->claims);
    x->on->exchange = nullptr;
    slab_put(&x->on->on->exchange_slab, x);
}

} // namespace belfry
