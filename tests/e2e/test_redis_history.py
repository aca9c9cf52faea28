"""Rooms that remember, over Redis: two nodes and one history, recovery on either, what backends publish by the script."""

import shutil
import subprocess
from pathlib import Path

import pytest

from belfry import wait_until

SCRIPT = Path(__file__).parents[2] / "conf" / "redis" / "publish.lua"
CONFIG = """
[belfry]
workers = 2

[route /json]
mode = rooms
protocol = json

[room kept:*]
join = anyone
publish = anyone
history = 50
history_ttl = 60s

[room plain:*]
join = anyone
publish = anyone

[broker]
type = redis
url = {url}
"""


@pytest.fixture
def nodes(start, redis):
    """Two daemons on one Redis."""
    both = [start(CONFIG.format(url=redis.url)) for _ in range(2)]
    for node in both:
        wait_until(lambda: node.control("GET", "/readyz").status == 200, "a node is not ready")
    return both


@pytest.fixture
def call(redis):
    """Commands to Redis, as a backend sends them."""
    client = redis.client()
    yield client.call
    client.close()


def publish(node, room, data, **members):
    """The control API's result of one publish."""
    (result,) = node.command({"op": "publish", "room": room, "data": data, **members})
    assert "offset" in result, result
    return result


def join(client, room, since=None):
    """Joins and returns the answer; `since` is (epoch, offset)."""
    request = {"type": "join", "id": 1, "room": room}
    if since:
        request["since"] = {"epoch": since[0], "offset": since[1]}
    client.send_json(request)
    answer = client.receive_json()
    assert (answer["type"], answer["id"]) == ("ok", 1), answer
    return answer


def messages(client, count):
    """That many messages: [(offset, data)]."""
    received = [client.receive_json() for _ in range(count)]
    assert all(message["type"] == "message" for message in received), received
    return [(message["offset"], message["data"]) for message in received]


def eval_script(call, room, payload, *, history=50, message_id=None, head=""):
    """What a backend without Belfry does: [epoch, offset, duplicate, subscribers]."""
    keys = [f"belfry:history:{{{room}}}", f"belfry:history:meta:{{{room}}}"]
    if message_id:
        keys.append(f"belfry:history:id:{{{room}}}:{message_id}")
    arguments = [f"belfry:message:{room}", head, payload, history, 60000, 300000, "", 0]
    epoch, *rest = call("EVAL", SCRIPT.read_text(), len(keys), *keys, *arguments)
    return [epoch.decode(), *rest]


def test_history_from_either_node(nodes):
    a, b = nodes
    first = publish(a, "kept:1", "one")
    assert first["offset"] == 1
    for offset, (node, data) in enumerate([(b, "two"), (a, "three"), (b, "four")], start=2):
        result = publish(node, "kept:1", data)
        assert (result["epoch"], result["offset"]) == (first["epoch"], offset)
    for node in nodes:
        client = node.open_json("/json")
        answer = join(client, "kept:1", (first["epoch"], 1))
        assert answer == {
            "type": "ok",
            "id": 1,
            "room": "kept:1",
            "epoch": first["epoch"],
            "offset": 4,
            "recovered": True,
            "replayed": 3,
        }
        assert messages(client, 3) == [(2, "two"), (3, "three"), (4, "four")]
        client.expect_silence()
    publish(a, "kept:1", "five")
    for node in nodes:
        assert messages(node.clients[0], 1) == [(5, "five")]


def test_a_client_moves_to_the_other_node(nodes):
    a, b = nodes
    client = a.open_json("/json")
    answer = join(client, "kept:1")
    assert answer["offset"] == 0 and answer["epoch"]
    publish(b, "kept:1", "one")
    assert messages(client, 1) == [(1, "one")]
    a.kill()
    publish(b, "kept:1", "two")
    client = b.open_json("/json")
    answer = join(client, "kept:1", (answer["epoch"], 1))
    assert (answer["recovered"], answer["replayed"]) == (True, 1)
    assert messages(client, 1) == [(2, "two")]


def test_many_joiners_are_one_read(nodes):
    a, b = nodes
    epoch = publish(a, "kept:1", 1)["epoch"]
    for n in range(2, 21):
        publish(a, "kept:1", n)
    clients = [b.open_json("/json") for _ in range(1000)]
    request = {"type": "join", "id": 1, "room": "kept:1", "since": {"epoch": epoch, "offset": 10}}
    for client in clients:
        client.send_json(request)
    for client in clients:
        answer = client.receive_json()
        assert (answer["recovered"], answer["replayed"]) == (True, 10), answer
        assert messages(client, 10) == [(n, n) for n in range(11, 21)]
    assert b.status()["broker"]["history_reads"] <= 2
    assert a.status()["broker"]["history_reads"] == 0


def test_a_backend_publishes_by_the_script(nodes, call):
    clients = [node.open_json("/json") for node in nodes]
    for client in clients:
        join(client, "kept:1")
    epoch, offset, duplicate, subscribers = eval_script(call, "kept:1", '{"state":"paid"}')
    assert (offset, duplicate, subscribers) == (1, 0, 2)
    for client in clients:
        message = client.receive_json()
        assert (message["epoch"], message["offset"], message["data"]) == (epoch, 1, {"state": "paid"}), message
        assert "from" not in message and message["time"] > 1600000000000
    # What is no JSON comes as after PUBLISH belfry:room:ROOM; a head of one's own says more.
    eval_script(call, "kept:1", "not {json")
    head = '{"v":1,"node":"shop","seq":1,"kind":"json","from":{"user":"5"},"time":1700000000000}'
    eval_script(call, "kept:1", "[1]", head=head)
    for client in clients:
        assert messages(client, 1) == [(2, "not {json")]
        message = client.receive_json()
        assert (message["data"], message["from"], message["time"]) == ([1], {"user": "5"}, 1700000000000)
    # And the nodes' own publishes go on from there.
    result = publish(nodes[0], "kept:1", "next")
    assert (result["epoch"], result["offset"]) == (epoch, 4)
    late = nodes[1].open_json("/json")
    assert join(late, "kept:1", (epoch, 1))["replayed"] == 3
    assert messages(late, 3) == [(2, "not {json"), (3, [1]), (4, "next")]


def test_the_scripts_own_example(nodes, redis):
    """As it stands in its head."""
    client = nodes[0].open_json("/json")
    join(client, "kept:77")
    lines = SCRIPT.read_text().splitlines()
    (at,) = [i for i, line in enumerate(lines) if "redis-cli --eval" in line]
    words = " ".join(line.removeprefix("--").strip() for line in lines[at : at + 2])
    assert "order:77" in words
    words = words.replace("order:77", "kept:77").replace("redis-cli", f"{shutil.which('redis-cli')} -p {redis.port}")
    subprocess.run(words, shell=True, check=True, cwd=SCRIPT.parent, timeout=10, capture_output=True)
    assert messages(client, 1) == [(1, {"state": "paid"})]


def test_an_id_is_published_once(nodes, call):
    a, b = nodes
    client = a.open_json("/json")
    join(client, "kept:1")
    first = publish(a, "kept:1", "one", id="order-77")
    assert "duplicate" not in first
    for _ in range(2):
        again = publish(b, "kept:1", "again", id="order-77")
        assert (again["epoch"], again["offset"], again["duplicate"]) == (first["epoch"], 1, True)
        assert again["receivers"] == 0
    assert eval_script(call, "kept:1", '"again"', message_id="order-77") == [first["epoch"], 1, 1, 0]
    assert publish(b, "kept:2", "other room", id="order-77")["offset"] == 1
    publish(b, "kept:1", "two", id="order-78")
    assert messages(client, 2) == [(1, "one"), (2, "two")]
    assert b.status()["broker"]["duplicates"] == 2
    # Without history, too.
    join(client, "plain:1")
    for node in (a, b):
        (result,) = node.command({"op": "publish", "room": "plain:1", "data": 1, "id": "x"})
        assert result.get("duplicate", False) == (node is b)
    node.command({"op": "publish", "room": "plain:1", "data": 2})
    assert [client.receive_json()["data"] for _ in range(2)] == [1, 2]


def test_scripts_are_lost(nodes, call):
    a, b = nodes
    client = a.open_json("/json")
    epoch = join(client, "kept:1")["epoch"]
    for offset in range(1, 7):
        if offset % 2:
            assert call("SCRIPT", "FLUSH") == "OK"
        assert publish(nodes[offset % 2], "kept:1", offset)["offset"] == offset
    assert messages(client, 6) == [(n, n) for n in range(1, 7)]
    call("SCRIPT", "FLUSH")
    late = b.open_json("/json")
    assert join(late, "kept:1", (epoch, 2))["replayed"] == 4


def test_an_emptied_redis_is_a_new_epoch(nodes, call):
    a, b = nodes
    client = a.open_json("/json")
    old = join(client, "kept:1")["epoch"]
    publish(b, "kept:1", "one")
    assert messages(client, 1) == [(1, "one")]
    call("FLUSHALL")
    new = publish(b, "kept:1", "two")
    assert new["offset"] == 1 and new["epoch"] != old
    assert client.receive_json() == {"type": "gap", "room": "kept:1"}
    message = client.receive_json()
    assert (message["epoch"], message["offset"], message["data"]) == (new["epoch"], 1, "two")
    for node in nodes:
        late = node.open_json("/json")
        answer = join(late, "kept:1", (old, 1))
        assert answer["recovered"] is False and (answer["epoch"], answer["offset"]) == (new["epoch"], 1)
        late.expect_silence()


def test_a_broken_link_is_filled_from_history(nodes, call):
    """One node's subscriber is cut off again and again while the other publishes: no gap, nothing twice."""
    a, b = nodes
    client = a.open_json("/json")
    join(client, "kept:1")
    sent = 0
    for _ in range(5):
        for _ in range(8):
            sent += 1
            publish(b, "kept:1", sent)
        # Only a's: b has no members, but its subscriber is killed with it; publishing over b goes on all the same.
        assert call("CLIENT", "KILL", "TYPE", "pubsub") >= 1
        wait_until(lambda: b.control("GET", "/readyz").status == 200, "the other node is not ready again")
    publish(b, "kept:1", sent + 1)
    assert messages(client, sent + 1) == [(n, n) for n in range(1, sent + 2)]
    client.expect_silence()
    assert a.status()["broker"]["reconnects"] >= 1


def test_bad_entries_are_not_replayed(nodes, call):
    """Somebody else has written into the history: nothing of it reaches a client, and it is counted."""
    a, _ = nodes
    epoch = publish(a, "kept:1", "one")["epoch"]
    call("HINCRBY", "belfry:history:meta:{kept:1}", "o", 1)
    call("XADD", "belfry:history:{kept:1}", "2-0", "m", b'{"v":1}\n{"evil":')
    publish(a, "kept:1", "three")
    client = a.open_json("/json")
    answer = join(client, "kept:1", (epoch, 0))
    assert answer["recovered"] is False and answer["offset"] == 3
    client.expect_silence()
    assert a.status()["broker"]["malformed"] >= 1
    publish(a, "kept:1", "four")
    assert messages(client, 1) == [(4, "four")]


def test_a_broken_link_is_told_where_history_can_not_fill_it(nodes, call):
    """What a backend publishes past history (PUBLISH PREFIXroom:ROOM) is in no history: what was lost of it is told."""
    client = nodes[0].open_json("/json")
    join(client, "kept:bare")
    call("PUBLISH", "belfry:room:kept:bare", "1")
    assert client.receive_json()["data"] == 1
    assert call("CLIENT", "KILL", "TYPE", "pubsub") >= 1
    assert client.receive_json() == {"type": "gap", "room": "kept:bare"}
    call("PUBLISH", "belfry:room:kept:bare", "2")
    assert client.receive_json()["data"] == 2
