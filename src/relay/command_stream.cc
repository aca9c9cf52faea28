// Reading the command stream, and acknowledging. Main thread.
#include "base/clock.h"
#include "base/log.h"
#include "proto/stream_entry.h"
#include "relay/command_stream_impl.h"
#include "relay/conn_id.h"

#include <algorithm>

namespace belfry {

static constexpr size_t read_at_once = 64;
static constexpr char read_at_once_text[] = "64";
static constexpr int64_t block_max_ms = 2000;
static constexpr uint64_t retry_wait_ms = 5000;
static constexpr uint64_t misled_wait_ms = 500;
static constexpr size_t words_max = 64; // fields and values of one entry

static void log_trouble(const char *what, view why) {
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_warn("command stream: %s: %.*s (%llu more not shown)", what, static_cast<int>(why.size()), why.data(),
                 static_cast<unsigned long long>(held));
}

// ---------------------------------------------------------------- one command

void command_stream_settle(command_stream *s, uint64_t ticket, command_outcome outcome, const char *why) {
    auto at = s->under_way.find(ticket);
    if (at == s->under_way.end()) return;
    std::string id = std::move(at->second);
    s->under_way.erase(at);
    if (outcome == command_outcome::again) {
        s->count.again++;
        s->ids.erase(id);
        return;
    }
    if (outcome == command_outcome::malformed) {
        s->count.malformed++;
        log_trouble("an entry was dropped", why);
    } else {
        s->count.done++;
    }
    s->finished.push_back(std::move(id));
}

// False: it is no entry at all, and has no id that could be acknowledged.
static bool read_words(const redis_value *entry, view *id, std::vector<view> *words) {
    if (entry->type != redis_type::array || entry->count != 2 || entry->elements[0].type != redis_type::text)
        return false;
    *id = entry->elements[0].text;
    const redis_value *list = &entry->elements[1];
    if (list->type != redis_type::array) return true; // deleted meanwhile
    for (size_t i = 0; i < list->count && i < words_max + 1; i++)
        words->push_back(list->elements[i].type == redis_type::text ? list->elements[i].text : view());
    return true;
}

void command_stream_take(command_stream *s, const redis_value *entry) {
    view id, text;
    std::vector<view> words;
    error why;
    if (!read_words(entry, &id, &words) || !s->ids.emplace(id).second) return; // or it is under way
    uint64_t ticket = ++s->last_ticket;
    s->under_way.emplace(ticket, std::string(id));
    if (words.size() > words_max)
        command_stream_settle(s, ticket, command_outcome::malformed, "it has too many fields");
    else if (!stream_entry_command(words.data(), words.size(), &text, &why))
        command_stream_settle(s, ticket, command_outcome::malformed, why.text);
    else if (text.size() > s->max_command)
        command_stream_settle(s, ticket, command_outcome::malformed, "it is larger than [broker] max_message");
    else {
        frame *source = frame_copy(text);
        s->events->carry(s->context, source, ticket);
        frame_unref(source);
    }
}

// ---------------------------------------------------------------- the connection

// What Redis refused (an ACL, a key of another type) is asked again later; sooner where it only was the wrong server.
static void refused(command_stream *s, const char *what, view why) {
    bool misled = false;
    for (view word : {"MOVED", "ASK", "CLUSTERDOWN", "READONLY", "LOADING"})
        misled = misled || why.starts_with(word);
    s->grouped = false;
    s->retry_ms = clock_monotonic_ms() + (misled ? misled_wait_ms : retry_wait_ms);
    if (!misled) return log_trouble(what, why);
    if (s->over) broker_redis_link_misled(s->over, s->link);
}

static void on_group(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *s = static_cast<command_stream *>(context);
    s->asking = false;
    if (!reply) return;
    if (reply->type == redis_type::error && !reply->text.starts_with("BUSYGROUP"))
        return refused(s, "Redis does not make the consumer group", reply->text);
    s->grouped = true; // BUSYGROUP: another node made it
}

static void on_entries(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *s = static_cast<command_stream *>(context);
    s->asking = false;
    if (!reply || reply->type == redis_type::nil || !s->over) return; // nil: nothing came in that time
    if (reply->type == redis_type::error) {
        if (!reply->text.starts_with("NOGROUP")) return refused(s, "Redis does not let it be read", reply->text);
        s->grouped = false; // the database was emptied
        return;
    }
    // One stream: [[key, [entry, ...]]].
    if (reply->type != redis_type::array || reply->count != 1 || reply->elements[0].type != redis_type::array ||
        reply->elements[0].count != 2 || reply->elements[0].elements[1].type != redis_type::array)
        return refused(s, "Redis gives another answer", "not one stream with its entries");
    const redis_value *entries = &reply->elements[0].elements[1];
    for (size_t i = 0; i < entries->count; i++)
        command_stream_take(s, &entries->elements[i]);
}

static void make_group(command_stream *s) {
    view argv[] = {"XGROUP", "CREATE", s->key, command_group, "0", "MKSTREAM"};
    s->asking = redis_command(s->link, 6, argv, on_group, s, 0);
}

static void read_more(command_stream *s) {
    view argv[] = {"XREADGROUP", "GROUP",     command_group, node_id(), "COUNT", read_at_once_text,
                   "BLOCK",      s->block_ms, "STREAMS",     s->key,    ">"};
    s->asking = redis_command(s->link, 11, argv, on_entries, s, 0);
}

static void on_down(redis *, const char *, void *context) {
    auto *s = static_cast<command_stream *>(context);
    s->grouped = s->asking = false;
}

static const redis_events link_events = {nullptr, on_down, nullptr};

// ---------------------------------------------------------------- acknowledging

// Deleted, too: the stream holds what is still to do. An acknowledgement that is lost means once more.
static void acknowledge(command_stream *s) {
    std::vector<view> acks = {"XACK", s->key, command_group}, deletes = {"XDEL", s->key};
    acks.insert(acks.end(), s->finished.begin(), s->finished.end());
    deletes.insert(deletes.end(), s->finished.begin(), s->finished.end());
    if (!broker_redis_command(s->over, s->key, static_cast<int>(acks.size()), acks.data(), nullptr, nullptr, 0) ||
        !broker_redis_command(s->over, s->key, static_cast<int>(deletes.size()), deletes.data(), nullptr, nullptr, 0))
        return; // the next turn
    for (const std::string &id : s->finished)
        s->ids.erase(id);
    s->finished.clear();
}

void command_stream_turn(command_stream *s) {
    if (!command_stream_open(s)) return;
    if (!s->finished.empty()) acknowledge(s);
    uint64_t now = clock_monotonic_ms();
    if (redis_ready(s->link) && !s->asking && now >= s->retry_ms) {
        bool room = s->ids.size() + read_at_once <= command_stream_under_way;
        if (!s->grouped)
            make_group(s);
        else if (room && !s->events->busy(s->context))
            read_more(s);
    }
    if (!s->grouped || s->events->busy(s->context)) return;
    command_stream_claim(s, now);
    command_stream_tidy(s, now);
}

// ---------------------------------------------------------------- life

command_stream *command_stream_new(broker *b, const broker_settings *settings, const command_stream_events *events,
                                   void *context) {
    auto *s = new command_stream{};
    s->over = b;
    s->events = events;
    s->context = context;
    s->key = settings->prefix + "commands";
    // A blocked connection answers no PING, so it must not block until one is sent for want of words.
    s->block_ms = std::to_string(std::max<int64_t>(1, std::min(block_max_ms, settings->redis.ping_interval_ms / 2)));
    s->max_command = static_cast<size_t>(settings->max_message) * 2 + 65536; // data64 and what stands around it
    s->link = broker_redis_link(b, "commands", s->key, &link_events, s);
    return s;
}

void command_stream_stop(command_stream *s) {
    if (!s->over) return;
    broker_redis_link_free(s->over, s->link);
    s->over = nullptr;
    s->link = nullptr;
}

void command_stream_free(command_stream *s) {
    if (!s) return;
    command_stream_stop(s);
    delete s;
}

const command_stream_counters *command_stream_count(const command_stream *s) {
    return &s->count;
}

} // namespace belfry
