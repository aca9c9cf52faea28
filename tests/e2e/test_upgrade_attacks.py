"""Attacks on the processes' life: a worker process that clients have taken over lies to its master, which is root; its user
plays with files that root opens by name; strangers at the control API."""

import base64
import ctypes
import os
import pwd
import signal
import socket
import time

import pytest

from belfry import children_of, wait_until

CONFIG = """
[route /ws]
[room *]
join = anyone
publish = members
"""
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
PIDFD_GETFD = 438  # pidfd_getfd(2), on all architectures


def serves(server):
    try:
        return server.status()["pid"]
    except (OSError, AssertionError, ValueError):
        return None


def open_ways(directory):
    """Directories that pytest made are root's alone; the daemon's user is to get through."""
    for parent in (directory, *directory.parents):
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


@pytest.fixture
def home(tmp_path):
    """A directory of the daemon's user, as /var/log/belfry and /run/belfry are."""
    open_ways(tmp_path)
    path = tmp_path / "home"
    path.mkdir(mode=0o755)
    nobody = pwd.getpwnam("nobody")
    os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return path


@pytest.fixture
def victim(tmp_path):
    """A file that only root may touch."""
    directory = tmp_path / "private"
    directory.mkdir(mode=0o700)
    path = directory / "shadow"
    path.write_text("root's own\n")
    path.chmod(0o600)
    return path


def untouched(victim):
    about = victim.stat()
    return (victim.read_text(), about.st_uid, about.st_mode & 0o777) == ("root's own\n", 0, 0o600)


def channel_of(server):
    """The worker process's end of its channel to the master, as code that runs inside of it has it."""
    libc = ctypes.CDLL(None, use_errno=True)
    pid = server.worker_pid()
    pidfd = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            fd = libc.syscall(PIDFD_GETFD, pidfd, int(name), 0)
            if fd < 0:
                continue
            try:
                found = socket.socket(fileno=fd)
            except OSError:
                os.close(fd)
                continue
            if found.type == socket.SOCK_SEQPACKET:
                return found
            found.close()
    finally:
        os.close(pidfd)
    pytest.skip("pidfd_getfd is not permitted here")


def say(channel, *fields, fds=()):
    socket.send_fds(channel, [b"\0".join(field.encode() for field in fields)], fds)


@only_root
def test_worker_that_lies_about_its_sockets(start, victim):
    """What a worker process told of its sockets comes to the next one while that is still root: it must not remove what it
    names."""
    server = start("[belfry]\nworkers = 1\nuser = nobody\n" + CONFIG)
    old = server.worker_pid()
    channel = channel_of(server)
    with socket.socket(socket.AF_UNIX) as lure:
        lure.bind(b"\0belfry-lure-%d" % os.getpid())
        lure.listen()
        say(channel, "keep_none")
        say(channel, "keep", "listener", "public", f"unix:{victim}", fds=[lure.fileno()])
        say(channel, "keep", "control", "", f"unix:{victim}", fds=[lure.fileno()])
        say(channel, "kept")
    channel.close()
    server.expect_error("crashed: killed by SIGKILL")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: serves(server) not in (None, old), "it is not back")
    assert untouched(victim)


@only_root
def test_worker_that_lies_about_files(start, home, victim):
    """A pid file and a log are believed before `ready` alone; unknown words, too many fields and a flood do no harm."""
    pid_file = home / "pid"
    server = start(f"[belfry]\nworkers = 1\nuser = nobody\npid_file = {pid_file}\n" + CONFIG)
    channel = channel_of(server)
    channel.setblocking(True)
    say(channel, "pid_file", str(victim))
    say(channel, "log", str(victim), "9", "1")
    say(channel, "node", "x" * 60000)
    say(channel, "keep_none", "and more")
    say(channel, "retire")
    for _ in range(2000):
        say(channel, "alive")
        say(channel, "no-such-word")
    say(channel, "ready")
    with open("/dev/null") as null:
        say(channel, "keep", "listener", "public", "127.0.0.1:1", fds=[null.fileno()] * 64)
    channel.close()
    before = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    server.open_json("/ws").drop()
    os.kill(server.worker_pid(), signal.SIGKILL)
    server.expect_error("crashed: killed by SIGKILL")
    server.expect_error("says what is not understood")
    wait_until(lambda: serves(server) and server.status()["crashes"] == 1, "it is not back")
    assert untouched(victim)
    assert len(os.listdir(f"/proc/{server.process.pid}/fd")) <= before
    assert len(server.find_log("says what is not understood")) < 100, "a broken worker floods the log"
    server.close_clients()
    server.stop()
    assert untouched(victim) and not pid_file.exists()


@only_root
def test_pid_file_that_is_a_link(start, home, victim):
    """The daemon's user has put a link there, of which root would write through."""
    (home / "pid").symlink_to(victim)
    with pytest.raises(AssertionError, match="pid_file .*: Too many levels of symbolic links"):
        start(f"[belfry]\nworkers = 1\nuser = nobody\npid_file = {home / 'pid'}\n" + CONFIG)
    assert untouched(victim)


@only_root
def test_log_that_becomes_a_link(start, home, victim):
    """CVE-2016-1247: at USR1 root's master must not open what the daemon's user has put in the log's place."""
    log, new = home / "log", victim.parent / "new"
    server = start(f"[belfry]\nworkers = 1\nuser = nobody\nlog = {log}\n" + CONFIG)
    nobody = pwd.getpwnam("nobody")
    os.mkfifo(home / "pipe")  # opened, it would never be ready
    (home / "pipe").rename(log)
    server.process.send_signal(signal.SIGUSR1)
    server.expect_error("can't open the log .*Too many levels of symbolic links")
    server.expect_error("upgrade: the new worker process .* ended before it served")
    for target in (victim, new):
        link = home / "link"
        link.symlink_to(target)
        os.lchown(link, nobody.pw_uid, nobody.pw_gid)
        link.rename(log)  # at once: what is missing is made again
        server.process.send_signal(signal.SIGUSR1)
        server.process.send_signal(signal.SIGUSR2)  # of which the master has something to write
        time.sleep(1)  # it may not do anything
        assert untouched(victim) and not new.exists()
    log.unlink()
    assert serves(server)


@only_root
def test_new_log_belongs_to_the_user(start, home):
    """Whoever comes first at USR1 makes the new file; where that is the master, the worker process must get at it, too."""
    log = home / "log"
    server = start(f"[belfry]\nworkers = 1\nuser = nobody\nlog = {log}\n" + CONFIG)
    os.kill(server.worker_pid(), signal.SIGSTOP)
    log.rename(home / "old")
    server.process.send_signal(signal.SIGUSR1)
    wait_until(log.exists, "the master makes no new file")
    os.kill(server.worker_pid(), signal.SIGCONT)
    wait_until(lambda: log.stat().st_uid == pwd.getpwnam("nobody").pw_uid, "the new log is root's")
    server.process.send_signal(signal.SIGWINCH)  # the worker process says something about that
    wait_until(lambda: "WINCH" in log.read_text(), lambda: f"not there, but in the old one:\n{(home / 'old').read_text()}")


HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
CONTROL = "[control]\nlisten = 127.0.0.1:0\ntoken = a-long-secret-of-the-control-api\n"


def test_strangers_do_not_fill_the_memory(start):
    """The page needs no token, and no body: a megabyte for each of 256 connections would be a lot."""
    server = start(CONFIG + CONTROL)
    with socket.create_connection(server.control_tcp_address(), 10) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 413 ")


def test_strangers_do_not_lock_the_administrator_out(start):
    """Connections over TCP, which anybody opens, leave room for those over the unix socket."""
    server = start("[belfry]\nworkers = 1\n" + CONFIG + CONTROL)
    strangers = [socket.create_connection(server.control_tcp_address(), 10) for _ in range(300)]
    try:
        for s in strangers:
            try:
                s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            except OSError:
                pass
        assert server.control("GET", "/healthz").status == 200
    finally:
        for s in strangers:
            s.close()


def test_a_token_that_is_good_no_more(start):
    """A reload with another token ends what was opened with the old one, not the administrator's own watching."""
    server = start(CONFIG + CONTROL)
    old = base64.urlsafe_b64encode(b"a-long-secret-of-the-control-api").rstrip(b"=").decode()
    request = f"GET /v1/live HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}"
    request = (request + f"Sec-WebSocket-Protocol: belfry.live, belfry.token.{old}\r\n\r\n").encode()
    with socket.create_connection(server.control_tcp_address(), 10) as over_tcp, socket.socket(socket.AF_UNIX) as local:
        local.settimeout(10)
        local.connect(server.control_path)
        for s in (over_tcp, local):
            s.sendall(request)
            assert s.recv(20).startswith(b"HTTP/1.1 101 ")
        assert server.reload().status == 200
        assert over_tcp.recv(1 << 20) and local.recv(1 << 20)
        assert server.reload(CONFIG + CONTROL.replace("a-long", "another-long")).status == 200
        with pytest.raises(ConnectionError):  # or an end
            while over_tcp.recv(1 << 20):
                pass
            raise ConnectionError
        deadline = time.monotonic() + 3  # views come every second
        while time.monotonic() < deadline:
            assert local.recv(1 << 20)


@pytest.mark.parametrize("path", ["/v1/live", "/v1/reload", "/v1/drain", "/v1/commands", "/v1/rooms/lobby"])
def test_pages_of_other_sites(start, path):
    """A browser that can reach the API sends what a page wants, and says whose page it is: nothing happens. Neither where the
    page's own name was pointed at this address: there is no token then."""
    server = start(CONFIG + CONTROL)
    host = "%s:%d" % server.control_tcp_address()
    live = path == "/v1/live"
    for family, address, named, origin, status in (
        (socket.AF_UNIX, server.control_path, "localhost", "http://evil.example", 403),
        (socket.AF_UNIX, server.control_path, "localhost", "null", 403),
        (socket.AF_UNIX, server.control_path, "localhost", "http://localhost.evil.example", 403),
        (socket.AF_INET, server.control_tcp_address(), host, "http://evil.example", 403),
        (socket.AF_INET, server.control_tcp_address(), "evil.example", "http://evil.example", 401),
        (socket.AF_INET, server.control_tcp_address(), host, f"http://{host}", 401),
    ):
        with socket.socket(family) as s:
            s.settimeout(10)
            s.connect(address)
            head = f"{'GET' if live else 'POST'} {path} HTTP/1.1\r\nHost: {named}\r\nOrigin: {origin}\r\n"
            rest = HANDSHAKE + "\r\n" if live else "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"
            s.sendall((head + rest).encode())
            assert s.recv(100).startswith(b"HTTP/1.1 %d " % status), (named, origin)
    assert server.generation() == 1 and children_of(server.process.pid) == [server.worker_pid()]
    server.open_json("/ws").drop()
