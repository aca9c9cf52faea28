// src/web/belfry.js without a browser or a server: server-sent events, long polling, and which transport is taken.

import assert from "node:assert/strict";
import {afterEach, beforeEach, test} from "node:test";

import {advance, begin, fetches, finish, newest, settle, sockets, start, stream, tellPage} from "./bench.mjs";

beforeEach(begin);
afterEach(finish);

const welcome = {type: "welcome", conn: "c_1", connection: "c_1.KEY", ping: 25, rooms: {}};
const posts = () => fetches.filter((request) => request.method == "POST");
const gets = () => fetches.filter((request) => request.method == "GET");

/** A client over server-sent events, and its stream. */
async function overEvents(options = {}) {
    const belfry = await start({transports: ["sse"], ...options});
    const body = stream();
    await fetches[0].answer(200, body.readable);
    await body.write("retry: 1000\n\n");
    await body.say(welcome);
    return {belfry, body};
}

test("server-sent events: the stream, and requests by POST", async () => {
    const {belfry, body} = await overEvents({token: "t"});
    const {url, headers, credentials} = fetches[0];
    assert.equal(url, "https://app.example/ws");
    assert.deepEqual(headers, {Accept: "text/event-stream", Authorization: "Bearer t"});
    assert.equal(credentials, undefined);
    assert.deepEqual([belfry.state, belfry.transport, belfry.conn], ["open", "sse", "c_1"]);
    const published = belfry.publish("a", "hi");
    await settle();
    const [post] = posts();
    assert.equal(post.url, "https://app.example/ws");
    assert.equal(post.headers["Belfry-Connection"], "c_1.KEY");
    assert.equal(post.headers.Authorization, "Bearer t");
    assert.deepEqual(post.body, {type: "publish", id: 1, room: "a", data: "hi"});
    await post.answer(200, {type: "ok", id: 1, epoch: "e", offset: 3});
    assert.equal((await published).offset, 3);
    await body.write('data: {"type":"message","ro');
    await body.write('om":"a","data":"gr\\u00fc\\u00df dich"}\r\n\r\n: comment\n\nid: x\n\n');
    assert.equal(belfry.told("message")[0].data, "gr\u00fc\u00df dich");
});

test("server-sent events: letters that are cut in two", async () => {
    const {belfry, body} = await overEvents();
    const bytes = new TextEncoder().encode('data: {"type":"message","room":"a","data":"\u{1f514}"}\n\n');
    const {readable, writable} = new TransformStream();
    await body.end();
    await advance(250);
    const writer = writable.getWriter();
    await fetches.at(-1).answer(200, readable);
    for (const byte of bytes) {
        await writer.write(new Uint8Array([byte]));
        await settle();
    }
    assert.equal(belfry.told("message")[0].data, "\u{1f514}");
});

test("a stream that ends is opened again", async () => {
    const {belfry, body} = await overEvents();
    await body.end();
    assert.equal(belfry.told("close")[0].reason, "ended");
    await advance(250);
    assert.equal(gets().length, 2);
});

test("a silent stream is given up, one with heartbeats is not", async () => {
    const {belfry, body} = await overEvents();
    for (let i = 0; i < 10; i++) {
        await advance(25000);
        await body.write(": \n\n");
    }
    assert.equal(belfry.told("close").length, 0);
    await advance(65000);
    assert.equal(belfry.told("close")[0].reason, "silent");
    assert.ok(fetches[0].signal.aborted);
});

test("POSTs go one after the other, calls beside them", async () => {
    const {belfry} = await overEvents();
    const all = [belfry.call("slow"), belfry.publish("a", 1), belfry.publish("a", 2)];
    await settle();
    assert.deepEqual(
        posts().map((post) => post.body.type),
        ["call", "publish"],
    );
    await posts()[1].answer(200, {type: "ok", id: 2});
    assert.equal(posts()[2].body.data, 2);
    await posts()[2].answer(200, {type: "ok", id: 3});
    await posts()[0].answer(200, {type: "ok", id: 1, data: 5});
    assert.equal((await Promise.all(all))[0], 5);
});

test("a refused POST is its request's error, in the protocol's form or as HTTP", async () => {
    const {belfry} = await overEvents();
    const first = assert.rejects(belfry.publish("a", 1), {code: 403, message: "no"});
    await settle();
    await posts()[0].answer(403, {type: "error", id: 1, code: 403, message: "no"});
    await first;
    const second = assert.rejects(belfry.publish("a", 2), {code: 429, message: "too many"});
    await settle();
    await posts()[1].answer(429, {error: {code: 429, message: "too many"}});
    await second;
    const third = assert.rejects(belfry.publish("a", 3), {code: 502});
    await settle();
    await posts()[2].answer(502, "<html>a proxy's words</html>");
    await third;
    assert.equal(belfry.state, "open");
});

test("a connection that the server has forgotten, or can't be reached for, is made anew", async () => {
    const {belfry} = await overEvents();
    const first = assert.rejects(belfry.publish("a", 1), {code: 0});
    await settle();
    await posts()[0].answer(404, {error: {code: 404, message: "no such connection"}});
    await first;
    assert.equal(belfry.told("close")[0].reason, "forgotten");
    assert.ok(fetches[0].signal.aborted);
    await advance(250);
    await gets()[1].answer(200, stream().readable);
    belfry.close();
});

test("a POST that does not get through ends the connection", async () => {
    const {belfry} = await overEvents();
    const lost = assert.rejects(belfry.publish("a", 1), {code: 0});
    await settle();
    await posts()[0].fail();
    await lost;
    assert.equal(belfry.told("close")[0].reason, "request lost");
});

test("after a change of the network a stream is opened again at once", async () => {
    const {belfry} = await overEvents();
    tellPage("online");
    assert.equal(belfry.state, "waiting");
    await advance(250);
    assert.equal(gets().length, 2);
});

test("a refusal tells its status, and when to come back", async () => {
    const belfry = await start({transports: ["sse"]});
    await fetches[0].answer(429, {error: {code: 429}}, {"Retry-After": "7"});
    assert.deepEqual(belfry.told("close")[0], {code: 429, reason: "refused", reconnect: true, after_ms: 7000});
    await advance(6999);
    assert.equal(fetches.length, 1);
    await advance(1);
    assert.equal(fetches.length, 2);
});

test("a renewed token goes with later requests", async () => {
    let count = 0;
    const {belfry, body} = await overEvents({token: () => `t${++count}`});
    await body.say({...welcome, expires_in: 10}); // as if it was the first
    await advance(8000);
    assert.equal(posts()[0].headers.Authorization, "Bearer t1");
    await posts()[0].answer(200, {type: "ok", id: 1});
    belfry.publish("a", 1).catch(() => {});
    await settle();
    assert.equal(posts()[1].headers.Authorization, "Bearer t2");
});

test("long polling", async () => {
    const belfry = await start({transports: ["poll"], withCredentials: true}, "https://app.example/ws?a=b");
    assert.equal(fetches[0].url, "https://app.example/ws?a=b&transport=poll");
    assert.equal(fetches[0].credentials, "include");
    await fetches[0].answer(200, {cursor: "c_1.KEY/1", messages: [welcome]});
    assert.deepEqual([belfry.state, belfry.transport], ["open", "poll"]);
    assert.equal(fetches[1].url, "https://app.example/ws?a=b&transport=poll&cursor=c_1.KEY%2F1");
    const published = belfry.publish("a", 1);
    await settle();
    await posts()[0].answer(200, {type: "ok", id: 1});
    await published;
    const messages = [1, 2].map((data) => ({type: "message", room: "a", data}));
    await fetches[1].answer(200, {cursor: "c_1.KEY/2", messages});
    assert.equal(belfry.told("message").length, 2);
    assert.ok(gets()[2].url.endsWith("&cursor=c_1.KEY%2F2"));
    await gets()[2].answer(404, {error: {code: 404}});
    assert.equal(belfry.state, "waiting");
    await advance(250);
    assert.equal(gets()[3].url, "https://app.example/ws?a=b&transport=poll");
});

test("bye in a poll's answer ends it", async () => {
    const belfry = await start({transports: ["poll"]});
    const bye = {type: "bye", code: 4503, reason: "restarting", reconnect: true, after_ms: 900};
    await fetches[0].answer(200, {cursor: "x", messages: [welcome, bye]});
    assert.equal(belfry.told("close")[0].after_ms, 900);
    await advance(899);
    assert.equal(gets().length, 1);
    await advance(1);
    assert.equal(gets().length, 2);
});

// ---- which transport

async function failSocket(times) {
    for (let i = 0; i < times; i++) {
        await newest().end();
        await advance(30000);
    }
}

test("falls back after two failures each, and remembers what worked", async () => {
    const belfry = await start({timeout: 60000});
    await newest().end();
    await advance(250);
    assert.equal(fetches.length, 0);
    await newest().end();
    await advance(500);
    assert.equal(fetches[0].headers.Accept, "text/event-stream");
    await fetches[0].answer(404);
    await advance(1000);
    await fetches[1].answer(404);
    await advance(2000);
    assert.equal(fetches[2].url, "https://app.example/ws?transport=poll");
    await fetches[2].answer(404);
    await advance(4000);
    await fetches[3].answer(404);
    await advance(8000);
    assert.equal(sockets.length, 3); // all over again
    await failSocket(2);
    const body = stream();
    await fetches[4].answer(200, body.readable);
    await body.say(welcome);
    assert.equal(belfry.transport, "sse");
    await body.end();
    await advance(30000);
    assert.equal(fetches.length, 6);
    const next = await start(); // another page of the same tab
    assert.equal(fetches.length, 7);
    next.close();
    const other = await start({}, "https://app.example/other");
    assert.equal(newest().url, "wss://app.example/other");
    other.close();
});

test("a stream without a welcome counts as a failure", async () => {
    await start({timeout: 1000, transports: ["sse", "poll"]});
    await fetches[0].answer(200, stream().readable); // a proxy that holds it back
    await advance(1250);
    await fetches[1].answer(200, stream().readable);
    await advance(1500);
    assert.equal(fetches[2].url, "https://app.example/ws?transport=poll");
});

test("what has worked is given five chances", async () => {
    await start({timeout: 60000});
    await newest().welcome();
    await newest().end();
    await advance(30000);
    await failSocket(4);
    assert.equal(fetches.length, 0);
    await failSocket(1);
    assert.equal(fetches.length, 1);
    for (let i = 0; i < 4; i++) {
        await fetches[i].fail();
        await advance(30000);
    }
    assert.equal(fetches[3].url, "https://app.example/ws?transport=poll");
    assert.equal(sockets.length, 7); // its turn again
});

test("after a detour the better transport comes first again", async () => {
    const belfry = await start({timeout: 60000});
    await newest().welcome();
    await newest().end();
    await advance(30000);
    await failSocket(5);
    const body = stream();
    await fetches[0].answer(200, body.readable);
    await body.say(welcome);
    assert.equal(belfry.transport, "sse");
    const before = sockets.length;
    await body.end();
    await advance(30000);
    assert.equal(sockets.length, before + 1);
});

test("a page that is bound to one transport changes nothing for others", async () => {
    const {belfry} = await overEvents();
    belfry.close();
    await start();
    assert.equal(sockets.length, 1);
});

test("lives without a storage", async () => {
    Object.defineProperty(globalThis, "sessionStorage", {
        configurable: true,
        get() {
            throw new Error("SecurityError");
        },
    });
    try {
        const belfry = await start();
        await newest().welcome();
        assert.equal(belfry.state, "open");
    } finally {
        Object.defineProperty(globalThis, "sessionStorage", {configurable: true, writable: true, value: undefined});
    }
});
