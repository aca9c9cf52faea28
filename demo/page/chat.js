// The chat page: one WebSocket with Belfry's JSON protocol, one room, reconnecting with back-off.
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
let failures = 0;      // in a row
let ever_open = false;
let announced = null;  // ms after which the server asked us to come back

function show_state(state, text) {
    element("state").dataset.state = state;
    element("state").textContent = text || state;
    const usable = state === "connected" && joined;
    for (const id of ["text", "send", "ask"]) element(id).disabled = !usable;
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
    const mine = message.from && message.from.conn === own_id;
    const line = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = is_object && data.name ? String(data.name) : message.from ? message.from.conn : "backend";
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

const handlers = {
    welcome(message) {
        own_id = message.conn;
        failures = 0;
        show_state("connected");
        join(wanted);
    },
    ok(message) {
        if (message.id !== join_request) return;
        joined = true;
        show_state("connected", "connected, in " + wanted);
        note("joined " + wanted);
    },
    message: show_message,
    error(message) {
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
    failures++;
    // Full jitter, so that a thousand pages do not come back in the same moment.
    const longest = Math.min(last_delay, first_delay * 2 ** (failures - 1));
    const delay = announced !== null ? announced : longest / 2 + Math.random() * longest / 2;
    announced = null;
    show_state("waiting", "disconnected (" + event.code + "), next try in " + (delay / 1000).toFixed(1) + " s");
    if (!ever_open && failures >= 2 && event.target.url.startsWith("wss:")) show_certificate_hint(event.target.url);
    setTimeout(connect, delay);
}

// Firefox asks for each port: the page's certificate was accepted, the WebSocket's was not.
function show_certificate_hint(url) {
    const link = document.createElement("a");
    link.href = url.replace("wss:", "https:");
    link.target = "_blank";
    link.textContent = link.href;
    element("hint").replaceChildren("If this does not connect, open ", link, " once and accept its certificate too.");
    element("hint").hidden = false;
}

async function address() {
    const ports = await (await fetch("/ports")).json();
    const secure = location.protocol === "https:";
    return (secure ? "wss://" : "ws://") + location.hostname + ":" + (secure ? ports.secure : ports.plain) + "/ws";
}

let url = null;

function connect() {
    show_state("connecting");
    socket = new WebSocket(url, "belfry.v1.json");
    socket.onopen = () => {
        ever_open = true;
        element("hint").hidden = true;
    };
    socket.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (message.type in handlers) handlers[message.type](message);
    };
    socket.onclose = closed;
}

// ---- what the visitor does ----

element("name").value = "guest " + Math.floor(Math.random() * 1000);

element("join").onsubmit = (event) => {
    event.preventDefault();
    join("chat:" + element("room").value);
};

element("say").onsubmit = (event) => {
    event.preventDefault();
    send({type: "publish", room: wanted, data: {name: element("name").value, text: element("text").value}});
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

address().then((found) => {
    url = found;
    connect();
}, () => show_state("waiting", "the demo's backend does not answer: reload the page"));
