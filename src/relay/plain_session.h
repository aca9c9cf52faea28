// What a session without WebSocket (sse.h, poll.h) keeps beyond its connection: the key that proves who opened it, and
// the messages that its client sends by requests of their own, which wait for their answers. The connection's id is
// known to all that it talks to; the key only to who has opened it.
//
//   POST -> carrying.h -> carry_letter -> plain_session_post -> session_ops->message -> act
//     -> transport_answer with the message's id, or nothing left to say -> carried_letter -> the POST's body
//
// Owner's thread.
#pragma once

#include "relay/carry.h"
#include "relay/conn.h"

#include <string>
#include <vector>

namespace belfry {

inline constexpr size_t plain_key_size = 22;  // characters: 16 random bytes as base64url
inline constexpr size_t plain_posts_max = 16; // POSTs without an answer yet; more are answered 429
// A POST that has got none for so long counts no more: whoever sent it was told so (carrying_timeout_ms).
inline constexpr uint64_t plain_post_ms = 60000;

struct plain_post {
    carry_letter *letter; // owned
    uint64_t since_ms;    // monotonic
    bool given;           // to the session
    bool named;           // the session has read it: id is known
    bool has_id;
    int64_t id;
};

// A room to be joined again from where the reader left off.
struct plain_rejoin {
    std::string room;
    struct position since;
    bool granted; // by config or backend: rights are not asked
};

struct plain_session {
    conn *on; // borrowed
    char key[plain_key_size];
    bool poll;                     // long polling, else server-sent events
    bool held;                     // by a backend's answer
    bool said_bye;                 // the session's protocol has
    uint64_t after_ms;             // what it said about coming back
    std::vector<plain_post> posts; // in order; bounded by plain_posts_max
    bool reading;                  // one of them is being looked at by the session: the last that was given

    // Server-sent events.
    uint64_t told;                    // hash of the last event id; 0: none was told
    std::vector<plain_rejoin> rejoin; // rooms of the reader's event id that it is not a member of yet
    buffer first;                     // owned: events of the backend's own, before all others (held)
    std::vector<std::string> rooms;   // held: those that the backend has named

    // Long polling.
    carry_letter *asked; // owned: the poll that waits
    uint64_t asked_ms;   // monotonic: since when; or since when there is none
    uint64_t sequence;   // of the last batch
    frame *last;         // counted: that batch, until the client is known to have it; null: it has
};

// conn->plain; before the session begins.
plain_session *plain_session_new(conn *c);
// Answers whoever waits still with 404. conn->plain is null afterwards. Harmless for other connections.
void plain_session_free(conn *c);
// Appends CONN.KEY.
void plain_session_name(const conn *c, buffer *out);
// The session that a letter is for; null where there is none or the letter's sender may not speak for it: then it was
// answered.
conn *plain_session_find(shard *s, carry_letter *l);

// A message of the client. Takes the letter over.
void plain_session_post(conn *c, carry_letter *l);
// Goes on with those that wait, where the connection is not held (conn_phase's `again`).
void plain_session_run(conn *c);

// The sessions' calls, around what a message makes them do; harmless for other connections. begin: false where the
// message is over, because another with its id waits. end: it is done, answers that come later have its id.
[[nodiscard]] bool plain_session_begin(conn *c, bool has_id, int64_t id);
void plain_session_end(conn *c);
// A module has refused the message before it was read.
void plain_session_denied(conn *c, int status, view why);
// transport_ops' answer.
bool plain_session_answer(conn *c, bool has_id, int64_t id, int status, view payload);

} // namespace belfry
