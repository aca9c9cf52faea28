"""Fixtures of the end-to-end tests: daemons that are checked after every test, certificates, a Redis.

Run with BELFRY_BUILD naming the build directory: BELFRY_BUILD=. python3 -m pytest tests/e2e
Tests marked `load` or `survival` are heavy: leave them out with -m "not load and not survival".
"""

import contextlib
import os
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from belfry import Belfry
from redis_server import RedisServer

# The echo server of the client protocol's documentation, with room for the largest messages of the tests.
ECHO_ROUTE = """
[route /echo]
mode = rooms
protocol = raw
join_on_connect = echo:{conn}
echo = yes
max_message = 16m
send_queue = 64m

[room echo:*]
join = anyone
publish = members
"""

PUBLIC_LISTENER = "\n[listener public]\nlisten = 127.0.0.1:0\n\n"


def pytest_configure(config):
    config.addinivalue_line("markers", "load: heavy; many connections or long running")
    config.addinivalue_line("markers", "survival: long, since it waits for what dies to be noticed; several at once")
    build = os.environ.get("BELFRY_BUILD")
    if not build or not (Path(build) / "belfry").exists():
        raise pytest.UsageError("BELFRY_BUILD must name a directory that holds belfry and belfryctl")
    os.environ["BELFRY_BUILD"] = str(Path(build).resolve())


def pytest_make_parametrize_id(val):
    """Short, printable names for tests whose parameters are bytes or long texts."""
    if isinstance(val, (bytes, str)) and (isinstance(val, bytes) or len(val) > 40 or not val.isprintable()):
        shown = ascii(val)
        return shown if len(shown) <= 40 else f"{shown[:36]}...{len(val)}"
    return None


@dataclass
class Certificate:
    chain: Path
    key: Path

    def listener(self, name, *options):
        """A [listener] section with this certificate on a free port."""
        lines = [f"[listener {name}]", "listen = 127.0.0.1:0", "tls = yes"]
        lines += [f"certificate = {self.chain}", f"private_key = {self.key}", *options]
        return "\n".join(lines) + "\n"


def make_certificate(directory, name, *names):
    files = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "30", "-subj", f"/CN={name}", "-addext", "subjectAltName=" + ",".join(names)]
    command += ["-keyout", files.key, "-out", files.chain]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"), "localhost", "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(scope="session")
def trust(certificate):
    """A client's TLS context that believes in `certificate` alone."""
    return ssl.create_default_context(cafile=str(certificate.chain))


class Starter:
    """Starts daemons, each in a directory of its own."""

    def __init__(self, directory, trust):
        self.directory, self.trust, self.started = directory, trust, []

    def __call__(self, config, **options):
        directory = self.directory / f"belfry{len(self.started)}"
        server = Belfry(directory, config, trust=self.trust, **options)
        self.started.append(server)
        return server.start()

    def finish(self):
        with contextlib.ExitStack() as stack:
            for server in self.started:
                stack.callback(server.kill)
            for server in self.started:
                if server.process.returncode is None:  # else the test has ended it, or start() has reported it
                    stack.callback(server.stop)
                    server.check()


@pytest.fixture
def start(tmp_path, trust):
    """start(config): a daemon for one test, checked and stopped behind it."""
    starter = Starter(tmp_path, trust)
    yield starter
    starter.finish()


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory, trust):
    """start_shared(config): a daemon for a module's tests. Its user wraps it and calls check() behind every test."""
    starter = Starter(tmp_path_factory.mktemp("shared"), trust)
    yield starter
    starter.finish()


@pytest.fixture(scope="module")
def echo_server(start_shared, certificate):
    return start_shared(ECHO_ROUTE + PUBLIC_LISTENER + certificate.listener("secure"))


@pytest.fixture
def echo(echo_server):
    """The module's echo server (route /echo, listeners public and secure), checked behind each test."""
    yield echo_server
    echo_server.check()


@pytest.fixture(params=["public", "secure"], ids=["ws", "wss"])
def listener(request):
    return request.param


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()
