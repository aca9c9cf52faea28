// Admission: from the request head to the 101, to the proxy, or to a refusal. On the worker thread of the connection.
#include "relay/admission.h"

#include "base/log.h"
#include "proto/deflate_offer.h"
#include "proto/forwarded.h"
#include "proto/uri.h"
#include "relay/access.h"
#include "relay/carrying.h"
#include "relay/chain.h"
#include "relay/client_js.h"
#include "relay/expiry.h"
#include "relay/first_rooms.h"
#include "relay/hold_field.h"
#include "relay/hook.h"
#include "relay/notify.h"
#include "relay/plain_request.h"
#include "relay/poll.h"
#include "relay/proxy.h"
#include "relay/proxying.h"
#include "relay/session.h"
#include "relay/sse.h"
#include "relay/websocket.h"

namespace belfry {

static void log_refusal(const conn *c, int status, refuse_reason reason, view why) {
    static log_limit limit = {.burst = 20};
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_info("refused %d %s: %s on %s: %.*s (%llu more not shown)", status, refuse_reason_name(reason),
                 c->exchange ? ip_format(&c->exchange->client).text : conn_peer_text(c).text, c->listener->name.c_str(),
                 static_cast<int>(why.size()), why.data(), static_cast<unsigned long long>(held));
}

// The answer stands in the thread's scratch buffer.
static void send_last(conn *c) {
    c->answered = true;
    if (!conn_send(c, frame_copy(buffer_view(&c->on->scratch)))) return conn_abort(c); // a client that reads nothing
    conn_linger(c);
}

void admission_refuse(conn *c, int status, refuse_reason reason, view why, view extra) {
    c->on->count.refused[reason]++;
    log_refusal(c, status, reason, why);
    access_refused(c, status, reason, why);
    buffer fields = {};
    buffer_append(&fields, extra);
    if (c->exchange) buffer_append(&fields, buffer_view(&c->exchange->fields));
    buffer_clear(&c->on->scratch);
    http1_write_error(status, why, buffer_view(&fields), false, &c->on->scratch);
    buffer_free(&fields);
    send_last(c);
}

void admission_release(conn *c) {
    if (exchange *x = c->exchange) {
        if (x->connect) hook_cancel(x->connect);
        if (x->proxy) proxy_cancel(x);
        carrying_cancel(x);
    }
    access_leave(c);
    plain_session_free(c);
    if (c->client) hook_cancel_all(c);
    chain_close(c);
    if (c->exchange) exchange_free(c->exchange);
    if (c->client) client_free(c);
}

// ---------------------------------------------------------------- waiting for the first rooms

static char *waiting_bytes(conn *, char *begin, char *) {
    return begin;
}
static void waiting_eof(conn *c, const char *) {
    c->on->count.refused[refuse_gone]++;
    conn_abort(c);
}
static void admitting_deadline(conn *c) {
    admission_refuse(c, 503, refuse_timeout, "the broker did not answer within handshake_timeout",
                     "Retry-After: 1\r\n");
}
static const conn_phase admitting_phase = {"admitting",        waiting_bytes,  waiting_eof,
                                           admitting_deadline, room_leave_all, nullptr};

// Rooms with history that the last event id does not name, since it had no place for more (cursor.h): nobody knows what
// their reader has missed.
static void add_unnamed(const conn *c, std::vector<plain_rejoin> *list) {
    if (list->empty()) return; // it is here for the first time
    for (const membership *m = c->rooms; m; m = m->next)
        if (m->in->rule && m->in->rule->history) list->push_back({std::string(room_name(m->in)), {}, true});
}

// The list goes on with what is told to the reader (sse.cc), but for rooms that were refused at once.
static void rejoin(conn *c) {
    std::vector<plain_rejoin> list = c->plain->rejoin; // the session may end meanwhile
    add_unnamed(c, &list);
    for (const plain_rejoin &r : list)
        if (c->open) c->session->rejoin(c, &r);
    if (!c->open || c->holds) return; // the backend is being asked
    std::erase_if(c->plain->rejoin, [c](const plain_rejoin &r) { return !room_membership(c, r.room); });
}

// The client is told nothing yet, or its 101 or head is queued.
static void begin_session(conn *c, void (*open)(conn *c)) {
    c->on->count.handshakes++;
    notify_event(c, notify_connected, view(), 0);
    for (membership *m = c->rooms; m; m = m->next)
        room_admit(m);
    open(c);
    c->session->opened(c);
    if (!c->closed && c->plain) rejoin(c);
    if (!c->closed) expiry_arm(c);
    if (!c->closed) conn_resume(c);
}

// A session takes a place of its own, besides that of the connection that opens it.
static bool full(const conn *c) {
    return c->on->process_live->load(std::memory_order_relaxed) >= c->on->settings->max_connections;
}

static void begin_polling(conn *c) {
    if (full(c)) return admission_refuse(c, 503, refuse_full, "max_connections reached", "Retry-After: 5\r\n");
    if (c->on->draining) return admission_refuse(c, 503, refuse_draining, "shutting down", "Retry-After: 1\r\n");
    poll_open(c);
    begin_session(c, [](conn *) {});
}
static const conn_phase opening_phase = {"admitting", waiting_bytes, waiting_eof, admitting_deadline, room_leave_all,
                                         nullptr,     nullptr,       nullptr,     begin_polling};

// All first rooms are active: 101, then the session. The answer was written into c->message when the head was there.
static void admit(conn *c) {
    if (c->on->draining) return admission_refuse(c, 503, refuse_draining, "shutting down", "Retry-After: 1\r\n");
    if (c->exchange->plain == plain_ask_session) { // not now: the socket may be in the middle of being read
        conn_set_phase(c, &opening_phase);
        return conn_read_again(c);
    }
    frame *answer = frame_as_no_message(frame_copy(buffer_view(&c->message)));
    buffer_free(&c->message);
    c->peer = c->exchange->client;
    access_begin(c->exchange, c->plain ? "sse" : "ws");
    exchange_free(c->exchange);
    if (c->plain) conn_set_send_queue(c, static_cast<uint32_t>(c->route->send_queue)); // a backend's events may be many
    if (!conn_send(c, answer)) return conn_abort(c); // can't be: the queue is empty before the answer
    c->answered = true;
    begin_session(c, c->plain ? sse_open : websocket_open);
}

void admission_room_active(membership *m) {
    conn *c = m->who;
    if (c->phase != &admitting_phase) {
        if (c->open) c->session->joined(c, m);
        return;
    }
    if (--c->rooms_waiting == 0) admit(c);
}

void admission_room_refused(membership *m) {
    conn *c = m->who;
    if (admission_refuse_waiting(c, 503, refuse_room, "the broker can't subscribe to a room")) return;
    if (c->open) c->session->refused(c, m, 503, "the broker can't subscribe to it now, try again");
    room_leave(c->on, m);
}

static void join_first_rooms(conn *c, const first_rooms *list) {
    conn_set_phase(c, &admitting_phase);
    conn_pause(c); // what the client sends already waits until the 101 is out
    for (size_t i = 0; i < list->count; i++) {
        membership *m;
        switch (room_join(c->on, c, list->names[i], &m)) {
        case join_result::waiting:
            c->rooms_waiting++;
            break;
        case join_result::full:
            return admission_refuse(c, 503, refuse_room, "a room is full", "Retry-After: 5\r\n");
        case join_result::joined:
        case join_result::already:
            break;
        }
    }
    if (c->rooms_waiting == 0) admit(c);
}

// The first of ours that the client names decides; a client that names none of ours gets the route's.
static view choose_session(conn *c, const handshake *h) {
    for (uint32_t i = 0; i < h->protocol_count; i++)
        for (const session_ops *s : {&session_json, &session_raw}) {
            if (h->protocols[i] != s->subprotocol) continue;
            c->session = s;
            return s->subprotocol;
        }
    c->session = c->route->protocol == route_raw ? &session_raw : &session_json;
    return view();
}

// Rooms that the reader's last event id names are joined once the session has begun, from where it left off; of those
// that it would be in anyway nobody asks for rights.
static void put_off_rejoined(conn *c, first_rooms *list) {
    for (plain_rejoin &r : c->plain->rejoin)
        for (size_t i = 0; i < list->count; i++)
            if (list->names[i] == r.room) {
                r.granted = true;
                list->names[i] = list->names[--list->count];
                break;
            }
    if (c->plain->held) std::erase_if(c->plain->rejoin, [](const plain_rejoin &r) { return !r.granted; });
}

// The answer of a session without WebSocket, as far as it is known by now.
static void enter_plain(exchange *x, first_rooms *list) {
    conn *c = x->on;
    c->form = static_cast<uint8_t>(c->session->form);
    if (x->plain == plain_ask_session) return;
    put_off_rejoined(c, list);
    c->form = c->session->form == form_json ? form_sse_json : form_sse_raw;
    buffer_clear(&c->message);
    sse_write_head(x, &c->message);
}

// permessage-deflate, where the client offers it: `answer` gets the field line. Whoever asks for a window below
// zlib's largest gets messages of the smallest, so that they are compressed for all of these clients together.
static void choose_form(exchange *x, buffer *answer) {
    conn *c = x->on;
    bool json = c->session->form == form_json;
    c->form = static_cast<uint8_t>(c->session->form);
    if (!c->route->compression) return;
    deflate_agreement a = deflate_offer_choose(&x->request);
    if (!a.agreed) return;
    deflate_offer_answer(&a, answer);
    if (a.server_bits && a.server_bits < deflate_bits_max)
        c->form = json ? form_json_narrow : form_raw_narrow;
    else
        c->form = json ? form_json_deflated : form_raw_deflated;
}

static void write_101(exchange *x, view protocol) {
    conn *c = x->on;
    buffer *fields = &c->on->scratch;
    buffer_clear(fields);
    buffer_append(fields, buffer_view(&x->fields));
    choose_form(x, fields);
    buffer_clear(&c->message);
    handshake_write_101(x->hello.key, protocol, buffer_view(fields), &c->message);
}

static void enter_rooms(exchange *x) {
    conn *c = x->on;
    view protocol = choose_session(c, &x->hello);
    if (x->plain) plain_session_new(c);
    if (x->plain == plain_ask_events) sse_read_cursor(x);
    first_rooms list;
    first_rooms_list(x, &list);
    if (list.why) return admission_refuse(c, list.status, refuse_room, list.why, view());
    if (x->plain)
        enter_plain(x, &list);
    else
        write_101(x, protocol);
    if (x->has_sticky && !c->route->hook.empty()) {
        client *who = client_of(c);
        who->has_sticky = true;
        who->sticky = exchange_sticky(x);
    }
    join_first_rooms(c, &list);
}

// ---------------------------------------------------------------- the chain

static void asking_deadline(conn *c) {
    admission_refuse(c, 504, refuse_timeout, "no decision within handshake_timeout", view());
}
static const conn_phase asking_phase = {"asking", waiting_bytes, waiting_eof, asking_deadline, nullptr, nullptr};

static void start_asking(conn *c) {
    conn_set_phase(c, &asking_phase);
    conn_pause(c);
}

bool admission_refuse_waiting(conn *c, int status, refuse_reason reason, view why) {
    if (c->phase != &admitting_phase && c->phase != &asking_phase) return false;
    admission_refuse(c, status, reason, why, status == 503 ? "Retry-After: 1\r\n" : "");
    return true;
}

static void answered(exchange *x, bool keep_alive) {
    conn *c = x->on;
    chain_close(c);
    exchange_free(x);
    if (c->client) client_free(c); // behind a pooling proxy the next request may be another person's
    c->answered = true;
    bool more = c->rest.size != 0; // a request that came behind the last one, be it the client's last bytes
    if (!keep_alive || conn_leaving(c) || (c->eof_seen && !more)) return conn_linger(c);
    c->answered = false;
    c->served = true;
    c->scan = {};
    conn_set_phase(c, &head_phase);
    conn_set_deadline(c, static_cast<uint64_t>(c->route->keepalive_timeout));
    if (c->paused && !c->eof_seen) return conn_resume(c);
    if (!more) return;
    c->paused = false; // where the client has ended its side, reading finds that end again behind the rest
    c->resumed = true;
    conn_read_again(c);
}

// A module has answered the request itself (a CORS preflight).
static void answer_empty(exchange *x, int status) {
    conn *c = x->on;
    // Many may come in one read, and nothing is written before the end of the turn.
    bool room = conn_queued(c) <= c->send_queue / 2;
    bool keep_alive = room && x->request.keep_alive && !x->request.chunked && !x->request.content_length;
    keep_alive = keep_alive && !conn_leaving(c);
    buffer *out = &c->on->scratch;
    buffer_clear(out);
    buffer_printf(out, "HTTP/1.1 %d %s\r\n%s%s", status, http1_reason(status),
                  status == 204 ? "" : "Content-Length: 0\r\n", keep_alive ? "" : "Connection: close\r\n");
    buffer_append(out, buffer_view(&x->fields));
    buffer_append(out, "\r\n");
    access_answered(x, status, out->size);
    if (!conn_send(c, frame_copy(buffer_view(out)))) return conn_abort(c);
    answered(x, keep_alive);
}

static int status_of(view answer) { // HTTP/1.1 304
    uint64_t status = 0;
    return bytes_parse_uint(answer.substr(9, 3), &status) ? static_cast<int>(status) : 0;
}

// The browser client. What modules have added is about this visitor, the answer is the same for all.
static void answer_client_js(exchange *x) {
    conn *c = x->on;
    bool room = conn_queued(c) <= c->send_queue / 2; // as above
    bool keep_alive = room && x->request.keep_alive && !x->request.chunked && !x->request.content_length;
    keep_alive = keep_alive && !conn_leaving(c);
    buffer *out = &c->on->scratch;
    buffer_clear(out);
    if (!client_js_write(&x->request, keep_alive, out))
        return admission_refuse(c, 405, refuse_method_not_allowed, "this file is read only", "Allow: GET, HEAD\r\n");
    access_answered(x, status_of(buffer_view(out)), out->size);
    if (!conn_send(c, frame_copy(buffer_view(out)))) return conn_abort(c);
    c->on->count.edge.client_js++;
    answered(x, keep_alive);
}

static refuse_reason reason_of_verdict(const chain_verdict *v, int status) {
    if (v->module && view(v->module) == "origin") return refuse_origin;
    if (status == 401) return refuse_unauthorized;
    if (status == 429) return refuse_rate;
    return status >= 500 ? refuse_backend : refuse_forbidden;
}

static void deny(exchange *x, const chain_verdict *v) {
    int status = v->status ? v->status : 403;
    if (status >= 200 && status < 300) return answer_empty(x, status);
    char extra[64] = "";
    if (v->retry_after_s) snprintf(extra, sizeof extra, "Retry-After: %u\r\n", v->retry_after_s);
    admission_refuse(x->on, status, reason_of_verdict(v, status), v->reason.empty() ? view("refused") : v->reason,
                     extra);
}

static void connect_answered(hook_call *h, const hook_outcome *o);

// A reload has made another kind of route of it while the request waited.
static bool outdated(const exchange *x) {
    const struct route *r = x->on->route;
    if (x->client_js) return false;
    if (x->kind == BELFRY_TUNNEL) return r->mode != mode_proxy || r->upstream_index < 0;
    const bool proxied = x->kind == BELFRY_HTTP && !x->plain; // a preflight is plain HTTP to modules
    return proxied ? r->upstream_index < 0 : r->mode != mode_rooms;
}

// All modules have passed. The connect hook comes behind them: only now is known which server the client sticks to, and
// nobody asks a backend about a client that a module refuses.
static void proceed(exchange *x) {
    conn *c = x->on;
    bool session = x->kind == BELFRY_WEBSOCKET || x->kind == BELFRY_EVENTS;
    bool always = session && c->route->connect_hook == asks_always && !c->route->hook.empty();
    if ((x->to_ask || always) && !x->asked) {
        x->asked = true;
        start_asking(c);
        return hook_connect(x, connect_answered);
    }
    if (outdated(x))
        return admission_refuse(c, 503, refuse_draining, "the route has changed meanwhile", "Retry-After: 1\r\n");
    chain_verdict v = {};
    if (chain_admitted(x, &v) == chain_result::deny) return deny(x, &v);
    if (session) return enter_rooms(x);
    if (x->plain == plain_ask_preflight)
        return admission_refuse(c, 405, refuse_method_not_allowed, "not allowed from there", plain_allow);
    if (x->plain) return carrying_start(x);
    if (x->client_js) return answer_client_js(x);
    proxy_start(x);
}

static void chained(exchange *x, chain_result result, const chain_verdict *v) {
    if (result == chain_result::pass)
        proceed(x);
    else if (result == chain_result::deny)
        deny(x, v);
}

// ---------------------------------------------------------------- the connect hook

static void take_answer(conn *c, const hook_answer *a) {
    client *who = client_of(c);
    if (!a->user.empty()) who->user = a->user;
    if (a->has_info) who->info = a->info;
    who->rooms.assign(a->rooms, a->rooms + a->room_count);
    who->join.insert(who->join.end(), a->join, a->join + a->join_count);
    who->publish.insert(who->publish.end(), a->publish, a->publish + a->publish_count);
    who->has_greeting = a->has_data || a->has_data64;
    who->greeting_binary = a->has_data64;
    who->greeting = a->data;
    if (a->has_expires) expiry_set(c, a->expires_in);
}

// The backend's own words.
static void pass_refusal(exchange *x, const hook_outcome *o) {
    conn *c = x->on;
    refuse_reason reason = o->status == 401 ? refuse_unauthorized : refuse_forbidden;
    c->on->count.refused[reason]++;
    log_refusal(c, o->status, reason, "by the connect hook");
    access_refused(c, o->status, reason, "by the connect hook");
    buffer *out = &c->on->scratch;
    buffer_clear(out);
    buffer_printf(out, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %zu\r\n", o->status,
                  http1_reason(o->status), o->refusal.size());
    if (!o->refusal_type.empty()) {
        buffer_append(out, "Content-Type: ");
        buffer_append(out, o->refusal_type);
        buffer_append(out, "\r\n");
    }
    buffer_append(out, buffer_view(&x->fields));
    buffer_append(out, "\r\n");
    buffer_append(out, o->refusal);
    send_last(c);
}

static void connect_answered(hook_call *h, const hook_outcome *o) {
    conn *c = h->on;
    exchange *x = c->exchange;
    x->connect = nullptr;
    if (o->status >= 400 && o->status < 500) return pass_refusal(x, o);
    if (o->status != 200)
        return admission_refuse(c, o->status, refuse_backend, o->why, o->status == 503 ? "Retry-After: 1\r\n" : "");
    take_answer(c, &o->answer);
    proceed(x);
}

static bool ask_backend(exchange *x) {
    if (x->on->route->hook.empty() || x->to_ask || x->kind == BELFRY_CARRIED) return false;
    return x->to_ask = true;
}

static void refuse_exchange(exchange *x, int status, refuse_reason reason, view why, view extra) {
    admission_refuse(x->on, status, reason, why, extra);
}

// The backend has said who may read what.
static void held(exchange *x, hold_field *h) {
    conn *c = x->on;
    chain_verdict v = {};
    if (c->eof_seen) return hold_field_free(h), conn_abort(c); // it has gone meanwhile
    x->kind = BELFRY_EVENTS; // a connection among others from here on, and counted as one
    if (chain_admitted(x, &v) == chain_result::deny) return hold_field_free(h), deny(x, &v);
    choose_session(c, &x->hello);
    plain_session *p = plain_session_new(c);
    p->held = true;
    p->first = h->body;
    h->body = {};
    view first = buffer_view(&p->first);
    if (!first.empty() && !first.ends_with("\n\n")) buffer_append(&p->first, first.ends_with('\n') ? "\n" : "\n\n");
    x->plain = plain_ask_events;
    sse_read_cursor(x);
    first_rooms list;
    for (const std::string &room : h->rooms)
        list.names[list.count++] = room;
    hold_field_free(h);
    enter_plain(x, &list);
    conn_set_deadline(c, static_cast<uint64_t>(c->listener->handshake_timeout));
    join_first_rooms(c, &list);
}

static const exchange_events events = {chained, ask_backend, refuse_exchange, answered, held};

// ---------------------------------------------------------------- the head

static refuse_reason reason_of(int status) {
    switch (status) {
    case 404:
        return refuse_not_found;
    case 405:
        return refuse_method_not_allowed;
    case 408:
        return refuse_timeout;
    case 413:
        return refuse_too_large;
    case 414:
        return refuse_target_too_long;
    case 421:
        return refuse_misdirected;
    case 426:
        return refuse_upgrade_required;
    case 431:
        return refuse_head_too_large;
    case 505:
        return refuse_http_version;
    default:
        return refuse_bad_request;
    }
}

static void refuse_status(conn *c, int status, view why, view extra) {
    admission_refuse(c, status, reason_of(status), why, extra);
}

// False where it was refused. `path` becomes the normalised one.
static bool find_route(conn *c, const http1_request *q, char *path, size_t *size) {
    bool other_host = false;
    if (q->method == "CONNECT") return refuse_status(c, 405, "CONNECT is not served", "Allow: GET\r\n"), false;
    if (!uri_normalise_path(q->path, path, size)) return refuse_status(c, 400, "the path is not normal", view()), false;
    c->route = route_find(c->on->settings, view(path, *size), q->authority, &other_host);
    if (c->route) return true;
    if (other_host)
        refuse_status(c, 421, "this host has no such route", view());
    else
        refuse_status(c, 404, "no route for this path", view());
    return false;
}

// What a route makes of a request: a rooms route takes handshakes, and whatever comes to its own path; other plain HTTP
// goes to its upstream, where it has one. Of Upgrades, WebSocket alone is tunnelled; others are asked as if they were
// none, which RFC 9110 section 7.8 allows.
static enum belfry_kind kind_of(const route *r, const http1_request *q, view path) {
    bool upgrade = handshake_wanted(q);
    if (r->mode == mode_proxy)
        return upgrade && http1_list_has(q, "Upgrade", "websocket") ? BELFRY_TUNNEL : BELFRY_HTTP;
    bool own = path == r->path && path != "/";
    return upgrade || own || r->upstream_index < 0 ? BELFRY_WEBSOCKET : BELFRY_HTTP;
}

// The path's next segment that is not empty, without its parameters; empty at the end.
static view next_segment(view *path) {
    view segment;
    while (segment.empty() && !path->empty()) {
        size_t end = path->find('/');
        segment = path->substr(0, end);
        segment = segment.substr(0, segment.find(';'));
        path->remove_prefix(end == view::npos ? path->size() : end + 1);
    }
    return segment;
}

// Where some backend or other takes the path for the hook's: many ignore case, a '/' at the end or one too many, or
// what is behind a ';'; and what is behind a script (hook.php/more) is for the script (RFC 3875 section 4.1.5).
static bool may_be_same(view path, view hook) {
    view last;
    for (;;) {
        view wanted = next_segment(&hook);
        if (wanted.empty() && last.find('.') != view::npos) return true;
        if (!bytes_equal_nocase(next_segment(&path), wanted)) return false;
        if (wanted.empty()) return true;
        last = wanted;
    }
}

// Two upstreams may name the same server.
static bool share_server(const relay_settings *s, const route *a, const route *b) {
    const upstream_settings *one = route_upstream(s, a), *other = route_upstream(s, b);
    if (!one || !other) return false;
    for (const server_settings &x : one->servers)
        for (const server_settings &y : other->servers)
            if (x.text == y.text) return true;
    return one == other;
}

// A hook is for Belfry alone: nobody may reach it through the proxy.
static bool is_hook(const relay_settings *s, const route *r, view path) {
    for (const route &other : s->routes)
        if (!other.hook.empty() && may_be_same(path, view(other.hook).substr(0, other.hook.find('?'))) &&
            share_server(s, &other, r))
            return true;
    return false;
}

static void find_client(exchange *x) {
    conn *c = x->on;
    const listener_settings *l = c->listener;
    forwarded f = forwarded_client(&x->request, &c->peer, l->trusted.data(), l->trusted.size());
    x->client = f.client;
    x->trusted = f.trusted;
    x->secure = f.https_known ? f.https : c->stream.tls != nullptr;
}

// The head is whole: from here on the request has an exchange.
static void on_request(conn *c, const http1_request *q, view head) {
    char path[http1_target_max];
    size_t size = 0;
    exchange *x = exchange_new(c, &events, q, head); // what is refused is logged with its path, too
    find_client(x);
    if (c->over_limit) return admission_refuse(c, 503, refuse_full, "max_connections reached", "Retry-After: 5\r\n");
    if (!find_route(c, q, path, &size)) return;
    buffer_append(&x->path, view(path, size));
    x->client_js = client_js_named(c->route, view(path, size));
    x->kind = x->client_js ? BELFRY_HTTP : kind_of(c->route, q, view(path, size));
    if (x->kind == BELFRY_WEBSOCKET && !handshake_wanted(&x->request))
        x->plain = plain_request_of(c->route, &x->request);
    const bool of_session = x->plain == plain_ask_poll || x->plain == plain_ask_post; // which is asked to leave, too
    if (c->on->draining && !of_session)
        return admission_refuse(c, 503, refuse_draining, "shutting down", "Retry-After: 1\r\n");
    if (x->plain) {
        x->kind = plain_request_kind(x->plain);
        plain_objection o = plain_request_check(x);
        if (o.status) return refuse_status(c, o.status, o.why, o.fields);
    } else if (x->kind != BELFRY_WEBSOCKET && is_hook(c->on->settings, c->route, view(path, size)))
        return refuse_status(c, 404, "hooks are not for clients", view());
    if (x->kind == BELFRY_WEBSOCKET || x->kind == BELFRY_TUNNEL) {
        handshake_verdict verdict = handshake_check(&x->request, &x->hello);
        if (verdict.status != 101) return refuse_status(c, verdict.status, verdict.why, verdict.field);
    }
    chain_verdict v = {};
    chain_result result = chain_handshake(x, &v);
    if (result == chain_result::wait)
        start_asking(c);
    else
        chained(x, result, &v);
}

static char *head_bytes(conn *c, char *begin, char *end) {
    http1_request request;
    const char *why = "";
    if (c->served) { // the silence between two requests is over
        c->served = false;
        conn_set_deadline(c, static_cast<uint64_t>(c->listener->handshake_timeout));
    }
    view bytes(begin, static_cast<size_t>(end - begin));
    http1_result result = http1_parse_request(bytes, &c->scan, &request, &why);
    if (result == http1_result::incomplete) return begin;
    if (result == http1_result::complete) {
        on_request(c, &request, bytes.substr(0, request.head_size));
        return begin + request.head_size;
    }
    refuse_status(c, static_cast<int>(result), why, view());
    return end;
}

// Up to proxy_left_over of the last answer may still wait: its reader has as long as for the rest of it.
static void end_behind_answer(conn *c) {
    const bool unread = c->outq.count != 0;
    conn_linger(c);
    if (unread && !c->closed) conn_set_deadline(c, proxy_stall_ms);
}

static void head_eof(conn *c, const char *) {
    if (!c->served) c->on->count.refused[refuse_gone]++;
    if (c->outq.count) return end_behind_answer(c);
    conn_abort(c);
}

static void head_deadline(conn *c) {
    if (c->served) return end_behind_answer(c);
    refuse_status(c, 408, "no whole request within handshake_timeout", view());
}

const conn_phase head_phase = {"head", head_bytes, head_eof, head_deadline, nullptr, nullptr};

} // namespace belfry
