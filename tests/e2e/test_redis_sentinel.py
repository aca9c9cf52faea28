"""Redis Sentinel: the primary dies under flowing messages, hangs, comes back as a replica; sentinels that lie or are away."""

import signal
import time

import pytest
from belfry import wait_until
from flow import Flow, Member, flow_rooms, ready
from redis_sentinel import NAME, Sentinels, wait_for
from redis_server import free_port

ROOMS = flow_rooms(history=500)
BACK_SECONDS = 20


def broker(*options):
    return "[broker]\ntype = redis\n" + "\n".join(options) + "\n"


@pytest.fixture
def sentinels(tmp_path):
    group = Sentinels(tmp_path)
    try:
        yield group.start()
    finally:
        group.stop()


def open_nodes(start, sentinels, count=2):
    nodes = [start(ROOMS + broker(*sentinels.options())) for _ in range(count)]
    for node in nodes:
        wait_until(lambda: ready(node), "not ready by Sentinel")
    return nodes


def settle(flow, members, rooms):
    """A last number that everybody gets."""
    flow.stop()
    for room in rooms:
        last = max(flow.accepted[room])
        for member in members:
            member.wait_for(room, last)


def test_primary_killed_under_flowing_messages(start, sentinels):
    nodes = open_nodes(start, sentinels)
    rooms = ["plain:0", "plain:1", "kept:0", "kept:1"]
    members = [Member(node, rooms) for node in nodes]
    flow = Flow(nodes, rooms).start()
    for member in members:
        for room in rooms:
            member.wait_count(room, 30)

    killed = time.monotonic()
    sentinels.primary.kill()
    flow.wait_all_accepted(killed + 0.5, BACK_SECONDS)
    back = flow.number
    flow.wait_more(50)
    settle(flow, members, rooms)

    for member in members:
        for room in rooms:
            member.check(room, flow, kept=room.startswith("kept"))
            assert set(range(back + 2, flow.number)) & set(flow.accepted[room]) <= set(member.numbers(room))
        for room in rooms[2:]:
            member.positions_follow(room)
    for node in nodes:
        assert node.status()["redis"]["switches"] == 1
        assert node.find_log(f"port {sentinels.replica.port}")

    def canaries():
        return [node.metrics()["belfry_broker_canaries_total", "result=heard"] for node in nodes]

    before = canaries()
    wait_until(lambda: all(now > then for now, then in zip(canaries(), before)), "no canary by the new primary")
    # The old one comes back; Sentinel makes it a replica, and nobody falls for it.
    sentinels.primary.options += ["--replicaof", "127.0.0.1", str(sentinels.replica.port)]
    sentinels.primary.start()
    wait_for(lambda: sentinels.role(sentinels.primary.port)[0] == "slave", "no replica", 20)
    assert nodes[0].publish("plain:0", "0") == 1
    for member in members:
        wait_until(lambda: "0" in map(str, member.numbers("plain:0")), "not delivered")
    assert [node.status()["redis"]["switches"] for node in nodes] == [1, 1]


def test_primary_hangs(start, sentinels):
    """No connection breaks: only Sentinel tells."""
    (node,) = open_nodes(start, sentinels, 1)
    member = Member(node, ["plain:0"])
    assert node.publish("plain:0", "1") == 1
    sentinels.primary.process.send_signal(signal.SIGSTOP)
    try:
        sentinels.wait_switched(sentinels.replica.port)
        wait_until(lambda: node.status()["redis"]["switches"] == 1, "not told of the switch")
        wait_until(lambda: ready(node), "not ready at the new primary")
        assert node.publish("plain:0", "2") == 1
        wait_until(lambda: len(member.numbers("plain:0")) == 2, "not delivered")
        assert member.gaps("plain:0") == 1
    finally:
        sentinels.primary.process.send_signal(signal.SIGCONT)


def test_demoted_while_it_runs(start, sentinels):
    """A failover by hand: the old primary lives on, as a replica that refuses to write."""
    (node,) = open_nodes(start, sentinels, 1)
    member = Member(node, ["kept:0"])
    first = node.command({"op": "publish", "room": "kept:0", "data": 1})[0]
    sentinels.ask(sentinels.ports[0], "SENTINEL", "FAILOVER", NAME)
    sentinels.wait_switched(sentinels.replica.port)
    wait_until(lambda: node.status()["redis"]["switches"] == 1 and ready(node), "not at the new primary", BACK_SECONDS)
    second = node.command({"op": "publish", "room": "kept:0", "data": 2})[0]
    # The new primary had everything: the same life, the next place.
    assert (second["epoch"], second["offset"]) == (first["epoch"], first["offset"] + 1)
    member.wait_for("kept:0", 2)
    assert member.events["kept:0"] == [("message", n, first["epoch"], n) for n in (1, 2)]


def test_sentinels_that_are_away_or_do_not_know(start, sentinels):
    """The first is nobody, the second watches something else, the third one knows."""
    stranger = free_port()
    sentinels.ports.append(stranger)
    sentinels.start_sentinel(stranger)
    wait_for(lambda: sentinels.named(stranger), "no fourth sentinel")
    sentinels.ask(stranger, "SENTINEL", "REMOVE", NAME)
    options = [f"sentinel = 127.0.0.1:{free_port()}, 127.0.0.1:{stranger}, 127.0.0.1:{sentinels.ports[0]}"]
    node = start(ROOMS + broker(*options, f"master_name = {NAME}"))
    wait_until(lambda: ready(node), "not ready by the third")
    assert node.publish("plain:0", "1") == 0


def test_a_stale_answer_is_not_believed(start, sentinels):
    """A sentinel that names a replica: who it is, says ROLE."""
    liar = sentinels.ports[2]
    sentinels.ask(liar, "SENTINEL", "REMOVE", NAME)
    sentinels.ask(liar, "SENTINEL", "MONITOR", "other", "127.0.0.1", sentinels.replica.port, "9")
    node = start(ROOMS + broker(f"sentinel = 127.0.0.1:{liar}", "master_name = other"))
    node.wait_log("no primary")
    assert not ready(node)
    assert not node.find_log("the primary of other is")


def test_sentinels_with_a_password(start, tmp_path):
    group = Sentinels(tmp_path, count=1, password="s3ntinel-secret")
    try:
        group.start()
        node = start(ROOMS + broker(*group.options()))
        wait_until(lambda: ready(node), "not ready")
        wrong = start(ROOMS + broker(*group.options()[:-1], "sentinel_password = wr0ng-secret"))
        wrong.wait_log("AUTH was refused")
        assert not ready(wrong)
        assert not node.find_log("s3ntinel-secret") and not wrong.find_log("wr0ng-secret")
        assert b"secret" not in node.control("GET", "/v1/status").body
    finally:
        group.stop()
