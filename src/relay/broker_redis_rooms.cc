// The Redis broker's subscriptions, room by room: each is two channels, one entry, whose state follows what is wanted.
// A burst of joins is one SUBSCRIBE, and a room that is dropped and wanted again in the same turn sends nothing. @all
// and the node's own channels are subscribed always. Main thread.
#include "relay/broker_redis_impl.h"

#include "base/log.h"

namespace belfry {

static constexpr size_t channels_a_command = 512; // rooms in one SUBSCRIBE: two channels each
static constexpr uint64_t subscribe_retry_ms = 1000;
static constexpr uint64_t fixed_retry_ms = 5000;
static constexpr uint8_t fixed_needed = 3; // without these nothing works: PREFIXcommand and @all's

static void changed(redis_broker *b, channel *c) {
    if (c->queued) return;
    c->queued = true;
    b->changed.push_back(c->room);
}

static bool reachable(const redis_broker *b) {
    if (b->shards) return redis_cluster_ready(b->cluster) && redis_shards_whole(b->shards);
    return redis_ready(b->subscriber);
}

// Who joins is told yes, though it is not subscribed: what comes until it is, is missed.
static void missed_until_confirmed(redis_broker *b, channel *c) {
    if (b->shards)
        c->let_in = true;
    else
        b->missed = true;
}

bool redis_room_sharded(const redis_broker *b, view room) {
    return b->settings.sharded && room != "@all" && !room.starts_with("@conn:");
}

view redis_room_of_channel(const redis_broker *b, view name, bool sharded) {
    if (name.starts_with(b->room_prefix)) return name.substr(b->room_prefix.size());
    if (!name.starts_with(b->message_prefix)) return view();
    view room = name.substr(b->message_prefix.size());
    if (!sharded) return room;
    if (room.starts_with("{ }")) return room.substr(3); // broker_redis_tag
    return room.size() > 2 && room.front() == '{' && room.back() == '}' ? room.substr(1, room.size() - 2) : view();
}

void redis_rooms_subscribe(broker *base, view room) {
    redis_broker *b = redis_broker_of(base);
    auto [at, fresh] = b->channels.try_emplace(std::string(room));
    channel *c = &at->second;
    if (fresh) c->room = room;
    c->wanted = true;
    if (c->state == channel_state::active || !reachable(b)) {
        // Already there; or the link is down: who joins now is told `gap` once it is back, like everybody else.
        b->head.events->subscribed(b->head.context, room);
        if (c->state == channel_state::active) return;
        missed_until_confirmed(b, c);
    }
    changed(b, c);
}

void redis_rooms_unsubscribe(broker *base, view room) {
    redis_broker *b = redis_broker_of(base);
    auto at = b->channels.find(std::string(room));
    if (at == b->channels.end()) return;
    at->second.wanted = false;
    changed(b, &at->second);
}

// False where Redis's queue did not take all of it.
static bool send_batch(redis_broker *b, const char *command, const std::vector<std::string> &names) {
    for (size_t at = 0; at < names.size();) {
        std::vector<view> argv = {command};
        for (size_t n = 0; n < 2 * channels_a_command && at < names.size(); n++)
            argv.push_back(names[at++]);
        if (!redis_command(b->subscriber, static_cast<int>(argv.size()), argv.data(), nullptr, nullptr, 0))
            return false;
    }
    return true;
}

static void retry_later(redis_broker *b, channel *c) {
    if (c->state == channel_state::active) c->let_in = true; // sharded, and refused when it was to be there again
    b->retry_ms = broker_now_ms() + subscribe_retry_ms;
    if (c->state == channel_state::subscribing && !c->refused) b->subscribing--;
    c->state = channel_state::idle;
    c->refused = true;
    changed(b, c);
    if (c->wanted) b->head.events->refused(b->head.context, c->room);
}

static void log_refusal(view why) {
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: Redis refused a subscription: %.*s (%llu more not shown)", static_cast<int>(why.size()),
                 why.data(), static_cast<unsigned long long>(held));
}

// Redis refused a SUBSCRIBE (an ACL, say), without saying for which channel; but it answers in order, so it is the
// oldest batch that is not confirmed. Who waits for its rooms is told no; what is still wanted is tried again in a
// second, each room by itself, so that it takes no other along twice, and readiness does not wait for it.
static void refuse_oldest(redis_broker *b, view why) {
    log_refusal(why);
    if (b->sent.empty()) return;
    std::vector<std::string> rooms;
    rooms.swap(b->sent.front().rooms);
    b->sent.pop_front();
    for (const std::string &room : rooms) {
        auto at = b->channels.find(room);
        if (at != b->channels.end() && at->second.state == channel_state::subscribing) retry_later(b, &at->second);
    }
}

static void subscribe_shards(redis_broker *b, std::vector<std::string> *rooms) {
    std::vector<std::string> now;
    now.swap(*rooms);
    for (const std::string &room : now) {
        redis_shards_subscribe(b->shards, b->room_prefix + room);
        redis_shards_subscribe(b->shards, redis_message_channel(b, room));
    }
}

static void subscribe_rooms(redis_broker *b, std::vector<std::string> *rooms) {
    if (rooms->empty()) return;
    if (b->shards) return subscribe_shards(b, rooms);
    std::vector<std::string> names;
    for (const std::string &room : *rooms) {
        names.push_back(b->room_prefix + room);
        names.push_back(redis_message_channel(b, room));
    }
    bool fine = send_batch(b, b->settings.sharded ? "SSUBSCRIBE" : "SUBSCRIBE", names);
    b->sent.push_back({*rooms, rooms->size()});
    rooms->clear();
    if (fine) return;
    sent_batch failed = b->sent.back(); // not sent at all: its turn does not come
    b->sent.pop_back();
    b->sent.push_front(failed);
    refuse_oldest(b, "its queue is full");
}

// Moves one channel towards what is wanted; false where it is gone.
static void send_change(redis_broker *b, channel *c, std::vector<std::string> *in, std::vector<std::string> *out) {
    if (c->state == channel_state::idle && c->wanted) {
        c->state = channel_state::subscribing;
        c->confirmations = 0;
        if (!c->refused) b->subscribing++;
        in->push_back(c->room);
        if (c->refused || in->size() == channels_a_command) subscribe_rooms(b, in);
    } else if (c->state == channel_state::active && !c->wanted) {
        c->state = channel_state::unsubscribing;
        c->confirmations = 0;
        out->push_back(b->room_prefix + c->room);
        out->push_back(redis_message_channel(b, c->room));
    }
}

static bool retry_due(const redis_broker *b) {
    return broker_now_ms() >= b->retry_ms;
}

// Those with a confirmation under way are looked at again when it comes; the refused ones when a second has passed,
// each as a batch of its own behind the others.
static void send_changes(redis_broker *b) {
    std::vector<std::string> now, in, out;
    now.swap(b->changed);
    for (bool refused : {false, true}) {
        for (const std::string &room : now) {
            auto at = b->channels.find(room);
            if (at == b->channels.end() || !at->second.queued || at->second.refused != refused) continue;
            channel *c = &at->second;
            c->queued = false;
            if (c->state == channel_state::idle && !c->wanted)
                b->channels.erase(at);
            else if (refused && !retry_due(b))
                changed(b, c);
            else
                send_change(b, c, &in, &out);
        }
        subscribe_rooms(b, &in);
    }
    if (b->shards)
        for (const std::string &name : out)
            redis_shards_unsubscribe(b->shards, name);
    else if (!send_batch(b, b->settings.sharded ? "SUNSUBSCRIBE" : "UNSUBSCRIBE", out))
        log_refusal("its queue is full: channels without members stay until the link breaks");
}

// Whether a room still has to be subscribed before everything wanted is; those that Redis refuses are not waited for.
static bool changes_due(const redis_broker *b) {
    for (const std::string &room : b->changed) {
        auto at = b->channels.find(room);
        if (at != b->channels.end() && !at->second.refused) return true;
    }
    return false;
}

void redis_rooms_confirmed(redis_broker *b, view channel_name, bool sharded, bool in) {
    view room = redis_room_of_channel(b, channel_name, sharded);
    if (room.empty() || room == "@all") { // the command channel, the node's, or one of @all's
        if (in) b->fixed++;
        return redis_broker_check_up(b);
    }
    auto at = b->channels.find(std::string(room));
    if (at == b->channels.end()) return;
    channel *c = &at->second;
    if (c->state != (in ? channel_state::subscribing : channel_state::unsubscribing) || ++c->confirmations < 2) return;
    c->state = in ? channel_state::active : channel_state::idle;
    if (in) {
        if (!c->refused) b->subscribing--;
        c->refused = false;
        if (!b->sent.empty() && --b->sent.front().left == 0) b->sent.pop_front();
        b->head.count.subscriptions++;
        if (c->wanted) b->head.events->subscribed(b->head.context, c->room);
        if (c->wanted && c->let_in) b->missed_rooms.insert(c->room);
        c->let_in = false;
    }
    if (in != c->wanted || !in) changed(b, c);
    redis_broker_check_up(b);
}

void redis_rooms_pattern_confirmed(redis_broker *b) {
    b->fixed++;
    redis_broker_check_up(b);
}

// Redis answers in order: behind the three SUBSCRIBEs that nothing works without comes the one of the node's own
// channel, then the PSUBSCRIBE. An ACL names channels one by one and compares a pattern literally, so a user who may
// use all the rooms' channels may still be refused those.
void redis_rooms_refused(redis_broker *b, view why) {
    int size = static_cast<int>(why.size());
    if (b->fixed < fixed_needed) { // only a new connection, with another ACL, can mend it
        log_warn("broker: Redis refused %s and @all: %.*s; the user needs the channels %s*", b->command_channel.c_str(),
                 size, why.data(), b->settings.prefix.c_str());
        b->reconnect_ms = broker_now_ms() + fixed_retry_ms;
    } else if (b->fixed == fixed_needed) {
        b->fixed++;
        log_warn("broker: Redis refused this node's channel (%.*s): other nodes can't reach it; allow the user the "
                 "channels %s*",
                 size, why.data(), b->node_prefix.c_str());
    } else if (b->fixed < fixed_subscriptions) {
        b->fixed = fixed_subscriptions;
        log_warn("broker: Redis refused the pattern of this node's connections (%.*s): messages to @conn: rooms will "
                 "not come over Redis; allow the user all channels (ACL: allchannels) to have them",
                 size, why.data());
        redis_broker_check_up(b);
    } else {
        refuse_oldest(b, why);
    }
}

// Every room, from the beginning.
static void subscribe_all(redis_broker *b) {
    b->subscribing = 0;
    b->changed.clear();
    b->sent.clear();
    b->retry_ms = 0;
    for (auto at = b->channels.begin(); at != b->channels.end();) {
        channel *c = &at->second;
        c->state = channel_state::idle;
        c->queued = c->refused = false;
        if (!c->wanted) {
            at = b->channels.erase(at);
            continue;
        }
        changed(b, c);
        ++at;
    }
    send_changes(b);
}

void redis_rooms_ready(redis_broker *b) {
    b->fixed = 0;
    b->reconnect_ms = 0;
    bool fine = send_batch(b, "SUBSCRIBE", {b->command_channel, b->room_prefix + "@all", b->message_prefix + "@all"});
    fine = send_batch(b, "SUBSCRIBE", {b->node_channel}) && fine;
    std::string own = "@conn:c_" + std::string(node_id()) + "*"; // base64url has no pattern characters
    if (!send_batch(b, "PSUBSCRIBE", {b->room_prefix + own, b->message_prefix + own}) || !fine)
        log_warn("broker: Redis's queue is full before the first subscription"); // can't be: it is empty
    if (!b->shards) subscribe_all(b);                                            // shards are links of their own
}

// A shard refused one of a room's two channels; the other one is given up with it.
void redis_rooms_shard_refused(redis_broker *b, view channel_name, view why) {
    view room = redis_room_of_channel(b, channel_name, true);
    auto at = b->channels.find(std::string(room));
    log_refusal(why);
    if (at == b->channels.end()) return;
    std::string other =
        channel_name.starts_with(b->room_prefix) ? redis_message_channel(b, room) : b->room_prefix + std::string(room);
    retry_later(b, &at->second);
    redis_shards_unsubscribe(b->shards, other);
}

void redis_rooms_missed(redis_broker *b, view channel_name) {
    view room = redis_room_of_channel(b, channel_name, true);
    auto at = b->channels.find(std::string(room));
    if (at != b->channels.end() && at->second.wanted) b->missed_rooms.insert(at->second.room);
}

void redis_rooms_stranded(redis_broker *b) {
    std::vector<std::string> rooms;
    for (auto &[name, c] : b->channels) {
        if (!c.wanted || c.let_in || c.state == channel_state::active) continue;
        c.let_in = true;
        rooms.push_back(name);
    }
    for (const std::string &room : rooms)
        b->head.events->subscribed(b->head.context, room);
}

void redis_rooms_down(redis_broker *b) {
    b->missed = true; // whether it was up still or the publisher had gone first
    if (b->shards) return;
    b->retry_ms = 0;
    for (auto &[name, c] : b->channels) { // who waits for a confirmation is let in: `gap` follows when the link is back
        bool waited = c.state == channel_state::subscribing || c.state == channel_state::idle ||
                      c.state == channel_state::unsubscribing;
        c.state = channel_state::idle;
        if (c.wanted && waited) b->head.events->subscribed(b->head.context, c.room);
    }
}

void redis_rooms_turn(redis_broker *b) {
    bool may = b->shards || redis_ready(b->subscriber);
    if (may && (changes_due(b) || (!b->changed.empty() && retry_due(b)))) send_changes(b);
    if (!b->up || b->missed_rooms.empty()) return;
    std::unordered_set<std::string> rooms;
    rooms.swap(b->missed_rooms);
    for (const std::string &room : rooms)
        if (b->head.events->missed) b->head.events->missed(b->head.context, room);
    redis_copies_missed(b, rooms);
}

bool redis_rooms_complete(const redis_broker *b) {
    return b->fixed >= fixed_subscriptions && !b->subscribing && !changes_due(b);
}

} // namespace belfry
