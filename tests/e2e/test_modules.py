"""Modules: one of somebody else's (tests/module/thirdparty.c), one for an ABI that is to come, and the built-in ones
loaded as .so files, which must say the same as those inside.

The .so files are made by `make check`.
"""

import hashlib
import hmac
import json
import time

import pytest

import tokens
import ws
from belfry import build_directory, run_daemon, wait_until

SECRET = "a secret of thirty-two bytes or more"
BUILT_IN = ["origin", "rate_limit", "auth", "sticky"]


def module(path):
    so = build_directory() / path
    assert so.exists(), f"{so}: run make check there"
    return so


THIRDPARTY = """
[belfry]
workers = 2
load_module = {so}

[route /ws]
protocol = raw
echo = yes
join_on_connect = all
ticket = good

[route /two]
protocol = raw
echo = yes
join_on_connect = all2
ticket = good
ticket_messages = 2

[route /free]
protocol = raw
echo = yes
join_on_connect = all3

[room all*]
join = anyone
publish = members
"""


@pytest.fixture
def server(start):
    return start(THIRDPARTY.format(so=module("tests/module/thirdparty.so")))


def ask(server, target, *fields):
    """The answer to a handshake, and the connection."""
    client = server.client()
    client.send(ws.request_head(target, add=fields))
    return client.read_answer(), client


def test_it_waits_and_passes(server):
    client = server.open("/ws", add=[("X-Ticket", "good")])
    assert client.answer.field("X-Asked") == "thirdparty"
    client.send(ws.text("hello"))
    assert client.receive_text() == "hello"


def test_it_waits_and_denies(server):
    answer, client = ask(server, "/ws", ("X-Ticket", "bad"))
    assert answer.status == 403
    assert answer.json()["error"]["message"] == "the ticket is not good"
    assert answer.field("X-Asked") == "thirdparty"
    client.expect_end()
    answer, _ = ask(server, "/ws")
    assert answer.status == 401
    assert answer.json()["error"]["message"] == "there is no ticket"
    assert server.refused(401) and server.refused(403)


def test_who_waits_stops_nobody(server):
    waiting = [server.client() for _ in range(20)]
    for client in waiting:
        client.send(ws.request_head("/ws", add=[("X-Ticket", "good")]))
    free = server.open("/free")  # the same thread answers while twenty wait for one that takes 20 ms for each
    free.send(ws.text("x"))
    assert free.receive_text() == "x"
    for client in waiting:
        assert client.read_answer().status == 101


def test_a_client_that_leaves_while_it_waits(server):
    for _ in range(20):
        client = server.client()
        client.send(ws.request_head("/ws", add=[("X-Ticket", "good")]))
        client.abort()
    wait_until(lambda: server.status()["connections"] == 0, server.status)
    server.open("/ws", add=[("X-Ticket", "good")])


def test_messages_wait_in_order(server):
    client = server.open("/ws", add=[("X-Ticket", "good")])
    client.send(ws.text("a") + ws.text("wait") + ws.binary(b"b") + ws.text("wait") + ws.text("c"))
    assert [client.receive_text(), client.receive_text()] == ["a", "wait"]
    assert client.receive() == ("binary", b"b")
    assert [client.receive_text(), client.receive_text()] == ["wait", "c"]


def test_a_message_is_denied(server):
    client = server.open("/ws", add=[("X-Ticket", "good")])
    client.send(ws.text("wrong"))
    assert client.events() == [("close", 4003, "the ticket is not good")]


def test_state_of_a_connection(server):
    one = server.open("/two", add=[("X-Ticket", "good")])
    for word in ("first", "second", "third", "fourth"):
        one.send(ws.text(word))
    two = server.open("/two", add=[("X-Ticket", "good")])
    two.send(ws.text("of another one"))
    assert [one.receive_text(), one.receive_text(), one.receive_text()] == ["first", "second", "of another one"]
    assert server.dropped() == 2


def test_its_end(start):
    server = start(THIRDPARTY.format(so=module("tests/module/thirdparty.so")))
    client = server.open("/ws", add=[("X-Ticket", "good")])
    client.send(ws.text("x"))
    client.receive_text()
    client.finish()
    server.wait_log(r"thirdparty: a connection ended after 1 messages")
    ask(server, "/ws", ("X-Ticket", "bad"))
    wait_until(lambda: len(server.find_log(r"thirdparty: a connection ended")) == 2, server.log)
    server.stop()
    ends = server.find_log(r"thirdparty: worker \d had \d+ connections")
    assert len(ends) == 2, server.log()


# ---- the configuration ---------------------------------------------------------------------------------------------


def check(tmp_path, text, flag="-t"):
    path = tmp_path / "belfry.ini"
    path.write_text(text)
    return run_daemon("-c", path, flag)


LEAST = "[listener web]\nlisten = 127.0.0.1:0\n[route /]\n"


def test_options_of_a_module(tmp_path):
    load = f"[belfry]\nload_module = {module('tests/module/thirdparty.so')}\n"
    result = check(tmp_path, load + LEAST + "ticket = a b\n", "-T")
    assert result.returncode == 0, result.stderr
    assert "\nticket = a b\nticket_messages = 0\n" in result.stdout
    assert f"\nload_module = {module('tests/module/thirdparty.so')}\n" in result.stdout
    for line, error in (
        ("tiket = x", 'unknown option "tiket" in [route]; did you mean "ticket"?'),
        ("ticket_messages = 1001", 'ticket_messages: "1001" is out of range: write 0 to 1000'),
        ("ticket = " + "x" * 65, "ticket: is longer than 64 bytes"),
    ):
        result = check(tmp_path, load + LEAST + line + "\n")
        assert result.returncode == 1
        assert result.stderr == f"{tmp_path}/belfry.ini:6: {error}\n"
    result = check(tmp_path, LEAST + "ticket = x\n")
    assert 'unknown option "ticket"' in result.stderr


def test_a_module_of_the_future_is_refused(tmp_path):
    so = module("tests/module/future.so")
    result = check(tmp_path, f"[belfry]\nload_module = {so}\n" + LEAST)
    assert result.returncode == 1
    assert result.stderr == (
        f"{tmp_path}/belfry.ini:2: load_module: {so} was built for ABI 2, this Belfry speaks 1: "
        "rebuild it with this version's <belfry/module.h>\n"
    )


def test_files_that_are_no_modules(tmp_path):
    (tmp_path / "text.so").write_text("no library")
    origin = module("src/modules/origin.so")
    for name, error in (
        ("foo.so", "foo.so: write the whole path of the file"),
        (f"{tmp_path}/none.so", f"{tmp_path}/none.so: cannot open shared object file"),
        (f"{tmp_path}/text.so", f"{tmp_path}/text.so: file too short"),
        ("/lib/x86_64-linux-gnu/libz.so.1", "is no module: it has no symbol belfry_module"),
        (origin, f"{origin} is a module origin, and so is one that is built in: take the name out of `modules`"),
    ):
        result = check(tmp_path, f"[belfry]\nload_module = {name}\n" + LEAST)
        assert result.returncode == 1, name
        assert f"belfry.ini:2: load_module: {error}" in result.stderr or error in result.stderr


def test_the_order_of_modules(tmp_path):
    so = module("tests/module/thirdparty.so")
    result = check(tmp_path, f"[belfry]\nmodules = thirdparty, origin\nload_module = {so}\n" + LEAST, "-T")
    assert result.returncode == 0, result.stderr
    rows = result.stdout[result.stdout.index("[route /]") :]
    assert rows.index("\nticket = ") < rows.index("\norigin = ")


# ---- built in or loaded --------------------------------------------------------------------------------------------

SAME = """
[route /origin]
protocol = raw
origin = https://app.example, https://*.b.example, null

[route /default]
protocol = raw

[route /rate]
protocol = raw
origin = any, none
connection_rate = 2/h

[route /messages]
protocol = raw
message_rate = 1/h burst=2
on_limit = close

[route /jwt]
protocol = raw
auth = jwt
jwt_key = {secret}
jwt_algorithms = HS256
jwt_audience = chat
token = header, query:token
"""


def bearer(**claims):
    head = tokens.encode(json.dumps({"alg": "HS256"}).encode())
    body = tokens.encode(json.dumps({"exp": int(time.time()) + 3600, "aud": "chat", **claims}).encode())
    mac = hmac.new(SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{tokens.encode(mac)}"


def verdicts(server):
    """What the modules say to a list of requests, in words that do not hang on time or chance."""
    said = []

    def note(target, *fields):
        answer, client = ask(server, target, *fields)
        message = answer.json()["error"]["message"] if answer.status != 101 else ""
        extra = {name for name, _ in answer.fields} - {"date"}
        asked = target.split("?")[0], [value for name, value in fields if name == "Origin"]
        said.append((*asked, answer.status, message, sorted(extra), answer.field("WWW-Authenticate")))
        return client

    for origin in (
        "https://app.example", "https://app.example:443", "https://app.example:444", "http://app.example", "null",
        "https://x.b.example", "https://b.example", "https://app.example.evil", "https://evil-app.example", "garbage",
    ):  # fmt: skip
        note("/origin", ("Origin", origin))
        note("/default", ("Origin", origin))
    note("/origin")
    note("/origin", ("Origin", "https://app.example"), ("Origin", "https://evil.example"))
    note("/default", ("Origin", "http://localhost"))
    note("/default")
    for _ in range(4):
        note("/rate")
    client = note("/messages")
    client.send(ws.text("1") + ws.text("2") + ws.text("3"))
    said.append([event for event in client.events() if event[0] == "close"])
    good = bearer(sub="ann")
    note("/jwt")
    note("/jwt", ("Authorization", f"Bearer {good}"))
    note("/jwt", ("Authorization", f"bearer {good}"))
    note("/jwt", ("Authorization", f"Bearer {good}x"))
    note("/jwt", ("Authorization", "Basic YTpi"))
    note(f"/jwt?token={good}")
    note("/jwt", ("Authorization", f"Bearer {bearer(aud='other')}"))
    note("/jwt", ("Authorization", f"Bearer {bearer(exp=1)}"))
    return said


def test_loaded_modules_say_what_built_in_ones_say(start):
    config = SAME.format(secret=SECRET)
    inside = start("[belfry]\nworkers = 1\n" + config)
    files = "".join(f"load_module = {module(f'src/modules/{name}.so')}\n" for name in BUILT_IN)
    loaded = start(f"[belfry]\nworkers = 1\nmodules =\n{files}" + config)
    first = verdicts(inside)
    assert first == verdicts(loaded)
    assert {101, 401, 403, 429} <= {entry[2] for entry in first if isinstance(entry, tuple)}


def test_without_modules_nobody_asks(start):
    server = start("[belfry]\nworkers = 1\nmodules =\n[route /ws]\nprotocol = raw\n")
    answer, _ = ask(server, "/ws", ("Origin", "https://evil.example"))
    assert answer.status == 101
