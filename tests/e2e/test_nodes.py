"""Two Belfries on one Redis are one system: rooms, users, orders to connections of the other node, receivers of both."""

import json
import threading
import time

import pytest

from belfry import wait_until
from hook_backend import HookBackend, hook_config
from sse import Carrier, Poller, Reader

ROOMS = """
[room *]
join = anyone
publish = anyone

[room kept:*]
join = anyone
publish = anyone
history = 10
"""
BROKER = "[broker]\ntype = redis\nurl = {url}\n"


def by_query(call):
    user = call.body["query"].get("user")
    return {"user": user} if user else None


def ban(call):
    return {"data": 1, "commands": [{"op": "disconnect", "user": call.body["data"], "reason": "by hook"}]}


@pytest.fixture
def nodes(start, redis):
    """Two nodes; ?user=NAME names a client's user."""
    with HookBackend(connect=by_query, call=ban) as backend:
        text = hook_config(backend, route="connect_hook = always\npoll_timeout = 2s\npoll_wait = 2s\n", more=ROOMS) + BROKER.format(url=redis.url)
        servers = [start(text) for _ in range(2)]
        for server in servers:
            wait_until(lambda: server.control("GET", "/readyz").status == 200, "not ready")
        for server in servers:
            wait_until(lambda: server.status()["nodes"]["others"] == 1, "they do not know each other")
        yield servers


def join(client, room, number=1):
    client.send_json({"type": "join", "id": number, "room": room})
    while (answer := client.receive_json())["type"] == "message":
        pass  # of a room that it is in already
    assert answer["type"] == "ok", answer
    return answer


def post(server, *commands, query=""):
    return server.control("POST", "/v1/commands" + query, commands[0] if len(commands) == 1 else list(commands))


def test_a_room_over_both(nodes):
    near, far = nodes
    members = [near.open_json("/ws"), far.open_json("/ws"), far.open_json("/ws")]
    for member in members:
        join(member, "lobby")
    members[0].send_json({"type": "publish", "id": 2, "room": "lobby", "data": "hello", "echo": False})
    assert members[0].receive_json()["type"] == "ok"
    for member in members[1:]:
        message = member.receive_json()
        assert (message["type"], message["data"]) == ("message", "hello")
        assert message["from"]["conn"] == members[0].welcome["conn"]


def test_receivers_of_all_nodes_on_request(nodes):
    near, far = nodes
    members = [near.open_json("/ws"), *(far.open_json("/ws") for _ in range(3))]
    for room in ("lobby", "kept:1"):
        for member in members:
            join(member, room)
        command = {"op": "publish", "room": room, "data": 1}
        (own,) = post(near, command).json()["results"]
        assert own["receivers"] == 1
        (both,) = post(near, command, query="?receivers=all").json()["results"]
        assert both["receivers"] == 4, both
        reply = near.control("POST", f"/v1/rooms/{room}?receivers=all", b"1")
        assert reply.json()["receivers"] == 4
    (both,) = post(near, {"op": "publish", "room": "nobody", "data": 1}, query="?receivers=all").json()["results"]
    assert both["receivers"] == 0
    reply = post(near, {"op": "publish", "room": "lobby", "data": 1}, query="?receivers=some")
    assert reply.status == 400 and "receivers" in reply.json()["error"]["message"]
    asked, heard = (node.status()["peers"] for node in nodes)
    assert asked["asked"] == asked["answered"] == heard["heard"] == 5, (asked, heard)  # once for each publish of "all"
    assert asked["heard"] == heard["asked"] == 0
    for counts in (asked, heard):
        for name in ("under_way", "timed_out", "refused", "malformed", "late", "receipts_forgotten"):
            assert counts[name] == 0, (name, counts)


def test_receivers_of_a_node_that_is_gone(nodes):
    """Who does not answer in time is not waited for longer, and the answer says so."""
    near, far = nodes
    member = near.open_json("/ws")
    join(member, "lobby")
    stranger = far.open_json("/ws")
    join(stranger, "lobby")
    stranger.drop()
    far.kill()
    began = time.monotonic()
    (result,) = post(near, {"op": "publish", "room": "lobby", "data": 1}, query="?receivers=all").json()["results"]
    assert result["receivers"] == 1
    assert time.monotonic() - began < 6


def test_orders_reach_the_other_nodes_connections(nodes):
    near, far = nodes
    client = far.open_json("/ws?user=ann")
    conn = client.welcome["conn"]
    assert post(near, {"op": "join", "conn": conn, "room": "orders"}).status == 200
    wait_until(lambda: far.members("orders") == 1, "not joined")
    assert post(near, {"op": "leave", "conn": conn, "room": "orders"}).status == 200
    assert client.receive_json() == {"type": "removed", "room": "orders", "reason": "kicked"}
    assert post(near, {"op": "join", "user": "ann", "room": "orders"}).status == 200
    wait_until(lambda: far.members("orders") == 1, "not joined by user")
    other = near.open_json("/ws?user=ann")
    assert post(near, {"op": "disconnect", "user": "ann", "code": 4403, "reason": "banned"}).status == 200
    for one in (client, other):
        bye = one.receive_json()
        assert (bye["type"], bye["code"], bye["reason"]) == ("bye", 4403, "banned")
        assert one.receive() == ("close", 4403, "banned")


def test_orders_to_nobody(nodes):
    near, far = nodes
    conn = far.open_json("/ws").welcome["conn"]
    for command in (
        {"op": "disconnect", "user": "nobody"},
        {"op": "disconnect", "conn": "c_AAAA" + conn[6:]},  # no such node
    ):
        reply = post(near, command)
        assert reply.status == 404, (command, reply.status, reply.body)
    ok = near.open_json("/ws")
    results = post(near, {"op": "disconnect", "user": "nobody"}, {"op": "join", "conn": ok.welcome["conn"], "room": "a"})
    assert results.status == 200
    first, second = results.json()["results"]
    assert first["error"]["code"] == 404 and second == {}


def test_a_room_is_disconnected_everywhere(nodes):
    near, far = nodes
    members = [near.open_json("/ws"), far.open_json("/ws")]
    for member in members:
        join(member, "closing")
    assert post(near, {"op": "disconnect", "room": "closing", "reason": "over"}).status == 200
    for member in members:
        assert member.receive_json()["type"] == "bye"


def test_a_hooks_order_reaches_the_other_node(nodes):
    near, far = nodes
    client = far.open_json("/ws?user=bob")
    caller = near.open_json("/ws")
    caller.send_json({"type": "call", "id": 5, "method": "ban", "data": "bob"})
    assert caller.receive_json()["type"] == "ok"
    assert client.receive_json()["reason"] == "by hook"


def test_a_message_to_one_connection_of_the_other_node(nodes):
    near, far = nodes
    client = far.open_json("/ws")
    reply = near.control("POST", f"/v1/rooms/%40conn:{client.welcome['conn']}", b'"psst"')
    assert reply.status == 200
    assert client.receive_json()["data"] == "psst"


# Sessions without WebSocket: their requests may arrive at any node.


def test_a_post_finds_its_stream_on_the_other_node(nodes):
    near, far = nodes
    reader = Reader(far.address(), "/ws?user=ann")
    connection = reader.welcome()["connection"]
    carrier = Carrier(near.address(), "/ws?user=ann")
    answer = carrier.post(connection, {"type": "join", "id": 1, "room": "kept:1"})
    assert (answer.status, json.loads(answer.body)["type"]) == (200, "ok"), answer.body
    answer = carrier.post(connection, {"type": "publish", "id": 2, "room": "kept:1", "data": "across"})
    assert json.loads(answer.body)["offset"] == 1
    reader.json(type="message", room="kept:1", data="across", offset=1)
    answer = carrier.post(connection, {"type": "leave", "id": 3, "room": "nowhere"})
    assert (answer.status, json.loads(answer.body)["code"]) == (404, 404), answer.body
    answer = carrier.post(connection, b"no object")
    assert answer.status == 400
    carrier.drop()
    reader.drop()


def test_a_poll_finds_its_session_on_the_other_node(nodes):
    near, far = nodes
    poller = Poller(far.address(), "/ws")
    poller.welcome()
    assert poller.send({"type": "join", "id": 1, "room": "lobby"})[1]["type"] == "ok"
    poller.drop()
    poller.address = near.address()  # from now on each request goes to the other node
    assert near.publish("lobby", '"one"') == 0
    poller.receive(type="message", room="lobby", data="one")
    threading.Timer(0.5, lambda: near.publish("lobby", '"two"')).start()  # while the poll waits
    poller.receive(type="message", room="lobby", data="two")
    assert poller.send({"type": "ping", "id": 7}) == (200, {"type": "pong", "id": 7})
    poller.drop()


def test_sessions_that_are_nowhere(nodes):
    near, far = nodes
    reader = Reader(far.address(), "/ws")
    connection = reader.welcome()["connection"]
    carrier = Carrier(near.address(), "/ws")
    conn, _, key = connection.partition(".")
    for wrong in (f"{conn}.{'A' * len(key)}", f"c_AAAA{connection[6:]}", "nonsense"):
        answer = carrier.post(wrong, {"type": "ping", "id": 1})
        assert answer.status in (400, 404), (wrong, answer.status, answer.body)
    answer = carrier.post(connection, {"type": "ping", "id": 1})
    assert (answer.status, json.loads(answer.body)) == (200, {"type": "pong", "id": 1})
    far.kill()
    began = time.monotonic()
    answer = carrier.post(connection, {"type": "ping", "id": 2})
    assert answer.status == 404 and time.monotonic() - began < 5, (answer.status, answer.body)
    carrier.drop()
    reader.drop()
