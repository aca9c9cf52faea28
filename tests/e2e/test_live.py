"""The control API's eyes: /v1/top, /v1/live by HTTP and WebSocket, the page, belfryctl top. Who may look, and at what cost."""

import base64
import http.client
import json
import re

import pytest

import ws
from belfry import http_request, wait_until
from hook_backend import HookBackend, hook_config

CONFIG = """
[route /ws]
mode = rooms
join_on_connect = lobby
send_queue = 1m
on_slow = drop_oldest

[room *]
join = anyone
publish = anyone

[control]
listen = 127.0.0.1:0
token = s3cret!
"""


@pytest.fixture
def server(start):
    return start(CONFIG)


def tcp(server, method, path, headers=None):
    host, port = server.control_tcp_address()
    return http_request(http.client.HTTPConnection(host, port, timeout=10), method, path, None, headers)


def watch(server, address=None, **options):
    client = ws.Client(address or server.control_path)
    server.clients.append(client)
    return client.open("/v1/live", protocols=["belfry.live"], **options)


# What is busiest.


def test_rooms_by_rate(server):
    clients = [server.open_json("/ws") for _ in range(3)]
    for _ in range(30):
        server.publish("lobby", '"x"')
    server.publish("elsewhere", '"x"')  # nobody is there
    rooms = server.get("/v1/top")["rooms"]
    (room,) = rooms
    assert (room["room"], room["members"]) == ("lobby", 3)
    assert 0 < room["rate"] <= 3.0 and 0 < room["bytes_rate"] <= 9.0  # 30 in a window of ten seconds
    del clients


def test_slow_readers(server):
    fast = server.open_json("/ws")
    slow = server.open_json("/ws", receive_buffer=4096)
    for _ in range(100):
        server.publish("lobby", json.dumps("x" * 50_000))
        fast.receive_json()
    top = wait_until(lambda: server.get("/v1/top")["slow"], "a slow reader")
    (reader,) = top
    assert reader["conn"] == slow.welcome["conn"] and reader["queue"] > 100_000 and reader["dropped"] > 0
    assert reader["route"] == "/ws"


# Live.


def test_one_object_for_who_does_not_upgrade(server):
    server.open_json("/ws")
    live = server.get("/v1/live")
    assert live["connections"] == 1 and live["kinds"] == {"ws": 1}
    assert live["ready"] is True and live["broker"]["type"] == "memory" and live["pid"] == server.status()["pid"]
    assert set(live["top"]) == {"rooms", "slow"} and live["upstreams"] == []
    assert len(live) <= 60, "belfryctl reads 64 members"


def test_a_stream_of_them(server):
    client = watch(server)
    assert client.answer.field("Sec-WebSocket-Protocol") == "belfry.live"
    first = client.receive_json()
    server.open_json("/ws")
    seen = [client.receive_json() for _ in range(3)]
    assert first["connections"] == 0 and seen[-1]["connections"] == 1
    assert seen[0]["time"] < seen[1]["time"] < seen[2]["time"]
    client.send(ws.ping(b"there?"))
    kinds = [client.receive() for _ in range(3)]
    assert ("pong", b"there?") in kinds
    client.send(ws.close(1000))
    while client.receive()[0] != "close":
        pass
    client.expect_end()


def test_what_is_no_websocket_ends_it(server):
    for bad in (b"\xff\xff\xff\xff", ws.text("x" * 5000), ws.frame(1, b"unmasked", key=None)):
        client = watch(server)
        client.receive_json()
        client.send(bad)
        while (event := client.receive())[0] != "close":
            pass
        assert event[1] in (1002, 1009)
    client = ws.Client(server.control_path)
    client.send(ws.request_head("/v1/live", change={"Sec-WebSocket-Version": "12"}))
    assert client.read_answer().status == 426
    client.drop()


def test_many_watchers(server):
    watchers = [watch(server) for _ in range(16)]
    with pytest.raises(ws.Refused, match="503"):
        watch(server)
    for client in watchers:
        client.receive_json()
    watchers[0].drop()
    wait_until(lambda: can_watch(server), "a free place")


def can_watch(server):
    try:
        watch(server)
    except ws.Refused:
        return False
    return True


def test_a_watcher_that_reads_nothing_costs_nothing(server):
    watch(server)  # its answers stay in the socket
    other = watch(server)
    for _ in range(3):
        other.receive_json()
    assert server.status()["connections"] == 0


# Who may.


def test_the_token(server):
    assert tcp(server, "GET", "/v1/live").status == 401
    assert tcp(server, "GET", "/v1/live", {"Authorization": "Bearer s3cret!"}).status == 200
    assert tcp(server, "GET", "/").status == 200
    assert tcp(server, "POST", "/").status == 401
    address = server.control_tcp_address()
    for token, status in (("s3cret!", 101), ("s3cret", 401), (None, 401)):
        client = ws.Client(address)
        server.clients.append(client)
        offered = ["belfry.live"]
        if token:
            offered.append("belfry.token." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("="))
        client.send(ws.request_head("/v1/live", add=[("Sec-WebSocket-Protocol", ", ".join(offered))]))
        answer = client.read_answer()
        assert answer.status == status
        if status == 101:
            assert answer.field("Sec-WebSocket-Protocol") == "belfry.live"
    assert "s3cret" not in server.log()


def test_pages_of_other_sites(server):
    for path, method in (("/v1/live", "GET"), ("/v1/status", "GET"), ("/v1/drain", "POST"), ("/", "GET")):
        assert server.control(method, path, headers={"Origin": "https://evil.example"}).status == 403
    assert server.control("GET", "/v1/status", headers={"Origin": "http://localhost"}).status == 200
    with pytest.raises(ws.Refused, match="403"):
        watch(server, add=[("Origin", "https://evil.example")])
    watch(server, add=[("Origin", "https://ops.example"), ("X-Forwarded-Host", "ops.example")]).receive_json()


def test_the_page_stands_alone(server):
    reply = server.control("GET", "/")
    page = reply.body.decode()
    policy = reply.headers["Content-Security-Policy"]
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.count(f'nonce="{nonce}"') == 2 and "@NONCE@" not in page
    assert not re.search(r"https?://(?!www\.w3\.org)|src=|@import|\burl\(|innerHTML|style=", page)
    again = server.control("GET", "/").body.decode()
    assert nonce not in again
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "s3cret" not in page


# belfryctl top.


def test_top_once(start):
    with HookBackend(connect=None) as backend:
        server = start(hook_config(backend, route="connect_hook = always\njoin_on_connect = open:1\n"))
        server.open_json("/ws")
        server.publish("open:1", '"x"')
        shown = server.ctl("top", "--once")
        assert shown.returncode == 0, shown.stderr
        assert "\x1b" not in shown.stdout
        for pattern in (r"READY", r"connections +1 of", r"open:1 +0\.1", rf"app 127\.0\.0\.1:{backend.port} +up"):
            assert re.search(pattern, shown.stdout), (pattern, shown.stdout)
    assert server.ctl("top", "--nonsense").returncode == 2
    assert server.ctl("top").returncode == 1  # no terminal


def test_a_daemon_that_is_not_there(server):
    path, server.control_path = server.control_path, "/nowhere"
    shown = server.ctl("top", "--once")
    server.control_path = path
    assert shown.returncode == 1 and "no answer" in shown.stderr
