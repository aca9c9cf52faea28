"""The control API and belfryctl: commands, publishing, lists, token, health."""

import http.client
import json
import os
import socket
import stat
import subprocess
import time

import pytest

import ws

from belfry import TIMEOUT, UnixConnection, build_directory, http_request, wait_until

CONFIG = """
[route /json]
mode = rooms
protocol = json

[route /raw]
mode = rooms
protocol = raw

[room chat:*]
join = anyone
publish = members

[room closed:*]
join = nobody
publish = nobody

[control]
listen = 127.0.0.1:0
token = sesame42
"""


@pytest.fixture(scope="module")
def shared_server(start_shared):
    return start_shared(CONFIG)


@pytest.fixture
def server(shared_server):
    yield shared_server
    shared_server.check()


def member(server, room="chat:1", target="/json"):
    client = server.open_json(target)
    client.send_json({"type": "join", "id": 1, "room": room})
    assert client.receive_json()["type"] == "ok"
    client.conn = client.welcome["conn"]
    return client


def expect_api_error(reply, status):
    statuses = (status,) if isinstance(status, int) else status
    assert reply.status in statuses, (reply.status, reply.body)
    assert reply.headers["Content-Type"].startswith("application/json")
    error = reply.json()["error"]
    assert error["code"] == reply.status and error["message"]


# Health and status


def test_health(server):
    assert server.control("GET", "/healthz").status == 200
    assert server.control("GET", "/readyz").status == 200


def test_status(server):
    client = member(server)
    status = server.status()
    assert status["connections"] == 1
    assert status["rooms"] == 1
    assert status["workers"] == 2
    assert [listener["name"] for listener in status["listeners"]] == ["public"]
    for name in ("refused", "closed", "dropped"):
        assert isinstance(status[name], dict)
    client.finish()
    wait_until(lambda: server.closed(1000) >= 1, "closed is not counted")


# POST /v1/rooms/ROOM


def test_publish_verbatim(server):
    one, two = member(server), server.open("/raw?room=chat:1")
    assert server.publish("chat:1", '{"a" : 1.0}') == 2
    assert '"data":{"a" : 1.0}' in one.receive_text()
    assert two.receive() == ("text", '{"a" : 1.0}')


def test_publish_what_is_no_json(server):
    one, two = member(server), server.open("/raw?room=chat:1")
    for payload, event in [(b"plain", ("text", "plain")), (b"\xff\x00", ("binary", b"\xff\x00"))]:
        assert server.publish("chat:1", payload) == 2
        assert two.receive() == event
    assert one.receive_json()["data"] == "plain"
    assert one.receive_json()["data64"] == "/wA="


def test_message_of_the_backend_has_no_sender(server):
    client = member(server)
    before = time.time() * 1000
    server.publish("chat:1", "1")
    message = client.receive_json()
    assert "from" not in message
    assert before - 1000 <= message["time"] <= time.time() * 1000 + 1000


def test_publish_to_a_room_without_members(server):
    assert server.publish("chat:nobody", "1") == 0


@pytest.mark.parametrize("room", ["chat:\u00e9", "chat:a/b", "chat:a%b", "chat:?x=1", "chat:#"])
def test_percent_encoded_room(server, room):
    client = member(server, room)
    assert server.publish(room, "1") == 1
    assert client.receive_json()["room"] == room


def test_publish_to_all_and_to_one(server):
    one, two = member(server), server.open("/raw")
    assert server.publish("@all", '"x"') == 2
    assert one.receive_json()["data"] == "x"
    assert two.receive() == ("text", '"x"')
    assert server.publish("@conn:" + one.conn, '"y"') == 1
    assert one.receive_json()["data"] == "y"
    two.expect_silence(0.05)
    assert server.publish("@conn:c_nobody", '"y"') == 0


@pytest.mark.parametrize("room", ["a%20b", "a%00b", "%ff", "x" * 256, "%zz"])
def test_publish_to_a_broken_room_name(server, room):
    expect_api_error(server.control("POST", "/v1/rooms/" + room, b"1"), 400)


def test_publish_chunked(server):
    client = member(server)
    connection = UnixConnection(server.control_path)
    connection.request("POST", "/v1/rooms/chat%3A1", body=iter([b'{"a"', b":1}"]), encode_chunked=True)
    response = connection.getresponse()
    response.read()
    connection.close()
    if response.status == 200:
        assert '"data":{"a":1}' in client.receive_text()
    else:
        assert response.status in (400, 411, 501)


# POST /v1/commands


def test_publish_command(server):
    one, two, raw = member(server), member(server), server.open("/raw?room=chat:1")
    (result,) = server.command({"op": "publish", "room": "chat:1", "data": {"b": [1, 2]}, "except": [one.conn]})
    assert result["receivers"] == 2
    assert two.receive_json()["data"] == {"b": [1, 2]}
    assert json.loads(raw.receive_text()) == {"b": [1, 2]}
    one.expect_silence(0.05)


def test_publish_command_keeps_the_data_verbatim(server):
    client = member(server)
    body = b'{"op":"publish","room":"chat:1","data": {"a" :1e400, "\\u0062":[ ]} }'
    assert server.control("POST", "/v1/commands", body).status == 200
    assert '"data":{"a" :1e400, "\\u0062":[ ]}' in client.receive_text()


def test_publish_command_with_data64(server):
    client, raw = member(server), server.open("/raw?room=chat:1")
    server.command({"op": "publish", "room": "chat:1", "data64": "/wA="})
    assert raw.receive() == ("binary", b"\xff\x00")
    assert client.receive_json()["data64"] == "/wA="
    server.command({"op": "publish", "room": "chat:1", "data64": "dGV4dA=="})
    assert raw.receive() == ("text", "text")


def test_publish_command_to_several_rooms(server):
    one, two = member(server, "chat:1"), member(server, "chat:2")
    (result,) = server.command({"op": "publish", "rooms": ["chat:1", "chat:2", "chat:3"], "data": 1})
    assert result["receivers"] == 2
    assert one.receive_json()["room"] == "chat:1"
    assert two.receive_json()["room"] == "chat:2"


def test_publish_command_with_from(server):
    client = member(server)
    server.command({"op": "publish", "room": "chat:1", "data": 1, "from": {"conn": "c_x", "user": "56"}})
    assert client.receive_json()["from"] == {"conn": "c_x", "user": "56"}


def test_array_of_commands(server):
    client = member(server)
    results = server.command(
        {"op": "publish", "room": "chat:1", "data": 1},
        {"op": "publish", "room": "bad name", "data": 2},
        {"op": "nonsense"},
        {"op": "publish", "room": "chat:1", "data": 3},
    )
    assert results[0]["receivers"] == results[3]["receivers"] == 1
    assert results[1]["error"] and results[2]["error"]
    assert [client.receive_json()["data"], client.receive_json()["data"]] == [1, 3]


def test_order_of_an_array(server):
    client = member(server)
    server.command(*[{"op": "publish", "room": "chat:1", "data": i} for i in range(300)])
    assert [client.receive_json()["data"] for _ in range(300)] == list(range(300))


def test_join_and_leave_by_command(server):
    client = server.open_json("/json")
    conn = client.welcome["conn"]
    # The backend may put a client where the client itself may not go.
    server.command({"op": "join", "conn": conn, "room": "closed:1"})
    wait_until(lambda: server.members("closed:1") == 1, "not joined")
    assert server.publish("closed:1", "1") == 1
    message = client.receive_json()
    while message["type"] != "message":
        message = client.receive_json()
    assert message["room"] == "closed:1"
    server.command({"op": "leave", "conn": conn, "room": "closed:1"})
    removed = client.receive_json()
    assert removed["type"] == "removed" and removed["room"] == "closed:1" and removed["reason"]
    assert server.members("closed:1") == 0


@pytest.mark.parametrize("code,reason", [(None, None), (4001, "go away"), (1000, ""), (1008, "\u00e9" * 60)])
def test_disconnect_by_command(server, code, reason):
    client, other = member(server), member(server)
    command = {"op": "disconnect", "conn": client.conn}
    command.update({} if code is None else {"code": code, "reason": reason})
    server.command(command)
    events = client.events()
    assert events[-1] == ("close", code or 4403, events[-1][2])
    assert reason is None or events[-1][2] == reason
    bye = json.loads(events[0][1])
    assert (bye["type"], bye["code"], bye["reconnect"]) == ("bye", code or 4403, False)
    other.finish()


def test_disconnect_with_reconnect(server):
    client = member(server)
    server.command({"op": "disconnect", "conn": client.conn, "code": 4503, "reconnect": True})
    bye = client.receive_json()
    assert bye["reconnect"] is True and bye["after_ms"] >= 0
    assert client.events() == [("close", 4503, bye["reason"])]


def test_disconnect_a_room(server):
    inside = [member(server) for _ in range(6)] + [server.open("/raw?room=chat:1")]
    outside = member(server, "chat:2")
    server.command({"op": "disconnect", "room": "chat:1", "code": 4002})
    for client in inside:
        assert client.events()[-1][:2] == ("close", 4002)
    outside.send_json({"type": "ping", "id": 1})
    assert outside.receive_json() == {"type": "pong", "id": 1}


def test_commands_for_connections_that_do_not_exist(server):
    for op in ("join", "leave", "disconnect"):
        (result,) = server.command({"op": op, "conn": "c_nobody", "room": "chat:1"})
        assert isinstance(result, dict)
    (result,) = server.command({"op": "disconnect", "conn": "not even an id"})
    assert isinstance(result, dict)


@pytest.mark.parametrize(
    "command",
    [
        {"op": "publish", "data": 1},
        {"op": "publish", "room": "a b", "data": 1},
        {"op": "publish", "room": "chat:1"},
        {"op": "publish", "room": "chat:1", "data": 1, "data64": "AA=="},
        {"op": "publish", "room": "chat:1", "data64": "%%%"},
        {"op": "publish", "room": "chat:1", "rooms": ["chat:2"], "data": 1},
        {"op": "publish", "rooms": [], "data": 1},
        {"op": "publish", "rooms": ["chat:1", 5], "data": 1},
        {"op": "join", "room": "chat:1"},
        {"op": "join", "conn": "c_x"},
        {"op": "disconnect"},
        {"op": "disconnect", "conn": "c_x", "code": 1005},
        {"op": "disconnect", "conn": "c_x", "code": 999},
        {"op": "disconnect", "conn": "c_x", "reason": "x" * 124},
        {"op": "dance"},
        {"op": 5},
        {},
    ],
    ids=json.dumps,
)
def test_bad_command(server, command):
    reply = server.control("POST", "/v1/commands", command)
    assert reply.status == 400
    (result,) = reply.json()["results"]
    assert result["error"]["code"] == 400 and result["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"x", b"5", b"[", b"[]x", b'{"op":"publish"', b'"op"', b"\xff", b"[" * 10000])
def test_body_that_is_no_command(server, body):
    reply = server.control("POST", "/v1/commands", body)
    assert reply.status == 400
    answer = reply.json()  # what is no array counts as one command
    assert (answer["results"][0] if "results" in answer else answer)["error"]["message"]


def test_empty_array(server):
    assert server.control("POST", "/v1/commands", []).json() == {"results": []}


# Lists


def test_rooms(server):
    clients = [member(server, f"chat:{i % 3}") for i in range(7)]
    assert server.rooms() == {"chat:0": 3, "chat:1": 2, "chat:2": 2}
    room = server.get("/v1/rooms/chat%3A0")
    assert room["room"] == "chat:0" and room["members"] == 3
    clients[0].finish()
    wait_until(lambda: server.members("chat:0") == 2, "still three")


def test_connections(server):
    clients = [member(server, f"chat:{i % 2}") for i in range(5)]
    ids = [client.conn for client in clients]
    assert sorted(server.connection_ids()) == sorted(ids)
    assert sorted(server.connection_ids(room="chat:0")) == sorted(ids[0::2])
    assert server.connection_ids(room="chat:none") == []
    first = server.connection_ids(limit=2)
    assert len(first) == 2
    rest = server.connection_ids(after=first[-1])
    assert sorted(first + rest) == sorted(ids)
    entry = server.get("/v1/connections?limit=1")["connections"][0]
    assert entry["ip"] == "127.0.0.1"


# HTTP of the control API


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/room", "/v1/statusx", "/v2/status"])
def test_404(server, path):
    expect_api_error(server.control("GET", path), 404)


@pytest.mark.parametrize(
    "method,path",
    [("GET", "/v1/commands"), ("POST", "/v1/status"), ("DELETE", "/v1/rooms/chat%3A1"), ("PUT", "/healthz")],
)
def test_405(server, method, path):
    expect_api_error(server.control(method, path), (404, 405))


def test_several_requests_on_one_connection(server):
    connection = UnixConnection(server.control_path)
    for _ in range(3):
        connection.request("GET", "/v1/status")
        assert connection.getresponse().read().startswith(b"{")
        connection.request("POST", "/v1/rooms/chat%3A1", body=b"1")
        assert json.loads(connection.getresponse().read())["receivers"] == 0
    connection.close()


def raw_control(server, wire):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(TIMEOUT)
        s.connect(server.control_path)
        s.sendall(wire)
        return s.recv(65536)


@pytest.mark.parametrize(
    "wire,status",
    [
        (b"garbage\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\nHost: x\n\n", 400),
        (b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 17000 + b"\r\n\r\n", 431),
    ],
    ids=range(7),
)
def test_bad_requests(server, wire, status):
    assert raw_control(server, wire).startswith(b"HTTP/1.1 %d " % status)


def test_client_that_leaves_inside_a_request(server):
    for wire in (b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{", b"GET /v1/st", b""):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(server.control_path)
            s.sendall(wire)
    assert server.control("GET", "/healthz").status == 200


# The TCP address and its token


def tcp(server, method, path, body=None, headers=None):
    host, port = server.control_tcp_address()
    return http_request(http.client.HTTPConnection(host, port, timeout=TIMEOUT), method, path, body, headers)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer sesame4"}, {"Authorization": "Bearer sesame421"},
     {"Authorization": "Bearer "}, {"Authorization": "sesame42"}, {"Authorization": "Basic sesame42"}],
    ids=str,
)  # fmt: skip
def test_401_without_the_token(server, headers):
    for method, path in [("GET", "/v1/status"), ("POST", "/v1/commands"), ("GET", "/v1/nothing")]:
        reply = tcp(server, method, path, headers=headers)
        expect_api_error(reply, 401)
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_token(server, scheme):
    client = member(server)
    headers = {"Authorization": f"{scheme} sesame42"}
    assert tcp(server, "GET", "/v1/status", headers=headers).json()["connections"] == 1
    reply = tcp(server, "POST", "/v1/rooms/chat%3A1", b'"by tcp"', headers)
    assert reply.json()["receivers"] == 1
    assert client.receive_json()["data"] == "by tcp"


def test_unix_socket_needs_no_token_and_is_not_for_everybody(server):
    mode = os.stat(server.control_path).st_mode
    assert stat.S_ISSOCK(mode) and not mode & stat.S_IRWXO


def test_token_is_not_in_the_log(server):
    assert "sesame42" not in server.log()


# belfryctl


def ctl(server, *arguments):
    result = server.ctl(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_ctl_status_and_lists(server):
    client = member(server)
    assert "connections" in ctl(server, "status")
    assert json.loads(ctl(server, "--json", "status"))["connections"] == 1
    assert "chat:1" in ctl(server, "rooms")
    assert json.loads(ctl(server, "--json", "room", "chat:1"))["members"] == 1
    assert client.conn in ctl(server, "connections")
    assert client.conn in ctl(server, "connections", "--room", "chat:1")
    assert client.conn not in ctl(server, "connections", "--room", "chat:2")


def test_ctl_publish(server):
    client = member(server, "chat:\u00e9/1")
    ctl(server, "publish", "chat:\u00e9/1", '{"a" : 1}')
    assert '"data":{"a" : 1}' in client.receive_text()


def test_ctl_command_and_disconnect(server):
    one, two = member(server), member(server)
    out = ctl(server, "--json", "command", '{"op":"publish","room":"chat:1","data":5}')
    assert json.loads(out)["results"][0]["receivers"] == 2
    assert one.receive_json()["data"] == two.receive_json()["data"] == 5
    ctl(server, "disconnect", "--conn", one.conn, "--code", "4007", "--reason", "bye")
    assert one.events()[-1] == ("close", 4007, "bye")
    ctl(server, "disconnect", "--room", "chat:1")
    assert two.events()[-1][:2] == ("close", 4403)


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["publish"], ["publish", "chat:1"], ["room"], ["disconnect"], ["command", "{"]]
)
def test_ctl_mistakes(server, arguments):
    result = server.ctl(*arguments)
    assert result.returncode not in (0, -6, -11)
    assert result.stderr


def test_ctl_without_a_daemon(server, tmp_path):
    command = [build_directory() / "belfryctl", "-s", tmp_path / "none", "status"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert result.returncode != 0
    assert "none" in result.stderr


# End


def test_sigterm_says_goodbye(start):
    server = start("[route /json]\nmode = rooms\nprotocol = json\n[route /raw]\nmode = rooms\nprotocol = raw\n")
    client, raw = server.open_json("/json"), server.open("/raw")
    server.process.terminate()
    events = client.events()
    bye = json.loads(events[0][1])
    assert bye["type"] == "bye" and bye["reconnect"] is True
    assert events[-1][0] == "close" and events[-1][1] in (1001, 1012, 4503)
    assert raw.events()[-1][:2] == events[-1][:2]
    server.stop()


def test_restart_on_the_same_unix_socket(start, tmp_path):
    path = tmp_path / "edge.sock"
    config = f"[listener public]\nlisten = unix:{path}\n[route /]\nmode = rooms\nprotocol = raw\n"
    server = start(config)
    assert server.address() == str(path)
    server.open("/").finish()
    server.kill()  # leaves the socket behind
    again = start(config)
    again.open("/").finish()


@pytest.mark.parametrize("room", ["@all", "@conn:x", "@user:1"])
@pytest.mark.parametrize("op", ["join", "leave"])
def test_reserved_rooms_are_not_joined(start, op, room):
    # Over Redis a join of @conn:ID delivered twice, and one of @all kept the broker from ever being ready again.
    server = start(RESERVED_CONFIG)
    client = server.open_json("/ws")
    reply = server.control("POST", "/v1/commands", {"op": op, "conn": client.welcome["conn"], "room": room})
    assert reply.status == 400
    assert "@" in reply.json()["results"][0]["error"]["message"]


def test_nothing_follows_our_close(start):
    server = start(RESERVED_CONFIG)
    client = server.open_json("/ws")
    client.send_json({"type": "join", "id": 1, "room": "r"})
    client.receive_json()
    conn = client.welcome["conn"]
    server.command({"op": "disconnect", "conn": conn}, {"op": "leave", "conn": conn, "room": "r"})
    assert client.receive_json()["type"] == "bye"
    assert client.receive()[0] == "close"
    client.send(ws.close(4403))
    client.expect_end()


RESERVED_CONFIG = "[route /ws]\n[room *]\njoin = anyone\npublish = members\n"
