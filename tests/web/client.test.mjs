// src/web/belfry.js without a browser or a server: connecting, requests, coming back.

import assert from "node:assert/strict";
import {afterEach, beforeEach, test} from "node:test";

import {BelfryError} from "../../src/web/belfry.js";
import {advance, begin, finish, newest, settle, sockets, start, tellPage, waiting} from "./bench.mjs";

beforeEach(begin);
afterEach(finish);

test("connects, with the token as a subprotocol", async () => {
    const belfry = await start({token: "a.b-c"});
    assert.equal(newest().url, "wss://app.example/ws");
    assert.deepEqual(newest().protocols, ["belfry.v1.json", "belfry.token.a.b-c"]);
    assert.equal(belfry.state, "connecting");
    await newest().welcome({conn: "c_7", user: "56"});
    assert.equal(belfry.state, "open");
    assert.deepEqual([belfry.transport, belfry.conn, belfry.user], ["websocket", "c_7", "56"]);
    assert.equal(belfry.told("open")[0].conn, "c_7");
    belfry.close();
    assert.equal(belfry.state, "closed");
    assert.ok(newest().closed);
    assert.equal(belfry.told("close")[0].reconnect, false);
    await advance(60000);
    assert.equal(sockets.length, 1);
    belfry.connect();
    await settle();
    assert.equal(sockets.length, 2);
});

test("takes ws and http URLs, and asks for no token where there is none", async () => {
    await start({}, "ws://app.example:81/a?b=c");
    assert.equal(newest().url, "ws://app.example:81/a?b=c");
    assert.deepEqual(newest().protocols, ["belfry.v1.json"]);
    await start({}, "http://http.example/");
    assert.equal(newest().url, "ws://http.example/");
});

test("asks for a token before each connection", async () => {
    let count = 0;
    await start({token: async () => `t${++count}`});
    assert.deepEqual(newest().protocols, ["belfry.v1.json", "belfry.token.t1"]);
    await newest().end();
    await advance(250);
    assert.deepEqual(newest().protocols, ["belfry.v1.json", "belfry.token.t2"]);
});

test("a token that can't be had is a failed attempt", async () => {
    let fails = true;
    const belfry = await start({
        token: async () => {
            if (fails) throw new Error("login service is away");
            return "t";
        },
    });
    assert.equal(sockets.length, 0);
    assert.equal(belfry.told("close")[0].reason, "login service is away");
    fails = false;
    await advance(250);
    assert.equal(sockets.length, 1);
});

test("closed while it waits for a token", async () => {
    let give;
    const belfry = await start({token: () => new Promise((resolve) => (give = resolve))});
    belfry.close();
    give("late");
    await settle();
    assert.equal(sockets.length, 0);
    assert.equal(belfry.state, "closed");
});

test("what an old connection still says is not heard", async () => {
    const belfry = await start();
    await newest().welcome();
    await newest().end();
    newest().receive({type: "message", room: "a", data: 1});
    assert.deepEqual(belfry.told("message"), []);
});

test("requests get their answers, whatever the order", async () => {
    const belfry = await start();
    await newest().welcome();
    const published = belfry.publish("a", {text: "hi"}, {echo: false});
    const called = belfry.call("add", [1, 2]);
    const listed = belfry.members("a");
    const [publish, call, members] = newest().sent;
    assert.deepEqual(publish, {type: "publish", id: publish.id, room: "a", data: {text: "hi"}, echo: false});
    assert.deepEqual(call, {type: "call", id: call.id, method: "add", data: [1, 2]});
    assert.deepEqual(members, {type: "members", id: members.id, room: "a"});
    newest().receive(
        {type: "ok", id: members.id, members: [{conn: "c_1"}], count: 1},
        {type: "ok", id: call.id, data: 3},
        {type: "ok", id: publish.id, epoch: "e", offset: 7},
    );
    assert.equal((await published).offset, 7);
    assert.equal(await called, 3);
    assert.deepEqual(await listed, [{conn: "c_1"}]);
});

test("an error answers its request, one without id is an event", async () => {
    const belfry = await start();
    await newest().welcome();
    const refused = belfry.publish("a", 1);
    newest().receive({type: "error", id: newest().asked("publish").id, code: 403, message: "no"});
    await assert.rejects(refused, (error) => error instanceof BelfryError && error.code == 403 && error.message == "no");
    newest().receive({type: "error", code: 429, message: "rate limit"});
    assert.equal(belfry.told("error")[0].code, 429);
});

test("a request without an answer ends in time", async () => {
    const belfry = await start({timeout: 3000});
    await newest().welcome();
    const slow = belfry.call("slow", null, {timeout: 5000}).catch((error) => error.code);
    const usual = belfry.call("usual").catch((error) => error.code);
    await advance(3000);
    assert.equal(await usual, 408);
    newest().receive({type: "ok", id: newest().sent[1].id, data: 1}); // too late, of no consequence
    await advance(2000);
    assert.equal(await slow, 408);
    assert.equal(belfry.state, "open");
});

test("requests wait for the connection, joins go before them", async () => {
    const belfry = await start();
    const published = belfry.publish("a", 1);
    belfry.join("a");
    assert.equal(newest().sent.length, 0);
    await newest().end();
    await advance(250);
    await newest().welcome();
    assert.deepEqual(
        newest().sent.map((message) => message.type),
        ["join", "publish"],
    );
    await newest().answer("publish");
    await published;
});

test("what was sent and not answered is not sent again", async () => {
    const belfry = await start();
    await newest().welcome();
    const lost = assert.rejects(belfry.publish("a", 1), {code: 0});
    await newest().end();
    await lost;
    await advance(250);
    await newest().welcome();
    assert.equal(newest().sent.length, 0);
    const waits = assert.rejects(belfry.publish("a", 2), {code: 0});
    belfry.close();
    await waits;
    await assert.rejects(belfry.publish("a", 3), {code: 0});
});

test("no more than 1000 requests wait", async () => {
    const belfry = await start();
    const all = Array.from({length: 1000}, () => belfry.call("x").catch((error) => error.code));
    await assert.rejects(belfry.call("x"), {code: 429});
    belfry.close();
    assert.deepEqual(new Set(await Promise.all(all)), new Set([0]));
});

test("comes back with exponential back-off and full jitter, 30 s at most", async () => {
    const belfry = await start({transports: ["websocket"]});
    const delays = [];
    for (let i = 0; i < 9; i++) {
        await newest().end();
        const {after_ms: delay} = belfry.told("close").at(-1);
        delays.push(delay);
        assert.equal(belfry.state, "waiting");
        await advance(delay - 1);
        assert.equal(sockets.length, i + 1);
        await advance(1);
        assert.equal(sockets.length, i + 2);
    }
    assert.deepEqual(delays, [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]); // half of the bounds
    Math.random = () => 0;
    await newest().end();
    assert.equal(belfry.told("close").at(-1).after_ms, 0);
});

test("the back-off begins anew after 5 s of connection, not after less", async () => {
    const belfry = await start();
    await newest().end();
    await advance(250);
    await newest().welcome();
    await advance(4999);
    await newest().end();
    assert.equal(belfry.told("close").at(-1).after_ms, 500);
    await advance(500);
    await newest().welcome();
    await advance(5000);
    await newest().end();
    assert.equal(belfry.told("close").at(-1).after_ms, 250);
});

test("a connection without a welcome is given up", async () => {
    const belfry = await start({timeout: 2000});
    await advance(2000);
    assert.ok(newest().closed);
    assert.equal(belfry.told("close")[0].reason, "no welcome");
    await advance(250);
    assert.equal(sockets.length, 2);
});

test("bye says when to come back", async () => {
    const belfry = await start();
    await newest().welcome();
    newest().receive({type: "bye", code: 4503, reason: "restarting", reconnect: true, after_ms: 8200});
    await newest().end(4503);
    const close = {code: 4503, reason: "restarting", reconnect: true, after_ms: 8200};
    assert.deepEqual(belfry.told("close"), [close]);
    assert.equal(belfry.told("bye").length, 1);
    tellPage("online"); // the server knows better
    await advance(8199);
    assert.equal(sockets.length, 1);
    await advance(1);
    assert.equal(sockets.length, 2);
});

test("a page may close on bye", async () => {
    const belfry = await start({onBye: () => belfry.close()});
    await newest().welcome();
    newest().receive({type: "bye", code: 4503, reason: "restarting", reconnect: true, after_ms: 100});
    assert.equal(belfry.state, "closed");
    assert.equal(belfry.told("close").length, 1);
});

test("bye says not to come back", async () => {
    const belfry = await start({token: "fixed"});
    await newest().welcome();
    newest().receive({type: "bye", code: 4401, reason: "credentials expired", reconnect: false, after_ms: 0});
    assert.equal(belfry.state, "closed");
    await advance(60000);
    assert.equal(sockets.length, 1);
});

test("credentials that have run out are renewed where that is possible", async () => {
    let count = 0;
    const belfry = await start({token: () => `t${++count}`});
    await newest().welcome();
    newest().receive({type: "bye", code: 4401, reason: "credentials expired", reconnect: false, after_ms: 0});
    assert.equal(belfry.state, "waiting");
    await advance(250);
    assert.deepEqual(newest().protocols, ["belfry.v1.json", "belfry.token.t2"]);
});

test("a token is renewed before it runs out", async () => {
    let count = 0;
    const belfry = await start({token: async () => `t${++count}`});
    await newest().welcome({expires_in: 100});
    const chatter = async (ms) => {
        for (let left = ms; left > 0; left -= 10000) {
            newest().receive({type: "pong"}); // a sign of life
            await advance(Math.min(left, 10000));
        }
    };
    await chatter(79999);
    assert.equal(newest().asked("auth"), undefined);
    await chatter(1);
    assert.equal(newest().asked("auth").token, "t2");
    await newest().answer("auth", {expires_in: 50});
    await chatter(40000);
    assert.equal(newest().asked("auth").token, "t3");
    newest().receive({type: "error", id: newest().asked("auth").id, code: 403, message: "no"});
    await settle();
    assert.equal(belfry.told("error")[0].code, 403);
    assert.equal(belfry.state, "open");
});

test("a token for months does not fire at once", async () => {
    await start({token: () => "t"});
    await newest().welcome({expires_in: 90 * 86400});
    await advance(1000);
    assert.equal(newest().asked("auth"), undefined);
    assert.equal(waiting().at(-1), 2 ** 31 - 1 - 1000);
});

test("online brings it back at once", async () => {
    await start();
    await newest().welcome();
    await newest().end();
    tellPage("online");
    await settle();
    assert.equal(sockets.length, 2);
    await advance(1000); // the timer of the back-off is gone
    assert.equal(sockets.length, 2);
});

test("a silent connection is asked, and given up where nothing comes", async () => {
    await start({timeout: 10000});
    await newest().welcome({ping: 25});
    await advance(50000);
    assert.equal(newest().asked("ping"), undefined);
    await advance(10000);
    newest().receive({type: "pong", id: newest().asked("ping").id});
    await advance(54000);
    assert.equal(sockets.length, 1);
    await advance(17000);
    assert.ok(sockets[0].closed);
    assert.equal(sockets.length, 2);
});

test("where the server sends no pings, silence says nothing", async () => {
    await start();
    await newest().welcome({ping: 0});
    await advance(3600000);
    assert.equal(sockets.length, 1);
    assert.deepEqual(newest().sent, []);
});

test("a change of the network has the connection looked at", async () => {
    const belfry = await start();
    await newest().welcome();
    tellPage("offline");
    assert.equal(newest().sent.filter((message) => message.type == "ping").length, 1);
    tellPage("visibilitychange");
    assert.equal(newest().sent.length, 1);
    newest().receive({type: "pong", id: newest().asked("ping").id});
    await advance(10000);
    assert.equal(belfry.state, "open");
    tellPage("online");
    newest().receive({type: "error", id: newest().asked("ping").id, code: 429, message: "rate limit"}); // a sign of life
    await advance(10000);
    assert.equal(belfry.state, "open");
    tellPage("online");
    await advance(10000);
    assert.equal(belfry.told("close")[0].reason, "silent");
});

test("a page that is looked at again does not wait", async () => {
    await start();
    await newest().end();
    tellPage("visibilitychange");
    await settle();
    assert.equal(sockets.length, 2);
});

test("handlers that throw do no harm", async () => {
    const reported = [];
    globalThis.reportError = (error) => reported.push(error.message);
    const belfry = await start({
        onMessage() {
            throw new Error("the page's fault");
        },
    });
    await newest().welcome();
    newest().receive({type: "message", room: "x", data: 1}, {type: "message", room: "x", data: 2});
    assert.equal(belfry.told("message").length, 2);
    assert.deepEqual(reported, ["the page's fault", "the page's fault"]);
});

test("listeners come and go", async () => {
    const belfry = await start();
    const seen = [];
    const off = belfry.on("message", (message) => seen.push(message.data));
    await newest().welcome();
    newest().receive({type: "message", room: "x", data: 1});
    off();
    off();
    newest().receive({type: "message", room: "x", data: 2});
    assert.deepEqual(seen, [1]);
    assert.equal(belfry.told("message").length, 2);
});
