"""Draining: who is asked to leave, in which order and how fast, on each transport; and what becomes of who stays."""

import json
import signal
import threading
import time

import pytest

import ws
from backend import Backend
from belfry import wait_until
from hook_backend import SECRET, HookBackend, hook_config
from http1 import connect, request, response
from sse import Carrier, Poller, Reader
from test_tunnel import server_frame, switch

CORE = "[belfry]\nworkers = 2\n"
ROUTES = """
[route /ws]
[route /raw]
protocol = raw
[route /other]
[room *]
join = anyone
publish = members
"""


def term(server):
    server.process.send_signal(signal.SIGTERM)


def ends(server):
    assert server.process.wait(30) == 0
    server.check_log()


def drain(server):
    return server.status()["drain"]


def member(server, target="/ws", room="r"):
    client = server.open_json(target)
    client.send_json({"type": "join", "id": 1, "room": room})
    assert client.receive_json()["type"] == "ok"
    return client


def goodbye(client, reason="restarting"):
    """The bye, which must come next, with the Close behind it; answers that and is gone."""
    bye = client.receive_json()
    assert (bye["type"], bye["code"], bye["reason"], bye["reconnect"]) == ("bye", 4503, reason, True), bye
    assert client.receive() == ("close", 1012, reason)
    client.send_while_open(ws.close(1012))
    client.drop()
    return bye


def can_connect(address):
    try:
        ws.Client(address).drop()
    except OSError:
        return False
    return True


def told_at(clients, reason="restarting"):
    """Reads all goodbyes side by side: [(seconds since now, after_ms)], in the order of their coming."""
    begin, found = time.monotonic(), []

    def read(client):
        bye = goodbye(client, reason)
        found.append((time.monotonic() - begin, bye["after_ms"]))

    threads = [threading.Thread(target=read, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(clients)
    return sorted(found)


# ---------------------------------------------------------------- the order


@pytest.mark.parametrize("by", ["TERM", "belfryctl"])
def test_first_readiness_then_listeners_then_clients(start, by):
    server = start(CORE + "drain_delay = 2s\n" + ROUTES)
    old, address = member(server), server.address()
    assert server.control("GET", "/readyz").status == 200
    assert drain(server)["stage"] == "serving"
    if by == "TERM":
        term(server)
    else:
        done = server.ctl("drain")
        assert done.returncode == 0 and '"connections": 1' in done.stdout, done
        assert server.ctl("drain").returncode == 0  # changes nothing
    wait_until(lambda: server.control("GET", "/readyz").status == 503, "readiness stays")
    assert server.control("GET", "/readyz").body == b"stopping\n"
    new = member(server)  # a balancer that has not looked yet
    server.publish("r", '"still here"')
    for client in (old, new):
        assert client.receive_json()["data"] == "still here"
    assert drain(server)["stage"] == "unready"
    for client in (old, new):
        goodbye(client)
    assert not can_connect(address)
    ends(server)


def test_goodbyes_are_paced_over_all_threads(start):
    n, rate = 60, 30
    server = start(CORE + f"drain_rate = {rate}/s\n" + ROUTES)
    clients = [server.open_json("/ws") for _ in range(n)]
    term(server)
    told = told_at(clients)
    times = [at for at, _ in told]
    needed = (n - 1) / rate
    assert times[-1] - times[0] > needed * 0.7, times
    assert times[-1] - times[0] < needed * 4, times
    half = [at for at in times if at < times[0] + needed / 2]
    assert n * 0.1 < len(half) < n * 0.9, times
    # Spread over what the rest still needs, which grows less.
    assert all(after < n / rate * 1000 for _, after in told)
    assert max(after for _, after in told[-n // 4 :]) <= 1000
    assert max(after for _, after in told[: n // 4]) > 1000  # one in 20,000 would be unlucky
    ends(server)


def test_until_then_everything_works(start):
    """Who is not told yet publishes, joins, and is asked after; threads that have nobody left answer, too."""
    server = start(CORE + "drain_rate = 2/m\n" + ROUTES)
    clients = [member(server) for _ in range(4)]
    term(server)
    wait_until(lambda: drain(server)["said"] == 1, "nobody is told")
    server.publish("r", '"to all"')
    seen = [(client, client.receive_json()) for client in clients]
    left = [client for client, got in seen if got["type"] == "message"]
    assert len(left) == 3 and [got["type"] for client, got in seen if client not in left] == ["bye"]
    left[0].send_json({"type": "publish", "id": 2, "room": "r", "data": "mine"})
    assert sorted(left[0].receive_json()["type"] for _ in range(2)) == ["message", "ok"]
    for client in left[1:]:
        assert client.receive_json()["data"] == "mine"
    left[0].send_json({"type": "join", "id": 3, "room": "later"})
    assert left[0].receive_json()["type"] == "ok"
    assert server.members("later") == 1
    assert server.control("POST", "/v1/reload").status == 409
    term(server)  # at once
    ends(server)


# ---------------------------------------------------------------- transports


TRANSPORTS = """
[belfry]
workers = 2
drain_rate = 100/s

[upstream app]
server = {address}

[route /ws]
join_on_connect = r
poll_wait = 20s
[route /raw]
protocol = raw
join_on_connect = r
[route /app]
mode = proxy
upstream = app
publish_header = yes

[room *]
join = anyone
publish = members
"""


def backend_script(stream):
    asked = stream.read_head()
    if asked.get("Upgrade"):
        stream.send(switch(asked))
        stream.send(server_frame(ws.TEXT, b"hello"))
        stream.read_to_end()
    else:
        held = [("Content-Type", "text/event-stream"), ("Belfry-Hold", "r")]
        stream.send(response(b"event: first\ndata: 1\n\n", fields=held))


def test_each_transport_has_its_goodbye(start):
    with Backend(backend_script) as backend:
        server = start(TRANSPORTS.format(address=backend.address))
        address = server.address()
        plain, raw = server.open_json("/ws"), server.open("/raw")
        events, raw_events = Reader(address, "/ws"), Reader(address, "/raw")
        events.welcome()
        held = Reader(address, "/app/feed")
        assert held.event().data == "1"
        poller = Poller(address, "/ws")
        poller.welcome()
        tunnel = server.open("/app/tunnel")
        assert tunnel.receive() == ("text", "hello")
        wait_until(lambda: server.members("r") == 6, lambda: server.rooms())
        server.publish("r", '"last"')
        assert poller.receive(type="message")["data"] == "last"
        polls = server.status()["poll"]["polls"]
        waiting = threading.Thread(target=poller.poll)
        waiting.start()
        wait_until(lambda: server.status()["poll"]["polls"] == polls + 1, "the poll does not come")
        term(server)
        assert plain.receive_json()["data"] == "last"
        goodbye(plain)
        assert raw.receive() == ("text", '"last"') and raw.receive() == ("close", 1012, "restarting")
        assert events.json()["data"] == "last"
        said = events.json(type="bye", code=4503, reconnect=True)
        assert events.block().retry == max(1, said["after_ms"]) or said["after_ms"] == 0
        assert events.block() is None
        waiting.join()
        assert poller.inbox, "the poll that waited was not answered with the goodbye"
        assert poller.receive(type="bye", code=4503)["reconnect"] is True
        for reader in (raw_events, held):
            names = []
            while (event := reader.event()) is not None:
                names.append(event)
            (bye,) = [json.loads(event.data) for event in names if event.name == "bye" or "bye" in event.data]
            assert bye["type"] == "bye" and bye["reconnect"] is True, names
        assert tunnel.receive() == ("close", 1012, "restarting")
        for client in (raw, tunnel):
            client.send_while_open(ws.close(1012))
        ends(server)


def test_a_session_may_still_be_spoken_for(start):
    """What its client asks by another connection, which was there before, is carried on."""
    server = start("[belfry]\nworkers = 1\ndrain_rate = 1/m\n" + ROUTES)
    first, reader = server.open_json("/ws"), Reader(server.address(), "/ws?room=r")
    connection = reader.welcome()["connection"]
    carrier, idle = Carrier(server.address(), "/ws"), connect(server.address())
    message = {"type": "publish", "room": "r", "data": 1}
    assert carrier.post(connection, message).status == 202
    assert reader.json(type="message")["data"] == 1
    term(server)
    goodbye(first)
    assert idle.at_end()  # has asked nothing
    answer = carrier.post(connection, message)
    assert (answer.status, answer.get("Connection")) == (202, "close")
    assert reader.json(type="message")["data"] == 1
    term(server)
    ends(server)


# ---------------------------------------------------------------- backends


ASKS = f"\n[route /asks]\nupstream = app\nhook = /belfry\nhook_secret = {SECRET}\nconnect_hook = always\n"


def test_answers_that_are_under_way_come_first(start):
    go = threading.Event()

    def slow(call):
        go.wait(20)
        return {"data": call.body["data"]}

    with HookBackend(call=slow, connect=lambda call: go.wait(20) and {}) as backend:
        server = start(CORE + hook_config(backend) + ASKS)
        waits, other = server.open_json("/ws"), server.open_json("/ws")
        waits.send_json({"type": "call", "id": 1, "method": "m", "data": "x"})
        waits.send_json({"type": "call", "id": 2, "method": "m", "data": "never asked"})
        backend.wait_for("call")
        asks = server.client()
        asks.send(ws.request_head("/asks"))
        backend.wait_for("connect")
        term(server)
        goodbye(other)
        answer = asks.read_answer()
        assert (answer.status, answer.field("Retry-After")) == (503, "1")
        waits.expect_silence()
        go.set()
        assert waits.receive_json() == {"type": "ok", "id": 1, "data": "x"}
        goodbye(waits)
        ends(server)
        assert [call.body["data"] for call in backend.of("call")] == ["x"]


def test_every_end_is_notified(start):
    """At least once, although the backend fails at first."""
    failures = iter([(500, ""), (500, "")])
    with HookBackend(notify=lambda call: next(failures, None)) as backend:
        server = start(CORE + "drain_rate = 100/s\n" + hook_config(backend, route="notify = disconnected\n"))
        clients = [server.open_json("/ws") for _ in range(30)]
        conns = {client.welcome["conn"] for client in clients}
        term(server)
        told_at(clients)
        ends(server)
        told = [event for event in backend.events() if event["type"] == "disconnected"]
        assert {event["conn"] for event in told} == conns
        assert {event["code"] for event in told} == {1012}


# ---------------------------------------------------------------- who does not go


def test_who_stays_is_dropped_and_counted(start):
    with HookBackend() as backend:
        config = hook_config(backend, route="notify = disconnected\n")
        server = start("[belfry]\nworkers = 1\ndrain_rate = 1/m\ndrain_timeout = 1s\n" + config)
        begun = connect(server.address())
        begun.send(b"GET / HT")
        clients = [server.open_json("/ws") for _ in range(4)]
        wait_until(lambda: server.connections() == 5, "not all are there")
        term(server)
        for client in clients:  # the first is told in its turn, the others in the last moment
            assert client.receive_json()["type"] == "bye"
            assert client.receive() == ("close", 1012, "restarting")
        ends(server)
        server.wait_log(r"drain_timeout \(1 s\) is too short for 5 connections at drain_rate")
        server.wait_log("dropped 4 connections whose turn had not come, and 1 that had not gone")
        assert len(backend.events()) == 4  # of these, too
        begun.close()


def test_slow_readers_hold_nothing_up(start):
    server = start("[belfry]\nworkers = 1\ndrain_timeout = 2s\n" + ROUTES)
    slow = server.open_json("/ws", receive_buffer=4096)
    slow.send_json({"type": "join", "id": 1, "room": "r"})
    assert slow.receive_json()["type"] == "ok"
    quick = member(server)
    for _ in range(6):
        server.publish("r", '"' + "x" * 100_000 + '"')
        assert quick.receive_json()["type"] == "message"
    term(server)
    goodbye(quick)
    ends(server)
    server.wait_log("dropped 0 connections whose turn had not come, and 1 that had not gone")


# ---------------------------------------------------------------- while the process goes on


def test_winch(start):
    """No new ones; who is there lives on, until they are asked."""
    server = start(CORE + ROUTES)
    client, address = member(server), server.address()
    server.process.send_signal(signal.SIGWINCH)
    wait_until(lambda: not can_connect(address), "it still listens")
    server.publish("r", '"still here"')
    assert client.receive_json()["data"] == "still here"
    assert server.control("GET", "/readyz").status == 200
    term(server)
    goodbye(client)
    ends(server)


def test_retired_routes_and_listeners_at_the_rate(start):
    n, rate = 20, 20
    head = f"[belfry]\nworkers = 2\ndrain_rate = {rate}/s\ndrain_timeout = 20s\n"
    edge = "\n[listener public]\nlisten = 127.0.0.1:0\n"
    server = start(head + ROUTES + edge + "[listener more]\nlisten = 127.0.0.1:0\n")
    stays = member(server)
    by_route = [server.open_json("/other") for _ in range(n // 2)]
    by_listener = [server.open_json("/ws", "more") for _ in range(n // 2)]
    server.write_config(head + ROUTES.replace("[route /other]\n", "") + edge)
    server.process.send_signal(signal.SIGHUP)
    told = told_at(by_route + by_listener, "reconfigured")
    times = [at for at, _ in told]
    assert (n - 1) / rate * 0.7 < times[-1] - times[0] < (n - 1) / rate * 5, times
    wait_until(lambda: drain(server)["closed"] == n, lambda: drain(server))
    assert drain(server) == {"stage": "serving", "said": n, "closed": n, "timed_out": 0, "dropped": 0}
    assert server.control("GET", "/readyz").status == 200
    server.publish("r", '"still here"')
    assert stays.receive_json()["data"] == "still here"
    with pytest.raises(ws.Refused):
        server.open("/other")


def test_who_does_not_leave_a_retired_route(start):
    """Is dropped at drain_timeout; a request under way has its answer meanwhile, and a later one another connection."""
    asked, go = threading.Event(), threading.Event()

    def script(stream):
        while stream.read_request() is not None:
            asked.set()
            go.wait(20)
            stream.send(response(b"whole"))

    head = "[belfry]\nworkers = 1\ndrain_timeout = 2s\n"
    with Backend(script) as backend:
        app = f"[upstream app]\nserver = {backend.address}\n"
        edge = "\n[listener public]\nlisten = 127.0.0.1:0\n"
        more = "[listener more]\nlisten = 127.0.0.1:0\n"
        server = start(head + ROUTES + app + "[route /app]\nmode = proxy\nupstream = app\n" + edge + more)
        silent = server.open_json("/other", "more")
        busy = connect(server.address("more"))
        busy.send(request("GET", "/app/slow"))
        assert asked.wait(20)
        server.write_config(head + ROUTES.replace("[route /other]\n", "") + edge)
        server.process.send_signal(signal.SIGHUP)
        bye = silent.receive_json()
        assert (bye["type"], bye["reason"]) == ("bye", "reconfigured")
        go.set()
        answer = busy.read_answer()
        assert (answer.status, answer.body, answer.get("Connection")) == (200, b"whole", "close")
        busy.close()
        wait_until(lambda: drain(server)["timed_out"] == 1, lambda: drain(server))  # who has not answered the Close
        assert drain(server)["dropped"] == 0
        server.open_json("/ws").finish()


def test_the_end_while_a_reload_asks_some_to_leave(start):
    head = "[belfry]\nworkers = 2\ndrain_rate = {}\n"
    edge = "\n[listener public]\nlisten = 127.0.0.1:0\n"
    server = start(head.format("1/m") + ROUTES + edge)
    retired, others = [server.open_json("/other") for _ in range(6)], [server.open_json("/ws") for _ in range(6)]
    server.write_config(head.format("1/m") + ROUTES.replace("[route /other]\n", "") + edge)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: drain(server)["said"] == 1, "nobody is told")
    server.write_config(head.format("50/s") + ROUTES.replace("[route /other]\n", "") + edge)
    assert server.control("POST", "/v1/reload").status == 200  # felt by those who still wait
    assert {bye for bye in [c.receive_json()["reason"] for c in retired]} == {"reconfigured"}
    term(server)
    told_at(others)
    for client in retired:
        client.drop()
    ends(server)
