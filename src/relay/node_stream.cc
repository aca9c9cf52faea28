// Carries out commands of the stream: a publish as the control API's, with history and an id; an order on every node,
// since its connections may be anywhere. Main thread.
#include "relay/node_stream.h"

#include "relay/node_peers.h"

namespace belfry {

struct stream_wait {
    command_stream *stream; // borrowed: it is freed behind everything that settles
    uint64_t ticket;
};

static void settle(stream_wait *wait, command_outcome outcome, const char *why) {
    command_stream_settle(wait->stream, wait->ticket, outcome, why);
    delete wait;
}

static void published(publish_job *job, void *context) {
    settle(static_cast<stream_wait *>(context), job->failed ? command_outcome::again : command_outcome::done, nullptr);
}

// 404: its connections are gone, which is what becomes of orders that come late.
static void ordered(void *context, int code, const char *why) {
    command_outcome outcome = code == 503   ? command_outcome::again
                              : code == 400 ? command_outcome::malformed
                                            : command_outcome::done;
    settle(static_cast<stream_wait *>(context), outcome, why);
}

static void carry(void *context, frame *source, uint64_t ticket) {
    auto *n = static_cast<node *>(context);
    command c;
    error e;
    n->commands++;
    if (!command_parse(n->reader, frame_view(source), &c, &n->scratch, &e)) {
        n->command_errors++;
        return command_stream_settle(n->stream, ticket, command_outcome::malformed, e.text);
    }
    auto *wait = new stream_wait{n->stream, ticket};
    if (c.op != command_op::publish) return node_order_everywhere(n, &c, frame_view(source), ordered, wait);
    publish_job *job = publish_job_new(published, wait);
    bool sent = node_publish_command(n, &c, job);
    publish_job_settle(job, 0, sent);
}

static bool busy(const void *context) {
    auto *n = static_cast<const node *>(context);
    return n->stalled || n->stopping;
}

static const command_stream_events events = {carry, busy};

void node_stream_init(node *n, const broker_settings *settings) {
    if (settings->type == 1 && settings->command_stream)
        n->stream = command_stream_new(n->broker, settings, &events, n);
}

} // namespace belfry
