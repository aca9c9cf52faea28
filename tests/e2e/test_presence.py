"""Presence on one node: who is in a room, and what the room is told of who comes and goes. Over Redis all of it too."""

import json
import time

import pytest

from belfry import wait_until
from hook_backend import HookBackend, hook_config

BROKER = "[broker]\ntype = redis\nurl = {url}\n"
ROOMS = """
[room quiet:*]
join = anyone
presence = yes

[room loud:*]
join = anyone
publish = anyone
announce = yes

[room plain:*]
join = anyone

[room hook:*]
announce = yes
"""


def by_query(call):
    user = call.body["query"].get("user")
    return {"user": user, "info": {"name": user}} if user else None


@pytest.fixture
def backend():
    with HookBackend(connect=by_query) as b:
        yield b


@pytest.fixture(params=["memory", "redis"])
def server(start, backend, request):
    config = hook_config(backend, route="connect_hook = always\n", more=ROOMS)
    if request.param == "redis":
        config += BROKER.format(url=request.getfixturevalue("redis").url)
    server = start(config)
    # Who joins before the first subscription stands is told a gap by it.
    wait_until(lambda: server.control("GET", "/readyz").status == 200, "not ready")
    return server


def ask(client, **request):
    client.send_json(request)
    return client.receive_json()


def members(client, room, id=9):
    """What the client is answered; events that come before it are put into client.missed."""
    client.send_json({"type": "members", "id": id, "room": room})
    while (answer := client.receive_json()).get("id") != id:
        client.__dict__.setdefault("missed", []).append(answer)
    return answer


def conns(answer):
    return sorted(m["conn"] for m in answer["members"])


def session(server, user="", room=None):
    client = server.open_json(f"/ws?user={user}" if user else "/ws")
    client.id = client.welcome["conn"]
    if room:
        assert ask(client, type="join", id=1, room=room)["type"] == "ok"
    return client


def event(room, what, client, user=None, **more):
    member = {"conn": client.id, **({"user": user, "info": {"name": user}} if user else {}), **more}
    return {"type": "member", "room": room, "event": what, "member": member}


def test_members_are_listed(server):
    a = session(server, "56", "quiet:1")
    assert members(a, "quiet:1") == {
        "type": "ok",
        "id": 9,
        "members": [{"conn": a.id, "user": "56", "info": {"name": "56"}}],
        "count": 1,
    }
    others = [session(server, user, "quiet:1") for user in ("57", "57", "")]
    answer = members(others[-1], "quiet:1")
    assert answer["count"] == 4 and conns(answer) == sorted([a.id, *(c.id for c in others)])
    assert {"conn": others[-1].id} in answer["members"]
    assert ask(others[0], type="leave", id=2, room="quiet:1")["type"] == "ok"
    others[1].drop()
    wait_until(lambda: members(a, "quiet:1")["count"] == 2, "they stay in the list")
    a.expect_silence()  # a room that is not told is not told


def test_who_may_ask(server):
    a = session(server, "", "plain:1")
    assert ask(a, type="members", id=2, room="plain:1")["code"] == 404
    assert ask(a, type="members", id=3, room="quiet:1")["code"] == 403
    assert ask(a, type="members", id=3, room="@all")["code"] == 403
    assert ask(a, type="members", id=4)["code"] == 400
    assert ask(a, type="members", room="quiet:1") == {
        "type": "error",
        "code": 400,
        "message": 'members: "id" is missing',
    }


def test_joins_and_leaves_are_told(server):
    a = session(server, "56", "loud:1")
    assert a.receive_json() == event("loud:1", "join", a, "56")
    b = session(server, "57", "loud:1")
    assert a.receive_json() == b.receive_json() == event("loud:1", "join", b, "57")
    anonymous = session(server, "", "loud:1")
    assert a.receive_json() == event("loud:1", "join", anonymous)
    left = time.monotonic()
    b.drop()
    assert a.receive_json() == event("loud:1", "leave", b, "57")
    assert time.monotonic() - left > 2.5
    assert ask(anonymous, type="leave", id=2, room="loud:1") == event("loud:1", "join", anonymous)
    assert anonymous.receive_json() == event("loud:1", "leave", b, "57")
    assert a.receive_json() == event("loud:1", "leave", anonymous)


def test_member_events_come_in_order_with_messages(server):
    a = session(server, "", "loud:1")
    assert a.receive_json()["event"] == "join"
    b = session(server, "57", "loud:1")
    assert b.receive_json()["event"] == "join"
    b.send_json({"type": "publish", "room": "loud:1", "data": 1})
    assert [a.receive_json()["type"] for _ in range(2)] == ["member", "message"]


def test_a_reload_does_not_flap(server):
    a = session(server, "", "loud:1")
    b = session(server, "57", "loud:1")
    assert [a.receive_json()["member"]["conn"] for _ in range(2)] == [a.id, b.id]
    for _ in range(3):
        b.drop()
        b = session(server, "57", "loud:1")
        answer = members(a, "loud:1")
        wait_until(lambda: conns(members(a, "loud:1")) == sorted([a.id, b.id]), lambda: f"the list is {answer}")
    a.expect_silence(4)
    assert not hasattr(a, "missed")
    b.drop()
    assert a.receive_json() == event("loud:1", "leave", b, "57")


def test_a_user_with_several_connections_joins_and_leaves_once(server):
    a = session(server, "", "loud:1")
    tabs = [session(server, "57", "loud:1") for _ in range(3)]
    assert [a.receive_json() for _ in range(2)] == [event("loud:1", "join", a), event("loud:1", "join", tabs[0], "57")]
    assert members(a, "loud:1")["count"] == 4
    tabs[0].drop()
    tabs[1].drop()
    a.expect_silence(4)
    tabs[2].drop()
    assert a.receive_json() == event("loud:1", "leave", tabs[2], "57")
    assert conns(members(a, "loud:1")) == [a.id]


def test_a_join_hook_adds_to_the_info(server, backend):
    backend.answers["join"] = lambda call: {"info": {"role": call.body["room"]}}
    a = session(server, "56", "hook:1")
    info = {"name": "56", "role": "hook:1"}
    assert a.receive_json() == event("hook:1", "join", a, "56", info=info)
    assert ask(a, type="join", id=2, room="hook:2")["type"] == "ok"
    assert a.receive_json()["member"]["info"] == {"name": "56", "role": "hook:2"}
    assert members(a, "hook:1")["members"][0]["info"] == {"name": "56", "role": "hook:2"}


def test_raw_members_are_listed_and_told_nothing(start):
    server = start(
        "[route /raw]\nprotocol = raw\n[route /json]\n[room loud:*]\njoin = anyone\npublish = anyone\nannounce = yes\n"
    )
    raw = server.open("/raw?room=loud:1")
    a = server.open_json("/json")
    assert ask(a, type="join", id=1, room="loud:1")["type"] == "ok"
    assert a.receive_json()["event"] == "join"
    assert members(a, "loud:1")["count"] == 2
    a.send_json({"type": "publish", "room": "loud:1", "data": "x"})
    assert raw.receive() == ("text", '"x"')  # the first thing it gets
    raw.drop()
    assert a.receive_json()["type"] == "message"
    assert a.receive_json()["event"] == "leave"


def test_a_thousand_are_listed_and_all_counted(start):
    server = start(
        "[belfry]\nworkers = 2\nmax_connections = 2000\n[route /json]\nsend_queue = 1m\n[room quiet:*]\njoin = anyone\n"
        "presence = yes\n[route /small]\nsend_queue = 4k\nmax_message = 1k\n[broker]\nmax_message = 2k\n"
    )
    clients = [server.open("/json") for _ in range(1005)]
    for client in clients:
        client.send_json({"type": "join", "id": 1, "room": "quiet:1"})
    for client in clients:
        assert client.receive_json()["type"] == "welcome"
        assert client.receive_json()["type"] == "ok"
    answer = members(clients[0], "quiet:1")
    assert answer["count"] == 1005 and len(set(conns(answer))) == 1000 and answer["truncated"] is True
    clients[7].drop()
    small = server.open_json("/small")
    assert ask(small, type="join", id=1, room="quiet:1")["type"] == "ok"
    wait_until(lambda: members(clients[0], "quiet:1")["count"] == 1005, "one has left, another one come")
    answer = members(small, "quiet:1")  # as many as its queue has room for
    assert answer["count"] == 1005 and 0 < len(answer["members"]) < 100 and answer["truncated"] is True


def test_who_asks_at_once_is_answered_by_one_read(server):
    clients = [session(server, "", "quiet:1") for _ in range(50)]
    before = server.status()["presence"]["reads"]
    for client in clients:
        client.send_json({"type": "members", "id": 2, "room": "quiet:1"})
    for client in clients:
        assert client.receive_json()["count"] == 50
    status = server.status()["presence"]
    assert status["reads"] - before <= 5 and status["asked"] >= 50


def test_the_control_api_shows_members(server):
    a = session(server, "56", "quiet:1")
    session(server, "", "plain:1")
    assert server.get("/v1/rooms/plain:1")["members"] == 1
    found = server.get("/v1/rooms/quiet:1")
    assert found["room"] == "quiet:1" and found["count"] == 1
    assert found["members"] == [{"conn": a.id, "user": "56", "info": {"name": "56"}}]
    shown = server.ctl("--json", "room", "quiet:1")
    assert shown.returncode == 0 and json.loads(shown.stdout) == found
    assert server.get("/v1/rooms/quiet:nobody")["members"] == []
    presence = server.status()["presence"]
    assert presence["members"] == 1 and presence["rooms"] >= 1 and presence["bytes"] > 0


def test_an_order_of_the_backend_counts_too(server):
    a = session(server, "", "loud:1")
    b = session(server, "57")
    assert a.receive_json()["event"] == "join"
    server.command({"op": "join", "conn": b.id, "room": "loud:1"})
    assert a.receive_json() == event("loud:1", "join", b, "57")
    server.command({"op": "leave", "conn": b.id, "room": "loud:1"})
    assert a.receive_json() == event("loud:1", "leave", b, "57")


def test_nothing_is_left_in_redis(start, backend, redis):
    server = start(hook_config(backend, route="connect_hook = always\n", more=ROOMS) + BROKER.format(url=redis.url))
    a = session(server, "56", "loud:1")
    session(server, "", "quiet:1")
    client = redis.client()
    wait_until(lambda: client.call("EXISTS", "belfry:member:{loud:1}"), "it is not there")
    assert client.call("HGET", "belfry:member:{loud:1}", a.id) == b'{"user":"56","info":{"name": "56"}}'
    assert client.call("HGETALL", "belfry:member:users:{loud:1}") == [b"56", b"1"]
    server.close_clients()
    wait_until(lambda: not client.call("KEYS", "belfry:member:*"), lambda: client.call("KEYS", "*"))
    wait_until(lambda: not client.call("KEYS", "belfry:node:*:rooms"), lambda: client.call("KEYS", "*"))
    client.close()
