"""Belfry-Hold: a backend's answer turns an EventSource's request into a stream that Belfry holds."""

import pytest
from backend import Backend, serve
from belfry import wait_until
from http1 import chunks, connect, head, request, response
from sse import Reader

CONFIG = """
[belfry]
workers = 2

[upstream app]
server = {address}

[route /]
mode = proxy
upstream = app
publish_header = yes
protocol = {protocol}
origin = https://app.example, none

[route /off]
mode = proxy
upstream = app

[room kept:*]
history = 20

[room chat:*]
join = nobody
publish = nobody
"""

EVENTS = ("Content-Type", "text/event-stream")


@pytest.fixture
def held(start):
    """held(answer, protocol): the daemon before a backend with that answer; `asked` are the requests it got."""
    backends = []

    def begin(answer, protocol="json"):
        backend = Backend(answer if callable(answer) else serve(lambda _: answer))
        backends.append(backend)
        server = start(CONFIG.format(address=backend.address, protocol=protocol))
        server.backend = backend
        return server

    yield begin
    for backend in backends:
        backend.stop()


def test_the_answer_becomes_a_stream(held):
    body = b": from the backend\n\nevent: first\ndata: 1\n\n"
    server = held(response(body, fields=[EVENTS, ("Belfry-Hold", "chat:1, chat:2"), ("X-Other", "gone")]))
    reader = Reader(server.address(), "/feed?x=1", [("Origin", "https://app.example")])
    assert reader.head.start == "HTTP/1.1 200 OK"
    assert reader.head.get("Content-Type") == "text/event-stream" and reader.head.get("Content-Length") is None
    assert "belfry-hold" not in reader.head.names() and "x-other" not in reader.head.names()
    assert reader.head.get("Access-Control-Allow-Origin") == "https://app.example"
    assert reader.block().retry == 2000
    assert reader.block().comments == ["from the backend"]  # a comment's space is taken off as a field's is
    first = reader.block()
    assert (first.name, first.data) == ("first", "1")
    assert sorted(reader.welcome()["rooms"]) == ["chat:1", "chat:2"]  # nobody may join those by itself
    server.publish("chat:2", '"hello"')
    reader.json(type="message", room="chat:2", data="hello")
    assert server.status()["sse"]["held"] == 1
    reader.drop()
    wait_until(lambda: server.members("chat:1") == 0, "the end")


def test_a_raw_stream(held):
    fields = [("Transfer-Encoding", "chunked"), ("Belfry-Hold", "chat:1"), EVENTS]
    server = held(head("HTTP/1.1 200 OK", fields) + chunks(b"data: a", b"\n"), "raw")
    reader = Reader(server.address(), "/feed")
    assert reader.block().retry == 2000
    assert reader.block().data == "a"  # an event that was not ended is
    server.publish("chat:1", "as it is")
    assert reader.event().data == "as it is"
    reader.drop()


@pytest.mark.parametrize("kind", [("Content-Type", "text/html"), ("X", "y")])
def test_another_body_is_left_out(held, kind):
    server = held(response(b"<p>", fields=[kind, ("Belfry-Hold", "chat:1")]))
    reader = Reader(server.address(), "/feed")
    assert reader.block().retry == 2000
    assert list(reader.welcome()["rooms"]) == ["chat:1"]
    reader.drop()


def test_too_large_a_body_is_left_out(held):
    server = held(response(b": x\n\n" * 20000, fields=[EVENTS, ("Belfry-Hold", "chat:1")]))
    reader = Reader(server.address(), "/feed")
    assert reader.block().retry == 2000
    reader.welcome()
    assert server.status()["proxy"]["publish_failures"] == 1
    reader.drop()


def test_what_is_no_event_source_gets_the_answer(held):
    server = held(response(b"body", fields=[EVENTS, ("Belfry-Hold", "chat:1")]))
    events = [("Accept", "text/event-stream")]
    for method, target, fields, version in (
        ("GET", "/feed", [], "HTTP/1.1"),
        ("GET", "/feed", events, "HTTP/1.0"),
        ("POST", "/feed", events, "HTTP/1.1"),
        ("GET", "/off", events, "HTTP/1.1"),
    ):
        with connect(server.address()) as raw:
            answer = raw.ask(method, target, b"" if method == "POST" else None, fields, version=version)
            assert answer.status == 200 and answer.body == b"body" and "belfry-hold" not in answer.names(), target
    assert server.status()["sse"]["held"] == 0


def test_a_refusal_is_passed_on(held):
    server = held(response(b"no", 403, fields=[("Belfry-Hold", "chat:1")]))
    reader = Reader(server.address(), "/feed")
    assert reader.head.status == 403 and reader.head.body == b"no"


@pytest.mark.parametrize("rooms", ["@all", "@user:ada, @conn:x", "", "a\tb"])
def test_rooms_that_nobody_is_put_into(held, rooms):
    server = held(response(b"body", fields=[EVENTS, ("Belfry-Hold", rooms)]))
    reader = Reader(server.address(), "/feed")
    assert reader.head.status == 200 and reader.head.body == b"body"
    wait_until(lambda: server.status()["proxy"]["publish_failures"] >= 1, "the count")


def test_recovery_within_the_rooms_that_the_backend_names(held):
    server = held(response(b"", fields=[("Belfry-Hold", "kept:1")]))
    reader = Reader(server.address(), "/feed")
    reader.welcome()
    server.publish("kept:1", "1")
    epoch = reader.json(type="message", data=1)["epoch"]
    last = reader.settle()
    assert last == f"{epoch}:1:kept%3A1"
    reader.drop()
    server.publish("kept:1", "2")
    server.publish("kept:1", "3")
    again = Reader(server.address(), "/feed", last_id=last + f",{epoch}:1:kept%3A2,{epoch}:1:chat%3A1")
    again.welcome()
    again.json(type="message", room="kept:1", data=2)
    again.json(type="message", room="kept:1", data=3)
    assert again.settle().startswith(f"{epoch}:3:kept%3A1")
    assert server.members("kept:2") == 0 and server.members("chat:1") == 0
    again.drop()


def test_a_backend_that_breaks_off(held):
    half = head("HTTP/1.1 200 OK", [("Content-Length", 100), ("Belfry-Hold", "chat:1"), EVENTS]) + b"data: 1"

    def answer(stream):
        stream.read_request()
        stream.send(half)

    server = held(answer)
    reader = Reader(server.address(), "/feed")
    assert reader.head.status in (502, 504)
    assert server.members("chat:1") == 0
