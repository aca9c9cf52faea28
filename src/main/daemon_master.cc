// Hearing and telling the master. Main thread.
#include "main/master_link.h"

#include "base/log.h"
#include "main/channel.h"
#include "main/daemon.h"

#include <stdlib.h>
#include <unistd.h>

namespace belfry {

// ---------------------------------------------------------------- telling

static constexpr int patience_ms = 2000; // the master reads at once, unless somebody has stopped it

static void tell(struct daemon *d, channel_kind kind, std::vector<std::string> fields = {}, const int *fds = nullptr,
                 size_t count = 0) {
    if (d->master.fd < 0) return;
    channel_message m = {kind, std::move(fields)};
    if (packet_send_within(d->master.fd, channel_encode(&m), fds, count, patience_ms) == packet_sent::full)
        log_warn("the master does not read (is it stopped?): it was not told of a change, an upgrade may miss it");
}

static void tell_address(struct daemon *d, bool control, const std::string &listener, const std::string &written,
                         const std::vector<int> *fds) {
    for (size_t at = 0; at < fds->size(); at += packet_descriptors_max) {
        size_t count = fds->size() - at < packet_descriptors_max ? fds->size() - at : packet_descriptors_max;
        tell(d, channel_kind::keep, {control ? "control" : "listener", listener, written}, fds->data() + at, count);
    }
}

void master_link_sockets(struct daemon *d) {
    tell(d, channel_kind::keep_none);
    const std::vector<listening_socket> *open = &d->listening.open;
    for (size_t i = 0; i < open->size();) { // those of one address stand together
        const listening_socket &first = (*open)[i];
        std::vector<int> fds;
        while (i < open->size() && (*open)[i].listener == first.listener && (*open)[i].written == first.written)
            fds.push_back((*open)[i++].fd);
        tell_address(d, false, first.listener, first.written, &fds);
    }
    if (d->http)
        for (const control_socket &s : control_http_sockets(d->http)) {
            std::vector<int> fds = {s.fd};
            tell_address(d, true, "", s.written, &fds);
        }
    tell(d, channel_kind::kept);
}

void master_link_kept(struct daemon *d, const std::vector<kept_address> *kept) {
    tell(d, channel_kind::keep_none);
    for (const kept_address &k : *kept)
        if (!k.written.empty())
            tell_address(d, k.control, k.listener, k.written, &k.fds); // else lent: the master's own
    tell(d, channel_kind::kept);
}

void master_link_pid_file(struct daemon *d, const std::string &path) {
    tell(d, channel_kind::pid_file, {path});
}
void master_link_ready(struct daemon *d) {
    tell(d, channel_kind::ready);
}
void master_link_reloading(struct daemon *d) {
    tell(d, channel_kind::reloading);
}
void master_link_reloaded(struct daemon *d) {
    tell(d, channel_kind::reloaded);
}
void master_link_stopping(struct daemon *d) {
    tell(d, channel_kind::stopping);
}
void master_link_settled(struct daemon *d) {
    tell(d, channel_kind::settled);
}

// ---------------------------------------------------------------- being alive

static bool all_turned(struct daemon *d) {
    std::vector<uint64_t> now;
    for (uint32_t w = 0; w < d->node.worker_count; w++)
        now.push_back(worker_beats(&d->node.workers[w]));
    bool turned = true;
    for (size_t w = 0; w < now.size(); w++)
        turned = turned && now[w] != d->master.beats[w];
    if (turned) d->master.beats = now;
    return turned;
}

void master_link_turn(struct daemon *d) {
    master_link *l = &d->master;
    uint64_t now = d->loop->clock.monotonic_ms;
    if (!l->alive_ms || now < l->alive_at_ms) return;
    // Threads that have ended do not turn; an end that takes too long is for others to judge.
    if (!d->node.stopping && !all_turned(d)) return;
    l->alive_at_ms = now + l->alive_ms;
    channel_message m = {channel_kind::alive, {}};
    (void)packet_send(l->fd, channel_encode(&m)); // the next one will do
}

// ---------------------------------------------------------------- hearing

static void take_descriptor(int *into, packet *p) {
    if (*into >= 0) close(*into);
    *into = -1;
    if (p->count != 1) return packet_close_descriptors(p);
    *into = p->descriptors[0];
    p->count = 0;
}

static void lose(master_link *l) {
    packet_watch_stop(&l->watch);
    close(l->fd);
    l->fd = -1;
    l->alive_ms = 0;
    l->lost = true;
}

static void on_ready(void *context) {
    auto *l = static_cast<master_link *>(context);
    packet p;
    switch (packet_receive(l->fd, l->received, &p)) {
    case packet_got::whole:
        break;
    case packet_got::nothing:
        return;
    default:
        return lose(l);
    }
    channel_message m;
    if (channel_decode(view(l->received, p.size), &m)) {
        if (m.kind == channel_kind::retire) {
            l->retires = true;
            take_descriptor(&l->retire_fd, &p);
        } else if (m.kind == channel_kind::succeed) {
            take_descriptor(&l->succeed_fd, &p);
        }
    }
    packet_close_descriptors(&p);
}

// ---------------------------------------------------------------- life

void master_link_open(struct daemon *d) {
    master_link *l = &d->master;
    l->fd = d->born->channel;
    l->retire_fd = l->succeed_fd = -1;
    l->alive_ms = d->born->alive_ms;
    l->beats.assign(d->node.worker_count, 0);
    l->received = static_cast<char *>(memory_get(packet_size_max));
    packet_watch_start(&l->watch, d->loop, l->fd, on_ready, l);
    const core_options *core = &d->settings->core;
    tell(d, channel_kind::log, {core->log, std::to_string(core->log_level), core->log_format == 1 ? "1" : "0"});
    tell(d, channel_kind::node, {std::string(node_id())});
}

void master_link_close(struct daemon *d) {
    master_link *l = &d->master;
    packet_watch_stop(&l->watch);
    for (int fd : {l->fd, l->retire_fd, l->succeed_fd})
        if (fd >= 0) close(fd);
    l->fd = l->retire_fd = l->succeed_fd = -1;
    free(l->received);
    l->received = nullptr;
}

} // namespace belfry
