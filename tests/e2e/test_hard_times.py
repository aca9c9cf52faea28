"""What an operating system does to a service: no descriptors left, stopped for ten seconds, a clock that jumps, a full disk."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time

import pytest

import ws
from belfry import children_of, is_alive, wait_until
from clocks import Clocks

CONFIG = """
[belfry]
workers = 2

[route /ws]
[room *]
join = anyone
publish = members
"""


def joined(server, room="r"):
    client = server.open_json("/ws")
    client.send_json({"type": "join", "id": 1, "room": room})
    assert client.receive_json()["type"] == "ok"
    return client


def published(server, clients, payload):
    assert server.publish("r", payload) == len(clients)
    for client in clients:
        assert client.receive_json()["data"] == payload.strip('"')


def next_message(client):
    """Pings are answered on the way."""
    while (event := client.receive())[0] == "ping":
        client.send(ws.pong(event[1]))
    assert event[0] == "text", event
    return json.loads(event[1])


# Descriptors.


def test_no_descriptor_for_anything(start, tmp_path):
    """The worker process has none left, not for logs, not for reloads: who is in stays in, and all is well behind it."""
    log = tmp_path / "its.log"
    server = start(CONFIG.replace("workers = 2", f"workers = 2\nlog = {log}"))
    inside = [joined(server) for _ in range(5)]
    worker = server.worker_pid()
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (server.open_files(), before[1]))
    server.process.send_signal(signal.SIGUSR1)  # can't open its log again
    server.process.send_signal(signal.SIGHUP)  # can't read the config
    wait_until(lambda: "reload failed" in log.read_text(), "no word of it")
    inside[0].send_json({"type": "publish", "id": 2, "room": "r", "data": "still here"})
    for client in inside[1:]:
        assert client.receive_json()["data"] == "still here"
    assert inside[0].receive_json()["type"] in ("ok", "message")
    resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
    wait_until(server.answers, "the control API is not back")
    assert server.control("POST", "/v1/reload").status == 200
    assert server.worker_pid() == worker
    joined(server)


def test_no_descriptor_for_the_master(start):
    """It can't start an upgrade, says so, and goes on; with descriptors again it can."""
    server = start(CONFIG)
    client = joined(server)
    worker, master = server.worker_pid(), server.process.pid
    before = resource.prlimit(master, resource.RLIMIT_NOFILE)
    resource.prlimit(master, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{master}/fd")), before[1]))
    server.expect_error("upgrade: pipe: Too many open files")
    server.process.send_signal(signal.SIGUSR2)
    server.wait_log("upgrade: pipe")
    client.send_json({"type": "ping", "id": 2})
    assert client.receive_json()["type"] == "pong"
    resource.prlimit(master, resource.RLIMIT_NOFILE, before)
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: worker not in children_of(master), "no upgrade", 30)
    server.open_json("/ws").drop()


# Stopped.


def test_stopped_for_ten_seconds(start, redis):
    """Longer than a ping's answer may take. Who has answered meanwhile is not dropped, for his answer was there in time;
    and nothing is lost that was published."""
    config = CONFIG.replace("workers = 2", "workers = 1").replace("[room *]", "ping_interval = 5s\npong_timeout = 5s\n[room *]")
    config += f"\n[broker]\ntype = redis\nurl = {redis.url}\n[room h]\njoin = anyone\nhistory = 100\n"
    server = start(config)
    wait_until(lambda: server.control("GET", "/readyz").status == 200, "not ready")
    clients = [joined(server, "h") for _ in range(150)]  # far more than are read in one turn
    pings = [client.read_frame() for client in clients]
    assert {ping.opcode for ping in pings} == {9}
    server.freeze()
    for client, ping in zip(clients, pings):
        client.send(ws.pong(ping.payload))
    sender = redis.client()
    for n in range(10):
        sender.publish("belfry:room:h", f'"while it sleeps {n}"')
        time.sleep(1)
    server.thaw()
    for client in clients:
        for n in range(10):
            assert next_message(client)["data"] == f"while it sleeps {n}"
        client.send_json({"type": "ping", "id": 2})
        assert next_message(client)["type"] == "pong"
    assert server.connections() == len(clients) and server.status()["crashes"] == 0
    assert server.worker_pid() in children_of(server.process.pid)


def test_only_the_worker_is_stopped(start):
    """Its master waits: who is stopped has not crashed."""
    server = start(CONFIG)
    client = joined(server)
    worker = server.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    time.sleep(3)
    assert children_of(server.process.pid) == [worker]
    os.kill(worker, signal.SIGCONT)
    client.send_json({"type": "ping", "id": 2})
    assert client.receive_json()["type"] == "pong"


def test_only_the_master_is_stopped(start):
    """Clients do not notice; what it was told meanwhile, it does afterwards."""
    server = start(CONFIG)
    client = joined(server)
    worker = server.worker_pid()
    server.process.send_signal(signal.SIGSTOP)
    for n in range(30):  # more than one reload tells it of sockets
        assert server.control("POST", "/v1/reload").status == 200
    published(server, [client], '"x"')
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    client.send_json({"type": "ping", "id": 2})
    assert client.receive_json()["type"] == "pong"
    server.process.send_signal(signal.SIGCONT)
    assert client.receive_json()["type"] == "bye"
    client.drop()
    assert server.process.wait(20) == 0
    assert not is_alive(worker)
    server.check_log()


# Clocks.


@pytest.mark.parametrize("days", [400, -400])
def test_wall_clock_jumps(start, tmp_path, days):
    """Deadlines, timers and back-offs go by the monotonic clock; only what is written has another date."""
    clock = Clocks(tmp_path)
    config = CONFIG.replace("[room *]", "ping_interval = 1s\npong_timeout = 1s\n[room *]")
    server = start(config, extra_environment=clock.environment)
    client = joined(server)
    clock.jump(days * 86400)
    year = time.gmtime(time.time() + days * 86400).tm_year
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.find_log("reloaded"), "no reload")
    assert f"\n{year}-" in server.log()
    for _ in range(3):
        ping = client.read_frame()
        assert ping.opcode == 9
        client.send(ws.pong(ping.payload))
    assert server.status()["pings_out"] < 6  # as many as there were intervals
    published(server, [client], '"behind it"')
    server.expect_error("crashed")
    os.kill(server.worker_pid(), signal.SIGKILL)
    server.wait_log(r"worker process \d+ serves")  # after 100 ms and not after 400 days
    server.close_clients()
    server.stop()


# Disks.


def may_mount():
    return os.geteuid() == 0 and shutil.which("mount")


@pytest.fixture
def small_disk(tmp_path):
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


@pytest.mark.skipif(not may_mount(), reason="needs root")
def test_disk_full_under_the_log(start, small_disk):
    """Lines are lost and counted, nothing else is; with room again it says so and goes on, through a crash as well."""
    log, filler = small_disk / "its.log", small_disk / "filler"
    server = start(CONFIG.replace("workers = 2", f"workers = 2\nlog = {log}\npid_file = {small_disk}/pid"))
    clients = [joined(server) for _ in range(3)]
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            pass
    for _ in range(50):  # each writes some lines
        server.process.send_signal(signal.SIGHUP)
        if server.status()["log"]["dropped"]:
            break
        time.sleep(0.05)
    dropped = wait_until(lambda: server.status()["log"]["dropped"], "all of it found room")
    published(server, clients, '"all is well"')
    os.kill(server.worker_pid(), signal.SIGKILL)
    wait_until(lambda: server.answers() and server.status()["crashes"] == 1, "it is not back")
    assert (small_disk / "pid").read_text() == f"{server.process.pid}\n"
    client = joined(server)
    filler.unlink()
    before = log.stat().st_size
    server.control("POST", "/v1/reload")
    wait_until(lambda: log.stat().st_size > before, "it writes no more")
    published(server, [client], '"and now"')
    print(f"{dropped} lines found no room")
    server.stop()
    assert not (small_disk / "pid").exists()


def test_log_to_a_device_that_is_always_full(start):
    server = start(CONFIG.replace("workers = 2", "workers = 2\nlog = /dev/full"))
    client = joined(server)
    published(server, [client], '"x"')
    assert server.status()["log"]["dropped"] > 0
    client.drop()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
