"""A chat behind Belfry, in Flask (python3-flask): flask --app app run -p 8000; belfry -c ../belfry.ini; open port 8080."""
import base64, hmac, os, time

from flask import Flask, abort, jsonify, redirect, request, session

SECRET = os.environ["HOOK_SECRET"]
app = Flask(__name__)
app.secret_key = "login " + SECRET  # signs the login cookie
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
LOGIN = "<!doctype html><title>Chat</title><form method=post>Name <input name=name pattern='[A-Za-z0-9]+' required>"
PAGE = """<!doctype html><meta charset=utf-8><title>Chat</title><ul id=list></ul><form id=talk><input id=text>
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
</script>"""

@app.route("/")
def page():
    return PAGE if "user" in session else redirect("/login")

@app.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "GET" or not (request.form["name"].isalnum() and len(request.form["name"]) <= 32):
        return LOGIN
    session["user"] = request.form["name"]
    return redirect("/")

@app.post("/say")
def say():  # the answer is broadcast, too
    if "user" not in session:
        abort(401)
    return {"text": request.form["text"]}, {"Belfry-Publish": "chat:lobby"}

@app.post("/belfry")
def hook():
    head, key = request.headers, base64.b64decode(SECRET.removeprefix("whsec_"))
    sent = head.get("webhook-timestamp", "")
    signed = f"{head.get('webhook-id')}.{sent}.".encode() + request.get_data()
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    if not hmac.compare_digest(head.get("webhook-signature", "").encode(), expected) or abs(time.time() - int(sent)) > 300:
        abort(403)
    event = request.get_json()
    if event["event"] == "connect":  # with the browser's own cookies
        return jsonify(user=session["user"], rooms=["chat:lobby"]) if "user" in session else abort(401)
    if event["event"] == "join" and event["room"] == "chat:staff" and event["user"] != "admin":
        return jsonify(error={"code": 403, "message": "staff only"})
    if event["event"] == "call" and event["method"] == "whoami":
        return jsonify(data={"user": event["user"]})
    return jsonify(error={"code": 404, "message": "no such method"}) if event["event"] == "call" else ("", 204)
