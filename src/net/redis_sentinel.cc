// Redis Sentinel. Three links, two of them for moments only: the watcher subscribes +switch-master; the asker asks the
// sentinels in turn, since each attempt to connect goes to the next one (redis_locate); the tester connects to what was
// named and asks ROLE (redis_settings::primary_only), since a sentinel that was cut off still names the old one. Main
// thread.
#include "net/redis_sentinel.h"

#include "base/log.h"
#include "net/redis_link.h"

namespace belfry {

static constexpr int64_t sentinel_connect_ms = 1000; // connect, AUTH and first answer of one sentinel
static constexpr int64_t sentinel_silence_ms = 1000; // then the next one is asked
static constexpr uint64_t answer_holds_ms = 200;     // two links that break together are one question
static constexpr uint64_t ask_again_ms = 300;        // after an answer that is of no use

struct redis_sentinel {
    loop *on; // borrowed
    redis_sentinel_settings settings;
    void (*changed)(void *context);
    void *context;    // borrowed
    redis *watcher;   // owned
    redis *asker;     // owned; null: nothing is asked
    redis *tester;    // owned; null: nothing is tested
    bool tester_went; // its one attempt has begun
    later again;      // the question is to be repeated
    size_t next_watched, next_asked;
    std::string host, named_host; // the primary, empty: not known; what is being tested
    uint16_t port, named_port;
    uint64_t answered_ms; // when a sentinel last confirmed it
    uint64_t switches;
};

static void ask(redis_sentinel *s);

static void ask_later(redis_sentinel *s) {
    later_post_in(&s->again, ask_again_ms);
}

static void on_again(later *again) {
    auto *s = BELFRY_CONTAINER_OF(again, redis_sentinel, again);
    if (s->asker != nullptr)
        redis_reconnect(s->asker, "another sentinel is asked");
    else
        ask(s);
}

static void end_link(redis **link) {
    redis_free(*link);
    *link = nullptr;
}

static redis *link_to(redis_sentinel *s, const redis_settings *settings, const char *name, const redis_events *events,
                      redis_where where) {
    redis *r = redis_new(s->on, settings, name, events, s);
    if (r == nullptr) fatal("redis: no link to Sentinel could be made"); // the config was checked: can't be
    redis_locate(r, where, s);
    return r;
}

// ---------------------------------------------------------------- what was named is tested

static void on_tested(redis *, void *context) {
    auto *s = static_cast<redis_sentinel *>(context);
    end_link(&s->tester);
    const bool first = s->host.empty();
    s->host = s->named_host;
    s->port = s->named_port;
    s->answered_ms = redis_now_ms();
    if (!first) s->switches++;
    log_info("sentinel: the primary of %s is %s, port %u", s->settings.master_name.c_str(), s->host.c_str(), s->port);
    s->changed(s->context);
}

// The second attempt means that the first failed: no server, or no primary.
static bool where_tested(void *context, std::string *host, uint16_t *port) {
    auto *s = static_cast<redis_sentinel *>(context);
    if (s->tester_went) {
        end_link(&s->tester);
        ask_later(s);
        return false;
    }
    s->tester_went = true;
    *host = s->named_host;
    *port = s->named_port;
    return true;
}

static void named(redis_sentinel *s, view host, uint16_t port) {
    static const redis_events events = {on_tested, nullptr, nullptr};
    later_cancel(&s->again);
    if (s->host == host && s->port == port) {
        end_link(&s->tester);
        s->answered_ms = redis_now_ms();
        return;
    }
    if (s->tester != nullptr && s->named_host == host && s->named_port == port) return;
    end_link(&s->tester);
    s->named_host = host;
    s->named_port = port;
    s->tester_went = false;
    redis_settings settings = s->settings.primary;
    settings.primary_only = true;
    s->tester = link_to(s, &settings, "tester", &events, where_tested);
}

// ---------------------------------------------------------------- a sentinel is asked

static bool parse_port(view text, uint16_t *port) {
    uint64_t n = 0;
    if (!bytes_parse_uint(text, &n) || n == 0 || n > 65535) return false;
    *port = static_cast<uint16_t>(n);
    return true;
}

static bool host_fine(view host) {
    return !host.empty() && host.size() <= 253 && host.find_first_of(view(" \r\n\0", 4)) == view::npos;
}

static void on_answer(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *s = static_cast<redis_sentinel *>(context);
    if (reply == nullptr || s->asker == nullptr) return; // the link goes on to the next by itself
    uint16_t port = 0;
    if (reply->type == redis_type::array && reply->count == 2 && host_fine(reply->elements[0].text) &&
        parse_port(reply->elements[1].text, &port)) {
        end_link(&s->asker);
        return named(s, reply->elements[0].text, port);
    }
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held)) {
        const view text = reply->type == redis_type::error ? reply->text.substr(0, 200) : view("it does not know it");
        log_warn("sentinel: %s does not tell where the primary of %s is: %.*s",
                 redis_describe(redis_at(s->asker)).c_str(), s->settings.master_name.c_str(),
                 static_cast<int>(text.size()), text.data());
    }
    ask_later(s);
}

static void on_asker_ready(redis *r, void *context) {
    auto *s = static_cast<redis_sentinel *>(context);
    const view words[] = {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", s->settings.master_name};
    if (!redis_command(r, 3, words, on_answer, s, 0)) ask_later(s); // can't be: its queue is empty
}

static void locate(redis_sentinel *s, size_t *next, std::string *host, uint16_t *port) {
    const redis_settings *at = &s->settings.sentinels[(*next)++ % s->settings.sentinels.size()];
    *host = at->host;
    *port = at->port;
}

static bool where_asked(void *context, std::string *host, uint16_t *port) {
    auto *s = static_cast<redis_sentinel *>(context);
    locate(s, &s->next_asked, host, port);
    return true;
}

static redis_settings sentinel_settings(const redis_sentinel *s) {
    redis_settings settings = s->settings.sentinels[0];
    settings.connect_timeout_ms = sentinel_connect_ms;
    settings.ping_interval_ms = settings.ping_timeout_ms = sentinel_silence_ms;
    return settings;
}

static void ask(redis_sentinel *s) {
    static const redis_events events = {on_asker_ready, nullptr, nullptr};
    if (s->asker != nullptr || s->tester != nullptr) return;
    const redis_settings settings = sentinel_settings(s);
    s->asker = link_to(s, &settings, "sentinel", &events, where_asked);
}

// ---------------------------------------------------------------- one sentinel is watched

static bool where_watched(void *context, std::string *host, uint16_t *port) {
    auto *s = static_cast<redis_sentinel *>(context);
    locate(s, &s->next_watched, host, port);
    return true;
}

static void on_watcher_ready(redis *r, void *context) {
    auto *s = static_cast<redis_sentinel *>(context);
    const view words[] = {"SUBSCRIBE", "+switch-master"};
    if (!redis_command(r, 2, words, nullptr, nullptr, 0)) redis_reconnect(r, "its queue is full"); // can't be
    ask(s); // for what was not seen
}

// message, +switch-master, "NAME OLD-HOST OLD-PORT NEW-HOST NEW-PORT"
static void on_watched(redis *, const redis_value *frame, void *context) {
    auto *s = static_cast<redis_sentinel *>(context);
    if (frame->type != redis_type::array || frame->count != 3 || frame->elements[0].text != "message") return;
    view text = frame->elements[2].text, words[5];
    for (view &word : words) {
        const size_t space = text.find(' ');
        word = text.substr(0, space);
        text = space == view::npos ? view() : text.substr(space + 1);
    }
    uint16_t port = 0;
    if (words[0] != s->settings.master_name || !host_fine(words[3]) || !parse_port(words[4], &port)) return;
    end_link(&s->asker); // an answer from before
    named(s, words[3], port);
}

// ---------------------------------------------------------------- life

bool redis_sentinel_where(void *context, std::string *host, uint16_t *port) {
    auto *s = static_cast<redis_sentinel *>(context);
    if (s->host.empty() || redis_now_ms() - s->answered_ms >= answer_holds_ms) ask(s);
    if (s->host.empty()) return false;
    *host = s->host;
    *port = s->port;
    return true;
}

redis_sentinel *redis_sentinel_new(loop *on, const redis_sentinel_settings *settings, void (*changed)(void *context),
                                   void *context) {
    static const redis_events events = {on_watcher_ready, nullptr, on_watched};
    auto *s = new redis_sentinel{};
    s->on = on;
    s->settings = *settings;
    s->changed = changed;
    s->context = context;
    s->next_watched = settings->sentinels.size() > 1 ? 1 : 0; // not the one that is asked first
    later_init(&s->again, &on->laters, on_again);
    redis_settings watching = sentinel_settings(s);
    watching.ping_interval_ms = settings->sentinels[0].ping_interval_ms;
    s->watcher = link_to(s, &watching, "sentinel watcher", &events, where_watched);
    ask(s);
    return s;
}

void redis_sentinel_free(redis_sentinel *s) {
    if (s == nullptr) return;
    later_cancel(&s->again);
    redis_free(s->watcher);
    redis_free(s->asker);
    redis_free(s->tester);
    delete s;
}

uint64_t redis_sentinel_switches(const redis_sentinel *s) {
    return s->switches;
}

} // namespace belfry
