"""What dies, and comes back, under a thousand clients in rooms with history on two nodes: every client has every message of its
room once and in order, or was told that it has not."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from belfry import wait_until
from redis_cluster import Cluster
from redis_sentinel import Sentinels
from redis_server import RedisServer
from survivors import Fleet, Reporter

pytestmark = pytest.mark.survival
CLIENTS, ROOMS = 1000, 50
ROUTE = """
[belfry]
workers = 2

[route /ws]
mode = rooms
protocol = json
ping_interval = 2s
pong_timeout = 2s
origin = any, none

[room life:*]
join = anyone
publish = nobody
history = 1000
history_ttl = 5m
"""


def broker(url, *lines):
    return "\n".join(["", "[broker]", "type = redis", f"url = {url}", *lines, ""])


def is_ready(server):
    try:
        return server.control("GET", "/readyz").status == 200
    except OSError:
        return False


def two_nodes(start, text):
    servers = [start(ROUTE + text) for _ in range(2)]
    for server in servers:
        wait_until(lambda: is_ready(server), "not ready", 20)
    return servers


def survive(servers, strike, what, *, addresses=None, reporters=None, seconds=60):
    """Runs the fleet and the reporter over `strike`, and the counts behind it."""
    with Fleet(addresses or [s.address() for s in servers], CLIENTS, ROOMS) as fleet:
        reporter = Reporter(reporters or servers, ROOMS)
        reporter.start()
        reporter.wait_numbers(10)
        strike(fleet, reporter)
        reporter.wait_numbers(15)
        last = reporter.stop()
        fleet.wait_for_number(last, seconds)
        return fleet.assert_whole(last, what)


@pytest.fixture
def durable_redis(tmp_path):
    """A Redis whose data outlives it."""
    server = RedisServer(tmp_path, options=["--appendonly", "yes", "--appendfsync", "always"])
    server.options += []
    server.start()
    yield server
    server.stop()


def restart_redis(redis, away_seconds):
    def strike(fleet, reporter):
        redis.kill()
        time.sleep(away_seconds)
        redis.start()

    return strike


def test_redis_restarted(start, durable_redis):
    servers = two_nodes(start, broker(durable_redis.url))
    counts = survive(servers, restart_redis(durable_redis, 3), "redis restarted")
    # All that was accepted is in its log, so nobody has to be told anything.
    assert counts["excused"] == 0 and counts["gaps"] == 0, counts


def test_redis_restarted_empty(start, redis):
    """Without persistence the history is gone: new epochs, and everybody is told."""
    servers = two_nodes(start, broker(redis.url))
    counts = survive(servers, restart_redis(redis, 3), "redis restarted empty")
    assert counts["gaps"] + counts["not_recovered"] >= CLIENTS, counts


def test_belfry_killed(start, durable_redis):
    """One of two nodes dies with -9; its clients go to the other one."""
    victim, other = two_nodes(start, broker(durable_redis.url))
    moved = {}

    def strike(fleet, reporter):
        moved["before"] = victim.connections()
        fleet.addresses = [other.address()]
        reporter.servers = [other]
        victim.kill()
        wait_until(fleet.all_members, lambda: f"only {fleet.members()} came back", 40)

    counts = survive([victim, other], strike, "one node killed with -9")
    assert moved["before"] == CLIENTS / 2
    assert counts["connects"] >= CLIENTS + CLIENTS / 2
    assert counts["recovered"] == CLIENTS / 2 and counts["not_recovered"] == counts["gaps"] == 0, counts


def test_worker_process_crashes(start, durable_redis):
    """The only node's worker process dies by SIGSEGV: another one is there within a second, at the same addresses, and everybody
    comes back and misses nothing."""
    server = start(ROUTE + broker(durable_redis.url))
    wait_until(lambda: is_ready(server), "not ready", 20)
    server.expect_error("worker process .* crashed: killed by SIGSEGV.*; starting it again in 100 ms")
    took = []

    def strike(fleet, reporter):
        old = server.worker_pid()
        began = time.monotonic()
        os.kill(old, signal.SIGSEGV)
        wait_until(lambda: server.answers() and server.worker_pid() != old, "no other worker process")
        took.append(time.monotonic() - began)
        wait_until(lambda: fleet.members() < CLIENTS, "nobody has noticed", 20)
        wait_until(fleet.all_members, lambda: f"only {fleet.members()} came back", 40)

    counts = survive([server], strike, "worker process killed by SIGSEGV")
    print(f"another worker process served after {took[0]:.2f} s")
    status = server.status()
    assert (status["crashes"], status["processes"]) == (1, 2)
    assert counts["connects"] >= 2 * CLIENTS
    assert counts["recovered"] == CLIENTS and counts["not_recovered"] == counts["gaps"] == 0, counts


# Redis's own ways to live on.


def test_primary_failed_over_by_sentinel(start, tmp_path):
    """The primary dies with -9; Sentinel makes the replica primary. Replication is asynchronous: what was lost on the way is told."""
    group = Sentinels(tmp_path)
    try:
        group.start()
        servers = two_nodes(start, broker(group.primary.url, *group.options()))

        def strike(fleet, reporter):
            group.primary.kill()
            group.wait_switched(group.replica.port)

        survive(servers, strike, "primary failed over by Sentinel")
    finally:
        group.stop()


@pytest.mark.parametrize("sharded", [False, True], ids=["bus", "sharded"])
def test_cluster_node_killed(start, tmp_path, sharded):
    """One of three primaries dies with -9; its replica takes its slots over."""
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        lines = ["cluster = yes", "sharded = yes" if sharded else "sharded = no"]
        servers = two_nodes(start, broker(cluster.url(), *lines))
        victim = cluster.primaries()[1]

        def strike(fleet, reporter):
            cluster.server(victim).kill()
            wait_until(lambda: victim not in cluster.primaries() and cluster.whole(), "no replica took over", 30)

        survive(servers, strike, f"cluster node killed ({'sharded' if sharded else 'bus'})")
    finally:
        cluster.stop()


# A node in a network of its own.


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Namespace:
    """A network namespace, joined to ours by a pair of interfaces."""

    def __init__(self):
        self.name = f"belfry{os.getpid()}"
        self.outside, self.inside = f"bo{os.getpid()}"[:15], f"bi{os.getpid()}"[:15]
        self.subnet = f"10.213.{os.getpid() % 256}"

    def __enter__(self):
        ip("netns", "add", self.name)
        try:
            ip("link", "add", self.outside, "type", "veth", "peer", "name", self.inside, "netns", self.name)
            ip("addr", "add", f"{self.subnet}.1/24", "dev", self.outside)
            ip("link", "set", self.outside, "up")
            ip("-n", self.name, "addr", "add", f"{self.subnet}.2/24", "dev", self.inside)
            ip("-n", self.name, "link", "set", self.inside, "up")
            ip("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "link", "del", self.outside], capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)

    def cut(self):
        ip("link", "set", self.outside, "down")

    def mend(self):
        ip("link", "set", self.outside, "up")


def may_make_namespaces():
    return os.geteuid() == 0 and shutil.which("ip") and shutil.which("nsenter")


@pytest.mark.skipif(not may_make_namespaces(), reason="needs root and iproute2")
def test_network_of_one_node_cut(start, tmp_path):
    """For 10 s one node reaches neither Redis nor its clients, and nobody says so: no packet arrives."""
    with Namespace() as network:
        redis = RedisServer(tmp_path, options=["--appendonly", "yes", "--protected-mode", "no"])
        redis.bind = f"127.0.0.1 {network.subnet}.1"
        redis.start()
        try:
            near = start(ROUTE + broker(redis.url))
            far_url = redis.url.replace("127.0.0.1", f"{network.subnet}.1")
            listener = f"\n[listener public]\nlisten = {network.subnet}.2:0\n"
            far = start(ROUTE + broker(far_url) + listener, command=["ip", "netns", "exec", network.name])
            for server in (near, far):
                wait_until(lambda: is_ready(server), "not ready", 20)

            def strike(fleet, reporter):
                network.cut()
                time.sleep(10)
                network.mend()

            counts = survive([near, far], strike, "network of one node cut for 10 s", reporters=[near])
            # Its clients went to the other node, or came back to it; nothing is missing either way.
            assert counts["not_recovered"] == counts["gaps"] == counts["excused"] == 0, counts
        finally:
            redis.stop()


# A room's clients come back at once.


def test_a_room_that_comes_back_at_once(start, durable_redis):
    """A thousand clients of one room reconnect with `since`: at most two reads of the history from Redis a node."""
    victim, other = two_nodes(start, broker(durable_redis.url))
    with Fleet([victim.address()], CLIENTS, 1) as fleet:
        reporter = Reporter([other], 1)
        reporter.start()
        reporter.wait_numbers(10)
        before = other.status()["broker"]["history_reads"]
        fleet.addresses = [other.address()]
        victim.kill()
        began = time.monotonic()
        wait_until(lambda: fleet.members() == 0, "nobody has noticed", 20)
        wait_until(fleet.all_members, lambda: f"only {fleet.members()} came back", 40)
        seconds = time.monotonic() - began
        reads = other.status()["broker"]["history_reads"] - before
        last = reporter.stop()
        fleet.wait_for_number(last, 30)
        print(f"\n{CLIENTS} clients of one room were back after {seconds:.2f} s, with {reads} reads of its history")
        counts = fleet.assert_whole(last, "one room back at once")
        assert counts["recovered"] == CLIENTS and counts["not_recovered"] == counts["gaps"] == 0, counts
        assert reads <= 2, reads
