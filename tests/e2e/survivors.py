"""A thousand clients that come back, and what each of them must have at the end: every message once, in order, or the server's
own word that something was missed.

A survivor joins one room with the JSON protocol and stays there over any number of connections: it reconnects, to the next
address, with the `since` of the last message that it saw. A reporter publishes numbered messages to every room, each until it was
accepted, under an `id`, so that a number is published once whatever happens in between.
"""

import asyncio
import base64
import http.client
import json
import os
import random
import threading
import time
from dataclasses import dataclass, field

from belfry import wait_until

CONNECT_SECONDS = 5
SILENCE_SECONDS = 6  # longer than a ping interval and a pong time-out of the tests' routes


def room_name(number):
    return f"life:{number}"


@dataclass
class Survivor:
    """One client: what it saw, over all its connections."""

    number: int
    room: str
    seen: list = field(default_factory=list)  # numbers of messages, in the order of their arrival
    excuses: set = field(default_factory=set)  # lengths of `seen` at which it was told that something may be missing
    since: dict = None  # of the last message or join
    connects: int = 0
    recovered: int = 0
    not_recovered: int = 0
    gaps: int = 0
    member: bool = False
    faults: list = field(default_factory=list)

    def told(self):
        self.excuses.add(len(self.seen))

    def take(self, message):
        kind = message["type"]
        if kind == "message":
            self.seen.append(message["data"]["n"])
            if "offset" in message:
                self.since = {"epoch": message["epoch"], "offset": message["offset"]}
        elif kind == "gap":
            self.gaps += 1
            self.told()
        elif kind == "ok" and message.get("id") == 1:
            self.member = True
            if message.get("recovered") is True:
                self.recovered += 1
            elif message.get("recovered") is False:
                self.not_recovered += 1
                self.told()
            # What is behind a replay is in the messages; without one this is the place to go on from.
            if not message.get("replayed") and "offset" in message:
                self.since = {"epoch": message["epoch"], "offset": message["offset"]}
        elif kind == "error":
            self.faults.append(message)

    def verdict(self, last):
        """(lost, doubled or late, excused) numbers, where `last` is the number that was published last."""
        lost = wrong = excused = 0
        before = None
        for place, n in enumerate([*self.seen, last + 1]):
            told = place in self.excuses
            if before is not None and n <= before:
                wrong += 1
                continue
            missing = 0 if before is None else n - before - 1
            lost += 0 if told else missing
            excused += missing if told else 0
            before = n
        if before is None or (not self.seen and last > 0):
            lost += last
        return lost, wrong, excused


async def read_frame(reader):
    head = await reader.readexactly(2)
    opcode, size = head[0] & 15, head[1] & 127
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    return opcode, await reader.readexactly(size)


def masked(opcode, payload):
    size = len(payload)
    head = bytes([0x80 | opcode]) + (bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big"))
    return head + b"\0\0\0\0" + payload  # a key of zeros: this is no place to save servers from proxies


class Fleet:
    """Survivors in a thread of their own. `addresses` may be changed while they run."""

    def __init__(self, addresses, clients, rooms, path="/ws"):
        self.addresses, self.path = list(addresses), path
        self.survivors = [Survivor(i, room_name(i % rooms)) for i in range(clients)]
        self.connected = 0
        self.ending = False
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        wait_until(self.all_members, lambda: f"only {self.members()} of {len(self.survivors)} are in", 60)
        return self

    def __exit__(self, *_):
        self.ending = True
        self.thread.join(30)
        assert not self.thread.is_alive()

    def run(self):
        self.loop.run_until_complete(self.main())

    async def main(self):
        tasks = [asyncio.ensure_future(self.live(s)) for s in self.survivors]
        while not self.ending:
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=10)

    async def live(self, survivor):
        await asyncio.sleep(random.random())
        while not self.ending:  # wait_for may swallow a cancellation
            try:
                await self.once(survivor)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError):
                pass
            survivor.member = False
            await asyncio.sleep(0.1 + random.random())

    async def once(self, survivor):
        address = self.addresses[(survivor.number + survivor.connects) % len(self.addresses)]
        survivor.connects += 1
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*address), CONNECT_SECONDS)
        try:
            await asyncio.wait_for(self.shake_hands(reader, writer), CONNECT_SECONDS)
            join = {"type": "join", "id": 1, "room": survivor.room}
            if survivor.since:
                join["since"] = survivor.since
            writer.write(masked(1, json.dumps(join).encode()))
            while not self.ending:
                opcode, payload = await asyncio.wait_for(read_frame(reader), SILENCE_SECONDS)
                if opcode == 1:
                    survivor.take(json.loads(payload))
                elif opcode == 9:
                    writer.write(masked(10, payload))
                elif opcode == 8:
                    return
        finally:
            writer.transport.abort()

    async def shake_hands(self, reader, writer):
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {self.path} HTTP/1.1\r\nHost: survivors\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode(errors="replace"))

    def members(self):
        return sum(s.member for s in self.survivors)

    def all_members(self):
        return self.members() == len(self.survivors)

    def wait_for_number(self, last, seconds):
        def behind():
            return [s for s in self.survivors if not s.member or not s.seen or s.seen[-1] < last]

        def tell():
            late = behind()
            return f"{len(late)} survivors have not got number {last}: {late[:2]}"

        wait_until(lambda: not behind(), tell, seconds)

    def assert_whole(self, last, what):
        """Prints the counts; fails where a message is missing that its client was not told of, or came twice or late."""
        verdicts = [s.verdict(last) for s in self.survivors]
        lost, wrong, excused = (sum(v[i] for v in verdicts) for i in range(3))
        counts = {
            "clients": len(self.survivors),
            "messages": sum(len(s.seen) for s in self.survivors),
            "connects": sum(s.connects for s in self.survivors),
            "recovered": sum(s.recovered for s in self.survivors),
            "not_recovered": sum(s.not_recovered for s in self.survivors),
            "gaps": sum(s.gaps for s in self.survivors),
            "excused": excused,
            "lost": lost,
            "doubled_or_late": wrong,
        }
        print(f"\n{what}: {json.dumps(counts)}")
        bad = [s for s, v in zip(self.survivors, verdicts) if v[0] or v[1]]
        assert not bad, (counts, bad[0])
        return counts


class Reporter(threading.Thread):
    """Publishes number after number to all rooms over the control API of any server that lives, each until it is accepted."""

    def __init__(self, servers, rooms, pause=0.5):
        super().__init__(daemon=True)
        self.servers, self.rooms, self.pause = list(servers), rooms, pause
        self.number = 0  # the last one that is accepted in all rooms
        self.retries = self.duplicates = 0
        self.ending = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.ending.wait(self.pause):
                self.publish(self.number + 1)
                self.number += 1
        except Exception as failure:  # a test's thread must not die in silence
            self.failure = failure
            raise

    def publish(self, number):
        waiting = list(range(self.rooms))
        turn = 0
        deadline = time.monotonic() + 60
        while waiting:
            assert time.monotonic() < deadline, f"number {number} was not accepted within 60 s in {len(waiting)} rooms"
            results = self.post(self.servers[turn % len(self.servers)], number, waiting)
            turn += 1
            left = []
            for room, result in zip(waiting, results):
                self.duplicates += bool(result.get("duplicate"))
                if "offset" not in result:
                    left.append(room)
            waiting = left
            if waiting:
                self.retries += 1
                time.sleep(0.1)

    @staticmethod
    def post(server, number, rooms):
        commands = [
            {"op": "publish", "room": room_name(room), "data": {"n": number}, "id": f"n{number}"} for room in rooms
        ]
        try:
            reply = server.control("POST", "/v1/commands", commands)
            return reply.json().get("results", [{}] * len(rooms))
        except (OSError, http.client.HTTPException):
            return [{}] * len(rooms)

    def wait_numbers(self, more, seconds=60):
        first = self.number
        wait_until(lambda: self.number >= first + more or self.failure, "the reporter stands still", seconds)

    def stop(self):
        self.ending.set()
        self.join(90)
        assert not self.is_alive() and self.failure is None, self.failure
        return self.number
