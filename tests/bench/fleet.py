#!/usr/bin/env python3
"""A fleet under a steady load, for as long as one likes: `./dev bench fleet [--nodes 6] [--clients 15000] [--minutes 10]`.

Each node is a process of its own with so many clients over wss, all on one Redis; every client is in a room that spans all
nodes, and gets a message every `--pause` seconds. A line a minute says what the nodes' memory is, how many connections
there are and how late deliveries come. At the end: is everybody still there, did everybody get everything once and in
order, did the memory of any node grow by more than `--growth` percent from the first look to the last? Exit code 1 where
one of these is not so. A process may open 20,000 files in many a place: hence several nodes, and a swarm for each.
"""

import argparse
import contextlib
import os
import statistics
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
sys.path[:0] = [str(TESTS / "e2e"), str(TESTS / "load"), str(TESTS / "bench")]
os.environ.setdefault("BELFRY_BUILD", str(ROOT / "build" / "release"))

import tempfile  # noqa: E402

from belfry import Belfry  # noqa: E402
from bench import make_certificate  # noqa: E402
from load import private_bytes  # noqa: E402
from redis_server import RedisServer  # noqa: E402
from swarm import Swarm, assert_flawless, payload  # noqa: E402

CONFIG = """
[belfry]
workers = 1
max_connections = {room}
[listener public]
listen = 127.0.0.{host}:0
tls = yes
certificate = {chain}
private_key = {key}
handshake_timeout = 2m
[route /raw]
protocol = raw
[room *]
join = anyone
[broker]
type = redis
url = {redis}
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--clients", type=int, default=15000, help="of each node")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--pause", type=float, default=10, help="seconds between two messages that a client gets")
    parser.add_argument("--growth", type=float, default=2, help="percent that a node's memory may grow meanwhile")
    return parser.parse_args()


class Fleet:
    def __init__(self, options, directory, stack):
        self.options = options
        self.redis = RedisServer(directory).start()
        stack.callback(self.redis.stop)
        chain, key = make_certificate(directory)
        self.nodes, self.swarms = [], []
        for number in range(options.nodes):
            config = CONFIG.format(
                room=options.clients + 100, host=number + 1, chain=chain, key=key, redis=self.redis.url
            )
            node = Belfry(directory / f"node{number}", config).start()
            stack.callback(node.stop)
            self.nodes.append(node)

    def connect(self, stack):
        for number, node in enumerate(self.nodes):
            begin = time.monotonic()
            swarm = Swarm(
                node.address(),
                wait=600,
                max_seconds=int(self.options.minutes * 60) + 1800,
                n=self.options.clients,
                rooms=self.options.rooms,
                tls=True,
                path="/raw?room=load:%r",
            )
            stack.enter_context(swarm)
            self.swarms.append(swarm)
            print(f"node {number}: {self.options.clients} wss clients in {time.monotonic() - begin:.0f} s", flush=True)

    def memory(self):
        return [private_bytes(node.worker_pid()) for node in self.nodes]

    def publish(self, client, sequence):
        rooms = range(self.options.rooms)
        sent = client.pipeline([("PUBLISH", f"belfry:room:load:{room}", payload(sequence, room, 100)) for room in rooms])
        assert min(sent) == len(self.nodes), f"a room was not subscribed by every node: {sent}"

    def look(self, minute):
        memory = self.memory()
        connections = [node.connections() for node in self.nodes]
        late = [swarm.report()["p99_us"] / 1000 for swarm in self.swarms]
        each = [f"{value / 2**20:.1f}" for value in memory]
        print(
            f"minute {minute:4.1f}: {sum(connections)} connections, p99 {statistics.median(late):.0f} ms, MB of memory: "
            + " ".join(each),
            flush=True,
        )
        return memory

    def hold(self):
        client = self.redis.client()
        begin, sequence, looked = time.monotonic(), 0, 0.0
        first = None
        while (passed := time.monotonic() - begin) < self.options.minutes * 60 or first is None:
            sequence += 1
            self.publish(client, sequence)
            if sequence == 2 or passed - looked >= 60:  # what the first message took is there to stay
                looked = passed
                memory = self.look(passed / 60)
                first = first or memory
            time.sleep(max(0, begin + sequence * self.options.pause - time.monotonic()))
        client.close()
        for swarm in self.swarms:
            swarm.expect(1, sequence)
        for swarm in self.swarms:
            assert_flawless(swarm.wait_complete(), self.options.clients)
        return first, self.look((time.monotonic() - begin) / 60), sequence


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="belfry-fleet-") as name, contextlib.ExitStack() as stack:
        fleet = Fleet(options, Path(name), stack)
        with contextlib.ExitStack() as clients:
            fleet.connect(clients)
            first, last, sequence = fleet.hold()
        total = options.nodes * options.clients
        print(f"{total} clients, {sequence} messages each, {total * sequence} deliveries: all there, once, in order")
        growth = [100 * (after - before) / before for before, after in zip(first, last)]
        print("growth of each node's memory in percent: " + " ".join(f"{value:.2f}" for value in growth))
        print(f"bytes a connection: {statistics.median(last) / options.clients:.0f}, what the process needs itself included")
    return 1 if max(growth) > options.growth else 0


if __name__ == "__main__":
    sys.exit(main())
