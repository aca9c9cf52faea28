"""Rooms that remember: offsets, recovery with `since`, idempotent publishes, and what bounds them; over each broker."""

import json
import threading
import time

import pytest

from belfry import wait_until
from hook_backend import HookBackend, hook_config

ROOMS = """
[route /json]
mode = rooms
protocol = json
ping_interval = 0
{ROUTE}

[route /first]
mode = rooms
protocol = json
join_on_connect = {query.x}

[room log:*]
join = anyone
publish = members
history = 100

[room short:*]
join = anyone
publish = anyone
history = 5

[room brief:*]
join = anyone
publish = anyone
history = 5
history_ttl = 1s

[room plain:*]
join = anyone
publish = members
"""


def config(broker, route=""):
    return ROOMS.replace("{ROUTE}", route) + broker


@pytest.fixture(params=["memory", "redis"])
def broker(request):
    """The [broker] section."""
    if request.param == "memory":
        return "\n[broker]\ntype = memory\n"
    redis = request.getfixturevalue("redis")
    return f"\n[broker]\ntype = redis\nurl = {redis.url}\n"


def ready(server):
    return server.control("GET", "/readyz").status == 200


def begin(start, text):
    """A daemon that has found its broker."""
    server = start(text)
    wait_until(lambda: ready(server), "the broker is out of reach")
    return server


@pytest.fixture
def server(start, broker):
    return begin(start, config(broker))


def ask(client, **request):
    """Its answer; what comes before goes to client.early."""
    client.send_json(request)
    while (said := client.receive_json()).get("id") != request["id"]:
        client.early.append(said)
    return said


def open_json(server, target="/json", **options):
    client = server.open_json(target, **options)
    client.early = []
    return client


def join(client, room, since=None, number=1):
    request = {"type": "join", "id": number, "room": room}
    if since:
        request["since"] = since
    return ask(client, **request)


def place(said, offset=None):
    return {"epoch": said["epoch"], "offset": said["offset"] if offset is None else offset}


def publish(server, room, data, **more):
    """By the control API: its result."""
    (result,) = server.command({"op": "publish", "room": room, "data": data, **more})
    return result


def fill(server, room, count, first=1):
    """Messages first..first+count-1, whose data is their offset; the last one's result."""
    commands = [{"op": "publish", "room": room, "data": first + i} for i in range(count)]
    return server.command(*commands)[-1]


def receive_messages(client, count):
    """The next messages, as (offset, data); they are all of one epoch."""
    messages = [client.receive_json() for _ in range(count)]
    assert all(m["type"] == "message" for m in messages), messages
    assert len({m["epoch"] for m in messages}) <= 1
    return [(m["offset"], m["data"]) for m in messages]


def expect_nothing(client):
    """Whatever was under way has come by the time of the pong."""
    client.send_json({"type": "ping", "id": 99})
    assert client.receive_json() == {"type": "pong", "id": 99}


# Offsets.


def test_offsets_count_up(server):
    client = open_json(server)
    joined = join(client, "log:1")
    assert joined == {"type": "ok", "id": 1, "room": "log:1", "epoch": joined["epoch"], "offset": 0}
    assert 4 <= len(joined["epoch"]) <= 8
    result = publish(server, "log:1", "a")
    assert result == {"epoch": joined["epoch"], "offset": 1, "receivers": 1}
    (message,) = [client.receive_json()]
    assert message["offset"] == 1 and message["epoch"] == joined["epoch"] and message["data"] == "a"
    answer = ask(client, type="publish", id=2, room="log:1", data="b")
    assert answer == {"type": "ok", "id": 2, "epoch": joined["epoch"], "offset": 2}
    echo = client.early.pop() if client.early else client.receive_json()
    assert (echo["offset"], echo["data"]) == (2, "b")
    reply = server.control("POST", "/v1/rooms/log:1", b"raw").json()
    assert reply == {"epoch": joined["epoch"], "offset": 3, "receivers": 1}
    assert server.get("/v1/rooms/log:1") == {
        "room": "log:1", "members": 1, "epoch": joined["epoch"], "offset": 3,
    }  # fmt: skip


def test_rooms_count_apart(server):
    first, second = publish(server, "log:1", 1), publish(server, "log:2", 1)
    assert first["offset"] == second["offset"] == 1
    assert publish(server, "log:1", 1)["offset"] == 2


def test_rooms_without_history_have_no_place(server):
    client = open_json(server)
    assert join(client, "plain:1") == {"type": "ok", "id": 1, "room": "plain:1"}
    assert publish(server, "plain:1", 1) == {"receivers": 1}
    message = client.receive_json()
    assert "offset" not in message and "epoch" not in message
    assert server.get("/v1/rooms/plain:1") == {"room": "plain:1", "members": 1}
    other = open_json(server)
    joined = join(other, "plain:1", {"epoch": "abcd", "offset": 1})
    assert joined == {"type": "ok", "id": 1, "room": "plain:1", "recovered": False}


def test_welcome_tells_places(server):
    result = fill(server, "log:1", 3)
    client = open_json(server, "/first?x=log:1")
    assert client.welcome["rooms"] == {"log:1": {"epoch": result["epoch"], "offset": 3}}
    empty = open_json(server, "/first?x=log:2")
    assert empty.welcome["rooms"]["log:2"]["offset"] == 0 and empty.welcome["rooms"]["log:2"]["epoch"]


# Recovery.


def test_since_brings_what_was_missed(server):
    client = open_json(server)
    joined = join(client, "log:1")
    fill(server, "log:1", 2)
    assert receive_messages(client, 2) == [(1, 1), (2, 2)]
    client.drop()
    fill(server, "log:1", 3, first=3)
    back = open_json(server)
    answer = join(back, "log:1", place(joined, 2))
    assert answer == {
        "type": "ok", "id": 1, "room": "log:1", "epoch": joined["epoch"], "offset": 5, "recovered": True, "replayed": 3,
    }  # fmt: skip
    assert receive_messages(back, 3) == [(3, 3), (4, 4), (5, 5)]
    publish(server, "log:1", 6)
    assert receive_messages(back, 1) == [(6, 6)]


def test_since_the_beginning_of_an_empty_room(server):
    client = open_json(server)
    joined = join(client, "log:1")
    client.drop()
    fill(server, "log:1", 2)
    back = open_json(server)
    assert join(back, "log:1", place(joined))["replayed"] == 2
    assert receive_messages(back, 2) == [(1, 1), (2, 2)]


def test_since_now_brings_nothing(server):
    result = fill(server, "log:1", 3)
    client = open_json(server)
    answer = join(client, "log:1", place(result))
    assert answer["recovered"] is True and answer["replayed"] == 0 and answer["offset"] == 3
    expect_nothing(client)


@pytest.mark.parametrize("epoch", ["zzzz", "", "not an epoch", "way-too-long-for-one"])
def test_since_of_another_epoch(server, epoch):
    result = fill(server, "log:1", 3)
    client = open_json(server)
    answer = join(client, "log:1", {"epoch": epoch, "offset": 1})
    assert answer == {
        "type": "ok", "id": 1, "room": "log:1", "epoch": result["epoch"], "offset": 3, "recovered": False,
    }  # fmt: skip
    expect_nothing(client)
    publish(server, "log:1", 4)
    assert receive_messages(client, 1) == [(4, 4)]


def test_since_what_is_trimmed(server):
    result = fill(server, "short:1", 8)
    client = open_json(server)
    assert join(client, "short:1", place(result, 2)) == {
        "type": "ok", "id": 1, "room": "short:1", "epoch": result["epoch"], "offset": 8, "recovered": False,
    }  # fmt: skip
    expect_nothing(client)
    other = open_json(server)
    assert join(other, "short:1", place(result, 3))["replayed"] == 5
    assert receive_messages(other, 5) == [(i, i) for i in range(4, 9)]


def test_since_an_offset_that_is_not_there_yet(server):
    result = fill(server, "log:1", 3)
    client = open_json(server)
    assert join(client, "log:1", place(result, 4))["recovered"] is False


def test_since_without_an_id_tells_of_the_gap(server):
    fill(server, "log:1", 3)
    client = open_json(server)
    client.send_json({"type": "join", "room": "log:1", "since": {"epoch": "zzzz", "offset": 1}})
    assert client.receive_json() == {"type": "gap", "room": "log:1"}


def test_member_that_joins_again_with_since(server):
    """After a gap, say: it gets what it names again, and each live message once."""
    client = open_json(server)
    joined = join(client, "log:1")
    fill(server, "log:1", 3)
    receive_messages(client, 3)
    answer = join(client, "log:1", place(joined, 1), number=2)
    assert answer["recovered"] is True and answer["replayed"] == 2
    assert receive_messages(client, 2) == [(2, 2), (3, 3)]
    publish(server, "log:1", 4)
    assert receive_messages(client, 1) == [(4, 4)]
    assert server.members("log:1") == 1


def test_join_and_leave_again_at_once(server):
    result = fill(server, "log:1", 3)
    client = open_json(server)
    for round_ in range(20):
        client.send_json({"type": "join", "id": 10 + round_, "room": "log:1", "since": place(result, round_ % 3)})
        client.send_json({"type": "leave", "id": 50 + round_, "room": "log:1"})
    assert ask(client, type="ping", id=99)["type"] == "pong"
    client.early.clear()
    assert join(client, "log:1", place(result, 1), number=100)["replayed"] == 2
    assert receive_messages(client, 2) == [(2, 2), (3, 3)]
    expect_nothing(client)


def test_two_rooms_recover_apart(server):
    one, two = fill(server, "log:1", 4), fill(server, "log:2", 4)
    client = open_json(server)
    client.send_json({"type": "join", "id": 1, "room": "log:1", "since": place(one, 3)})
    client.send_json({"type": "join", "id": 2, "room": "log:2", "since": place(two, 2)})
    said = [client.receive_json() for _ in range(5)]
    for room, expected in (("log:1", [4]), ("log:2", [3, 4])):
        assert [m["offset"] for m in said if m["type"] == "message" and m["room"] == room] == expected
        answer = next(i for i, m in enumerate(said) if m["type"] == "ok" and m["room"] == room)
        first = next(i for i, m in enumerate(said) if m["type"] == "message" and m["room"] == room)
        assert answer < first


def test_replay_that_does_not_fit_the_queue(start, broker):
    server = begin(start, config(broker, "send_queue = 6k\nmax_message = 1k") + "max_message = 2k\n")
    for _ in range(9):
        result = publish(server, "log:1", "x" * 1000)
    client = open_json(server)
    answer = join(client, "log:1", place(result, 1))
    assert answer["recovered"] is False and answer["offset"] == 9
    expect_nothing(client)
    other = open_json(server)
    assert join(other, "log:1", place(result, 6))["replayed"] == 3
    assert [offset for offset, _ in receive_messages(other, 3)] == [7, 8, 9]


def test_join_hook_and_since(start, broker):
    with HookBackend(join={"info": {"name": "Ada"}}) as backend:
        rooms = "[room log:*]\njoin = backend\npublish = members\nhistory = 10\n"
        server = begin(start, hook_config(backend, route="connect_hook = always\n", more=rooms) + broker)
        result = fill(server, "log:1", 4)
        client = open_json(server, "/ws")
        assert join(client, "log:1", place(result, 2))["replayed"] == 2
        assert receive_messages(client, 2) == [(3, 3), (4, 4)]


class Publisher(threading.Thread):
    """Publishes at full speed, in batches over the control API."""

    def __init__(self, server, room):
        super().__init__(daemon=True)
        self.server, self.room = server, room
        self.ending = threading.Event()
        self.last = None
        self.failure = None

    def run(self):
        try:
            while not self.ending.is_set():
                results = self.server.command(*[{"op": "publish", "room": self.room, "data": 0}] * 20)
                self.last = results[-1]
        except Exception as failure:  # a test's thread must not die in silence
            self.failure = failure

    def stop(self):
        self.ending.set()
        self.join(30)
        assert not self.is_alive() and self.failure is None, self.failure
        return self.last


def test_live_messages_during_replays(start, broker):
    """50 clients join with `since` while messages come as fast as they can: each gets every one once, in order."""
    rooms = config(broker).replace("history = 100", "history = 100000")
    server = begin(start, rooms)
    before = fill(server, "log:fast", 50)
    publisher = Publisher(server, "log:fast")
    publisher.start()
    wait_until(lambda: publisher.last, "nothing was published")
    clients, expected = [], []
    for number in range(50):
        client = open_json(server)
        since = before["offset"] - number
        client.send_json({"type": "join", "id": 1, "room": "log:fast", "since": place(before, since)})
        clients.append(client)
        expected.append(since)
    time.sleep(0.5)
    last = publisher.stop()["offset"]
    for client, since in zip(clients, expected):
        answer = client.receive_json()
        assert answer["recovered"] is True and answer["offset"] == since + answer["replayed"], answer
        got = [offset for offset, _ in receive_messages(client, last - since)]
        assert got == list(range(since + 1, last + 1))
        expect_nothing(client)
    assert server.status()["history"]["recovered"] == 50
    assert server.status()["history"]["gaps"] == 0


def test_clients_that_publish_and_rejoin(server):
    """Every client sees one and the same order, whichever worker it is on and however often it leaves."""
    clients = [open_json(server) for _ in range(8)]
    for client in clients:
        join(client, "log:1")
    for round_ in range(5):
        for i, client in enumerate(clients):
            client.send_json({"type": "publish", "room": "log:1", "data": [round_, i]})
    expected = None
    for client in clients:
        got = receive_messages(client, 40)
        expected = expected or got
        assert got == expected and [offset for offset, _ in got] == list(range(1, 41))


# Redis comes back.


def on_redis(start, redis):
    return begin(start, config(f"\n[broker]\ntype = redis\nurl = {redis.url}\n"))


def test_redis_comes_back_with_all_of_it(start, redis):
    """No gap for who has missed nothing; who joined while nothing was known of the room is told."""
    server = on_redis(start, redis)
    client = open_json(server)
    joined = join(client, "log:1")
    fill(server, "log:1", 3)
    assert receive_messages(client, 3) == [(1, 1), (2, 2), (3, 3)]
    redis.client().call("SAVE")
    redis.kill()
    wait_until(lambda: not ready(server), "the broker stays ready")
    waiting = open_json(server)
    assert join(waiting, "log:1", place(joined, 2))["replayed"] == 1  # from the node's own copy
    assert receive_messages(waiting, 1) == [(3, 3)]
    unknown = open_json(server)
    assert join(unknown, "log:2", place(joined, 2)) == {"type": "ok", "id": 1, "room": "log:2", "recovered": False}
    redis.start()
    wait_until(lambda: ready(server), "the broker does not come back")
    assert unknown.receive_json() == {"type": "gap", "room": "log:2"}
    assert publish(server, "log:1", 4) == {"epoch": joined["epoch"], "offset": 4, "receivers": 2}
    assert receive_messages(client, 1) == receive_messages(waiting, 1) == [(4, 4)]
    back = open_json(server)
    assert join(back, "log:1", place(joined, 1))["replayed"] == 3


def test_redis_comes_back_older_than_it_was(start, redis):
    """After a fail-over, say: offsets would be given out again, so the room begins a new epoch and its members are told."""
    server = on_redis(start, redis)
    client = open_json(server)
    joined = join(client, "log:1")
    fill(server, "log:1", 5)
    redis.client().call("SAVE")
    fill(server, "log:1", 3, first=6)
    assert [offset for offset, _ in receive_messages(client, 8)] == list(range(1, 9))
    redis.kill()
    wait_until(lambda: not ready(server), "the broker stays ready")
    redis.start()
    assert client.receive_json() == {"type": "gap", "room": "log:1"}
    wait_until(lambda: ready(server), "the broker does not come back")
    result = wait_until(lambda: moved(server, joined), "the epoch stays")
    said = [client.receive_json()]
    while said[-1].get("epoch") != result["epoch"]:
        said.append(client.receive_json())
    back = open_json(server)
    assert join(back, "log:1", place(joined, 5))["recovered"] is False


def moved(server, joined):
    result = publish(server, "log:1", "new")
    return result if result["epoch"] != joined["epoch"] else None


# What lasts, and for how long.


def test_history_ends_after_its_time(server):
    result = fill(server, "brief:1", 3)
    client = open_json(server)
    assert join(client, "brief:1", place(result, 1))["replayed"] == 2
    client.drop()
    wait_until(lambda: server.members("brief:1") == 0, "the member stays")

    def gone():
        probe = open_json(server)
        answer = join(probe, "brief:1", place(result, 1))
        probe.drop()
        return answer if answer["recovered"] is False else None

    answer = wait_until(gone, "history stays")
    assert place(answer) == place(result)  # the place stays
    assert publish(server, "brief:1", 4)["offset"] == 4


def test_budget_takes_the_oldest_of_the_quietest_room(start):
    server = begin(start, config("\n[broker]\ntype = memory\nhistory_memory = 64k\n"))
    quiet = [publish(server, "log:quiet", "q" * 1000) for _ in range(5)][-1]
    for i in range(100):
        busy = publish(server, "log:busy", "x" * 1000)
    counted = server.status()["history"]
    assert counted["evicted"] > 50 and counted["bytes"] <= 65536 and counted["messages"] == 105 - counted["evicted"]
    client = open_json(server)
    assert join(client, "log:quiet", place(quiet, 4))["recovered"] is False
    assert join(client, "log:busy", place(busy, 99), number=2)["replayed"] == 1
    assert receive_messages(client, 1)[0][0] == 100
    assert publish(server, "log:quiet", "again")["offset"] == 6  # its place was kept


def test_status_counts(server):
    result = fill(server, "log:1", 3)
    client = open_json(server)
    join(client, "log:1", place(result, 1))
    receive_messages(client, 2)
    other = open_json(server)
    join(other, "log:1", {"epoch": "zzzz", "offset": 1})
    status = server.status()
    assert status["history"]["recovered"] == 1 and status["history"]["not_recovered"] == 1
    assert status["replayed"] == 2 and status["broker"]["history_reads"] >= 1


# Publishing once.


def test_id_by_the_control_api(server):
    client = open_json(server)
    joined = join(client, "log:1")
    first = publish(server, "log:1", "a", id="order-77")
    again = publish(server, "log:1", "b", id="order-77")
    assert first == {"epoch": joined["epoch"], "offset": 1, "receivers": 1}
    assert again == {"epoch": joined["epoch"], "offset": 1, "receivers": 0, "duplicate": True}
    assert receive_messages(client, 1) == [(1, "a")]
    expect_nothing(client)
    assert publish(server, "log:2", "c", id="order-77")["offset"] == 1  # ids are the room's
    assert publish(server, "log:1", "d", id="order-78")["offset"] == 2
    assert server.status()["broker"]["duplicates"] == 1


def test_id_in_a_room_without_history(server):
    client = open_json(server)
    join(client, "plain:1")
    assert publish(server, "plain:1", "a", id="x") == {"receivers": 1}
    assert publish(server, "plain:1", "a", id="x") == {"receivers": 0, "duplicate": True}
    assert client.receive_json()["data"] == "a"
    expect_nothing(client)


def test_id_of_several_rooms(server):
    publish(server, "log:1", "a", id="x")
    (result,) = server.command({"op": "publish", "rooms": ["log:1", "log:2"], "data": "b", "id": "x"})
    assert result["duplicate"] is True
    client = open_json(server)
    assert join(client, "log:1")["offset"] == 1 and join(client, "log:2", number=2)["offset"] == 1


def test_id_in_a_hook_answer(start, broker):
    with HookBackend() as backend:
        rooms = "[room log:*]\njoin = anyone\npublish = members\nhistory = 10\n"
        server = begin(start, hook_config(backend, route="connect_hook = always\n", more=rooms) + broker)
        backend.answers["call"] = {
            "data": 1, "commands": [{"op": "publish", "room": "log:1", "data": "once", "id": "payment-1"}],
        }  # fmt: skip
        client = open_json(server, "/ws")
        join(client, "log:1")
        for number in (2, 3, 4):
            ask(client, type="call", id=number, method="pay")
        publish(server, "log:1", "behind")
        got = [m for m in client.early if m["type"] == "message"]
        while not got or got[-1]["data"] != "behind":
            got.append(client.receive_json())
        assert [(m["offset"], m["data"]) for m in got] == [(1, "once"), (2, "behind")]


def test_bad_members_are_refused(server):
    client = open_json(server)
    for since in (5, {}, {"epoch": "abcd"}, {"epoch": 1, "offset": 1}, {"epoch": "abcd", "offset": -1}):
        answer = ask(client, type="join", id=7, room="log:1", since=since)
        assert answer["type"] == "error" and answer["code"] == 400, answer
    assert json.loads(server.control("POST", "/v1/commands", {"op": "publish", "room": "log:1", "data": 1, "id": 5}).body)["results"][0]["error"]["code"] == 400
