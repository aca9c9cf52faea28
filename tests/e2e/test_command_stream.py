"""XADD belfry:commands: each command is carried out by one node, at least once, and by another where that one dies."""

import json
import time

import pytest

from belfry import wait_until
from test_redis_history import CONFIG, SCRIPT, join

STREAM, GROUP = "belfry:commands", "belfry"
TAKEN_OVER = 30  # seconds: 15 s without an acknowledgement, a look every 5 s, and a slow machine


@pytest.fixture
def nodes(start, redis):
    both = [start(CONFIG.format(url=redis.url)) for _ in range(2)]
    for node in both:
        wait_until(lambda: node.control("GET", "/readyz").status == 200, "a node is not ready")
    return both


@pytest.fixture
def call(redis):
    client = redis.client()
    yield client.call
    client.close()


def add(call, command, field="command"):
    """One command into the stream; its entry's id."""
    return call("XADD", STREAM, "*", field, command if isinstance(command, str) else json.dumps(command)).decode()


def counts(nodes, name):
    return [node.status()["command_stream"][name] for node in nodes]


def wait_group(call, readers=2):
    """Both nodes wait for commands."""
    wait_until(lambda: f"blocked_clients:{readers}\r" in call("INFO", "clients").decode(), "nobody waits for commands")


def wait_empty(call, seconds=10):
    """All is carried out, acknowledged and deleted."""
    wait_until(
        lambda: call("XLEN", STREAM) == 0 and call("XPENDING", STREAM, GROUP)[0] == 0,
        lambda: f"left over: {call('XLEN', STREAM)}, {call('XPENDING', STREAM, GROUP)}",
        seconds,
    )


def publish(room, data, **members):
    return {"op": "publish", "room": room, "data": data, **members}


def test_one_node_carries_out_each(nodes, call):
    wait_group(call)
    clients = [node.open_json("/json") for node in nodes]
    for client in clients:
        join(client, "kept:1")
    for n in range(100):
        add(call, publish("kept:1", n))
    for client in clients:
        got = [client.receive_json() for _ in range(100)]
        assert [message["offset"] for message in got] == list(range(1, 101))
        assert sorted(message["data"] for message in got) == list(range(100))
        client.expect_silence()
    wait_empty(call)
    done = counts(nodes, "done")
    assert sum(done) == 100
    assert counts(nodes, "claimed") == [0, 0] and counts(nodes, "malformed") == [0, 0]


def test_commands_from_before(start, redis, call):
    """What was left while no node was there is carried out by the first."""
    call("EVAL", "return 1", 0)
    for n in range(3):
        add(call, publish("kept:1", n))
    node = start(CONFIG.format(url=redis.url))
    wait_empty(call)
    client = node.open_json("/json")
    result = node.command(publish("kept:1", "now"))[0]
    assert result["offset"] == 4
    answer = join(client, "kept:1", (result["epoch"], 1))
    assert answer["replayed"] == 3
    assert [client.receive_json()["data"] for _ in range(3)] == [1, 2, "now"]


def test_orders_reach_either_node(nodes, call):
    wait_group(call)
    clients = [node.open_json("/json") for node in nodes]
    for client in clients:
        add(call, {"op": "join", "conn": client.welcome["conn"], "room": "kept:1"})
    for node in nodes:
        wait_until(lambda: node.members("kept:1") == 1, "not joined")
    for client in clients:
        add(call, {"op": "disconnect", "conn": client.welcome["conn"], "code": 4001, "reason": "off"})
    for client in clients:
        assert client.events()[-1][:2] == ("close", 4001)
    add(call, {"op": "disconnect", "conn": clients[0].welcome["conn"]})  # gone: nothing is left to be done
    wait_empty(call)
    assert sum(counts(nodes, "done")) == 5


def test_bad_commands_are_dropped(nodes, call):
    wait_group(call)
    add(call, {"op": "explode"})
    add(call, "no json")
    add(call, publish("kept:1", 1), field="cmd")
    add(call, {"op": "join", "conn": "c_x", "room": "@all"})
    add(call, publish("kept:1", "x" * 2000000))
    call("XADD", STREAM, "*", *[word for n in range(100) for word in (f"field{n}", "x")])
    wait_until(lambda: sum(counts(nodes, "malformed")) == 6, lambda: counts(nodes, "malformed"))
    assert any(node.find_log("command stream: an entry was dropped: ") for node in nodes)
    add(call, publish("kept:1", "fine"))
    wait_empty(call)
    assert sum(counts(nodes, "done")) == 1


def idle(call, entry, deliveries):
    """As if a node had taken it 20 s ago, and others before."""
    call("XREADGROUP", "GROUP", GROUP, "dead", "COUNT", 1, "STREAMS", STREAM, ">")
    call("XCLAIM", STREAM, GROUP, "dead", 0, entry, "IDLE", 20000, "RETRYCOUNT", deliveries)


def test_abandoned_commands_are_taken_over(start, redis, call):
    call("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
    idle(call, add(call, publish("kept:1", "again")), 5)
    idle(call, add(call, publish("kept:1", "never")), 6)
    node = start(CONFIG.format(url=redis.url))
    wait_until(lambda: counts([node], "claimed") == [1], "not claimed", 20)
    wait_empty(call)
    assert counts([node], "done") == [1] and counts([node], "dropped") == [1]
    assert node.find_log("command stream: 1 commands could not be carried out 5 times")
    client = node.open_json("/json")
    assert join(client, "kept:1")["offset"] == 1


def pending_of(call, name):
    return [entry[0] for entry in call("XPENDING", STREAM, GROUP, "-", "+", 1000) if entry[1].decode() == name]


def test_a_killed_node_is_replaced(nodes, call):
    """It is killed when Redis has given it commands and before it could acknowledge them."""
    a, b = nodes
    wait_group(call)
    client = b.open_json("/json")
    join(client, "kept:1")
    sent = 0
    name = a.status()["node"]
    for _ in range(30):  # stopped at a moment when it was not waiting for commands: once more
        a.freeze()
        for _ in range(5):
            add(call, publish("kept:1", sent, id=f"n{sent}"))
            sent += 1
            time.sleep(0.02)
        if pending_of(call, name):
            break
        a.thaw()
        time.sleep(0.1)
    assert pending_of(call, name)
    a.kill()
    wait_empty(call, TAKEN_OVER)
    got = [client.receive_json() for _ in range(sent)]
    assert sorted(message["data"] for message in got) == list(range(sent))
    client.expect_silence()
    assert b.status()["command_stream"]["claimed"] >= 1


def test_what_fails_is_tried_again(nodes, call):
    """Redis does not take the message: it is kept until it does."""
    wait_group(call)
    call("SET", "belfry:history:meta:{kept:1}", "no hash")
    add(call, publish("kept:1", "late"))
    wait_until(lambda: sum(counts(nodes, "again")) == 1, "it was not refused")
    assert call("XLEN", STREAM) == 1
    call("DEL", "belfry:history:meta:{kept:1}")
    wait_empty(call, TAKEN_OVER)
    assert sum(counts(nodes, "done")) == 1 and sum(counts(nodes, "claimed")) == 1


def test_consumers_of_nodes_that_are_no_more(start, redis, call):
    """Those without commands are forgotten, the others kept until theirs are taken over."""
    call("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
    call("XGROUP", "CREATECONSUMER", STREAM, GROUP, "young")
    idle(call, add(call, publish("kept:1", 1)), 1)
    script = (SCRIPT.parent / "consumers.lua").read_text()
    assert call("EVAL", script, 1, STREAM, GROUP, 600000) == 0
    assert call("EVAL", script, 1, STREAM, GROUP, 0) == 1
    assert [consumer[1] for consumer in call("XINFO", "CONSUMERS", STREAM, GROUP)] == [b"dead"]
    node = start(CONFIG.format(url=redis.url))
    wait_group(call, 1)
    wait_until(lambda: counts([node], "done") == [1], "not taken over", 20)
    assert "cmdstat_xinfo|consumers" in call("INFO", "commandstats").decode()  # the node looks after them, too


def test_turned_off(start, redis, call):
    node = start(CONFIG.format(url=redis.url) + "command_stream = no\n")
    add(call, publish("kept:1", 1))
    node.command(publish("kept:1", 2))
    time.sleep(0.3)
    assert call("XLEN", STREAM) == 1
    assert "command_stream" not in node.status()
    assert call("XINFO", "GROUPS", STREAM) == []


def test_the_stream_is_deleted(nodes, call):
    """FLUSHALL takes the group along: it is made anew."""
    wait_group(call)
    call("FLUSHALL")
    wait_until(lambda: call("EXISTS", STREAM), "no group", 10)
    add(call, publish("kept:1", 1))
    wait_empty(call)
    assert sum(counts(nodes, "done")) == 1
