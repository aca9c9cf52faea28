"""The browser client: how Belfry serves it, its size, its types, and its own tests under node. In a browser:
test_client_browser.py."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from backend import Backend, serve
from belfry import http_request, run_daemon
from http1 import response

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "src/web"
SOURCE = (WEB / "belfry.js").read_bytes()
SIZE_MAX = 6144  # bytes, minified
NODE = {**os.environ, "NODE_PATH": "/usr/share/nodejs"}

ROUTES = """
[route /ws]
mode = rooms
client_js = yes
{more}

[route /]
mode = rooms
client_js = yes
upstream = app

[route /without]
mode = rooms

[upstream app]
server = 127.0.0.1:{port}
"""


def needs(program):
    """Missing is a failure where all must be there."""
    return pytest.mark.skipif(not shutil.which(program) and not os.environ.get("CI"), reason=f"{program} is not installed")


@pytest.fixture(scope="module")
def backend():
    with Backend(serve(lambda request: response(request.target.encode()))) as running:
        yield running


@pytest.fixture
def server(start, backend):
    return start(ROUTES.format(more="", port=backend.port))


def fetch(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(*server.address(), timeout=10)
    return http_request(connection, method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("path", ["/ws/belfry.js", "/belfry.js", "/ws/belfry.js?v=1", "/%77s/belfry.js"])
def test_is_served(server, path):
    reply = fetch(server, path)
    assert (reply.status, reply.body) == (200, SOURCE)
    assert reply.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert reply.headers["Cache-Control"] == "public, max-age=3600"
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    tag = reply.headers["ETag"]
    again = fetch(server, path, If_None_Match=tag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    head = fetch(server, path, "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(SOURCE)))
    assert fetch(server, path, "POST").status == 405
    assert server.status()["client_js"] == 3


def test_one_connection_takes_many(server):
    connection = http.client.HTTPConnection(*server.address(), timeout=10)
    for _ in range(20):
        connection.request("GET", "/ws/belfry.js")
        assert connection.getresponse().read() == SOURCE
    connection.close()
    # Many at once: what is queued is bounded, and each answer that comes is whole.
    with socket.create_connection(server.address(), timeout=10) as raw:
        raw.sendall(b"GET /ws/belfry.js HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
        received = b""
        while data := raw.recv(65536):
            received += data
    answers = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert answers and all(answer.endswith(SOURCE) for answer in answers)
    assert b"Connection: close\r\n" in answers[-1]


def test_is_for_everybody(start, backend):
    """No token, and from pages of any origin; a visitor's cookie for the backend is not made here."""
    more = "origin = https://app.example\nauth = jwt\nauth_http = yes\njwt_key = a secret of thirty-two bytes or more!\n"
    server = start(ROUTES.format(more=more, port=backend.port) + "sticky = cookie:server issue\n")
    reply = fetch(server, "/ws/belfry.js", Origin="https://elsewhere.example")
    assert (reply.status, reply.body) == (200, SOURCE)
    assert reply.headers.get_all("Access-Control-Allow-Origin") == ["*"]
    assert "Set-Cookie" not in fetch(server, "/belfry.js").headers
    assert fetch(server, "/ws", Origin="https://elsewhere.example", Connection="Upgrade", Upgrade="websocket").status >= 400


def test_limits_hold(start, backend):
    server = start(ROUTES.format(more="request_rate = 2/m burst=2", port=backend.port))
    assert [fetch(server, "/ws/belfry.js").status for _ in range(3)] == [200, 200, 429]
    assert server.refused(429) == 1


def test_other_paths_are_what_they_were(server, backend):
    assert fetch(server, "/without/belfry.js").status == 426
    assert fetch(server, "/ws/other.js").status == 426
    for path in ("/other.js", "/x/belfry.js", "/belfry.js/"):
        assert fetch(server, path).body == path.encode()  # the backend's


def test_proxy_routes_have_none(tmp_path):
    config = tmp_path / "belfry.ini"
    config.write_text(
        "[listener public]\nlisten = 127.0.0.1:0\n[upstream app]\nserver = 127.0.0.1:1\n"
        "[route /]\nmode = proxy\nupstream = app\nclient_js = yes\n"
    )
    tested = run_daemon("-t", "-c", config)
    assert tested.returncode == 1
    assert "client_js: needs mode = rooms" in tested.stdout + tested.stderr


# ---- the file


@needs("terser")
def test_size(tmp_path):
    command = ["terser", "--module", "--compress", "--mangle", "--", WEB / "belfry.js"]
    minified = subprocess.run(command, env=NODE, capture_output=True, check=True).stdout
    assert b"export" in minified
    assert len(minified) <= SIZE_MAX, f"{len(minified)} bytes minified"
    # The minified one is the same client.
    copy = tmp_path / "src/web"
    copy.mkdir(parents=True)
    (copy / "belfry.js").write_bytes(minified)
    shutil.copy(WEB / "package.json", copy)
    shutil.copytree(ROOT / "tests/web", tmp_path / "tests/web")
    run_node_tests(tmp_path / "tests/web")


@needs("node")
def test_under_node():
    run_node_tests(ROOT / "tests/web")


def run_node_tests(directory):
    files = sorted(directory.glob("*.test.mjs"))
    assert len(files) == 3
    tested = subprocess.run(["node", "--test", *files], capture_output=True, text=True, timeout=120)
    assert tested.returncode == 0, tested.stdout[-8000:] + tested.stderr
    assert int(re.search(r"^# pass (\d+)", tested.stdout, re.M)[1]) >= 50


USE = """
import {Belfry, BelfryError, Close, Position, Room} from "belfry-client";
const belfry = new Belfry("/ws", {
    token: async () => "t", transports: ["sse"], timeout: 5, withCredentials: true,
    onOpen: (welcome) => welcome.rooms["x"].epoch, onMessage: (message) => message.data.text,
});
const since: Position | undefined = belfry.join("a").position;
const room: Room = belfry.join("a", {since, onMember: (event) => event.member.conn, onGap() {}});
const off: () => void = belfry.on("close", (close: Close) => close.after_ms + 1);
room.publish({a: 1}, {echo: false}).then((at) => at.offset, (error: BelfryError) => error.code);
belfry.call<number>("add", 1, {timeout: 5}).then((sum) => sum + 1);
room.members().then((members) => members[0].user);
off();
"""


WRONG = [
    "belfry.join(5);",
    'belfry.on("nothing", () => {});',
    'new Belfry("/ws", {transports: ["carrier pigeon"]});',
    'belfry.join("a", {since: {offset: 1}});',
    "belfry.state = 5;",
]


@needs("tsc")
def test_types(tmp_path):
    shutil.copytree(WEB, tmp_path / "node_modules/belfry-client")
    (tmp_path / "use.ts").write_text(USE + "\n".join(WRONG) + "\n")
    command = ["tsc", "--strict", "--noEmit", "--target", "es2020", "--module", "es2020", "--moduleResolution", "node", "use.ts"]
    compiled = subprocess.run(command, cwd=tmp_path, env=NODE, capture_output=True, text=True)
    complaints = {int(line) for line in re.findall(r"^use\.ts\((\d+),", compiled.stdout, re.M)}
    first = len(USE.splitlines()) + 1
    assert complaints == set(range(first, first + len(WRONG))), compiled.stdout


def test_package():
    package = json.loads((WEB / "package.json").read_text())
    version = re.search(r"^AC_INIT\(\[belfry\], \[(.*?)\]", (ROOT / "configure.ac").read_text(), re.M)[1]
    assert package["version"] == version
    named = {package["main"], package["module"], package["types"], *package["files"]}
    assert all((WEB / name).is_file() for name in named)


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_pack(tmp_path):
    packed = subprocess.run(["npm", "pack", "--offline", "--json", WEB], cwd=tmp_path, capture_output=True, text=True, check=True)
    files = {entry["path"] for entry in json.loads(packed.stdout)[0]["files"]}
    assert files == {"README.md", "belfry.d.ts", "belfry.js", "package.json"}
