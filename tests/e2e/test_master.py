"""The master and its worker process: crashes, ends, who gets which signal, privileges."""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

import ws
from belfry import build_directory, children_of, environment, is_alive, run_daemon, wait_until
from load import Swarm  # noqa: F401  it knows where the next one is
from swarm import HERE, compile_c

CONFIG = """
[route /ws]
[room *]
join = anyone
publish = members
"""
CRASHED = r"worker process \d+ crashed: "


def crash(server, number):
    """The worker process dies by that signal, and another one serves: its pid."""
    old = server.worker_pid()
    os.kill(old, number)
    wait_until(lambda: serves(server) not in (None, old), "it is not back")
    return server.status()["pid"]


def serves(server):
    """The pid of the worker process that answers, or None."""
    try:
        return server.status()["pid"]
    except (OSError, AssertionError, ValueError):
        return None


def expect_crash(server, how=""):
    server.expect_error(CRASHED + how)
    server.expected.append("")  # a sanitizer has its own words about signals that are not its own


def test_two_processes(start, tmp_path):
    pid_file = tmp_path / "pid"
    server = start(f"[belfry]\nworkers = 1\npid_file = {pid_file}\n" + CONFIG)
    status = server.status()
    assert children_of(server.process.pid) == [status["pid"]]
    assert status["master"] == server.process.pid and status["crashes"] == 0 and status["processes"] == 1
    assert pid_file.read_text() == f"{server.process.pid}\n"
    # The master has what it needs to hand on, and nothing of what serves clients.
    server.open_json("/ws")
    master = {os.readlink(f"/proc/{server.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{server.process.pid}/fd")}
    assert not any("eventpoll" in name or "eventfd" in name for name in master), master
    assert len(os.listdir(f"/proc/{server.process.pid}/task")) == 1
    server.stop()
    assert not pid_file.exists() and not is_alive(status["pid"])


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_crashed_worker_is_replaced(start, number):
    server = start(CONFIG)
    client = server.open_json("/ws")
    before = server.status()
    began = time.monotonic()
    expect_crash(server)
    crash(server, number)
    print(f"back after {time.monotonic() - began:.2f} s")
    client.expect_end()
    status = server.status()
    assert (status["crashes"], status["processes"]) == (1, 2)
    assert status["node"] != before["node"]  # ids of connections that are gone must not be taken for others
    assert status["master"] == before["master"] == server.process.pid
    (line,) = server.find_log(CRASHED)
    assert "starting it again in 100 ms (crash 1)" in line
    if not server.sanitized() or number == signal.SIGKILL:  # a sanitizer makes an exit code of the others
        assert f"killed by {number.name}" in line
    assert server.open_json("/ws").welcome
    server.close_clients()
    server.stop()


def test_who_connects_meanwhile_waits(start, certificate):
    """The listening sockets outlive the worker process: a connection is served by the next one."""
    server = start(CONFIG + certificate.listener("secure") + "\n[listener public]\nlisten = 127.0.0.1:0\n")
    addresses = server.addresses
    expect_crash(server)
    old = server.worker_pid()
    server.process.send_signal(signal.SIGSTOP)  # so that nothing is started again yet
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not is_alive(old), "it lives")
    waiting = [server.client() for _ in range(20)] + [server.client("secure", tls=False) for _ in range(20)]
    server.process.send_signal(signal.SIGCONT)
    for client in waiting[:20]:
        client.open("/ws")
    for client in waiting[20:]:
        client.send(b"no TLS\r\n\r\n")
        client.read_to_end()
    assert server.listener_addresses() == addresses
    server.close_clients()
    server.stop()


def test_a_crash_loop_backs_off(start):
    server = start(CONFIG)
    expect_crash(server)
    waits = []
    for _ in range(4):
        crash(server, signal.SIGKILL)
    waits = [int(re.search(r"in (\d+) ms", line)[1]) for line in server.find_log(CRASHED)]
    assert waits == [100, 200, 400, 800]
    assert server.status()["crashes"] == 4
    server.stop()


def test_a_restart_that_fails_is_tried_again(start, tmp_path):
    server = start(CONFIG)
    good = server.config_path.read_text()
    server.config_path.write_text(good + "\n[nonsense]\n")
    expect_crash(server)
    os.kill(server.worker_pid(), signal.SIGKILL)
    server.wait_log(r"crashed: exit code 1; starting it again in 200 ms")
    assert server.find_log(r"belfry.ini:\d+: unknown section")  # in the log, as everything is once the service was up
    server.config_path.write_text(good)
    wait_until(lambda: serves(server), "it is not back")
    server.open_json("/ws")
    server.close_clients()
    server.stop()


def test_term_while_it_waits_for_the_next_start(start, tmp_path):
    pid_file = tmp_path / "pid"
    server = start(f"[belfry]\nworkers = 1\npid_file = {pid_file}\n" + CONFIG)
    server.config_path.write_text("[nonsense]\n")
    os.kill(server.worker_pid(), signal.SIGKILL)
    server.wait_log("starting it again in 400 ms")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) in (0, 1)  # 1 where a start was just failing
    assert not pid_file.exists()


def test_master_killed(start):
    """The worker process notices, and goes as it would by TERM."""
    server = start(CONFIG)
    client = server.open_json("/ws")
    worker = server.worker_pid()
    server.process.kill()
    server.process.wait()
    assert client.receive_json()["type"] == "bye"
    assert client.receive() == ("close", 1012, "restarting")
    client.send(ws.close(1012))
    wait_until(lambda: not is_alive(worker), "the worker process stays")
    assert server.find_log("the master process is gone")
    with pytest.raises(OSError):
        socket.create_connection(server.address(), 1)


def test_a_killed_master_leaves_no_one_listening(start, tmp_path):
    path = tmp_path / "edge"
    config = CONFIG + f"\n[listener public]\nlisten = unix:{path}\n"
    first = start(config)
    first.kill()
    again = start(config)
    assert again.open_json("/ws").welcome


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT], ids=lambda n: n.name)
def test_signals_to_the_whole_group(start, number):
    """A terminal and some service managers send everything to all processes: it must not count twice."""
    server = start(CONFIG, command=["setsid"])
    wait_until(lambda: children_of(server.process.pid), "no worker process")
    client = server.open_json("/ws")
    os.killpg(server.process.pid, number)
    if number == signal.SIGINT:
        assert server.process.wait(10) == 0
        return
    assert client.receive_json()["type"] == "bye"
    assert client.receive() == ("close", 1012, "restarting")
    assert server.process.poll() is None  # it waits for the client's answer
    client.send(ws.close(1012))
    assert server.process.wait(10) == 0
    server.check_log()


def test_signals_ignored_by_whoever_started_it(start):
    """As by nohup, and by shells and supervisors that do not care for children."""
    ignore = "import os, signal, sys; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGCHLD, signal.SIGHUP)];"
    server = start(CONFIG, command=[sys.executable, "-c", ignore + "os.execv(sys.argv[1], sys.argv[1:])"])
    server.process.send_signal(signal.SIGHUP)
    server.wait_log("reloaded")
    expect_crash(server)
    crash(server, signal.SIGKILL)
    server.stop()


def test_first_start_that_fails(tmp_path):
    file = tmp_path / "belfry.ini"
    file.write_text("[belfry]\nworkers = 0\n")
    done = run_daemon("-c", file)
    assert done.returncode == 1
    assert f"{file}:2: workers:" in done.stderr and not re.search(r"^\d{4}-", done.stderr, re.M)
    done = run_daemon("-c", tmp_path / "none.ini")
    assert done.returncode == 1 and "none.ini" in done.stderr
    file.write_text("[belfry]\nworkers = 1\nlog = /nowhere/log\n[listener a]\nlisten = 127.0.0.1:0\n[route /]\n")
    done = run_daemon("-c", file)
    assert done.returncode == 1 and "can't open the log" in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        file.write_text(f"[belfry]\nworkers = 1\n[listener a]\nlisten = 127.0.0.1:{taken.getsockname()[1]}\n[route /]\n")
        done = run_daemon("-c", file)
    assert done.returncode == 1 and "can't start: listen on 127.0.0.1" in done.stderr


@pytest.fixture
def slow_start(tmp_path):
    """A service whose worker process reads its config: (master, worker's pid, a function that lets it go on)."""
    fifo, file = tmp_path / "token", tmp_path / "belfry.ini"
    os.mkfifo(fifo)
    listener = "[belfry]\nworkers = 1\n[listener a]\nlisten = 127.0.0.1:0\n[route /]\n"
    file.write_text(listener + f"[control]\nlisten = 127.0.0.1:0\ntoken = file:{fifo}\n")
    command = [build_directory() / "belfry", "-c", file]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    (worker,) = wait_until(lambda: children_of(process.pid), "no worker process")
    yield process, worker, lambda: fifo.write_text("a-token-that-is-long-enough")
    process.kill()
    process.wait()
    process.stderr.close()


def test_first_start_killed(slow_start):
    """Before it serves anybody there is nothing to be kept up."""
    process, worker, _ = slow_start
    os.kill(worker, signal.SIGKILL)
    assert process.wait(10) == 1
    assert f"worker process {worker} did not end in order: killed by SIGKILL" in process.stderr.read()


def test_signals_before_it_serves_are_heeded_then(slow_start):
    process, worker, go_on = slow_start
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGTERM):
        process.send_signal(number)
    time.sleep(0.1)
    assert process.poll() is None and is_alive(worker)
    go_on()
    assert process.wait(10) == 0, process.stderr.read()


def test_winch_stops_accepting_and_hup_begins_again(start, tmp_path):
    path = tmp_path / "edge"
    server = start(CONFIG + f"\n[listener public]\nlisten = unix:{path}\n[listener tcp]\nlisten = 127.0.0.1:0\n")
    client, other = server.open_json("/ws"), server.open_json("/ws", "tcp")
    server.process.send_signal(signal.SIGWINCH)
    server.wait_log("accepting no more connections")

    def refused(address, family):
        with socket.socket(family) as probe:
            return probe.connect_ex(address) != 0

    wait_until(lambda: refused(str(path), socket.AF_UNIX), "the unix socket is listened on")
    wait_until(lambda: refused(server.address("tcp"), socket.AF_INET), "the port is listened on")
    for each in (client, other):
        each.send_json({"type": "ping", "id": 1})
        assert each.receive_json() == {"type": "pong", "id": 1}
    assert server.status()["listeners"] == []
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(server.status()["listeners"]) == 2, "no listener is back")
    server.addresses = server.listener_addresses()
    server.open_json("/ws")
    server.open_json("/ws", "tcp")


def test_usr1_reopens_the_log_of_both(start, tmp_path):
    log = tmp_path / "its.log"
    server = start(f"[belfry]\nworkers = 1\nlog = {log}\n" + CONFIG)
    log.rename(tmp_path / "old.log")
    server.process.send_signal(signal.SIGUSR1)
    wait_until(log.exists, "no new log")
    os.kill(server.worker_pid(), signal.SIGKILL)
    wait_until(lambda: "crashed: killed by SIGKILL" in log.read_text(), "the master writes elsewhere")
    wait_until(lambda: "belfry" in log.read_text() and serves(server), "it is not back")
    assert "crashed" not in (tmp_path / "old.log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_user(start, tmp_path, certificate):
    """The worker process is nobody's, the master stays root's; crash, reload and upgrade do not change that."""
    tmp_path.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    path, pid_file, log = home / "edge", home / "pid", home / "log"
    for parent in home.parents:  # what pytest made is root's alone
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    config = f"[belfry]\nworkers = 2\nuser = nobody\npid_file = {pid_file}\nlog = {log}\n" + CONFIG
    config += f"\n[listener public]\nlisten = unix:{path}\n[listener low]\nlisten = 127.0.0.1:0\n"
    server = start(config)
    nobody = pwd.getpwnam("nobody")

    def identity():
        lines = open(f"/proc/{server.worker_pid()}/status").read()
        return re.search(r"Uid:\s+(.*)", lines)[1].split(), re.search(r"Gid:\s+(.*)", lines)[1].split()

    assert identity() == ([str(nobody.pw_uid)] * 4, [str(nobody.pw_gid)] * 4)
    assert "CapEff:\t0000000000000000" in open(f"/proc/{server.worker_pid()}/status").read()
    assert os.stat(f"/proc/{server.process.pid}").st_uid == 0
    assert (path.stat().st_uid, pid_file.stat().st_uid, log.stat().st_uid) == (nobody.pw_uid, 0, nobody.pw_uid)
    assert os.stat(server.control_path).st_uid == nobody.pw_uid
    os.kill(server.worker_pid(), signal.SIGKILL)
    wait_until(lambda: serves(server) and server.status()["crashes"] == 1, "it is not back")
    assert identity()[0] == [str(nobody.pw_uid)] * 4
    server.open_json("/ws")
    server.open_json("/ws", "low")
    assert server.control("POST", "/v1/reload").status == 200
    old = server.worker_pid()
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: children_of(server.process.pid) and old not in children_of(server.process.pid), "no upgrade", 20)
    assert identity()[0] == [str(nobody.pw_uid)] * 4
    server.open_json("/ws")
    server.close_clients()
    server.stop()
    assert not pid_file.exists()


def test_user_that_does_not_exist(tmp_path):
    file = tmp_path / "belfry.ini"
    file.write_text("[belfry]\nuser = nosuchuser\n[listener a]\nlisten = 127.0.0.1:0\n[route /]\n")
    done = run_daemon("-t", "-c", file)
    assert done.returncode == 1 and done.stderr == f'{file}:2: user: the user "nosuchuser" is not known\n'


def test_master_does_not_believe_everything(start, tmp_path):
    """Whoever takes over a worker process, which may have given up root's rights, must not get them by way of the master."""
    victim = tmp_path / "victim"
    victim.write_text("important\n")
    include = f"-I{HERE.parent.parent / 'src'}"
    module = compile_c("module/traitor.so", HERE.parent / "module" / "traitor.c", "-shared", "-fPIC", include)
    pid_file = tmp_path / "pid"
    config = f"[belfry]\nworkers = 1\npid_file = {pid_file}\nload_module = {module}\n" + CONFIG
    server = start(config, extra_environment={"TRAITOR_PATH": str(victim)})
    server.expected += ["tells of sockets that can't be its own", "says what is not understood"]
    server.open_json("/ws").drop()  # while it is in, the module has spoken
    server.wait_log("says what is not understood")
    server.check()
    server.expect_error("crashed: killed by SIGKILL")  # the master has something to write
    os.kill(server.worker_pid(), signal.SIGKILL)
    server.wait_log(r"worker process \d+ serves")
    server.check()
    server.stop()
    assert victim.read_text() == "important\n" and not pid_file.exists()


def test_files_bound_the_connections(start):
    """Whatever max_connections says: above what files allow a handshake is answered, with 503, and not left waiting."""
    server = start("[belfry]\nworkers = 1\nmax_connections = 5000\n" + CONFIG, files_limit=100)
    limits = server.status()["limits"]
    most = 100 - limits["files_reserved"]
    assert (limits["files"], limits["max_connections"], limits["bound"]) == (100, most, "files")
    assert server.find_log("max_connections is 5000, but at most 100 files may be open")
    inside = [server.open_json("/ws") for _ in range(most)]
    with pytest.raises(ws.Refused, match="503"):
        server.open("/ws")
    assert server.refused(503) == 1
    inside[0].drop()
    wait_until(lambda: server.connections() == most - 1, "it stays")
    server.open_json("/ws")
