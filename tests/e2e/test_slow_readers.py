"""Readers that stop reading, by each on_slow: what they get once they read again, and what it costs the others."""

import json
import signal
import statistics
import time

import pytest

from belfry import wait_until
from conftest import PUBLIC_LISTENER
from load import Swarm, payload, private_bytes

QUEUE = 128 << 10
CONFIG = """
[route /drop]
send_queue = 128k
on_slow = drop_oldest
[route /drop-raw]
protocol = raw
send_queue = 128k
on_slow = drop_oldest
[route /latest]
send_queue = 128k
on_slow = latest
[route /close]
send_queue = 128k
[route /soft]
send_queue = 4m
send_queue_soft = 64k
send_queue_soft_time = 500ms
[route /soft-drop]
send_queue = 4m
send_queue_soft = 64k
send_queue_soft_time = 500ms
on_slow = drop_oldest

[broker]
type = memory
max_message = 64k

[room *]
join = anyone
publish = members
"""


@pytest.fixture
def server(start, certificate):
    return start(CONFIG + PUBLIC_LISTENER + certificate.listener("secure"))


def stopped(server, route, listener, rooms):
    """A client in the rooms, whose socket takes next to nothing, and which does not read from here on."""
    client = server.open_json(route, listener, receive_buffer=4096)
    for number, room in enumerate(rooms):
        client.send_json({"type": "join", "id": number, "room": room})
        assert client.receive_json()["type"] == "ok"
    return client


PAD = 4000  # the kernel takes some megabytes before a client is slow


def publish(server, room, number, size=PAD, key=None):
    data = {"n": number, "pad": "x" * size}
    command = {"op": "publish", "room": room, "data": data}
    server.command({**command, "key": key} if key else command)


def entry(server, client):
    """How GET /v1/connections shows it."""
    (found,) = [c for c in server.get("/v1/connections")["connections"] if c["conn"] == client.welcome["conn"]]
    return found


def charge(shown):
    return shown["queue"] + 96 * shown["queue_frames"]


def read_until(client, done):
    """Objects up to one for which done(object), each of them whole JSON."""
    seen = []
    while not seen or not done(seen[-1]):
        seen.append(client.receive_json())
    return seen


def congest(server, client, dropped, publish_next, most=3000):
    """Publishes until the daemon has dropped that many of this client's messages; how many were published."""
    for number in range(most):
        publish_next(number)
        if number % 20 == 19:
            shown = entry(server, client)
            assert charge(shown) <= QUEUE
            if shown["dropped"] + shown["replaced"] >= dropped:
                return number + 1
    raise AssertionError(f"{most} messages, and too few were dropped: {entry(server, client)}")


# drop_oldest


def test_drop_oldest(server, listener):
    slow = stopped(server, "/drop", listener, ["a", "quiet"])
    quick = stopped(server, "/drop", listener, ["a"])
    received = []

    def publish_next(number):
        publish(server, "a", number)
        received.append(quick.receive_json()["data"]["n"])

    total = congest(server, slow, 100, publish_next)
    shown = entry(server, slow)
    assert shown["blocked_ms"] > 0 and shown["queue_frames"] > 15 and shown["replaced"] == 0, shown
    assert entry(server, quick)["dropped"] == 0
    assert received == list(range(total))  # others are not affected

    seen = read_until(slow, lambda o: o["type"] == "message" and o["data"]["n"] == total - 1)
    numbers = [o["data"]["n"] for o in seen if o["type"] == "message"]
    assert all(len(o["data"]["pad"]) == PAD for o in seen if o["type"] == "message")
    gap = seen.index({"type": "gap", "room": "a"})
    assert [o for o in seen if o["type"] != "message"] == [{"type": "gap", "room": "a"}]  # one, and none for quiet
    # In order, with one hole, in front of which the gap is told.
    assert numbers[:gap] == list(range(gap))
    assert numbers[gap:] == list(range(numbers[gap], total))
    assert numbers[gap] - gap == shown["dropped"] >= 100
    status = server.status()
    assert status["dropped"]["oldest"] == shown["dropped"]
    assert status["slow"] == {"closed_hard": 0, "closed_soft": 0, "gaps": 1}
    # From here on it is a client like any other, and its record stays.
    publish(server, "a", total)
    assert slow.receive_json()["data"]["n"] == total
    assert entry(server, slow)["dropped"] == shown["dropped"]
    assert entry(server, slow)["blocked_ms"] == entry(server, slow)["queue"] == 0
    assert server.closed(4413) == 0


def test_drop_oldest_tells_raw_clients_nothing(server, listener):
    slow = server.open("/drop-raw?room=a", listener, receive_buffer=4096)
    total = 0
    while server.status()["dropped"]["oldest"] < 50:
        for _ in range(50):
            server.publish("a", b"%06d " % total + b"x" * PAD)
            total += 1
    numbers = []
    while not numbers or numbers[-1] != total - 1:
        text = slow.receive_text()
        assert text[6:] == " " + "x" * PAD
        numbers.append(int(text[:6]))
    assert numbers == sorted(set(numbers))
    assert total - len(numbers) == server.status()["dropped"]["oldest"]
    assert server.status()["slow"]["gaps"] == 0


def test_answers_are_not_dropped(server, listener):
    """Messages make room for the answers to what a client asks, even while it reads nothing."""
    slow = stopped(server, "/drop", listener, ["a"])
    total = congest(server, slow, 50, lambda number: publish(server, "a", number))
    for number in range(100, 120):
        slow.send_json({"type": "ping", "id": number})
    wait_until(lambda: server.status()["messages_in"] >= 21, "the pings are not read")
    for number in range(200):
        publish(server, "a", total + number)
    seen = read_until(slow, lambda o: o["type"] == "message" and o["data"]["n"] == total + 199)
    assert [o["id"] for o in seen if o["type"] == "pong"] == list(range(100, 120))


def test_large_frames_are_not_cut(server, listener):
    """Frames larger than what a TLS record, or the socket, takes: the one that is under way stays, whole."""
    slow = stopped(server, "/drop", listener, ["a"])
    total = congest(server, slow, 20, lambda number: publish(server, "a", number, 30000))
    for _ in range(3):  # read a little, congest again
        for _ in range(2):
            slow.receive_json()
        for _ in range(20):
            publish(server, "a", total, 30000)
            total += 1
    seen = read_until(slow, lambda o: o["type"] == "message" and o["data"]["n"] == total - 1)
    assert all(o["type"] == "gap" or len(o["data"]["pad"]) == 30000 for o in seen)


def test_a_message_for_no_queue_is_a_gap(start):
    server = start(CONFIG)
    client = server.open_json("/close")
    client.send_json({"type": "join", "id": 1, "room": "a"})
    client.receive_json()
    server.publish("a", b"\x01" * 60000)  # as a JSON string each of these bytes takes six
    publish(server, "a", 1)
    assert client.receive_json() == {"type": "gap", "room": "a"}
    assert client.receive_json()["data"]["n"] == 1
    assert server.status()["dropped"]["oversized"] == 1


# latest


def test_latest(server, listener):
    slow = stopped(server, "/latest", listener, ["prices"])
    quick = stopped(server, "/latest", listener, ["prices"])
    keys = [f"price:{n}" for n in range(8)]
    received = []

    def publish_next(number):
        publish(server, "prices", number, key=keys[number % 8])
        received.append(quick.receive_json()["data"]["n"])

    total = congest(server, slow, 200, publish_next)
    assert received == list(range(total))  # who reads gets every value
    shown = entry(server, slow)
    assert shown["dropped"] == 0
    seen = read_until(slow, lambda o: o["data"]["n"] == total - 1)
    slow.send_json({"type": "ping", "id": 7})
    seen += read_until(slow, lambda o: o["type"] == "pong")[:-1]
    assert {o["type"] for o in seen} == {"message"}  # what was replaced is no gap
    values = [o["data"]["n"] for o in seen]
    for key in range(8):
        mine = [n for n in values if n % 8 == key]
        assert mine == sorted(mine)
        assert mine[-1] == max(n for n in range(total) if n % 8 == key)
    assert len(values) + shown["replaced"] == total
    assert server.status()["dropped"]["replaced"] == shown["replaced"]


def test_latest_without_keys_drops_the_oldest(server, listener):
    slow = stopped(server, "/latest", listener, ["mixed"])
    total = congest(
        server,
        slow,
        200,
        lambda number: publish(server, "mixed", number, key=f"k{number % 5}" if number % 10 == 0 else None),
    )
    publish(server, "mixed", total)
    seen = read_until(slow, lambda o: o["type"] == "message" and o["data"]["n"] == total)
    assert {"type": "gap", "room": "mixed"} in seen
    keyed = [o["data"]["n"] for o in seen if o["type"] == "message" and o["data"]["n"] % 10 == 0]
    assert max(n for n in range(total) if n % 10 == 0) in keyed


# close


def test_close(server, listener):
    slow = stopped(server, "/close", listener, ["a"])
    quick = stopped(server, "/close", listener, ["a"])
    total = 0
    while server.closed(4413) == 0:
        publish(server, "a", total)
        assert quick.receive_json()["data"]["n"] == total
        total += 1
    status = server.status()
    assert status["slow"] == {"closed_hard": 1, "closed_soft": 0, "gaps": 0}
    events = slow.events()
    assert events[-1][:2] == ("close", 4413)
    assert [json.loads(event[1])["data"]["n"] for event in events[:-1]] == list(range(len(events) - 1))
    assert len(events) - 1 + status["dropped"]["slow_consumer"] == total - 1  # the last one was never queued


def fill_softly(server, client, room):
    number = 0
    while charge(entry(server, client)) <= 80 << 10:
        publish(server, room, number)
        number += 1
    return number


def test_above_the_soft_limit_for_too_long(server, listener):
    slow = stopped(server, "/soft", listener, ["a"])
    total = fill_softly(server, slow, "a")
    wait_until(lambda: server.closed(4413) == 1, "it is never closed")
    assert server.status()["slow"] == {"closed_hard": 0, "closed_soft": 1, "gaps": 0}
    events = slow.events()
    assert events[-1][:2] == ("close", 4413)
    assert len(events) - 1 < total


def test_below_the_soft_limit_in_time(server, listener):
    client = stopped(server, "/soft", listener, ["a"])
    for _ in range(3):
        total = fill_softly(server, client, "a")
        for number in range(total):
            assert client.receive_json()["data"]["n"] == number
        time.sleep(0.6)  # longer than the soft time: it has been below
    assert server.closed(4413) == 0


def test_the_soft_limit_drops_where_the_policy_drops(server, listener):
    slow = stopped(server, "/soft-drop", listener, ["a"])
    total = fill_softly(server, slow, "a")
    wait_until(lambda: entry(server, slow)["dropped"] > 0, "nothing is dropped")
    shown = entry(server, slow)
    assert charge(shown) <= 64 << 10
    seen = read_until(slow, lambda o: o["type"] == "message" and o["data"]["n"] == total - 1)
    assert seen.count({"type": "gap", "room": "a"}) == 1
    assert len(seen) - 1 + shown["dropped"] == total
    assert server.closed(4413) == 0


def test_ctl_shows_the_queues(server):
    slow = stopped(server, "/drop", "public", ["a"])
    congest(server, slow, 10, lambda number: publish(server, "a", number))
    shown = server.ctl("connections")
    assert shown.returncode == 0
    (found,) = [c for c in json.loads(shown.stdout)["connections"]]
    assert found["conn"] == slow.welcome["conn"]
    assert found["queue"] > 0 and found["queue_frames"] > 0 and found["dropped"] >= 10 and found["blocked_ms"] >= 0


# At large: 10,000 readers, of which 100 never read.

READERS, STOPPED, ROUNDS, MESSAGES = 10000, 100, 5, 15
LARGE_QUEUE = 256 << 10


class Slow:
    """Clients that are in the measured room, do not read, and whose queues are full of what another room brings them."""

    def __init__(self, server, policy):
        self.server, self.policy = server, policy
        self.swarm = Swarm(
            server.address(), n=STOPPED, path="/raw?room=load:0&room=fill", receive_buffer=4096, max_seconds=600
        )
        self.swarm.process.send_signal(signal.SIGSTOP)
        before = server.status()["dropped"]
        for number in range(1, 5000):
            publish_keyed(server, "fill", payload(number, 9, 8000), number)
            if self.full(before):
                return
        raise AssertionError(f"they are never slow: {server.status()}")

    def full(self, before):
        """Whether something was dropped of every queue, on the average a hundred messages; `close`: soon will be."""
        if self.policy == "close":
            shown = self.server.get("/v1/connections?room=fill&limit=1000")["connections"]
            return max(c["queue"] for c in shown) > 215000
        name = {"drop_oldest": "oldest", "latest": "replaced"}[self.policy]
        return self.server.status()["dropped"][name] >= before[name] + STOPPED * 100

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.swarm.kill()
        wait_until(lambda: self.server.connections() == READERS - STOPPED, self.server.connections, 30)


def publish_keyed(server, room, data, number):
    server.command({"op": "publish", "room": room, "data": data.decode(), "key": f"k{number % 8}"})


def measure(server, fast, first):
    """p99 of what the others get, in microseconds; the daemon's CPU time for it, in seconds; and the next number."""
    fast.say("forget latencies")
    cpu = server.cpu_seconds()
    before = fast.report()["messages"]
    for number in range(first, first + MESSAGES):
        publish_keyed(server, "load:0", payload(number, 0, 4000), number)
        wanted = before + (number - first + 1) * (READERS - STOPPED)
        fast.wait_for(lambda report: report["messages"] == wanted, "deliveries are missing")
    return fast.report()["p99_us"], server.cpu_seconds() - cpu, first + MESSAGES


@pytest.mark.load
@pytest.mark.parametrize("policy", ["close", "drop_oldest", "latest"])
def test_a_hundred_that_never_read(start, policy):
    server = start(
        f"[belfry]\nworkers = 2\n[route /raw]\nprotocol = raw\nsend_queue = 256k\non_slow = {policy}\n"
        "ping_interval = 0\n"  # who never reads would be found by that, too
        "[broker]\nmax_message = 64k\n[room *]\njoin = anyone\npublish = members\n"
    )
    with Swarm(server.address(), n=READERS - STOPPED, path="/raw?room=load:0", max_seconds=600) as fast:
        without, beside = [], []
        *_, sequence = measure(server, fast, 1)  # warm
        memory = private_bytes(server.worker_pid())
        grown = 0
        for _ in range(ROUNDS):
            *figures, sequence = measure(server, fast, sequence)
            without.append(figures)
            with Slow(server, policy):
                *figures, sequence = measure(server, fast, sequence)
                beside.append(figures)
                grown = max(grown, private_bytes(server.worker_pid()) - memory)
        report = fast.report()
        assert report["duplicates"] == report["reordered"] == report["misrouted"] == 0, report
        status = server.status()
    p99_without, cpu_without = (statistics.median(column) for column in zip(*without))
    p99_beside, cpu_beside = (statistics.median(column) for column in zip(*beside))
    print(
        f"{policy}: p99 {p99_without / 1000:.1f} ms without, {p99_beside / 1000:.1f} ms beside {STOPPED} that never read; "
        f"CPU {cpu_without:.2f} and {cpu_beside:.2f} s; {grown >> 10} KiB more; {status['dropped']}"
    )
    assert cpu_beside <= 1.5 * cpu_without
    assert p99_beside <= 2 * p99_without
    if policy == "close":
        assert status["slow"]["closed_hard"] > ROUNDS * STOPPED / 2
    else:
        assert server.closed(4413) == 0
    if not server.sanitized():
        assert grown <= STOPPED * LARGE_QUEUE
