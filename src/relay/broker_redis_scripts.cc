// Running the scripts of conf/redis over the Redis broker's command link: by their hash, and by their text where the
// server has lost them (SCRIPT FLUSH, another primary). Main thread.
#include "relay/broker_redis_impl.h"

#include "base/log.h"

namespace belfry {

static constexpr size_t script_bytes_max = 64u << 20; // words of scripts that are under way

// Any thread that reads the text reads the same; the hash is what Redis makes of it.
static void on_loaded(redis *, const redis_value *reply, void *context, uint64_t tag) {
    auto *b = static_cast<redis_broker *>(context);
    if (!reply) return;
    if (reply->type == redis_type::text)
        b->hashes[tag] = reply->text;
    else if (reply->type == redis_type::error)
        log_warn("broker: Redis does not load scripts (%.*s): each is sent whole", static_cast<int>(reply->text.size()),
                 reply->text.data());
}

void redis_scripts_load(redis_broker *b) {
    for (size_t i = 0; i < static_cast<size_t>(redis_script::count); i++) {
        view argv[] = {"SCRIPT", "LOAD", redis_script_text(static_cast<redis_script>(i))};
        if (!redis_broker_send(b, view(), 3, argv, on_loaded, b, i)) return; // it has gone down again
    }
}

static bool send_run(script_run *run);

static void on_answer(redis *r, const redis_value *reply, void *context, uint64_t) {
    auto *run = static_cast<script_run *>(context);
    bool unknown = reply && reply->type == redis_type::error && reply->text.starts_with("NOSCRIPT") && !run->by_text;
    if (unknown) {
        run->by_text = true;
        if (send_run(run)) return;
        reply = nullptr;
    }
    run->on->script_bytes -= run->bytes.size();
    if (run->reply) run->reply(r, reply, run->context, run->tag);
    delete run;
}

static bool send_run(script_run *run) {
    const std::string &hash = run->on->hashes[static_cast<size_t>(run->script)];
    bool by_text = run->by_text || hash.empty();
    std::string keys = std::to_string(run->key_count);
    std::vector<view> argv = {by_text ? "EVAL" : "EVALSHA", by_text ? redis_script_text(run->script) : view(hash),
                              keys};
    view rest = run->bytes;
    for (size_t size : run->sizes) {
        argv.push_back(rest.substr(0, size));
        rest.remove_prefix(size);
    }
    run->by_text = by_text;
    return redis_broker_send(run->on, argv[3], static_cast<int>(argv.size()), argv.data(), on_answer, run, 0);
}

bool broker_redis_run(broker *base, redis_script script, int key_count, int word_count, const view *words,
                      redis_reply reply, void *context, uint64_t tag) {
    redis_broker *b = redis_broker_of(base);
    size_t bytes = 0;
    for (int i = 0; i < word_count; i++)
        bytes += words[i].size();
    if (b->script_bytes + bytes > script_bytes_max) return false;
    auto *run = new script_run{b, script, false, key_count, {}, {}, reply, context, tag};
    run->bytes.reserve(bytes);
    run->sizes.reserve(static_cast<size_t>(word_count));
    for (int i = 0; i < word_count; i++) {
        run->bytes.append(words[i]);
        run->sizes.push_back(words[i].size());
    }
    b->script_bytes += bytes;
    if (send_run(run)) return true;
    b->script_bytes -= bytes;
    delete run;
    return false;
}

std::string broker_redis_tag(view room) {
    // An empty tag would be none: the whole key is hashed (Redis Cluster specification, "Hash tags"). No room's name
    // has a blank in it.
    if (room.starts_with("}")) return "{ }" + std::string(room);
    return "{" + std::string(room) + "}";
}

} // namespace belfry
