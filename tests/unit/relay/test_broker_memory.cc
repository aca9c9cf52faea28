// The memory broker: what is wanted is there at once, what is published comes back at once, in order.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/broker.h"

#include <string>

using namespace belfry;

namespace {

struct record {
    loop *on;
    broker_settings settings;
    struct broker *broker;
    std::string history; // of pages: AFTER TAG OFFSETS
    position place;      // of the last job
    bool duplicate;
    std::string subscribed; // names, each with a blank
    std::string delivered;  // payloads, ditto
    int others;             // calls that this broker never makes
    publish_job *job;       // of the last delivery
    int done_calls;
    uint64_t receivers;
    bool failed;
};

record *r;

void on_subscribed(void *context, view room) {
    static_cast<record *>(context)->subscribed += std::string(room) + " ";
}
void on_refused(void *context, view) {
    static_cast<record *>(context)->others++;
}
// As the node does: the receivers of its own copy settle the job, later.
void on_deliver(void *context, message *m) {
    auto *to = static_cast<record *>(context);
    to->delivered += std::string(m->payload) + " ";
    to->job = m->job;
    message_unref(m);
}
void on_command(void *context, frame *) {
    static_cast<record *>(context)->others++;
}
void on_up(void *context, bool) {
    static_cast<record *>(context)->others++;
}
void on_down(void *context, const char *) {
    static_cast<record *>(context)->others++;
}
void on_history(void *context, const history_page *page) {
    auto *to = static_cast<record *>(context);
    to->history += std::string(page->room) + " " + std::to_string(page->after) + " " + std::to_string(page->tag) +
                   (page->failed  ? " failed"
                    : page->whole ? " whole"
                                  : " part");
    for (size_t i = 0; i < page->count; i++)
        to->history += " " + std::to_string(page->messages[i]->at.offset);
    to->history += " top " + std::to_string(page->top.offset) + "; ";
}
constexpr broker_events events = {on_subscribed, on_refused, on_deliver, on_history, on_command, on_up, on_down};

void on_done(publish_job *job, void *context) {
    auto *to = static_cast<record *>(context);
    to->done_calls++;
    to->receivers = job->receivers;
    to->failed = job->failed;
    to->place = job->at;
    to->duplicate = job->duplicate;
}

int setup(void **) {
    r = new record{};
    r->on = loop_new();
    r->settings.history_memory = 1 << 20;
    r->broker = broker_memory_new(&events, r, &r->settings, r->on);
    return 0;
}

int teardown(void **) {
    r->broker->ops->free(r->broker);
    loop_free(r->on);
    delete r;
    return message_bytes_in_flight() != 0;
}

bool publish(const char *payload, publish_job *job, bool local, uint32_t keep = 0, view id = {}) {
    frame *source = frame_copy(payload);
    message_parts parts = {"news", source, frame_view(source), payload_kind::text, view(), 1};
    parts.id = id;
    message *m = message_new(&parts);
    m->keep = keep;
    m->keep_ttl_ms = 60000;
    frame_unref(source);
    bool sent = r->broker->ops->publish(r->broker, m, job, local);
    message_unref(m); // it was only borrowed
    return sent;
}

void it_is_always_ready(void **) {
    assert_true(r->broker->ops->ready(r->broker));
    r->broker->ops->pause(r->broker, true);
    assert_true(r->broker->ops->ready(r->broker));
    r->broker->ops->turn(r->broker);
    assert_int_equal(r->others, 0);
}

void a_room_is_subscribed_at_once(void **) {
    r->broker->ops->subscribe(r->broker, "a");
    r->broker->ops->subscribe(r->broker, "b");
    assert_string_equal(r->subscribed.c_str(), "a b ");
    r->broker->ops->unsubscribe(r->broker, "a");
    r->broker->ops->turn(r->broker);
    assert_string_equal(r->subscribed.c_str(), "a b ");
    assert_int_equal(r->others, 0);
}

void messages_come_back_at_once_in_order(void **) {
    assert_true(publish("one", nullptr, true));
    assert_string_equal(r->delivered.c_str(), "one ");
    assert_true(publish("two", nullptr, false));
    assert_true(publish("three", nullptr, true));
    assert_string_equal(r->delivered.c_str(), "one two three ");
    assert_int_equal(r->broker->count.published, 3);
    assert_null(r->job);
}

void a_job_without_receivers_gets_one_outcome(void **) {
    publish_job *job = publish_job_new(on_done, r);
    assert_true(publish("x", job, false));
    assert_null(r->job); // nobody is to settle it a second time
    assert_int_equal(job->awaiting, 1);
    assert_int_equal(r->done_calls, 0);
    publish_job_settle(job, 0, true);
    assert_int_equal(r->done_calls, 1);
    assert_false(r->failed);
}

void a_job_with_receivers_gets_two_outcomes(void **) {
    publish_job *job = publish_job_new(on_done, r);
    assert_true(publish("x", job, true));
    assert_ptr_equal(r->job, job);
    publish_job_settle(job, 0, true); // the maker's
    assert_int_equal(r->done_calls, 0);
    publish_job_settle(r->job, 42, true); // the workers'
    assert_int_equal(r->done_calls, 1);
    assert_int_equal(r->receivers, 42);
    assert_false(r->failed);
}

publish_job *job_begun() {
    return publish_job_new(on_done, r);
}

void what_is_kept_gets_a_position(void **) {
    publish_job *job = job_begun();
    assert_true(publish("one", job, false, 10));
    publish_job_settle(job, 0, true);
    assert_int_equal(r->place.offset, 1);
    assert_false(position_none(&r->place));
    job = job_begun();
    assert_true(publish("two", job, false, 10));
    publish_job_settle(job, 0, true);
    assert_int_equal(r->place.offset, 2);
    assert_false(r->duplicate);
    assert_true(r->broker->ops->read(r->broker, "news", 0, 10, 42));
    assert_true(r->broker->ops->read(r->broker, "news", 0, 0, 43));
    assert_true(r->broker->ops->read(r->broker, "other", 3, 10, 44));
    assert_string_equal(r->history.c_str(), "news 0 42 whole 1 2 top 2; news 0 43 part top 2; other 3 44 part top 0; ");
    assert_int_equal(r->broker->count.history_reads, 3);
}

void an_id_is_published_once(void **) {
    for (int i = 0; i < 3; i++) {
        publish_job *job = job_begun();
        assert_true(publish("x", job, true, 10, "order-1"));
        if (i == 0) publish_job_settle(r->job, 5, true); // its receivers; a duplicate has none
        publish_job_settle(job, 0, true);
        assert_int_equal(r->done_calls, i + 1);
        assert_int_equal(r->place.offset, 1);
        assert_int_equal(r->duplicate, i > 0);
        assert_int_equal(r->receivers, i == 0 ? 5 : 0);
    }
    assert_true(publish("x", nullptr, true, 10, "order-1"));
    assert_string_equal(r->delivered.c_str(), "x ");
    assert_true(publish("y", nullptr, true, 10, "order-2"));
    assert_string_equal(r->delivered.c_str(), "x y ");
    assert_int_equal(r->broker->count.published, 2);
    assert_int_equal(r->broker->count.duplicates, 3);
}

} // namespace

#define with_broker(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_broker(it_is_always_ready),
        with_broker(a_room_is_subscribed_at_once),
        with_broker(messages_come_back_at_once_in_order),
        with_broker(a_job_without_receivers_gets_one_outcome),
        with_broker(a_job_with_receivers_gets_two_outcomes),
        with_broker(what_is_kept_gets_a_position),
        with_broker(an_id_is_published_once),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
