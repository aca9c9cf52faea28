"""Long polling: a session without a socket, fetched in batches; nothing is lost with an answer that is."""

import json
import threading
import time

import pytest
from belfry import wait_until
from hook_backend import HookBackend, hook_config
from http1 import connect, request
from sse import Poller

CONFIG = """
[belfry]
workers = 2

[route /ws]
mode = rooms
origin = https://app.example, none
poll_wait = 10s

[route /short]
mode = rooms
poll_wait = 300ms
poll_timeout = 3s
send_queue = 1m

[route /raw]
mode = rooms
protocol = raw

[route /off]
mode = rooms
poll = no

[room chat:*]
join = anyone
publish = anyone

[room kept:*]
join = anyone
publish = anyone
history = 50
"""


@pytest.fixture(scope="module")
def shared_server(start_shared):
    return start_shared(CONFIG)


@pytest.fixture
def server(shared_server):
    yield shared_server
    for conn in shared_server.connection_ids():
        shared_server.command({"op": "disconnect", "conn": conn})
    shared_server.check()


@pytest.fixture
def poller(server):
    found = Poller(server.address(), "/ws?room=chat:1")
    yield found
    found.drop()


def test_opening(server, poller):
    answer = poller.poll()
    assert answer.status == 200
    assert answer.get("Content-Type") == "application/json" and answer.get("Cache-Control") == "no-store"
    (welcome,) = answer.messages
    assert welcome["type"] == "welcome" and list(welcome["rooms"]) == ["chat:1"]
    assert poller.cursor == welcome["connection"] + ".1"
    (listed,) = server.get("/v1/connections?room=chat:1")["connections"]
    assert listed["transport"] == "poll" and listed["conn"] == welcome["conn"]
    assert server.members("chat:1") == 1


def test_messages_in_batches(server, poller):
    poller.welcome()
    for i in range(5):
        assert server.publish("chat:1", str(i)) == 1
    answer = poller.poll()
    assert [m["data"] for m in answer.messages] == [0, 1, 2, 3, 4]
    assert poller.cursor.endswith(".2")


def test_a_poll_waits_for_a_message(server, poller):
    poller.welcome()
    timer = threading.Timer(0.3, lambda: server.publish("chat:1", '"now"'))
    timer.start()
    begun = time.monotonic()
    answer = poller.poll()
    assert [m["data"] for m in answer.messages] == ["now"]
    assert time.monotonic() - begun >= 0.25
    timer.join()


def test_a_poll_that_waits_in_vain(server):
    poller = Poller(server.address(), "/short")
    poller.welcome()
    cursor = poller.cursor
    for _ in range(4):  # which keeps the session, though nothing comes
        answer = poller.poll()
        assert answer.status == 200 and answer.messages == [] and poller.cursor == cursor
    poller.drop()


def test_no_poll_no_session(server):
    poller = Poller(server.address(), "/short?room=chat:1")
    poller.welcome()
    assert server.members("chat:1") == 1
    before = server.closed(1006)
    wait_until(lambda: server.members("chat:1") == 0, "the end of the session")
    assert server.closed(1006) == before + 1
    assert poller.poll().status == 404
    poller.drop()


def test_a_lost_answer_comes_again(server, poller):
    poller.welcome()
    first = poller.cursor
    server.publish("chat:1", "1")
    assert [m["data"] for m in poller.poll().messages] == [1]
    second = poller.cursor
    server.publish("chat:1", "2")
    again = poller.poll(first)  # as if its answer had not come
    assert [m["data"] for m in again.messages] == [1] and poller.cursor == second
    again = poller.poll(first)
    assert [m["data"] for m in again.messages] == [1]
    assert [m["data"] for m in poller.poll(second).messages] == [2]
    assert poller.poll(first).status == 409  # that is too far back
    base = second.rsplit(".", 1)[0]
    assert poller.poll(base + ".99").status == 409
    for text in ("x", base, base + ".01", base + ".x"):
        assert poller.poll(text).status == 400, text
    assert poller.poll("c_" + "A" * 20 + "." + "B" * 22 + ".1").status == 404


def test_a_client_that_hangs_up(server, poller):
    """It leaves in the middle of a poll; what comes meanwhile is in the next one."""
    poller.welcome()
    lost = connect(server.address())
    lost.send(request("GET", poller.url(poller.cursor)))
    time.sleep(0.2)
    lost.close()
    server.publish("chat:1", "1")
    time.sleep(0.2)
    server.publish("chat:1", "2")
    got = []
    while len(got) < 2:
        got += [m["data"] for m in poller.poll().messages]
    assert got == [1, 2]


def test_a_newer_poll_takes_the_place(server, poller):
    poller.welcome()
    with connect(server.address()) as older:
        older.send(request("GET", poller.url(poller.cursor)))
        time.sleep(0.2)
        with connect(server.address()) as newer:
            newer.send(request("GET", poller.url(poller.cursor)))
            answer = older.read_answer()
            assert answer.status == 200 and json.loads(answer.body)["messages"] == []
            server.publish("chat:1", "7")
            answer = newer.read_answer()
            assert [m["data"] for m in json.loads(answer.body)["messages"]] == [7]
            poller.cursor = json.loads(answer.body)["cursor"]


def test_batches_are_bounded(server):
    poller = Poller(server.address(), "/ws?room=chat:1")
    poller.welcome()
    for i in range(300):
        server.publish("chat:1", str(i))
    sizes, got = [], []
    while len(got) < 300:
        messages = [m["data"] for m in poller.poll().messages]
        sizes.append(len(messages))
        got += messages
    assert got == list(range(300)) and max(sizes) <= 256
    poller.drop()

    poller = Poller(server.address(), "/ws?room=chat:2")
    poller.welcome()
    for i in range(12):
        server.publish("chat:2", json.dumps(str(i) * 20000))
    got = []
    while len(got) < 12:
        answer = poller.poll()
        assert len(answer.body) < 65536 + 45000
        got += [m["data"][-1:] for m in answer.messages]
    assert got == [str(i)[-1] for i in range(12)]
    poller.drop()


SMALL = """
[route /small]
mode = rooms
send_queue = 16k
max_message = 8k
[broker]
max_message = 8k
[room chat:*]
join = anyone
"""


def test_who_never_polls_is_a_slow_reader(start):
    server = start(SMALL)
    poller = Poller(server.address(), "/small?room=chat:1")
    poller.welcome()
    before = server.closed(4413)
    for _ in range(30):
        server.publish("chat:1", json.dumps("x" * 1000))
    assert server.closed(4413) == before + 1
    assert poller.receive()["code"] == 4413  # the bye is all that is left
    assert poller.poll().status == 404
    poller.drop()


def test_posts_and_polls(server, poller):
    poller.welcome()
    assert poller.send({"type": "join", "id": 1, "room": "chat:2"})[0] == 200
    assert poller.send({"type": "publish", "id": 2, "room": "chat:2", "data": "mine"})[0] == 200
    assert poller.receive()["data"] == "mine"
    assert poller.send({"type": "leave", "id": 3, "room": "chat:2"})[0] == 200
    assert server.members("chat:2") == 0


def test_since_by_post(server):
    server.publish("kept:1", "1")
    poller = Poller(server.address(), "/ws?room=kept:1")
    place = poller.welcome()["rooms"]["kept:1"]
    server.command({"op": "disconnect", "conn": poller.welcomed["conn"]})
    assert poller.receive()["type"] == "bye"
    server.publish("kept:1", "2")
    again = Poller(server.address(), "/ws")
    again.welcome()
    status, answer = again.send({"type": "join", "id": 1, "room": "kept:1", "since": place})
    assert status == 200 and answer["recovered"] is True and answer["replayed"] == 1
    assert again.receive()["data"] == 2
    poller.drop()
    again.drop()


def test_the_end_is_told(server, poller):
    poller.welcome()
    server.command({"op": "disconnect", "conn": poller.welcomed["conn"], "code": 4003, "reason": "out"})
    bye = poller.receive()
    assert bye["type"] == "bye" and bye["code"] == 4003 and bye["reason"] == "out"
    assert poller.poll().status == 404


def test_raw(server):
    poller = Poller(server.address(), "/raw?room=chat:1")
    answer = poller.poll()
    assert answer.status == 200 and answer.messages == []  # at once: the cursor is what it came for
    server.publish("chat:1", 'a "text"')
    server.publish("chat:1", b"\xff\x00")
    server.publish("chat:1", b"y" * 70000)
    got = []
    while len(got) < 3:
        got += poller.poll().messages
    assert got == ['a "text"', {"data64": "/wA="}, "y" * 70000]
    name = poller.cursor.rsplit(".", 1)[0]
    assert poller.post(name, b"hi", "text/plain").status == 202
    poller.drop()


def test_refusals(server):
    with connect(server.address()) as raw:
        assert raw.ask("HEAD", "/ws?transport=poll").status == 405
    with connect(server.address()) as raw:
        assert raw.ask("GET", "/off?transport=poll").status == 426
    with connect(server.address()) as raw:
        answer = raw.ask("GET", "/ws?transport=poll", fields=[("Origin", "https://evil.example")])
        assert answer.status == 403
    with connect(server.address()) as raw:
        answer = raw.ask("GET", "/ws?transport=poll", fields=[("Origin", "https://app.example")])
        assert answer.status == 200 and answer.get("Access-Control-Allow-Origin") == "https://app.example"


def test_many_sessions_over_any_connections(server):
    pollers = [Poller(server.address(), "/ws?room=chat:all") for _ in range(20)]
    for each in pollers:
        each.welcome()
    wait_until(lambda: server.members("chat:all") == 20, "the rooms")
    for i in range(5):
        assert server.publish("chat:all", str(i)) == 20
    # Each fetches over another's connection: whichever worker that is on, it finds its session.
    streams = [each.stream for each in pollers]
    for each, stream in zip(pollers, streams[1:] + streams[:1]):
        each.stream = stream
    for each in pollers:
        got = []
        while len(got) < 5:
            got += [m["data"] for m in each.poll().messages]
        assert got == list(range(5))
    for each in pollers:
        server.command({"op": "disconnect", "conn": each.welcomed["conn"]})
    for each in pollers:
        each.drop()


def test_sessions_count_as_connections(start):
    server = start("[belfry]\nworkers = 1\nmax_connections = 4\n\n[route /ws]\nmode = rooms\npoll_timeout = 4s\n")
    carrier = Poller(server.address(), "/ws")  # one connection for all
    for _ in range(3):
        assert carrier.ask("GET", carrier.url(None)).status == 200
    answer = carrier.ask("GET", carrier.url(None))
    assert answer.status == 503 and answer.get("Retry-After") == "5"
    assert server.refused(503) == 1
    wait_until(lambda: server.connections() <= 1, "the end of the sessions")
    assert carrier.ask("GET", carrier.url(None)).status == 200
    carrier.drop()


def test_hooks_and_limits(start):
    with HookBackend(connect={"user": "ada", "rooms": ["chat:1"]}) as backend:
        limits = "auth = backend\nnotify = connected, disconnected\nconnections_per_ip = 2\npoll_timeout = 3s\n"
        server = start(hook_config(backend, route=limits + "poll_wait = 200ms\n"))
        pollers = [Poller(server.address(), "/ws") for _ in range(3)]
        first = pollers[0].welcome()
        assert first["user"] == "ada" and list(first["rooms"]) == ["chat:1"]
        assert backend.wait_for("connect")[0].body["conn"] == first["conn"]
        pollers[1].welcome()
        assert pollers[2].poll().status == 429
        for each in pollers:
            each.drop()  # the connections go, the sessions stay, and count, until nobody has polled for long enough
        told = backend.wait_events(4)
        ended = [e for e in told if e["type"] == "disconnected"]
        assert {e["conn"] for e in ended} == {p.welcomed["conn"] for p in pollers[:2]}
        assert {e["code"] for e in ended} == {1006}
        fourth = Poller(server.address(), "/ws")
        fourth.welcome()
        fourth.drop()


def test_a_stop_answers_who_waits(start):
    server = start(CONFIG)
    poller = Poller(server.address(), "/ws?room=chat:1")
    poller.welcome()
    with connect(server.address()) as raw:
        raw.send(request("GET", poller.url(poller.cursor)))
        time.sleep(0.2)
        server.process.terminate()
        answer = raw.read_answer()
        (bye,) = json.loads(answer.body)["messages"]
        assert bye["type"] == "bye" and bye["code"] == 4503 and bye["reconnect"] is True
    poller.drop()
    assert server.process.wait(20) == 0
