"""Tunnels: a WebSocket backend behind the proxy. Its 101 is checked; its death is a Close frame for the client."""

import asyncio
import os
import struct
import threading
import time

import pytest
import websockets
from backend import Backend, TlsBackend, proxy_config
from belfry import wait_until
from http1 import head, response
from ws import (
    Refused,
    ServerViolation,
    accept_value,
    binary,
    close,
    frame,
    ping,
    request_head,
    text,
)

MB = 1 << 20


def switch(request, *, change=None, add=()):
    """A backend's good 101, or one with changed fields."""
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_value(request.get("Sec-WebSocket-Key")),
    }
    fields.update(change or {})
    lines = [(name, value) for name, value in fields.items() if value is not None]
    return head("HTTP/1.1 101 Switching Protocols", [*lines, *add])


def server_frame(opcode, payload=b"", **options):
    return frame(opcode, payload, key=None, **options)


@pytest.fixture
def tunnel(start):
    """tunnel(script, route=...): (daemon, backend). The script runs behind a good 101, unless raw=True."""
    backends = []

    def begin(script, raw=False, **options):
        def opened(stream):
            request = stream.read_head()
            stream.backend.requests.append(request)
            stream.send(switch(request))
            script(stream)

        backend = Backend(script if raw else opened)
        backends.append(backend)
        return start(proxy_config(backend, **options)), backend

    yield begin
    for backend in backends:
        backend.stop()


class WebsocketsBackend:
    """The library of that name, echoing, in a thread with a loop of its own."""

    def __init__(self):
        self.started = threading.Event()
        self.paths = []
        self.thread = threading.Thread(target=lambda: asyncio.run(self.main()), daemon=True)
        self.thread.start()
        assert self.started.wait(10)

    async def echo(self, socket, path=None):
        self.paths.append((path or socket.path, socket.request_headers, socket.subprotocol))
        async for message in socket:
            await socket.send(message)

    async def main(self):
        self.loop, self.end = asyncio.get_running_loop(), asyncio.Event()
        options = {"subprotocols": ["chat.v2"], "max_size": 64 * MB}
        async with websockets.serve(self.echo, "127.0.0.1", 0, **options) as server:
            self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
            self.started.set()
            await self.end.wait()

    def stop(self):
        self.loop.call_soon_threadsafe(self.end.set)
        self.thread.join(10)


@pytest.fixture
def library():
    backend = WebsocketsBackend()
    yield backend
    backend.stop()


# A backend that speaks it.


def test_a_real_backend(start, library):
    server = start(proxy_config(library.address))
    with_protocol = server.client().open("/live?x=1", protocols=["chat.v1", "chat.v2"])
    assert with_protocol.answer.field("Sec-WebSocket-Protocol") == "chat.v2"
    for payload in ("hello", "", "x" * 200, "y" * 70000):
        with_protocol.send(text(payload))
        assert with_protocol.receive() == ("text", payload)
    big = os.urandom(5 * MB)
    with_protocol.send(binary(big))
    assert with_protocol.receive() == ("binary", big)
    with_protocol.send(ping(b"are you there"))
    assert with_protocol.receive() == ("pong", b"are you there")
    with_protocol.finish()
    path, headers, protocol = library.paths[0]
    assert (path, protocol) == ("/live?x=1", "chat.v2")
    assert headers["X-Forwarded-For"] == "127.0.0.1" and headers["Host"] == "localhost"
    assert headers["Upgrade"] == "websocket" and headers["Connection"] == "Upgrade"


def test_an_extension_of_both_ends(start, library):
    """permessage-deflate is the ends' own affair: its bytes pass."""
    server = start(proxy_config(library.address))
    host, port = server.address()

    async def talk():
        async with websockets.connect(f"ws://{host}:{port}/", compression="deflate") as socket:
            assert [e.name for e in socket.extensions] == ["permessage-deflate"]
            for _ in range(3):
                await socket.send("compress me " * 1000)
                assert await socket.recv() == "compress me " * 1000

    asyncio.run(talk())


def test_many_at_once(start, library):
    server = start(proxy_config(library.address))
    clients = [server.open("/") for _ in range(50)]
    for n in range(5):
        for i, c in enumerate(clients):
            c.send(text(f"{n} {i}"))
        for i, c in enumerate(clients):
            assert c.receive_text() == f"{n} {i}"
    for c in clients:
        c.finish()


# The handshake.


def test_nothing_behind_the_handshake_before_the_101(tunnel):
    seen, go = [], threading.Event()

    def script(stream):
        request = stream.read_head()
        stream.sock.settimeout(0.3)
        try:
            stream.fill()
        except OSError:
            pass
        seen.append(stream.buffer)
        stream.sock.settimeout(10)
        stream.send(switch(request))
        seen.append(stream.read(len(text("early"))))
        stream.send(server_frame(1, b"late"))
        go.wait(10)

    server, _ = tunnel(script, raw=True)
    c = server.client().open("/", behind=text("early"))
    assert c.receive_text() == "late"
    go.set()
    assert seen == [b"", text("early")]


def test_early_bytes_do_not_reach_a_backend_that_refuses(tunnel):
    seen = []

    def script(stream):
        stream.read_head()
        stream.send(response(b"no", 403, [("Connection", "close")]))
        seen.append(stream.read_to_end())

    server, _ = tunnel(script, raw=True)
    c = server.client()
    c.send(request_head("/") + b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = c.read_answer()
    assert (answer.status, answer.body) == (403, b"no")
    c.expect_end()
    wait_until(lambda: seen, "the backend's connection stays")
    assert seen == [b""]


BAD_101 = {
    "wrong_accept": {"change": {"Sec-WebSocket-Accept": accept_value("AAAAAAAAAAAAAAAAAAAAAA==")}},
    "no_accept": {"change": {"Sec-WebSocket-Accept": None}},
    "two_accepts": {"add": [("Sec-WebSocket-Accept", "x")]},
    "no_upgrade": {"change": {"Upgrade": None}},
    "another_upgrade": {"change": {"Upgrade": "h2c"}},
    "no_connection": {"change": {"Connection": "keep-alive"}},
    "a_subprotocol_not_offered": {"add": [("Sec-WebSocket-Protocol", "other")]},
    "two_subprotocols": {"add": [("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Protocol", "chat")]},
    "an_extension_not_offered": {"add": [("Sec-WebSocket-Extensions", "permessage-bzip2")]},
    "a_body": {"add": [("Content-Length", "3")]},
}


@pytest.mark.parametrize("options", BAD_101.values(), ids=BAD_101.keys())
def test_a_bad_101(tunnel, options):
    def script(stream):
        stream.send(switch(stream.read_head(), **options))
        stream.fill()

    server, _ = tunnel(script, raw=True)
    with pytest.raises(Refused) as refused:
        server.open("/", protocols=["chat"], change={"Sec-WebSocket-Extensions": "permessage-deflate"})
    assert refused.value.answer.status == 502


def test_another_answer_is_passed_on(tunnel):
    def script(stream):
        stream.read_head()
        stream.send(response(b"who are you", 401, [("WWW-Authenticate", "Basic")]))
        stream.fill()

    server, _ = tunnel(script, raw=True)
    with pytest.raises(Refused) as refused:
        server.open("/")
    answer = refused.value.answer
    assert (answer.status, answer.body, answer.field("WWW-Authenticate")) == (401, b"who are you", "Basic")


def test_a_bad_handshake_asks_no_backend(tunnel):
    server, backend = tunnel(lambda stream: stream.fill())
    with pytest.raises(Refused) as refused:
        server.open("/", change={"Sec-WebSocket-Key": "short"})
    assert refused.value.answer.status == 400
    assert backend.streams == []


# Ends.


def test_a_backend_that_dies_is_a_1014(tunnel):
    for reset in (False, True):

        def script(stream, reset=reset):
            stream.send(server_frame(1, b"last words"))
            stream.read(1)
            if reset:
                stream.reset()

        server, _ = tunnel(script)
        c = server.open("/")
        assert c.receive_text() == "last words"
        c.send(b"x")
        assert c.events() == [("close", 1014, "the backend is gone")]
        assert server.closed(1014) == 1


def test_a_backend_that_dies_within_a_short_frame_is_a_1014(tunnel):
    server, _ = tunnel(lambda stream: stream.send(server_frame(1, b"whole") + server_frame(2, b"x" * 9000)[:5000]))
    assert server.open("/").events() == [("text", "whole"), ("close", 1014, "the backend is gone")]


def test_a_backend_that_dies_between_fragments_is_a_1014(tunnel):
    server, _ = tunnel(lambda stream: stream.send(server_frame(1, b"one", fin=False)))
    c = server.open("/")
    assert c.read_frame().payload == b"one"
    assert c.read_frame().payload[:2] == struct.pack("!H", 1014)


def test_a_backend_that_dies_within_a_long_frame_is_a_reset(tunnel):
    server, _ = tunnel(lambda stream: stream.send(server_frame(2, b"x" * MB)[: MB // 2]))
    c = server.open("/")
    with pytest.raises(ServerViolation, match="reset"):
        c.read_frame()


def test_a_backend_that_says_goodbye(tunnel):
    def script(stream):
        stream.send(server_frame(8, struct.pack("!H", 4321) + b"bye"))
        stream.read(len(close(4321)))

    server, _ = tunnel(script)
    assert server.open("/").events() == [("close", 4321, "bye")]


def test_a_client_that_says_goodbye(tunnel):
    def script(stream):
        stream.read(len(close(1000)))
        stream.send(server_frame(8, struct.pack("!H", 1000)))

    server, _ = tunnel(script)
    server.open("/").finish(1000)


@pytest.mark.parametrize(
    "bad",
    [text("masked"), server_frame(3, b"x"), server_frame(9, b"x" * 126), b"HTTP/1.1 500 Oops\r\n\r\n"],
    ids=["masked", "reserved_opcode", "long_ping", "http"],
)
def test_a_backend_that_sends_no_frames_is_a_1011(tunnel, bad):
    def script(stream):
        stream.send(server_frame(1, b"good") + bad)
        stream.fill()

    server, _ = tunnel(script)
    good, end = server.open("/").events()
    assert good == ("text", "good") and end[:2] == ("close", 1011)


@pytest.mark.parametrize("how", ["drop", "abort", "shutdown"])
def test_a_client_that_goes_ends_the_backends_connection(tunnel, how):
    ended = threading.Event()

    def script(stream):
        try:
            stream.read_to_end()
        finally:
            ended.set()

    server, _ = tunnel(script)
    c = server.open("/")
    c.send(text("x"))
    getattr(c, how)()
    assert ended.wait(10)
    wait_until(lambda: server.connections() == 0, "the connection stays", 10)


def test_idle(tunnel):
    server, _ = tunnel(lambda stream: stream.fill(), route="tunnel_timeout = 1s\n")
    c = server.open("/")
    assert c.events() == [("close", 1001, "idle")]


def test_traffic_either_way_keeps_it(tunnel):
    def script(stream):
        for i in range(12):
            time.sleep(0.2)
            stream.send(server_frame(9, b"%d" % i))

    server, _ = tunnel(script, route="tunnel_timeout = 1s\n")
    c = server.open("/")
    assert [c.receive() for _ in range(12)][-1] == ("ping", b"11")


def test_shutdown(tunnel):
    server, _ = tunnel(lambda stream: stream.read_to_end())
    c = server.open("/")
    c.send(text("x"))
    server.process.terminate()
    assert c.events() == [("close", 1012, "restarting")]
    c.drop()
    assert server.process.wait(10) == 0
    server.check_log()


def test_a_backend_behind_tls(start, certificate):
    def script(stream):
        stream.send(switch(stream.read_head()))
        stream.send(server_frame(1, b"hello"))
        stream.read_to_end()

    with TlsBackend(script, certificate) as backend:
        upstream = f"tls_ca = {certificate.chain}"
        server = start(proxy_config(f"https://localhost:{backend.port}", upstream=upstream))
        c = server.open("/")
        assert c.receive() == ("text", "hello")
        backend.stop()
        assert [e for e in c.events() if e[0] == "close"][0][1] == 1014


# Back-pressure.


@pytest.mark.load
def test_a_client_that_does_not_read(tunnel):
    sent = []

    def script(stream):
        for _ in range(400):
            stream.send(server_frame(2, b"x" * 65536 * 4))
            sent.append(1)
        stream.fill()

    server, _ = tunnel(script)
    before = server.resident_bytes()
    c = server.client(receive_buffer=65536).open("/")
    time.sleep(0.7)
    assert len(sent) < 100
    if not server.sanitized():
        assert server.resident_bytes() - before < 4 * MB
    for _ in range(400):
        assert c.receive() == ("binary", b"x" * 65536 * 4)


@pytest.mark.load
def test_a_backend_that_does_not_read(tunnel):
    go, got = threading.Event(), []
    message = binary(b"y" * 65536)

    def script(stream):
        go.wait(20)
        for _ in range(400):
            got.append(stream.read(len(message)) == message)
        stream.send(server_frame(1, b"all"))
        stream.fill()

    server, _ = tunnel(script)
    before = server.resident_bytes()
    c = server.open("/")
    sent = []

    def flood():
        for _ in range(400):
            c.socket.sendall(message)
            sent.append(1)

    c.socket.settimeout(20)
    thread = threading.Thread(target=flood)
    thread.start()
    time.sleep(0.7)
    assert len(sent) < 400
    if not server.sanitized():
        assert server.resident_bytes() - before < 4 * MB
    go.set()
    thread.join(20)
    assert c.receive_text() == "all"
    assert len(got) == 400 and all(got)


def test_half_closed_with_a_full_link(tunnel):
    """What the client sent before its end arrives, also what waited for a backend that did not read."""
    got, go = [], threading.Event()

    def script(stream):
        go.wait(20)
        got.append(stream.read_to_end())

    server, _ = tunnel(script)
    c = server.open("/")
    data = binary(os.urandom(300000))
    c.send(data)
    c.shutdown()
    time.sleep(0.2)
    go.set()
    wait_until(lambda: got, "no end of file", 10)
    assert got == [data]


def test_other_clients_are_served_meanwhile(tunnel):
    def script(stream):
        while True:
            stream.send(server_frame(2, b"x" * 65536))

    server, _ = tunnel(script)
    stuck = [server.client(receive_buffer=65536).open("/") for _ in range(4)]
    reader = server.open("/")
    for _ in range(50):
        assert reader.receive()[0] == "binary"
    assert server.connections() == 1 + len(stuck)
