// A worker's halves of a handover (handover.h): connections that leave, and connections that come. Owner's thread.
#pragma once

#include "proto/handover.h"
#include "relay/conn.h"
#include "relay/handover.h"

namespace belfry {

inline constexpr size_t handover_orders_max = 64; // that wait for one connection; more are dropped

// The node's letter. Takes it over.
void handover_worker_letter(shard *s, handover_letter *l);
// Once a turn, where s->departures is there.
void handover_worker_turn(shard *s);
// An order for a connection that is neither here nor there yet: it is kept until that is decided. False: carry it out.
[[nodiscard]] bool handover_worker_defers(shard *s, const conn *c, const order_letter *o);
// An order that was carried out here as far as it could be: where it may be about connections that have moved away, the
// other process gets it, too.
void handover_worker_passes_on(shard *s, const order_letter *o);
// A connection's question for what it has missed was answered: of one that is coming it may have been the last.
void handover_worker_recovered(shard *s, conn *c);
// The worker ends.
void handover_worker_free(shard *s);

// ---- the parts ----

// As conn::phase of a connection that is frozen, on either side: its queue takes what is said to it, nothing else is
// done.
extern const conn_phase handover_phase;

// Whether it can be described now: a plain WebSocket session of which nobody waits for anything. `held`: by whoever
// asks. `counted`: all its rooms have to be.
[[nodiscard]] bool handover_quiet(const conn *c, uint32_t held, bool counted);
// Its description, appended. False where a module does not let it go.
[[nodiscard]] bool handover_describe_conn(conn *c, buffer *out);
// Makes a connection of it: frozen, not open, waiting in its rooms (membership::ask is handover_ask), with a record in
// s->arrivals. Takes the descriptor over. Null with a reason: it does not fit into this process.
[[nodiscard]] conn *handover_restore_conn(shard *s, const handover_conn *d, int fd, const char **why);
inline constexpr uint32_t handover_ask = UINT32_MAX; // no number of a question
// It goes in silence: rooms, client, modules.
void handover_forget_conn(conn *c);

// ---- of handover_worker_letter ----

void handover_departures_letter(shard *s, handover_letter *l);
void handover_arrivals_letter(shard *s, handover_letter *l);
// Where the connection is on its way, the place for orders that wait for that; else null.
[[nodiscard]] std::vector<order_letter> *handover_departure_orders(shard *s, const conn *c);
[[nodiscard]] std::vector<order_letter> *handover_arrival_orders(shard *s, const conn *c);
void handover_departures_free(shard *s);
void handover_arrivals_free(shard *s);

} // namespace belfry
