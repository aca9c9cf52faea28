"""A backend that takes hook calls: checks every signature, keeps what it was asked, answers as the test says."""

import base64
import hashlib
import hmac
import http.server
import json
import socketserver
import threading
from dataclasses import dataclass

from belfry import wait_until

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@dataclass
class Call:
    event: str
    body: dict
    headers: dict
    backend: "HookBackend"


class HookBackend:
    """`answers` maps an event's name to what it is answered: None (204), a dict (200), (status, body) with a dict, text or
    bytes, or a function of the Call that returns one of these. Start it with `with` or start()."""

    def __init__(self, secret=SECRET, **answers):
        self.secret, self.answers = secret, answers
        self.calls, self.problems = [], []
        self.lock = threading.Lock()
        self.server = None
        self.port = 0

    # Life.

    def start(self):
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                backend.handle(self)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            request_queue_size = 64
            connections = set()

            def process_request(self, request, address):
                self.connections.add(request)
                super().process_request(request, address)

            def handle_error(self, request, address):
                pass  # a client that left before its answer

        Server.connections = set()
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def stop(self):
        """Refuses connections from here on; kept ones end."""
        if not self.server:
            return
        self.server.shutdown()
        self.server.server_close()
        for connection in self.server.connections:
            try:
                connection.shutdown(2)
            except OSError:
                pass
        self.server = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        assert not self.problems, self.problems

    # Calls.

    def check_signature(self, headers, body):
        content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        want = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(headers["webhook-signature"], want):
            raise AssertionError(f"signature {headers['webhook-signature']} of {body[:200]!r}")

    def handle(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        try:
            if self.secret:
                self.check_signature(headers, body)
            assert headers["content-type"] == "application/json", headers
            asked = json.loads(body)
        except Exception as e:  # told at the end, to the test
            self.problems.append(repr(e))
            raise
        call = Call(asked["event"], asked, headers, self)
        with self.lock:
            self.calls.append(call)
        answer = self.answers.get(call.event)
        if callable(answer):
            answer = answer(call)
        self.reply(handler, answer)

    def reply(self, handler, answer):
        status, content = answer if isinstance(answer, tuple) else (204 if answer is None else 200, answer)
        if isinstance(content, (dict, list)):
            content, kind = json.dumps(content).encode(), "application/json"
        else:
            content = content.encode() if isinstance(content, str) else content or b""
            kind = "text/plain"
        handler.send_response(status)
        if status != 204:
            handler.send_header("Content-Type", kind)
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    # What was asked.

    def of(self, event):
        with self.lock:
            return [call for call in self.calls if call.event == event]

    def wait_for(self, event, count=1):
        wait_until(lambda: len(self.of(event)) >= count, lambda: f"{event}: {len(self.of(event))} of {count} calls")
        return self.of(event)

    def events(self):
        """What notify calls have told, each event once (by its id), in order."""
        found = {}
        for call in self.of("notify"):
            for event in call.body["events"]:
                found.setdefault(event["id"], event)
        return list(found.values())

    def wait_events(self, count):
        wait_until(lambda: len(self.events()) >= count, lambda: f"{len(self.events())} of {count}: {self.events()}")
        return self.events()


ROOMS = """
[room open:*]
join = anyone
publish = anyone

[room ask:*]
join = backend
publish = backend

[room users:*]
join = user
publish = user
"""


def hook_config(*backends, route="", upstream="", more=ROOMS):
    """A daemon's configuration with the route /ws, whose hook these backends take in turns."""
    servers = "".join(f"server = 127.0.0.1:{b.port}\n" for b in backends)
    return f"""
[upstream app]
{servers}{upstream}
[route /ws]
mode = rooms
upstream = app
hook = /belfry
hook_secret = {SECRET}
origin = any
{route}
{more}
"""
