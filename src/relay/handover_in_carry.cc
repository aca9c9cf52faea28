// Requests for sessions that have stayed. Main thread.
#include "relay/handover_in_carry.h"

#include "proto/peer_carry.h"
#include "relay/carry.h"
#include "relay/handover_in.h"
#include "relay/node_impl.h"

#include <string>
#include <unordered_map>
#include <vector>

namespace belfry {

struct carry_noted {
    conn_id from;
    std::string question; // as another node would be asked
    uint64_t until_ms;    // of the old process's answer; 0: it was not asked yet
};

struct handover_carries {
    std::unordered_map<uint64_t, carry_noted> under_way; // by carry_letter::remote
};

handover_carries *handover_carries_new() {
    return new handover_carries{};
}

void handover_carries_free(handover_carries *all) {
    delete all;
}

// To the worker whose client it is.
static void deliver(node *n, conn_id to, int status, frame *body) {
    node_send(n, to.worker, &(new carried_letter{{letter_type::carried}, 0, to, status, body})->head);
}

void handover_carry_note(node *n, carry_letter *l) {
    handover_carries *all = n->arriving && handover_in_linked(n) ? handover_in_carries(n) : nullptr;
    if (!all || l->remote || all->under_way.size() >= peers_questions_max) return;
    buffer out = {};
    const peer_carry c = {l->op == carry_op::poll, l->session, l->user, l->sequence,
                          l->body ? frame_view(l->body) : view()};
    peer_carry_write(&c, &out);
    l->remote = ++n->carried_last; // shared with other nodes' requests: no number is used twice
    all->under_way[l->remote] = {l->from, std::string(buffer_view(&out)), 0};
    buffer_free(&out);
}

static bool ask_old(node *n, uint64_t number, carry_noted *c) {
    handover_message m = {handover_type::carry};
    m.number = number;
    m.text = c->question;
    c->until_ms = n->on->clock.monotonic_ms + peers_carry_timeout_ms;
    return handover_in_linked(n) && handover_in_say(n, &m);
}

bool handover_carry_answered(node *n, carried_letter *l) {
    handover_carries *all = n->arriving ? handover_in_carries(n) : nullptr;
    if (!all) return false;
    auto at = all->under_way.find(l->remote);
    if (at == all->under_way.end()) return false;
    if (l->status == 404 && ask_old(n, l->remote, &at->second)) {
        carried_free(l);
        return true;
    }
    l->remote = 0;
    l->to = at->second.from;
    all->under_way.erase(at);
    node_send(n, l->to.worker, &l->head);
    return true;
}

void handover_carry_told(node *n, uint64_t number, int status, view body) {
    handover_carries *all = handover_in_carries(n);
    auto at = all->under_way.find(number);
    if (at == all->under_way.end() || !at->second.until_ms) return; // too late, or never asked
    frame *padded = frame_copy(body);
    if (status < 200 || status > 599 || !json_valid(n->reader, frame_view(padded))) {
        frame_unref(padded);
        status = 502;
        padded = carry_error(status, "the process that has the session gave no answer");
    }
    deliver(n, at->second.from, status, padded);
    all->under_way.erase(at);
}

// Those that the old process was asked, and that have waited for long enough.
static void end_asked(handover_carries *all, node *n, uint64_t now_ms, int status, view why) {
    std::erase_if(all->under_way, [&](const auto &one) {
        const carry_noted &c = one.second;
        if (!c.until_ms || c.until_ms > now_ms) return false; // its worker answers
        deliver(n, c.from, status, carry_error(status, why));
        return true;
    });
}

void handover_carries_turn(handover_carries *all, node *n) {
    end_asked(all, n, n->on->clock.monotonic_ms, 504, "no answer in time");
}

void handover_carries_end(handover_carries *all, node *n) {
    end_asked(all, n, UINT64_MAX, 404, "there is no such session");
}

} // namespace belfry
