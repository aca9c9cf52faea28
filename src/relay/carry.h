// Letters between a request that speaks for a session and the worker that has the session: there by way of the node,
// since a client's next connection may be accepted by any worker, and back in the same way. Each carry_letter is
// answered by exactly one carried_letter, whatever becomes of the session; that it may be late, or its asker gone, is
// the asker's business (carrying.h). Any worker.
#pragma once

#include "relay/letter.h"
#include "relay/shard.h"

namespace belfry {

// To the node. Takes the letter over.
void carry_send(shard *s, carry_letter *l);
// Answers it, and frees it. `body` (JSON) is taken over.
void carry_reply(shard *s, carry_letter *l, int status, frame *body);
// The same with carry_error.
void carry_refuse(shard *s, carry_letter *l, int status, view why);
// {"error":{"code","message"}}: the body of a refusal. The caller's reference.
[[nodiscard]] frame *carry_error(int status, view why);
// Frees without an answer: at the end of a worker or of the node.
void carry_free(carry_letter *l);
void carried_free(carried_letter *l);
// What a letter is charged for in shard::outbox_bytes.
int64_t carry_charge(const carry_letter *l);
int64_t carried_charge(const carried_letter *l);

} // namespace belfry
