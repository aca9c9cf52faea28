"""The demo's backend: what an application behind Belfry would be. It serves the chat page over http and https, and
POST /say publishes to a room through Belfry's control API. Each request has a thread of its own.
"""

import http.client
import http.server
import json
import socket
import ssl
import threading
import urllib.parse
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "page"
FILES = {
    "/": ("chat.html", "text/html; charset=utf-8"),
    "/chat.css": ("chat.css", "text/css; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' ws: wss:; "
    "frame-ancestors 'none'"
)
BODY_MAX = 16384
SECONDS = 10


class ControlConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=SECONDS)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def control_request(path, method, target, body=None):
    """(status, answer): JSON where the answer is that, else bytes."""
    connection = ControlConnection(path)
    try:
        connection.request(method, target, body=body)
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(content) if is_json else content
    finally:
        connection.close()


def publish(control, room, data):
    """One publish, as any backend would do it: the body goes to the room as it is."""
    target = "/v1/rooms/" + urllib.parse.quote(room, safe="")
    return control_request(control, "POST", target, json.dumps(data).encode())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SECONDS

    def log_message(self, *arguments):
        pass

    def answer(self, status, content_type, content):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(content)

    def answer_json(self, status, value):
        self.answer(status, "application/json", json.dumps(value).encode())

    def refuse(self, status, message):
        self.close_connection = True  # a body may still be on its way
        self.answer_json(status, {"error": {"code": status, "message": message}})

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

    def do_GET(self):
        if not self.is_ours():
            return
        if self.path == "/ports":  # of Belfry, for the page
            self.answer_json(200, self.server.backend.ports)
        elif self.path in FILES:
            name, content_type = FILES[self.path]
            self.answer(200, content_type, (PAGE / name).read_bytes())
        else:
            self.refuse(404, "no such page")

    def do_POST(self):
        if not self.is_ours():
            return
        size = self.headers.get("Content-Length", "")
        if self.path != "/say":
            return self.refuse(404, "no such page")
        if not size.isdecimal() or int(size) > BODY_MAX:
            return self.refuse(413, f"a body of {BODY_MAX} bytes at most")
        try:
            request = json.loads(self.rfile.read(int(size)))
            room, text = str(request["room"]), str(request["text"])
        except (ValueError, KeyError, TypeError):
            return self.refuse(400, 'send {"room":"...","text":"..."}')
        try:
            self.answer_json(*publish(self.server.backend.control, room, {"name": "backend", "text": text}))
        except (OSError, http.client.HTTPException):
            self.refuse(502, "Belfry's control API does not answer")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a browser keeps connections open

    def handle_error(self, request, client_address):
        pass  # a browser that does not like the certificate hangs up; that is no news


class Backend:
    """Two servers on free ports of 127.0.0.1. `ports`: of Belfry's listeners, for the page: plain and secure."""

    def __init__(self, control, ports, certificate, key):
        self.control, self.ports = control, ports
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.servers = [Server(("127.0.0.1", 0), Handler) for _ in range(2)]
        secure = self.servers[1]
        # The handshake comes with the first read, on the request's thread: who begins one and stops holds up nobody.
        secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
        self.http_port, self.https_port = (server.server_port for server in self.servers)

    def __enter__(self):
        for server in self.servers:
            server.backend = self
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        for server in self.servers:
            server.shutdown()
            server.server_close()
