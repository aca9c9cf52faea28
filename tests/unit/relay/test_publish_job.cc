// Publish jobs: called back once, when the last outcome came.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/publish_job.h"

using namespace belfry;

namespace {

struct outcome {
    int calls;
    uint64_t receivers;
    bool failed;
};

void done(publish_job *job, void *context) {
    auto *o = static_cast<outcome *>(context);
    o->calls++;
    o->receivers = job->receivers;
    o->failed = job->failed;
}

void the_makers_own_outcome_ends_it(void **) {
    outcome o = {};
    publish_job *job = publish_job_new(done, &o);
    assert_int_equal(o.calls, 0);
    publish_job_settle(job, 0, true);
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.receivers, 0);
    assert_false(o.failed);
}

void it_waits_for_the_last_outcome(void **) {
    outcome o = {};
    publish_job *job = publish_job_new(done, &o);
    publish_job_expect(job);
    publish_job_expect(job);
    publish_job_settle(job, 5, true);
    publish_job_settle(job, 0, true);
    assert_int_equal(o.calls, 0);
    publish_job_settle(job, uint64_t{1} << 33, true);
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.receivers, (uint64_t{1} << 33) + 5);
    assert_false(o.failed);
}

// An outcome may come before the maker is ready: its own one keeps the job alive.
void an_outcome_at_once_does_not_end_it(void **) {
    outcome o = {};
    publish_job *job = publish_job_new(done, &o);
    for (int i = 0; i < 3; i++) {
        publish_job_expect(job);
        publish_job_settle(job, 1, true);
    }
    assert_int_equal(o.calls, 0);
    publish_job_settle(job, 0, true);
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.receivers, 3);
}

void one_failure_is_enough_and_stays(void **) {
    outcome o = {};
    publish_job *job = publish_job_new(done, &o);
    publish_job_expect(job);
    publish_job_expect(job);
    publish_job_settle(job, 2, true);
    publish_job_settle(job, 0, false);
    publish_job_settle(job, 2, true);
    assert_int_equal(o.calls, 1);
    assert_true(o.failed);
    assert_int_equal(o.receivers, 4);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_makers_own_outcome_ends_it),
        cmocka_unit_test(it_waits_for_the_last_outcome),
        cmocka_unit_test(an_outcome_at_once_does_not_end_it),
        cmocka_unit_test(one_failure_is_enough_and_stays),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
