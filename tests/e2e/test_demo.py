"""The demo of ./dev run: starts, logs in, lets every way to publish reach its clients, and leaves nothing behind."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from belfry import build_directory, environment

DEMO = Path(__file__).resolve().parents[2] / "demo/demo.py"
SECONDS = 90

needs_redis = pytest.mark.skipif(
    not shutil.which("redis-server") and not os.environ.get("CI"), reason="redis-server is not installed"
)


@pytest.fixture
def temporary():
    """A directory for the demo's own one. Not pytest's: a unix socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="belfry-") as directory:
        yield Path(directory)


def start_demo(temporary, *arguments):
    command = [sys.executable, DEMO, "--belfry", build_directory() / "belfry", *arguments]
    return subprocess.Popen(
        command,
        env=environment({"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(demo, temporary):
    """What it printed, after an end without a trace: exit code 0, no error in the log, no child, no file."""
    try:
        output, _ = demo.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        demo.kill()
        raise
    assert demo.returncode == 0, output
    assert not re.search(r"^\S+Z error |Sanitizer|Traceback", output, re.M), output
    assert list(temporary.iterdir()) == []
    assert children(temporary) == []
    return output


def children(temporary):
    """Processes whose command line or environment names the demo's directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(temporary) in (process / "cmdline").read_text() + (process / "environ").read_text():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return found


@pytest.mark.parametrize("arguments", [(), pytest.param(("--redis",), marks=needs_redis)], ids=["memory", "redis"])
def test_check(temporary, arguments):
    output = finish(start_demo(temporary, "--check", *arguments), temporary)
    assert "checked: login, connect hook, rooms, calls, and every way to publish" in output
    assert "not installed" not in output or not os.environ.get("CI"), output
    (port,) = re.findall(r"https://127\.0\.0\.1:(\d+)/", output)
    assert re.findall(r"wss://127\.0\.0\.1:(\d+)/ws", output) == [port]
    assert re.search(r"belfryctl -s \S+ publish chat:lobby '\{\"text\":\"hi\"\}'", output)
    assert re.search(r"curl --unix-socket \S+ -d '\{\"text\":\"hi\"\}' http://localhost/v1/rooms/chat:lobby", output)
    assert ("redis-cli -p" in output) == bool(arguments)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_signal_ends_all_of_it(temporary, number):
    demo = start_demo(temporary)
    printed = []
    for line in demo.stdout:
        printed.append(line)
        if "Ctrl-C" in line:
            break
    assert "Ctrl-C" in printed[-1], "".join(printed)
    assert children(temporary)
    os.kill(demo.pid, number)
    finish(demo, temporary)


def test_takes_a_free_port_where_its_own_is_in_use(temporary):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        output = finish(start_demo(temporary, "--check", "--port", str(port)), temporary)
    assert f"port {port} is in use" in output
    assert f"//127.0.0.1:{port}/" not in output


def test_takes_the_port_that_it_is_given(temporary):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert f"https://127.0.0.1:{port}/" in finish(start_demo(temporary, "--check", "--port", str(port)), temporary)


def test_says_why_belfry_does_not_start(temporary):
    command = [sys.executable, DEMO, "--belfry", "/bin/false"]
    demo = subprocess.run(command, env=environment({"TMPDIR": str(temporary)}), capture_output=True, text=True, timeout=SECONDS)
    assert demo.returncode == 1
    assert "demo: belfry ended with exit code 1" in demo.stderr
    assert list(temporary.iterdir()) == []
