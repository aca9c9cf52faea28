// Carrying out commands and gathering their results. Main thread.
#include "main/control_commands.h"

#include "proto/utf8.h"

namespace belfry {

// One request's commands: answered when the last result is in.
struct batch {
    control_conn *to; // counted
    std::vector<std::string> results;
    size_t pending;
    bool single, unreachable;
    int single_code; // of the single command's error, or 0
};

// Which result a job fills.
struct batch_slot {
    batch *of;
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
    buffer_printf(&out, "{\"error\":{\"code\":%d,\"message\":", code);
    json_write_string(&out, text);
    buffer_append(&out, "}}");
    b->results[index] = buffer_view(&out);
    buffer_free(&out);
    b->single_code = code;
    if (code == 503) b->unreachable = true;
}

static constexpr view out_of_reach = "the broker is out of reach, overloaded, or did not confirm it: try again";

static void published(publish_job *job, void *context) {
    auto *slot = static_cast<batch_slot *>(context);
    if (job->failed)
        set_error(slot->of, slot->index, 503, out_of_reach);
    else
        slot->of->results[slot->index] = "{\"receivers\":" + std::to_string(job->receivers) + "}";
    finish(slot->of);
    delete slot;
}

static void publish(control_api *a, batch *b, size_t index, const command *c) {
    if (c->data.size() > static_cast<size_t>(a->settings->broker.max_message))
        return set_error(b, index, 413, "data is larger than [broker] max_message");
    publish_job *job = publish_job_new(published, new batch_slot{b, index});
    b->pending++;
    frame *source = frame_copy(c->data);
    bool sent = true;
    for (size_t i = 0; i < c->room_count && sent; i++)
        sent = node_publish(a->node, c->rooms[i], source, frame_view(source), c->kind, c->from, c->except,
                            c->except_count, job);
    frame_unref(source);
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
    else if (!c.id.empty())
        set_error(b, index, 501, "id: idempotent publishes do not exist yet");
    else if (c.op == command_op::publish)
        publish(a, b, index, &c);
    else if (int code = node_order(a->node, &c, &e))
        set_error(b, index, code, e.text);
    buffer_free(&scratch);
    frame_unref(padded);
}

static bool collect(view raw, json_type, void *context) {
    auto *all = static_cast<std::vector<std::string> *>(context);
    all->emplace_back(raw);
    return all->size() <= control_commands_max;
}

void control_run_commands(control_api *a, control_conn *c, view body) {
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
    auto *b = new batch{control_ref(c), {}, 1, !many, false, 0};
    for (const std::string &source : sources)
        run(a, b, source);
    finish(b);
}

static void body_published(publish_job *job, void *context) {
    auto *c = static_cast<control_conn *>(context);
    if (job->failed) {
        control_reply_error(c, 503, out_of_reach, "Retry-After: 1\r\n");
    } else {
        std::string body = "{\"receivers\":" + std::to_string(job->receivers) + "}";
        control_reply(c, 200, "application/json", body, view());
    }
    control_unref(c);
}

void control_publish_body(control_api *a, control_conn *c, view room, view body) {
    if (body.size() > static_cast<size_t>(a->settings->broker.max_message))
        return control_reply_error(c, 413, "the body is larger than [broker] max_message", view());
    publish_job *job = publish_job_new(body_published, control_ref(c));
    frame *source = frame_copy(body);
    payload_kind kind = utf8_valid(body) ? payload_kind::text : payload_kind::binary;
    bool sent = node_publish(a->node, room, source, frame_view(source), kind, view(), nullptr, 0, job);
    frame_unref(source);
    publish_job_settle(job, 0, sent);
}

} // namespace belfry
