"""An upgrade (USR2) moves plain WebSocket connections into the new worker process, and their clients notice nothing:
no message lost, doubled or out of order, half-sent frames end on the other side, ids, users, rooms and presence stay."""

import json
import os
import random
import signal
import threading
import time

import pytest

import ws
from belfry import children_of, is_alive, wait_until
from hook_backend import HookBackend, hook_config
from sse import Carrier, Reader

# What a client sees whose process was killed. Silence is something else.
ENDED = (ConnectionError, ws.ServerViolation)

ROOMS = """
[room *]
join = anyone
publish = anyone

[room kept:*]
join = anyone
publish = anyone
history = 1000

[room here:*]
join = anyone
publish = anyone
announce = yes
"""
ROUTES = """
[route /ws]
{route}
[route /raw]
protocol = raw
join_on_connect = raw
echo = yes
"""
BROKER = "[broker]\ntype = redis\nurl = {url}\n"


def config(redis=None, route="", more=""):
    return ROUTES.format(route=route) + ROOMS + more + (BROKER.format(url=redis.url) if redis else "")


def ready(server):
    wait_until(lambda: server.control("GET", "/readyz").status == 200, "not ready")
    return server


@pytest.fixture
def server(start, redis):
    return ready(start(config(redis)))


def workers(server):
    return children_of(server.process.pid)


class Upgrade:
    """USR2, and what follows it: `old` and `new` are worker processes."""

    def __init__(self, server):
        self.server = server
        self.old = server.status()["pid"]
        self.logged = len(server.log_lines())
        server.process.send_signal(signal.SIGUSR2)

    def wait_new(self):
        def serves():
            try:
                return self.server.status()["pid"] != self.old
            except OSError:
                return False

        wait_until(serves, "the new process does not serve", 30)
        self.new = self.server.status()["pid"]
        return self

    def wait_moved(self):
        self.wait_new()
        pattern = r"handover: \d+ connections are in the new process"
        wait_until(lambda: self.server.find_log(pattern, self.logged), "connections do not move", 30)
        return self

    def wait_gone(self):
        self.wait_moved()
        wait_until(lambda: not is_alive(self.old), lambda: f"the old process {self.old} stays:\n{self.server.log()[-3000:]}", 30)
        return self

    def moved(self):
        line = self.server.find_log(r"handover: \d+ connections are in the new process", self.logged)
        return int(str(line).split("handover: ")[1].split()[0])


def upgrade(server):
    return Upgrade(server).wait_gone()


def join(client, room, number=1, **more):
    client.send_json({"type": "join", "id": number, "room": room, **more})
    while (answer := client.receive_json())["type"] in ("message", "member"):
        pass
    assert answer["type"] == "ok", answer
    return answer


def told(backend, *types):
    return [e for e in backend.events() if e["type"] in types]


def ping(client):
    """The answer to a ping: nothing was said that was not expected."""
    client.send_json({"type": "ping", "id": 99})
    assert client.receive_json() == {"type": "pong", "id": 99}


def test_nothing_happens_to_idle_clients(server):
    clients = [server.open_json("/ws") for _ in range(20)]
    ids = [c.welcome["conn"] for c in clients]
    for c in clients:
        join(c, "news")
    took = upgrade(server)
    assert took.moved() == 20 and sorted(server.connection_ids()) == sorted(ids)
    for c in clients:
        ping(c)
    server.publish("news", '{"n": 1}')
    for c in clients:
        assert c.receive_json()["data"] == {"n": 1}
    server.publish("@conn:" + ids[3], '"you"')
    assert clients[3].receive_json()["data"] == "you"


class Flow:
    """Publishes numbers into rooms, by clients, by the backend and by Redis itself, until it is stopped."""

    def __init__(self, server, redis, rooms, senders):
        self.server, self.rooms, self.senders = server, rooms, senders
        self.redis = redis.client()
        self.sent = {room: 0 for room in rooms}
        self.by_client = [0] * len(senders)
        self.stopping, self.failure = False, None
        self.thread = threading.Thread(target=self.run_until_stopped)
        self.thread.start()

    def run_until_stopped(self):
        try:
            self.run()
        except Exception as failure:  # told by stop()
            self.failure = failure

    def run(self):
        while not self.stopping:
            for room in self.rooms:
                number = self.sent[room]
                if room == "kept:1":  # with a place, by the node
                    sender = self.senders[number % len(self.senders)]
                    sender.send_json({"type": "publish", "room": room, "data": number})
                    if number % len(self.senders) == 0:
                        time.sleep(0.001)
                else:
                    self.redis.publish("belfry:room:" + room, json.dumps(number))
                self.sent[room] = number + 1
            time.sleep(0.0005)

    def stop(self):
        self.stopping = True
        self.thread.join()
        assert self.failure is None, self.failure

    def through(self, upgrade):
        """What the upgrade returns, which each room had messages meanwhile."""
        before = dict(self.sent)
        result = upgrade()
        assert all(self.sent[room] > number for room, number in before.items()), (before, self.sent)
        return result


class Collector:
    """Reads a client's messages, by room, on a thread."""

    def __init__(self, client, ends, raw=False):
        self.client, self.ends, self.raw = client, ends, raw
        self.got, self.other = {}, []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        left = set(self.ends)
        while left:
            if self.raw:
                message = {"type": "message", "room": "raw", "data": json.loads(self.client.receive()[1])}
            else:
                message = self.client.receive_json()
            if message["type"] != "message":
                self.other.append(message)
            elif message["data"] == "end":
                left.discard(message["room"])
            else:
                self.got.setdefault(message["room"], []).append(message["data"])

    def join(self):
        self.thread.join(30)
        assert not self.thread.is_alive(), f"the end does not come: {({r: len(g) for r, g in self.got.items()})}"


def test_nothing_is_lost_doubled_or_out_of_order(server, redis):
    """Rooms with and without history; each number exactly once, in order, through two upgrades."""
    rooms = [f"plain:{i}" for i in range(3)] + ["raw", "kept:1", "kept:bare"]
    senders = [server.open_json("/ws")]
    readers = [server.open_json("/ws") for _ in range(12)]
    for r in readers:
        for i, room in enumerate(rooms):
            join(r, room, i)
    raws = [server.open("/raw") for _ in range(4)]
    wait_until(lambda: server.members("raw") == 16, "the raw ones are not in")
    collectors = [Collector(r, rooms) for r in readers] + [Collector(r, ["raw"], True) for r in raws]
    flow = Flow(server, redis, rooms, senders)
    try:
        time.sleep(0.2)
        for _ in range(2):
            assert flow.through(lambda: upgrade(server)).moved() == 17
            time.sleep(0.2)
    finally:
        flow.stop()
    for room in rooms:
        if room == "kept:1":
            senders[0].send_json({"type": "publish", "room": room, "data": "end"})
        else:
            redis.client().publish("belfry:room:" + room, '"end"')
    for c in collectors:
        c.join()
        assert not c.other, c.other[:3]
        for room in c.ends:
            assert c.got[room] == list(range(flow.sent[room])), room


def test_what_is_for_everybody_or_for_one(server, redis):
    """@all and @conn: are subscribed by both processes all the time."""
    readers = [server.open_json("/ws") for _ in range(6)]
    own = ["@conn:" + r.welcome["conn"] for r in readers]
    collectors = [Collector(r, ["@all", name]) for r, name in zip(readers, own)]
    flow = Flow(server, redis, ["@all", *own], [])
    try:
        time.sleep(0.1)
        for _ in range(2):
            assert flow.through(lambda: upgrade(server)).moved() == 6
            time.sleep(0.1)
    finally:
        flow.stop()
    for room in ["@all", *own]:
        redis.client().publish("belfry:room:" + room, '"end"')
    for c in collectors:
        c.join()
        assert not c.other, c.other[:3]
        for room in c.ends:
            assert c.got[room] == list(range(flow.sent[room])), room


@pytest.mark.parametrize("way", ["control", "redis"])
def test_orders_find_whoever_is_on_its_way(server, redis, way):
    """Joins by the backend while everybody moves: by whichever process, each is carried out."""
    clients = [server.open_json("/ws") for _ in range(150)]
    commands = [{"op": "join", "conn": c.welcome["conn"], "room": "ordered"} for c in clients]
    random.shuffle(commands)
    broker = redis.client()
    took = Upgrade(server)
    deadline = time.monotonic() + 30
    while not server.find_log("serves, the old one", took.logged):
        assert time.monotonic() < deadline, "the new process does not serve"
        time.sleep(0.001)  # orders are to come while connections move, not before
    for command in commands:
        if way == "redis":
            broker.publish("belfry:command", json.dumps(command))
        else:
            wait_until(lambda: answered(server, command), "the control API does not answer")
        time.sleep(0.0005)
    took.wait_gone()
    wait_until(lambda: server.members("ordered") == 150, lambda: f"{server.members('ordered')} were found")
    server.publish("ordered", "1")
    for c in clients:
        assert c.receive_json()["data"] == 1


def answered(server, command):
    try:
        return server.control("POST", "/v1/commands", command).status == 200
    except (OSError, ValueError):  # it changes hands
        return False


def test_what_one_client_publishes_keeps_its_order(server):
    """Its messages leave by two processes' links, one after the other; each is answered once."""
    reader, sender = server.open_json("/ws"), server.open_json("/ws")
    join(reader, "talk")
    stop, sent = threading.Event(), [0]

    def talk():
        while not stop.is_set():
            sender.send_json({"type": "publish", "id": sent[0], "room": "talk", "data": sent[0]})
            sent[0] += 1
            time.sleep(0.0003)

    answers = []

    def listen():
        while not stop.is_set() or len(answers) < sent[0]:
            answers.append(sender.receive_json())

    threads = [threading.Thread(target=talk), threading.Thread(target=listen)]
    for t in threads:
        t.start()
    try:
        time.sleep(0.1)
        before = sent[0]
        assert upgrade(server).moved() == 2
        assert sent[0] > before > 0
        time.sleep(0.1)
    finally:
        stop.set()
    for t in threads:
        t.join(20)
    assert [(a["type"], a["id"]) for a in answers] == [("ok", n) for n in range(sent[0])]
    assert [reader.receive_json()["data"] for _ in range(sent[0])] == list(range(sent[0]))


class Reading:
    """Waits until the old process has read what is sent from here on."""

    def __init__(self, server):
        self.server, self.before = server, server.status()["bytes_in"]

    def wait(self, size):
        wait_until(lambda: self.server.status()["bytes_in"] >= self.before + size, "it is not read")


def test_frames_and_messages_in_pieces_end_on_the_other_side(server):
    text = json.dumps({"type": "ping", "id": 99, "with": "é€😀" * 50}, ensure_ascii=False).encode()
    whole = ws.text(text)
    parts = ws.fragments(ws.TEXT, [text[:40], text[40:200], text[200:]])
    first = len(ws.frame(ws.TEXT, text[:40], fin=False))
    streams = [whole[:1], whole[:5], whole[:20], whole[:61], whole[:63], parts[: first - 3], parts[:first], parts[: first + 90]]
    rests = [whole[1:], whole[5:], whole[20:], whole[61:], whole[63:], parts[first - 3 :], parts[first:], parts[first + 90 :]]
    clients = [server.open_json("/ws") for _ in streams]
    packed = server.open("/ws", protocols=["belfry.v1.json"], change={"Sec-WebSocket-Extensions": "permessage-deflate"})
    assert packed.receive_json()["type"] == "welcome"
    reading = Reading(server)
    for c, begin in zip(clients, streams):
        c.send(begin)
    squeezed = ws.frame(ws.TEXT, ws.deflate(text), rsv=4)
    packed.send(squeezed[: len(squeezed) // 2])
    reading.wait(sum(len(s) for s in streams) + len(squeezed) // 2)
    assert upgrade(server).moved() == len(streams) + 1
    for c, end in [*zip(clients, rests), (packed, squeezed[len(squeezed) // 2 :])]:
        c.send(end)
        assert c.receive_json() == {"type": "pong", "id": 99}


def test_more_than_the_link_between_the_processes_holds(server):
    """Messages that are not whole yet, 1.8 MB of them: the link is full again and again."""
    clients = [server.open_json("/ws") for _ in range(60)]
    text = json.dumps({"type": "ping", "id": 7, "with": "x" * 60000}).encode()
    reading = Reading(server)
    for c in clients:
        c.send(ws.frame(ws.TEXT, text[:30000], fin=False))
    reading.wait(60 * len(ws.frame(ws.TEXT, text[:30000], fin=False)))
    assert upgrade(server).moved() == 60
    for c in clients:
        c.send(ws.frame(ws.CONTINUATION, text[30000:]))
        assert c.receive_json() == {"type": "pong", "id": 7}


def test_bad_bytes_are_found_on_the_other_side(server):
    """A text that goes wrong in its second half, of which the first one was read by the old process."""
    c = server.open_json("/ws")
    bad = ws.text(b'{"a":"\xe2\x82\xff"}')
    reading = Reading(server)
    c.send(bad[:-3])
    reading.wait(len(bad) - 3)
    upgrade(server)
    c.send(bad[-3:])
    assert c.receive()[:2] == ("close", 1007)


def test_the_queue_of_a_reader_that_is_stuck(start, redis):
    """What waited for it in the old process, a frame in two halves included, comes out of the new one in order."""
    server = ready(start(config(redis, "send_queue = 8m\n")))
    c = server.open_json("/ws", receive_buffer=4096)
    join(c, "bulk")
    other = server.open_json("/ws")
    join(other, "bulk")
    for n in range(40):
        server.publish("bulk", json.dumps({"n": n, "pad": "x" * 50000}))
        assert other.receive_json()["data"]["n"] == n
    took = upgrade(server)
    assert took.moved() == 2
    for n in range(40, 50):
        server.publish("bulk", json.dumps({"n": n, "pad": "x" * 50000}))
    for n in range(50):
        message = c.receive_json()
        assert message["data"] == {"n": n, "pad": "x" * 50000}


def test_users_presence_and_notifications(start, redis):
    """Nobody joins or leaves, nobody is told of an end; what a client may, and who it is, stays."""

    def connect(call):
        return {"user": call.body["query"]["user"], "info": {"name": "A"}, "join": ["here:*"], "expires_in": 3600}

    with HookBackend(connect=connect) as backend:
        text = hook_config(backend, route="connect_hook = always\nnotify = connected, disconnected, joined, left, occupied, vacated\n", more=ROOMS)
        server = ready(start(text + BROKER.format(url=redis.url)))
        clients = [server.open_json("/ws?user=" + u) for u in ("ann", "bob")]
        ids = [c.welcome["conn"] for c in clients]
        for c in clients:
            join(c, "here:1")
        for c in clients:
            while c.receive_json()["member"]["user"] != "bob":
                pass
        wait_until(lambda: len(told(backend, "joined")) == 2, "joins are not told")
        upgrade(server)
        assert server.connection_ids(user="ann") == [ids[0]]
        clients[0].send_json({"type": "members", "id": 5, "room": "here:1"})
        answer = clients[0].receive_json()
        assert answer["type"] == "ok", answer
        listed = answer["members"]
        assert sorted(m["user"] for m in listed) == ["ann", "bob"]
        server.publish("@user:bob", "1")
        assert clients[1].receive_json()["data"] == 1
        time.sleep(3.5)  # a leave would be told after three seconds
        ping(clients[0])
        assert not told(backend, "disconnected", "left", "vacated")
        clients[1].say_close()
        left = clients[0].receive_json()
        assert (left["event"], left["member"]["user"]) == ("leave", "bob")
        server.command({"op": "disconnect", "conn": ids[0], "reason": "by id"})
        assert clients[0].receive_json()["type"] == "bye"
        server.stop()  # while the backend is still there to be told


def test_the_memory_broker_tells_a_gap(start):
    """Its messages are each process's own: nobody knows what was missed."""
    server = start(config())
    c = server.open_json("/ws")
    join(c, "news")
    upgrade(server)
    assert c.receive_json() == {"type": "gap", "room": "news"}
    server.publish("news", "1")
    assert c.receive_json()["data"] == 1


def test_tls_stays_and_is_asked_to_come_back(start, redis, certificate):
    text = config(redis) + certificate.listener("secure") + "\n[listener public]\nlisten = 127.0.0.1:0\n"
    server = ready(start(text))
    plain, secure = server.open_json("/ws"), server.open_json("/ws", "secure")
    took = Upgrade(server).wait_moved()
    assert took.moved() == 1
    bye = secure.receive_json()
    assert bye["type"] == "bye" and bye["reconnect"]
    assert secure.receive()[:2] == ("close", 1012)
    ping(plain)


def test_messages_for_sessions_that_stay(start, redis):
    """A session of server-sent events stays in the old process; what its client posts comes to the new one."""
    slowly = "[belfry]\nworkers = 2\ndrain_rate = 2/s\n"
    server = ready(start(slowly + config(redis, "sse = yes\norigin = any\n")))
    readers = [Reader(server.address(), "/ws") for _ in range(16)]
    names = [r.welcome()["connection"] for r in readers]
    Upgrade(server).wait_moved()
    carrier = Carrier(server.address(), "/ws")
    ping = {"type": "ping", "id": 7}
    answers = [carrier.post(name, ping) for name in names]
    there = [a for a in answers if a.status == 200]
    assert len(there) >= 4, [a.status for a in answers]  # the others have been asked to come back by now
    assert all(json.loads(a.body) == {"type": "pong", "id": 7} for a in there)
    unknown = names[0][:-1] + ("A" if names[0][-1] != "A" else "B")
    assert carrier.post(unknown, ping).status == 404
    for r in readers:
        r.drop()
    carrier.drop()


def test_the_new_process_dies_in_the_middle(server):
    """Who had moved comes back to the next one; the others are asked to, by the old one."""
    clients = [server.open_json("/ws") for _ in range(200)]
    for c in clients:
        join(c, "news")
    took = Upgrade(server).wait_new()
    server.expect_error("killed by signal|worker process")
    os.kill(took.new, signal.SIGKILL)
    for c in clients:
        try:
            bye = c.receive_json()
        except ENDED:  # it had moved
            c.expect_end()
            continue
        assert bye["type"] == "bye" and bye["reconnect"], bye
        assert c.receive()[:2] == ("close", 1012)
    wait_until(lambda: server.answers() and server.status()["pid"] not in (took.old, took.new), "nobody serves")
    assert server.connections() == 0
    ping(server.open_json("/ws"))


def test_the_new_process_hangs_in_the_middle(server):
    """The old one takes back what it has not let go, and asks everybody to come back: nobody is in both, or in none."""
    clients = [server.open_json("/ws") for _ in range(100)]
    for c in clients:
        join(c, "news")
    took = Upgrade(server).wait_new()
    os.kill(took.new, signal.SIGSTOP)
    pattern = "handover: .* in the new process|saying goodbye"
    wait_until(lambda: server.find_log(pattern, took.logged), "the old one waits for ever", 15)
    os.kill(took.new, signal.SIGCONT)
    took.wait_gone()
    server.publish("news", '"end"')
    stayed = 0
    for c in clients:
        message = c.receive_json()
        if message["type"] == "bye":
            assert message["reconnect"] and c.receive()[:2] == ("close", 1012)
        else:
            assert message.get("data") == "end", message
            stayed += 1
    assert stayed == took.moved()


def test_the_old_process_dies_in_the_middle(server):
    """Who has moved does not notice."""
    clients = [server.open_json("/ws") for _ in range(300)]
    took = Upgrade(server).wait_new()
    server.expect_error("killed by signal|worker process")
    wait_until(lambda: server.connections() > 0, "nobody moves")
    os.kill(took.old, signal.SIGKILL)
    wait_until(lambda: not is_alive(took.old), "it lives")
    alive = 0
    for c in clients:
        try:
            ping(c)
            alive += 1
        except ENDED:
            pass
    assert alive > 0
    wait_until(lambda: server.connections() == alive, lambda: f"{alive} are answered, {server.connections()} are there")
