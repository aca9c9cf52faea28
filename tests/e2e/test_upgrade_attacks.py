"""Attacks on the processes' life: a worker process that clients have taken over lies to its master, which is root; its user
plays with files that root opens by name; strangers at the control API."""

import base64
import ctypes
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from belfry import children_of, wait_until
from redis_server import free_port

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
    server.expect_error("2 of the listening sockets that the worker process before has left are not what it said of them")
    with bound(b"\0belfry-lure-%d" % os.getpid()) as lure:
        lie(server, ("listener", "public", f"unix:{victim}", lure), ("control", "", f"unix:{victim}", lure))
    assert untouched(victim)


def kill_worker(server):
    """And waits for the next one."""
    old = server.worker_pid()
    server.expect_error("crashed: killed by SIGKILL")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: serves(server) not in (None, old), lambda: f"it is not back:\n{server.log()[-3000:]}")


def lie(server, *kept):
    """What a worker process that is taken over tells of its sockets: (kind, listener's name, address, socket). Then it dies."""
    channel = channel_of(server)
    say(channel, "keep_none")
    for kind, name, address, lure in kept:
        say(channel, "keep", kind, name, address, fds=[lure.fileno()])
    say(channel, "kept")
    channel.close()
    kill_worker(server)


def bound(address, listens=True, shared=False):
    lure = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
    if shared:
        lure.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    lure.bind(address)
    if listens:
        lure.listen()
    return lure


def of_another_network(address):
    """A listening socket, bound where every port is free: in a network namespace of its maker's own."""
    script = (
        "import ctypes, os, socket, sys\n"
        "if ctypes.CDLL(None).unshare(0x50000000): sys.exit()\n"  # CLONE_NEWUSER | CLONE_NEWNET
        "lure = socket.socket(); lure.bind((sys.argv[2], int(sys.argv[3]))); lure.listen()\n"
        "socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b'x'], [lure.fileno()])\n"
    )
    here, there = socket.socketpair()
    with here, there:
        command = [sys.executable, "-c", script, str(there.fileno()), "0.0.0.0", str(address[1])]
        subprocess.run(command, pass_fds=[there.fileno()], timeout=30, check=True)
        there.close()
        _, fds, _, _ = socket.recv_fds(here, 1, 1)
    if not fds:
        pytest.skip("no network namespace of one's own here")
    return socket.socket(fileno=fds[0])


def sockets_of(pid):
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


def nowhere(server, *lures):
    """Neither master nor worker process has them any more."""
    held = sockets_of(server.process.pid) | sockets_of(server.worker_pid())
    return not held & {f"socket:[{os.fstat(lure.fileno()).st_ino}]" for lure in lures}


@only_root
@pytest.mark.parametrize("kind", ["another port", "does not listen", "datagrams", "another network", "unix"])
def test_socket_of_another_address(start, tmp_path, kind):
    """The next process listens where the configuration says, not on what the one before has left in its place."""
    address = ("127.0.0.1", free_port())
    server = start(f"[belfry]\nworkers = 2\nuser = nobody\n{CONFIG}[listener public]\nlisten = *:{address[1]}\n")
    if kind == "another port":
        lure = bound(("0.0.0.0", 0))
    elif kind == "does not listen":
        lure = bound(("0.0.0.0", 0), listens=False)
    elif kind == "datagrams":
        lure = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        lure.bind(("0.0.0.0", address[1]))
    elif kind == "another network":
        lure = of_another_network(address)
    else:
        lure = bound(str(tmp_path / "lure"))
    with lure:
        server.expect_error(rf"1 of the listening sockets .* \(\*:{address[1]}: it ")
        lie(server, ("listener", "public", f"*:{address[1]}", lure))
        assert server.status()["sockets_refused"] == 1 and len(server.find_log("1 of the listening sockets")) == 1
        server.open_json("/ws").drop()
        assert nowhere(server, lure)
    kill_worker(server)  # and the next one has the true ones again
    assert server.status()["sockets_refused"] == 0
    server.open_json("/ws").drop()


@only_root
def test_control_api_at_another_address(start):
    """Under unix:PATH no token is asked for: what stands there must not be open to the network."""
    server = start("[belfry]\nworkers = 1\nuser = nobody\n" + CONFIG)
    with bound(("127.0.0.1", 0)) as lure:
        server.expect_error("1 of the listening sockets")
        lie(server, ("control", "", f"unix:{server.control_path}", lure))
        assert server.status()["sockets_refused"] == 1 and nowhere(server, lure)


@only_root
def test_unix_socket_of_another_file(start, home):
    """Bound to that path once, but it is not what is there."""
    path = home / "edge"
    server = start(f"[belfry]\nworkers = 2\nuser = nobody\n{CONFIG}[listener public]\nlisten = unix:{path}\n")
    path.rename(home / "true")
    with bound(str(path)) as lure:
        path.unlink()
        (home / "true").rename(path)
        server.expect_error(r"1 of the listening sockets .*edge: the path does not lead to it")
        lie(server, ("listener", "public", f"unix:{path}", lure))
        assert server.status()["sockets_refused"] == 1 and nowhere(server, lure)
        server.open_json("/ws").drop()


@only_root
def test_an_address_that_is_held(start):
    """What is refused would hold the address in the master: it goes there, too, and at the latest the second process has
    it."""
    address = ("127.0.0.1", free_port())
    server = start(f"[belfry]\nworkers = 1\nuser = nobody\n{CONFIG}[listener public]\nlisten = 127.0.0.1:{address[1]}\n")
    lure = bound(address, listens=False, shared=True)
    server.expect_error("1 of the listening sockets .*: it is no listening stream socket")
    server.expected.append("can't start: listen on .*: Address already in use|crashed: ")  # as soon as the master knows
    channel = channel_of(server)
    say(channel, "keep_none")
    say(channel, "keep", "listener", "public", f"127.0.0.1:{address[1]}", fds=[lure.fileno()])
    say(channel, "kept")
    say(channel, "alive")
    wait_until(lambda: f"socket:[{os.fstat(lure.fileno()).st_ino}]" in sockets_of(server.process.pid), "not told")
    channel.close()
    lure.close()
    kill_worker(server)
    server.open_json("/ws").drop()


@only_root
def test_socket_that_is_said_to_be_systemds(start):
    """Those have no address in the list, and are believed: the master takes them from nobody else."""
    server = start("[belfry]\nworkers = 1\nuser = nobody\n" + CONFIG)
    with bound(("127.0.0.1", 0)) as lure:
        server.expect_error("tells of sockets that can't be its own")
        lie(server, ("listener", "public", "", lure), ("control", "", "", lure))
        assert nowhere(server, lure)


@only_root
def test_a_path_that_is_gone(start, home):
    """Nobody could come to the old socket any more, and an upgrade opens a new one."""
    path = home / "edge"
    config = f"[belfry]\nworkers = 1\nuser = nobody\n{CONFIG}[listener public]\nlisten = 127.0.0.1:{free_port()}\n"
    server = start(config + f"[listener local]\nlisten = unix:{path}\n")
    old = server.status()["pid"]
    path.unlink()  # by somebody who tidies
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: serves(server) not in (None, old), "no upgrade", 20)
    assert server.find_log("1 unix sockets have lost their paths") and server.status()["sockets_refused"] == 0
    server.open_json("/ws", "local").drop()  # it is there again


@only_root
def test_an_upgrade_from_a_liar(start):
    """While the true socket is the old process's, there can be no other one: that one goes on, which is said."""
    port = free_port()
    server = start(f"[belfry]\nworkers = 1\nuser = nobody\n{CONFIG}[listener public]\nlisten = 127.0.0.1:{port}\n")
    old = server.worker_pid()
    channel = channel_of(server)
    with bound(("127.0.0.1", 0)) as lure:
        say(channel, "keep_none")
        say(channel, "keep", "listener", "public", f"127.0.0.1:{port}", fds=[lure.fileno()])
        say(channel, "keep", "control", "", f"unix:{server.control_path}", fds=[lure.fileno()])
        say(channel, "kept")
        channel.close()
        server.expect_error("2 of the listening sockets .* restart the service")
        server.expect_error(rf"can't start: listen on 127.0.0.1:{port}: Address already in use")
        server.expect_error("the old one goes on")
        server.process.send_signal(signal.SIGUSR2)
        server.wait_log("the old one goes on")
        assert serves(server) == old
        server.open_json("/ws").drop()


@pytest.mark.parametrize("what", ["pid_file", "control"])
def test_upgrade_that_fails_late(start, tmp_path, what):
    """Sockets were taken over by then: their paths are still the old process's."""
    path = tmp_path / "edge"
    server = start(f"{CONFIG}[listener public]\nlisten = unix:{path}\n")
    old, good = server.status()["pid"], server.config_path.read_text()
    with bound(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if what == "pid_file":
            bad = good.replace("[belfry]\n", f"[belfry]\npid_file = {tmp_path}/nowhere/pid\n")
        else:
            more = f"{server.control_path}, 127.0.0.1:{port}\ntoken = a-long-secret-of-the-control-api"
            bad = good.replace(server.control_path, more)
        server.config_path.write_text(bad)
        server.expect_error("can't start: (pid_file|listen on)")
        server.expect_error("the old one goes on")
        server.process.send_signal(signal.SIGUSR2)
        server.wait_log("the old one goes on")
    assert server.status()["pid"] == old
    server.open_json("/ws").drop()
    server.config_path.write_text(good)
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: serves(server) not in (None, old), "no upgrade", 20)
    server.open_json("/ws").drop()


@only_root
@pytest.mark.parametrize("cores", ["no", "yes"])
def test_memory_is_nobody_elses(start, cores):
    """The keys of certificates are in there. Who wants core files lets other processes of the user read it; see ptrace(2)."""
    if Path("/proc/sys/fs/suid_dumpable").read_text().strip() == "1":
        pytest.skip("fs.suid_dumpable = 1: all that goes over to a user is open here")
    server = start(f"[belfry]\nworkers = 1\nuser = nobody\ncore_files = {cores}\n" + CONFIG)
    nobody = pwd.getpwnam("nobody")
    pid = server.worker_pid()
    assert os.stat(f"/proc/{pid}/mem").st_uid == (nobody.pw_uid if cores == "yes" else 0)
    reader = [sys.executable, "-c", f"open('/proc/{pid}/mem', 'rb').close(); import os; os.listdir('/proc/{pid}/fd')"]
    read = subprocess.run(reader, user="nobody", group=nobody.pw_gid, extra_groups=[], cwd="/", capture_output=True)
    if cores == "no":
        assert b"PermissionError" in read.stderr
    else:
        (soft, hard) = re.search(r"Max core file size +(\w+) +(\w+)", Path(f"/proc/{pid}/limits").read_text()).groups()
        assert soft == hard and (hard != "0" or server.find_log("core_files: there will be none"))
    assert server.metrics()["process_open_fds"] > 3  # it may still look at itself
    server.open_json("/ws").drop()


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
