"""conf/nginx/belfry.conf with the real nginx in front of the real daemon, and conf/haproxy/belfry.cfg with HAProxy.

The files are used as they are, but for addresses, and for time-outs where a test would have to wait for them.
"""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

import sse
import ws

from belfry import Belfry, run_daemon, wait_until
from nginx import nginx_command
from redis_server import free_port

SNIPPET = Path(__file__).resolve().parents[2] / "conf/nginx/belfry.conf"
HAPROXY = Path(__file__).resolve().parents[2] / "conf/haproxy/belfry.cfg"
TOKEN = "a-token-for-tests"
CONFIG = """
[listener public]
listen = 127.0.0.1:0
trusted_proxies = 127.0.0.1/32

[listener distrustful]
listen = 127.0.0.1:0

[route /ws]
poll_wait = 500ms

[route /ws/pinged]
ping_interval = 300ms
pong_timeout = 1500ms

[route /ws/silent]
ping_interval = 0

[room chat:*]
join = anyone
publish = members
history = 10

[control]
listen = 127.0.0.1:0
token = a-token-for-tests
"""
SHORT = "3s"  # the time-out of nginx that is not waited for by default
CLIENT = "127.0.0.7"  # clients come from there, so that they are not taken for the proxy


def replaced(text, old, new):
    assert old in text, f"{old!r} is not in the file any more"
    return text.replace(old, new)


class Front:
    """A proxy in front of one listener."""

    def __init__(self, directory, command, port):
        self.directory, self.address = directory, ("127.0.0.1", port)
        environment = dict(os.environ, BELFRY_CONTROL_TOKEN=TOKEN)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        wait_until(self.answers, lambda: f"for {command}: {self.process.stderr.read() if self.process.poll() else ''}")

    def answers(self):
        try:
            socket.create_connection(self.address, timeout=1).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.communicate(timeout=ws.TIMEOUT)


def start_nginx(directory, listener, read_timeout=None):
    directory.mkdir()
    port = free_port()
    host, belfry_port = listener
    text = replaced(SNIPPET.read_text(), "server 127.0.0.1:8080;", f"server {host}:{belfry_port};")
    text = replaced(text, "listen 80;", f"listen 127.0.0.1:{port};")
    if read_timeout:
        text = replaced(text, "proxy_read_timeout 60s;", f"proxy_read_timeout {read_timeout};")
    (directory / "belfry.conf").write_text(text)
    return Front(directory, nginx_command(directory, f"include {directory}/belfry.conf;"), port)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    daemon = Belfry(tmp_path_factory.mktemp("front") / "belfry", CONFIG).start()
    yield daemon
    daemon.check_log()
    daemon.stop()


@pytest.fixture(scope="module")
def nginx(server, tmp_path_factory):
    front = start_nginx(tmp_path_factory.mktemp("nginx") / "n", server.address())
    yield front
    front.stop()


class Client(ws.Client):
    """Comes from an address of its own."""

    def __init__(self, address):
        super().__init__(address)
        self.socket.close()  # another one takes its place
        self.socket = socket.create_connection(address, self.timeout, source_address=(CLIENT, 0))


def open_json(front, target="/ws", **options):
    client = Client(front.address).open(target, protocols=("belfry.v1.json",), **options)
    client.welcome = client.receive_json()
    assert client.welcome["type"] == "welcome"
    return client


def entry_of(server, client):
    """What the daemon knows of it."""
    (found,) = [c for c in server.get("/v1/connections")["connections"] if c["conn"] == client.welcome["conn"]]
    return found


def join(client, room):
    client.send_json({"type": "join", "id": 1, "room": room})
    answer = client.receive_json()
    assert answer["type"] == "ok", answer


def test_websocket(server, nginx):
    client = open_json(nginx)
    join(client, "chat:ws")
    client.send_json({"type": "publish", "id": 2, "room": "chat:ws", "data": "x" * 50000})
    answers = [client.receive_json(), client.receive_json()]
    assert {a["type"] for a in answers} == {"ok", "message"}
    client.finish()


def test_address_of_client(server, nginx):
    """nginx's own element of X-Forwarded-For counts; what the client itself wrote does not."""
    client = open_json(nginx, add=[("X-Forwarded-For", "203.0.113.9")])
    assert entry_of(server, client)["ip"] == CLIENT
    client.finish()


def test_without_trusted_proxies_all_are_nginx(server, tmp_path):
    front = start_nginx(tmp_path / "nginx", server.address("distrustful"))
    try:
        client = open_json(front)
        assert entry_of(server, client)["ip"] == "127.0.0.1"
        client.finish()
    finally:
        front.stop()


@pytest.mark.parametrize("own", [True, False])
def test_origin(server, nginx, own):
    """`origin = same` sees the name and port that the browser used, and not Belfry's own."""
    host = f"chat.example.org:{nginx.address[1]}"
    client = Client(nginx.address)
    origin = f"http://{host}" if own else f"http://{server.address()[0]}:{server.address()[1]}"
    client.send(ws.request_head("/ws", host=host, add=[("Origin", origin)]))
    assert client.read_answer().status == (101 if own else 403)
    client.drop()


class Events:
    """A stream of events whose bytes come in the chunks that nginx makes of them."""

    def __init__(self, address, target):
        self.connection = http.client.HTTPConnection(*address, timeout=ws.TIMEOUT)
        self.connection.request("GET", target, headers={"Accept": "text/event-stream"})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200

    def json(self):
        while not (line := self.answer.readline()).startswith(b"data: "):
            assert line, "the stream ended"
        return json.loads(line[len(b"data: ") :])

    def drop(self):
        self.connection.close()


def test_events_come_at_once(server, nginx):
    reader = Events(nginx.address, "/ws?room=chat:sse")
    connection = reader.json()["connection"]
    for n in range(3):  # each is read before the next one is published
        server.publish("chat:sse", json.dumps(n))
        assert reader.json()["data"] == n
    carrier = sse.Carrier(nginx.address, "/ws")
    answer = carrier.post(connection, {"type": "publish", "id": 1, "room": "chat:sse", "data": "by POST"})
    assert answer.status == 200 and json.loads(answer.body)["type"] == "ok"
    assert reader.json()["data"] == "by POST"
    carrier.drop()
    reader.drop()


def test_long_poll_waits(server, nginx):
    carrier = sse.Carrier(nginx.address, "/ws?transport=poll")
    first = json.loads(carrier.ask("GET", "/ws?transport=poll&room=chat:poll").body)
    empty = json.loads(carrier.ask("GET", f"/ws?transport=poll&cursor={first['cursor']}").body)
    assert empty["messages"] == []
    server.publish("chat:poll", '"waiting"')
    answer = json.loads(carrier.ask("GET", f"/ws?transport=poll&cursor={empty['cursor']}").body)
    assert [m["data"] for m in answer["messages"]] == ["waiting"]
    carrier.drop()


def answer_ping(client):
    """The next event; a Ping is answered."""
    event = client.receive()
    if event[0] == "ping":
        client.send(ws.pong(event[1]))
    return event


def test_pings_keep_connections_open(server, tmp_path):
    """Behind a time-out that is longer than ping_interval an idle client stays; where nothing is sent, nginx cuts it."""
    front = start_nginx(tmp_path / "nginx", server.address(), SHORT)
    try:
        pinged, silent = open_json(front, "/ws/pinged"), open_json(front, "/ws/silent")
        begin = time.monotonic()
        while time.monotonic() < begin + 3.6:
            assert answer_ping(pinged)[0] == "ping"
        with pytest.raises((ws.ServerViolation, ConnectionError)):  # an end without a Close
            silent.receive()
        pinged.send_json({"type": "ping", "id": 1})
        while (event := answer_ping(pinged))[0] == "ping":
            pass
        assert json.loads(event[1]) == {"type": "pong", "id": 1}
    finally:
        front.stop()


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


@pytest.mark.parametrize(
    "path, pattern", [(SNIPPET, r"proxy_read_timeout (\w+);"), (HAPROXY, r"timeout (?:tunnel|server|client) (\w+)")]
)
def test_time_outs_are_longer_than_ours(path, pattern):
    printed = run_daemon("--help-config", "ini").stdout

    def default(name):
        return seconds(re.search(rf"^;?{name} = (\w+)", printed, re.M).group(1))

    found = re.findall(pattern, path.read_text())
    assert found
    for text in found:
        assert seconds(text) > default("ping_interval") + default("pong_timeout")
        assert seconds(text) > default("poll_wait")


@pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="HAProxy is not installed")
def test_haproxy(server, tmp_path):
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    port, (host, belfry_port) = free_port(), server.address()
    text = replaced(HAPROXY.read_text(), "bind :80\n", f"bind 127.0.0.1:{port}\n")
    text = replaced(text, "server node1 10.0.0.1:8080", f"server node1 {host}:{belfry_port}")
    text = replaced(text, "maxconn 100000", "maxconn 100")
    text = replaced(text, "    server node2 10.0.0.2:8080\n", "")
    text = replaced(text, "check port 9480", f"check port {server.control_tcp_address()[1]}")
    (tmp_path / "belfry.cfg").write_text(text)
    environment = dict(os.environ, BELFRY_CONTROL_TOKEN=TOKEN)
    done = subprocess.run([haproxy, "-c", "-f", HAPROXY], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    front = Front(tmp_path, [haproxy, "-db", "-f", str(tmp_path / "belfry.cfg")], port)
    try:
        client = open_json(front, add=[("X-Forwarded-For", "203.0.113.9")])
        assert entry_of(server, client)["ip"] == CLIENT
        join(client, "chat:ha")
        server.publish("chat:ha", '"through"')
        assert client.receive_json()["data"] == "through"
        client.finish()
    finally:
        front.stop()
