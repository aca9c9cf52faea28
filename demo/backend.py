"""The demo's backend: an application that speaks plain HTTP and nothing else. Belfry stands in front of it, for the browser
on the same https port: requests are passed on, the WebSocket at /ws is Belfry's, and /belfry here takes Belfry's questions.

It holds no socket of a client. Who logs in gets a signed cookie; the `connect` hook reads it. POST /say is a form like any
other, whose answer says by its Belfry-Publish field to whom Belfry shall tell it. Each connection has a thread of its own.
"""

import base64
import hashlib
import hmac
import http.cookies
import http.server
import json
import random
import re
import secrets
import threading
import time
import urllib.parse
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "page"
FILES = {
    "/": ("chat.html", "text/html; charset=utf-8"),
    "/login": ("login.html", "text/html; charset=utf-8"),
    "/chat.css": ("chat.css", "text/css; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
COOKIE = "demo_login"
NAME = re.compile(r"[\w.-]{1,32}")  # a user's; it becomes a part of room names, which hold no white space
ROOM = re.compile(r"chat:[\w.-]{1,64}")
LOBBY = "chat:lobby"
BODY_MAX = 1 << 20  # a batch of notifications is the largest
IDLE_SECONDS = 75  # above the upstream's keepalive_timeout: else a connection may end under a request
SIGNATURE_SECONDS = 300  # that a hook call may be old


def sign(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


class Application:
    """What the requests share. `secret` is the route's hook_secret: whsec_ and base64."""

    def __init__(self, secret):
        self.hook_key = base64.b64decode(secret.removeprefix("whsec_"))
        self.cookie_key = secrets.token_bytes(32)
        self.lock = threading.Lock()
        self.users = {}  # of each connection that Belfry told of
        self.rooms = set()  # that somebody is in

    def cookie_of(self, user):
        name = base64.urlsafe_b64encode(user.encode()).decode()
        return f"{name}.{sign(self.cookie_key, name.encode()).hex()}"

    def user_of(self, cookies):
        """Who logged in with these Cookie fields; None: nobody."""
        try:
            value = http.cookies.SimpleCookie(cookies)[COOKIE].value
            name, _, signature = value.rpartition(".")
            if hmac.compare_digest(signature.encode(), sign(self.cookie_key, name.encode()).hex().encode()):
                return base64.urlsafe_b64decode(name).decode()
        except (KeyError, ValueError, http.cookies.CookieError):
            pass
        return None

    def is_from_belfry(self, headers, body):
        """The Standard Webhooks signature. Belfry lets no visitor through to a hook's path, but who reaches this port by another
        way could say anything."""
        stamp = headers.get("webhook-timestamp", "")
        if not stamp.isdecimal() or abs(time.time() - int(stamp)) > SIGNATURE_SECONDS:
            return False
        signed = f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body
        expected = "v1," + base64.b64encode(sign(self.hook_key, signed)).decode()
        given = headers.get("webhook-signature", "").split()
        return any(hmac.compare_digest(expected.encode(), one.encode()) for one in given)

    # The hooks: (status, answer).

    def hook(self, event, cookies):
        kind = event.get("event")
        if kind == "connect":
            user = self.user_of(cookies)
            if user is None:
                return 401, {"error": {"code": 401, "message": "log in first"}}
            return 200, {"user": user, "info": {"since": int(time.time())}, "state": {"rolls": 0}, "rooms": [LOBBY]}
        if kind == "call":
            return 200, self.call(event)
        if kind == "notify":
            self.notified(event["events"])
        return 204, None

    def call(self, event):
        method, data, state = event["method"], event.get("data"), event.get("state", {})
        if method == "whoami":
            return {"data": {"user": event["user"], "conn": event["conn"], **state}}
        if method == "who":
            with self.lock:
                return {"data": {"users": sorted(set(self.users.values())), "rooms": sorted(self.rooms)}}
        if method == "roll":
            room = data.get("room") if isinstance(data, dict) else None
            if not isinstance(room, str) or not ROOM.fullmatch(room):
                return {"error": {"code": 400, "message": "in which room?"}}
            dice, rolls = random.randint(1, 6), state.get("rolls", 0) + 1
            said = {"name": "dice", "text": f"{event['user']} rolled {dice}"}
            # Belfry keeps the state and brings it along: a backend of many processes needs no memory for it.
            command = {"op": "publish", "room": room, "data": said}
            return {"data": {"dice": dice}, "state": {"rolls": rolls}, "commands": [command]}
        return {"error": {"code": 404, "message": "no such method"}}

    def notified(self, events):
        """Told at least once, so that hearing it twice must do no harm."""
        with self.lock:
            for event in events:
                kind = event["type"]
                if kind == "connected":
                    self.users[event["conn"]] = event.get("user", "")
                elif kind == "disconnected":
                    self.users.pop(event["conn"], None)
                elif kind == "occupied" and ROOM.fullmatch(event["room"]):
                    self.rooms.add(event["room"])
                elif kind == "vacated":
                    self.rooms.discard(event["room"])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    wbufsize = -1  # head and body in one write
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    @property
    def application(self):
        return self.server.application

    def answer(self, status, content_type, content, fields=()):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", POLICY)
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def answer_json(self, status, value, fields=()):
        self.answer(status, "application/json", b"" if value is None else json.dumps(value).encode(), fields)

    def refuse(self, status, message):
        self.close_connection = True  # a body may still be on its way
        self.answer_json(status, {"error": {"code": status, "message": message}}, [("Connection", "close")])

    def redirect(self, target, cookie=None):
        self.answer(303, "text/plain", b"", [("Location", target), *([("Set-Cookie", cookie)] if cookie else [])])

    def login_cookie(self, value, age):
        secure = "; Secure" if self.headers.get("X-Forwarded-Proto") == "https" else ""
        return f"{COOKIE}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"

    def is_ours(self):
        """False, and refused, where another site's page asks: by a name that it points at this address (Host), or from its
        own (Origin)."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if host.rsplit(":", 1)[0] not in ("127.0.0.1", "localhost"):
            self.refuse(421, "this is 127.0.0.1")
        elif origin is not None and urllib.parse.urlsplit(origin).netloc != host:
            self.refuse(403, "not from another site")
        else:
            return True
        return False

    def user(self):
        return self.application.user_of(self.headers.get("Cookie", ""))

    def do_GET(self):
        if not self.is_ours():
            return
        path = self.path.partition("?")[0]
        if path not in FILES:
            self.refuse(404, "no such page")
        elif path == "/" and self.user() is None:
            self.redirect("/login")
        else:
            name, content_type = FILES[path]
            self.answer(200, content_type, (PAGE / name).read_bytes())

    def do_POST(self):
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > BODY_MAX:
            return self.refuse(413, f"a body of {BODY_MAX} bytes at most")
        body = self.rfile.read(int(size))
        if self.path == "/belfry":
            return self.take_hook(body)  # Host is the upstream's there, and the signature says more
        if not self.is_ours():
            return
        if self.path == "/login":
            self.log_in(body)
        elif self.path == "/logout":
            self.redirect("/login", self.login_cookie("", 0))
        elif self.path == "/say":
            self.say(body)
        else:
            self.refuse(404, "no such page")

    def log_in(self, body):
        name = urllib.parse.parse_qs(body.decode("utf-8", "replace")).get("name", [""])[0]
        if not NAME.fullmatch(name):
            return self.refuse(400, "a name of 1 to 32 letters, digits and ._-")
        self.redirect("/", self.login_cookie(self.application.cookie_of(name), 86400))

    def say(self, body):
        """Published by the answer: Belfry reads the field, broadcasts the body to that room, and passes on all but the field."""
        if self.user() is None:
            return self.refuse(401, "log in first")
        try:
            request = json.loads(body)
            room, text = str(request["room"]), str(request["text"])
        except (ValueError, KeyError, TypeError):
            return self.refuse(400, 'send {"room":"...","text":"..."}')
        if not ROOM.fullmatch(room):
            return self.refuse(400, "no such room")
        # send_header writes Latin-1; a room's name is UTF-8.
        self.answer_json(200, {"name": "backend", "text": text}, [("Belfry-Publish", room.encode().decode("latin-1"))])

    def take_hook(self, body):
        if not self.application.is_from_belfry(self.headers, body):
            return self.refuse(403, "not signed by Belfry")
        self.answer_json(*self.application.hook(json.loads(body), self.headers.get("Cookie", "")))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # Belfry keeps connections open


class Backend:
    """The application on a free port of 127.0.0.1."""

    def __init__(self, secret):
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.application = Application(secret)
        self.port = self.server.server_port

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()
