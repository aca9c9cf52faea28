"""Publish by answer: a proxied answer with Belfry-Publish is broadcast, and its client sees nothing of that."""

import pytest
from backend import Backend, serve
from belfry import wait_until
from http1 import chunks, connect, head, request, response

CONFIG = """
[belfry]
workers = 2

[broker]
max_message = 64k

[upstream app]
server = {address}

[route /]
mode = proxy
upstream = app
publish_header = yes

[route /off]
mode = proxy
upstream = app

[route /ws]
mode = rooms
protocol = raw

[room chat:*]
join = anyone
publish = nobody
"""


@pytest.fixture
def published(start):
    """published(answer): (client, raw members of chat:1 and chat:2, daemon)."""
    backends = []

    def begin(answer):
        backend = Backend(serve(answer))
        backends.append(backend)
        server = start(CONFIG.format(address=backend.address))
        members = [server.open(f"/ws?room=chat:{i}") for i in (1, 2)]
        return connect(server.address()), members, server

    yield begin
    for backend in backends:
        backend.stop()


def failures(server, count):
    wait_until(lambda: len(server.find_log("not published")) >= count, lambda: server.log()[-2000:])
    assert server.status()["proxy"]["publish_failures"] >= count


def test_a_body_is_published(published):
    fields = [("Belfry-Publish", "chat:1, chat:2"), ("X-Other", "stays")]
    client, (one, two), server = published(lambda r: response(b'{"text":"' + r.body + b'"}', 201, fields))
    for text in (b"hello", b"again"):
        answer = client.ask("POST", "/messages", text)
        assert (answer.status, answer.body) == (201, b'{"text":"' + text + b'"}')
        assert sorted(answer.names()) == ["content-length", "x-other"]
        assert one.receive_text() == two.receive_text() == '{"text":"' + text.decode() + '"}'


def test_the_data_field_instead_of_the_body(published):
    fields = [("Belfry-Publish", "chat:1"), ("Belfry-Publish-Data", '{"n":1}'), ("Content-Encoding", "gzip")]
    client, (one, _), server = published(lambda r: response(b"for the client", fields=fields))
    assert client.ask().body == b"for the client"
    assert one.receive_text() == '{"n":1}'


def test_a_chunked_body_is_published_without_its_framing(published):
    whole = head("HTTP/1.1 200 OK", [("Transfer-Encoding", "chunked"), ("Belfry-Publish", "chat:1")])
    client, (one, _), server = published(lambda r: whole + chunks(b"one ", b"two"))
    assert client.ask().body == b"one two"
    assert one.receive_text() == "one two"


def test_no_content_with_a_data_field(published):
    fields = [("Belfry-Publish", "chat:2"), ("Belfry-Publish-Data", "short")]
    client, (_, two), server = published(lambda r: head("HTTP/1.1 204 No Content", fields))
    assert client.ask("POST", "/", b"").names() == []
    assert two.receive_text() == "short"


def test_off_by_default(published):
    fields = [("Belfry-Publish", "chat:1"), ("Belfry-Publish-Data", "x")]
    client, (one, _), server = published(lambda r: response(r.target.encode(), fields=fields[:1]))
    answer = client.ask("GET", "/off/a")
    assert answer.body == b"/off/a" and answer.names() == ["content-length"]  # the field goes no further all the same
    client.ask("GET", "/on")
    assert one.receive_text() == "/on"  # and not /off/a before it


def test_what_is_not_published(published):
    answers = {
        "/large": response(b"x" * 65537, fields=[("Belfry-Publish", "chat:1")]),
        "/encoded": response(b"\x1f\x8b", fields=[("Belfry-Publish", "chat:1"), ("Content-Encoding", "gzip")]),
        "/head": head("HTTP/1.1 200 OK", [("Content-Length", "5"), ("Belfry-Publish", "chat:1")]),
        "/names": response(b"good", fields=[("Belfry-Publish", "@secret, a b, chat:1, @user:")]),
        "/two": response(
            b"x",
            fields=[("Belfry-Publish", "chat:1"), ("Belfry-Publish-Data", "a"), ("Belfry-Publish-Data", "b")],
        ),
    }
    client, (one, _), server = published(lambda r: answers[r.target])
    assert len(client.ask("GET", "/large").body) == 65537
    assert client.ask("GET", "/encoded").body == b"\x1f\x8b"
    assert client.ask("HEAD", "/head").status == 200
    assert client.ask("GET", "/two").status == 200
    assert client.ask("GET", "/names").body == b"good"
    assert one.receive_text() == "good"  # of the list, what could be published was
    failures(server, 4)


def test_half_an_answer_is_not_published(published):
    def answer(request):
        if request.target == "/half":
            return head("HTTP/1.1 200 OK", [("Content-Length", "10"), ("Belfry-Publish", "chat:1")]) + b"half"
        return response(b"whole", fields=[("Belfry-Publish", "chat:1")])

    client, (one, _), server = published(answer)
    client.send(request("GET", "/half"))
    client.read_head()
    assert client.read(4) == b"half"
    client.reset()
    connect(server.address()).ask("GET", "/whole")
    assert one.receive_text() == "whole"


def test_a_connection_and_everybody(published):
    client, (one, two), server = published(
        lambda r: response(b"to " + r.target.encode(), fields=[("Belfry-Publish", r.get("X-To"))])
    )
    ids = server.connection_ids(room="chat:1")
    client.ask("GET", "/one", fields=[("X-To", "@conn:" + ids[0])])
    client.ask("GET", "/all", fields=[("X-To", "@all")])
    assert one.receive_text() == "to /one"
    assert one.receive_text() == two.receive_text() == "to /all"
