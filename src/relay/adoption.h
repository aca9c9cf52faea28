// A reload, as the relay carries it out: what points into the settings is aimed at the new ones. The main thread makes
// one of these, says in it what became of each section, aims its own part (node_adopt.cc), and sends it to every
// worker, which aims its own in one quiet point of its turn: nothing of a connection is on the stack then. When all
// have answered, nothing points into the old settings.
//
// What a section became is looked up by its place in the old settings, so that a connection costs one pass over it and
// no comparison of names: 15,000 of them take a few milliseconds.
//
//   who points                                   aimed by
//   shard::settings                              shard_adopt
//   conn::route, conn::listener                  shard_adopt; limits that were derived from them: conn_phase::retuned
//   conn::modules (states by the scopes)         chain_adopt
//   room::rule                                   shard_adopt; who is in a room whose presence begins or ends is told
//   shard::upstreams (a route's upstream_index)  shard_adopt; upstreams have copies of their settings (upstream.h), so
//                                                calls, tunnels and links that run keep nothing of a config
//   spool::way of notify.cc                      notifier_adopt
//   hook calls                                   nothing: they copy path and secret when they start
//   worker_listener::settings                    the worker
//   node::settings, node::upstreams, node_room::rule (and its feed), presence::settings, occupancy    node_adopt
//   module_entry::module, worker states          nothing: the modules are the same before and after
#pragma once

#include "relay/chain.h"
#include "relay/shard.h"

namespace belfry {

struct upstream_shared;

struct route_image {
    const route *now; // borrowed; null: gone
    bool retuned;     // limits that connections have derived something from are others
    chain_need need;  // of `now`
};

struct adoption {
    const relay_settings *from, *to; // borrowed
    // By the section's place in `from`; borrowed.
    std::vector<route_image> ways;
    std::vector<const route *> routes;                // the same, for who asks no more; null: gone
    std::vector<const listener_settings *> listeners; // null: gone
    bool same_patterns;                               // rules are by place; else every room looks its own up
    // By the upstream's place in `to`.
    std::vector<upstream_shared *> upstreams; // borrowed: the node's
    std::vector<int32_t> before;              // its place in `from`; -1: it is new
    std::vector<bool> kept;                   // it is the same object
};

// What became of each section, but for the upstreams: the caller fills these in. A live section of the same identity
// (a route's path and host, a listener's name) comes before a retired one. Main thread.
adoption *adoption_new(const relay_settings *from, const relay_settings *to);

// The rule of a room that had this one (may be null). Any thread.
const room_rule *adoption_rule(const adoption *a, const room_rule *was, view room);

// The worker's. Connections whose sections are gone are ended.
void shard_adopt(shard *s, const adoption *a);
// Once a turn: frees upstreams that were replaced and have no call any more.
void shard_bury_upstreams(shard *s);

} // namespace belfry
