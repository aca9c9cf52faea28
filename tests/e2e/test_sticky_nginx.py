"""Sticky hashing picks the servers that nginx's `hash KEY consistent` picks: the real nginx beside the real daemon.

Seven weighted servers on TCP and unix sockets, 10,000 random keys; then with one server taken from both lists, and with
it marked down in both.
"""

import json
import random
import socket
import string
import subprocess

import pytest

from belfry import TIMEOUT, wait_until
from nginx import nginx_command
from redis_server import free_port

WEIGHTS = [1, 2, 3, 1, 5, 2, 4]
UNIX = {1, 4}  # these are on unix sockets
GONE = 2  # the server that is removed, or down
KEYS = 10000
BATCH = 100  # requests pipelined at once

HTTP = """
  keepalive_requests 1000000;
  upstream whole {{ hash $http_x_key consistent; {whole} keepalive 8; }}
  upstream fewer {{ hash $http_x_key consistent; {fewer} keepalive 8; }}
  upstream down {{ hash $http_x_key consistent; {down} keepalive 8; }}
  {backends}
  {fronts}
"""
FRONT = """
  server {{
    listen unix:{directory}/{name}.sock;
    location / {{ proxy_pass http://{name}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
"""


class Nginx:
    """The balancers to compare with, and the servers behind them, each of which answers with its name."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        self.servers = [
            f"unix:{directory}/server{i}.sock" if i in UNIX else f"127.0.0.1:{free_port()}" for i in range(len(WEIGHTS))
        ]
        lines = [f"server {server} weight={weight};" for server, weight in zip(self.servers, WEIGHTS)]
        down = list(lines)
        down[GONE] = down[GONE].replace(";", " down;")
        http = HTTP.format(
            whole=" ".join(lines),
            fewer=" ".join(lines[:GONE] + lines[GONE + 1 :]),
            down=" ".join(down),
            backends="\n".join(f'server {{ listen {server}; return 200 "{server}"; }}' for server in self.servers),
            fronts="".join(FRONT.format(directory=directory, name=name) for name in ("whole", "fewer", "down")),
        )
        self.process = subprocess.Popen(nginx_command(directory, http), stderr=subprocess.PIPE, text=True)
        wait_until(self.answers, lambda: f"for nginx: {self.process.stderr.read() if self.process.poll() else ''}")

    def answers(self):
        try:
            self.front("down").close()
            return True
        except OSError:
            return False

    def front(self, name):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(TIMEOUT)
        s.connect(f"{self.directory}/{name}.sock")
        return s

    def stop(self):
        self.process.terminate()
        self.process.communicate(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    server = Nginx(tmp_path_factory.mktemp("sticky") / "nginx")
    yield server
    server.stop()


def read_answer(stream):
    status = stream.readline()
    assert status.startswith(b"HTTP/1.1 200 "), status
    length = None
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return stream.read(length).decode()


def picks(s, keys):
    """The server that each key gets, over one connection."""
    result = []
    with s, s.makefile("rb") as stream:
        for begin in range(0, len(keys), BATCH):
            batch = keys[begin : begin + BATCH]
            s.sendall("".join(f"GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n" for key in batch).encode())
            result += [read_answer(stream) for _ in batch]
    return result


def belfry_config(servers):
    lines = "\n".join(f"server = {server}" for server in servers)
    return f"""
[listener public]
listen = 127.0.0.1:0

[upstream ring]
{lines}
sticky = header:X-Key

[route /]
mode = proxy
upstream = ring
"""


def belfry_picks(server, keys):
    return picks(socket.create_connection(server.address("public"), timeout=TIMEOUT), keys)


@pytest.fixture(scope="module")
def keys():
    rng = random.Random(1)
    alphabet = string.ascii_letters + string.digits + "-_.:/=+@ "
    made = ["".join(rng.choices(alphabet, k=rng.randint(1, 40))).strip() or "k" for _ in range(KEYS)]
    return made


def test_the_same_server_as_nginx(nginx, keys, start):
    servers = [f"{server} weight={weight}" for server, weight in zip(nginx.servers, WEIGHTS)]
    whole = belfry_picks(start(belfry_config(servers)), keys)
    assert whole == picks(nginx.front("whole"), keys)
    assert set(whole) == set(nginx.servers)

    fewer = belfry_picks(start(belfry_config(servers[:GONE] + servers[GONE + 1 :])), keys)
    assert fewer == picks(nginx.front("fewer"), keys)
    gone = nginx.servers[GONE]
    assert all(after != gone if before == gone else after == before for before, after in zip(whole, fewer))


def test_the_same_server_while_one_is_down(nginx, keys, start):
    servers = [f"{server} weight={weight}" for server, weight in zip(nginx.servers, WEIGHTS)]
    servers[GONE] += " down"
    server = start(belfry_config(servers))
    down = belfry_picks(server, keys)
    assert down == picks(nginx.front("down"), keys)
    assert nginx.servers[GONE] not in down

    shown = server.get("/v1/upstreams?key=some-key")["upstreams"][0]
    assert shown["key_server"] == picks(nginx.front("down"), ["some-key"])[0]
    assert [one["state"] for one in shown["servers"]].count("draining") == 1
    assert sum(one["requests"] for one in shown["servers"]) == KEYS


def test_belfryctl_shows_the_server_of_a_key(nginx, start):
    server = start(belfry_config([f"{server} weight={weight}" for server, weight in zip(nginx.servers, WEIGHTS)]))
    key = "a b&c=d"
    shown = server.ctl("--json", "upstreams", "--key", key)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["upstreams"][0]["key_server"] == picks(nginx.front("whole"), [key])[0]
