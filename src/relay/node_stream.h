// The node and the command stream: carries out what backends leave in Redis. Main thread.
#pragma once

#include "relay/command_stream.h"

namespace belfry {

struct node;

// Makes node->stream where the broker is Redis and the settings want it.
void node_stream_init(node *n, const broker_settings *settings);

} // namespace belfry
