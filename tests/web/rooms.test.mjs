// src/web/belfry.js without a browser or a server: rooms, recovery, order.

import assert from "node:assert/strict";
import {afterEach, beforeEach, test} from "node:test";

import {advance, begin, finish, newest, settle, sockets, start, waiting} from "./bench.mjs";

beforeEach(begin);
afterEach(finish);

const message = (room, offset, epoch = "e1") => ({type: "message", room, data: offset, offset, epoch});
const messages = (room, from, to, epoch) =>
    Array.from({length: to - from + 1}, (_, i) => message(room, from + i, epoch));

/** A client in "chat" at offset 10, and in `seen` the data of its messages and "gap". */
async function inChat() {
    const belfry = await start();
    const seen = [];
    const handlers = {onMessage: (got) => seen.push(got.data), onGap: () => seen.push("gap")};
    const room = belfry.join("chat", handlers);
    await newest().welcome();
    await newest().answer("join", {room: "chat", epoch: "e1", offset: 10});
    return {belfry, room, seen};
}

async function reconnect(rooms = {}) {
    await newest().end();
    await advance(waiting()[0]);
    await newest().welcome({rooms});
}

test("joins, and tells the room's own handlers", async () => {
    const {belfry, room, seen} = await inChat();
    assert.deepEqual(sockets[0].asked("join"), {type: "join", id: 1, room: "chat"});
    assert.equal(room.name, "chat");
    assert.equal((await room.joined).offset, 10);
    assert.deepEqual(room.position, {epoch: "e1", offset: 10});
    const members = [];
    belfry.join("chat", {onMember: (member) => members.push(member.event)});
    newest().receive(
        message("chat", 11),
        message("other", 1),
        {type: "member", room: "chat", event: "join", member: {conn: "c_2"}},
    );
    assert.deepEqual(seen, [11]);
    assert.deepEqual(members, ["join"]);
    assert.deepEqual(room.position, {epoch: "e1", offset: 11});
    assert.deepEqual(
        belfry.told("message").map((got) => got.room),
        ["chat", "other"],
    );
    assert.equal(newest().sent.length, 1); // it was in already
});

test("publishes, lists and leaves by the room", async () => {
    const {room, seen} = await inChat();
    room.publish({text: "hi"}).catch(() => {});
    assert.deepEqual(newest().asked("publish").data, {text: "hi"});
    assert.equal(newest().asked("publish").room, "chat");
    const members = room.members();
    await newest().answer("members", {members: [], count: 0});
    assert.deepEqual(await members, []);
    room.leave();
    room.leave();
    assert.equal(newest().sent.filter((sent) => sent.type == "leave").length, 1);
    newest().receive(message("chat", 11)); // was on its way
    assert.deepEqual(seen, []);
    await reconnect();
    assert.deepEqual(newest().sent, []);
});

test("joins again with since, and gets what was missed once and in order", async () => {
    const {belfry, seen} = await inChat();
    newest().receive(...messages("chat", 11, 12));
    await reconnect();
    assert.deepEqual(newest().asked("join").since, {epoch: "e1", offset: 12});
    await newest().answer("join", {room: "chat", epoch: "e1", offset: 15, recovered: true, replayed: 3});
    newest().receive(...messages("chat", 13, 17), message("chat", 16), message("chat", 17), message("chat", 18));
    assert.deepEqual(seen, [11, 12, 13, 14, 15, 16, 17, 18]);
    assert.deepEqual(
        belfry.told("join").map((joined) => joined.recovered),
        [undefined, true],
    );
});

// Over server-sent events the answer of a POST and the stream race.
test("it does not matter whether the answer or the replay comes first", async () => {
    for (const first of [0, 1, 2, 3]) {
        const {belfry, seen} = await inChat();
        await reconnect();
        const replay = messages("chat", 11, 13);
        newest().receive(...replay.slice(0, first));
        assert.deepEqual(seen, []);
        await newest().answer("join", {room: "chat", epoch: "e1", offset: 13, recovered: true, replayed: 3});
        newest().receive(...replay.slice(first), message("chat", 14));
        assert.deepEqual(seen, [11, 12, 13, 14]);
        belfry.close();
    }
});

// Where the server has put us into the room itself, live messages come before the join is answered.
test("live messages wait for the replay", async () => {
    const {seen} = await inChat();
    await reconnect();
    newest().receive(message("chat", 14), message("chat", 15));
    await newest().answer("join", {room: "chat", epoch: "e1", offset: 15, recovered: true, replayed: 5});
    newest().receive(...messages("chat", 11, 13), message("chat", 16));
    assert.deepEqual(seen, [11, 12, 13, 14, 15, 16]);
});

test("what can't be recovered is told as a gap", async () => {
    const {seen, room} = await inChat();
    await reconnect();
    await newest().answer("join", {room: "chat", epoch: "e2", offset: 3, recovered: false});
    newest().receive(message("chat", 4, "e2"));
    assert.deepEqual(seen, ["gap", 4]);
    assert.deepEqual(room.position, {epoch: "e2", offset: 4});
});

test("a room without history has a gap after each reconnect, and never asks with since", async () => {
    const belfry = await start();
    belfry.join("plain");
    await newest().welcome();
    await newest().answer("join", {room: "plain"});
    newest().receive({type: "message", room: "plain", data: 1});
    await reconnect();
    assert.equal("since" in newest().asked("join"), false);
    await newest().answer("join", {room: "plain"});
    assert.deepEqual(belfry.told("gap"), [{type: "gap", room: "plain"}]);
    newest().receive({type: "message", room: "plain", data: 1}); // no offset: no duplicate
    assert.equal(belfry.told("message").length, 2);
});

test("begins where the page says", async () => {
    const belfry = await start();
    await newest().welcome();
    belfry.join("chat", {since: {epoch: "e1", offset: 3}});
    assert.deepEqual(newest().asked("join").since, {epoch: "e1", offset: 3});
    await newest().answer("join", {room: "chat", epoch: "e1", offset: 4, recovered: true, replayed: 1});
    newest().receive(message("chat", 4));
    assert.equal(belfry.told("message").length, 1);
    belfry.join("gone", {since: {epoch: "old", offset: 3}});
    await newest().answer("join", {room: "gone", epoch: "new", offset: 4, recovered: false});
    assert.deepEqual(belfry.told("gap"), [{type: "gap", room: "gone"}]);
});

test("what is live ends a replay that is not complete", async () => {
    const {seen} = await inChat();
    await reconnect();
    newest().receive(message("chat", 11));
    await newest().answer("join", {room: "chat", epoch: "e1", offset: 13, recovered: true, replayed: 3});
    newest().receive(message("chat", 13)); // 12 was replaced in our queue by one of the same key
    assert.deepEqual(seen, []);
    newest().receive(message("chat", 14));
    assert.deepEqual(seen, [11, 13, 14]);
});

test("a gap in the middle of a replay ends the waiting", async () => {
    const {seen} = await inChat();
    await reconnect();
    await newest().answer("join", {room: "chat", epoch: "e1", offset: 13, recovered: true, replayed: 3});
    newest().receive(message("chat", 11), {type: "gap", room: "chat"});
    assert.deepEqual(seen, [11, "gap"]);
    newest().receive(message("chat", 13), message("chat", 1, "e2"));
    assert.deepEqual(seen, [11, "gap", 13, 1]);
});

test("a connection that breaks during a replay loses nothing", async () => {
    const {seen} = await inChat();
    await reconnect();
    newest().receive(message("chat", 12)); // held, for 11 is missing
    await reconnect();
    assert.deepEqual(newest().asked("join").since, {epoch: "e1", offset: 10});
    await newest().answer("join", {room: "chat", epoch: "e1", offset: 12, recovered: true, replayed: 2});
    newest().receive(...messages("chat", 11, 12));
    assert.deepEqual(seen, [11, 12]);
});

test("a refused join is told, and not tried again", async () => {
    const belfry = await start();
    const told = [];
    const room = belfry.join("closed", {onError: (error) => told.push(error.code)});
    await newest().welcome();
    newest().receive({type: "error", id: newest().asked("join").id, code: 403, message: "not allowed"});
    await assert.rejects(room.joined, {code: 403, room: "closed"});
    assert.deepEqual(told, [403]);
    assert.equal(belfry.told("error")[0].room, "closed");
    await reconnect();
    assert.deepEqual(newest().sent, []);
});

test("a join that fails for now is tried again", async () => {
    for (const code of [429, 502, 503, 504]) {
        const belfry = await start();
        const room = belfry.join("chat");
        await newest().welcome({ping: 0});
        newest().receive({type: "error", id: newest().asked("join").id, code, message: "later"});
        await advance(2999);
        assert.equal(newest().sent.length, 1);
        await advance(1);
        assert.equal(newest().sent.length, 2);
        await newest().answer("join", {room: "chat"});
        await room.joined;
        belfry.close();
    }
});

test("a join that failed for now is not tried on another connection, nor after a leave", async () => {
    const belfry = await start();
    const room = belfry.join("chat");
    await newest().welcome({ping: 0});
    newest().receive({type: "error", id: newest().asked("join").id, code: 503, message: "later"});
    await newest().end();
    await advance(250);
    await newest().welcome({ping: 0});
    await advance(10000);
    assert.equal(newest().sent.filter((sent) => sent.type == "join").length, 1);
    newest().receive({type: "error", id: newest().asked("join").id, code: 503, message: "later"});
    await settle();
    room.leave();
    await advance(10000);
    assert.equal(newest().sent.filter((sent) => sent.type == "join").length, 1);
});

test("leaves rooms of the server's choice, too", async () => {
    const belfry = await start();
    await newest().welcome({rooms: {lobby: {epoch: "e1", offset: 5}}});
    belfry.leave("lobby");
    belfry.leave("unknown");
    assert.deepEqual(newest().sent, [{type: "leave", id: 1, room: "lobby"}]);
});

test("a late retry of a join does not disturb the next connection", async () => {
    const {seen} = await inChat();
    await reconnect();
    newest().receive({type: "error", id: newest().asked("join").id, code: 503, message: "later"});
    await settle();
    await newest().end();
    await advance(500);
    await newest().welcome({ping: 0});
    newest().receive(message("chat", 11));
    await advance(5000); // the retry of the connection before
    await newest().answer("join", {room: "chat", epoch: "e1", offset: 12, recovered: true, replayed: 2});
    newest().receive(message("chat", 12));
    assert.deepEqual(seen, [11, 12]);
});

test("removed means out", async () => {
    const {belfry} = await inChat();
    newest().receive({type: "removed", room: "chat", reason: "kicked"});
    assert.equal(belfry.told("removed")[0].reason, "kicked");
    await reconnect();
    assert.deepEqual(newest().sent, []);
});

test("rooms of the server's choice are recovered, where it chooses them again", async () => {
    const belfry = await start();
    const rooms = {lobby: {epoch: "e1", offset: 5}, once: {epoch: "e1", offset: 1}, plain: {}};
    await newest().welcome({rooms});
    assert.deepEqual(newest().sent, []);
    newest().receive(message("lobby", 6));
    await reconnect({lobby: {epoch: "e1", offset: 8}, plain: {}});
    const joins = newest().sent.map(({room, since}) => [room, since]);
    assert.deepEqual(joins, [["lobby", {epoch: "e1", offset: 6}], ["plain", undefined]]);
    newest().receive({type: "ok", id: newest().sent[0].id, epoch: "e1", offset: 8, recovered: true, replayed: 2});
    newest().receive(...messages("lobby", 7, 8));
    await newest().answer("join", {room: "plain"});
    assert.deepEqual(
        belfry.told("message").map((got) => got.data),
        [6, 7, 8],
    );
    assert.deepEqual(belfry.told("gap"), [{type: "gap", room: "plain"}]);
    await reconnect({once: {epoch: "e1", offset: 9}});
    assert.deepEqual(newest().sent, []); // it had forgotten this one
});

test("a room of the server's choice can be joined, too", async () => {
    const belfry = await start();
    await newest().welcome({rooms: {lobby: {epoch: "e1", offset: 5}}});
    const room = belfry.join("lobby");
    assert.deepEqual(newest().asked("join").since, {epoch: "e1", offset: 5});
    await newest().answer("join", {room: "lobby", epoch: "e1", offset: 5, recovered: true, replayed: 0});
    await room.joined;
    newest().receive(message("lobby", 6));
    assert.equal(belfry.told("message").length, 1);
    assert.deepEqual(belfry.told("gap"), []);
});
