"""A Redis Cluster for tests: three primaries with a replica each, real processes on free ports, ended by their pids."""

import subprocess
import time

from redis_sentinel import wait_for
from redis_server import TIMEOUT, RedisClient, RedisError, RedisServer, free_port

SLOTS = 16384


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def slot_of(key):
    key = key.encode()
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        key = key[start + 1 : end]
    return crc16(key) % SLOTS


class Cluster:
    def __init__(self, directory, *, primaries=3, replicas=1):
        self.directory = directory
        self.replicas = replicas
        self.servers = []
        for number in range(primaries * (1 + replicas)):
            place = directory / f"node{number}"
            place.mkdir()
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"]
            options += ["--cluster-port", str(free_port()), "--repl-diskless-sync-delay", "0"]
            self.servers.append(RedisServer(place, options=options))

    def start(self):
        for server in self.servers:
            server.start()
        addresses = [f"127.0.0.1:{server.port}" for server in self.servers]
        self.cli("--cluster", "create", *addresses, "--cluster-replicas", str(self.replicas), "--cluster-yes")
        wait_for(self.whole, "the cluster does not come up", 30)
        return self

    def cli(self, *words, seconds=60):
        done = subprocess.run(["redis-cli", *words], capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0 and "[ERR]" not in done.stdout, done.stdout + done.stderr
        return done.stdout

    @staticmethod
    def call(port, *words):
        client = RedisClient(port)
        try:
            return client.call(*words)
        finally:
            client.close()

    def running(self):
        return [server for server in self.servers if server.process and server.process.poll() is None]

    def whole(self):
        """All nodes that run say so, and every replica replicates."""
        for server in self.running():
            if b"cluster_state:ok" not in self.call(server.port, "CLUSTER", "INFO"):
                return False
            role = self.call(server.port, "ROLE")
            if role[0] == b"slave" and role[3] != b"connected":
                return False
            if len(self.owners(server.port)) != SLOTS:
                return False
        primaries = {port for port in self.owners(self.running()[0].port).values()}
        return all(self.owners(s.port) == self.owners(self.running()[0].port) for s in self.running()) and primaries

    def owners(self, port=None):
        """The primary's port of each slot, as one node tells it."""
        found = {}
        for first, last, primary, *_ in self.call(port or self.running()[0].port, "CLUSTER", "SLOTS"):
            found.update({slot: primary[1] for slot in range(first, last + 1)})
        return found

    def primaries(self):
        return sorted(set(self.owners().values()))

    def replica_of(self, port):
        """The port of a primary's replica that is up to date; the cluster may take a moment to say so."""

        def found():
            for _, _, primary, *replicas in self.call(port, "CLUSTER", "SLOTS"):
                if primary[1] == port and replicas:
                    return replicas[0][1]
            return None

        wait_for(found, f"no replica of {port}", 20)
        return found()

    def server(self, port):
        return next(server for server in self.servers if server.port == port)

    def node_id(self, port):
        return self.call(port, "CLUSTER", "MYID").decode()

    def owner(self, key):
        return self.owners()[slot_of(key)]

    def keyed(self, key, *words):
        """One command at the key's owner, again while it moves."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return self.call(self.owner(key), *words)
            except (OSError, RedisError, IndexError, KeyError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def move_slot(self, slot, to):
        """Live, as redis-cli --cluster reshard does it, but one given slot: the keys by MIGRATE, then SETSLOT everywhere."""
        source, target = None, to

        def begun():  # who was asked for the owner may not have heard of the last move yet
            nonlocal source
            source = self.owners()[slot]
            self.call(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.node_id(source))
            return self.call(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.node_id(target))

        wait_for(begun, f"slot {slot} does not begin to move", 20)
        while keys := self.call(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            self.call(source, "MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", *keys)
        for port in [target, source, *(p for p in self.primaries() if p not in (source, target))]:
            self.call(port, "CLUSTER", "SETSLOT", slot, "NODE", self.node_id(target))
        # Replicas hear of it as all nodes do of the new epoch. A slot that moves on before ends with two owners.
        wait_for(lambda: all(self.owners(s.port).get(slot) == target for s in self.running()), f"slot {slot} is disputed", 20)

    def reshard(self, slots, source, target):
        """By redis-cli itself, which refuses while not all nodes have heard of the last move."""
        wait_for(self.whole, "the nodes don't agree", 20)
        words = ["--cluster", "reshard", f"127.0.0.1:{source}", "--cluster-from", self.node_id(source)]
        words += ["--cluster-to", self.node_id(target), "--cluster-slots", str(slots), "--cluster-yes"]
        return self.cli(*words)

    def url(self):
        return f"redis://127.0.0.1:{self.servers[0].port}"

    def stop(self):
        for server in self.servers:
            server.kill()
