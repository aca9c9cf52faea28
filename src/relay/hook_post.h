// One signed POST to a route's hook, over the route's upstream: the request's head, Standard Webhooks' signature, the
// time-out over all attempts, the bounded answer. What is asked, and what an answer means, is hook.cc's and
// notify.cc's. Owner's thread.
#pragma once

#include "proto/hook_json.h"
#include "relay/upstream_pool.h"

#include <string>

namespace belfry {

inline constexpr size_t hook_answer_slack = 65536; // bytes of an answer above the route's max_message
inline constexpr size_t hook_post_id_max = 40;

// Embedded in its owner, which lives until `done` was called or hook_post_cancel.
struct hook_post {
    shard *on;                 // borrowed
    buffer body;               // owned: JSON; filled in before the start
    buffer fields;             // owned: more field lines, each with its CRLF
    buffer answer;             // owned: the body of the answer, padded once it is whole
    buffer type;               // owned: its Content-Type; empty where there is none, or an odd one
    char id[hook_post_id_max]; // webhook-id, NUL-terminated: the same in every attempt
    view request_id;           // X-Request-Id, borrowed until the end; empty: `id`
    // A server gets the call, named as in the config: for the access log. May be null.
    void (*picked)(hook_post *p, view server);
    // The answer is whole: its status, 200 to 499 (a 5xx is no answer); or there is none: 502, 503 or 504 with a static
    // text in `why`. Once; may free the owner.
    void (*done)(hook_post *p, int status, const char *why);
    uint64_t started_ns; // monotonic
    bool running;
    // below: hook_post.cc's
    // Of the route as it was at the start: a reload may make another one of it, or take the hook away.
    std::string path, secret;
    size_t answer_max; // bytes
    struct upstream_call call;
    struct deadline deadline;
    uint64_t server; // bit: of the one that answered
    int status;
    bool safe, repeated;
    bool unasked; // there is nobody to ask
};

// All zero before. A fresh webhook-id.
void hook_post_init(hook_post *p, shard *s, void (*done)(hook_post *, int, const char *));
// Starts it, on the route's upstream; 502 where the route has no hook (a reload may have taken it away). `key`: what
// sticky hashing goes by, null: nothing. `safe`: may be repeated on another server though one may have seen it: after a
// lost connection, and once after a 5xx. `done` comes from the loop.
void hook_post_start(hook_post *p, const struct route *way, const view *key, bool safe);
// Whatever its state: no `done` any more, the memory is given back.
void hook_post_cancel(hook_post *p);

// The values of webhook-signature, for the tests' sake: "v1,BASE64". `secret` as the option has it: whsec_BASE64 is
// decoded, anything else taken as it is.
inline constexpr size_t hook_signature_size = 47;
void hook_signature(view secret, view id, uint64_t timestamp, view body, char out[hook_signature_size]);

// Hands the commands of an answer to the node.
void hook_commands(shard *s, const hook_answer *a);

} // namespace belfry
