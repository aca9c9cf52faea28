// The end of credentials. On the thread of the connection.
#include "relay/expiry.h"

#include "relay/hook.h"
#include "relay/session.h"
#include "relay/transport.h"

#include <algorithm>

namespace belfry {

static constexpr uint64_t retry_ms = 5000; // between two tries of the refresh hook within the grace

static void fire(deadline *d);

static uint64_t now_of(const conn *c) {
    return c->on->loop->clock.monotonic_ms;
}

void expiry_set(conn *c, uint64_t seconds) {
    client *who = client_of(c);
    who->expires_ms = seconds ? now_of(c) + seconds * 1000 : 0;
    who->refreshing = who->expired = false;
}

static void wait(client *who, uint64_t after_ms) {
    conn *c = who->on;
    who->expiry.fire = fire;
    wheel_set(&c->on->deadlines, &who->expiry.timer, now_of(c), std::min(after_ms, wheel_ms_max));
}

void expiry_arm(conn *c) {
    client *who = c->client;
    if (!who) return;
    if (!who->expires_ms) return wheel_cancel(&c->on->deadlines, &who->expiry.timer);
    uint64_t now = now_of(c);
    wait(who, who->expires_ms > now ? who->expires_ms - now : 0);
}

void expiry_renewed(conn *c) {
    if (client *who = c->client) who->refreshing = who->expired = false;
    expiry_arm(c);
}

uint64_t expiry_left(const conn *c) {
    if (!c->client || !c->client->expires_ms) return 0;
    uint64_t now = now_of(c);
    // Rounded up: 0 would say that it never expires.
    return c->client->expires_ms > now ? (c->client->expires_ms - now + 999) / 1000 : 1;
}

// ---------------------------------------------------------------- the refresh hook

static void refreshed(hook_call *h, const hook_outcome *o) {
    conn *c = h->on;
    client *who = c->client;
    bool overtaken = !who->refreshing; // by an `auth`, whose word is newer
    who->refreshing = false;
    if (overtaken || o->status >= 500) return; // the grace, if it runs, sees another try
    if (o->status == 200 && !o->answer.expired && !o->answer.has_error) {
        expiry_set(c, o->answer.has_expires ? o->answer.expires_in : 0);
        return expiry_arm(c);
    }
    // No. The grace is left for the client's own `auth`.
    who->expired = true;
    if (!who->expires_ms || who->expires_ms > now_of(c)) who->expires_ms = now_of(c);
    expiry_arm(c);
}

static void ask(conn *c) {
    client *who = c->client;
    conn_id_text id;
    if (who->refreshing || who->call_count >= client_calls_max) return;
    hook_call *h = hook_new(c, hook_event::refresh, refreshed);
    hook_asker asker = hook_asker_of(c, &id);
    hook_write_refresh(hook_body(h), &asker);
    who->refreshing = true;
    hook_send(h);
}

void expiry_refresh(conn *c) {
    if (!transport_of(c) || c->close_sent || !hook_wanted(c)) return;
    client_of(c);
    ask(c);
}

static void end(conn *c) {
    c->session->bye(c, 4401, "credentials expired", false, 0);
    transport_close(c, 4401, "credentials expired");
}

static void fire(deadline *d) {
    client *who = BELFRY_CONTAINER_OF(d, client, expiry);
    conn *c = who->on;
    uint64_t now = now_of(c), over = who->expires_ms + expiry_grace_ms;
    if (!transport_of(c) || c->close_sent || !who->expires_ms) return;
    if (now < who->expires_ms) return expiry_arm(c); // further away than the wheel reaches
    if (now >= over) return end(c);
    if (who->expired || !hook_wanted(c)) return wait(who, over - now);
    wait(who, std::min(retry_ms, over - now));
    ask(c);
}

} // namespace belfry
