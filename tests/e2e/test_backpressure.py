"""What clients cause may not pile up between the threads, and a stall ends by itself.

Each test pins a way in which a node once grew without bound or froze for ever.
"""

import json
import select
import socket
import threading
import time

import ws
from belfry import wait_until

CONFIG = """
[route /ws]

[route /raw]
protocol = raw
max_rooms = 64

[room *]
join = anyone
publish = members
"""


def test_raw_frames_to_sixty_rooms_do_not_freeze_the_node(start):
    # One frame of 60 KB counts for 60 rooms: the bytes on their way passed the node's bound at once, and the node then no longer read
    # the very mailboxes whose emptying would have let it go on.
    server = start(CONFIG)
    rooms = "&".join(f"room=r{i}" for i in range(60))
    clients = [server.open(f"/raw?{rooms}") for _ in range(4)]
    frame = ws.frame(ws.BINARY, b"x" * 60000)

    def flood(client):
        try:
            for _ in range(30):
                client.send(frame)
        except OSError:
            pass  # closed as a slow consumer: it does not read

    floods = [threading.Thread(target=flood, args=(client,)) for client in clients]
    for thread in floods:
        thread.start()
    for _ in range(5):
        assert server.control("GET", "/v1/status").status == 200
    for thread in floods:
        thread.join()
    server.close_clients()
    wait_until(lambda: server.connections() == 0, "the connections are gone")
    late = server.open("/raw?room=r0")
    assert server.publish("r0", "still here") == 1
    assert late.receive() == ("text", "still here")


def test_large_publishes_to_sixty_rooms_end(start):
    server = start(CONFIG)
    reader = server.open_json("/ws")
    reader.send_json({"type": "join", "id": 1, "room": "r0"})
    assert reader.receive_json()["type"] == "ok"
    command = {"op": "publish", "rooms": [f"r{i}" for i in range(60)], "data": "x" * 400000}
    replies = []
    posts = [
        threading.Thread(target=lambda: replies.append(server.control("POST", "/v1/commands", [command, command]).status))
        for _ in range(3)
    ]
    for post in posts:
        post.start()
    for post in posts:
        post.join()
    assert set(replies) <= {200, 503} and len(replies) == 3
    wait_until(lambda: server.control("POST", "/v1/rooms/r0", b"y").status == 200, "publishing works again")


def test_joins_and_leaves_without_ids_do_not_pile_up(start):
    server = start(CONFIG)
    clients = [server.open_json("/ws") for _ in range(8)]
    before = server.resident_bytes()
    stop = time.monotonic() + 3

    def flood(number, client):
        pairs = []
        for i in range(1000):
            room = f"{number}_{i}"
            for what in ("join", "leave"):
                pairs.append(ws.text(json.dumps({"type": what, "room": room})))
        block = b"".join(pairs)
        try:
            client.send(block)
            # What the kernel's buffers take of it keeps a sanitizer's daemon busy for a minute.
            while not server.sanitized() and time.monotonic() < stop:
                client.send(block)
        except OSError:
            pass

    floods = [threading.Thread(target=flood, args=pair) for pair in enumerate(clients)]
    for thread in floods:
        thread.start()
    while not server.sanitized() and time.monotonic() < stop:  # a sanitizer's daemon is too slow to answer in time
        assert server.control("GET", "/v1/status").status == 200
        time.sleep(0.1)
    for thread in floods:
        thread.join()
    if not server.sanitized():
        assert server.resident_bytes() - before < 100 << 20
    server.close_clients()
    # What they had sent stands before the end of each stream, and is carried out: hundreds of thousands of joins.
    wait_until(lambda: server.connections() == 0 and server.status()["rooms"] == 0, "the rooms are gone", 60)


def test_tiny_frames_are_charged_what_they_cost(start):
    # A queue of a megabyte of two-byte frames would take fifty.
    server = start(CONFIG + "\n[route /echo]\nprotocol = raw\necho = yes\njoin_on_connect = echo:{conn}\nsend_queue = 1m\n")
    client = server.open("/echo", receive_buffer=4096)

    def waiting():
        (connection,) = server.get("/v1/connections")["connections"]
        return connection["queue"], connection["queue_frames"]

    def is_stuck():
        if waiting() == (0, 0):
            return False
        time.sleep(0.1)  # it could be the moment before a write
        return waiting() != (0, 0)

    while not is_stuck():  # the kernel's buffers are filled at a lower price than by tiny ones
        client.send(ws.text("x" * 64000))
    before, resident = waiting(), server.resident_bytes()
    assert before[0] < 256 << 10
    client.send(ws.text("") * 7000)
    wait_until(lambda: waiting() == (before[0] + 7000 * 2, before[1] + 7000), lambda: f"{before}, then {waiting()}")
    assert server.status()["dropped"]["slow_consumer"] == 0 and server.closed(4413) == 0
    client.send(ws.text("") * 5000)
    wait_until(lambda: server.closed(4413) == 1, "the slow client is not closed")
    assert server.status()["dropped"]["slow_consumer"] > 0
    if not server.sanitized():
        assert server.resident_bytes() - resident < 12 << 20


def test_frame_larger_than_a_queue_is_dropped_not_its_reader(start):
    # As a JSON string each of these bytes takes six: no client's queue could hold it, so no client is slow.
    server = start(CONFIG)
    client = server.open_json("/ws")
    client.send_json({"type": "join", "id": 1, "room": "r"})
    assert client.receive_json()["type"] == "ok"
    assert server.publish("r", b"\x01" * 300000) == 0
    assert server.status()["dropped"]["oversized"] == 1
    assert server.publish("r", "fits") == 1
    assert client.receive_json() == {"type": "gap", "room": "r"}  # its reader knows at least
    assert client.receive_json()["data"] == "fits"


def test_burst_larger_than_a_queue_closes_nobody_who_reads(start, redis):
    # What Redis brings in one go is queued before it is written; readers that keep up must not be taken for slow ones.
    server = start(
        "[belfry]\nworkers = 1\n[route /raw]\nprotocol = raw\nping_interval = 0\nsend_queue = 600k\n[room *]\njoin = anyone\n"
        f"[broker]\ntype = redis\nurl = redis://127.0.0.1:{redis.port}/0\n"
    )
    clients = [server.open("/raw?room=r") for _ in range(300)]
    counts = {}

    def read(some):
        for client in some:
            client.socket.settimeout(30)
        waiting = {client.socket: client for client in some}
        got = dict.fromkeys(waiting, 0)
        deadline = time.monotonic() + 60
        while waiting and time.monotonic() < deadline:
            for readable in select.select(list(waiting), [], [], 1)[0]:
                block = readable.recv(1 << 18)
                got[readable] += len(block)
                if not block or got[readable] >= EXPECTED:
                    del waiting[readable]
        counts.update(got)

    payload = b"x" * 4096
    EXPECTED = 1000 * (len(payload) + 4)
    readers = [threading.Thread(target=read, args=(clients[i::3],)) for i in range(3)]
    for reader in readers:
        reader.start()
    with socket.create_connection(("127.0.0.1", redis.port)) as publisher:
        head = b"*3\r\n$7\r\nPUBLISH\r\n$13\r\nbelfry:room:r\r\n$%d\r\n" % len(payload)
        publisher.sendall((head + payload + b"\r\n") * 1000)
        for reader in readers:
            reader.join()
    assert set(counts.values()) == {EXPECTED}
    assert server.status()["dropped"]["slow_consumer"] == 0
