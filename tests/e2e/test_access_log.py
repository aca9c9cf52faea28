"""The access log: a line for each connection's end, each request, each refusal; nothing secret in it, nothing forged."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest

import ws
from backend import Backend, proxy_config, serve
from belfry import wait_until
from conftest import PUBLIC_LISTENER
from hook_backend import HookBackend, hook_config
from http1 import connect, request, response
from sse import Poller, Reader
from tokens import Key

ROOMS = """
[route /ws]
mode = rooms
origin = https://app.example, none
join_on_connect = lobby
ping_interval = 0

[room lobby]
join = anyone
publish = members

[room chat:*]
join = anyone
publish = members
"""


def with_log(config, directory, form="json", more=""):
    """The config with an access log in `directory`: (its path, the config)."""
    path = directory / "access"
    head = f"[belfry]\nworkers = 2\naccess_log = {path}\nlog_format = {form}\n{more}\n"
    return path, head + config


class AccessLog:
    def __init__(self, start, directory, config, form="json", more="", **options):
        self.path, config = with_log(config, directory, form, more)
        self.server = start(config, **options)

    def text(self):
        return self.path.read_text() if self.path.exists() else ""

    def lines(self, **expected):
        """Objects of all whole lines whose members are these."""
        found = [json.loads(line) for line in self.text().splitlines()]
        return [line for line in found if all(line.get(k) == v for k, v in expected.items())]

    def wait(self, count=1, **expected):
        wait_until(lambda: len(self.lines(**expected)) >= count, lambda: f"{expected} in:\n{self.text()}")
        found = self.lines(**expected)
        assert len(found) == count, found
        return found[0] if count == 1 else found


@pytest.fixture
def log(start, tmp_path):
    """log(config, ...): an AccessLog. The daemon's own log is JSON too where this one is: read it as such."""

    def begin(config, directory=tmp_path, **options):
        return AccessLog(start, directory, config, **options)

    return begin


@pytest.fixture(autouse=True)
def json_lines(monkeypatch):
    """log_format = json: the harness's LOG_LINE knows the text form."""
    import belfry

    plain = belfry.Belfry.log_lines

    def read(self):
        found = []
        for level, line in plain(self):
            try:
                parsed = json.loads(line) if level is None else None
            except ValueError:
                parsed = None
            found.append((parsed["level"], parsed["message"]) if parsed and "level" in parsed else (level, line))
        return found

    monkeypatch.setattr(belfry.Belfry, "log_lines", read)


# A connection's end.


def test_a_websocket_connection(log):
    access = log(ROOMS)
    client = access.server.open_json("/ws?room=x", add=[("X-Request-Id", "req-1")])
    for n in range(3):
        client.send_json({"type": "publish", "id": n, "room": "lobby", "data": "x" * 1000})
    seen = [client.receive_json()["type"] for _ in range(6)]
    assert seen.count("ok") == 3 and seen.count("message") == 3
    client.send(ws.ping(b"not a message"))
    assert client.receive()[0] == "pong"
    client.send(ws.close(4001, b"had enough"))
    assert client.receive()[0] == "close"
    client.expect_end()
    line = access.wait(event="connection")
    assert line["conn"] == client.welcome["conn"] and line["peer"] == "127.0.0.1"
    assert (line["listener"], line["route"], line["transport"]) == ("public", "/ws", "ws")
    assert line["protocol"] == "belfry.v1.json" and line["request_id"] == "req-1"
    assert (line["code"], line["closed_by"], line["reason"]) == (4001, "client", "had enough")
    assert (line["messages_in"], line["messages_out"]) == (3, 7)  # the welcome, too
    assert 3000 < line["bytes_in"] < 5000 and 3000 < line["bytes_out"] < 5000
    assert 0 <= line["seconds"] < 60 and "user" not in line and "upstream" not in line


def test_wss_and_a_request_id_of_our_own(log, certificate, trust):
    access = log(ROOMS + PUBLIC_LISTENER + certificate.listener("secure"))
    access.server.open_json("/ws", "secure").finish()
    line = access.wait(event="connection")
    assert (line["transport"], line["listener"], line["code"]) == ("wss", "secure", 1000)
    assert re.fullmatch("[0-9a-f]{32}", line["request_id"])


def test_who_closed(log):
    access = log(ROOMS.replace("ping_interval = 0", "ping_interval = 200ms\npong_timeout = 300ms\nmessage_rate = 1/s burst=2"))
    server = access.server

    server.open_json("/ws").drop()
    line = access.wait(event="connection", closed_by="client")
    assert (line["code"], line["reason"]) == (1006, "the client ended the connection")

    client = server.open_json("/ws")
    server.command({"op": "disconnect", "conn": client.welcome["conn"], "code": 4403, "reason": "ban\nned"})
    assert client.receive_json()["type"] == "bye"
    client.drop()
    line = access.wait(event="connection", closed_by="backend")
    assert (line["code"], line["reason"]) == (4403, "ban\nned")

    client = server.open_json("/ws")
    for n in range(5):
        client.send_json({"type": "ping", "id": n})
    line = access.wait(event="connection", code=4408)
    assert line["closed_by"] == "server" and line["reason"]

    client = server.open("/ws")
    client.send(b"\xff\xff")
    line = access.wait(event="connection", code=1002)
    assert line["closed_by"] == "server" and line["reason"]

    client = server.open_json("/ws")
    client.abort()
    line = access.wait(event="connection", closed_by="network")
    assert "reset" in line["reason"], line

    silent = server.open_json("/ws")
    line = access.wait(event="connection", code=1011)
    assert (line["closed_by"], line["reason"]) == ("network", "no pong")
    silent.drop()


def test_a_user_and_the_server_that_was_asked(log):
    with HookBackend(connect={"user": 'Ann"B"56'}, call={"disconnect": {"code": 4403, "reason": "banned"}}) as backend:
        access = log(hook_config(backend, route="connect_hook = always\n"))
        client = access.server.open_json("/ws", add=[("X-Request-Id", "abc/7")])
        client.send_json({"type": "call", "id": 1, "method": "x", "data": 1})
        line = access.wait(event="connection", closed_by="backend")
        assert line["user"] == 'Ann"B"56' and line["upstream"] == f"127.0.0.1:{backend.port}"
        assert line["request_id"] == "abc/7" and backend.of("connect")[0].headers["x-request-id"] == "abc/7"
        assert (line["code"], line["reason"]) == (4403, "banned")


def test_server_sent_events_and_polls(log):
    access = log(ROOMS)
    reader = Reader(access.server.address(), "/ws")
    reader.welcome()
    access.server.publish("lobby", json.dumps("hello"))
    reader.json(type="message")
    reader.drop()
    line = access.wait(event="connection", transport="sse")
    assert (line["messages_in"], line["messages_out"], line["closed_by"]) == (0, 2, "client")

    poller = Poller(access.server.address(), "/ws")
    poller.welcome()
    conn = poller.welcomed["conn"]
    assert poller.send({"type": "publish", "id": 1, "room": "lobby", "data": 1})[0] == 200
    poller.receive(type="message")
    access.server.command({"op": "disconnect", "conn": conn, "code": 4000})
    while poller.poll().status == 200:
        pass
    poller.drop()
    line = access.wait(event="connection", transport="poll")
    assert line["conn"] == conn and line["code"] == 4000 and line["closed_by"] == "backend"
    assert (line["messages_in"], line["messages_out"]) == (1, 3)  # welcome, message, bye
    posts = access.wait(event="request", method="POST")
    assert (posts["status"], posts["path"]) == (200, "/ws")
    polls = access.lines(event="request", method="GET", path="/ws")
    assert [p["status"] for p in polls][-1] == 404 and all("cursor" not in json.dumps(p) for p in polls)


def test_a_tunnel(log):
    def script(stream):
        asked = stream.read_head()
        accept = ws.accept_value(asked.get("Sec-WebSocket-Key"))
        stream.send(
            b"HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        stream.send(ws.frame(1, b"x" * 5000, key=None))
        stream.read(1000)
        stream.send(ws.frame(8, b"\x03\xe8", key=None))

    with Backend(script) as backend:
        access = log(proxy_config(backend))
        client = access.server.open("/tunnel?token=t0psecret")
        assert client.receive() == ("text", "x" * 5000)
        client.send(ws.text("y" * 994, key=b"\0\0\0\0"))
        client.read_to_end()
        line = access.wait(event="connection", transport="tunnel")
        assert line["closed_by"] == "backend" and line["upstream"] == backend.address
        assert line["bytes_out"] >= 5000 and line["bytes_in"] >= 1000 and "messages_in" not in line
        assert "t0psecret" not in access.text()


# Requests.


def test_a_line_for_each_request(log):
    with Backend(serve(lambda asked: response(b"x" * 1234, 201))) as backend:
        access = log(proxy_config(backend))
        with connect(access.server.address()) as client:
            client.ask("GET", "/a/b?token=t0psecret", fields=[("X-Request-Id", "r-1")])
            client.ask("POST", "/c", b"body", fields=[("X-Request-Id", "r-2")])
        first, second = access.wait(2, event="request")
        assert (first["method"], first["path"], first["status"], first["request_id"]) == ("GET", "/a/b", 201, "r-1")
        assert (second["method"], second["path"], second["request_id"]) == ("POST", "/c", "r-2")
        assert first["upstream"] == backend.address and 1234 < first["bytes"] < 2000 and first["ms"] >= 0
        assert "t0psecret" not in access.text()
        assert not access.lines(event="connection")


def test_requests_that_went_wrong(log):
    def script(stream):
        while (asked := stream.read_head()) is not None:
            if asked.target == "/half":
                stream.send(b"HTTP/1.1 200 Fine\r\nContent-Length: 1000\r\n\r\nhalf")
                return
            if asked.target == "/never":
                stream.read(1)
            return

    with Backend(script) as backend:
        access = log(proxy_config(backend))
        address = access.server.address()
        with connect(address) as client:
            client.send(request("GET", "/half"))
            client.read_head()
            line = access.wait(event="request", path="/half")
            assert line["status"] == 200 and "broke off" in line["reason"]
        with connect(address) as client:
            assert client.ask("GET", "/none").status == 502
            line = access.wait(event="refused", path="/none")
            assert (line["status"], line["reason"], line["method"]) == (502, "backend", "GET")
        client = connect(address)
        client.send(request("GET", "/never"))
        wait_until(lambda: access.server.status()["proxy"]["requests"] >= 3, "the request")
        client.reset()
        assert access.wait(event="request", path="/never")["status"] == 499


# Refusals.


def test_refusals(log, certificate):
    access = log(ROOMS + PUBLIC_LISTENER + certificate.listener("secure"))
    server = access.server
    with connect(server.address()) as client:
        assert client.ask("GET", "/nothing/here?token=t0psecret").status == 404
    line = access.wait(event="refused", status=404)
    assert (line["reason"], line["path"], line["method"]) == ("not_found", "/nothing/here", "GET")
    client = server.client()
    client.send(ws.request_head("/ws", add=[("Origin", "https://evil.example")]))
    assert client.read_answer().status == 403
    line = access.wait(event="refused", status=403)
    assert (line["reason"], line["path"], line["route"]) == ("origin", "/ws", "/ws")
    client = server.client()
    client.send(b"GET /x\x01 HTTP/1.1\r\n\r\n")
    assert client.read_answer().status == 400
    line = access.wait(event="refused", status=400)
    assert line["reason"] == "bad_request" and "path" not in line
    client = server.client("secure", tls=False)
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    line = access.wait(event="refused", reason="tls_failed")
    assert line["status"] == 0 and line["listener"] == "secure"


# Secrets and forgeries.

SECRET = "t0p-secret-0123456789"


def test_no_door_leaves_a_token_in_a_log(log, tmp_path):
    key = Key("HS256", tmp_path)
    route = """
[route /ws]
auth = jwt
jwt_key = file:{}
token = header, cookie:session, query:token, subprotocol
origin = any
poll_wait = 200ms
poll_timeout = 500ms

[room *]
join = user
publish = user
"""
    access = log(route.format(key.public), more="log_level = debug\n")
    server = access.server
    good = key.token(sub="56")
    bad = f"{SECRET}.{SECRET}.{SECRET}"
    for token in (good, bad):
        fields = {
            "header": [("Authorization", f"Bearer {token}")],
            "cookie": [("Cookie", f"session={token}")],
            "subprotocol": [("Sec-WebSocket-Protocol", f"belfry.v1.json, belfry.token.{token}")],
        }
        for add in fields.values():
            client = server.client()
            client.send(ws.request_head("/ws", add=add))
            client.read_answer()
            client.drop()
        for target in (f"/ws?token={token}", f"/ws?transport=poll&token={token}", f"/ws?transport=poll&cursor={token}"):
            client = server.client()
            client.send(ws.request_head(target) if "poll" not in target else request("GET", target))
            client.read_answer()
            client.drop()
        reader = Reader(server.address(), f"/ws?token={token}", last_id=token)
        reader.drop()
        with connect(server.address()) as client:
            client.ask("POST", "/ws", b"{}", [("Belfry-Connection", f"c_1.{token}")])
        with connect(server.address()) as client:
            client.ask("GET", f"/nothing?{token}")
        with connect(server.address()) as client:
            client.ask("GET", f"http://user:{token}@app.example/ws?{token}")
    client = server.open_json("/ws", add=[("Authorization", f"Bearer {good}")])
    for token in (bad, good):
        client.send_json({"type": "auth", "id": 1, "token": token})
    client.send_json({"type": "auth", "id": 2, "token": SECRET, "nonsense": SECRET})
    client.send(ws.text('{"type":"' + SECRET + '"}'))
    time.sleep(0.2)
    client.drop()
    wait_until(lambda: server.connections() == 0, "connections")
    lines = access.text() + server.log()
    assert len(access.lines()) > 20
    for part in (SECRET, *[p for p in good.split(".") if len(p) > 12]):
        assert part not in lines, [line for line in lines.splitlines() if part in line]


@pytest.mark.parametrize("form", ["text", "json"])
def test_nobody_forges_a_line(log, form):
    with HookBackend(connect={"user": 'x"conn=c_forged,user="root"'}) as backend:
        access = log(hook_config(backend, route="connect_hook = always\n"), form=form)
        client = access.server.open_json("/ws")
        reason = '"} {"event":"connection","conn":"c_forged"\r\n2026-01-01T00:00:00.000Z connection conn=c\x1b[2J'
        client.send(ws.close(4000, reason.encode()))
        client.read_to_end()
        wait_until(lambda: "connection" in access.text(), access.text)
        (line,) = access.text().splitlines()
        assert access.text().endswith("\n") and line.isprintable()
        if form == "json":
            assert json.loads(line)["reason"] == reason
        else:
            assert re.search(r' reason="\\"} {\\"event\\":', line) and r"\x0d\x0a2026" in line and r"\x1b[2J" in line
            assert r'user="x\"conn=c_forged,user=\"root\""' in line


# Its files.


def test_off_by_default(start, tmp_path):
    server = start(ROOMS)
    server.open_json("/ws").finish()
    assert server.status()["access_log"] == {"lines": 0, "dropped": 0}


def test_on_standard_error_in_text(start):
    server = start("[belfry]\nworkers = 1\naccess_log = stderr\n" + ROOMS)
    server.open_json("/ws").finish()
    wait_until(lambda: " connection conn=" in server.log(), server.log)
    (line,) = [line for line in server.log().splitlines() if " connection conn=" in line]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z connection conn=c_\S+ peer=127\.0\.0\.1 listener=public ", line)
    assert " code=1000 closed_by=client request_id=" in line
    server.log_path.write_text("")  # the harness takes what is no line of the log for a fault
    server.checked_lines = 0


def test_usr1_opens_both_anew(log, tmp_path):
    access = log(ROOMS, more=f"log = {tmp_path}/own\n")
    server = access.server
    server.open_json("/ws").finish()
    access.wait(event="connection")
    moved = tmp_path / "access.1"
    os.rename(access.path, moved)
    os.rename(tmp_path / "own", tmp_path / "own.1")
    server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: access.path.exists() and (tmp_path / "own").exists(), "new files")
    server.open_json("/ws").finish()
    access.wait(event="connection")
    assert len(moved.read_text().splitlines()) == 1


def test_a_reload_turns_it_on_and_off(start, tmp_path):
    def config(target):
        return f"[belfry]\nworkers = 2\naccess_log = {target}\n" + ROOMS

    def reload(target):
        server.write_config(config(target))
        return server.control("POST", "/v1/reload")

    server = start(config("off"))
    path = tmp_path / "access"
    assert reload(path).status == 200
    server.open_json("/ws").finish()
    wait_until(lambda: path.exists() and len(path.read_text().splitlines()) == 1, "a line")
    server.expect_error("reload: .*can't open the access log")
    server.expect_error("reload failed, nothing has changed")
    answer = reload("/nowhere/access")
    assert answer.status == 422 and answer.json()["errors"][0]["line"] == 3, answer.body
    server.open_json("/ws").finish()
    wait_until(lambda: len(path.read_text().splitlines()) == 2, path.read_text)
    assert reload("off").status == 200
    server.open_json("/ws").finish()
    wait_until(lambda: server.connections() == 0, "the end")
    assert len(path.read_text().splitlines()) == 2


def test_a_deleted_file_is_made_again(log):
    access = log(ROOMS)
    access.path.unlink()
    wait_until(access.path.exists, "the file")
    access.server.open_json("/ws").finish()
    access.wait(event="connection")


def test_a_full_disk(log, tmp_path):
    """What can't be written is counted, the service goes on, and the log tells of it once there is room."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        access = log(ROOMS, directory=small, more=f"log = {small}/log\n")
        server = access.server
        with contextlib.suppress(OSError), open(small / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * 4096)
        opened = 0
        while server.status()["access_log"]["dropped"] < 3:
            server.open_json("/ws").finish()
            opened += 1
            assert opened < 200
        with connect(server.address()) as client:
            client.ask("GET", "/nothing")
        (small / "ballast").unlink()
        wait_until(lambda: "could not be written: No space left" in access.text(), access.text)
        server.open_json("/ws").finish()
        wait_until(lambda: json.loads(access.text().splitlines()[-1])["event"] == "connection", access.text)
        whole = [json.loads(line) for line in access.text().splitlines() if line.startswith("{") and line.endswith("}")]
        assert [line["text"] for line in whole if line["event"] == "note"]
        assert server.status()["access_log"]["lines"] == opened + 2
        assert server.status()["log"]["dropped"] >= 0
    finally:
        subprocess.run(["umount", "-l", small], check=True)
