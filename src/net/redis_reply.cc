// hiredis's reader and formatter, the only file that names hiredis. One connection, one thread.
#include "net/redis_reply.h"

#include <hiredis/hiredis.h>
#include <vector>

namespace belfry {

namespace {

constexpr size_t element_size_min = 4; // ":1\r\n"
constexpr size_t values_kept = 4096;   // of a large reply's scratch memory, so many stay for the next one

// hiredis allocates an array by the count it is told, before any element is there: 16 GB for "*2147483647\r\n". This
// stands before its own function; the count's type differs (int in 0.14, size_t in 1.x), hence the template.
template <typename Count> void *create_array(const redisReadTask *task, Count count);

} // namespace

struct redis_reader {
    redisReader *reader;                 // owned
    redisReplyObjectFunctions functions; // hiredis's own, but for createArray
    decltype(redisReplyObjectFunctions::createArray) create_array;
    size_t reply_max;
    size_t unfinished;               // bytes fed since the last whole reply ended
    redisReply *reply;               // owned: what `values` views
    std::vector<redis_value> values; // the reply as a tree, the root first
};

namespace {

template <typename Count> void *create_array(const redisReadTask *task, Count count) {
    const redis_reader *r = static_cast<const redis_reader *>(task->privdata);
    if (count < 0 || static_cast<size_t>(count) > r->reply_max / element_size_min) return nullptr;
    return r->create_array(task, count);
}

// hiredis bounds the nesting at 7 arrays (0.14) or 9, so this recursion is bounded.
size_t count_values(const redisReply *reply) {
    size_t n = 1;
    if (reply->type == REDIS_REPLY_ARRAY)
        for (size_t i = 0; i < reply->elements; i++)
            n += count_values(reply->element[i]);
    return n;
}

// Fills `into`; `next` is the first unused value: an array's elements stand together.
void convert(const redisReply *reply, redis_value *into, redis_value **next) {
    *into = {redis_type::nil, 0, {}, 0, nullptr};
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        into->type = redis_type::integer;
        into->integer = reply->integer;
        return;
    case REDIS_REPLY_STRING:
        into->type = redis_type::text;
        break;
    case REDIS_REPLY_STATUS:
        into->type = redis_type::status;
        break;
    case REDIS_REPLY_ERROR:
        into->type = redis_type::error;
        break;
    case REDIS_REPLY_ARRAY:
        into->type = redis_type::array;
        into->count = reply->elements;
        into->elements = *next;
        *next += reply->elements;
        for (size_t i = 0; i < reply->elements; i++)
            convert(reply->element[i], const_cast<redis_value *>(&into->elements[i]), next);
        return;
    default:
        return; // nil, and types of RESP3, which nobody asked for
    }
    into->text = view(reply->str, static_cast<size_t>(reply->len));
}

void drop_reply(redis_reader *r) {
    if (r->reply != nullptr) freeReplyObject(r->reply);
    r->reply = nullptr;
    r->values.clear();
    if (r->values.capacity() > values_kept) r->values = {};
}

redis_next too_large(const redis_reader *r, error *e) {
    error_set(e, "a reply of more than %zu bytes", r->reply_max);
    return redis_next::broken;
}

} // namespace

redis_reader *redis_reader_new(size_t reply_max) {
    redis_reader *r = new redis_reader();
    r->reader = redisReaderCreate();
    if (r->reader == nullptr) fatal("redis: out of memory");
    r->reply_max = reply_max;
    r->functions = *r->reader->fn;
    r->create_array = r->functions.createArray;
    r->functions.createArray = create_array;
    r->reader->fn = &r->functions;
    r->reader->privdata = r;
    return r;
}

void redis_reader_free(redis_reader *r) {
    if (r == nullptr) return;
    drop_reply(r);
    redisReaderFree(r->reader);
    delete r;
}

void redis_reader_feed(redis_reader *r, view bytes) {
    // Fails only for a reader that is broken already, which redis_reader_next tells, or without memory.
    if (redisReaderFeed(r->reader, bytes.data(), bytes.size()) == REDIS_OK) r->unfinished += bytes.size();
}

redis_next redis_reader_next(redis_reader *r, const redis_value **value, error *e) {
    drop_reply(r);
    void *reply = nullptr;
    if (redisReaderGetReply(r->reader, &reply) != REDIS_OK) {
        // What hiredis calls "out of memory" is mostly create_array's refusal.
        if (r->reader->err == REDIS_ERR_OOM) return too_large(r, e);
        error_set(e, "%s", r->reader->errstr);
        return redis_next::broken;
    }
    if (reply == nullptr) return r->unfinished > r->reply_max ? too_large(r, e) : redis_next::more;
    r->reply = static_cast<redisReply *>(reply);
    const size_t left = r->reader->len - r->reader->pos, size = r->unfinished - left;
    r->unfinished = left;
    if (size > r->reply_max) return too_large(r, e);
    r->values.resize(count_values(r->reply));
    redis_value *next = r->values.data() + 1;
    convert(r->reply, r->values.data(), &next);
    *value = r->values.data();
    return redis_next::value;
}

void redis_format(buffer *out, int argc, const view *argv) {
    std::vector<const char *> words(static_cast<size_t>(argc));
    std::vector<size_t> sizes(static_cast<size_t>(argc));
    for (size_t i = 0; i < words.size(); i++) {
        words[i] = argv[i].data() == nullptr ? "" : argv[i].data(); // an empty view may have no address
        sizes[i] = argv[i].size();
    }
    char *command = nullptr;
    const auto size = redisFormatCommandArgv(&command, argc, words.data(), sizes.data()); // int, or long long in 1.x
    if (size < 0) fatal("redis: out of memory");
    buffer_append(out, view(command, static_cast<size_t>(size)));
    redisFreeCommand(command);
}

redis_verb redis_verb_of(view word) {
    static constexpr struct {
        view word;
        redis_verb verb;
    } verbs[] = {
        {"message", redis_verb::message},           {"pmessage", redis_verb::message},
        {"smessage", redis_verb::message},          {"subscribe", redis_verb::subscribe},
        {"unsubscribe", redis_verb::unsubscribe},   {"psubscribe", redis_verb::psubscribe},
        {"punsubscribe", redis_verb::punsubscribe}, {"ssubscribe", redis_verb::ssubscribe},
        {"sunsubscribe", redis_verb::sunsubscribe}, {"pong", redis_verb::pong},
    };
    for (const auto &v : verbs)
        if (bytes_equal_nocase(word, v.word)) return v.verb;
    return redis_verb::none;
}

} // namespace belfry
