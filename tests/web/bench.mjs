// What the tests of src/web/belfry.js stand on: a clock that is moved by hand, and servers that say what a test tells
// them to, in place of WebSocket and fetch. `node --test tests/web` runs them; tests/e2e/test_client_js.py does it, too.

import {Belfry} from "../../src/web/belfry.js";

const realSetTimeout = globalThis.setTimeout;
let now = 0;
let timers = [];
let lastTimer = 0;
let started = [];
let listening = 0; // to the page

/** Lets everything run that waits for nothing but promises. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Moves the clock; what is due meanwhile fires in order. */
export async function advance(ms) {
    const end = now + ms;
    for (;;) {
        await settle();
        const due = timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at || a.id - b.id)[0];
        if (!due) break;
        timers = timers.filter((timer) => timer != due);
        now = Math.max(now, due.at);
        due.what(...due.args);
    }
    now = end;
    await settle();
}

/** The ms of all timers that run, sorted. */
export const waiting = () => timers.map((timer) => timer.at - now).sort((a, b) => a - b);

export class FakeSocket {
    static all = [];
    sent = [];

    constructor(url, protocols) {
        Object.assign(this, {url, protocols});
        FakeSocket.all.push(this);
    }

    send(text) {
        this.sent.push(JSON.parse(text));
    }

    close() {
        this.closed = true;
    }

    receive(...messages) {
        for (const message of messages) this.onmessage({data: JSON.stringify(message)});
    }

    async end(code = 1006, reason = "") {
        this.onclose({code, reason});
        await settle();
    }

    /** The newest request of that type. */
    asked(type) {
        return this.sent.findLast((message) => message.type == type);
    }

    async answer(type, fields = {}) {
        this.receive({type: "ok", id: this.asked(type).id, ...fields});
        await settle();
    }

    async welcome(fields = {}) {
        this.receive({type: "welcome", conn: "c_1", ping: 25, rooms: {}, ...fields});
        await settle();
    }
}

export const sockets = FakeSocket.all;
export const newest = () => sockets.at(-1);

/** Requests to fetch: {url, method, headers, body, aborted, answer(status, text | object | stream, headers), fail()}. */
export const fetches = [];

function fakeFetch(url, {method = "GET", headers = {}, body, signal, credentials}) {
    return new Promise((resolve, reject) => {
        const request = {url, method, headers, body: body && JSON.parse(body), signal, credentials};
        request.answer = async (status, content, fields = {}) => {
            const text = content && !(content instanceof ReadableStream) && typeof content != "string";
            resolve(new Response(text ? JSON.stringify(content) : content, {status, headers: fields}));
            await settle();
        };
        request.fail = async () => {
            reject(new TypeError("Failed to fetch"));
            await settle();
        };
        const abort = () => reject(new DOMException("aborted", "AbortError"));
        if (signal.aborted) return abort();
        signal.addEventListener("abort", abort);
        fetches.push(request);
    });
}

/** A body that is written by hand. */
export function stream() {
    const {readable, writable} = new TransformStream();
    const writer = writable.getWriter();
    const write = async (text) => {
        await writer.write(new TextEncoder().encode(text));
        await settle();
    };
    return {
        readable,
        write,
        say: (message) => write(`data: ${JSON.stringify(message)}\n\n`),
        end: async () => {
            await writer.close();
            await settle();
        },
    };
}

/** A client, and in `events` what it told: [type, detail]. */
export async function start(options = {}, url = "https://app.example/ws") {
    const belfry = new Belfry(url, options);
    const events = [];
    for (const type of ["open", "close", "join", "message", "member", "gap", "removed", "bye", "error"])
        belfry.on(type, (detail) => events.push([type, detail]));
    belfry.events = events;
    belfry.told = (type) => events.filter((event) => event[0] == type).map((event) => event[1]);
    started.push(belfry);
    await settle();
    return belfry;
}

export const tellPage = (type) => globalThis.dispatchEvent(new Event(type));

/** Before each test. */
export function begin() {
    const target = new EventTarget();
    const storage = new Map();
    now = 1_000_000;
    timers = [];
    started = [];
    sockets.length = fetches.length = 0;
    const listeners = (how, change) => (type, listener) => {
        listening += change;
        target[how](type, listener);
    };
    listening = 0;
    Object.assign(globalThis, {
        WebSocket: FakeSocket,
        fetch: fakeFetch,
        addEventListener: listeners("addEventListener", 1),
        removeEventListener: listeners("removeEventListener", -1),
        dispatchEvent: target.dispatchEvent.bind(target),
        sessionStorage: {
            getItem: (key) => storage.get(key) ?? null,
            setItem: (key, value) => storage.set(key, String(value)),
        },
        setTimeout: (what, ms = 0, ...args) => {
            timers.push({id: ++lastTimer, at: now + ms, what, args});
            return lastTimer;
        },
        clearTimeout: (id) => {
            timers = timers.filter((timer) => timer.id != id);
        },
    });
    Date.now = () => now;
    Math.random = () => 0.5;
}

/** After each test: a client that is closed leaves nothing behind. */
export async function finish() {
    for (const belfry of started) belfry.close();
    await settle();
    if (timers.length) throw new Error(`${timers.length} timers outlive their client`);
    if (listening) throw new Error(`${listening} listeners outlive their client`);
    globalThis.setTimeout = realSetTimeout;
}
