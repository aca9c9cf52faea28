"""USR2: the same service, by its PID and its listening sockets, under a new binary; and everything that can go wrong with that."""

import os
import re
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

import ws
from belfry import build_directory, children_of, is_alive, run_daemon, wait_until

CONFIG = """
[route /ws]
[room *]
join = anyone
publish = members
"""


def upgrade(server, wait=True):
    """Another worker process serves after it; the old one may still be there."""
    old = server.status()
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: answers_anew(server, old["pid"]), lambda: f"no new worker process:\n{server.log()[-2000:]}", 30)
    if wait:
        wait_until(lambda: not is_alive(old["pid"]), "the old worker process stays", 30)
    return server.status()


def answers_anew(server, pid):
    try:
        return server.status()["pid"] != pid
    except (OSError, AssertionError, ValueError):
        return False


def processes(server):
    """How many worker processes there have been; None while none answers."""
    try:
        return server.status()["processes"]
    except (OSError, AssertionError, ValueError):
        return None


def listening(pid):
    """The inodes of the listening sockets, which tell whether two descriptors are one socket."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {fields[9] for line in table if (fields := line.split())[3] == "0A"}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & 0x10000:  # __SO_ACCEPTCON
            inodes.add(fields[6])
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        link = os.readlink(f"/proc/{pid}/fd/{fd}")
        if link.startswith("socket:[") and link[8:-1] in inodes:
            found.add(link[8:-1])
    return found


@pytest.fixture
def binary(tmp_path):
    """A name of our own for the binary, to be replaced."""
    path = tmp_path / "bin" / "belfry"
    path.parent.mkdir()
    path.symlink_to(build_directory() / "belfry")
    return path


def still_serves(server, old):
    assert server.status()["pid"] == old["pid"] and server.process.poll() is None
    assert children_of(server.process.pid) == [old["pid"]]
    server.open_json("/ws").drop()


class Storm:
    """Clients that come and go all the time, each in its thread."""

    def __init__(self, connect, count):
        self.connect, self.failures, self.done, self.over = connect, [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]

    def run(self):
        while not self.over.is_set():
            try:
                client = self.connect()
                client.open("/ws")
                welcome = client.receive_json()
                assert welcome["type"] == "welcome", welcome
                client.drop()
                self.done += 1
            except Exception as failure:  # whatever it is, it should not have been
                self.failures.append(f"{type(failure).__name__}: {failure}")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def test_connects_under_way_all_succeed(start, certificate, trust, tmp_path):
    path = tmp_path / "edge"
    config = "[belfry]\nworkers = 2\n" + CONFIG + certificate.listener("secure")
    server = start(config + f"\n[listener local]\nlisten = unix:{path}\n[listener public]\nlisten = 127.0.0.1:0\n")
    plain, secure = server.address(), server.address("secure")
    before = server.status()
    sockets = listening(before["pid"])
    storms = [
        Storm(lambda: ws.Client(plain), 3),
        Storm(lambda: ws.Client(str(path)), 2),
        Storm(lambda: ws.Client(secure, tls=trust), 3),
    ]
    with storms[0], storms[1], storms[2]:
        wait_until(lambda: all(storm.done > 10 for storm in storms), "no storm")
        for _ in range(2):
            status = upgrade(server)
            came = [storm.done for storm in storms]
            wait_until(lambda: all(s.done > n + 10 for s, n in zip(storms, came)), "nobody comes any more")
    assert [storm.failures[:3] for storm in storms] == [[], [], []]
    print([storm.done for storm in storms], "connections, two upgrades")
    assert status["master"] == server.process.pid and status["processes"] == 3 and status["crashes"] == 0
    assert status["node"] == before["node"]  # connections that live on keep their ids
    assert listening(status["pid"]) == sockets
    assert path.is_socket()


def test_number_of_workers_changes(start):
    """No backlog is lost where there are fewer threads, and none is without a socket where there are more."""
    server = start("[belfry]\nworkers = 3\n" + CONFIG)
    config = server.config_path.read_text()
    first = listening(server.worker_pid())
    server.config_path.write_text(config.replace("workers = 3", "workers = 1"))
    status = upgrade(server)
    assert status["workers"] == 1 and listening(status["pid"]) == first
    for _ in range(10):
        server.open_json("/ws").drop()
    server.config_path.write_text(config.replace("workers = 3", "workers = 4"))
    status = upgrade(server)
    assert status["workers"] == 4
    more = listening(status["pid"])
    assert first < more and len(more) == len(first) + 1
    assert len(status["listeners"]) == 1
    for _ in range(10):
        server.open_json("/ws").drop()


def test_listeners_come_and_go(start, tmp_path):
    old_path, new_path = tmp_path / "old", tmp_path / "new"
    server = start(CONFIG + f"\n[listener public]\nlisten = 127.0.0.1:0\n[listener local]\nlisten = unix:{old_path}\n")
    kept = server.address()
    text = server.config_path.read_text()
    server.config_path.write_text(text.replace(f"unix:{old_path}", f"unix:{new_path}"))
    upgrade(server)
    server.addresses = server.listener_addresses()
    assert server.address() == kept and server.address("local") == str(new_path)
    server.open_json("/ws")
    server.open_json("/ws", "local")
    assert new_path.is_socket() and not old_path.exists()


def test_pid_file_and_log_go_on(start, tmp_path):
    pid_file, log = tmp_path / "pid", tmp_path / "its.log"
    server = start(f"[belfry]\nworkers = 1\npid_file = {pid_file}\nlog = {log}\n" + CONFIG)
    inode = pid_file.stat().st_ino
    upgrade(server)
    assert pid_file.read_text() == f"{server.process.pid}\n" and pid_file.stat().st_ino == inode
    assert re.search("upgrade: executing .*\n(.*\n)*.*upgrade: worker process", log.read_text())
    old, status = pid_file, server.status()
    pid_file = tmp_path / "another"
    server.config_path.write_text(server.config_path.read_text().replace(str(old), str(pid_file)))
    assert upgrade(server)["pid"] != status["pid"]
    assert pid_file.read_text() == f"{server.process.pid}\n" and not old.exists()
    server.stop()
    assert not pid_file.exists()


def test_what_counts_is_where_the_binary_is(start, binary):
    """It is found again by the name that it was started by, whatever the name means by then."""
    server = start(CONFIG, binary=binary)
    binary.unlink()
    binary.symlink_to(build_directory() / "nowhere")
    server.expect_error("upgrade: ")
    old = server.status()
    server.process.send_signal(signal.SIGUSR2)
    server.wait_log("upgrade: the new binary can't be run; the old one goes on")
    still_serves(server, old)
    server.check()
    binary.unlink()
    binary.symlink_to(build_directory() / "belfry")
    assert upgrade(server)["pid"] != old["pid"]


@pytest.mark.parametrize(
    "content, line",
    [
        (b"not a program", "upgrade: the new binary can't be run"),
        (b"#!/bin/sh\necho it is not well >&2\nexit 3\n", "upgrade: it is not well"),
        (b"#!/bin/sh\nkill -SEGV $$\n", "upgrade: the new binary can't serve this config"),
        (b"#!/bin/sh\nyes | head -c 1000000\nexit 1\n", "upgrade: the new binary can't serve this config"),
        # One that knows only a later form of what a master leaves.
        (b"#!/bin/sh\n[ $BELFRY_UPGRADE_FORMAT = 999 ]\n", "upgrade: the new binary can't serve this config"),
    ],
    ids=["garbage", "refuses", "crashes", "talks", "format"],
)
def test_broken_binaries(start, binary, content, line):
    server = start(CONFIG, binary=binary)
    old = server.status()
    binary.unlink()
    binary.write_bytes(content)
    binary.chmod(0o755)
    server.expected.append("upgrade: ")
    server.process.send_signal(signal.SIGUSR2)
    server.wait_log(line)
    server.wait_log("the old one goes on")
    still_serves(server, old)


def test_unknown_form(start):
    server = start(CONFIG)
    refused = run_daemon("-t", "-c", server.config_path, extra={"BELFRY_UPGRADE_FORMAT": "999"})
    assert refused.returncode == 1 and "can't take over from a master of format 999" in refused.stderr


def test_broken_config(start):
    server = start(CONFIG)
    old, good = server.status(), server.config_path.read_text()
    server.config_path.write_text(good + "\n[nonsense]\n")
    server.expected.append("upgrade: ")
    server.process.send_signal(signal.SIGUSR2)
    server.wait_log(r"upgrade: .*belfry.ini:\d+: unknown section")
    server.wait_log("upgrade: the new binary can't serve this config; the old one goes on")
    still_serves(server, old)
    server.config_path.write_text(good)
    assert upgrade(server)["pid"] != old["pid"]


def test_new_worker_that_can_not_start(start):
    """-t does not open sockets: what only shows then ends the new process, and the old one is in charge again."""
    server = start(CONFIG)
    old, good = server.status(), server.config_path.read_text()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        more = f"\n[listener more]\nlisten = 127.0.0.1:{taken.getsockname()[1]}\n"
        server.config_path.write_text(good + more)
        server.expected += ["can't start: listen on", "the new worker process"]
        server.process.send_signal(signal.SIGUSR2)
        server.wait_log(r"upgrade: the new worker process \d+ ended before it served \(exit code 1\); the old one goes on")
        still_serves(server, old)
        server.process.send_signal(signal.SIGHUP)  # signals go to it again, and the taken port is the reload's problem, too
        server.expected.append("reload")
        server.wait_log("reload failed")
    server.config_path.write_text(good)
    assert upgrade(server)["pid"] != old["pid"]


class SlowStart:
    """Every start, and every -t, reads its token here, and so waits until it gets one."""

    def __init__(self, directory):
        self.fifo = directory / "token"
        os.mkfifo(self.fifo)
        self.config = CONFIG + f"\n[control]\nlisten = 127.0.0.1:0\ntoken = file:{self.fifo}\n"

    def give(self):
        self.fifo.write_text("a-token-that-is-long-enough")

    def begin(self, start, **options):
        giver = threading.Thread(target=self.give)
        giver.start()
        server = start(self.config, **options)
        giver.join()
        return server

    def new_worker(self, server):
        """USR2, and the new worker process is just starting: its pid."""
        old = children_of(server.process.pid)
        server.process.send_signal(signal.SIGUSR2)
        self.give()  # to -t
        server.wait_log("upgrade: executing")
        new = wait_until(lambda: set(children_of(server.process.pid)) - set(old), "no new worker process")
        return new.pop()


@pytest.fixture
def slow(tmp_path):
    return SlowStart(tmp_path)


def test_new_worker_killed_while_it_starts(start, slow):
    server = slow.begin(start)
    old = server.status()
    new = slow.new_worker(server)
    server.expect_error(rf"upgrade: the new worker process {new} ended before it served \(killed by SIGKILL\)")
    os.kill(new, signal.SIGKILL)
    server.wait_log("the old one goes on")
    still_serves(server, old)


def test_old_worker_crashes_while_the_new_one_starts(start, slow):
    server = slow.begin(start)
    address = server.address()
    old = server.worker_pid()
    slow.new_worker(server)
    server.expect_error(rf"worker process {old} crashed while the new one starts: killed by SIGKILL")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not is_alive(old), "it lives")
    waiting = server.client()  # the master keeps the sockets
    slow.give()
    waiting.open("/ws")
    status = server.status()
    assert status["crashes"] in (0, 1) and server.address() == address  # it was born before the crash
    assert children_of(server.process.pid) == [status["pid"]]


def test_term_while_a_new_worker_starts(start, slow):
    server = slow.begin(start)
    server.open_json("/ws").drop()
    new = slow.new_worker(server)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    slow.give()
    assert server.process.wait(20) == 0
    assert not is_alive(new)
    server.check_log()


def test_usr2_while_an_upgrade_is_under_way(start, slow):
    server = slow.begin(start)
    old = server.worker_pid()
    new = slow.new_worker(server)
    server.process.send_signal(signal.SIGUSR2)
    server.wait_log("no upgrade now, a worker process is just starting")
    slow.give()
    wait_until(lambda: not is_alive(old), "the old one stays")
    assert server.worker_pid() == new


def test_usr2_while_connections_are_handed_over(start):
    """The next upgrade begins when this one is over."""
    server = start(CONFIG)
    server.open_json("/ws")
    server.process.send_signal(signal.SIGUSR2)
    server.wait_log("hands over")
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: processes(server) == 3, lambda: f"no second upgrade:\n{server.log()[-2000:]}", 60)
    wait_until(lambda: len(children_of(server.process.pid)) == 1, "an old worker process stays", 30)
    server.open_json("/ws")


def test_terminated_while_it_asks_the_new_binary(start, slow):
    server = slow.begin(start)
    server.process.send_signal(signal.SIGUSR2)
    server.wait_log("asking")
    server.process.send_signal(signal.SIGUSR2)
    server.wait_log("no upgrade now, an upgrade is under way")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    server.check_log()


def test_upgrade_while_waiting_for_the_next_start(start):
    """A new binary, or a mended config, is what helps against crashes: it need not wait for the back-off."""
    server = start(CONFIG)
    good = server.config_path.read_text()
    server.config_path.write_text("[nonsense]\n")
    server.expected.append("")
    os.kill(server.worker_pid(), signal.SIGKILL)
    server.wait_log("starting it again in 1600 ms")
    server.config_path.write_text(good)
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: answers_anew(server, None), "nobody serves")
    assert server.status()["crashes"] == 5
    server.open_json("/ws").drop()
    server.check_log()


def test_ordered_end_of_both(start):
    """TERM while the old worker process still says goodbye ends both; clients of both hear it."""
    server = start(CONFIG)
    left_behind = server.open_json("/ws")
    left_behind.send(ws.text("x")[:3])  # in the middle of a frame nobody moves it
    old = server.status()["pid"]
    upgrade(server, wait=False)
    client = server.open_json("/ws")
    server.process.send_signal(signal.SIGTERM)
    assert client.receive_json()["type"] == "bye"
    server.close_clients()
    assert server.process.wait(20) == 0
    assert not is_alive(old)
    server.check_log()


def test_environment_is_clean(start):
    server = start(CONFIG)
    pid = upgrade(server)["pid"]
    for each in (server.process.pid, pid):
        for fd in os.listdir(f"/proc/{each}/fd"):
            assert "memfd" not in os.readlink(f"/proc/{each}/fd/{fd}")
    count = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    upgrade(server)
    wait_until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) == count, "the master's descriptors grow")
    assert stat.S_ISSOCK(os.stat(server.control_path).st_mode)
