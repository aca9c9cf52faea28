// Reading histories over Redis. A few reads are under way at a time, the rest wait their turn: a thousand rooms that
// ask after an outage must not be a thousand large answers at once. Entries are somebody else's bytes and are checked
// like what comes in live. Main thread.
#include "relay/broker_redis_impl.h"

#include "base/hash.h"
#include "base/log.h"
#include "proto/stream_entry.h"

namespace belfry {

static constexpr size_t asked_max = 64;             // under way
static constexpr size_t questions_max = 65536;      // that wait
static constexpr char page_bytes_max[] = "8388608"; // of one answer, and one page of entries more

redis_epoch redis_epoch_new() {
    unsigned char raw[redis_epoch_size * 3 / 4];
    redis_epoch epoch;
    random_fill(raw, sizeof raw);
    base64url_encode(view(reinterpret_cast<char *>(raw), sizeof raw), epoch.text);
    return epoch;
}

static void tell(const history_question *q, history_page *page) {
    broker *b = &q->on->head;
    page->room = q->room;
    page->after = q->after;
    page->tag = q->tag;
    if (!q->on->closing) b->events->history(b->context, page);
}

static void tell_failed(const history_question *q) {
    history_page page = {};
    page.failed = true;
    tell(q, &page);
}

// ---------------------------------------------------------------- an answer

static void count_malformed(redis_broker *b, view room, const char *why) {
    static log_limit limit;
    uint64_t held = 0;
    b->head.count.malformed++;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: the history of %.*s holds something else: %s (%llu more not shown)",
                 static_cast<int>(room.size()), room.data(), why, static_cast<unsigned long long>(held));
}

// One entry as a message; null where it is none.
static message *read_entry(redis_broker *b, const history_question *q, const redis_value *v, view epoch, error *why) {
    static constexpr size_t words_max = 4; // of which two are allowed
    view words[words_max];
    error_set(why, "an entry that is no entry");
    if (v->type != redis_type::array || v->count != 2 || v->elements[0].type != redis_type::text ||
        v->elements[1].type != redis_type::array || v->elements[1].count > words_max)
        return nullptr;
    const redis_value *list = &v->elements[1];
    for (size_t i = 0; i < list->count; i++) {
        if (list->elements[i].type != redis_type::text) return nullptr;
        words[i] = list->elements[i].text;
    }
    uint64_t offset = 0;
    view text;
    if (!stream_entry_history(v->elements[0].text, words, list->count, &offset, &text, why)) return nullptr;
    frame *source = frame_copy(text);
    envelope e;
    message *m = nullptr;
    if (!envelope_parse(b->reader, frame_view(source), &e, &b->scratch, why)) {
    } else if (e.payload.size() > static_cast<size_t>(b->settings.max_message)) {
        error_set(why, "a message larger than [broker] max_message");
    } else {
        message_parts parts = {q->room, source, e.payload, e.kind, e.from, e.time_ms, e.except, e.except_count};
        parts.key = e.key;
        parts.what = e.member ? message_member : message_data;
        if (position_set(&parts.at, epoch, offset)) {
            m = message_new(&parts);
            m->sequence = e.sequence;
        }
    }
    frame_unref(source);
    return m;
}

// The messages, the newest first as they come, for as long as they follow each other and are messages: what is behind a
// bad one can be read, what is before it is lost.
static void read_entries(redis_broker *b, const history_question *q, const redis_value *list, const history_page *page,
                         std::vector<message *> *out) {
    uint64_t next = page->top.offset;
    for (size_t i = 0; i < list->count; i++, next--) {
        error why;
        message *m = read_entry(b, q, &list->elements[i], position_epoch(&page->top), &why);
        if (!m) return count_malformed(b, q->room, why.text);
        if (m->at.offset != next) return message_unref(m);
        out->push_back(m);
    }
}

// What conf/redis/history.lua answers. False: that is no answer of it.
static bool read_page(redis_broker *b, const history_question *q, const redis_value *v) {
    if (v->type != redis_type::array || v->count != 3 || v->elements[0].type != redis_type::text ||
        v->elements[1].type != redis_type::text || v->elements[2].type != redis_type::array)
        return false;
    history_page page = {};
    uint64_t top = 0;
    if (!bytes_parse_uint(v->elements[1].text, &top) || !position_set(&page.top, v->elements[0].text, top))
        return false;
    std::vector<message *> messages;
    read_entries(b, q, &v->elements[2], &page, &messages);
    std::vector<message *> ascending(messages.rbegin(), messages.rend());
    page.messages = ascending.data();
    page.count = ascending.size();
    page.whole = q->after <= top && page.count == top - q->after;
    tell(q, &page);
    for (message *m : messages)
        message_unref(m);
    return true;
}

static bool ask(history_question *q);

static void ask_more(redis_broker *b) {
    while (b->asked < asked_max && !b->questions.empty()) {
        history_question *q = b->questions.front();
        b->questions.pop_front();
        if (ask(q)) continue;
        tell_failed(q);
        delete q;
    }
}

static void on_page(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *q = static_cast<history_question *>(context);
    redis_broker *b = q->on;
    b->asked--;
    if (!reply) {
        tell_failed(q);
    } else if (reply->type == redis_type::error || !read_page(b, q, reply)) {
        view why = reply->type == redis_type::error ? reply->text : "the script gives another answer";
        count_malformed(b, q->room, std::string(why).c_str());
        tell_failed(q);
    }
    delete q;
    ask_more(b);
}

// ---------------------------------------------------------------- questions

static bool ask(history_question *q) {
    redis_broker *b = q->on;
    std::string tag = broker_redis_tag(q->room), history = b->settings.prefix + "history:";
    std::string stream = history + tag, meta = history + "meta:" + tag;
    std::string from = std::to_string(q->after == UINT64_MAX ? q->after : q->after + 1),
                limit = std::to_string(q->limit);
    redis_epoch epoch = redis_epoch_new();
    view words[] = {stream, meta, from, limit, page_bytes_max, view(epoch.text, sizeof epoch.text)};
    if (!broker_redis_run(&b->head, redis_script::history, 2, 6, words, on_page, q, 0)) return false;
    b->asked++;
    b->head.count.history_reads++;
    return true;
}

bool redis_history_read(broker *base, view room, uint64_t after, uint32_t limit, uint64_t tag) {
    redis_broker *b = redis_broker_of(base);
    if (!b->up || b->questions.size() >= questions_max) return false;
    auto *q = new history_question{b, std::string(room), after, tag, limit};
    if (b->asked >= asked_max) {
        b->questions.push_back(q);
        return true;
    }
    if (ask(q)) return true;
    delete q;
    return false;
}

void redis_history_renew(broker *base, view room, const struct position *seen) {
    redis_broker *b = redis_broker_of(base);
    std::string meta = b->settings.prefix + "history:meta:" + broker_redis_tag(room);
    redis_epoch epoch = redis_epoch_new();
    view words[] = {meta, position_epoch(seen), view(epoch.text, sizeof epoch.text)};
    if (!broker_redis_run(base, redis_script::renew, 1, 3, words, nullptr, nullptr, 0))
        log_debug("broker: out of reach, a history was not renewed"); // it is found again after the next `up`
}

// Those under way were answered when the link broke.
void redis_history_down(redis_broker *b) {
    std::deque<history_question *> waiting;
    waiting.swap(b->questions);
    for (history_question *q : waiting) {
        tell_failed(q);
        delete q;
    }
}

} // namespace belfry
