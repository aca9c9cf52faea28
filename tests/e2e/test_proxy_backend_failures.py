"""Backends that fail: what the client sees, that no other client notices, that the server comes back into rotation."""

import threading
import time

import pytest
from backend import Backend, proxy_config, serve
from belfry import wait_until
from http1 import Ended, connect, head, request, response

MB = 1 << 20
QUICK = "connect_timeout = 1s\nread_timeout = 1s\n"


def good(request):
    return response(b"good")


class Bystander:
    """Another client, of another route's healthy backend: every one of its requests has to be answered well."""

    def __init__(self, server):
        self.server, self.answered, self.failed, self.ends = server, 0, None, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            with connect(self.server.address()) as c:
                while not self.ends.is_set():
                    answer = c.ask("GET", "/healthy/x")
                    assert (answer.status, answer.body) == (200, b"good")
                    self.answered += 1
                    time.sleep(0.005)
        except Exception as e:  # told by finish()
            self.failed = e

    def finish(self):
        try:
            wait_until(lambda: self.answered or self.failed, "no answer to the other client", 20)
        finally:
            self.ends.set()
            self.thread.join(20)
        if self.failed:
            raise self.failed


@pytest.fixture
def failing(start):
    """failing(script): (client factory, backend, daemon), with a bystander."""
    healthy = Backend(serve(good))
    backends, bystanders = [healthy], []

    def begin(script, *more, upstream=QUICK, route=""):
        backend = Backend(script)
        backends.append(backend)
        config = proxy_config(backend, *more, upstream=upstream, route=route)
        config += f"[upstream healthy]\nserver = {healthy.address}\n"
        config += "[route /healthy]\nmode = proxy\nupstream = healthy\n"
        server = start(config)
        bystanders.append(Bystander(server))
        return (lambda: connect(server.address())), backend, server

    yield begin
    for bystander in bystanders:
        bystander.finish()
    for backend in backends:
        backend.stop()


def test_nobody_listens(failing):
    client, backend, server = failing(serve(good))
    backend.stop()
    answer = client().ask("POST", "/", b"x")
    assert answer.status == 502 and b'"code":502' in answer.body
    assert server.status()["refused"]["backend"] >= 1


def test_killed_and_back(failing):
    client, backend, server = failing(serve(good))
    c = client()
    assert c.ask().body == b"good"
    backend.stop(reset=True)
    assert client().ask().status == 502
    again = Backend(serve(good), port=backend.port)
    try:
        wait_until(lambda: client().ask().status == 200, "the server does not come back", 20)
    finally:
        again.stop()


def test_the_next_server_takes_over(failing):
    other = Backend(serve(lambda r: response(b"other")))
    client, backend, server = failing(serve(good), other)
    backend.stop()
    try:
        for _ in range(6):
            assert client().ask("POST", "/", b"body").body == b"other"
    finally:
        other.stop()


def test_a_safe_request_is_repeated_and_another_is_not(failing):
    """A server that takes requests and ends: GET goes to the next, with its body for PUT; POST may have been carried
    out and is not sent twice."""
    other = Backend(serve(lambda r: response(b"other " + r.body)))
    client, backend, server = failing(lambda stream: stream.read_request(), other, upstream=QUICK)
    try:
        for _ in range(3):
            assert client().ask("GET").body == b"other "
            assert client().ask("PUT", "/", b"x" * 60000).body == b"other " + b"x" * 60000
        seen = {client().ask("POST", "/", b"x").status for _ in range(6)}
        assert seen <= {200, 502}
        assert all(r.method != "POST" or r.body == b"x" for r in other.requests)
    finally:
        other.stop()


def test_a_body_that_was_sent_in_pieces_is_repeated(start):
    """What is small enough is kept, also while it goes out."""
    with Backend(lambda stream: stream.read_request()) as bad, Backend(serve(lambda r: response(r.body))) as other:
        server = start(proxy_config(bad.address + " max_fails=0", other))
        for framing in ("length", "chunked") * 3:
            c = connect(server.address())
            if framing == "length":
                c.send(request("PUT", "/", None, [("Content-Length", "60000")]) + b"x" * 30000)
                time.sleep(0.05)
                c.send(b"y" * 30000)
            else:
                c.send(request("PUT", "/", None, [("Transfer-Encoding", "chunked")]) + b"%x\r\n" % 30000 + b"x" * 30000)
                time.sleep(0.05)
                c.send(b"\r\n%x\r\n" % 30000 + b"y" * 30000 + b"\r\n0\r\n\r\n")
            assert c.read_answer().body == b"x" * 30000 + b"y" * 30000
        assert len(bad.streams) >= 2


def test_hung(failing):
    gone = threading.Event()

    def script(stream):
        stream.read_request()
        if not stream.fill():
            gone.set()

    client, backend, server = failing(script)
    assert client().ask().status == 504
    assert gone.wait(5)


def test_hung_in_the_middle_of_the_answer(failing):
    def script(stream):
        stream.read_request()
        stream.send(head("HTTP/1.1 200 OK", [("Content-Length", "100")]) + b"half")
        stream.fill()

    client, backend, server = failing(script)
    with pytest.raises(Ended):
        client().ask()


def test_slow_but_alive(failing):
    """Each byte starts read_timeout anew."""

    def script(stream):
        stream.read_request()
        stream.send(response(b"slow")[:-4])
        for byte in b"slow":
            time.sleep(0.5)
            stream.send(bytes([byte]))

    client, backend, server = failing(script)
    assert client().ask().body == b"slow"


GARBAGE = {
    "not_http": b"220 mail.example ESMTP\r\n",
    "http_0_9": b"<html>hello</html>",
    "two_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "length_and_chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "bare_lf": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "obs_fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "no_status": b"HTTP/1.1 OK\r\n\r\n",
    "huge_head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000,
    "switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("bytes_", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage(failing, bytes_):
    def script(stream):
        stream.read_request()
        stream.send(bytes_)
        stream.fill()

    client, backend, server = failing(script)
    answer = client().ask()
    assert answer.status == 502 and b"\0" not in answer.body


TRUNCATED = {
    "length": head("HTTP/1.1 200 OK", [("Content-Length", "100")]) + b"half",
    "chunked": head("HTTP/1.1 200 OK", [("Transfer-Encoding", "chunked")]) + b"4\r\nhalf\r\n",
    "bad_chunk": head("HTTP/1.1 200 OK", [("Transfer-Encoding", "chunked")]) + b"4\r\nhalf\r\nzz\r\n",
}


@pytest.mark.parametrize("bytes_", TRUNCATED.values(), ids=TRUNCATED.keys())
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_an_answer_that_is_broken_off_looks_so(failing, bytes_, version):
    def script(stream):
        stream.read_request()
        stream.send(bytes_)

    client, backend, server = failing(script)
    c = client()
    with pytest.raises(Ended):  # an HTTP/1.0 client, too, must not take half for the whole
        c.ask(version=version)
    wait_until(lambda: server.find_log("broken off"), "not logged")


def test_reset_in_the_middle_of_the_request(failing):
    def script(stream):
        stream.read_head()
        stream.reset()

    client, backend, server = failing(script, route="max_body = 100m\n")
    c = client()
    c.send(request("POST", "/", None, [("Content-Length", str(10 * MB))]))
    try:
        c.send(b"x" * 10 * MB)
    except OSError:
        pass
    try:
        assert c.read_answer().status == 502
    except Ended:
        pass  # our own upload was in the way of the answer


@pytest.mark.load
def test_a_backend_that_does_not_read(failing):
    """A request's body that nobody takes: bounded memory, then 504."""

    def script(stream):
        stream.read_head()
        time.sleep(5)

    client, backend, server = failing(script, route="max_body = 100m\n")
    before = server.resident_bytes()
    c = client()
    c.sock.settimeout(8)
    c.send(request("PUT", "/", None, [("Content-Length", str(50 * MB))]))
    try:
        c.send(b"x" * 50 * MB)
    except OSError:
        pass
    if not server.sanitized():
        assert server.resident_bytes() - before < 8 * MB
    try:
        assert c.read_answer().status == 504
    except Ended:
        pass
    wait_until(lambda: server.find_log("timeout"), "no time-out was logged")


@pytest.mark.load
def test_100_mb_that_nobody_reads(failing):
    sent = []

    def script(stream):
        stream.read_request()
        stream.send(head("HTTP/1.1 200 OK", [("Content-Length", str(100 * MB))]))
        for _ in range(100):
            stream.send(b"x" * MB)
            sent.append(1)

    client, backend, server = failing(script)
    before = server.resident_bytes()
    clients = [client() for _ in range(4)]
    for c in clients:
        c.send(request())
    time.sleep(1.0)
    if not server.sanitized():
        assert server.resident_bytes() - before < 16 * MB
    assert len(sent) < 100
    for c in clients:
        c.reset()
    assert client().ask("GET", "/healthy/x").body == b"good"


def test_too_many_interim_answers(failing):
    def script(stream):
        stream.read_request()
        stream.send(head("HTTP/1.1 103 Early Hints", [("Link", "<a>")]) * 1000)
        stream.fill()

    client, backend, server = failing(script)
    assert client().ask().status == 502
