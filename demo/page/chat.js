// The chat page: one connection by Belfry's browser client, which Belfry serves itself; one room. Who we are, the backend
// has told Belfry by our login's cookie. ?transport=sse or ?transport=poll in the page's address: without WebSocket.
// What others write gets onto the page by textContent alone, so nobody's message is HTML.
import {Belfry} from "/ws/belfry.js";

const element = (id) => document.getElementById(id);
const messages_max = 500;
const transport = new URLSearchParams(location.search).get("transport");

let room = null; // that we are in, or want to be in

function show_state(state, text) {
    element("state").dataset.state = state;
    element("state").textContent = text || state;
    for (const id of ["text", "send", "ask", "roll"]) element(id).disabled = !text?.startsWith("connected, in");
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
    const mine = from && from.user === belfry.user;
    const line = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = from ? from.user || from.conn : is_object && data.name ? String(data.name) : "backend";
    if (mine) name.textContent += " (you)";
    line.append(name, " ", typeof text === "string" ? text : JSON.stringify(text));
    append(line);
}

// ---- the connection ----

const belfry = new Belfry("/ws", {
    transports: transport ? [transport] : undefined,
    onOpen(welcome) {
        element("user").textContent = welcome.user;
        for (const name in welcome.rooms) if (name !== room?.name) belfry.leave(name); // where the backend has put us
    },
    onClose({code, reconnect, after_ms}) {
        const next = reconnect ? `, next try in ${(after_ms / 1000).toFixed(1)} s` : "";
        show_state("waiting", `disconnected (${code})${next}`);
    },
    onBye: (bye) => note("the server says goodbye: " + bye.reason),
    onError: failed,
});

// A reload shows again what was said since this tab came into the room: from there on it is in the room's history.
function join(name) {
    const storage = "since " + name;
    room?.leave();
    if (belfry.state === "open") show_state("connected", "joining " + name);
    room = belfry.join(name, {
        since: JSON.parse(sessionStorage.getItem(storage)),
        onJoin(position) {
            if (position.epoch && !sessionStorage.getItem(storage))
                sessionStorage.setItem(storage, JSON.stringify({epoch: position.epoch, offset: position.offset}));
            note("joined " + name);
            show_state("connected", "connected, in " + name);
        },
        onMessage: show_message,
        onGap() {
            note(`something in ${name} may have been missed`);
            sessionStorage.removeItem(storage);
        },
        onRemoved: ({reason}) => {
            note(`removed from ${name}: ${reason}`);
            show_state("connected");
        },
    });
}

function failed(error) {
    note(`error ${error.code}: ${error.message}`);
}

// ---- what the visitor does ----

element("join").onsubmit = (event) => {
    event.preventDefault();
    join("chat:" + element("room").value);
};

element("say").onsubmit = (event) => {
    event.preventDefault();
    room.publish({text: element("text").value}).catch(failed);
    element("text").value = "";
};

element("ask").onclick = async () => {
    const text = element("text").value;
    if (!text) return;
    element("text").value = "";
    try {
        const answer = await fetch("/say", {method: "POST", body: JSON.stringify({room: room.name, text})});
        if (!answer.ok) note("the backend answered " + answer.status);
    } catch {
        note("the backend does not answer");
    }
};

element("roll").onclick = () => {
    belfry.call("roll", {room: room.name}).then((data) => note("your dice show " + data.dice), failed);
};

element("who").onclick = async () => {
    const data = await belfry.call("who").catch(failed);
    if (!data) return;
    note("online: " + data.users.join(", ") + "; rooms: " + data.rooms.join(", "));
    const options = data.rooms.filter((name) => name.startsWith("chat:")).map((name) => new Option(name.slice(5)));
    element("rooms").replaceChildren(...options);
};

join("chat:lobby");
