"""Who may do what, as an attacker tries it: names that look like Belfry's own, ways around a route, a hook reached through
the proxy, rights that outlive their token, counts that are not given back."""

import random
import threading
import time

import pytest

import ws
from belfry import wait_until
from hook_backend import SECRET, HookBackend, hook_config
from tokens import Key

ALWAYS = "connect_hook = always\n"

JWT = """
[route /ws]
auth = jwt
jwt_key = file:{key}
origin = any
{options}
[room chat:*]
join = backend
publish = backend
"""


def handshake(server, target="/ws", add=(), host="localhost"):
    client = server.client()
    client.send(ws.request_head(target, add=add, host=host))
    return client.read_answer(), client


def ask(client, **request):
    client.send_json(request)
    return client.receive_json()


def ok(client, **request):
    return ask(client, id=1, **request)["type"] == "ok"


def bearer(token):
    return [("Authorization", f"Bearer {token}")]


# Names.


@pytest.mark.parametrize("user", ["@all", "@user:56", "@conn:c_x"])
def test_a_user_is_no_reserved_room(start, tmp_path, user):
    key = Key("HS256", tmp_path)
    server = start(JWT.format(key=key.public, options="join_on_connect = {user}"))
    answer, client = handshake(server, add=bearer(key.token(sub="56")))
    assert answer.status == 101
    answer, client = handshake(server, add=bearer(key.token(sub=user)))
    assert answer.status == 403
    client.expect_end()
    assert set(server.rooms()) <= {"56", "@user:56"}


@pytest.mark.parametrize("query", ["doc=@all", "doc=%40user:56", "doc=a%20b", "doc=%ff", "doc=", "", "doc=%zz"])
def test_a_query_is_no_reserved_room(start, query):
    server = start(
        "[route /ws]\njoin_on_connect = {query.doc}\norigin = any\n[room *]\njoin = anyone\npublish = nobody\n"
    )
    answer, client = handshake(server, f"/ws?{query}")
    assert answer.status in (400, 403)
    client.expect_end()


@pytest.mark.parametrize("rooms", [["*"], {"join": ["*"], "publish": ["*"]}])
def test_a_star_is_not_all(start, tmp_path, rooms):
    key = Key("HS256", tmp_path)
    server = start(JWT.format(key=key.public, options=""))
    victim = server.open_json("/ws", add=bearer(key.token(sub="57")))
    client = server.open_json("/ws", add=bearer(key.token(sub="56", rooms=rooms)))
    assert ok(client, type="join", room="chat:1") and ok(client, type="publish", room="other", data=1)
    for room in ("@user:57", "@all", "@conn:" + victim.welcome["conn"]):
        for operation in ("join", "publish", "leave"):
            assert ask(client, type=operation, id=1, room=room, data=1)["code"] in (403, 404)
    victim.expect_silence()


# Rights end with their token.


def test_a_renewal_takes_the_old_tokens_rights(start, tmp_path):
    key = Key("HS256", tmp_path)
    server = start(JWT.format(key=key.public, options=""))
    client = server.open_json("/ws", add=bearer(key.token(sub="56", rooms=["chat:*"])))
    assert ok(client, type="publish", room="chat:1", data=1)
    assert ok(client, type="auth", token=key.token(sub="56"))
    assert not ok(client, type="publish", room="chat:1", data=1)
    assert not ok(client, type="join", room="chat:1")
    assert ok(client, type="auth", token=key.token(sub="56", rooms=["chat:2"]))
    assert ok(client, type="publish", room="chat:2", data=1)
    assert not ok(client, type="publish", room="chat:1", data=1)


def test_a_renewal_keeps_what_the_backend_gave(start, tmp_path):
    key = Key("HS256", tmp_path)
    with HookBackend(connect={"publish": ["chat:7"]}) as backend:
        config = hook_config(backend, route=ALWAYS + f"auth = jwt\njwt_key = file:{key.public}\n", more="")
        server = start(config)
        client = server.open_json("/ws", add=bearer(key.token(sub="56", rooms=["chat:1"])))
        backend.answers["publish"] = {"error": {"code": 403}}
        for _ in range(2):
            assert ok(client, type="publish", room="chat:7", data=1)
            assert ok(client, type="publish", room="chat:1", data=1)
            assert ok(client, type="auth", token=key.token(sub="56", rooms=["chat:1"]))
        assert ok(client, type="auth", token=key.token(sub="56"))
        assert ok(client, type="publish", room="chat:7", data=1)
        assert not ok(client, type="publish", room="chat:1", data=1)


def test_a_token_overtakes_the_refresh_hook(start, tmp_path):
    key, answer = Key("HS256", tmp_path), threading.Event()

    def late(call):
        answer.wait(4)
        return {"expired": True}

    with HookBackend(connect={}, refresh=late) as backend:
        route = f"auth = jwt\njwt_key = file:{key.public}\n"
        server = start(hook_config(backend, route=route))
        client = server.open_json("/ws", add=bearer(key.token(sub="56")))
        server.command({"op": "refresh", "conn": client.welcome["conn"]})
        backend.wait_for("refresh")
        assert ok(client, type="auth", token=key.token(sub="56", exp=int(time.time()) + 2))
        answer.set()
        backend.wait_for("refresh", 2)  # of the token the hook has not said no
        client.send_json({"type": "ping", "id": 1})
        assert client.receive_json()["type"] == "pong"


# Ways around.


@pytest.mark.parametrize(
    "path",
    ["/belfry", "/belfry/", "/Belfry", "/BELFRY", "//belfry", "/belfry//", "/belfry;a=b", "/%62elfry", "/belfry;/", "/belfry?x"],
)
def test_the_hook_is_not_reached_through_the_proxy(start, path):
    with HookBackend(secret="", call={"data": "secret"}) as backend:
        config = hook_config(backend).replace(f"hook_secret = {SECRET}\n", "")
        server = start(config + "\n[route /]\nmode = proxy\nupstream = app\n")
        body = b'{"event":"call","conn":"c_1","user":"admin","method":"x","data":1}'
        client = server.client()
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.send(head.encode() + body)
        assert client.read_answer().status == 404
        assert not backend.calls
        client.drop()


@pytest.mark.parametrize(
    "target, host",
    [
        ("/admin/x", "app.example."),
        ("//admin/x", "app.example"),
        ("/admin//x", "APP.example:80"),
        ("/admin;a/x", "app.example"),
        ("http://app.example/admin/x", "app.example"),
        ("/%61dmin/x", "app.example"),
    ],
)
def test_a_routes_token_is_not_got_around(start, tmp_path, target, host):
    key = Key("HS256", tmp_path)
    with HookBackend(secret="") as backend:
        server = start(f"""
[upstream app]
server = 127.0.0.1:{backend.port}
[route /admin]
host = app.example
mode = proxy
upstream = app
auth = jwt
auth_http = yes
jwt_key = file:{key.public}
[route /]
mode = proxy
upstream = app
""")
        client = server.client()
        client.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert client.read_answer().status == 401
        client.drop()


# Counts.


def slow(call):
    time.sleep(random.random() / 20)
    how = call.body["query"].get("how")
    if how == "no":
        return 403, "no"
    if how == "rooms":
        return {"user": "56", "rooms": ["a:1", "b:1"]}
    return {"user": "56", "expires_in": 1, "commands": [{"op": "disconnect", "user": "56"}] if how == "kick" else []}


def storm(server, seed, errors):
    chance = random.Random(seed)
    try:
        for _ in range(40):
            how = chance.choice(["no", "rooms", "kick", "bad", "yes", "yes"])
            client = server.client()
            target = f"/ws?how={how}" if how != "bad" else "/ws?how=yes&room=%ff"
            client.send(ws.request_head(target, change={"Sec-WebSocket-Protocol": "belfry.v1.raw"} if how == "bad" else {}))
            if chance.random() < 0.5:
                client.send_while_open(ws.text('{"type":"call","id":1,"method":"m","data":1}') * chance.randrange(4))
            time.sleep(chance.random() / 15)
            chance.choice([client.abort, client.drop])()
    except Exception as e:
        errors.append(repr(e))


def test_every_count_is_given_back(start):
    """Connections that die in every state: while the hook hangs, refused, disconnected, with calls under way."""
    with HookBackend(connect=slow, call=lambda _: time.sleep(0.03) or {"data": 1}, refresh={"expires_in": 1}) as backend:
        server = start(
            hook_config(backend, route=ALWAYS + "connections_per_ip = 12\nconnections_per_user = 6\nnotify = connected\n")
        )
        errors = []
        threads = [threading.Thread(target=storm, args=(server, seed, errors)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors
        wait_until(lambda: server.status()["connections"] == 0, "connections are left")
        clients = [server.open_json("/ws?how=yes") for _ in range(6)]
        answer, _ = handshake(server, "/ws?how=yes")
        assert answer.status == 429 and "user" in answer.json()["error"]["message"]
        del clients
