// The chat page: one WebSocket with Belfry's JSON protocol, one room, reconnecting with back-off. Who we are, the backend has
// told Belfry by our login's cookie.
// What others write gets onto the page by textContent alone, so nobody's message is HTML.
"use strict";

const element = (id) => document.getElementById(id);
const first_delay = 500, last_delay = 15000; // ms
const messages_max = 500;

let socket = null;     // the WebSocket, while one is open or opening
let own_id = "";       // our connection's id, of the welcome
let wanted = "chat:lobby"; // the room that we are in, or want to be in when connected
let joined = false;
let request = 0;       // id of the last request
let join_request = 0;  // id of the join that waits for its ok
const calls = new Map(); // request id -> what takes the answer's data
let failures = 0;      // in a row
let announced = null;  // ms after which the server asked us to come back

function show_state(state, text) {
    element("state").dataset.state = state;
    element("state").textContent = text || state;
    const usable = state === "connected" && joined;
    for (const id of ["text", "send", "ask", "roll"]) element(id).disabled = !usable;
}

function append(line) {
    const list = element("messages");
    const at_end = list.scrollTop + list.clientHeight >= list.scrollHeight - 40;
    list.append(line);
    while (list.childElementCount > messages_max) list.firstElementChild.remove();
    if (at_end) list.scrollTop = list.scrollHeight;
}

function note(text) {
    const line = document.createElement("li");
    line.className = "note";
    line.textContent = text;
    append(line);
}

function show_message(message) {
    const data = message.data;
    const is_object = typeof data === "object" && data !== null;
    const text = is_object && "text" in data ? data.text : data;
    const from = message.from; // by Belfry: nobody can make it up
    const mine = from && from.conn === own_id;
    const line = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = from ? from.user || from.conn : is_object && data.name ? String(data.name) : "backend";
    if (mine) name.textContent += " (you)";
    line.append(name, " ", typeof text === "string" ? text : JSON.stringify(text));
    append(line);
}

// ---- the protocol ----

function send(object) {
    if (!socket || socket.readyState !== WebSocket.OPEN) return 0;
    socket.send(JSON.stringify({...object, id: ++request}));
    return request;
}

function join(room) {
    if (joined && room !== wanted) send({type: "leave", room: wanted});
    joined = false;
    wanted = room;
    join_request = send({type: "join", room});
    if (join_request) show_state("connected", "joining " + room);
}

function entered() {
    joined = true;
    show_state("connected", "connected, in " + wanted);
    note("joined " + wanted);
}

function call(method, data, take) {
    const id = send({type: "call", method, data});
    if (id) calls.set(id, take);
}

const handlers = {
    welcome(message) {
        own_id = message.conn;
        element("user").textContent = message.user;
        failures = 0;
        show_state("connected");
        for (const room in message.rooms) { // where the backend has put us
            if (room !== wanted) send({type: "leave", room});
        }
        if (wanted in message.rooms) entered();
        else join(wanted);
    },
    ok(message) {
        const take = calls.get(message.id);
        calls.delete(message.id);
        if (take) take(message.data);
        if (message.id === join_request) entered();
    },
    message: show_message,
    error(message) {
        calls.delete(message.id);
        if (message.id === join_request) show_state("connected");
        note("error " + message.code + ": " + message.message);
    },
    gap(message) { note("something in " + message.room + " may have been missed"); },
    removed(message) {
        if (message.room === wanted) joined = false;
        note("removed from " + message.room + ": " + message.reason);
        show_state("connected");
    },
    bye(message) {
        note("the server says goodbye: " + message.reason);
        announced = message.reconnect ? message.after_ms : null;
    },
};

// ---- the connection ----

function closed(event) {
    socket = null;
    joined = false;
    calls.clear();
    failures++;
    // Full jitter, so that a thousand pages do not come back in the same moment.
    const longest = Math.min(last_delay, first_delay * 2 ** (failures - 1));
    const delay = announced !== null ? announced : longest / 2 + Math.random() * longest / 2;
    announced = null;
    show_state("waiting", "disconnected (" + event.code + "), next try in " + (delay / 1000).toFixed(1) + " s");
    setTimeout(connect, delay);
}

function connect() {
    show_state("connecting");
    socket = new WebSocket(location.origin.replace("http", "ws") + "/ws", "belfry.v1.json");
    socket.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (message.type in handlers) handlers[message.type](message);
    };
    socket.onclose = closed;
}

// ---- what the visitor does ----

element("join").onsubmit = (event) => {
    event.preventDefault();
    join("chat:" + element("room").value);
};

element("say").onsubmit = (event) => {
    event.preventDefault();
    send({type: "publish", room: wanted, data: {text: element("text").value}});
    element("text").value = "";
};

element("ask").onclick = async () => {
    const text = element("text").value;
    if (!text) return;
    element("text").value = "";
    try {
        const answer = await fetch("/say", {method: "POST", body: JSON.stringify({room: wanted, text})});
        if (!answer.ok) note("the backend answered " + answer.status);
    } catch {
        note("the backend does not answer");
    }
};

element("roll").onclick = () => call("roll", {room: wanted}, (data) => note("your dice show " + data.dice));

element("who").onclick = () => call("who", null, (data) => {
    note("online: " + data.users.join(", ") + "; rooms: " + data.rooms.join(", "));
    const options = data.rooms.filter((room) => room.startsWith("chat:")).map((room) => new Option(room.slice(5)));
    element("rooms").replaceChildren(...options);
});

connect();
