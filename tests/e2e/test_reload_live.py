"""What live connections feel of a reload: each kind of them lives on, under the new limits, rights, modules and
upstreams. How a reload is asked for, and what may be wrong with it, is in test_reload.py.
"""

import contextlib
import json
import threading
import time

import pytest

import ws
from backend import Backend
from belfry import wait_until
from hook_backend import SECRET, HookBackend, hook_config
from http1 import connect, request, response
from named_backend import NamedBackend
from sse import Poller, Reader
from test_modules import module
from test_tunnel import server_frame, switch
from tokens import Key


def reloaded(server, config):
    """The new config is in force, for everybody: what was said meanwhile comes out of the log's lines."""
    reply = server.reload(config)
    assert reply.status == 200, (reply.status, reply.body)


def joined(client, room, **more):
    client.send_json({"type": "join", "id": 1, "room": room, **more})
    answer = client.receive_json()
    assert answer["type"] == "ok", answer
    return answer


def say(client, room, data, **more):
    client.send_json({"type": "publish", "id": 2, "room": room, "data": data, **more})


def asked(client, message):
    """The answer to a message with an id; what else comes before it is in `client.missed`."""
    client.send_json(message)
    client.missed = []
    while (answer := client.receive_json()).get("id") != message["id"]:
        client.missed.append(answer)
    return answer


def handshake(server, target="/ws", add=(), listener="public"):
    client = server.client(listener)
    client.send(ws.request_head(target, add=add))
    return client.read_answer(), client


def echoes(client, text="hello"):
    client.send(ws.text(text))
    assert client.receive_text() == text


ECHO = """
[route /ws]
protocol = raw
echo = yes
join_on_connect = echo:{{conn}}
{}
[room echo:*]
join = anyone
publish = anyone
"""


def echo(*options):
    return ECHO.format("\n".join(options))


# ---- every kind of connection ----

EVERYTHING = """
[upstream app]
server = {address}
{upstream}

[route /json]
ping_interval = {ping}
[route /raw]
protocol = raw
echo = yes
join_on_connect = chat:raw
[route /plain]
join_on_connect = chat:plain
[route /app]
mode = proxy
upstream = app
[room chat:*]
join = anyone
publish = anyone
presence = {presence}
"""


class Everybody:
    """One connection of each kind, in the middle of what it does."""

    def __init__(self, server, backend):
        self.json = server.open_json("/json")
        joined(self.json, "chat:json")
        self.raw = server.open("/raw")
        self.sse = Reader(server.address(), "/plain")
        self.sse.welcome()
        self.poll = Poller(server.address(), "/plain")
        self.polled = self.poll.welcome()["conn"]
        self.tunnel = server.open("/app/tunnel")
        self.body = connect(server.address())
        self.body.send(request("POST", "/app/body", fields=[("Content-Length", "8")]) + b"half")
        self.idle = connect(server.address())
        assert self.idle.ask("GET", "/app/idle").status == 200
        self.head = connect(server.address())
        self.head.send(b"GET /app/late HT")
        self.server, self.backend = server, backend

    def talk(self, n):
        say(self.json, "chat:json", n, echo=True)
        got = [self.json.receive_json(), self.json.receive_json()]
        assert {m["type"] for m in got} == {"message", "ok"}
        echoes(self.raw, f"raw {n}")
        say(self.json, "chat:plain", n)
        assert self.json.receive_json()["type"] == "ok"
        assert self.sse.json(type="message")["data"] == n
        assert self.poll.receive(type="message")["data"] == n
        self.tunnel.send(ws.text(f"tunnel {n}"))
        assert self.tunnel.receive_text() == f"tunnel {n}"
        assert self.idle.ask("GET", "/app/idle").status == 200

    def finish(self):
        self.body.send(b"done")
        answer = self.body.read_answer()
        assert (answer.status, answer.body) == (200, b"halfdone")
        self.head.send(b"TP/1.1\r\nHost: app.example\r\n\r\n")
        assert self.head.read_answer().status == 200
        for one in (self.body, self.head, self.idle):
            one.close()
        self.sse.drop()
        self.server.command({"op": "disconnect", "conn": self.polled})
        self.poll.drop()


def app(stream):
    """The backend: answers with the body that it got, and mirrors a tunnel's texts."""
    while asked_for := stream.read_request():
        if asked_for.get("Upgrade"):
            stream.send(switch(asked_for))
            while True:
                first, size = stream.read(2)
                payload = ws.apply_mask(stream.read(4), stream.read(size & 127))
                stream.send(server_frame(first & 15, payload))
        stream.send(response(asked_for.body or b"fine"))


def test_everybody_lives_on(start):
    with Backend(app) as backend:
        config = lambda i: EVERYTHING.format(
            address=backend.address,
            upstream=f"read_timeout = {60 + i % 3}s",
            ping=f"{30 + i % 2}s",
            presence="yes" if i % 2 else "no",
        )
        server = start(config(0))
        all_of_them = Everybody(server, backend)
        for i in range(1, 8):
            reloaded(server, config(i))
            all_of_them.talk(i)
        all_of_them.finish()


# ---- limits ----


def test_message_rate_is_lowered_and_raised(start):
    server = start(echo())
    closed, dropped = server.open("/ws"), server.open("/ws")
    for client in (closed, dropped):
        for _ in range(5):
            echoes(client)
    reloaded(server, echo("message_rate = 1/h burst=2", "on_limit = drop"))
    for _ in range(3):
        dropped.send(ws.text("one of three"))
    assert [dropped.receive_text() for _ in range(2)] == ["one of three"] * 2
    dropped.expect_silence()
    reloaded(server, echo("message_rate = 1/h burst=2", "on_limit = close"))
    for _ in range(3):
        closed.send_while_open(ws.text("again"))
    assert closed.events()[-1] == ("close", 4408, "rate limit")
    reloaded(server, echo("message_rate = 1000/s burst=1000"))
    for _ in range(5):
        echoes(dropped)
    reloaded(server, echo())
    for _ in range(5):
        echoes(dropped)


# Who was counted is counted down, who came while nothing was counted is not.
def test_connections_per_ip_counts_exactly(start):
    two = echo("connections_per_ip = 2")
    server = start(two)
    first, second = server.open("/ws"), server.open("/ws")
    assert handshake(server)[0].status == 429
    reloaded(server, echo())
    uncounted = server.open("/ws")
    first.drop()
    wait_until(lambda: server.connections() == 2, "the connection does not end")
    reloaded(server, two)
    third = server.open("/ws")
    assert handshake(server)[0].status == 429
    uncounted.drop()
    second.drop()
    wait_until(lambda: server.connections() == 1, "connections do not end")
    server.open("/ws")
    assert handshake(server)[0].status == 429
    echoes(third)


def test_max_message(start):
    server = start(echo("max_message = 64k"))
    client, other = server.open("/ws"), server.open("/ws")
    echoes(client, "x" * 5000)
    client.send(ws.frame(ws.TEXT, "y" * 3000, fin=False))
    reloaded(server, echo("max_message = 4k"))
    client.send_while_open(ws.frame(ws.CONTINUATION, "y" * 3000))  # begun before, too large now
    assert client.events()[-1][1] == 1009
    echoes(other, "x" * 4000)
    reloaded(server, echo("max_message = 64k"))
    echoes(other, "x" * 60000)


def test_pings_and_idle_ends(start):
    server = start(echo("ping_interval = 0"))
    client, idle = server.open("/ws"), server.open("/ws")
    client.expect_silence(0.3)
    reloaded(server, echo("ping_interval = 300ms", "pong_timeout = 30s"))
    event, payload = client.receive()
    assert event == "ping"
    client.send(ws.pong(payload))
    reloaded(server, echo("ping_interval = 0", "idle_timeout = 300ms"))
    assert idle.events()[-1] == ("close", 1001, "idle")


def test_readers_of_events_and_polls(start):
    config = "[route /plain]\nping_interval = {}\npoll_wait = {}\n"
    server = start(config.format("0", "30s"))
    reader, poller = Reader(server.address(), "/plain"), Poller(server.address(), "/plain")
    reader.welcome()
    polled = poller.welcome()["conn"]
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(poller.poll()))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    reloaded(server, config.format("300ms", "200ms"))
    waiting.join(ws.TIMEOUT)
    assert [answer.status for answer in answers] == [200] and not answers[0].messages
    assert reader.block().comments == [""]
    reader.drop()
    server.command({"op": "disconnect", "conn": polled})
    poller.drop()


def test_send_queue_and_on_slow(start):
    config = """
[broker]
max_message = 60k
[route /ws]
max_message = 32k
send_queue = {}
on_slow = {}
[room *]
join = anyone
publish = anyone
"""
    server = start(config.format("8m", "close"))
    slow, other = (server.open_json("/ws", receive_buffer=4096) for _ in range(2))
    for client in (slow, other):
        joined(client, "big")
    queue = lambda: [c["queue"] for c in server.get("/v1/connections")["connections"]]
    while min(queue()) < 1 << 20:
        server.publish("big", json.dumps("z" * 50000))
    reloaded(server, config.format("256k", "drop_oldest"))
    server.publish("big", json.dumps("last"))
    wait_until(lambda: max(queue()) <= 256 << 10, lambda: f"queues are {queue()}")
    assert server.dropped() > 0 and server.connections() == 2
    reloaded(server, config.format("64k", "close"))
    server.publish("big", json.dumps("one too many"))
    wait_until(lambda: server.closed(4413) == 2, lambda: server.status()["closed"])


def test_max_connections_and_rooms(start):
    config = "[belfry]\nworkers = 1\nmax_connections = {}\n[route /ws]\nmax_rooms = {}\n[room *]\njoin = anyone\n"
    server = start(config.format(100, 2))
    client = server.open_json("/ws")
    joined(client, "a")
    reloaded(server, config.format(1, 1))
    assert handshake(server)[0].status == 503
    assert asked(client, {"type": "join", "id": 5, "room": "b"})["code"] == 429
    reloaded(server, config.format(100, 2))
    joined(client, "b")
    assert handshake(server)[0].status == 101


# ---- rooms ----


def rooms(*options):
    return "[route /ws]\n[room chat:*]\njoin = anyone\npublish = anyone\n" + "\n".join(options) + "\n"


def test_origins_are_of_later_handshakes(start):
    config = "[route /ws]\norigin = {}\n"
    server = start(config.format("https://old.example"))
    old, new = [("Origin", "https://old.example")], [("Origin", "https://new.example")]
    status, client = handshake(server, add=old)
    assert status.status == 101
    reloaded(server, config.format("https://new.example"))
    assert handshake(server, add=old)[0].status == 403
    assert handshake(server, add=new)[0].status == 101
    assert client.receive_json()["type"] == "welcome"
    client.send_json({"type": "ping", "id": 1})
    assert client.receive_json()["type"] == "pong"


def test_rights_of_rooms(start):
    core = "[belfry]\nworkers = 1\n"  # max_members is a thread's
    server = start(core + rooms())
    member, other = server.open_json("/ws"), server.open_json("/ws")
    joined(member, "chat:1")
    reloaded(server, core + rooms() + "[room chat:1]\njoin = nobody\npublish = members\nmax_members = 1\n")
    assert asked(member, {"type": "publish", "id": 3, "room": "chat:1", "data": 1})["type"] == "ok"
    assert asked(other, {"type": "publish", "id": 3, "room": "chat:1", "data": 1})["code"] == 403
    assert asked(other, {"type": "join", "id": 4, "room": "chat:1"})["code"] == 403
    reloaded(server, core + rooms("max_members = 1"))
    assert asked(other, {"type": "join", "id": 5, "room": "chat:1"})["code"] == 409
    reloaded(server, core + rooms("max_members = 2"))
    joined(other, "chat:1")
    reloaded(server, core + "[route /ws]\n")  # no rule: the backend's alone
    assert asked(member, {"type": "publish", "id": 6, "room": "chat:1", "data": 1})["code"] == 403


@pytest.fixture(params=["memory", "redis"])
def broker(request):
    if request.param == "memory":
        return "\n[broker]\ntype = memory\n"
    redis = request.getfixturevalue("redis")
    return f"\n[broker]\ntype = redis\nurl = {redis.url}\n"


def ready(server):
    wait_until(lambda: server.control("GET", "/readyz").status == 200, "never ready")


def test_history_begins_and_ends(start, broker):
    server = start(rooms() + broker)
    ready(server)
    client, other = server.open_json("/ws"), server.open_json("/ws")
    assert "offset" not in joined(client, "chat:1")
    reloaded(server, rooms("history = 10") + broker)
    assert client.receive_json() == {"type": "gap", "room": "chat:1"}
    for n in (1, 2):
        answer = asked(client, {"type": "publish", "id": 5, "room": "chat:1", "data": n, "echo": False})
        assert (answer["type"], answer["offset"]) == ("ok", n)
    since = {"epoch": answer["epoch"], "offset": 1}
    answer = joined(other, "chat:1", since=since)
    assert answer["recovered"] is True and other.receive_json()["data"] == 2
    reloaded(server, rooms() + broker)
    for one in (client, other):
        assert one.receive_json() == {"type": "gap", "room": "chat:1"}
    say(client, "chat:1", "bare")
    message = other.receive_json()
    assert message["data"] == "bare" and "offset" not in message
    late = server.open_json("/ws")
    assert joined(late, "chat:1", since=since)["recovered"] is False


# Of the memory broker: what was said while nothing was kept must not be passed over in silence.
def test_history_that_was_interrupted_is_another_epoch(start):
    server = start(rooms("history = 10"))
    client = server.open_json("/ws")
    joined(client, "chat:1")
    first = asked(client, {"type": "publish", "id": 5, "room": "chat:1", "data": 1, "echo": False})
    reloaded(server, rooms())
    say(client, "chat:1", "not kept", echo=False)
    reloaded(server, rooms("history = 10"))
    late = server.open_json("/ws")
    since = {"epoch": first["epoch"], "offset": first["offset"]}
    assert joined(late, "chat:1", since=since)["recovered"] is False


def test_presence_begins_is_announced_and_ends(start, broker):
    server = start(rooms() + broker)
    ready(server)
    first, second, third = (server.open_json("/ws") for _ in range(3))
    for client in (first, second):
        joined(client, "chat:1")
    members = {"type": "members", "id": 7, "room": "chat:1"}
    assert asked(first, members)["type"] == "error"
    reloaded(server, rooms("announce = yes") + broker)
    wait_until(lambda: asked(first, members).get("count") == 2, "they are not listed")
    first.expect_silence()  # who was there is no news
    joined(third, "chat:1")
    for client in (first, second):
        assert client.receive_json()["event"] == "join"
    second.drop()
    leave = first.receive_json()
    assert (leave["event"], leave["member"]["conn"]) == ("leave", second.welcome["conn"])
    reloaded(server, rooms("presence = yes") + broker)
    third.drop()
    wait_until(lambda: asked(first, members).get("count") == 1, "it is listed still")
    first.expect_silence(3.5)  # nothing is announced any more
    reloaded(server, rooms() + broker)
    assert asked(first, members)["type"] == "error"
    wait_until(lambda: server.status()["presence"]["members"] == 0, "entries are left")


# ---- upstreams ----

PROXY = """
[upstream app]
{servers}
sticky = header:X-Key
[route /]
mode = proxy
upstream = app
"""


@pytest.fixture
def backends():
    made = [NamedBackend(f"b{i}") for i in range(4)]
    yield made
    for backend in made:
        backend.stop()


def pool(backends, *more):
    return PROXY.format(servers="\n".join([f"server = {b.address}" for b in backends] + list(more)))


def who(client, key):
    client.send(f"GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n".encode())
    return client.read_answer().json()["backend"]


def test_keys_move_only_from_servers_that_went(start, backends):
    keys = [f"key{i}" for i in range(60)]
    server = start(pool(backends))
    client = server.client()
    before = {key: who(client, key) for key in keys}
    assert set(before.values()) == {"b0", "b1", "b2", "b3"}
    reloaded(server, pool(backends[:3]))
    after = {key: who(client, key) for key in keys}
    assert all(after[key] == before[key] for key in keys if before[key] != "b3")
    assert set(after.values()) == {"b0", "b1", "b2"}
    reloaded(server, pool(backends[:3], f"server = {backends[3].address} down"))
    assert {key: who(client, key) for key in keys} == after
    reloaded(server, pool(backends))
    assert {key: who(client, key) for key in keys} == before
    reloaded(server, pool(backends[:3], f"server = {backends[3].address} weight=20"))
    heavy = {key: who(client, key) for key in keys}
    assert all(heavy[key] in (before[key], "b3") for key in keys)
    assert sum(name == "b3" for name in heavy.values()) > 40
    assert [u["name"] for u in server.get("/v1/upstreams")["upstreams"]] == ["app"]


# A request that waits for its answer gets it from the server that has it, though that is no more in the file.
def test_a_request_stays_on_its_server(start, backends):
    release = threading.Event()

    def late(stream):
        stream.read_request()
        release.wait(10)
        stream.send(response(b"late"))

    with Backend(late) as old:
        server = start(PROXY.format(servers=f"server = {old.address}"))
        waiting = connect(server.address())
        waiting.send(request("GET", "/"))
        wait_until(lambda: server.get("/v1/upstreams")["upstreams"][0]["running"] == 1, "it is not asked")
        reloaded(server, pool(backends[:1]))
        assert who(server.client(), "any") == "b0"
        release.set()
        assert waiting.read_answer().body == b"late"
        waiting.close()


def test_a_server_that_is_out_stays_out(start, backends):
    dead = NamedBackend("dead")
    dead.stop()
    servers = f"server = {dead.address} max_fails=1 fail_timeout=60s\nserver = {backends[0].address}\n"
    server = start(PROXY.format(servers=servers))
    client = server.client()
    state = lambda: [s["state"] for s in server.get("/v1/upstreams")["upstreams"][0]["servers"]]
    for n in range(20):
        assert who(client, f"key{n}") == "b0"
    assert state() == ["down", "up"]
    failures = len(server.find_log(r"is out for"))
    reloaded(server, PROXY.format(servers=servers + f"server = {backends[1].address}\nkeepalive = 3\n"))
    assert state() == ["down", "up", "up"]
    assert all(who(client, f"key{n}") in ("b0", "b1") for n in range(20))
    assert len(server.find_log(r"is out for")) == failures


# ---- hooks, keys, modules ----


def test_path_and_secret_of_a_hook(start):
    other_secret = "whsec_" + "QUJD" * 8
    asked_twice = threading.Event()

    def call(c):
        asked_twice.wait(10)
        return {"data": "first"}

    with HookBackend(call=call) as first, HookBackend(other_secret, call={"data": "second"}) as second:
        server = start(hook_config(first))
        client = server.open_json("/ws")
        client.send_json({"type": "call", "id": 1, "method": "m"})
        first.wait_for("call")
        now = hook_config(second).replace(SECRET, other_secret).replace("hook = /belfry", "hook = /moved")
        reloaded(server, now)
        asked_twice.set()
        assert client.receive_json()["data"] == "first"
        client.send_json({"type": "call", "id": 2, "method": "m"})
        assert client.receive_json()["data"] == "second"
        reloaded(server, "[route /ws]\n")
        client.send_json({"type": "call", "id": 3, "method": "m"})
        assert client.receive_json()["type"] == "error"


def test_notifications_go_where_the_route_says(start):
    notify = "notify = connected, disconnected, joined\n"
    with HookBackend() as first, HookBackend() as second:
        server = start(hook_config(first, route=notify))
        client = server.open_json("/ws")
        first.wait_events(1)
        reloaded(server, hook_config(second, route=notify))
        joined(client, "open:1")
        client.drop()
        assert [e["type"] for e in second.wait_events(2)] == ["joined", "disconnected"]
        assert [e["type"] for e in first.events()] == ["connected"]


def test_keys_of_tokens(start, tmp_path):
    config = "[route /ws]\nauth = jwt\njwt_key = file:{}\n"
    old = Key("HS256", tmp_path, "old")
    new = Key("HS256", tmp_path, "new", b"another secret of thirty-two bytes or more")
    bearer = lambda key: [("Authorization", "Bearer " + key.token(sub="56"))]
    server = start(config.format(old.public))
    client = server.open_json("/ws", add=bearer(old))
    reloaded(server, config.format(new.public))
    assert handshake(server, add=bearer(old))[0].status == 401
    assert handshake(server, add=bearer(new))[0].status == 101
    assert asked(client, {"type": "auth", "id": 1, "token": old.token(sub="56")})["type"] == "error"
    assert asked(client, {"type": "auth", "id": 2, "token": new.token(sub="56")})["type"] == "ok"


def test_scopes_of_somebody_elses_module(start):
    core = f"[belfry]\nworkers = 2\nload_module = {module('tests/module/thirdparty.so')}\n"
    config = lambda *lines: core + echo(*lines)
    server = start(config())
    free = server.open("/ws")
    ticket = [("X-Ticket", "good")]
    echoes(free)
    reloaded(server, config("ticket = good", "ticket_messages = 2"))
    assert handshake(server)[0].status == 401
    held = server.open("/ws", add=ticket)
    for client in (free, held):  # each of them has two left, whenever it came
        echoes(client)
        echoes(client)
        client.send(ws.text("dropped"))
        client.expect_silence()
    held.send(ws.text("dropped, too"))
    waiting = server.client()
    waiting.send(ws.request_head("/ws", add=ticket))
    for n in range(12):
        reloaded(server, config("ticket = good" if n % 2 else "", f"ticket_messages = {n}"))
    assert waiting.read_answer().status == 101
    reloaded(server, config("ticket = other", "ticket_messages = 1000"))
    echoes(free)
    assert handshake(server, add=ticket)[0].status == 403
    reloaded(server, config())
    echoes(free)
    server.stop()
    (counts,) = server.find_log(r"thirdparty: \d+ scopes made")
    made, freed = (int(word) for word in counts.replace(",", "").split() if word.isdigit())
    assert made == freed > 5
    assert len(server.find_log(r"thirdparty: a connection ended after 4 messages")) == 2  # their state lived on


# ---- many at once ----


def test_reloads_while_everything_moves(start):
    stop = threading.Event()
    problems = []

    def busy(server):
        try:
            while not stop.is_set():
                client = server.open("/ws")
                for n in range(5):
                    echoes(client, f"{n}")
                client.drop()
        except Exception as e:  # told to the test
            problems.append(repr(e))

    server = start(echo())
    threads = [threading.Thread(target=busy, args=(server,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(KeyboardInterrupt):
        for n in range(20):
            limits = ("message_rate = 1000/s burst=1000", f"connections_per_ip = {500 + n}") if n % 2 else ()
            reloaded(server, echo(f"ping_interval = {n + 1}s", *limits))
            time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems, problems
    server.close_clients()
    wait_until(lambda: server.connections() == 0, "connections are left")
    reloaded(server, echo("connections_per_ip = 1"))  # everybody who was counted was counted down
    server.open("/ws")
    assert handshake(server)[0].status == 429
