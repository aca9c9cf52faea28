"""Presence over two nodes and one Redis: counts, nodes that die or stop, a Redis that forgets."""

import signal
import time

import pytest

from belfry import wait_until
from hook_backend import HookBackend, hook_config
from test_presence import ROOMS, ask, by_query, conns, event, members, session


@pytest.fixture
def backend():
    with HookBackend(connect=by_query) as b:
        yield b


@pytest.fixture
def pair(start, backend, redis):
    config = hook_config(backend, route="connect_hook = always\n", more=ROOMS)
    config += f"[broker]\ntype = redis\nurl = {redis.url}\n"
    nodes = [start(config), start(config)]
    wait_until(lambda: all(n.status()["nodes"]["others"] == 1 for n in nodes), "they do not see each other")
    return nodes


def wait_members(client, room, *expected):
    want = sorted(c.id for c in expected)
    wait_until(lambda: conns(members(client, room)) == want, lambda: members(client, room), 20)


def wait_event(client, what, seconds=20):
    """The next member event, however long it takes."""
    client.timeout = seconds
    found = client.receive_json()
    assert found["type"] == "member" and found["event"] == what, found
    return found


def keys(redis):
    client = redis.client()
    found = sorted(k.decode() for k in client.call("KEYS", "belfry:*") if not k.startswith(b"belfry:command"))
    client.close()
    return found


def test_both_nodes_list_all(pair):
    one, two = pair
    a, b = session(one, "56", "quiet:1"), session(two, "57", "quiet:1")
    wait_members(a, "quiet:1", a, b)
    assert members(a, "quiet:1")["count"] == members(b, "quiet:1")["count"] == 2
    assert one.get("/v1/rooms/quiet:1")["count"] == 2
    more = [session(node, "", "quiet:1") for node in pair for _ in range(100)]
    wait_members(b, "quiet:1", a, b, *more)
    for client in more[50:150]:
        client.drop()
    wait_members(a, "quiet:1", a, b, *more[:50], *more[150:])


def test_a_user_on_two_nodes_joins_and_leaves_once(pair):
    one, two = pair
    a = session(one, "", "loud:1")
    assert a.receive_json()["event"] == "join"
    b = session(one, "57", "loud:1")
    assert a.receive_json() == event("loud:1", "join", b, "57")
    c = session(two, "57", "loud:1")
    b.drop()
    a.expect_silence(4)
    assert conns(members(a, "loud:1")) == sorted([a.id, c.id])
    for node in (one, two, one):  # a reload that comes to the other node
        c.drop()
        c = session(node, "57", "loud:1")
    a.expect_silence(4)
    c.drop()
    assert wait_event(a, "leave") == event("loud:1", "leave", c, "57")


def test_the_members_of_a_killed_node_leave(pair, redis):
    one, two = pair
    a = session(one, "", "loud:1")
    assert a.receive_json()["event"] == "join"
    b, both = session(two, "57", "loud:1"), session(two, "58", "loud:1")
    other = session(one, "58", "loud:1")
    quiet = session(two, "59", "quiet:1")
    watcher = session(one, "", "quiet:1")
    for _ in range(2):
        assert a.receive_json()["event"] == "join"
    wait_members(watcher, "quiet:1", watcher, quiet)
    killed = time.monotonic()
    two.kill()
    found = wait_event(a, "leave")
    took = time.monotonic() - killed
    assert found == {**event("loud:1", "leave", b, "57"), "cause": "node_lost"}
    wait_members(a, "loud:1", a, other)
    wait_members(watcher, "quiet:1", watcher)
    print(f"the members of a killed node left after {took:.1f} s")
    assert 5 < took < 15  # what the lease bounds
    assert both.id not in conns(members(a, "loud:1"))
    a.expect_silence(4)  # 58 is still there
    wait_until(lambda: one.status()["nodes"]["tidied"] == 1, "it is not done")
    wait_until(lambda: f"belfry:node:{b.id[2:6]}:rooms" not in keys(redis), lambda: keys(redis))


def test_a_node_that_stops_in_order_takes_its_members_along(pair, redis):
    one, two = pair
    a = session(one, "", "loud:1")
    assert a.receive_json()["event"] == "join"
    b = session(two, "57", "loud:1")
    assert a.receive_json()["event"] == "join"
    two.process.send_signal(signal.SIGTERM)
    b.drop()
    assert wait_event(a, "leave") == event("loud:1", "leave", b, "57")
    two.process.wait(10)
    assert conns(members(a, "loud:1")) == [a.id]
    assert not any(k.startswith(f"belfry:node:{b.id[2:6]}") for k in keys(redis))
    wait_until(lambda: one.status()["nodes"]["others"] == 0, "it is not seen")
    assert one.status()["nodes"]["lost"] == 0


def test_a_redis_that_comes_back_empty_is_told_again(pair, redis):
    one, two = pair
    a, b = session(one, "56", "loud:1"), session(two, "57", "loud:1")
    wait_members(a, "loud:1", a, b)
    for client in (a, b):  # the joins are read
        ask(client, type="ping", id=3)
    redis.kill()
    wait_until(lambda: not one.status()["broker"]["ready"], "it has not noticed")
    assert members(a, "loud:1")["code"] == 503
    b.drop()
    c = session(two, "58")
    redis.start()
    back = time.monotonic()
    assert ask(c, type="join", id=1, room="loud:1")["type"] == "ok"
    wait_until(lambda: members(a, "loud:1")["type"] == "ok", "it does not come back")
    wait_members(a, "loud:1", a, c)
    assert time.monotonic() - back < 10


def test_a_flush_loses_nobody(pair, redis):
    one, two = pair
    a, b = session(one, "56", "loud:1"), session(two, "57", "loud:1")
    for _ in range(2):
        assert a.receive_json()["event"] == "join"
    client = redis.client()
    client.call("FLUSHALL")
    client.close()
    wait_members(b, "loud:1", a, b)
    a.expect_silence(4)  # nobody came, nobody left
    b.drop()
    assert wait_event(a, "leave") == event("loud:1", "leave", b, "57")


def test_a_node_that_slept_too_long_is_there_again(pair):
    one, two = pair
    a, b = session(one, "", "loud:1"), session(two, "57", "loud:1")
    for _ in range(2):
        assert a.receive_json()["event"] == "join"
    two.freeze()
    try:
        found = wait_event(a, "leave")
        assert found["member"]["conn"] == b.id and found["cause"] == "node_lost"
    finally:
        two.thaw()
    assert wait_event(a, "join") == event("loud:1", "join", b, "57")
    wait_members(a, "loud:1", a, b)


def test_scripts_may_be_flushed(pair, redis):
    one, two = pair
    a = session(one, "", "quiet:1")
    wait_members(a, "quiet:1", a)
    client = redis.client()
    client.call("SCRIPT", "FLUSH")
    b = session(two, "", "quiet:1")
    client.call("SCRIPT", "FLUSH")
    wait_members(a, "quiet:1", a, b)
    client.close()


def test_what_others_write_there_does_no_harm(pair, redis):
    one, two = pair
    a, b = session(one, "56", "quiet:1"), session(two, "57", "quiet:1")
    wait_members(a, "quiet:1", a, b)
    client = redis.client()
    odd = {"x": "{}", "c_" + "y" * 20: '{"info":', "c_" + "z" * 20: '{"info":[1,2', "c_é": "1"}
    for field, value in odd.items():
        client.call("HSET", "belfry:member:{quiet:1}", field, value)
    client.call("SADD", "belfry:nodes", "../..", "zzzz")
    client.call("SADD", "belfry:node:zzzz:rooms", "bad room", "quiet:1")
    time.sleep(0.2)
    assert conns(members(a, "quiet:1")) == sorted([a.id, b.id])
    client.call("DEL", "belfry:member:{quiet:1}")
    client.call("SET", "belfry:member:{quiet:1}", "not a hash")
    time.sleep(0.2)
    assert members(a, "quiet:1")["code"] == 503
    client.call("DEL", "belfry:member:{quiet:1}")
    client.close()
