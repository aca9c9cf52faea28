"""What a delivery may cost: no allocation, no encoding of its own, and one write call for all that is due to a connection."""

import mmap
import struct

import pytest

from load import ROOMS, Swarm, payload, publish_all, redis_broker
from swarm import HERE, compile_c

BUDGET = HERE.parent / "budget"
MESSAGES = 50
ALLOCATIONS_A_MESSAGE = 40  # of its parsing, its frame, its forms; nothing of it may grow with the members


def listener(certificate, kind):
    return certificate.listener("public") if kind == "wss" else "[listener public]\nlisten = 127.0.0.1:0\n"


class Counter:
    """The allocations of a daemon that was started with this environment."""

    def __init__(self, directory):
        name = directory / "allocations"
        name.write_bytes(bytes(16))
        library = compile_c("budget/count_malloc.so", BUDGET / "count_malloc.c", "-shared", "-fPIC")
        self.environment = {"LD_PRELOAD": str(library), "COUNT_MALLOC_FILE": str(name)}
        with open(name, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 16)

    def read(self):
        """(Belfry's and its other libraries', OpenSSL's)"""
        return struct.unpack("QQ", self.map[:])


class Room:
    """One room of raw clients, published to one message after the other so that each has turns of its own."""

    def __init__(self, redis, counter, swarm):
        self.client, self.counter, self.swarm, self.sequence, self.expected = redis.client(), counter, swarm, 0, 0

    def publish(self, messages):
        members = self.swarm.count
        for _ in range(messages):
            self.sequence += 1
            publish_all(self.client, 1, [self.sequence])
        self.expected += messages * members
        self.swarm.wait_for(lambda report: report["messages"] == self.expected, "deliveries are missing")

    def allocations(self, messages):
        """A message: (others, OpenSSL)."""
        self.publish(20)  # warm: slabs, hiredis's buffer, OpenSSL's
        before = self.counter.read()
        self.publish(messages)
        after = self.counter.read()
        return tuple((b - a) / messages for a, b in zip(before, after))


@pytest.mark.parametrize("kind", ["ws", "wss"])
def test_no_allocation_per_delivery(start, redis, certificate, tmp_path, kind):
    counter = Counter(tmp_path)
    config = "[belfry]\nworkers = 2\n" + ROOMS + redis_broker(redis.url) + listener(certificate, kind)
    server = start(config, extra_environment=counter.environment)
    assert counter.read()[0] > 100, "the counter is not preloaded"
    figures = {}
    for members in (1000, 5000):
        with Swarm(server.address(), n=members, tls=kind == "wss", path="/raw?room=load:0") as swarm:
            figures[members] = Room(redis, counter, swarm).allocations(MESSAGES)
        server.check()
    for members, (others, openssl) in figures.items():
        print(f"{kind}, {members} members: {others:.1f} allocations a message, and OpenSSL {openssl / members:.2f} a delivery")
        assert others <= ALLOCATIONS_A_MESSAGE
        assert others / members < 0.05
        # A record's buffer comes and goes with SSL_MODE_RELEASE_BUFFERS, which is what keeps an idle connection small.
        assert openssl / members <= (2 if kind == "wss" else 0)
    assert figures[5000][0] / 5000 < 0.01
    assert figures[5000][0] - figures[1000][0] < 10, "it grows with the members"


def test_one_encode_per_message_and_form(start, redis):
    server = start("[belfry]\nworkers = 2\n" + ROOMS + redis_broker(redis.url))
    raw = Swarm(server.address(), n=200, path="/raw?room=load:0")
    with raw, Swarm(server.address(), n=200, path="/json", protocol="json") as json:
        before = server.status()
        client = redis.client()
        publish_all(client, 1, range(1, MESSAGES + 1))
        client.close()
        for swarm in (raw, json):
            swarm.wait_for(lambda report: report["messages"] == MESSAGES * 200, "deliveries are missing")
        after = server.status()
        assert after["deliveries"] - before["deliveries"] == MESSAGES * 400
        assert after["encodes"] - before["encodes"] == MESSAGES * 2


def test_one_deflate_per_message_and_protocol(start, redis):
    """Two threads, 300 readers of each: whoever comes first compresses for all."""
    server = start("[belfry]\nworkers = 2\n" + ROOMS + redis_broker(redis.url))
    raw = Swarm(server.address(), n=300, path="/raw?room=load:0", deflate=True)
    with raw, Swarm(server.address(), n=300, path="/json", protocol="json", deflate=True) as json:
        before = server.status()
        client = redis.client()
        publish_all(client, 1, range(1, MESSAGES + 1), size=1000)
        client.close()
        for swarm in (raw, json):
            report = swarm.wait_for(lambda report: report["messages"] == MESSAGES * 300, "deliveries are missing")
            assert report["compressed"] == MESSAGES * 300
        after = server.status()
        assert after["deliveries"] - before["deliveries"] == MESSAGES * 600
        assert after["deflates"] - before["deflates"] == MESSAGES * 2
        assert after["encodes"] - before["encodes"] == MESSAGES * 2  # nobody asked for the plain forms


@pytest.mark.parametrize("kind", ["ws", "wss"])
def test_one_write_per_connection_and_turn(start, redis, certificate, kind):
    """50 messages at once are 50,000 deliveries to 1,000 members, and hardly more than 1,000 write calls."""
    members = 1000
    server = start("[belfry]\nworkers = 2\n" + ROOMS + redis_broker(redis.url) + listener(certificate, kind))
    with Swarm(server.address(), n=members, tls=kind == "wss", path="/raw?room=load:0") as swarm:
        client = redis.client()
        publish_all(client, 1, [1])
        swarm.wait_for(lambda report: report["messages"] == members, "deliveries are missing")
        before = server.status()
        # MULTI: Redis hands them on in one piece.
        commands = [("PUBLISH", "belfry:room:load:0", payload(2 + i, 0, 100)) for i in range(MESSAGES)]
        client.pipeline([("MULTI",), *commands, ("EXEC",)])
        client.close()
        swarm.wait_for(lambda report: report["messages"] == members * (1 + MESSAGES), "deliveries are missing")
        after = server.status()
        writes, turns = after["writes"] - before["writes"], after["turns"] - before["turns"]
        print(f"{kind}: {writes} writes for {members * MESSAGES} deliveries, {turns} turns of both threads")
        assert after["deliveries"] - before["deliveries"] == members * MESSAGES
        # The node hands the messages over while a worker may be at its first turn already; a write call can't be saved then.
        assert members <= writes <= 3 * members
        assert turns < 200, "a turn for each delivery, or nearly"
