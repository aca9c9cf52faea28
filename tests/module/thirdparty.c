/* A module as somebody else would write it, in C11, by <belfry/module.h> alone. Built as tests/module/thirdparty.so.
 *
 * [route] ticket = WORD: who comes must bring the field `X-Ticket: WORD`. Whether it is good is found out by a thread
 * of the module's own, which takes its time, as a database would; the connection waits meanwhile, others do not. Then:
 * - a wrong ticket is refused with 403, a missing one at once, with 401;
 * - each message is counted by connection and by worker; the third and every later one of a connection is dropped where
 *   `ticket_messages = 2` says so;
 * - the message "wait" waits for the thread, too, and "wrong" closes with 4003.
 *
 * A reload gives living connections other scopes: what is counted stands in the connection's state, which may begin at
 * zero in the midst of it. The module's last words are how many scopes it has made and freed.
 */
#define _POSIX_C_SOURCE 200809L
#include "module.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- one thread that decides, and its queue ---------------------------------------------------------------------- */

struct question {
    struct belfry_ticket ticket;
    int good;
    struct question *next; /* owned */
};

static const struct belfry_host *belfry; /* borrowed */
static pthread_t decider;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER;
static struct question *first, **last = &first; /* owned; guarded by lock */
static int ending;                              /* guarded by lock */
static int served;                              /* guarded by lock: not a mere look at the file */

static void answer(const struct question *q) {
    struct belfry_verdict verdict = {.size = sizeof verdict, .status = 403, .close_code = 4003};
    char reason[] = "the ticket is not good";
    verdict.reason = (struct belfry_text){reason, sizeof reason - 1};
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    belfry->resume(q->ticket, q->good ? BELFRY_PASS : BELFRY_DENY, q->good ? NULL : &verdict);
    memset(reason, 'x', sizeof reason - 1); /* it was copied */
}

static void *decide(void *nothing) {
    (void)nothing;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!first && !ending)
            pthread_cond_wait(&asked, &lock);
        struct question *q = first;
        if (!q) break;
        first = q->next;
        if (!first) last = &first;
        pthread_mutex_unlock(&lock);
        answer(q);
        belfry->release(q);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static enum belfry_verdict_type ask(const struct belfry_call *call, int good) {
    struct question *q = belfry->allocate(sizeof *q);
    q->ticket = call->ticket;
    q->good = good;
    pthread_mutex_lock(&lock);
    *last = q;
    last = &q->next;
    pthread_cond_signal(&asked);
    pthread_mutex_unlock(&lock);
    return BELFRY_WAIT;
}

/* ---- the module's life ------------------------------------------------------------------------------------------- */

static int load(const struct belfry_host *host, char *error, size_t error_size) {
    belfry = host;
    ending = 0;
    if (pthread_create(&decider, NULL, decide, NULL) == 0) return 1;
    belfry_text_append(error, error_size, belfry_text_of("no thread can be made"));
    return 0;
}

static unsigned long scopes_made, scopes_freed; /* of the main thread */

static void unload(void) {
    pthread_mutex_lock(&lock);
    ending = 1;
    pthread_cond_signal(&asked);
    pthread_mutex_unlock(&lock);
    pthread_join(decider, NULL);
    if (!served) return;
    char line[80];
    snprintf(line, sizeof line, "thirdparty: %lu scopes made, %lu freed", scopes_made, scopes_freed);
    belfry->log(BELFRY_INFO, line);
}

enum { scope_alive = 0x5c09e };

struct scope {
    uint32_t alive; /* scope_alive; else it was freed */
    int64_t messages;
    size_t size;
    char ticket[];
};

/* The route's, or null. */
static const struct scope *scope_of(const struct belfry_call *call) {
    const struct scope *scope = call->route;
    if (scope && scope->alive != scope_alive) call->host->log(BELFRY_ERROR, "thirdparty: a scope that was freed");
    return scope;
}

static void *scope_new(const struct belfry_host *host, const char *section, struct belfry_text name,
                       const struct belfry_value *values, size_t count, char *error, size_t error_size) {
    (void)section, (void)name;
    if (count != 2 || !values[0].text.size) return NULL;
    if (values[0].text.size > 64) {
        belfry_text_append(error, error_size, belfry_text_of("ticket: is longer than 64 bytes"));
        return NULL;
    }
    struct scope *scope = host->allocate(sizeof *scope + values[0].text.size);
    scope->alive = scope_alive;
    scope->messages = values[1].number;
    scope->size = values[0].text.size;
    memcpy(scope->ticket, values[0].text.data, values[0].text.size);
    scopes_made++;
    return scope;
}

static void scope_free(const struct belfry_host *host, const char *section, void *scope) {
    (void)section;
    ((struct scope *)scope)->alive = 0;
    scopes_freed++;
    host->release(scope);
}

/* ---- state: of a worker, of a connection ---------------------------------------------------------------------------
 */

struct worker {
    unsigned index;
    unsigned long connections, messages;
};

struct connection {
    int64_t messages;
};

static void *worker_new(const struct belfry_host *host, unsigned index) {
    struct worker *w = host->allocate(sizeof *w);
    w->index = index;
    pthread_mutex_lock(&lock);
    served = 1;
    pthread_mutex_unlock(&lock);
    return w;
}

static void worker_free(const struct belfry_host *host, void *worker) {
    struct worker *w = worker;
    char line[128];
    snprintf(line, sizeof line, "thirdparty: worker %u had %lu connections and %lu messages", w->index, w->connections,
             w->messages);
    host->log(BELFRY_INFO, line);
    host->release(w);
}

/* ---- hooks ---------------------------------------------------------------------------------------------------------
 */

static enum belfry_verdict_type handshake(const struct belfry_call *call, struct belfry_verdict *verdict) {
    const struct scope *scope = scope_of(call);
    struct worker *worker = call->worker;
    struct belfry_text ticket;
    worker->connections++;
    if (!scope) return BELFRY_PASS;
    call->host->answer_field(call, belfry_text_of("X-Asked"), belfry_text_of("thirdparty"));
    if (!call->host->field(call, "x-ticket", 0, &ticket)) {
        verdict->status = 401;
        verdict->reason = belfry_text_of("there is no ticket");
        return BELFRY_DENY;
    }
    return ask(call, belfry_text_equal(ticket, (struct belfry_text){scope->ticket, scope->size}));
}

static enum belfry_verdict_type message(const struct belfry_call *call, struct belfry_verdict *verdict) {
    const struct scope *scope = scope_of(call);
    struct worker *worker = call->worker;
    struct connection *connection = call->connection;
    (void)verdict; /* all zero: dropped */
    worker->messages++;
    if (!scope) return BELFRY_PASS;
    connection->messages++;
    if (scope->messages && connection->messages > scope->messages) return BELFRY_DENY;
    if (belfry_text_equal(call->data, belfry_text_of("wait"))) return ask(call, 1);
    if (belfry_text_equal(call->data, belfry_text_of("wrong"))) return ask(call, 0);
    return BELFRY_PASS;
}

static void close_connection(const struct belfry_call *call) {
    const struct connection *connection = call->connection;
    char line[80];
    scope_of(call); /* null where a reload has taken the ticket away: the connection was ours all the same */
    snprintf(line, sizeof line, "thirdparty: a connection ended after %lld messages", (long long)connection->messages);
    call->host->log(BELFRY_INFO, line);
}

static const struct belfry_option options[] = {
    {"route", "ticket", BELFRY_TEXT, "", 0, 0, NULL, "what X-Ticket has to be; empty = everybody may come"},
    {"route", "ticket_messages", BELFRY_INTEGER, "0", 0, 1000, NULL, "that one ticket is good for; 0 = no bound"},
};

BELFRY_EXPORT(thirdparty) = {
    .size = sizeof(struct belfry_module),
    .abi = BELFRY_ABI,
    .name = "thirdparty",
    .version = "1.0",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .conn_size = sizeof(struct connection),
    .load = load,
    .unload = unload,
    .scope_new = scope_new,
    .scope_free = scope_free,
    .worker_new = worker_new,
    .worker_free = worker_free,
    .handshake = handshake,
    .message = message,
    .close = close_connection,
};
