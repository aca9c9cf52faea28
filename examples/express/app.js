// A chat behind Belfry, in Express (node-express, or npm install express): node app.js; belfry -c ../belfry.ini; open port 8080.
const crypto = require("crypto"), express = require("express");
const secret = process.env.HOOK_SECRET, app = express();
const hmac = (key, text) => crypto.createHmac("sha256", key).update(text).digest("base64");
const same = (a, b) => hmac(secret, String(a)) === hmac(secret, String(b)); // tells nothing by its time
const login = "<!doctype html><title>Chat</title><form method=post>Name <input name=name pattern='[A-Za-z0-9]+' required>";
const page = `<!doctype html><meta charset=utf-8><title>Chat</title><ul id=list></ul><form id=talk><input id=text>
<button>Say</button> <button type=button id=news>Server, say it</button> <button type=button id=who>Who am I?</button></form>
<script>
const ws = new WebSocket(location.origin.replace("http", "ws") + "/ws", "belfry.v1.json"), room = "chat:lobby";
const show = (line) => list.appendChild(document.createElement("li")).textContent = line;
ws.onmessage = (event) => {
    const m = JSON.parse(event.data);
    if (m.type === "message") show((m.from ? m.from.user : "server") + ": " + m.data.text);
    if (m.id === 2) show("you are " + m.data.user);
};
const send = (request) => ws.send(JSON.stringify(request));
talk.onsubmit = () => { send({type: "publish", room, data: {text: text.value}}); return false; };
news.onclick = () => fetch("/say", {method: "POST", body: new URLSearchParams({text: text.value})});
who.onclick = () => send({type: "call", id: 2, method: "whoami", data: null});
</script>`;

function user_of(request) { // the login cookie: NAME.SIGNATURE
    const [, name, signature] = /(?:^|; )user=(\w+)\.([^;]+)/.exec(request.headers.cookie || "") || [];
    return name && same(decodeURIComponent(signature), hmac("login " + secret, name)) ? name : null;
}

app.get("/", (request, response) => user_of(request) ? response.send(page) : response.redirect("/login"));
app.get("/login", (request, response) => response.send(login));
app.post("/login", express.urlencoded({extended: false}), (request, response) => {
    const name = String(request.body.name);
    if (!/^[A-Za-z0-9]{1,32}$/.test(name)) return response.status(400).send(login);
    response.cookie("user", name + "." + hmac("login " + secret, name), {httpOnly: true, sameSite: "lax"}).redirect("/");
});
app.post("/say", express.urlencoded({extended: false}), (request, response) => { // the answer is broadcast, too
    if (!user_of(request)) return response.sendStatus(401);
    response.set("Belfry-Publish", "chat:lobby").json({text: request.body.text});
});
app.post("/belfry", express.raw({type: "application/json"}), (request, response) => {
    const id = request.get("webhook-id"), time = request.get("webhook-timestamp");
    const expected = "v1," + hmac(Buffer.from(secret.replace("whsec_", ""), "base64"), `${id}.${time}.${request.body}`);
    const signed = same(request.get("webhook-signature"), expected) && Math.abs(Date.now() / 1000 - time) < 300;
    if (!signed) return response.sendStatus(403);
    const event = JSON.parse(request.body), user = user_of(request); // connect comes with the browser's own cookies
    if (event.event === "connect") return user ? response.json({user, rooms: ["chat:lobby"]}) : response.sendStatus(401);
    if (event.event === "join" && event.room === "chat:staff" && event.user !== "admin")
        return response.json({error: {code: 403, message: "staff only"}});
    if (event.event !== "call") return response.sendStatus(204);
    if (event.method === "whoami") return response.json({data: {user: event.user}});
    response.json({error: {code: 404, message: "no such method"}});
});
app.listen(Number(process.env.PORT || 8000), "127.0.0.1");
