// Counting outcomes. Main thread.
#include "relay/publish_job.h"

namespace belfry {

publish_job *publish_job_new(void (*done)(publish_job *, void *), void *context) {
    return new publish_job{1, 0, false, false, {}, {}, done, context};
}

void publish_job_expect(publish_job *job) {
    job->awaiting++;
}

void publish_job_settle(publish_job *job, uint64_t receivers, bool accepted) {
    job->receivers += receivers;
    if (!accepted) job->failed = true;
    if (--job->awaiting) return;
    job->done(job, job->context);
    delete job;
}

} // namespace belfry
