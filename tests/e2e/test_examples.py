"""Each application of examples/ for real, behind Belfry with examples/belfry.ini: login, WebSocket, rooms, calls, publishes."""

import base64
import hmac
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path

import pytest

from belfry import wait_until
from ws import Refused

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LINES_MAX = 60
PYTHON = "/usr/bin/python3"  # the distribution's, whose packages these are


# Node of the distribution looks there by itself, another does not.
NODE = {**os.environ, "NODE_PATH": "/usr/share/nodejs"}
COMMANDS = {
    "flask/app.py": ([PYTHON, "-m", "flask", "--app", "app", "run", "-p", "{port}"], [PYTHON, "-c", "import flask"]),
    "django/app.py": ([PYTHON, "app.py", "runserver", "--noreload", "{port}"], [PYTHON, "-c", "import django"]),
    "express/app.js": (["node", "app.js"], ["node", "-e", "require('express')"]),
    "php/app.php": (["php", "-S", "127.0.0.1:{port}", "app.php"], ["php", "-v"]),
}


def works(command):
    """True where it is installed."""
    if not shutil.which(command[0]):
        return False
    return subprocess.run(command, env=NODE, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def stop(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(params=COMMANDS, ids=lambda name: name.partition("/")[0])
def application(request, tmp_path):
    """The port of a running one."""
    command, probe = COMMANDS[request.param]
    if not works(probe) and not os.environ.get("CI"):  # missing is a failure where all must be there
        pytest.skip(f"not installed: {' '.join(probe)}")
    port = free_port()
    environment = {**NODE, "HOOK_SECRET": SECRET, "PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
    with open(tmp_path / "application.log", "wb") as log:
        process = subprocess.Popen(
            [word.format(port=port) for word in command],
            cwd=(EXAMPLES / request.param).parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: accepts(port) or process.poll() is not None,
            lambda: f"{request.param} does not listen: {(tmp_path / 'application.log').read_text()}",
            30,
        )
        assert process.poll() is None, (tmp_path / "application.log").read_text()
        yield port
    finally:
        stop(process)


@pytest.fixture
def server(start, application):
    config = (EXAMPLES / "belfry.ini").read_text()
    for written, port in (("127.0.0.1:8080", 0), ("127.0.0.1:8000", application)):
        assert config.count(f"= {written}\n") == 1
        config = config.replace(f"= {written}\n", f"= 127.0.0.1:{port}\n")
    return start(config, extra_environment={"HOOK_SECRET": SECRET})


def request(server, method, path, form=None, cookie=""):
    """(status, fields, body) of a request through Belfry."""
    connection = http.client.HTTPConnection(*server.address(), timeout=30)
    fields = {"Cookie": cookie}
    if form is not None:
        fields["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, path, urllib.parse.urlencode(form) if form is not None else None, fields)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def log_in(server, name):
    """The login's cookie."""
    status, fields, _ = request(server, "POST", "/login", {"name": name})
    assert status in (302, 303) and urllib.parse.urlsplit(fields["Location"]).path == "/", (status, fields)
    cookie = fields["Set-Cookie"].partition(";")[0]
    status, _, page = request(server, "GET", "/", cookie=cookie)
    assert status == 200 and b"new WebSocket(" in page
    return cookie


def connect(server, cookie):
    host, port = server.address()
    add = [("Cookie", cookie), ("Origin", f"http://{host}:{port}")]
    return server.open_json("/ws", host=f"{host}:{port}", protocols=["belfry.v1.json"], add=add)


def answer(client, request):
    client.send_json({**request, "id": 7})
    received = client.receive_json()
    assert received["id"] == 7, received
    return received


@pytest.mark.parametrize("name", COMMANDS)
def test_is_short(name):
    assert len((EXAMPLES / name).read_text().splitlines()) <= LINES_MAX


def test_chat(server):
    assert b"<form" in request(server, "GET", "/login")[2]
    assert request(server, "GET", "/")[0] in (302, 303)
    ada, bob = (connect(server, log_in(server, name)) for name in ("Ada", "Bob"))
    assert ada.welcome["user"] == "Ada" and list(ada.welcome["rooms"]) == ["chat:lobby"]

    # The join hook: yes to one room, no to another.
    for client in (ada, bob):
        assert answer(client, {"type": "join", "room": "chat:tower"})["type"] == "ok"
    refused = answer(bob, {"type": "join", "room": "chat:staff"})
    assert (refused["type"], refused["code"], refused["message"]) == ("error", 403, "staff only")
    assert server.members("chat:staff") == 0
    admin = connect(server, log_in(server, "admin"))
    assert answer(admin, {"type": "join", "room": "chat:staff"})["type"] == "ok"

    assert answer(ada, {"type": "call", "method": "whoami", "data": None})["data"] == {"user": "Ada"}
    assert answer(ada, {"type": "call", "method": "nothing", "data": None})["code"] == 404

    ada.send_json({"type": "publish", "room": "chat:tower", "data": {"text": "hello"}})
    for client in (ada, bob):
        message = client.receive_json()
        assert (message["room"], message["data"], message["from"]["user"]) == ("chat:tower", {"text": "hello"}, "Ada")


def test_publish_by_answer(server):
    cookie = log_in(server, "Ada")
    clients = [connect(server, cookie), connect(server, log_in(server, "Bob"))]
    status, fields, body = request(server, "POST", "/say", {"text": "by the server"}, cookie)
    assert status == 200 and b"by the server" in body and "Belfry-Publish" not in fields, (status, fields, body)
    for client in clients:
        message = client.receive_json()
        assert (message["room"], message["data"]) == ("chat:lobby", {"text": "by the server"})
        assert "from" not in message
    assert request(server, "POST", "/say", {"text": "by a stranger"})[0] == 401
    clients[0].expect_silence()


@pytest.mark.parametrize("cookie", ["", "user=Ada.Zm9yZ2Vk", "session=eyJ1c2VyIjoiQWRhIn0.Zm9y.Z2Vk", "user=Ada:forged:cookie"])
def test_a_stranger_gets_no_websocket(server, cookie):
    with pytest.raises(Refused) as refused:
        connect(server, cookie)
    assert refused.value.answer.status == 401


HOOK = '{"event":"call","method":"whoami","user":"root"}'


def signed(stamp):
    """The fields of a hook call that Belfry could have made at that time."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = hmac.digest(key, f"msg_1.{stamp}.{HOOK}".encode(), "sha256")
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


def post_hook(address, fields):
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request("POST", "/belfry", HOOK, {"Content-Type": "application/json", **fields})
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_hook_call_is_belfrys_alone(server, application):
    assert post_hook(server.address(), {}) == 404  # not through the proxy
    forged = {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
    assert post_hook(("127.0.0.1", application), forged) == 403
    assert post_hook(("127.0.0.1", application), {}) == 403


def test_an_old_hook_call_is_refused(application):
    assert post_hook(("127.0.0.1", application), signed(str(int(time.time())))) == 200
    assert post_hook(("127.0.0.1", application), signed(str(int(time.time()) - 600))) == 403
