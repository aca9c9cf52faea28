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
    struct broker *broker;
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
constexpr broker_events events = {on_subscribed, on_refused, on_deliver, nullptr, on_command, on_up, on_down};

void on_done(publish_job *job, void *context) {
    auto *to = static_cast<record *>(context);
    to->done_calls++;
    to->receivers = job->receivers;
    to->failed = job->failed;
}

int setup(void **) {
    r = new record{};
    r->broker = broker_memory_new(&events, r);
    return 0;
}

int teardown(void **) {
    r->broker->ops->free(r->broker);
    delete r;
    return message_bytes_in_flight() != 0;
}

bool publish(const char *payload, publish_job *job, bool local) {
    frame *source = frame_copy(payload);
    message_parts parts = {"news", source, frame_view(source), payload_kind::text, view(), 1};
    message *m = message_new(&parts);
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

} // namespace

#define with_broker(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_broker(it_is_always_ready),
        with_broker(a_room_is_subscribed_at_once),
        with_broker(messages_come_back_at_once_in_order),
        with_broker(a_job_without_receivers_gets_one_outcome),
        with_broker(a_job_with_receivers_gets_two_outcomes),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
