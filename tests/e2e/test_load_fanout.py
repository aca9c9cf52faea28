"""From PUBLISH to every socket: 10,000 clients over TLS, a real Redis, two worker threads; once, in order, come who may."""

import shutil
import subprocess
import time

import pytest

from load import ROOMS, Swarm, assert_flawless, payload, publish_all, redis_broker

pytestmark = pytest.mark.load
CLIENTS = 10000
MESSAGES = 200


@pytest.fixture
def server(start, redis, certificate):
    return start("[belfry]\nworkers = 2\n" + ROOMS + redis_broker(redis.url) + certificate.listener("public"))


def redis_cli(redis, *words):
    command = [shutil.which("redis-cli") or "redis-cli", "-p", str(redis.port), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def publish_by_hand(redis, rooms, sequence):
    """The same by redis-cli, as somebody at a shell would do it."""
    for room in range(rooms):
        text = payload(sequence, room).decode()
        assert redis_cli(redis, "publish", f"belfry:room:load:{room}", text) == "1"


def test_the_swarm_sees_what_is_wrong(server, redis):
    """The instrument itself: a lost, a doubled, a late and a misrouted message are told apart."""
    with Swarm(server.address(), n=20, rooms=2, tls=True, path="/raw?room=load:%r") as swarm:
        client = redis.client()
        for sequence in (1, 3, 2, 3, 5):  # 2 is late, 3 comes twice, 4 never
            client.publish("belfry:room:load:0", payload(sequence, 0))
        client.publish("belfry:room:load:1", payload(1, 0))
        client.publish("belfry:room:load:1", b"no number")
        client.close()
        swarm.expect(1, 5)
        report = swarm.wait_for(lambda r: r["messages"] == 60 and r["unnumbered"] == 10, "not all came")
        assert (report["reordered"], report["duplicates"]) == (10, 10)
        assert report["missing"] == 10 + 10 * 5  # room 0 lacks one number, room 1 all
        assert report["misrouted"] == 10


@pytest.mark.parametrize("rooms", [1, 1000], ids=["one_room", "thousand_rooms"])
@pytest.mark.parametrize("protocol", ["raw", "json"])
def test_every_member_once_in_order(server, redis, rooms, protocol):
    path = "/raw?room=load:%r" if protocol == "raw" else "/json"
    options = {"n": CLIENTS, "rooms": rooms, "tls": True, "resume_tickets": True}
    with Swarm(server.address(), path=path, protocol=protocol, **options) as swarm:
        status = server.status()
        assert status["connections"] == status["memberships"] == CLIENTS
        assert status["rooms"] == rooms
        by_hand = 3 if rooms == 1 else 0
        client = redis.client()
        publish_all(client, rooms, range(1, MESSAGES + 1))
        for sequence in range(MESSAGES + 1, MESSAGES + by_hand + 1):
            publish_by_hand(redis, rooms, sequence)
        client.close()
        swarm.expect(1, MESSAGES + by_hand)
        report = swarm.wait_complete(120)
        assert_flawless(report, CLIENTS)
        assert report["messages"] == CLIENTS * (MESSAGES + by_hand)
        assert report["gaps"] == 0
        after = server.status()
        assert after["deliveries"] - status["deliveries"] == CLIENTS * (MESSAGES + by_hand)
        assert server.dropped() == 0


@pytest.mark.parametrize("protocol", ["raw", "json"])
def test_joins_and_leaves_meanwhile(server, redis, protocol):
    """Raw clients join by connecting; JSON clients join and leave on a connection that stays."""
    rooms, stayers, churners, messages = 100, 2000, 400, MESSAGES
    path = "/raw?room=load:%r" if protocol == "raw" else "/json"
    options = {"n": stayers, "rooms": rooms, "tls": True, "resume_tickets": True, "protocol": protocol, "path": path}
    rate = 600 if protocol == "raw" else 3000
    with Swarm(server.address(), churn=churners, churn_rate=rate, **options) as swarm:
        client = redis.client()
        swarm.say("churn on")
        for sequence in range(1, messages + 1):
            publish_all(client, rooms, [sequence])
            time.sleep(0.02)
        swarm.say("churn off")
        client.close()
        swarm.expect(1, messages)
        report = swarm.wait_complete(120)
        assert_flawless(report, stayers)
        assert report["messages"] == stayers * messages
        # The churn was there, and saw something of what was published.
        assert report["churn_joins"] > churners and report["churn_leaves"] > churners, report
        assert report["churn_messages"] > churners, report


def test_rooms_that_come_and_go(server, redis):
    """Churn in rooms that nobody stays in: each join subscribes, each leave unsubscribes, and what follows the join's answer
    is an unbroken run."""
    rooms = 500
    options = {"n": 10, "rooms": rooms, "churn": 300, "churn_rate": 3000, "protocol": "json", "path": "/json"}
    with Swarm(server.address(), tls=True, **options) as swarm:
        client = redis.client()
        swarm.say("churn on")
        for sequence in range(1, MESSAGES + 1):
            client.pipeline([("PUBLISH", f"belfry:room:load:{room}", payload(sequence, room)) for room in range(rooms)])
            time.sleep(0.02)
        swarm.say("churn off")
        swarm.expect(1, MESSAGES)
        report = swarm.wait_complete(60)
        assert_flawless(report, 10)
        assert report["churn_joins"] > 1000 and report["churn_messages"] > 1000, report
        # Redis and Belfry agree about what is subscribed: a room on both channels, and nothing of those that were left.
        status = server.status()
        channels = client.call("PUBSUB", "CHANNELS", "belfry:room:load:*")
        assert len(channels) == status["rooms"], (len(channels), status["rooms"])
        client.close()
