"""Messages that flow while something breaks: a publisher that knows what was accepted, and members that note what comes."""

import contextlib
import json
import socket
import threading
import time

import ws
from belfry import wait_until


def flow_rooms(history):
    """Rooms for Flow: those named kept:* have a history of so many messages."""
    return f"""
[route /json]
protocol = json
ping_interval = 0

[room *]
join = anyone
publish = anyone

[room kept:*]
join = anyone
publish = anyone
history = {history}
"""


class Flow:
    """Numbers 1, 2, 3, ... to each room in turn, over the control APIs of `nodes` in turn. `accepted` and `refused` tell by
    room which numbers were answered how, and when."""

    def __init__(self, nodes, rooms, *, pause=0.005):
        self.nodes, self.rooms, self.pause = nodes, rooms, pause
        self.accepted = {room: {} for room in rooms}
        self.refused = {room: {} for room in rooms}
        self.number = 0
        self.ending = threading.Event()
        self.failure = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def run(self):
        try:
            while not self.ending.is_set():
                self.number += 1
                for room in self.rooms:
                    self.publish_one(room)
                time.sleep(self.pause)
        except Exception as failure:
            self.failure = failure

    def publish_one(self, room):
        # One node a room: what comes from two is in no order.
        node = self.nodes[self.rooms.index(room) % len(self.nodes)]
        command = {"op": "publish", "room": room, "data": self.number}
        reply = node.control("POST", "/v1/commands", command)
        assert reply.status in (200, 502, 503, 504), (reply.status, reply.body)
        (self.accepted if reply.status == 200 else self.refused)[room][self.number] = time.monotonic()

    def stop(self):
        self.ending.set()
        self.thread.join(60)
        assert not self.thread.is_alive() and self.failure is None, self.failure

    def wait_more(self, count, seconds=60):
        """Until that many more rounds were begun."""
        until = self.number + count
        wait_until(lambda: self.failure or self.number >= until, "the publisher stands still", seconds)
        assert self.failure is None, self.failure

    def wait_all_accepted(self, since, seconds):
        """Until each room had a publish accepted that began after `since`; when the last room had."""

        def first(room):
            return next((at for at in reversed(self.accepted[room].values()) if at > since), None)

        wait_until(lambda: self.failure or all(map(first, self.rooms)), "publishes are refused for ever", seconds)
        assert self.failure is None, self.failure


class Member(threading.Thread):
    """One connection in some rooms. `events` by room: ("message", number, epoch, offset) and ("gap",)."""

    def __init__(self, node, rooms, path="/json"):
        super().__init__(daemon=True)
        self.client = node.open_json(path)
        self.client.drop = self.drop  # a close does not end what another thread waits for
        self.events = {room: [] for room in rooms}
        for number, room in enumerate(rooms, 1):
            self.client.send_json({"type": "join", "id": number, "room": room})
            answer = self.client.receive_json()
            assert answer["type"] == "ok", answer
        self.failure = None
        self.start()

    def drop(self):
        with contextlib.suppress(OSError):
            self.client.socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self.client.socket.close()

    def run(self):
        while True:
            try:
                event = self.client.receive_json()
            except ws.NothingArrived:
                continue
            except Exception as failure:  # told by wait_for; at the end of a test the connection is closed under it
                self.failure = failure
                return
            if event["type"] == "message":
                row = ("message", event["data"], event.get("epoch"), event.get("offset"))
                self.events.setdefault(event["room"], []).append(row)
            elif event["type"] == "gap":
                self.events.setdefault(event["room"], []).append(("gap",))

    def numbers(self, room):
        return [event[1] for event in list(self.events.get(room, [])) if event[0] == "message"]

    def wait_count(self, room, count, seconds=60):
        """Until it has got that many messages."""
        wait_until(lambda: self.failure or len(self.numbers(room)) >= count, f"{room}: no messages", seconds)
        assert self.failure is None, self.failure

    def gaps(self, room):
        return sum(event[0] == "gap" for event in list(self.events.get(room, [])))

    def wait_for(self, room, number, seconds=15):
        def there():
            return self.failure or number in self.numbers(room)

        wait_until(there, lambda: f"{room}: no {number} in {json.dumps(self.events[room][-5:])}", seconds)
        assert self.failure is None, self.failure

    def check(self, room, flow, *, kept, quiet=False):
        """Nothing twice, in order; what was accepted and is missing stands where a gap was told (`quiet`: never)."""
        numbers = self.numbers(room)
        assert len(set(numbers)) == len(numbers), f"{room}: delivered twice"
        assert numbers == sorted(numbers), f"{room}: out of order: {numbers}"
        missing, previous = [], None
        told = True  # what came before the first message, was before the join
        for event in list(self.events[room]):
            if event[0] == "gap":
                told = True
                continue
            if not told:
                missing += [n for n in range(previous + 1, event[1]) if n in flow.accepted[room]]
            previous, told = event[1], False
        if kept or quiet:
            assert not missing, f"{room}: lost without a word: {missing}"
        if quiet:
            assert not self.gaps(room)
        return missing

    def positions_follow(self, room):
        """A room with history: offsets follow each other within an epoch, unless a gap was told."""
        last = None
        for event in self.events[room]:
            if event[0] == "gap":
                last = None
                continue
            _, _, epoch, offset = event
            if last:
                assert (epoch, offset) == (last[0], last[1] + 1), (room, last, epoch, offset)
            last = (epoch, offset)


def ready(node):
    return node.control("GET", "/readyz").status == 200
