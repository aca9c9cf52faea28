"""Users: who the connect hook names is reached by the room @user:ID and by commands, on every worker."""

import pytest

from belfry import wait_until
from hook_backend import HookBackend, hook_config

BROKER = "[broker]\ntype = redis\nurl = {url}\n"


def by_query(call):
    user = call.body["query"].get("user")
    return {"user": user, "info": {"name": user}} if user else None


@pytest.fixture
def backend():
    with HookBackend(connect=by_query) as b:
        yield b


@pytest.fixture(params=["memory", "redis"])
def server(start, backend, request):
    config = hook_config(backend, route="connect_hook = always\nmax_rooms = 2\njoin_on_connect = inbox:{user}\n")
    if request.param == "redis":
        config += BROKER.format(url=request.getfixturevalue("redis").url)
    return start(config)


def ask(client, **request):
    client.send_json(request)
    return client.receive_json()


def sessions(server, *users):
    return [server.open_json(f"/ws?user={user}" if user else "/ws") for user in users]


def test_a_publish_reaches_all_of_a_users_connections(server):
    a, b, other, nobody = sessions(server, "56", "56", "57", "")
    assert a.welcome["user"] == "56" and a.welcome["rooms"] == {"inbox:56": {}}
    assert "user" not in nobody.welcome and nobody.welcome["rooms"] == {}
    (result,) = server.command({"op": "publish", "room": "@user:56", "data": "x"})
    assert result["receivers"] == 2
    for client in (a, b):
        assert client.receive_json()["room"] == "@user:56"
    other.expect_silence()
    nobody.expect_silence()


def test_the_users_room_is_the_users_own(server):
    (a,) = sessions(server, "56")
    for operation in ("join", "publish"):
        assert ask(a, type=operation, id=1, room="@user:57", data=1)["code"] == 403
    assert ask(a, type="leave", id=1, room="@user:56")["code"] == 403
    assert ask(a, type="join", id=2, room="open:1")["type"] == "ok"  # inbox:56 is the first of two
    assert ask(a, type="join", id=3, room="open:2")["code"] == 429


def test_from_names_the_user(server):
    a, b = sessions(server, "56", "")
    for client in (a, b):
        assert ask(client, type="join", id=1, room="open:1")["type"] == "ok"
    a.send_json({"type": "publish", "room": "open:1", "data": 1, "echo": False})
    assert b.receive_json()["from"] == {"conn": a.welcome["conn"], "user": "56", "info": {"name": "56"}}


def test_the_right_of_users(server):
    a, nobody = sessions(server, "56", "")
    assert ask(a, type="join", id=1, room="users:1")["type"] == "ok"
    assert ask(nobody, type="join", id=1, room="users:1")["code"] == 403
    assert ask(nobody, type="publish", id=1, room="users:1", data=1)["code"] == 403


def test_commands_by_user(server):
    a, b, other = sessions(server, "56", "56", "57")
    server.command({"op": "join", "user": "56", "room": "ask:1"})
    wait_until(lambda: server.get("/v1/rooms/ask:1")["members"] == 2, "they did not join")
    server.publish("ask:1", "1")
    for client in (a, b):
        assert client.receive_json()["room"] == "ask:1"
    server.command({"op": "leave", "user": "56", "room": "ask:1"})
    for client in (a, b):
        assert client.receive_json() == {"type": "removed", "room": "ask:1", "reason": "kicked"}
    server.command({"op": "disconnect", "user": "56", "code": 4009, "reason": "out"})
    for client in (a, b):
        assert client.events()[-1] == ("close", 4009, "out")
    assert ask(other, type="ping", id=1)["type"] == "pong"
    assert server.control("POST", "/v1/commands", {"op": "disconnect", "user": "nobody"}).status == 404


def test_the_control_api_knows_users(server):
    a, b, other = sessions(server, "56", "56", "57")
    found = server.get("/v1/connections?user=56")["connections"]
    assert sorted(c["conn"] for c in found) == sorted([a.welcome["conn"], b.welcome["conn"]])
    assert {c["user"] for c in found} == {"56"} and {c["rooms"] for c in found} == {1}
    assert server.get("/v1/connections?user=56&room=nowhere")["connections"] == []
    assert [r["room"] for r in server.get("/v1/rooms")["rooms"]] == ["inbox:56", "inbox:57"]
    assert server.get("/v1/rooms/@user:56")["members"] == 2
    assert other.welcome["conn"] not in {c["conn"] for c in found}


@pytest.mark.parametrize("user", ["a b", "x" * 250])
def test_a_name_that_is_no_room_is_refused(server, backend, user):
    backend.answers["connect"] = {"user": user}
    client = server.client()
    with pytest.raises(Exception) as refused:
        client.open("/ws")
    assert refused.value.answer.status == 502
