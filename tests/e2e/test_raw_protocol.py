"""The raw client protocol: what the room gets is what the client gets, byte for byte."""

import pytest

import ws
from conftest import PUBLIC_LISTENER

CONFIG = """
[route /raw]
mode = rooms
protocol = raw

[route /echo]
mode = rooms
protocol = raw
echo = yes

[route /fixed]
mode = rooms
protocol = raw
join_on_connect = chat:fixed

[room chat:*]
join = anyone
publish = members

[room quiet:*]
join = anyone
publish = nobody

[room closed:*]
join = nobody
publish = nobody
"""


@pytest.fixture(scope="module")
def shared_server(start_shared, certificate):
    return start_shared(CONFIG + PUBLIC_LISTENER + certificate.listener("secure"))


@pytest.fixture
def server(shared_server):
    yield shared_server
    shared_server.check()


def test_room_by_query(server, listener):
    client = server.open("/raw?room=chat:1", listener)
    assert server.members("chat:1") == 1
    assert server.publish("chat:1", "hello") == 1
    assert client.receive() == ("text", "hello")
    client.finish()


@pytest.mark.parametrize(
    "payload",
    [b"", b"text", "\u00e9\U0001f600".encode(), b"\xff\xfe", b"\0", b"a\0b", b"\xe2\x82", b'{"a" : 1}', b"x" * 70000],
    ids=lambda p: ascii(p)[:30],
)
def test_published_bytes_arrive_as_they_are(server, payload):
    client = server.open("/raw?room=chat:1")
    assert server.publish("chat:1", payload) == 1
    try:
        expected = ("text", payload.decode())
    except UnicodeDecodeError:
        expected = ("binary", payload)
    assert client.receive() == expected
    client.finish()


def test_kind_of_frame_is_kept_between_clients(server):
    one, two = server.open("/raw?room=chat:1"), server.open("/raw?room=chat:1")
    one.send(ws.text("same") + ws.binary(b"same") + ws.binary(b"") + ws.text("") + ws.binary(b"\xff"))
    expected = [("text", "same"), ("binary", b"same"), ("binary", b""), ("text", ""), ("binary", b"\xff")]
    assert [two.receive() for _ in expected] == expected
    one.expect_silence(0.05)  # the sender is left out


def test_echo_yes_includes_the_sender(server):
    one, two = server.open("/echo?room=chat:1"), server.open("/raw?room=chat:1")
    one.send(ws.text("x"))
    assert one.receive() == ("text", "x")
    assert two.receive() == ("text", "x")
    two.send(ws.text("y"))
    assert one.receive() == ("text", "y")
    two.expect_silence(0.05)


def test_several_rooms(server):
    both, one, two = (server.open("/raw?" + q) for q in ("room=chat:1&room=chat:2", "room=chat:1", "room=chat:2"))
    both.send(ws.text("to all"))
    assert one.receive() == ("text", "to all")
    assert two.receive() == ("text", "to all")
    one.send(ws.text("from one"))
    assert both.receive() == ("text", "from one")
    two.expect_silence(0.05)
    assert server.publish("chat:2", "backend") == 2
    assert both.receive() == ("text", "backend")


def test_only_rooms_that_let_it_publish(server):
    queries = ("room=quiet:1&room=chat:1", "room=quiet:1", "room=chat:1")
    sender, quiet, loud = (server.open("/raw?" + query) for query in queries)
    sender.send(ws.text("x"))
    assert loud.receive() == ("text", "x")
    quiet.expect_silence(0.05)


def test_the_same_room_twice(server):
    client = server.open("/raw?room=chat:1&room=chat:1")
    assert server.publish("chat:1", "once") == 1
    assert client.receive() == ("text", "once")
    client.expect_silence(0.05)


def test_no_room(server):
    client = server.open("/raw")
    client.send(ws.text("into the void"))
    client.send(ws.ping())
    assert client.receive() == ("pong", b"")
    client.finish()


def test_query_adds_to_join_on_connect(server):
    client = server.open("/fixed?room=chat:more")
    assert server.publish("chat:fixed", "1") == 1
    assert server.publish("chat:more", "2") == 1
    assert [client.receive(), client.receive()] == [("text", "1"), ("text", "2")]


def test_encoded_room_name(server):
    client = server.open("/raw?other=1&room=chat%3A%C3%A9%2B1")
    assert server.publish("chat:\u00e9+1", "x") == 1
    assert client.receive() == ("text", "x")


@pytest.mark.parametrize("room", ["closed:1", "unconfigured", "@all", "%40all", "@conn:c_1", "a%20b", "%00", "%ff", ""])
def test_forbidden_or_broken_room(server, room):
    # Refused, or let in without that room.
    before = server.rooms()
    client = server.client()
    try:
        client.open("/raw?room=" + room)
    except ws.Refused as refused:
        assert refused.answer.status in (400, 403), refused.answer
    assert server.rooms() == before


def test_message_up_to_max_message(start):
    server = start(
        "[route /]\nmode = rooms\nprotocol = raw\necho = yes\nmax_message = 1k\n"
        "[room a]\njoin = anyone\npublish = members\n"
    )
    client = server.open("/?room=a")
    client.send(ws.binary(b"x" * 1024))
    assert client.receive() == ("binary", b"x" * 1024)
    client.send(ws.binary(b"x" * 1025))
    assert client.events()[-1][:2] == ("close", 1009)


def test_order_over_two_workers(server):
    # Members sit on both threads; each sees one sender's messages in order and once.
    members = [server.open("/raw?room=chat:1") for _ in range(16)]
    sender = server.open("/raw?room=chat:1")
    sender.send(b"".join(ws.text(str(i)) for i in range(500)))
    for member in members:
        assert [member.receive_text() for _ in range(500)] == [str(i) for i in range(500)]


def test_longest_pattern_wins(start):
    server = start(
        "[route /]\nmode = rooms\nprotocol = raw\n"
        "[room *]\njoin = nobody\n[room a:*]\njoin = anyone\n[room a:b:*]\njoin = nobody\n[room a:b:c]\njoin = anyone\n"
    )
    for room, inside in [("x", 0), ("a:x", 1), ("a:b:x", 0), ("a:b:c", 1)]:
        client = server.client()
        try:
            client.open("/?room=" + room)
        except ws.Refused:
            pass
        assert server.members(room) == inside, room
