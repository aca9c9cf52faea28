"""Messages by POST for sessions without WebSocket: whoever has the connection, whichever worker took the request."""

import concurrent.futures
import json

import pytest
from belfry import wait_until
from hook_backend import HookBackend, hook_config
from http1 import chunks, connect, head, request
from sse import Carrier, Poller, Reader

CONFIG = """
[belfry]
workers = 2

[route /ws]
mode = rooms
protocol = json
origin = any
max_message = 4k

[route /raw]
mode = rooms
protocol = raw

[room chat:*]
join = anyone
publish = members

[room closed:*]
join = nobody
publish = nobody
"""


@pytest.fixture(scope="module")
def shared_server(start_shared):
    return start_shared(CONFIG)


@pytest.fixture
def server(shared_server):
    yield shared_server
    shared_server.check()


@pytest.fixture
def reader(server):
    found = Reader(server.address(), "/ws")
    found.welcome()
    yield found
    found.drop()


@pytest.fixture
def carrier(server):
    found = Carrier(server.address(), "/ws")
    yield found
    found.drop()


def say(carrier, reader, message, **options):
    """(status, object) of a POST for this session."""
    answer = carrier.post(reader.welcomed["connection"], message, **options)
    assert answer.get("Content-Type") == "application/json"
    return answer.status, json.loads(answer.body)


def test_each_message_has_its_answer(server, reader, carrier):
    assert say(carrier, reader, {"type": "join", "id": 1, "room": "chat:1"}) == (
        200,
        {"type": "ok", "id": 1, "room": "chat:1"},
    )
    assert server.members("chat:1") == 1
    assert say(carrier, reader, {"type": "ping", "id": 2}) == (200, {"type": "pong", "id": 2})
    assert say(carrier, reader, {"type": "publish", "id": 3, "room": "chat:1", "data": {"a": 1}}) == (
        200,
        {"type": "ok", "id": 3},
    )
    reader.json(type="message", room="chat:1", data={"a": 1})
    assert say(carrier, reader, {"type": "leave", "id": 4, "room": "chat:1"}) == (200, {"type": "ok", "id": 4})
    assert server.members("chat:1") == 0


def test_no_id_no_answer(server, reader, carrier):
    assert say(carrier, reader, {"type": "join", "room": "chat:1"}) == (202, {})
    wait_until(lambda: server.members("chat:1") == 1, "the join")
    assert say(carrier, reader, {"type": "publish", "room": "chat:1", "data": 7}) == (202, {})
    reader.json(type="message", data=7)
    status, answer = say(carrier, reader, {"type": "ping"})
    assert (status, answer) == (200, {"type": "pong"})


def test_errors_are_the_status(server, reader, carrier):
    status, answer = say(carrier, reader, {"type": "join", "id": 1, "room": "closed:1"})
    assert status == 403 and answer["code"] == 403 and answer["id"] == 1 and answer["type"] == "error"
    status, answer = say(carrier, reader, {"type": "join", "room": "closed:1"})  # without an id as well
    assert status == 403 and answer["code"] == 403 and "id" not in answer
    assert say(carrier, reader, {"type": "leave", "id": 2, "room": "chat:9"})[0] == 404
    assert say(carrier, reader, {"type": "nonsense", "id": 3})[0] == 400
    assert say(carrier, reader, {"type": "join", "id": "x", "room": "chat:1"})[0] == 400
    assert say(carrier, reader, {"type": "call", "id": 4, "method": "m"})[0] == 501
    # The session is none the worse for it.
    assert say(carrier, reader, {"type": "ping", "id": 5})[0] == 200
    assert reader.settle() is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"type":7}', b"\xff", b'{"type":"ping"} x'])
def test_what_is_no_object(server, reader, carrier, body):
    assert say(carrier, reader, body)[0] == 400
    assert say(carrier, reader, {"type": "ping", "id": 1})[0] == 200


def test_an_unknown_or_foreign_session(server, reader, carrier):
    name = reader.welcomed["connection"]
    conn, key = name.split(".")
    other = Reader(server.address(), "/ws")
    other.welcome()
    wrong = [
        conn + "." + other.welcomed["connection"].split(".")[1],  # another's key
        conn + "." + key[:-1],
        conn + "." + key + "A",
        conn[:-1] + ("A" if conn[-1] != "A" else "B") + "." + key,
        "c_" + "A" * 20 + "." + key,
    ]
    for text in wrong:
        answer = carrier.post(text, {"type": "ping", "id": 1})
        assert answer.status == 404, (text, answer.body)
    for text in ("", conn, key, name + ".", name + ".1", "." + key, "x"):
        assert carrier.post(text, {"type": "ping", "id": 1}).status == 400, text
    # A WebSocket connection's id is nobody's key.
    client = server.open_json("/ws")
    assert carrier.post(client.welcome["conn"] + "." + key, {"type": "ping", "id": 1}).status == 404
    assert "connection" not in client.welcome
    client.finish()
    other.drop()


def test_a_session_that_has_ended(server, carrier):
    reader = Reader(server.address(), "/ws")
    reader.welcome()
    reader.drop()
    wait_until(lambda: server.connection_ids() == [] or len(server.connection_ids()) <= 1, "its end")
    assert say(carrier, reader, {"type": "ping", "id": 1})[0] == 404


def test_bounds_of_the_body(server, reader, carrier):
    name = [("Belfry-Connection", reader.welcomed["connection"])]
    pad = " " * 4000
    assert say(carrier, reader, {"type": "ping", "id": 1, "x": pad})[0] == 200
    assert say(carrier, reader, {"type": "ping", "id": 1, "x": pad * 2})[0] == 413
    with connect(server.address()) as raw:
        raw.send(head("POST /ws HTTP/1.1", [("Host", "x"), *name, ("Transfer-Encoding", "chunked")]))
        raw.send(chunks(b'{"type":', b'"ping","id":9}'))
        assert json.loads(raw.read_answer().body) == {"type": "pong", "id": 9}
        raw.send(head("POST /ws HTTP/1.1", [("Host", "x"), *name, ("Transfer-Encoding", "chunked")]))
        raw.send(chunks(*[b" " * 1000] * 5))
        assert raw.read_answer().status == 413
    with connect(server.address()) as raw:
        raw.send(head("POST /ws HTTP/1.1", [("Host", "x"), *name]))
        assert raw.read_answer().status == 411
    assert say(carrier, reader, {"type": "ping", "id": 1}, kind="text/plain; charset=utf-8")[0] == 200
    assert say(carrier, reader, {"type": "ping", "id": 1}, kind="application/x-www-form-urlencoded")[0] == 415


def test_expect_continue(server, reader):
    body = b'{"type":"ping","id":1}'
    fields = [("Belfry-Connection", reader.welcomed["connection"]), ("Expect", "100-continue")]
    with connect(server.address()) as raw:
        raw.send(head("POST /ws HTTP/1.1", [("Host", "x"), *fields, ("Content-Length", len(body))]))
        assert raw.read_head().status == 100
        raw.send(body)
        assert json.loads(raw.read_answer().body) == {"type": "pong", "id": 1}


def test_pipelined_messages_keep_their_order(server, reader):
    name = [("Belfry-Connection", reader.welcomed["connection"])]
    with connect(server.address()) as raw:
        bodies = [json.dumps({"type": "ping", "id": i}).encode() for i in range(20)]
        raw.send(b"".join(request("POST", "/ws", body, name) for body in bodies))
        assert [json.loads(raw.read_answer().body)["id"] for _ in bodies] == list(range(20))


def test_every_worker_takes_messages_for_every_session(server):
    readers = [Reader(server.address(), "/ws?room=chat:1") for _ in range(8)]
    for reader in readers:
        reader.welcome()
    workers = {reader.welcomed["conn"][6:7] for reader in readers}
    carriers = [Carrier(server.address(), "/ws") for _ in range(16)]  # a connection each

    def speak(i):
        return say(carriers[i], readers[i % 8], {"type": "publish", "id": i, "room": "chat:1", "data": i})

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(speak, range(16)))
    assert answers == [(200, {"type": "ok", "id": i}) for i in range(16)]
    assert len(workers) >= 1
    for reader in readers:
        assert sorted(reader.json(type="message")["data"] for _ in range(16)) == list(range(16))
        reader.drop()
    for carrier in carriers:
        carrier.drop()


def test_a_poll_session_takes_messages_too(server):
    poller = Poller(server.address(), "/ws")
    poller.welcome()
    assert poller.send({"type": "join", "id": 1, "room": "chat:1"})[0] == 200
    assert poller.send({"type": "publish", "id": 2, "room": "chat:1", "data": "x", "echo": False})[0] == 200
    assert poller.send({"type": "publish", "id": 3, "room": "chat:1", "data": "y"})[0] == 200
    poller.receive(type="message", data="y")
    poller.drop()
    server.command({"op": "disconnect", "conn": poller.welcomed["conn"]})


def test_raw_sessions_send_what_they_post(server):
    member = server.open("/raw?room=chat:1")
    reader = Reader(server.address(), "/raw?room=chat:1")
    carrier = Carrier(server.address(), "/raw")
    name = reader.head.get("Belfry-Connection")
    wait_until(lambda: server.members("chat:1") == 2, "the rooms")
    assert carrier.post(name, b"hello", "text/plain").status == 202
    assert member.receive() == ("text", "hello")
    assert carrier.post(name, b"\xff\x00", "application/octet-stream").status == 202
    assert member.receive() == ("binary", b"\xff\x00")
    member.finish()
    reader.drop()
    carrier.drop()


# What the backend decides.


@pytest.fixture
def backend():
    with HookBackend() as running:
        yield running


def test_calls_and_hooks_answer_the_post(start, backend):
    server = start(hook_config(backend))
    backend.answers["call"] = {"data": {"sum": 3}}
    reader, carrier = Reader(server.address(), "/ws"), Carrier(server.address(), "/ws")
    reader.welcome()
    assert say(carrier, reader, {"type": "call", "id": 1, "method": "add", "data": [1, 2]}) == (
        200,
        {"type": "ok", "id": 1, "data": {"sum": 3}},
    )
    backend.answers["join"] = {"error": {"code": 403, "message": "not you"}}
    status, answer = say(carrier, reader, {"type": "join", "id": 2, "room": "ask:1"})
    assert status == 403 and answer["message"] == "not you"
    backend.answers["call"] = {"error": {"code": 451, "message": "odd"}}
    status, answer = say(carrier, reader, {"type": "call", "id": 3, "method": "m"})
    assert status == 451 and answer["code"] == 451
    reader.drop()
    carrier.drop()


def test_one_message_at_a_time_and_no_id_twice(start, backend):
    server = start(hook_config(backend))
    reader = Reader(server.address(), "/ws")
    reader.welcome()
    order = []

    def call(i):
        carrier = Carrier(server.address(), "/ws")
        answer = say(carrier, reader, {"type": "call", "id": i, "method": str(i)})
        carrier.drop()
        order.append(i)
        return answer

    backend.answers["call"] = {"data": 1}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(status == 200 for status, _ in pool.map(call, range(8)))
    assert sorted(order) == list(range(8))
    reader.drop()
