"""Reloading: by HUP and by the control API; all or nothing; what needs a restart is told and stays; listeners that come,
go, change their names and certificates. What live connections feel of it is in test_reload_live.py.
"""

import http.client
import os
import re
import signal
import socket
import ssl
import threading
import time

import pytest

import ws
from backend import Backend, serve
from belfry import http_request, wait_until
from conftest import make_certificate
from http1 import response

ROUTE = """
[route /ws]
[room *]
join = anyone
publish = members
"""
CORE = "[belfry]\nworkers = 2\n"


def accepted(reply, generation):
    assert reply.status == 200, (reply.status, reply.body)
    assert reply.json()["generation"] == generation
    return reply.json()


def hang_up(server):
    """HUP, and its end: the generation that is in force then."""
    status = server.status()["config"]
    server.process.send_signal(signal.SIGHUP)

    def over():
        now = server.status()["config"]
        return now["reloads"] + now["failed"] > status["reloads"] + status["failed"] and now

    return wait_until(over, "the reload takes no end")


def in_room(server, listener="public", **options):
    client = server.open_json("/ws", listener, **options)
    client.send_json({"type": "join", "id": 1, "room": "chat"})
    assert client.receive_json()["type"] == "ok"
    return client


def gets(server, *clients):
    """A publish reaches them all, and nothing else did before."""
    server.command({"op": "publish", "room": "chat", "data": "now"})
    for client in clients:
        message = client.receive_json()
        assert (message["type"], message["data"]) == ("message", "now"), message


def leaves(client):
    """It is told that what it came by is no more there, and where to go."""
    bye = client.receive_json()
    assert (bye["type"], bye["reason"], bye["reconnect"]) == ("bye", "reconfigured", True), bye
    assert client.receive() == ("close", 1012, "reconfigured")
    client.drop()


def connects(server, path="/ws", listener="public", **options):
    client = server.open_json(path, listener, **options)
    client.drop()
    server.clients.remove(client)


def steady_files(server):
    """How many descriptors the daemon has when the last question's connection is gone."""
    counts = [server.open_files() + i for i in range(3)]  # three different ones, to begin with

    def steady():
        counts.append(server.open_files())
        return counts[-1] if len(set(counts[-5:])) == 1 else 0

    return wait_until(steady, "files come and go")


def test_hup_and_the_control_api(start):
    server = start(ROUTE)
    client = in_room(server)
    first = server.status()["config"]
    assert (first["generation"], first["reloads"], first["failed"], first["retired"]) == (1, 0, 0, 0)
    assert "last_error" not in first
    server.write_config(ROUTE + "[route /more]\n")
    assert hang_up(server)["generation"] == 2
    connects(server, "/more")
    accepted(server.reload(ROUTE + "[route /third]\n"), 3)
    connects(server, "/third")
    refused = server.client()
    refused.send(ws.request_head("/more"))
    assert refused.read_answer().status == 404
    (line,) = server.find_log("reloaded: generation 3")
    assert re.search(r"\(\d+ connections go on, 1 sections retired\)", line)
    status = server.status()["config"]
    assert (status["reloads"], status["failed"], status["retired"]) == (2, 0, 1)
    assert status["loaded"] >= first["loaded"]
    gets(server, client)


def test_nothing_has_changed_is_a_reload_too(start):
    server = start(ROUTE)
    client = in_room(server)
    for generation in range(2, 7):
        assert "warnings" not in accepted(server.reload(), generation)
    gets(server, client)


MISTAKES = {
    "syntax": ("[belfry\n", "a section lacks its ]"),
    "unknown option": ("[belfry]\nmax_conections = 5\n", "unknown option"),
    "unknown section": ("[rooms]\n", "unknown section"),
    "bad value": ("[belfry]\nlog_level = loud\n", "log_level"),
    "bad value of what needs a restart": ("[belfry]\nworkers = 1000\n", "workers"),
    "bad url of the broker": ("[broker]\ntype = redis\nurl = http://x\n", "a Redis URL starts with"),
    "no route": ("", "there is no [route PATH]"),
    "no listener": (None, "there is no [listener NAME]"),
    "unknown upstream": ("[route /x]\nupstream = nobody\n", "there is no [upstream nobody]"),
    "a module's option": ("[route /x]\norigin = nonsense\n", "origin"),
    "no certificate": ("[listener tls]\nlisten = 127.0.0.1:0\ntls = yes\ncertificate = /no\nprivate_key = /no\n", "/no"),
    "no secret": ("[route /x]\nhook_secret = file:/no/such/file\n", "can't read /no/such/file"),
    "no environment": ("[route /x]\nhost = ${BELFRY_NO_SUCH_VARIABLE}\n", "BELFRY_NO_SUCH_VARIABLE"),
    "no included file": ("include = /no/such.ini\n", "no such file"),
    "address in use": ("[listener more]\nlisten = 127.0.0.1:0\nlisten = 127.0.0.1:{taken}\n", "Address already in use"),
    "not our address": ("[listener more]\nlisten = 192.0.2.1:0\n", "192.0.2.1"),
    "control address in use": ("[control]\ntoken = x\nlisten = 127.0.0.1:{taken}\n", "Address already in use"),
    "control without token": ("[control]\nlisten = 127.0.0.1:0\n", "needs a token"),
    "no directory of the socket": ("[listener more]\nlisten = unix:/no/such/directory/s\n", "/no/such/directory"),
}


def test_mistakes_change_nothing(start):
    server = start(ROUTE)
    client = in_room(server)
    config = server.get("/v1/config")
    status = server.status()
    files = steady_files(server)
    taken = socket.create_server(("127.0.0.1", 0))
    for number, (kind, (text, why)) in enumerate(MISTAKES.items(), 1):
        route = "" if kind == "no route" else ROUTE
        more = (text or "").replace("{taken}", str(taken.getsockname()[1]))
        if text is None:
            server.config_path.write_text(ROUTE)
            reply = server.control("POST", "/v1/reload")
        else:
            reply = server.reload(more + route + "\n[route /new]\n" * bool(route))
        assert reply.status == 422, (kind, reply.body)
        answer = reply.json()
        assert answer["error"]["code"] == 422
        (mistake,) = [e for e in answer["errors"] if why in e["message"]] or [(kind, answer)]
        assert mistake["file"] == str(server.config_path)
        if text and text.startswith("[") and kind != "no route":  # the line is one of its section
            assert 1 <= mistake["line"] <= server.config_path.read_text().count("\n"), (kind, mistake)
        now = server.status()["config"]
        assert (now["generation"], now["reloads"], now["failed"]) == (1, 0, number), kind
        assert why in now["last_error"]["message"], (kind, now)
        server.expect_error("reload: .*" + re.escape(mistake["message"][:60]))
    server.expect_error("reload failed, nothing has changed: generation 1 goes on")
    assert hang_up(server)["failed"] == len(MISTAKES) + 1  # the last one, told in the log
    taken.close()
    assert server.get("/v1/config") == config
    assert server.status()["listeners"] == status["listeners"]
    wait_until(lambda: server.open_files() == files, lambda: f"{server.open_files()} files, there were {files}")
    refused = server.client()
    refused.send(ws.request_head("/new"))
    assert refused.read_answer().status == 404
    refused.drop()
    gets(server, client)
    accepted(server.reload(ROUTE), 2)
    gets(server, client)


def test_all_mistakes_are_told_with_their_places(start):
    server = start(ROUTE)
    (server.directory / "more.ini").write_text("[room x]\njoin = everybody\n")
    reply = server.reload(f"{CORE}\nmax_conections = 5\n{ROUTE}\n[route /x]\nupstream = nobody\ninclude = more.ini\n")
    assert reply.status == 422
    found = {(e["file"].rsplit("/", 1)[1], e["line"]): e["message"] for e in reply.json()["errors"]}
    assert "max_conections" in found["belfry.ini", 4]
    assert "nobody" in found["belfry.ini", 12]
    assert "everybody" in found["more.ini", 2]
    assert reply.json()["error"]["message"].endswith("(and 2 more)")
    result = server.ctl("reload")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert f"{server.config_path}:4: " in lines[0] and "max_conections" in lines[0], result
    assert lines[-1] == "belfryctl: nothing has changed"
    server.expect_error("reload")


def test_what_needs_a_restart_stays_and_is_told(start, tmp_path):
    server = start(CORE + ROUTE + "[broker]\nmax_message = 256k\n")
    text = f"[belfry]\nworkers = 3\nmodules = origin\nlog = {tmp_path}/log\n{ROUTE}[broker]\nmax_message = 300k\nprefix = x:\n"
    answer = accepted(server.reload(text), 2)
    named = {e["message"].split(":")[0]: e["line"] for e in answer["warnings"]}
    assert named == {"workers": 2, "modules": 3, "log": 4, "max_message": 11, "prefix": 12}
    assert len(server.find_log("needs a restart or an upgrade")) == 5
    status = server.status()
    assert status["workers"] == 2
    options = {s["kind"]: s["options"] for s in server.get("/v1/config")["sections"]}
    assert options["belfry"]["modules"] == ["origin", "rate_limit", "auth", "sticky"]
    assert options["broker"]["max_message"] == "256k"
    assert "needs a restart" in server.ctl("reload").stderr
    assert server.control("POST", "/v1/rooms/chat", b"x" * 280 * 1024).status == 413
    assert not (tmp_path / "log").exists()


def test_the_config_in_force(start):
    server = start(ROUTE + "[route /secret]\nhook_secret = hidden\n[upstream app]\nserver = 127.0.0.1:1\n")
    answer = server.get("/v1/config")
    assert answer["generation"] == 1 and answer["file"] == str(server.config_path)
    assert b"hidden" not in server.control("GET", "/v1/config").body
    (route,) = [s for s in answer["sections"] if s["name"] == "/secret"]
    assert route["kind"] == "route"
    assert (route["options"]["hook_secret"], route["options"]["max_message"]) == ("***", "64k")
    printed = server.control("GET", "/v1/config?format=ini")
    assert printed.headers["Content-Type"].startswith("text/plain")
    result = server.ctl("config")
    assert result.returncode == 0 and result.stdout == printed.body.decode()
    assert "[route /secret]\n" in result.stdout and "hook_secret = ***\n" in result.stdout
    assert '"sections"' in server.ctl("--json", "config").stdout
    assert server.control("GET", "/v1/config?format=xml").status == 400
    accepted(server.reload(ROUTE), 2)
    assert "/secret" not in server.ctl("config").stdout  # its connections may still be there, but the file has it no more


def test_levels_and_forms_of_the_log(start):
    server = start(ROUTE)
    assert not server.find_log("debug")
    accepted(server.reload("[belfry]\nlog_level = warn\n" + ROUTE), 2)
    accepted(server.reload("[belfry]\nlog_level = warn\n" + ROUTE), 3)
    assert not server.find_log("generation [23]")
    accepted(server.reload("[belfry]\nlog_level = info\n" + ROUTE), 4)
    assert server.find_log("generation 4")
    accepted(server.reload("[belfry]\nlog_format = json\n" + ROUTE), 5)
    wait_until(lambda: '"message":"reloaded: generation 5' in server.log(), "no line in JSON")
    accepted(server.reload(ROUTE), 6)
    lines = server.log().splitlines()
    server.checked_lines = len(lines)  # those in JSON are no lines for check_log


# Listeners.


def test_a_listener_comes_and_goes(start, tmp_path):
    server = start(ROUTE)
    client = in_room(server)
    files = steady_files(server)
    public = "[listener public]\nlisten = 127.0.0.1:0\n"
    path = f"{server.sockets.name}/edge"
    address = server.address()
    accepted(server.reload(ROUTE + public + f"[listener more]\nlisten = 127.0.0.1:0, unix:{path}\n"), 2)
    assert server.address() == address
    more = server.address("more")
    connects(server, listener="more")
    server.addresses["more"] = path
    guest = in_room(server, "more")
    gets(server, client, guest)
    accepted(server.reload(ROUTE + public), 3)
    assert server.address() == address
    assert "more" not in server.addresses
    wait_until(lambda: not can_connect(more), "it is still listened on")
    assert not can_connect(path)
    leaves(guest)
    gets(server, client)
    wait_until(lambda: server.connections() == 1, "the guest is still there")
    wait_until(lambda: server.open_files() == files, lambda: f"{server.open_files()} files, there were {files}")
    accepted(server.reload(ROUTE + public + f"[listener more]\nlisten = unix:{path}\n"), 4)
    connects(server, listener="more")


def can_connect(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as s:
        return s.connect_ex(address) == 0


def test_a_listener_takes_another_name(start):
    """Its socket stays, with those who wait in the backlog, and so does who came by it."""
    server = start(ROUTE)
    address = server.address()
    client = in_room(server)
    accepted(server.reload(ROUTE + "[listener renamed]\nlisten = 127.0.0.1:0\n"), 2)
    assert server.addresses == {"renamed": address}
    connects(server, listener="renamed")
    gets(server, client)
    assert server.status()["config"]["retired"] == 0


def test_nobody_is_refused_while_listeners_change(start, certificate, trust):
    server = start(ROUTE)
    address = server.address()
    ending = threading.Event()
    refused = []

    def knock():
        while not ending.is_set():
            try:
                socket.create_connection(address, 5).close()
            except OSError as e:
                refused.append(e)

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        for number in range(2, 22):
            name, port = ("odd", address[1]) if number % 2 else ("even", address[1])
            accepted(server.reload(ROUTE + f"[listener {name}]\nlisten = 127.0.0.1:{port}\n"), number)
    finally:
        ending.set()
        thread.join()
    assert not refused


def test_tls_on_and_off(start, certificate):
    server = start(ROUTE)
    address = server.address()
    plain = in_room(server)
    accepted(server.reload(ROUTE + certificate.listener("public")), 2)
    assert server.address() == address
    secure = in_room(server)
    gets(server, plain, secure)
    accepted(server.reload(ROUTE), 3)
    again = in_room(server)
    gets(server, plain, secure, again)


def test_certificates_are_read_again(start, tmp_path):
    """The file is another one at the same path, the ini file the same: HUP is enough, as certbot's hook does it."""
    files = make_certificate(tmp_path, "one", "DNS:localhost")
    other = make_certificate(tmp_path, "two", "DNS:localhost")
    server = start(ROUTE + files.listener("public"))
    server.trust = ssl.create_default_context(cafile=str(files.chain))
    client = in_room(server)
    old_chain, old_key = files.chain.read_text(), files.key.read_text()
    files.chain.write_text(other.chain.read_text())
    server.expect_error("reload")
    assert hang_up(server)["failed"] == 1  # the key is the old one's
    connects(server)
    files.key.write_text(other.key.read_text())
    assert hang_up(server)["generation"] == 2
    with pytest.raises(ssl.SSLCertVerificationError):
        server.client()
    server.trust = ssl.create_default_context(cafile=str(other.chain))
    connects(server)
    gets(server, client)  # its session goes on
    files.chain.write_text(old_chain)
    files.key.write_text(old_key)
    accepted(server.reload(), 3)
    server.trust = ssl.create_default_context(cafile=str(files.chain))
    connects(server)


def shake_hands(server, session=None):
    """(whether the session was resumed, the session that the server gave)."""
    with socket.create_connection(server.address(), 10) as plain:
        with server.trust.wrap_socket(plain, server_hostname="localhost", session=session) as s:
            s.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert s.makefile("rb").read().startswith(b"HTTP/1.1 404")
            return s.session_reused, s.session


def test_sessions_are_resumed_after_a_reload(start, tmp_path):
    """Unless the certificate is another one: that is shown by a whole handshake."""
    files = make_certificate(tmp_path, "one", "DNS:localhost")
    server = start(ROUTE + files.listener("public"))
    server.trust = ssl.create_default_context(cafile=str(files.chain))
    resumed, session = shake_hands(server)
    assert not resumed
    for generation in (2, 3):
        accepted(server.reload(), generation)
        assert shake_hands(server, session)[0]
    other = make_certificate(tmp_path, "one", "DNS:localhost")  # the same files, made anew
    server.trust.load_verify_locations(str(other.chain))
    accepted(server.reload(), 4)
    assert not shake_hands(server, session)[0]


def test_included_files_and_secrets_are_read_again(start, tmp_path):
    directory = tmp_path / "conf.d"
    directory.mkdir()
    secret = tmp_path / "token"
    secret.write_text("first\n")
    config = ROUTE + f"include = {directory}/*.ini\n[control]\ntoken = file:{secret}\nlisten = 127.0.0.1:0\n"
    server = start(config)
    tcp = server.control_tcp_address()

    def asks(token):
        connection = http.client.HTTPConnection(*tcp, timeout=10)
        return http_request(connection, "GET", "/healthz", headers={"Authorization": f"Bearer {token}"}).status

    assert (asks("first"), asks("second")) == (200, 401)
    (directory / "a.ini").write_text("[route /a]\n")
    secret.write_text("second\n")
    accepted(server.reload(), 2)
    connects(server, "/a")
    assert (asks("first"), asks("second")) == (401, 200)
    (directory / "a.ini").unlink()
    (directory / "b.ini").write_text("[route /b]\n")
    accepted(server.reload(), 3)
    connects(server, "/b")


def test_the_control_api_moves(start):
    """Its addresses too: who asked for the reload by one that goes still gets the answer."""
    server = start(ROUTE)
    old, new = server.control_path, server.control_path + "2"
    server.config_path.write_text(server.config_path.read_text().replace(f"unix:{old}", f"unix:{new}"))
    accepted(server.control("POST", "/v1/reload"), 2)
    server.control_path = new
    assert server.generation() == 2
    assert not can_connect(old)
    server.config_path.write_text(server.config_path.read_text().replace(f"unix:{new}", f"unix:{old}"))
    server.control_path = old
    server.process.send_signal(signal.SIGHUP)
    wait_until(server.answers, "the control API is not back")
    assert server.generation() == 3


def test_an_upstream_that_is_gone_is_left_alone(start):
    """Nobody asks after its health any more, and no connection to it is kept."""
    with Backend(serve(lambda request: response(b"fine"))) as backend:
        upstream = f"[upstream app]\nserver = {backend.address}\nhealth_check = /up\nhealth_interval = 100ms\n"
        server = start(ROUTE + upstream + "[route /app]\nmode = proxy\nupstream = app\n")
        wait_until(lambda: len(backend.requests) >= 3, "no health check")
        accepted(server.reload(ROUTE), 2)
        wait_until(lambda: settled(lambda: len(backend.requests)), "health checks go on")
        accepted(server.reload(ROUTE + upstream), 3)
        count = len(backend.requests)
        wait_until(lambda: len(backend.requests) > count, "no health check after it came back")


def settled(measure):
    before = measure()
    time.sleep(0.5)
    return measure() == before


# One at a time.


def test_many_at_once_are_one_or_two(start):
    server = start(ROUTE)
    client = in_room(server)
    connections = []
    for _ in range(40):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(server.control_path)
        connections.append(s)
    server.write_config(ROUTE + "[route /last]\n")
    for s in connections:
        s.sendall(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        server.process.send_signal(signal.SIGHUP)
    answers = [s.makefile("rb").read() for s in connections]
    for s in connections:
        s.close()
    assert all(a.startswith(b"HTTP/1.1 200") for a in answers), answers
    connects(server, "/last")
    status = server.status()["config"]
    assert 1 <= status["reloads"] <= 41 and status["failed"] == 0
    gets(server, client)


def test_a_reload_that_the_asker_does_not_wait_for(start):
    server = start(ROUTE)
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(server.control_path)
            s.sendall(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    wait_until(lambda: server.status()["config"]["reloads"] >= 1, "nothing was reloaded")
    assert server.control("GET", "/v1/reload").status == 405


def test_hup_while_the_worker_process_starts(start):
    """It is neither lost nor deadly: the master passes it on, to whom it does not interrupt before it can be heeded."""
    server = start(ROUTE)
    server.expect_error("worker process")
    os.kill(server.worker_pid(), signal.SIGKILL)
    server.write_config(ROUTE + "[route /late]\n")
    for _ in range(200):
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.005)
    wait_until(server.answers, "no worker process")
    wait_until(lambda: server.status()["config"]["reloads"], "HUP was lost")
    assert server.status()["crashes"] == 1
    connects(server, "/late")


def test_an_end_during_reloads(start):
    """TERM in the midst of them: an orderly end, and whoever asked is answered or let go."""
    server = start(ROUTE)
    ending = threading.Event()
    answers = set()

    def ask():
        while not ending.is_set():
            try:
                answers.add(server.control("POST", "/v1/reload").status)
            except (OSError, http.client.HTTPException):
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: answers, "no answer")
    server.stop()
    ending.set()
    for thread in threads:
        thread.join()
    assert answers <= {200, 409}, answers


def test_no_reload_while_the_node_stops(start):
    server = start("[belfry]\ndrain_timeout = 20s\n" + ROUTE)
    in_room(server)  # who does not answer the Close
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: server.status()["stopping"], "it does not stop")
    reply = server.control("POST", "/v1/reload")
    assert reply.status == 409 and "stopping" in reply.json()["error"]["message"]
    assert server.generation() == 1
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 0
    server.check_log()


def test_limits_are_told_and_felt(start):
    """What the machine allows stands in the status, and the file's own limit from the next reload on."""
    server = start(ROUTE, files_limit=300)
    limits = server.status()["limits"]
    assert (limits["files"], limits["wanted_connections"], limits["bound"]) == (300, 100000, "files")
    assert limits["max_connections"] == 300 - limits["files_reserved"]
    assert limits["memory"] > 2**26 and limits["connection_bytes"] > 500
    first = in_room(server)
    accepted(server.reload("[belfry]\nmax_connections = 2\n" + ROUTE), 2)
    limits = server.status()["limits"]
    assert (limits["max_connections"], limits["bound"]) == (2, "max_connections")
    second = in_room(server)
    third = server.client()
    third.send(ws.request_head("/ws"))
    assert third.read_answer().status == 503
    third.drop()
    accepted(server.reload("[belfry]\nmax_connections = 3\n" + ROUTE), 3)
    gets(server, first, second, in_room(server))
