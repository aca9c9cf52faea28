"""Server-sent events: what stands on the wire, recovery by the last event id, and all that WebSocket sessions have too."""

import json
import time

import pytest
from belfry import wait_until
from conftest import PUBLIC_LISTENER
from hook_backend import HookBackend, hook_config
from http1 import connect, request
from sse import Carrier, Reader
from tokens import Key

CONFIG = """
[route /ws]
mode = rooms
protocol = json
origin = https://app.example, same, none
ping_interval = 25s

[route /beat]
mode = rooms
protocol = json
ping_interval = 200ms

[route /raw]
mode = rooms
protocol = raw

[route /off]
mode = rooms
sse = no
poll = no

[room chat:*]
join = anyone
publish = members

[room kept:*]
join = anyone
publish = anyone
history = 50

[room closed:*]
join = nobody
publish = nobody

[room seen:*]
join = anyone
publish = anyone
announce = yes
"""


@pytest.fixture(scope="module")
def shared_server(start_shared, certificate):
    return start_shared(CONFIG + PUBLIC_LISTENER + certificate.listener("secure"))


@pytest.fixture
def server(shared_server):
    yield shared_server
    shared_server.check()


def read(server, target, fields=(), listener="public", **options):
    tls = server.trust if listener == "secure" else None
    return Reader(server.address(listener), target, fields, tls=tls, **options)


# The wire.


def test_head_and_first_blocks(server, listener):
    reader = read(server, "/ws?room=chat:1", listener=listener)
    assert reader.head.start == "HTTP/1.1 200 OK"
    assert reader.head.get("Content-Type") == "text/event-stream"
    assert reader.head.get("Cache-Control") == "no-store"
    assert reader.head.get("X-Accel-Buffering") == "no"
    assert reader.head.get("Connection") == "close"
    assert reader.head.get("Content-Length") is None and reader.head.get("Transfer-Encoding") is None
    assert reader.block().retry == 2000
    welcome = reader.welcome()
    assert welcome["conn"].startswith("c_") and welcome["connection"].startswith(welcome["conn"] + ".")
    assert list(welcome["rooms"]) == ["chat:1"] and welcome["ping"] == 25
    assert server.members("chat:1") == 1
    reader.drop()
    wait_until(lambda: server.members("chat:1") == 0, "the end")
    assert server.closed(1005) >= 1


def test_exact_bytes_of_an_event(server):
    reader = read(server, "/ws?room=chat:1")
    reader.welcome()
    server.publish("chat:1", '{"a":\n1}')  # JSON may hold line ends: each makes a line of data
    found = reader.event()
    assert found.lines[0] == 'data: {"type":"message","room":"chat:1","data":{"a":' and len(found.lines) == 2
    assert found.json()["data"] == {"a": 1}
    reader.drop()


def test_accept_decides(server):
    for accept in ("text/event-stream", "text/html, TEXT/Event-Stream;q=0.5", "*/*, text/event-stream; x=y"):
        reader = Reader.__new__(Reader)
        reader.stream = connect(server.address())
        reader.stream.send(request("GET", "/ws", fields=[("Accept", accept)]))
        assert reader.stream.read_head().status == 200, accept
        reader.stream.close()
    for accept in ("*/*", "text/*", "text/event-stream;q=0", "text/event-stream; q=0.000", "text/event-streams", ""):
        with connect(server.address()) as raw:
            assert raw.ask("GET", "/ws", fields=[("Accept", accept)]).status == 426, accept


def test_refusals(server):
    events = [("Accept", "text/event-stream")]
    with connect(server.address()) as raw:
        answer = raw.ask("HEAD", "/ws", fields=events)
        assert answer.status == 405 and answer.get("Allow") == "GET, POST, OPTIONS"
    with connect(server.address()) as raw:
        assert raw.ask("GET", "/ws", fields=events, version="HTTP/1.0").status == 505
    with connect(server.address()) as raw:
        assert raw.ask("GET", "/ws", b"body", fields=events).status == 400
    with connect(server.address()) as raw:
        assert raw.ask("GET", "/off", fields=events).status == 426
    with connect(server.address()) as raw:
        assert raw.ask("GET", "/ws?room=closed:1", fields=events).status == 403
    with connect(server.address()) as raw:
        assert raw.ask("GET", "/ws?room=@all", fields=events).status == 403
    with connect(server.address()) as raw:
        assert raw.ask("DELETE", "/ws", fields=events).status == 405


def test_a_reader_sends_nothing(server):
    reader = read(server, "/ws")
    reader.welcome()
    reader.stream.send(b"GET / HTTP/1.1\r\n\r\n")
    reader.json(type="bye", code=1002)
    assert reader.event() is None
    reader.drop()


def test_heartbeats_are_comments(server):
    reader = read(server, "/beat")
    reader.welcome()
    for _ in range(3):
        found = reader.block()
        assert found.lines == [":"]
    reader.drop()


def test_raw_payloads(server):
    reader = read(server, "/raw?room=chat:1")
    wait_until(lambda: server.members("chat:1") == 1, "the room")
    server.publish("chat:1", "two\nlines")
    assert reader.event().data == "two\nlines"
    server.publish("chat:1", b"\xff\x00\x01")
    found = reader.event()
    assert found.name == "binary" and found.data == "/wAB"
    server.publish("chat:1", " a\r\nb\r")
    assert reader.event().data == " a\nb\n"
    server.command({"op": "disconnect", "room": "chat:1", "code": 4003, "reason": "over"})
    found = reader.event()
    assert found.name == "bye" and json.loads(found.data)["code"] == 4003
    assert reader.event() is None
    reader.drop()


def test_a_kept_connection_may_become_a_stream(server):
    with connect(server.address()) as raw:
        preflight = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST")]
        raw.send(request("OPTIONS", "/ws", fields=preflight))
        raw.send(request("GET", "/ws", fields=[("Accept", "text/event-stream")]))
        assert raw.read_answer().status == 204
        assert raw.read_head().status == 200


# Who may.


def test_origin_and_cors(server):
    reader = read(server, "/ws", [("Origin", "https://app.example")])
    assert reader.head.get("Access-Control-Allow-Origin") == "https://app.example"
    assert reader.head.get("Access-Control-Allow-Credentials") == "true"
    reader.welcome()
    carrier = Carrier(server.address(), "/ws", [("Origin", "https://app.example")])
    answer = carrier.post(reader.welcomed["connection"], {"type": "ping", "id": 1})
    assert answer.status == 200 and answer.get("Access-Control-Allow-Origin") == "https://app.example"
    answer = carrier.post("c_x.y", {"type": "ping", "id": 1})
    assert answer.status == 404 and answer.get("Access-Control-Allow-Origin") == "https://app.example"
    # Another site may do nothing, a POST with the right key included.
    evil = Carrier(server.address(), "/ws", [("Origin", "https://evil.example")])
    answer = evil.post(reader.welcomed["connection"], {"type": "ping", "id": 1})
    assert answer.status == 403 and answer.get("Access-Control-Allow-Origin") is None
    other = read(server, "/ws", [("Origin", "https://evil.example")])
    assert other.head.status == 403
    # No Origin at all is no browser's cross-site request.
    plain = read(server, "/ws")
    assert plain.head.status == 200 and plain.head.get("Access-Control-Allow-Origin") is None
    for each in (reader, other, plain, carrier, evil):
        each.drop()


def test_preflight(server):
    fields = [
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "belfry-connection,content-type"),
    ]
    with connect(server.address()) as raw:
        answer = raw.ask("OPTIONS", "/ws", fields=[("Origin", "https://app.example"), *fields])
        assert answer.status == 204
        assert answer.get("Access-Control-Allow-Headers") == "belfry-connection,content-type"
        assert answer.get("Access-Control-Allow-Methods") == "POST"
        assert answer.get("Access-Control-Allow-Origin") == "https://app.example"
        # The connection stays for the POST behind it.
        answer = raw.ask("OPTIONS", "/ws", fields=[("Origin", "https://evil.example"), *fields])
        assert answer.status == 405 and answer.get("Access-Control-Allow-Origin") is None


AUTH = """
[route /ws]
mode = rooms
auth = jwt
jwt_key = file:{key}
token = header, query:token
notify =

[room chat:*]
join = user
publish = user
"""


def test_tokens(start, tmp_path):
    key = Key("HS256", tmp_path)
    server = start(AUTH.format(key=key.public))
    assert Reader(server.address(), "/ws").head.status == 401
    ada = Reader(server.address(), "/ws?token=" + key.token(sub="ada"))
    assert ada.welcome()["user"] == "ada"
    name = ada.welcomed["connection"]
    carrier = Carrier(server.address(), "/ws")
    message = {"type": "ping", "id": 1}

    def bearer(user):
        return [("Authorization", "Bearer " + key.token(sub=user))]

    assert carrier.post(name, message).status == 401
    assert carrier.post(name, message, fields=bearer("eve")).status == 403  # with the key, but as another
    assert carrier.post(name, message, fields=bearer("ada")).status == 200
    assert carrier.post(name, {"type": "join", "id": 2, "room": "chat:1"}, fields=bearer("ada")).status == 200
    renewal = {"type": "auth", "id": 3, "token": key.token(sub="ada")}
    answer = carrier.post(name, renewal, fields=bearer("ada"))
    assert answer.status == 200 and json.loads(answer.body)["expires_in"] > 3000
    renewal["token"] = key.token(sub="eve")
    assert carrier.post(name, renewal, fields=bearer("ada")).status == 403
    ada.drop()
    carrier.drop()


def test_limits(start):
    server = start(
        "[route /ws]\nmode = rooms\nconnections_per_ip = 2\nmessage_rate = 2/m burst=2\non_limit = drop\n"
        "[route /strict]\nmode = rooms\nmessage_rate = 1/m burst=1\n"
    )
    readers = [Reader(server.address(), "/ws") for _ in range(3)]
    assert [r.head.status for r in readers] == [200, 200, 429]
    assert readers[2].head.get("Retry-After") == "5"
    readers[0].drop()
    wait_until(lambda: Reader(server.address(), "/ws").head.status == 200, "the place of the one that left")
    readers[1].welcome()
    carrier = Carrier(server.address(), "/ws")
    name = readers[1].welcomed["connection"]
    statuses = [carrier.post(name, {"type": "ping", "id": i}).status for i in range(4)]
    assert statuses == [200, 200, 429, 429]
    assert readers[1].settle() is None  # it stays
    strict = Reader(server.address(), "/strict")
    strict.welcome()
    other = Carrier(server.address(), "/strict")
    assert other.post(strict.welcomed["connection"], {"type": "ping", "id": 1}).status == 200
    assert other.post(strict.welcomed["connection"], {"type": "ping", "id": 2}).status == 429
    strict.json(type="bye", code=4408)
    assert strict.event() is None
    for each in (*readers, strict, carrier, other):
        each.drop()


# All that sessions have.


def test_orders_of_the_backend(server):
    reader = read(server, "/ws")
    conn = reader.welcome()["conn"]
    server.command({"op": "join", "conn": conn, "room": "chat:9"})
    wait_until(lambda: server.members("chat:9") == 1, "the join")
    server.publish("chat:9", "1")
    reader.json(type="message", room="chat:9", data=1)
    server.command({"op": "leave", "conn": conn, "room": "chat:9"})
    reader.json(type="removed", room="chat:9", reason="kicked")
    server.command({"op": "publish", "room": "@conn:" + conn, "data": 2})
    reader.json(type="message", data=2)
    server.command({"op": "publish", "room": "@all", "data": 3})
    reader.json(type="message", data=3)
    (listed,) = [c for c in server.get("/v1/connections")["connections"] if c["conn"] == conn]
    assert listed["transport"] == "sse" and listed["state"] == "sse" and listed["protocol"] == "belfry.v1.json"
    server.command({"op": "disconnect", "conn": conn, "code": 4003, "reason": "go away", "reconnect": False})
    reader.json(type="bye", code=4003, reason="go away", reconnect=False)
    assert reader.event() is None
    assert server.closed(4003) + server.closed(4000) >= 1
    reader.drop()


def test_presence(server):
    reader = read(server, "/ws?room=seen:1")
    conn = reader.welcome()["conn"]
    reader.json(type="member", event="join", member={"conn": conn})
    client = server.open_json("/ws")
    client.send_json({"type": "join", "id": 1, "room": "seen:1"})
    reader.json(type="member", event="join", member={"conn": client.welcome["conn"]})
    carrier = Carrier(server.address(), "/ws")
    answer = carrier.post(reader.welcomed["connection"], {"type": "members", "id": 2, "room": "seen:1"})
    assert answer.status == 200 and json.loads(answer.body)["count"] == 2
    carrier.drop()
    assert client.receive_json()["type"] == "ok" and client.receive_json()["type"] == "member"
    client.finish()
    reader.json(type="member", event="leave", member={"conn": client.welcome["conn"]})
    reader.drop()


def test_hooks_and_notifications(start):
    with HookBackend(connect={"user": "ada", "rooms": ["chat:1"], "data": {"hello": 1}, "expires_in": 3600}) as backend:
        server = start(hook_config(backend, route="auth = backend\nnotify = connected, disconnected, joined, left\n"))
        reader = Reader(server.address(), "/ws?room=open:1&x=1")
        welcome = reader.welcome()
        assert welcome["user"] == "ada" and welcome["data"] == {"hello": 1} and welcome["expires_in"] > 3500
        assert sorted(welcome["rooms"]) == ["chat:1", "open:1"]
        (asked,) = backend.wait_for("connect")
        assert asked.body["conn"] == welcome["conn"]
        carrier = Carrier(server.address(), "/ws")
        assert carrier.post(welcome["connection"], {"type": "ping", "id": 1}).status == 200
        assert len(backend.of("connect")) == 1  # nobody is asked again
        reader.drop()
        carrier.drop()
        told = backend.wait_events(6)
        kinds = sorted(e["type"] for e in told if not e.get("room", "").startswith("@"))
        assert kinds == ["connected", "disconnected", "joined", "joined", "left", "left"]
        assert {e["conn"] for e in told} == {welcome["conn"]}
        assert [e["code"] for e in told if e["type"] == "disconnected"] == [1005]
        backend.answers["connect"] = (403, {"error": "no"})
        assert Reader(server.address(), "/ws").head.status == 403


def test_a_stop_says_bye(start):
    server = start(CONFIG)
    reader = Reader(server.address(), "/ws?room=chat:1")
    reader.welcome()
    server.process.terminate()
    bye = reader.json(type="bye", code=4503, reconnect=True)
    found = reader.block()
    assert found.retry == bye["after_ms"] or bye["after_ms"] == 0
    assert found is None or reader.event() is None
    reader.drop()
    assert server.process.wait(10) == 0


def test_a_slow_reader(start):
    server = start(
        "[route /ws]\nmode = rooms\nsend_queue = 64k\nmax_message = 32k\n"
        "[room chat:*]\njoin = anyone\n"
        "[broker]\nmax_message = 32k\n"
    )
    slow = Reader(server.address(), "/ws?room=chat:1", receive_buffer=4096)
    slow.welcome()
    other = Reader(server.address(), "/ws?room=chat:1")
    other.welcome()

    def flooded():
        server.publish("chat:1", json.dumps("x" * 20000))
        other.json(type="message")
        return server.closed(4413) == 1

    wait_until(flooded, "the slow one to be closed")
    while (found := slow.event()) is not None:  # what is on the wire is whole, and the last word is a bye
        last = found.json()
    assert last["type"] == "bye" and last["code"] == 4413
    slow.drop()
    other.drop()


# Recovery.


def test_event_ids_follow_the_rooms(server):
    reader = read(server, "/ws?room=kept:a&room=chat:1")
    epoch = None
    reader.welcome()
    for i in range(1, 4):
        server.publish("kept:a", str(i))
        message = reader.json(type="message", room="kept:a", data=i, offset=i)
        epoch = message["epoch"]
        assert reader.settle() == f"{epoch}:{i}:kept%3Aa"
    server.publish("chat:1", "0")  # a room without history changes nothing
    reader.json(type="message", room="chat:1")
    assert reader.settle() == f"{epoch}:3:kept%3Aa"
    reader.drop()


@pytest.mark.parametrize("by", ["field", "query"])
def test_three_rooms_from_one_id(server, by):
    rooms = [f"kept:{by}-{name}" for name in "xyz"]
    first = read(server, f"/ws?room={rooms[0]}")
    first.welcome()
    carrier = Carrier(server.address(), "/ws")
    for i, room in enumerate(rooms[1:]):  # one is in the URL, the others are in the id alone
        message = {"type": "join", "id": i, "room": room}
        assert carrier.post(first.welcomed["connection"], message).status == 200
    carrier.drop()
    for room in rooms:
        server.publish(room, '"seen"')
        first.json(type="message", room=room)
    last = first.settle()
    first.drop()
    assert last.count(",") == 2
    for i in range(5):
        for room in rooms:
            server.publish(room, str(i))

    query = "&last_event_id=" + last.replace("%", "%25") if by == "query" else ""
    second = read(server, f"/ws?room={rooms[0]}{query}", last_id=None if query else last)
    second.welcome()
    got = {room: [] for room in rooms}
    for _ in range(15):
        message = second.json(type="message")
        got[message["room"]].append(message["data"])
    assert got == {room: list(range(5)) for room in rooms}
    for room in rooms:
        server.publish(room, '"live"')
        second.json(type="message", room=room, data="live")
    last = second.settle()
    second.drop()

    for room in rooms:
        server.publish(room, '"more"')
    third = read(server, "/ws", last_id=last)
    third.welcome()
    assert {third.json(type="message", data="more")["room"] for _ in rooms} == set(rooms)
    third.drop()


def test_rooms_that_no_id_has_place_for(server):
    """An event id names 32 rooms; of the others a reader that comes back is told that it may have missed something."""
    rooms = [f"kept:many{i}" for i in range(40)]
    target = "/ws?" + "&".join(f"room={room}" for room in rooms)
    reader = read(server, target)
    reader.welcome()
    for room in rooms:
        server.command({"op": "publish", "room": room, "data": 1})
    for _ in rooms:
        reader.json(type="message")
    reader.settle()
    last = reader.last_id
    assert last.count(",") == 31
    reader.drop()
    for room in rooms:
        server.command({"op": "publish", "room": room, "data": 2})
    again = read(server, target, last_id=last)
    again.welcome()
    got = [again.json() for _ in rooms]
    assert sorted(m["room"] for m in got) == sorted(rooms)
    told = {m["room"] for m in got if m["type"] == "gap"}
    missed = {m["room"] for m in got if m["type"] == "message" and m["data"] == 2}
    assert len(told) == 8 and len(missed) == 32


def test_an_id_of_another_life(server):
    server.publish("kept:g", "1")
    reader = read(server, "/ws", last_id="Zz09:1:kept%3Ag,Zz09:3:closed%3A1")
    reader.welcome()
    found = [reader.json(), reader.json()]
    assert {m["type"] for m in found} == {"gap", "error"}
    assert [m["room"] for m in found if m["type"] == "gap"] == ["kept:g"]
    assert [m["code"] for m in found if m["type"] == "error"] == [403]
    server.publish("kept:g", "2")
    reader.json(type="message", room="kept:g", data=2)  # it goes on from here
    reader.drop()
    for text in ("17", "", "x:y:z", "a:1:@all"):
        other = read(server, "/ws", last_id=text)
        other.welcome()
        assert other.settle() == text
        other.drop()


def test_nothing_lost_and_nothing_twice_while_messages_flow(server):
    """Cut again and again, with a publisher that never stops."""
    import threading

    count, stop = [0], threading.Event()

    def publish():
        while not stop.is_set():
            count[0] += 1
            server.publish("kept:flow", str(count[0]))

    got, last = [], None
    reader = read(server, "/ws?room=kept:flow")
    reader.welcome()
    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(12):
            until = time.monotonic() + 0.15
            since = []
            while time.monotonic() < until:
                found = reader.block()
                if found.id is not None:  # what a browser counts as read
                    got += since
                    since = []
                elif found.data is not None:
                    message = found.json()
                    assert message["type"] == "message", message
                    since.append(message["data"])
            last = reader.last_id
            reader.drop()
            reader = read(server, "/ws?room=kept:flow", last_id=last)
            reader.welcome()
    finally:
        stop.set()
        thread.join()
    while not got or got[-1] != count[0]:
        message = reader.json(type="message")
        got.append(message["data"])
    assert got == list(range(got[0], count[0] + 1))
    reader.drop()


def test_raw_readers_recover_too(server):
    reader = read(server, "/raw?room=kept:r")
    wait_until(lambda: server.members("kept:r") == 1, "the room")
    server.publish("kept:r", "one")
    assert reader.event().data == "one"
    last = reader.settle()
    reader.drop()
    server.publish("kept:r", "two")
    server.publish("kept:r", "three")
    again = read(server, "/raw?room=kept:r", last_id=last)
    assert again.event().data == "two"
    assert again.event().data == "three"
    again.drop()
