// belfry.js: Belfry's client for browsers. One ES module without dependencies; belfry.d.ts is its manual.
//
// A Belfry keeps one connection: over WebSocket, else Server-Sent Events, else long polling. It comes back by itself,
// joins its rooms again from the last message that was seen, and hands each message on once and in order. All of it is
// one closure, since a minifier can shorten a variable's name and not a property's.

const firstDelay = 500, lastDelay = 30000; // ms: bounds of the back-off
const steady = 5000; // ms that a connection must have been open for the back-off to begin anew
const silence = 30000; // ms, above what the server says, after which a connection is doubted
const requestsMax = 1000; // that may wait for an answer, or for a connection
const timerMax = 2 ** 31 - 1; // ms; a longer setTimeout fires at once

class Failure extends Error {
    constructor(code, message) {
        super(message);
        this.code = code;
    }
}

export {Failure as BelfryError};

export class Belfry {
    constructor(url, options = {}) {
        const self = this;
        const {timeout = 10000, transports: names = ["websocket", "sse", "poll"], token} = options;
        const renews = typeof token == "function";
        let listeners = []; // like handlers of a room: objects with onMessage, onGap...
        const rooms = new Map(); // by name: what makeRoom makes
        const requests = new Map(); // by id: {message, sent, finish}
        let last = 0; // id of the last request
        let best = -1; // of `names`, which are in the order of preference, the first that has worked; -1: none yet
        let at; // the one that is tried
        let failures = 0; // of it in a row, each without a welcome
        let attempts = 0; // to connect since a connection was steady
        let link; // the connection that is made or open, see dial
        let opened; // when its welcome came; 0: not yet
        let heard; // when something came last
        let timer; // for the welcome, for the next sign of life, or of the next attempt
        let renewal; // timer of the token
        let told; // the server has said when to come back

        url = new URL(url, globalThis.location).href.replace(/^ws/, "http");
        const storage = "belfry " + url;

        const isOpen = () => self.state == "open";
        const isLost = () => new Failure(0, "connection lost");

        const arm = (what, ms) => {
            clearTimeout(timer);
            timer = setTimeout(what, ms);
        };

        const nameOf = (type) => "on" + type[0].toUpperCase() + type.slice(1);
        const emit = (type, detail, handlers = []) => {
            for (const object of [...handlers, options, ...listeners]) {
                try {
                    object[nameOf(type)]?.(detail);
                } catch (error) {
                    reportError(error); // the page's fault, not ours: shown as uncaught, and we go on
                }
            }
        };

        // ---- requests

        const send = (request) => {
            if (request.sent) return;
            request.sent = true;
            link.send(request.message);
        };

        const ask = (type, fields, ms = timeout) =>
            new Promise((resolve, reject) => {
                const id = ++last;
                const finish = (error, answer) => {
                    clearTimeout(late);
                    requests.delete(id);
                    error ? reject(error) : resolve(answer);
                };
                const late = setTimeout(() => finish(new Failure(408, "no answer")), ms);
                const request = {message: {type, id, ...fields}, finish};
                if (self.state == "closed") return finish(isLost());
                if (requests.size >= requestsMax) return finish(new Failure(429, "too many"));
                requests.set(id, request);
                if (isOpen()) send(request);
            });

        // ---- rooms

        // `known`: we were in it before, so that whatever is not recovered may be missing.
        const makeRoom = (name, position, known) => {
            const handlers = [];
            // Messages by offset, from when a join with `since` is sent until all is there that it replays: its answer
            // and the messages may come over two ways.
            let held, answer;
            let settle;
            const joined = new Promise((...both) => (settle = both));
            joined.catch(() => {}); // told as an error, too

            const tell = (type, detail) => emit(type, detail, handlers);

            const release = () => {
                const messages = [...(held?.values() || [])].sort((a, b) => a.offset - b.offset);
                held = null;
                messages.forEach(room.take);
            };

            // `newest`: the offset that came last. One behind the answer's is live: the replay is over, complete or not
            // (a slow reader may have lost some of it).
            const check = (newest) => {
                if (!answer) return;
                const inside = (offset) => offset > position.offset && offset <= answer.offset;
                const enough = held.size >= answer.replayed && [...held.keys()].filter(inside).length >= answer.replayed;
                if (enough || newest > answer.offset) release();
            };

            const entered = (ok) => {
                const missed = known && !ok.recovered;
                known = true;
                if (held && !missed) {
                    answer = ok;
                    check();
                } else {
                    position = ok.epoch && {epoch: ok.epoch, offset: ok.offset};
                    if (missed) tell("gap", {type: "gap", room: name});
                    release();
                }
                settle[0](ok);
                tell("join", ok);
            };

            const refused = (error) => {
                if (/429|5../.test(error.code)) {
                    setTimeout(room.enter, 1000 + Math.random() * 4000, link);
                } else {
                    rooms.delete(name);
                    settle[1](error);
                }
                error.room = name;
                tell("error", error);
            };

            const room = {
                handlers,
                release,
                enter(on = link) {
                    const current = (then) => (value) => {
                        if (link == on && rooms.get(name) == room) then(value);
                    };
                    const join = () => {
                        answer = null;
                        held = position && new Map();
                        // However long the server takes: asking again would only be refused.
                        const asked = ask("join", {room: name, since: position || undefined}, timerMax);
                        asked.then(current(entered), current(refused));
                    };
                    current(join)();
                },
                take(message) {
                    const {offset, epoch = position?.epoch} = message;
                    if (offset) {
                        if (held) {
                            held.set(offset, message);
                            return check(offset);
                        }
                        if (epoch == position?.epoch && offset <= position?.offset) return;
                        position = {epoch, offset};
                    }
                    tell("message", message);
                },
                face: {
                    name,
                    joined,
                    get position() {
                        return position;
                    },
                    publish: (data, how) => self.publish(name, data, how),
                    members: (how) => self.members(name, how),
                    leave() {
                        if (rooms.get(name) != room) return;
                        rooms.delete(name);
                        if (isOpen()) ask("leave", {room: name}).catch(() => {});
                    },
                },
            };
            rooms.set(name, room);
            return room;
        };

        // ---- connecting

        const listen = (how) => {
            for (const type of ["online", "offline", "visibilitychange"]) globalThis[how]?.(type, wake);
        };

        // The network, or the visitor, is back or gone. No connection notices that the network has changed below it.
        const wake = ({type}) => {
            if (self.state == "waiting" && !told) dial();
            else if (isOpen() && type[0] == "o") link.test();
        };

        const down = (from, code, reason, {reconnect = true, after_ms} = {}) => {
            if (link != from) return;
            const lasted = opened && Date.now() - opened;
            if (lasted >= steady) attempts = 0;
            reconnect ||= code == 4401 && renews;
            link = null;
            from.end?.();
            clearTimeout(renewal);
            requests.forEach(({sent, finish}) => (sent || !reconnect) && finish(isLost()));
            // What has worked gets more chances: it is rather the server that is away.
            if (opened) {
                failures = 0;
                at = Math.max(best, 0);
            } else if (++failures >= (at == best ? 5 : 2)) {
                failures = 0;
                at = (at + 1) % names.length;
            }
            opened = 0;
            told = after_ms;
            self.state = reconnect ? "waiting" : "closed";
            const delay = told || Math.random() * Math.min(lastDelay, firstDelay * 2 ** attempts++);
            clearTimeout(timer);
            if (reconnect) arm(dial, delay);
            else listen("removeEventListener");
            emit("close", {code, reason, reconnect, after_ms: delay});
        };

        const dial = async () => {
            const here = (link = {
                name: names[at],
                lose: (why) => down(here, 1006, why),
                take(message) {
                    if (link != here) return;
                    heard = Date.now();
                    take(message, here);
                },
            });
            self.state = "connecting";
            arm(() => here.lose("no welcome"), timeout);
            try {
                here.token = renews ? await token() : token;
                if (link == here) await connections[here.name](here);
                here.lose("ended");
            } catch (error) {
                down(here, error.code, error.message, error);
            }
        };

        // The promise ends with the connection.
        const connections = {
            websocket: (here) =>
                new Promise((_, reject) => {
                    const socket = new WebSocket(
                        url.replace("http", "ws"),
                        ["belfry.v1.json"].concat(here.token ? "belfry.token." + here.token : []),
                    );
                    here.send = (message) => socket.send(JSON.stringify(message));
                    here.end = () => socket.close();
                    here.test = () => ask("ping").catch(({code}) => code == 408 && here.lose("silent"));
                    socket.onmessage = (event) => here.take(JSON.parse(event.data));
                    socket.onclose = (event) => reject(new Failure(event.code, event.reason));
                }),

            // Not EventSource, which sends no token and tells no status.
            async sse(here) {
                const response = await plain(here)("", "text/event-stream");
                const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
                for (let rest = ""; ; ) {
                    const {done, value} = await reader.read();
                    if (done) return;
                    here.take({}); // comments are a sign of life
                    const lines = (rest + value).split("\n");
                    rest = lines.pop();
                    for (const line of lines) if (/^data:/.test(line)) here.take(JSON.parse(line.slice(5)));
                }
            },

            async poll(here) {
                const get = plain(here);
                for (let cursor = ""; ; ) {
                    const response = await get("transport=poll" + cursor);
                    const batch = await response.json();
                    cursor = "&cursor=" + encodeURIComponent(batch.cursor);
                    here.take({});
                    batch.messages.forEach(here.take);
                }
            },
        };

        // The two that are plain HTTP: GET is returned, requests go by POST.
        const plain = (here) => {
            const abort = new AbortController();
            const request = (target, headers, init) => {
                if (here.token) headers.Authorization = "Bearer " + here.token;
                const credentials = options.withCredentials ? "include" : undefined;
                return fetch(target, {...init, headers, credentials, signal: abort.signal});
            };
            let before;
            const post = async (message, previous) => {
                await previous;
                const headers = {"Content-Type": "application/json", "Belfry-Connection": here.key};
                const response = await request(url, headers, {method: "POST", body: JSON.stringify(message)});
                const answer = await response.json().catch(() => ({}));
                if (answer.type) here.take(answer);
                else if (response.status == 404) here.lose("forgotten");
                else requests.get(message.id)?.finish(new Failure(response.status, answer.error?.message));
            };
            here.end = () => abort.abort();
            here.send = (message) => {
                const done = post(message, before).catch(() => here.lose("request lost"));
                if (message.type != "call") before = done; // a join is through before the publish behind it
            };
            here.test = () => here.lose("silent"); // a stream may be dead while requests get through
            return async (query, Accept = "application/json") => {
                const response = await request(url + (query && (/\?/.test(url) ? "&" : "?")) + query, {Accept});
                if (response.ok) return response;
                const error = new Failure(response.status, "refused");
                error.after_ms = response.headers.get("Retry-After") * 1000;
                throw error;
            };
        };

        // ---- what comes

        const expect = (seconds) => {
            clearTimeout(renewal);
            if (!seconds || !renews) return;
            const here = link;
            const renew = async () => {
                try {
                    const fresh = await token();
                    if (link != here) return;
                    expect((await ask("auth", {token: fresh})).expires_in);
                    here.token = fresh;
                } catch (error) {
                    emit("error", error); // and when the old one has run out, the server says so
                }
            };
            renewal = setTimeout(renew, Math.min(timerMax, seconds * 800));
        };

        // Something is due at least every `ping` ms, be it a comment, or every 25 s: a poll's answer. 0: nothing is.
        const watch = (ping, here) => {
            if (ping && heard + ping + silence < Date.now()) here.test();
            if (link == here) arm(() => watch(ping, here), silence / 3);
        };

        const open = (welcome, here) => {
            opened = heard;
            if (best < 0 || at < best) best = at;
            try {
                sessionStorage.setItem(storage, best ? names[best] : ""); // the first needs no remembering
            } catch {}
            Object.assign(self, {state: "open", transport: here.name, conn: welcome.conn, user: welcome.user});
            here.key = welcome.connection;
            watch(welcome.ping * 1000, here);
            expect(welcome.expires_in);
            const there = welcome.rooms;
            // Into the rooms that the server has put us into again only for what was missed there.
            rooms.forEach(({enter, wanted}, room) => (wanted || there[room] ? enter() : rooms.delete(room)));
            for (const room in there) rooms.has(room) || makeRoom(room, there[room].epoch && there[room], true);
            requests.forEach(send);
            emit("open", welcome);
        };

        const take = (message, here) => {
            const {type, id} = message;
            const room = rooms.get(message.room);
            const error = type == "error" && new Failure(message.code, message.message);
            if (type == "welcome") open(message, here);
            else if (id) requests.get(id)?.finish(error, message);
            else if (type == "message" && room) room.take(message);
            else if (type) {
                if (type == "removed") rooms.delete(message.room);
                if (type == "gap") room?.release(); // what is missing there will not come
                emit(type, error || message, room?.handlers);
                if (type == "bye") down(here, message.code, message.reason, message);
            }
        };

        // ---- what pages call

        Object.assign(self, {
            state: "closed",
            on(type, listener) {
                const added = {[nameOf(type)]: listener};
                listeners.push(added);
                return () => (listeners = listeners.filter((other) => other != added));
            },
            connect() {
                if (self.state != "closed") return;
                listen("addEventListener");
                dial();
            },
            close() {
                if (self.state != "closed") down(link ||= {}, 1000, "closed", {reconnect: false});
            },
            join(name, handlers = {}) {
                const room = rooms.get(name) || makeRoom(name, handlers.since, handlers.since);
                room.handlers.push(handlers);
                if (!room.wanted && isOpen()) room.enter();
                room.wanted = true;
                return room.face;
            },
            leave: (name) => rooms.get(name)?.face.leave(),
            publish: (room, data, how) => ask("publish", {room, data, echo: how?.echo}, how?.timeout),
            call: async (method, data, how) => (await ask("call", {method, data}, how?.timeout)).data,
            members: async (room, how) => (await ask("members", {room}, how?.timeout)).members,
        });

        try {
            best = names.indexOf(sessionStorage.getItem(storage));
        } catch {} // no storage here: what worked is forgotten with the page
        at = Math.max(best, 0);
        self.connect();
    }
}
