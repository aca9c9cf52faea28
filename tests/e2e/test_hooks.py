"""Hooks (contracts section 7): every event with a real backend; order, time-outs, repetition, commands, refusals."""

import base64
import contextlib
import json
import re
import threading
import time

import pytest

import ws
from belfry import wait_until
from hook_backend import SECRET, HookBackend, hook_config

BACKEND_AUTH = "auth = backend\n"


@pytest.fixture
def backend():
    with HookBackend() as b:
        yield b


@pytest.fixture
def server(start, backend):
    return start(hook_config(backend, route="connect_hook = always\n"))


def ask(client, **request):
    client.send_json(request)
    return client.receive_json()


# The connect hook.


def test_connect_tells_who_asks(server, backend):
    backend.answers["connect"] = {
        "user": "56", "info": {"name": "Ada"}, "expires_in": 3600, "rooms": ["open:1"], "data": {"hello": [1]},
    }  # fmt: skip
    client = server.client()
    client.open(
        "/ws?a=1&b=x%20y&a=2", protocols=["belfry.v1.json"],
        add=[("Cookie", "s=1"), ("Authorization", "Bearer t"), ("Origin", "https://a.example"),
             ("User-Agent", "agent"), ("Accept-Language", "de"), ("X-Secret", "mine")],
    )  # fmt: skip
    welcome = client.receive_json()
    (call,) = backend.of("connect")
    assert call.body == {
        "event": "connect", "conn": welcome["conn"], "ip": "127.0.0.1", "origin": "https://a.example", "path": "/ws",
        "query": {"a": "1", "b": "x y"}, "subprotocols": ["belfry.v1.json"],
    }  # fmt: skip
    expected = {
        "cookie": "s=1", "authorization": "Bearer t", "origin": "https://a.example", "user-agent": "agent",
        "accept-language": "de", "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http",
        "host": f"127.0.0.1:{backend.port}",
    }  # fmt: skip
    assert {name: call.headers.get(name) for name in expected} == expected
    assert "x-secret" not in call.headers and call.headers["x-request-id"]
    assert welcome["user"] == "56" and welcome["info"] == {"name": "Ada"} and welcome["data"] == {"hello": [1]}
    assert welcome["rooms"] == {"open:1": {}} and 3590 <= welcome["expires_in"] <= 3600


def test_connect_without_an_answer_is_anonymous(server, backend):
    client = server.open_json("/ws")
    assert "user" not in client.welcome and client.welcome["rooms"] == {}


@pytest.mark.parametrize("status", [401, 403, 402, 429])
def test_connect_refuses_in_its_own_words(server, backend, status):
    backend.answers["connect"] = (status, {"why": "no session"})
    with pytest.raises(ws.Refused) as refused:
        server.open("/ws")
    answer = refused.value.answer
    assert answer.status == status and json.loads(answer.body) == {"why": "no session"}
    assert answer.field("Content-Type") == "application/json"
    assert server.refusal_lines(status)


def test_connect_refusals_are_bounded(server, backend):
    backend.answers["connect"] = (403, "x" * 4097)
    with pytest.raises(ws.Refused) as refused:
        server.open("/ws")
    assert refused.value.answer.status == 403 and refused.value.answer.body == b""


@pytest.mark.parametrize("answer", [(500, "no"), (302, "no"), (200, "<html>"), {"user": 5}, {"rooms": ["@all"]}])
def test_connect_without_a_good_answer_is_502(server, backend, answer):
    backend.answers["connect"] = answer
    with pytest.raises(ws.Refused) as refused:
        server.open("/ws")
    assert refused.value.answer.status == 502
    assert refused.value.answer.json()["error"]["code"] == 502


def test_connect_with_a_disconnect_is_403(server, backend):
    backend.answers["connect"] = {"user": "1", "disconnect": {"code": 4403}}
    with pytest.raises(ws.Refused) as refused:
        server.open("/ws")
    assert refused.value.answer.status == 403


def test_connect_gives_rights(server, backend):
    backend.answers["connect"] = {"join": ["ask:mine*"], "publish": ["ask:mine"]}
    client = server.open_json("/ws")
    assert ask(client, type="join", id=1, room="ask:mine2")["type"] == "ok"
    assert ask(client, type="publish", id=2, room="ask:mine", data=1)["type"] == "ok"
    assert not backend.of("join") and not backend.of("publish")


def test_a_client_that_leaves_while_the_backend_thinks(server, backend):
    go = threading.Event()
    backend.answers["connect"] = lambda call: go.wait(10) and None
    client = server.client()
    client.send(ws.request_head("/ws"))
    backend.wait_for("connect")
    client.abort()
    wait_until(lambda: server.connections() == 0, "the connection stayed")
    go.set()
    backend.answers["connect"] = None
    server.open_json("/ws")


def test_all_hooks_of_a_client_go_to_its_server(start):
    """The first one, too, whichever module asks for it."""
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(HookBackend(call={"data": 1})) for _ in range(3)]
        server = start(hook_config(*backends, route=BACKEND_AUTH, upstream="sticky = cookie:session\n"))
        for i in range(12):
            client = server.client()
            client.open("/ws", protocols=["belfry.v1.json"], add=[("Cookie", f"session=key-{i}")])
            conn = client.receive_json()["conn"]
            ask(client, type="call", id=1, method="m", data=1)
            asked = [[call.body["event"] for call in b.calls if call.body["conn"] == conn] for b in backends]
            assert sorted(asked) == [[], [], ["connect", "call"]]


# Events of a session.


def test_join_publish_call(server, backend):
    backend.answers["join"] = lambda c: {"error": {"code": 402, "message": "pay"}} if "paid" in c.body["room"] else None
    backend.answers["publish"] = lambda c: {"deliver": False} if c.body["data"] == "spam" else {"data": {"clean": 1}}
    backend.answers["call"] = lambda c: {"data": [c.body["method"], c.body["data"]]}
    a, b = server.open_json("/ws"), server.open_json("/ws")
    for client in (a, b):
        assert ask(client, type="join", id=1, room="ask:1") == {"type": "ok", "id": 1, "room": "ask:1"}
    error = ask(a, type="join", id=2, room="ask:paid")
    assert error == {"type": "error", "id": 2, "code": 402, "message": "pay"}
    assert ask(a, type="publish", id=3, room="ask:1", data="spam", echo=False) == {"type": "ok", "id": 3}
    assert ask(a, type="publish", id=4, room="ask:1", data="x", echo=False) == {"type": "ok", "id": 4}
    message = b.receive_json()
    assert message["data"] == {"clean": 1} and message["from"] == {"conn": a.welcome["conn"]}
    assert ask(a, type="call", id=5, method="order.create", data={"n": 1})["data"] == ["order.create", {"n": 1}]
    assert [c.body["room"] for c in backend.of("join")] == ["ask:1", "ask:1", "ask:paid"]
    assert backend.of("publish")[0].body["data"] == "spam"


def test_state_is_echoed_and_kept_apart(server, backend):
    backend.answers["connect"] = lambda c: {"state": {"n": 0}}
    backend.answers["call"] = lambda c: {"state": {"n": c.body["state"]["n"] + 1}, "data": c.body["state"]["n"]}
    a, b = server.open_json("/ws"), server.open_json("/ws")
    for i in range(3):
        assert ask(a, type="call", id=i, method="count")["data"] == i
    assert ask(b, type="call", id=9, method="count")["data"] == 0


def test_raw_messages(start, backend):
    backend.answers["message"] = lambda c: (
        {"data": c.body["data"].upper()} if "data" in c.body else {"data64": c.body["data64"]}
    )
    server = start(hook_config(backend, route="protocol = raw\n"))
    client = server.open("/ws")
    client.send(ws.text("hello"))
    assert client.receive() == ("text", "HELLO")
    client.send(ws.binary(b"\x00\xff"))
    assert client.receive() == ("binary", b"\x00\xff")
    assert backend.of("message")[1].body["data64"] == base64.b64encode(b"\x00\xff").decode()


# Order, and who waits.


def test_order_per_client(server, backend):
    backend.answers["call"] = lambda c: time.sleep(0.05 if c.body["data"] % 2 else 0) or {"data": c.body["data"]}
    client = server.open_json("/ws")
    everything = b""
    for i in range(20):
        everything += ws.text(json.dumps({"type": "call", "id": i, "method": "m", "data": i}))
        everything += ws.text(json.dumps({"type": "ping", "id": 100 + i}))
    client.send(everything)
    got = [client.receive_json()["id"] for _ in range(40)]
    assert got == [n for i in range(20) for n in (i, 100 + i)]
    assert [c.body["data"] for c in backend.of("call")] == list(range(20))


def test_a_publish_does_not_overtake_a_join_that_waits(server, backend):
    go = threading.Event()
    backend.answers["join"] = lambda c: go.wait(10) and None
    client = server.open_json("/ws")
    client.send_json({"type": "join", "id": 1, "room": "ask:1"})
    client.send_json({"type": "join", "id": 2, "room": "open:1"})
    client.send_json({"type": "publish", "id": 3, "room": "open:1", "data": 1})
    backend.wait_for("join")
    client.expect_silence()
    go.set()
    assert [client.receive_json().get("id") for _ in range(2)] == [1, 2]


def test_a_slow_hook_blocks_nobody_else(server, backend):
    go = threading.Event()
    backend.answers["call"] = lambda c: None if c.body["method"] == "quick" or go.wait(20) else "late"
    slow = [server.open_json("/ws") for _ in range(8)]
    quick = [server.open_json("/ws") for _ in range(8)]
    for client in slow:
        client.send_json({"type": "call", "id": 1, "method": "slow"})
    backend.wait_for("call", 8)
    for client in quick:
        assert ask(client, type="call", id=2, method="quick")["type"] == "ok"
        assert ask(client, type="ping", id=3)["type"] == "pong"
    go.set()
    for client in slow:
        assert client.receive_json() == {"type": "ok", "id": 1, "data": None}


# What goes wrong.


PATIENT = f"""
[route /patient]
mode = rooms
upstream = app
hook = /belfry
hook_secret = {SECRET}
origin = any
hook_timeout = 10m
connect_hook = always
"""


@pytest.fixture
def go(backend):
    """Until it is set, calls and handshakes are not answered."""
    event = threading.Event()
    backend.answers["call"] = backend.answers["connect"] = lambda c: None if event.wait(20) else (500, "never asked to go on")
    yield event
    event.set()


def test_too_late_is_504(start, backend, go):
    """And who is given the time still waits, and is answered at last."""
    server = start(hook_config(backend, route="hook_timeout = 300ms\n") + PATIENT.replace("always", "auto"))
    patient, client = server.open_json("/patient"), server.open_json("/ws")
    patient.send_json({"type": "call", "id": 1, "method": "m"})
    backend.wait_for("call")
    assert ask(client, type="call", id=1, method="m")["code"] == 504
    assert ask(client, type="ping", id=2)["type"] == "pong"
    patient.expect_silence()
    assert server.status()["hooks"]["failures"] == 1
    go.set()
    assert patient.receive_json()["type"] == "ok"


def test_connect_too_late_is_504(start, backend, go):
    server = start(hook_config(backend, route="hook_timeout = 300ms\nconnect_hook = always\n") + PATIENT)
    patient = server.client()
    patient.send(ws.request_head("/patient"))
    backend.wait_for("connect")
    with pytest.raises(ws.Refused) as refused:
        server.open("/ws")
    assert refused.value.answer.status == 504
    patient.expect_silence()
    go.set()
    assert patient.read_answer().status == 101


def test_a_backend_that_is_gone_is_502_and_comes_back(start):
    backend = HookBackend().start()
    server = start(hook_config(backend))
    client = server.open_json("/ws")
    backend.stop()
    assert ask(client, type="call", id=1, method="m")["code"] == 502
    backend.start()
    wait_until(lambda: ask(client, type="call", id=1, method="m")["type"] == "ok", "it did not come back")
    backend.stop()


def test_only_what_is_safe_is_asked_again_elsewhere(start):
    with HookBackend() as bad, HookBackend() as good:
        for event in ("connect", "join", "call", "publish"):
            bad.answers[event] = (503, "busy")
        server = start(hook_config(bad, good, route="connect_hook = always\n"))
        for _ in range(4):
            client = server.open_json("/ws")
            assert ask(client, type="join", id=1, room="ask:1")["type"] == "ok"
        assert bad.of("connect") and len(good.of("connect")) == 4
        assert {c.headers["webhook-id"] for c in bad.of("connect")} <= {
            c.headers["webhook-id"] for c in good.of("connect")
        }  # the same call, so the same id
        codes = [ask(client, type="call", id=i, method="m").get("code", 200) for i in range(6)]
        assert 502 in codes and 200 in codes
        assert len(bad.of("call")) + len(good.of("call")) == 6  # never twice


def test_both_servers_failing_is_502(start):
    with HookBackend(connect=(500, "")) as a, HookBackend(connect=(500, "")) as b:
        server = start(hook_config(a, b, route="connect_hook = always\n"))
        with pytest.raises(ws.Refused) as refused:
            server.open("/ws")
        assert refused.value.answer.status == 502
        assert len(a.of("connect")) == len(b.of("connect")) == 1


def test_a_malformed_answer_is_logged_without_its_content(server, backend):
    backend.answers["call"] = {"user": "very-secret", "expires_in": "soon"}
    client = server.open_json("/ws")
    assert ask(client, type="call", id=1, method="m")["code"] == 502
    server.wait_log(r"malformed: expires_in")
    assert not re.search("very-secret", server.log())


# What an answer may do besides.


def test_commands_are_carried_out(server, backend):
    a, b = server.open_json("/ws"), server.open_json("/ws")
    assert ask(b, type="join", id=1, room="open:1")["type"] == "ok"
    backend.answers["call"] = {
        "data": "done",
        "commands": [
            {"op": "publish", "room": "open:1", "data": {"from": "hook"}},
            {"op": "join", "conn": a.welcome["conn"], "room": "ask:9"},
            {"op": "disconnect", "conn": b.welcome["conn"], "code": 4001, "reason": "bye"},
            {"op": "nonsense"},
        ],
    }
    assert ask(a, type="call", id=1, method="m")["data"] == "done"
    assert b.receive_json()["data"] == {"from": "hook"}
    assert b.events()[-1] == ("close", 4001, "bye")
    wait_until(lambda: server.publish("ask:9", "9") == 1, "it did not join")
    message = a.receive_json()
    assert (message["room"], message["data"]) == ("ask:9", 9)
    server.wait_log("a command of the backend was dropped: op")


def test_disconnect_comes_behind_the_answer(server, backend):
    backend.answers["call"] = {"data": 1, "disconnect": {"code": 4403, "reason": "banned"}}
    client = server.open_json("/ws")
    assert ask(client, type="call", id=1, method="m")["data"] == 1
    bye = client.receive_json()
    assert (bye["type"], bye["code"], bye["reconnect"]) == ("bye", 4403, False)
    assert client.events() == [("close", 4403, "banned")]


def test_without_a_hook_there_are_no_calls(start):
    server = start("[route /ws]\nmode = rooms\n")
    client = server.open_json("/ws")
    assert ask(client, type="call", id=1, method="m")["code"] == 501


def test_unsigned_without_a_secret(start):
    with HookBackend(secret=None) as backend:
        server = start(hook_config(backend).replace("hook_secret", ";hook_secret"))
        client = server.open_json("/ws")
        assert ask(client, type="call", id=1, method="m")["type"] == "ok"
        assert not [name for name in backend.of("call")[0].headers if name.startswith("webhook")]
