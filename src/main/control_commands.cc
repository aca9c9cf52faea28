// Carrying out commands and gathering their results. Main thread.
#include "main/control_commands.h"

#include "proto/utf8.h"
#include "relay/node_peers.h"

namespace belfry {

// One request's commands: answered when the last result is in.
struct batch {
    node *on;         // borrowed
    control_conn *to; // counted
    std::vector<std::string> results;
    size_t pending;
    bool single, unreachable, all; // all: receivers of all nodes
    int single_code;               // of the single command's error, or 0
};

// Which result a job fills.
struct batch_slot {
    batch *of; // borrowed: lives until its last result is in
    size_t index;
};

static void finish(batch *b) {
    if (--b->pending) return;
    buffer out = {};
    buffer_append(&out, "{\"results\":[");
    for (size_t i = 0; i < b->results.size(); i++) {
        if (i) buffer_append_char(&out, ',');
        buffer_append(&out, b->results[i]);
    }
    buffer_append(&out, "]}");
    int status = b->unreachable ? 503 : b->single && b->single_code ? b->single_code : 200;
    control_reply(b->to, status, "application/json", buffer_view(&out), b->unreachable ? "Retry-After: 1\r\n" : view());
    buffer_free(&out);
    control_unref(b->to);
    delete b;
}

static void set_error(batch *b, size_t index, int code, view text) {
    buffer out = {};
    json_write_error(&out, code, text);
    b->results[index] = buffer_view(&out);
    buffer_free(&out);
    b->single_code = code;
    if (code == 503) b->unreachable = true;
}

static constexpr view out_of_reach = "the broker is out of reach, overloaded, or did not confirm it: try again";

// {"epoch","offset","receivers","duplicate"}, without what there is none of.
static std::string result_of(const publish_job *job) {
    std::string out = "{";
    if (!position_none(&job->at)) // an epoch needs no escapes
        out += "\"epoch\":\"" + std::string(position_epoch(&job->at)) +
               "\",\"offset\":" + std::to_string(job->at.offset) + ",";
    out += "\"receivers\":" + std::to_string(job->receivers);
    return out + (job->duplicate ? ",\"duplicate\":true}" : "}");
}

// A publish whose receivers of other nodes are asked for; `told` gets the whole result.
struct receivers_wait {
    publish_job job; // as it was settled
    void (*told)(const publish_job *job, void *context);
    void *context;
};

static void receivers_known(void *context, uint64_t receivers) {
    auto *w = static_cast<receivers_wait *>(context);
    w->job.receivers += receivers;
    w->told(&w->job, w->context);
    delete w;
}

// Nothing was sent of a duplicate, so nobody else has got it.
static void tell_result(node *n, const publish_job *job, void (*told)(const publish_job *job, void *context),
                        void *context) {
    if (job->failed || job->duplicate || job->acks.empty()) return told(job, context);
    auto *w = new receivers_wait{*job, told, context};
    node_ask_receivers(n, &w->job.acks, receivers_known, w);
}

static void write_result(const publish_job *job, void *context) {
    auto *slot = static_cast<batch_slot *>(context);
    if (job->failed)
        set_error(slot->of, slot->index, 503, out_of_reach);
    else
        slot->of->results[slot->index] = result_of(job);
    finish(slot->of);
    delete slot;
}

static void published(publish_job *job, void *context) {
    tell_result(static_cast<batch_slot *>(context)->of->on, job, write_result, context);
}

static void ordered(void *context, int code, const char *why) {
    auto *slot = static_cast<batch_slot *>(context);
    if (code) set_error(slot->of, slot->index, code, why);
    finish(slot->of);
    delete slot;
}

static void order(control_api *a, batch *b, size_t index, const command *c, view source) {
    b->pending++;
    node_order_everywhere(a->node, c, source, ordered, new batch_slot{b, index});
}

static void publish(control_api *a, batch *b, size_t index, const command *c) {
    if (c->data.size() > static_cast<size_t>(a->settings->broker.max_message))
        return set_error(b, index, 413, "data is larger than [broker] max_message");
    publish_job *job = publish_job_new(published, new batch_slot{b, index});
    b->pending++;
    bool sent = node_publish_command(a->node, c, job, b->all);
    publish_job_settle(job, 0, sent);
}

static void run(control_api *a, batch *b, view source) {
    size_t index = b->results.size();
    b->results.emplace_back("{}");
    frame *padded = frame_copy(source);
    buffer scratch = {};
    command c;
    error e;
    if (!command_parse(a->reader, frame_view(padded), &c, &scratch, &e))
        set_error(b, index, 400, e.text);
    else if (c.op == command_op::publish)
        publish(a, b, index, &c);
    else
        order(a, b, index, &c, frame_view(padded));
    buffer_free(&scratch);
    frame_unref(padded);
}

static bool collect(view raw, json_type, void *context) {
    auto *all = static_cast<std::vector<std::string> *>(context);
    all->emplace_back(raw);
    return all->size() <= control_commands_max;
}

void control_run_commands(control_api *a, control_conn *c, view body, bool all) {
    view trimmed = body.substr(std::min(body.size(), body.find_first_not_of(" \t\r\n")));
    bool many = trimmed.starts_with("[");
    std::vector<std::string> sources;
    error e;
    if (many) {
        frame *padded = frame_copy(body);
        bool fine = json_each_element(a->reader, frame_view(padded), collect, &sources, &e);
        frame_unref(padded);
        if (sources.size() > control_commands_max)
            return control_reply_error(c, 413, "more than 1000 commands in one request", view());
        if (!fine) return control_reply_error(c, 400, e.text, view());
    } else {
        sources.emplace_back(body);
    }
    auto *b = new batch{a->node, control_ref(c), {}, 1, !many, false, all, 0};
    for (const std::string &source : sources)
        run(a, b, source);
    finish(b);
}

// Who waits for a body that was published.
struct body_wait {
    node *on;         // borrowed
    control_conn *to; // counted
};

static void answer_body(const publish_job *job, void *context) {
    auto *w = static_cast<body_wait *>(context);
    if (job->failed)
        control_reply_error(w->to, 503, out_of_reach, "Retry-After: 1\r\n");
    else
        control_reply(w->to, 200, "application/json", result_of(job), view());
    control_unref(w->to);
    delete w;
}

static void body_published(publish_job *job, void *context) {
    tell_result(static_cast<body_wait *>(context)->on, job, answer_body, context);
}

void control_publish_body(control_api *a, control_conn *c, view room, view body, bool all) {
    if (body.size() > static_cast<size_t>(a->settings->broker.max_message))
        return control_reply_error(c, 413, "the body is larger than [broker] max_message", view());
    publish_job *job = publish_job_new(body_published, new body_wait{a->node, control_ref(c)});
    frame *source = frame_copy(body);
    payload_kind kind = utf8_valid(body) ? payload_kind::text : payload_kind::binary;
    message_parts parts = {room, source, frame_view(source), kind};
    parts.ack = all;
    bool sent = node_publish(a->node, &parts, job);
    frame_unref(source);
    publish_job_settle(job, 0, sent);
}

} // namespace belfry
