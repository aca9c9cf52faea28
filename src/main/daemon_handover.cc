// The link of an upgrade's two worker processes: messages in packets, a queue for what the other side does not read
// yet. Main thread.
#include "main/handover_link.h"

#include "base/log.h"
#include "main/daemon.h"
#include "net/packets.h"
#include "relay/handover_in.h"
#include "relay/handover_out.h"

#include <algorithm>
#include <deque>
#include <stdlib.h>
#include <string>
#include <unistd.h>

namespace belfry {

static constexpr size_t piece_max = packet_size_max - 1; // behind the byte that says whether more follows
static constexpr int packets_a_turn = 512;

struct queued_message {
    std::string bytes;
    int fd;      // owned: goes with the first piece; -1: none
    size_t sent; // bytes
};

struct handover_link {
    daemon *of; // borrowed
    bool old;   // which side this is
    int fd;     // owned; -1: closed
    bool broken, settled;
    packet_watch watch;
    char *received;  // owned: packet_size_max bytes
    buffer incoming; // the pieces of a message that is not whole yet
    int incoming_fd; // owned; -1: none
    std::deque<queued_message> out;
    size_t out_bytes;
};

static void give_up(handover_link *l, const char *why) {
    if (!l->broken && !l->settled) log_warn("handover: the link to the other process: %s", why);
    l->broken = true; // the node is told in the next turn: this may be in the middle of something of its
    packet_watch_stop(&l->watch);
}

// ---------------------------------------------------------------- ticket keys

// Clients whose connections can't move come back over TLS, all of them within a minute: with the old process's keys
// they resume their sessions. The keys go in a file of memory, not in the message, of which copies would stay.
static int lend_tickets(const config *settings) {
    return settings->core.tls_ticket_rotate ? ticket_keys_lend(settings->tickets) : -1;
}

static void borrow_tickets(daemon *d, int fd) {
    const config *settings = d->settings;
    int64_t rotate = settings->core.tls_ticket_rotate;
    if (rotate && !ticket_keys_borrow(settings->tickets, fd, rotate, d->loop->clock.monotonic_ms))
        log_warn("handover: the other process's ticket keys are of another form: TLS sessions begin anew");
    close(fd);
}

// ---------------------------------------------------------------- out

static packet_sent send_piece(handover_link *l, queued_message *m) {
    char *packet = l->received; // what was received is in `incoming` by now
    size_t size = std::min(piece_max, m->bytes.size() - m->sent);
    packet[0] = m->sent + size < m->bytes.size();
    m->bytes.copy(packet + 1, size, m->sent);
    bool with_fd = m->fd >= 0 && m->sent == 0;
    packet_sent sent = packet_send(l->fd, view(packet, size + 1), &m->fd, with_fd);
    if (sent == packet_sent::whole) m->sent += size;
    return sent;
}

static void pop(handover_link *l) {
    queued_message *m = &l->out.front();
    l->out_bytes -= m->bytes.size();
    if (m->fd >= 0) close(m->fd);
    l->out.pop_front();
}

static void flush(handover_link *l) {
    while (!l->broken && !l->out.empty()) {
        switch (send_piece(l, &l->out.front())) {
        case packet_sent::whole:
            if (l->out.front().sent == l->out.front().bytes.size()) pop(l);
            break;
        case packet_sent::full:
            return packet_watch_writable(&l->watch, true);
        case packet_sent::gone:
            return give_up(l, "it is gone");
        }
    }
    packet_watch_writable(&l->watch, false);
}

static bool send(void *context, const handover_message *m, int fd) {
    auto *l = static_cast<handover_link *>(context);
    buffer bytes = {};
    if (!l->broken && l->out_bytes > handover_link_queue_max) give_up(l, "the other process does not read");
    if (l->broken) {
        if (fd >= 0) close(fd);
        return false;
    }
    if (l->old && m->type == handover_type::hello) fd = lend_tickets(l->of->settings);
    handover_write(m, &bytes);
    l->out_bytes += bytes.size;
    l->out.push_back({std::string(buffer_view(&bytes)), fd, 0});
    buffer_free(&bytes);
    if (l->out.size() == 1) flush(l);
    return true;
}

// ---------------------------------------------------------------- in

static void take_message(handover_link *l) {
    handover_message m;
    int fd = l->incoming_fd;
    l->incoming_fd = -1;
    if (!handover_read(buffer_view(&l->incoming), &m)) {
        if (fd >= 0) close(fd);
        return give_up(l, "it says what this version does not understand");
    }
    node *n = &l->of->node;
    if (!l->old && m.type == handover_type::hello && fd >= 0) {
        borrow_tickets(l->of, fd);
        fd = -1;
    }
    if (!l->old) return handover_in_message(n, &m, fd);
    if (fd >= 0) close(fd); // nobody sends any in this direction
    handover_out_message(n, &m);
}

// The descriptor that came along is the message's, wherever it came; a second one is nobody's.
static void take_descriptor(handover_link *l, packet *p) {
    if (p->count && l->incoming_fd < 0) {
        l->incoming_fd = p->descriptors[0];
        p->descriptors[0] = p->descriptors[--p->count];
    }
    packet_close_descriptors(p);
}

static void take_packet(handover_link *l, packet *p) {
    take_descriptor(l, p);
    if (l->incoming.size + p->size > handover_message_max) return give_up(l, "a message without an end");
    buffer_append(&l->incoming, view(l->received + 1, p->size - 1));
    if (l->received[0]) return;
    take_message(l);
    if (l->incoming.capacity > packet_size_max)
        buffer_free(&l->incoming);
    else
        buffer_clear(&l->incoming);
}

static void on_readable(void *context) {
    auto *l = static_cast<handover_link *>(context);
    for (int i = 0; i < packets_a_turn && !l->broken; i++) {
        packet p;
        switch (packet_receive(l->fd, l->received, &p)) {
        case packet_got::whole:
            take_packet(l, &p);
            break;
        case packet_got::nothing:
            return flush(l);
        case packet_got::ended:
            return give_up(l, "it is gone");
        case packet_got::broken:
            return give_up(l, "a damaged packet, or no descriptor is left");
        }
    }
    flush(l);
}

// ---------------------------------------------------------------- life

static handover_link *begin(daemon *d, int fd, bool old) {
    auto *l = new handover_link{};
    l->of = d;
    l->old = old;
    l->fd = fd;
    l->incoming_fd = -1;
    l->received = static_cast<char *>(memory_get(packet_size_max));
    packet_watch_start(&l->watch, d->loop, fd, on_readable, l);
    return l;
}

static void close_link(handover_link *l) {
    if (l->fd < 0) return;
    give_up(l, "closed");
    while (!l->out.empty())
        pop(l);
    if (l->incoming_fd >= 0) close(l->incoming_fd);
    l->incoming_fd = -1;
    close(l->fd);
    l->fd = -1;
}

static void free_link(handover_link **at) {
    handover_link *l = *at;
    if (!l) return;
    l->settled = true;
    flush(l);
    close_link(l);
    buffer_free(&l->incoming);
    free(l->received);
    *at = nullptr;
    delete l;
}

void handover_begin_old(daemon *d, int fd) {
    if (fd < 0) return;
    if (d->newer && d->newer->fd >= 0) {
        close(fd);
        return;
    }
    free_link(&d->newer); // of an upgrade that came to nothing
    handover_out_free(&d->node);
    d->newer = begin(d, fd, true);
    handover_wire wire = {send, d->newer};
    handover_out_begin(&d->node, &wire);
}

void handover_begin_new(daemon *d, int fd) {
    if (fd < 0) return;
    if (d->older) {
        close(fd);
        return;
    }
    d->older = begin(d, fd, false);
    handover_wire wire = {send, d->older};
    handover_in_begin(&d->node, &wire);
}

bool handover_giving(const daemon *d) {
    return handover_out_giving(&d->node);
}

bool handover_taking(const daemon *d) {
    return handover_in_taking(&d->node);
}

static void turn(daemon *d, handover_link *l, bool busy, void (*broken)(node *n)) {
    if (!l || l->fd < 0) return;
    flush(l);
    if (!l->settled && !busy) {
        l->settled = true;
        if (!l->old) master_link_settled(d);
    }
    if (!l->broken) return;
    close_link(l);
    broken(&d->node);
}

void handover_turn(daemon *d) {
    turn(d, d->newer, handover_giving(d), handover_out_broken);
    turn(d, d->older, handover_taking(d), handover_in_broken);
}

void handover_end(daemon *d) {
    free_link(&d->newer);
    free_link(&d->older);
}

} // namespace belfry
