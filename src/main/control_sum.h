// What all workers said to a status query, added up: for the status object and for the metrics. Main thread.
#pragma once

#include "relay/query.h"

#include <map>
#include <string>
#include <vector>

namespace belfry {

struct loop_lag {
    histogram times;
    uint64_t peak_ns;
};

struct control_sum {
    shard_status all;           // but for the lag
    std::vector<loop_lag> lags; // by worker
    // Connections by what they are: (route, census_kind's name). A route: host and path; empty: none was found yet.
    std::map<std::pair<std::string, std::string>, uint64_t> census;
};

// A worker that had ended counts for nothing.
[[nodiscard]] control_sum control_sum_of(const query *q);

} // namespace belfry
