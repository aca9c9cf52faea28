"""The reverse proxy: what a backend is asked and what a client is answered, in every framing that HTTP/1 has."""

import hashlib
import re
import socket
import threading
import time

import pytest
from backend import Backend, proxy_config, serve
from belfry import wait_until
from http1 import chunks, connect, head, request, response

MB = 1 << 20


@pytest.fixture
def proxy(start):
    """proxy(script, route=..., upstream=...): (client factory, backend, daemon)."""
    backends = []

    def begin(script, **options):
        backend = Backend(script)
        backends.append(backend)
        server = start(proxy_config(backend, **options))
        return (lambda **more: connect(server.address(), **more)), backend, server

    yield begin
    for backend in backends:
        backend.stop()


def echo(request):
    """Tells of the request in fields, and gives the body back."""
    return response(request.body, 200, [("X-Method", request.method), ("X-Target", request.target)])


# Requests.


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "x-own"])
def test_methods(proxy, method):
    client, backend, _ = proxy(serve(echo))
    body = None if method == "GET" else b"content"
    answer = client().ask(method, "/a/b%20c?d=e&f=%2f", body)
    assert (answer.status, answer.get("X-Method"), answer.get("X-Target")) == (200, method, "/a/b%20c?d=e&f=%2f")
    assert answer.body == (body or b"")
    assert backend.requests[0].start == f"{method} /a/b%20c?d=e&f=%2f HTTP/1.1"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_are_not_proxied(proxy, method):
    client, backend, _ = proxy(serve(echo))
    c = client()
    c.send(head(f"{method} {'/' if method == 'TRACE' else 'app.example:443'} HTTP/1.1", [("Host", "app.example:443")]))
    answer = c.read_answer()
    assert answer.status == 405 and answer.get("Allow")
    assert backend.requests == []


def test_body_by_length_in_pieces(proxy):
    client, backend, _ = proxy(serve(echo))
    c = client()
    body = bytes(range(256)) * 40
    c.send(request("POST", "/", None, [("Content-Length", len(body))]))
    for at in range(0, len(body), 999):
        c.send(body[at : at + 999])
        time.sleep(0.002)
    answer = c.read_answer()
    assert answer.body == body
    assert backend.requests[0].get("Content-Length") == str(len(body))
    assert backend.requests[0].get("Transfer-Encoding") is None


def test_body_in_chunks_with_trailers(proxy):
    client, backend, _ = proxy(serve(echo))
    c = client()
    c.send(request("POST", "/", None, [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")]))
    whole = chunks(b"one", b"x" * 5000, b"three", trailers=[("X-Sum", "42"), ("Content-Length", "7")])
    for at in range(0, len(whole), 700):
        c.send(whole[at : at + 700])
        time.sleep(0.002)
    assert c.read_answer().body == b"one" + b"x" * 5000 + b"three"
    seen = backend.requests[0]
    assert seen.get("Transfer-Encoding") == "chunked" and seen.get("Content-Length") is None
    assert seen.trailers == [("X-Sum", "42")]  # a Content-Length is no trailer
    assert c.ask("POST", "/", b"next").body == b"next"


def test_empty_bodies(proxy):
    client, backend, _ = proxy(serve(echo))
    c = client()
    assert c.ask("POST", "/", b"").body == b""
    c.send(request("POST", "/", None, [("Transfer-Encoding", "chunked")]) + chunks())
    assert c.read_answer().body == b""
    assert [r.get("Content-Length") for r in backend.requests] == ["0", None]


def test_expect_continue(proxy):
    client, backend, _ = proxy(serve(echo))
    c = client()
    c.send(request("PUT", "/", None, [("Content-Length", "5"), ("Expect", "100-continue")]))
    assert c.read_head().start == "HTTP/1.1 100 Continue"
    c.send(b"hello")
    assert c.read_answer().body == b"hello"
    assert backend.requests[0].get("Expect") is None
    # Not asked for what is on its way already.
    c.send(request("PUT", "/", b"again", [("Expect", "100-continue")]))
    answer = c.read_answer()
    assert (answer.body, answer.interims) == (b"again", [])


def test_no_continue_where_the_backend_is_gone(proxy):
    client, backend, server = proxy(serve(echo))
    backend.stop()
    c = client()
    c.send(request("PUT", "/", None, [("Content-Length", "5"), ("Expect", "100-continue")]))
    answer = c.read_answer()
    assert (answer.status, answer.interims) == (502, [])


def test_unknown_expectation(proxy):
    client, backend, _ = proxy(serve(echo))
    assert client().ask("PUT", "/", b"x", [("Expect", "miracles")]).status == 417
    assert backend.requests == []


def test_too_large_bodies(proxy):
    client, backend, server = proxy(serve(echo), route="max_body = 1000\n")
    assert client().ask("POST", "/", b"x" * 1000).body == b"x" * 1000
    answer = client().ask("POST", "/", b"x" * 1001)
    assert answer.status == 413 and len(backend.requests) == 1
    c = client()
    c.send(request("POST", "/", None, [("Transfer-Encoding", "chunked")]) + b"%x\r\n" % 600 + b"x" * 600)
    time.sleep(0.05)
    c.send(b"\r\n%x\r\n" % 600 + b"x" * 600 + b"\r\n0\r\n\r\n")
    assert c.read_answer().status == 413
    assert len(backend.requests) == 1
    assert server.status()["refused"]["too_large"] == 2


def test_a_dripping_body_ends_in_408(proxy):
    client, backend, server = proxy(serve(echo), route="body_timeout = 1s\nmin_body_rate = 100\n")
    c, slow = client(), client()
    slow.send(request("POST", "/", None, [("Content-Length", "100")]) + b"x")
    stop = threading.Event()

    def drip():
        try:
            while not stop.wait(0.1):
                c.send(b"x")
        except OSError:
            pass

    c.send(request("POST", "/", None, [("Content-Length", "100000")]))
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        assert c.read_answer().status == 408  # a byte now and then
        assert slow.read_answer().status == 408  # none at all
    finally:
        stop.set()
        thread.join()
    assert backend.requests == []


def test_fields_that_end_here(proxy):
    client, backend, _ = proxy(serve(echo))
    fields = [
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic abc"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABk"),
        ("Belfry-Publish", "room"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Kept", "yes"),
        ("Cookie", "a=b"),
        ("Cookie", "c=d"),
    ]
    assert client().ask("GET", "/", None, fields).status == 200
    seen = backend.requests[0]
    for name in ("x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade", "http2-settings"):
        assert name not in seen.names(), seen.fields
    assert "belfry-publish" not in seen.names() and "x_forwarded_for" not in seen.names()
    assert seen.get("X-Kept") == "yes" and seen.all("Cookie") == ["a=b", "c=d"]


def test_a_connection_field_that_takes_away_too_much(proxy):
    client, backend, _ = proxy(serve(echo))
    for name in ("Host", "Cookie", "Authorization", "X-Forwarded-For", "Content-Length", "Origin"):
        assert client().ask("GET", "/", None, [("Connection", f"close, {name}")]).status == 400
    assert backend.requests == []


def test_who_the_client_is(proxy):
    client, backend, server = proxy(serve(echo))
    forged = [("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6"), ("X-Forwarded-Proto", "https")]
    assert client().ask("GET", "/", None, forged).status == 200
    seen = backend.requests[0]
    assert seen.get("Host") == "app.example"
    assert seen.get("X-Forwarded-For") == "127.0.0.1"
    assert seen.get("X-Forwarded-Proto") == "http"
    assert seen.get("X-Forwarded-Host") == "app.example"
    assert seen.get("Forwarded") == "for=127.0.0.1;host=app.example;proto=http"
    assert re.fullmatch(r"[0-9a-f]{32}", seen.get("X-Request-Id"))
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", seen.get("traceparent"))


def test_who_the_client_is_behind_a_trusted_proxy(proxy):
    client, backend, server = proxy(serve(echo), listener="trusted_proxies = 127.0.0.0/8\n")
    said = [("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "shop.example")]
    assert client().ask("GET", "/", None, said).status == 200
    seen = backend.requests[0]
    assert seen.get("X-Forwarded-For") == "192.0.2.7, 127.0.0.1"
    assert (seen.get("X-Forwarded-Proto"), seen.get("X-Forwarded-Host")) == ("https", "shop.example")


def test_marks_of_a_request_are_passed(proxy):
    client, backend, _ = proxy(serve(echo))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    good = [("X-Request-Id", "abc-123"), ("traceparent", trace), ("tracestate", "a=b")]
    bad = [("X-Request-Id", 'a"b'), ("traceparent", "00-zz"), ("tracestate", "a=b")]
    c = client()
    c.ask("GET", "/", None, good)
    c.ask("GET", "/", None, bad)
    first, second = backend.requests
    assert (first.get("X-Request-Id"), first.get("traceparent"), first.get("tracestate")) == ("abc-123", trace, "a=b")
    assert re.fullmatch(r"[0-9a-f]{32}", second.get("X-Request-Id"))
    assert second.get("traceparent").startswith("00-") and second.get("tracestate") is None


# Answers.


def test_body_by_length(proxy):
    cookies = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    client, _, _ = proxy(serve(lambda r: response(b"x" * 100000, fields=cookies)))
    c = client()
    for _ in range(3):
        answer = c.ask()
        assert answer.body == b"x" * 100000 and answer.get("Content-Length") == "100000"
        assert answer.all("Set-Cookie") == ["a=1", "b=2"]
        assert answer.get("Connection") is None


def chunked_answer(*pieces, trailers=(), fields=()):
    return head("HTTP/1.1 200 OK", [("Transfer-Encoding", "chunked"), *fields]) + chunks(*pieces, trailers=trailers)


def test_body_in_chunks_with_trailers_back(proxy):
    client, backend, _ = proxy(serve(lambda r: chunked_answer(b"ab", b"c" * 70000, trailers=[("X-Sum", "9")])))
    c = client()
    for _ in range(2):
        answer = c.ask()
        assert answer.get("Transfer-Encoding") == "chunked"
        assert answer.body == b"ab" + b"c" * 70000
        assert answer.trailers == [("X-Sum", "9")]
    assert len(backend.streams) == 1  # kept alive


def test_body_until_close(proxy):
    def script(stream):
        stream.read_request()
        stream.send(head("HTTP/1.1 200 OK", []) + b"some ")
        time.sleep(0.05)
        stream.send(b"more")

    client, _, _ = proxy(script)
    c = client()
    answer = c.ask()
    assert answer.get("Transfer-Encoding") == "chunked" and answer.body == b"some more"
    assert c.ask().body == b"some more"  # the client's connection is kept


def test_pieces_arrive_as_they_are_sent(proxy):
    """An event stream is not held back for its end."""
    go = threading.Event()

    def script(stream):
        stream.read_request()
        stream.send(head("HTTP/1.1 200 OK", [("Transfer-Encoding", "chunked"), ("Content-Type", "text/event-stream")]))
        stream.send(b"6\r\ndata:1\r\n")
        go.wait(10)
        stream.send(b"6\r\ndata:2\r\n0\r\n\r\n")

    client, _, _ = proxy(script)
    c = client()
    c.send(request())
    assert c.read_head().status == 200
    assert c.read(11) == b"6\r\ndata:1\r\n"
    go.set()
    assert c.read(16) == b"6\r\ndata:2\r\n0\r\n\r\n"


def test_answers_without_a_body(proxy):
    def answer(request):
        if request.target == "/204":
            return head("HTTP/1.1 204 No Content", [])
        if request.target == "/304":
            return head("HTTP/1.1 304 Not Modified", [("ETag", '"a"'), ("Content-Length", "17")])
        return head("HTTP/1.1 200 OK", [("Content-Length", "1234")])

    client, backend, _ = proxy(serve(answer))
    c = client()
    assert c.ask("HEAD").get("Content-Length") == "1234"
    none = c.ask("GET", "/204")
    assert none.status == 204 and none.get("Content-Length") is None and none.get("Transfer-Encoding") is None
    assert c.ask("GET", "/304").get("ETag") == '"a"'
    assert c.ask("HEAD").status == 200
    # Where a body was announced that may not come, it might come all the same: such a connection carries nothing more.
    assert len(backend.requests) == 4 and len(backend.streams) == 3


def test_interim_answers(proxy):
    hints = head("HTTP/1.1 103 Early Hints", [("Link", "</a.css>; rel=preload")])
    own = head("HTTP/1.1 100 Continue", [])
    client, _, _ = proxy(serve(lambda r: own + hints + response(b"done")))
    c = client()
    answer = c.ask()
    assert answer.body == b"done"
    assert answer.interims == [(103, [("Link", "</a.css>; rel=preload")])]
    c.send(request(version="HTTP/1.0"))
    answer = c.read_answer()
    assert answer.interims == [] and answer.body == b"done"


def test_fields_of_answers(proxy):
    fields = [
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Belfry-Publish", "room"),
        ("Belfry-Publish-Data", "secret"),
        ("Belfry-Anything", "x"),
        ("Server", "backend"),
        ("Date", "Sun, 22 Nov 2026 01:00:00 GMT"),
    ]
    client, _, _ = proxy(serve(lambda r: response(b"x", 418, fields, reason="I'm a teapot")))
    answer = client().ask()
    assert answer.start == "HTTP/1.1 418 I'm a teapot"
    assert sorted(answer.names()) == ["content-length", "date", "server"]


# What is counted.


def test_counters(proxy):
    """GET /v1/status tells of requests, of answers by class, of those that no backend gave, and of bytes."""
    client, backend, server = proxy(serve(lambda r: response(b"12345", int(r.target[1:]))))
    with client() as c:
        for status in (200, 201, 302, 404, 503):
            c.ask("POST", f"/{status}", b"123")
        backend.stop()
        assert c.ask("POST", "/200", b"123").status == 502
    counted = server.status()["proxy"]
    assert counted == {
        "requests": 6, "answers": {"none": 1, "1xx": 0, "2xx": 2, "3xx": 1, "4xx": 1, "5xx": 1},
        "request_bytes": counted["request_bytes"], "response_bytes": 25, "tunnels": 0, "published": 0,
        "publish_failures": 0,
    }  # fmt: skip
    assert 15 <= counted["request_bytes"] <= 18


# Connections.


def test_pipelined_requests_are_answered_in_order(proxy):
    def answer(request):
        time.sleep(0.05 if request.target == "/0" else 0)
        return response(request.target.encode() + request.body)

    client, backend, _ = proxy(serve(answer))
    c = client()
    c.send(b"".join(request("POST", f"/{i}", b"x" * i) for i in range(20)))
    for i in range(20):
        assert c.read_answer().body == b"/%d" % i + b"x" * i
    assert [r.target for r in backend.requests] == [f"/{i}" for i in range(20)]


def test_keep_alive_on_both_sides(proxy):
    client, backend, _ = proxy(serve(echo))
    for _ in range(3):
        with client() as c:
            for _ in range(5):
                assert c.ask("POST", "/", b"x").body == b"x"
    assert len(backend.requests) == 15
    assert len(backend.streams) <= 2  # one a worker


def test_close_by_the_client(proxy):
    client, backend, _ = proxy(serve(echo))
    c = client()
    answer = c.ask("GET", "/", None, [("Connection", "close")])
    assert answer.get("Connection") == "close" and c.at_end()
    assert backend.requests[0].get("Connection") is None


def test_close_by_the_backend(proxy):
    def script(stream):
        stream.backend.requests.append(stream.read_request())
        stream.send(response(b"last", fields=[("Connection", "close")]))

    client, backend, _ = proxy(script)
    c = client()
    for _ in range(4):
        answer = c.ask()
        assert answer.body == b"last" and answer.get("Connection") is None
    assert len(backend.streams) == 4


def test_http_1_0(proxy):
    def answer_in_chunks_or_not(request):
        return chunked_answer(b"ab", b"cd") if request.target == "/c" else response(b"length")

    client, backend, _ = proxy(serve(answer_in_chunks_or_not))
    c = client()
    c.send(request(version="HTTP/1.0", host=None))
    answer = c.read_answer()
    assert answer.body == b"length" and answer.get("Connection") == "close" and c.at_end()
    assert backend.requests[0].start.endswith("HTTP/1.1") and backend.requests[0].get("Host")
    c = client()
    for _ in range(2):
        answer = c.ask(fields=[("Connection", "keep-alive")], version="HTTP/1.0")
        assert answer.body == b"length" and answer.get("Connection") == "keep-alive"
    answer = c.ask("GET", "/c", fields=[("Connection", "keep-alive")], version="HTTP/1.0")
    assert answer.body == b"abcd" and answer.get("Transfer-Encoding") is None and answer.get("Connection") == "close"


def test_a_client_that_half_closes_is_answered(proxy):
    client, _, _ = proxy(serve(echo))
    c = client()
    c.send(request("POST", "/", b"x" * 300000))
    c.shut()
    assert c.read_answer().body == b"x" * 300000
    assert c.at_end()


def test_a_client_that_leaves_within_its_request(proxy):
    client, backend, server = proxy(serve(echo))
    for end in ("shut", "reset"):
        c = client()
        c.send(request("POST", "/", None, [("Content-Length", "100")]) + b"x" * 50)
        wait_until(lambda: server.connections() == 1, "not connected")
        getattr(c, end)()
        wait_until(lambda: server.connections() == 0, "the connection stays")
    assert backend.requests == []
    assert client().ask().status == 200


def test_a_client_that_resets_while_the_backend_thinks(proxy):
    gone = threading.Event()

    def script(stream):
        stream.read_request()
        if not stream.fill():
            gone.set()

    client, backend, server = proxy(script)
    c = client()
    c.send(request())
    wait_until(lambda: backend.streams, "no backend connection")
    c.reset()
    assert gone.wait(10), "the backend was not told"


def test_an_answer_before_the_whole_request(proxy):
    def script(stream):
        stream.read_head()
        stream.send(response(b"enough", 401))
        stream.read_to_end()

    client, _, _ = proxy(script)
    c = client()
    c.send(request("POST", "/", None, [("Content-Length", str(MB))]) + b"x" * 1000)
    answer = c.read_answer()
    assert (answer.status, answer.body) == (401, b"enough")
    assert answer.get("Connection") == "close"  # the rest of the body is in the way


# Size.


@pytest.mark.load
def test_100_mb_up(proxy):
    """To a backend that reads slowly: memory stays bounded."""
    size, sums = 100 * MB, []

    def script(stream):
        stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        message = stream.read_head()
        digest, left = hashlib.sha256(stream.buffer), int(message.get("Content-Length")) - len(stream.buffer)
        while left:
            data = stream.sock.recv(min(left, 1 << 20))
            digest.update(data)
            left -= len(data)
        sums.append(digest.hexdigest())
        stream.send(response(b"got it"))

    client, _, server = proxy(script, route="max_body = 200m\n")
    c = client()
    before, most = server.resident_bytes(), 0
    piece = bytes(range(256)) * 4096
    digest = hashlib.sha256()
    c.send(request("PUT", "/", None, [("Content-Length", str(size))]))
    for _ in range(size // len(piece)):
        c.send(piece)
        digest.update(piece)
        most = max(most, server.resident_bytes())
    assert c.read_answer().body == b"got it"
    assert sums == [digest.hexdigest()]
    if not server.sanitized():
        assert most - before < 8 * MB


@pytest.mark.load
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_100_mb_down(proxy, framing):
    """To a client that reads slowly at first."""
    size = 100 * MB
    piece = bytes(range(256)) * 256

    def script(stream):
        stream.read_request()
        fields = {"length": [("Content-Length", str(size))], "chunked": [("Transfer-Encoding", "chunked")], "close": []}
        stream.send(head("HTTP/1.1 200 OK", fields[framing]))
        for _ in range(size // len(piece)):
            stream.send(b"%x\r\n%s\r\n" % (len(piece), piece) if framing == "chunked" else piece)
        if framing == "chunked":
            stream.send(b"0\r\n\r\n")

    client, _, server = proxy(script)
    c = client(receive_buffer=65536)
    before, most = server.resident_bytes(), 0
    c.send(request())
    time.sleep(0.3)
    digest, got = hashlib.sha256(), 0
    message = c.read_head()
    if framing == "length":
        while got < size:
            if not c.buffer:
                assert c.fill()
            got += len(c.buffer)
            digest.update(c.buffer)
            c.buffer = b""
            most = max(most, server.resident_bytes())
    else:
        assert message.get("Transfer-Encoding") == "chunked"
        while n := int(c.read_line(), 16):
            digest.update(c.read(n))
            assert c.read(2) == b"\r\n"
            got += n
            most = max(most, server.resident_bytes())
        assert c.read_line() == b""
    assert got == size
    assert digest.hexdigest() == hashlib.sha256(piece * (size // len(piece))).hexdigest()
    if not server.sanitized():
        assert most - before < 8 * MB
