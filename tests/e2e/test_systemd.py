"""What systemd hears and gives: notifications, the watchdog, sockets that it has opened. The tests play systemd."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from belfry import build_directory, children_of, environment, wait_until
from load import Swarm  # noqa: F401  it knows where the next one is
from redis_server import free_port
from swarm import HERE, compile_c

CONFIG = """
[route /ws]
[room *]
join = anyone
publish = members
"""


class Notified:
    """$NOTIFY_SOCKET: every datagram as a dict, with the sender's PID as NotifyAccess=main looks at it."""

    def __init__(self, directory, name="notify"):
        self.path = str(directory / name)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(self.path)
        self.socket.settimeout(20)
        self.environment = {"NOTIFY_SOCKET": self.path}

    def next(self):
        data, ancillary, _, _ = self.socket.recvmsg(4096, 1024)
        (pid,) = [int.from_bytes(value[:4], sys.byteorder) for _, kind, value in ancillary if kind == socket.SCM_CREDENTIALS]
        return {"pid": pid, **dict(line.split("=", 1) for line in data.decode().split("\n"))}

    def wait(self, name, value=None):
        """The next one with that variable."""
        while True:
            message = self.next()
            if name in message and value in (None, message[name]):
                return message

    def waiting(self):
        """What has come by now."""
        self.socket.setblocking(False)
        try:
            found = []
            while True:
                found.append(self.next())
        except BlockingIOError:
            return found
        finally:
            self.socket.settimeout(20)


@pytest.fixture
def notified(tmp_path):
    listener = Notified(tmp_path)
    yield listener
    listener.socket.close()


def test_a_service_s_life(start, notified):
    server = start(CONFIG, extra_environment=notified.environment)
    master = server.process.pid
    ready = notified.wait("READY")
    assert ready["READY"] == "1" and ready["pid"] == master
    assert ready["STATUS"] == f"serving, worker process {server.worker_pid()}"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    server.process.send_signal(signal.SIGHUP)
    reloading = notified.wait("RELOADING")
    assert reloading["RELOADING"] == "1" and reloading["pid"] == master
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notified.next() == {"READY": "1", "pid": master}
    server.config_path.write_text(server.config_path.read_text() + "[nonsense]\n")
    server.expect_error("reload")
    server.process.send_signal(signal.SIGHUP)
    notified.wait("RELOADING")
    assert notified.next()["READY"] == "1"  # it serves, by the old config
    server.process.send_signal(signal.SIGTERM)
    assert notified.wait("STOPPING") == {"STOPPING": "1", "STATUS": "saying goodbye to clients", "pid": master}
    assert server.process.wait(10) == 0
    server.check_log()


def test_drained_over_the_control_api(start, notified):
    server = start(CONFIG, extra_environment=notified.environment)
    assert server.control("POST", "/v1/drain").status in (200, 202)
    assert notified.wait("STOPPING")["pid"] == server.process.pid
    assert server.process.wait(10) == 0  # nothing is started again
    server.check_log()


def test_crashes_and_upgrades_stay_one_service(start, notified):
    server = start(CONFIG, extra_environment=notified.environment)
    notified.wait("READY")
    server.expect_error("worker process .* crashed: killed by SIGKILL")
    os.kill(server.worker_pid(), signal.SIGKILL)
    assert "crashed (killed by SIGKILL)" in notified.wait("STATUS")["STATUS"]
    assert notified.wait("READY")["pid"] == server.process.pid
    old = server.worker_pid()
    server.process.send_signal(signal.SIGUSR2)
    assert notified.wait("STATUS")["STATUS"] == "upgrading"
    ready = notified.wait("READY")  # by the new binary, with the same PID
    assert ready["pid"] == server.process.pid and ready["STATUS"] != f"serving, worker process {old}"


# The watchdog.


def watchdog(notified, seconds):
    return {**notified.environment, "WATCHDOG_USEC": str(int(seconds * 1e6))}


def test_watchdog_hears_of_life(start, notified):
    server = start(CONFIG, extra_environment=watchdog(notified, 2))
    notified.wait("READY")
    times = []
    while len(times) < 4:
        assert notified.wait("WATCHDOG")["pid"] == server.process.pid
        times.append(time.monotonic())
    assert max(b - a for a, b in zip(times, times[1:])) < 2  # what systemd would bear
    # While a crashed worker process is not back, the master is there, and that is enough.
    good = server.config_path.read_text()
    server.config_path.write_text("[nonsense]\n")
    server.expected.append("")
    os.kill(server.worker_pid(), signal.SIGKILL)
    server.wait_log("starting it again in 800 ms")
    notified.waiting()
    notified.wait("WATCHDOG")
    server.config_path.write_text(good)
    notified.wait("READY")
    notified.wait("WATCHDOG")
    server.check()
    server.stop()


def test_watchdog_of_another_process(start, notified):
    server = start(CONFIG, extra_environment={**watchdog(notified, 0.2), "WATCHDOG_PID": "1"})
    notified.wait("READY")
    time.sleep(0.3)
    assert notified.waiting() == []
    server.stop()


def test_watchdog_hears_nothing_of_a_thread_that_is_stuck(start, notified):
    """The main thread turns and answers; one of two worker threads does not come back from a module."""
    source = str(HERE.parent.parent / "src")
    module = compile_c("module/stuck.so", HERE.parent / "module" / "stuck.c", "-shared", "-fPIC", f"-I{source}")
    config = f"[belfry]\nworkers = 2\nload_module = {module}\n" + CONFIG
    server = start(config, extra_environment=watchdog(notified, 2))
    notified.wait("READY")
    notified.wait("WATCHDOG")
    client = server.client()
    client.send(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
    client.send(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    wait_until(lambda: quiet(notified), "it still says that it lives", 20)
    assert server.control("GET", "/healthz").status == 200
    server.kill()


def quiet(notified):
    """For as long as systemd would wait."""
    notified.waiting()
    time.sleep(2)
    return not [message for message in notified.waiting() if "WATCHDOG" in message]


# Socket activation.

# Opens sockets as systemd does for a .socket unit, and becomes the daemon, in the same process: LISTEN_PID is known.
ACTIVATE = """
import os, socket, sys
names, addresses = sys.argv[1], sys.argv[2].split(",")
command = sys.argv[sys.argv.index("--") + 1:]
os.closerange(3, 64)
for fd, address in enumerate(addresses, 3):
    if address.startswith("/"):
        s = socket.socket(socket.AF_UNIX)
        s.bind(address)
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", int(address)))
    s.listen(100)
    assert s.detach() == fd
    os.set_inheritable(fd, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(addresses)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


def activated(names, *addresses):
    return [sys.executable, "-c", ACTIVATE, names, ",".join(map(str, addresses)), "--"]


def inode(pid, fd):
    return os.readlink(f"/proc/{pid}/fd/{fd}")


def inodes(pid):
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(inode(pid, fd))
        except FileNotFoundError:
            pass  # closed meanwhile: that of a question over the control API
    return found


def test_sockets_of_systemd(start, tmp_path):
    """Known by their addresses; they live through a crash and an upgrade, and are not removed at the end."""
    port, path = free_port(), tmp_path / "edge"
    config = "[belfry]\nworkers = 2\n" + CONFIG
    config += f"\n[listener public]\nlisten = 127.0.0.1:{port}\n[listener local]\nlisten = unix:{path}\n"
    server = start(config, command=activated("public:local", port, path))
    master = server.process.pid
    lent = {inode(master, 3), inode(master, 4)}
    assert server.address() == ("127.0.0.1", port) and server.address("local") == str(path)
    assert lent <= inodes(server.worker_pid())
    for _ in range(4):
        server.open_json("/ws").drop()
        server.open_json("/ws", "local").drop()
    server.expect_error("crashed")
    old = server.worker_pid()
    os.kill(old, signal.SIGKILL)
    server.wait_log(r"worker process \d+ serves")
    assert lent <= inodes(server.worker_pid())
    server.open_json("/ws").drop()
    old = server.worker_pid()
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: children_of(master) and old not in children_of(master), "no upgrade", 20)
    assert lent <= inodes(server.worker_pid()) and lent <= inodes(master)
    server.open_json("/ws").drop()
    server.open_json("/ws", "local").drop()
    server.check()
    server.stop()
    assert path.is_socket()  # systemd's


def test_sockets_that_the_config_does_not_name(start):
    """Are kept, by the master alone, for a config that will."""
    lent, own = free_port(), free_port()
    server = start(CONFIG + f"\n[listener public]\nlisten = 127.0.0.1:{own}\n", command=activated("other", lent))
    socket_of_other = inode(server.process.pid, 3)
    assert server.address() == ("127.0.0.1", own)
    assert socket_of_other not in inodes(server.worker_pid())
    server.config_path.write_text(server.config_path.read_text().replace(str(own), str(lent)))
    old = server.worker_pid()
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: children_of(server.process.pid) and old not in children_of(server.process.pid), "no upgrade", 20)
    assert server.listener_addresses() == {"public": ("127.0.0.1", lent)}
    assert socket_of_other in inodes(server.worker_pid())


@pytest.mark.parametrize(
    "count, pid, text",
    [("1", None, "descriptor 3 (public)"), ("x", None, "LISTEN_FDS is not a number"), ("1", "x", "LISTEN_PID")],
)
def test_what_is_no_activation(tmp_path, count, pid, text):
    file = tmp_path / "belfry.ini"
    file.write_text("[belfry]\nworkers = 1\n[listener a]\nlisten = 127.0.0.1:0\n[route /]\n")
    script = (
        "import os, sys; os.closerange(3, 64); fd = os.open('/dev/null', os.O_RDONLY); os.set_inheritable(fd, True);"
        f"os.environ.update(LISTEN_PID={pid!r} or str(os.getpid()), LISTEN_FDS={count!r}, LISTEN_FDNAMES='public');"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, build_directory() / "belfry", "-c", file]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and re.match(r"belfry: .*" + re.escape(text), done.stderr), done.stderr


def test_activation_meant_for_another_process(start):
    server = start(CONFIG, extra_environment={"LISTEN_PID": "1", "LISTEN_FDS": "3"})
    server.open_json("/ws")
