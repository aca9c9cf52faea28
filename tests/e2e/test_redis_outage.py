"""Redis dies under load and comes again; Redis over TLS, with an ACL user, with a wrong password."""

import threading
import time

import pytest

from belfry import wait_until
from load import ROOMS, Swarm, assert_flawless, payload, publish_all, redis_broker
from redis_server import RedisError, RedisServer, free_port

CLIENTS, JOINED_ROOMS = 1000, 100
OUTAGE_SECONDS = 5
BACK_SECONDS = 15  # back-off is at most 2 s, connecting and resubscribing a moment


class Publisher(threading.Thread):
    """Publishes to all rooms, round after round, over connections that it makes anew when they break. Knows nothing of Belfry."""

    def __init__(self, redis, rooms):
        super().__init__(daemon=True)
        self.redis, self.rooms = redis, rooms
        self.sequence = 0  # the last round that was begun
        self.ending = threading.Event()
        self.failure = None

    def run(self):
        client = None
        while not self.ending.wait(0.02):
            try:
                client = client or self.redis.client()
                self.sequence += 1
                room = "belfry:room:load:{}"
                client.pipeline(
                    [("PUBLISH", room.format(r), payload(self.sequence, r)) for r in range(self.rooms)]
                )
            except (OSError, RedisError):
                client = None
            except Exception as failure:  # a test's thread must not die in silence
                self.failure = failure
                raise

    def stop(self):
        self.ending.set()
        self.join(20)
        assert not self.is_alive() and self.failure is None


def ready(server):
    return server.control("GET", "/readyz").status == 200


def subscribers(redis, room):
    return redis.subscribers(f"belfry:room:load:{room}")


def assert_refuses_publishes(server, member):
    """Down: nothing is accepted and then lost."""
    reply = server.control("GET", "/readyz")
    assert reply.status == 503, reply.body
    reply = server.control("POST", "/v1/rooms/load:1", b"lost")
    assert reply.status == 503, reply.body
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.json()["error"]["code"] == 503
    command = {"op": "publish", "room": "load:1", "data": "lost"}
    reply = server.control("POST", "/v1/commands", command)
    assert reply.status == 503 and reply.headers["Retry-After"], (reply.status, reply.body)
    member.send_json({"type": "publish", "id": 77, "room": "alone", "data": "lost"})
    answer = member.receive_json()
    assert (answer["type"], answer["id"], answer["code"]) == ("error", 77, 503), answer
    # Joining still works: who joins now is told of the gap like everybody else.
    member.send_json({"type": "join", "id": 78, "room": "joined-meanwhile"})
    assert member.receive_json() == {"type": "ok", "id": 78, "room": "joined-meanwhile"}


@pytest.mark.load
def test_killed_under_load(start, redis):
    server = start("[belfry]\nworkers = 2\n" + ROOMS + redis_broker(redis.url))
    options = {"n": CLIENTS, "rooms": JOINED_ROOMS, "protocol": "json", "path": "/json"}
    with Swarm(server.address(), **options) as swarm:
        member = server.open_json("/json")
        member.send_json({"type": "join", "id": 1, "room": "alone"})
        assert member.receive_json()["type"] == "ok"
        publisher = Publisher(redis, JOINED_ROOMS)
        publisher.start()
        swarm.wait_for(lambda r: r["messages"] >= 10 * CLIENTS, "no messages before the outage")
        assert swarm.report()["gaps"] == 0

        redis.kill()
        killed = time.monotonic()
        wait_until(lambda: not ready(server), "still ready without Redis")
        assert_refuses_publishes(server, member)
        before = swarm.report()
        assert before["gaps"] == 0 and before["alive"] == CLIENTS
        cpu = server.cpu_seconds()
        time.sleep(OUTAGE_SECONDS - (time.monotonic() - killed))
        assert not ready(server)
        if not server.sanitized():
            assert server.cpu_seconds() - cpu < 1, "spins while Redis is away"

        redis.start()
        wait_until(lambda: ready(server), "not ready again", BACK_SECONDS)
        # What begins from here on must arrive. The round that is under way may be half lost.
        first = publisher.sequence + 2
        assert [subscribers(redis, room) for room in range(JOINED_ROOMS)] == [1] * JOINED_ROOMS
        swarm.wait_for(lambda r: r["gap_clients"] == CLIENTS, "a client was not told of the gap", 10)
        wait_until(lambda: publisher.sequence >= first + 100, "the publisher stands still", 60)
        publisher.stop()
        swarm.expect(first, publisher.sequence)
        report = swarm.wait_complete(60)
        assert_flawless(report, CLIENTS)
        assert report["gaps"] == CLIENTS, "one gap a client and outage"

        rooms_told = {member.receive_json()["room"] for _ in range(2)}
        assert rooms_told == {"alone", "joined-meanwhile"}
        member.send_json({"type": "publish", "id": 79, "room": "alone", "data": "back"})
        answers = [member.receive_json() for _ in range(2)]
        assert sorted(answer["type"] for answer in answers) == ["message", "ok"], answers
        assert server.publish("joined-meanwhile", "back") == 1
        assert member.receive_json()["data"] == "back"
        assert server.status()["broker"]["reconnects"] == 1
    # One line for the loss, one for the return, and few for the tries in between.
    assert len(server.find_log(r"broker: .* lost")) == 1
    assert len([level for level, text in server.log_lines() if level == "warn"]) < 40


def test_connections_cut_again_and_again(start, redis):
    """Only the links die (CLIENT KILL), each for itself: every time it is whole again, and then nothing is lost."""
    server = start(ROOMS + redis_broker(redis.url))
    member = server.open_json("/json")
    member.send_json({"type": "join", "id": 1, "room": "load:0"})
    assert member.receive_json()["type"] == "ok"
    control = redis.client()
    for number, kind in enumerate(["pubsub", "normal", "pubsub"]):
        assert control.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes") >= 1
        wait_until(lambda: server.status()["broker"]["reconnects"] > number, "not back", BACK_SECONDS)
        wait_until(lambda: ready(server), "not ready", BACK_SECONDS)
        text = f"round {number}"
        assert control.publish("belfry:room:load:0", text.encode()) == 1
        message = member.receive_json()
        if kind == "pubsub":
            # Nothing could be missed while only the publishing link was away.
            assert message == {"type": "gap", "room": "load:0"}
            message = member.receive_json()
        assert message["data"] == text
        assert server.publish("load:0", text) == 1
        assert member.receive_json()["data"] == text
    control.close()


def test_started_before_redis(start, redis):
    redis.stop()
    server = start(ROOMS + redis_broker(redis.url))
    assert not ready(server)
    member = server.open_json("/json")
    member.send_json({"type": "join", "id": 1, "room": "load:0"})
    assert member.receive_json()["type"] == "ok"
    redis.start()
    wait_until(lambda: ready(server), "not ready", BACK_SECONDS)
    assert subscribers(redis, 0) == 1
    client = redis.client()
    publish_all(client, 1, [1])
    client.close()
    # It joined a room that was not subscribed yet.
    assert member.receive_json() == {"type": "gap", "room": "load:0"}
    assert member.receive_json()["data"].startswith("t=")


def test_tls_and_acl_user(start, tmp_path, certificate):
    """rediss:// with a user who may do no more than Belfry needs: of the commands. Of the channels it must be all, since Redis
    lets a PSUBSCRIBE pass only where its pattern is, to the letter, one of the user's, and Belfry's holds a random node id."""
    tls_port = free_port()
    tls = ["--tls-port", tls_port, "--tls-cert-file", certificate.chain, "--tls-key-file", certificate.key]
    tls += ["--tls-ca-cert-file", certificate.chain, "--tls-auth-clients", "no"]
    user = "user belfry on >s3cr3t%word allchannels -@all +subscribe +psubscribe +unsubscribe +punsubscribe"
    user += " +publish +ping +select"
    (tmp_path / "users.acl").write_text("user default on nopass ~* &* +@all\n" + user + "\n")
    options = ["--aclfile", tmp_path / "users.acl", *tls]
    server = RedisServer(tmp_path, options=[str(word) for word in options]).start()
    try:
        url = f"rediss://belfry:s3cr3t%25word@localhost:{tls_port}/0"
        daemon = start(ROOMS + redis_broker(url, f"tls_ca = {certificate.chain}"))
        wait_until(lambda: ready(daemon), "not ready over TLS")
        member = daemon.open("/raw?room=load:0")
        client = server.client()
        publish_all(client, 1, [1])
        client.close()
        assert member.receive_text().startswith("t=")
        assert daemon.publish("load:0", "by control") == 1
        assert member.receive_text() == "by control"
        assert not daemon.find_log("s3cr3t")

        # Another authority's certificate is refused, and the log says so.
        stranger = start(ROOMS + redis_broker(url))
        stranger.wait_log("certificate")
        assert not ready(stranger)
    finally:
        server.stop()


def test_wrong_password(start, tmp_path):
    server = RedisServer(tmp_path, password="right-one").start()
    try:
        daemon = start(ROOMS + redis_broker(server.url.replace("right-one", "wrong-one")))
        daemon.wait_log("WRONGPASS|AUTH|invalid")
        time.sleep(1)
        reply = daemon.control("GET", "/readyz")
        assert reply.status == 503
        warnings = [text for level, text in daemon.log_lines() if level == "warn"]
        assert any("127.0.0.1" in text for text in warnings), warnings
        assert not daemon.find_log("wrong-one")
        shown = daemon.control("GET", "/v1/status").body
        assert b"wrong-one" not in shown

        # Mended on Redis's side, it comes up by itself.
        client = server.client()
        client.call("CONFIG", "SET", "requirepass", "wrong-one")
        client.close()
        wait_until(lambda: ready(daemon), "not ready with the right password", BACK_SECONDS)
    finally:
        server.stop()


def test_password_that_is_missing(start, tmp_path):
    server = RedisServer(tmp_path, password="right-one").start()
    try:
        daemon = start(ROOMS + redis_broker(f"redis://127.0.0.1:{server.port}/0"))
        daemon.wait_log("NOAUTH|[Aa]uthentication")
        assert not ready(daemon)
    finally:
        server.stop()
