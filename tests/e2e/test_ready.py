"""GET /readyz: what it says is wrong, and the canary, which tells that a subscription really delivers."""

import socket
import threading

import pytest

from belfry import wait_until
from load import redis_broker

# A canary goes every two seconds, and is missed after three.
ROOMS = "[route /json]\n[room *]\njoin = anyone\n"


class Silence:
    """A proxy to Redis that can swallow what subscribers are sent, but for the answers to what they ask: a connection
    that looks well and delivers nothing."""

    def __init__(self, port):
        self.port_of_redis = port
        self.swallows = False
        self.swallowed = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ends = []

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        for end in (self.listener, *self.ends):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port_of_redis))
            except OSError:
                return
            self.ends += [client, server]
            threading.Thread(target=self.upward, args=(client, server), daemon=True).start()
            threading.Thread(target=self.downward, args=(server, client), daemon=True).start()

    @staticmethod
    def upward(client, server):
        try:
            while some := client.recv(65536):
                server.sendall(some)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    @staticmethod
    def read_value(file):
        """One reply of RESP2, as its bytes."""
        line = file.readline()
        if line[:1] == b"$" and int(line[1:]) >= 0:
            line += file.read(int(line[1:]) + 2)
        elif line[:1] == b"*":
            line += b"".join(Silence.read_value(file) for _ in range(int(line[1:])))
        return line

    def downward(self, server, client):
        file = server.makefile("rb")
        try:
            while value := self.read_value(file):
                if self.swallows and b"message\r\n" in value[:20]:
                    self.swallowed += 1
                else:
                    client.sendall(value)
            client.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            pass


@pytest.fixture
def silence(redis):
    with Silence(redis.port) as proxy:
        yield proxy


def ready(server):
    reply = server.control("GET", "/readyz")
    assert reply.status in (200, 503)
    return reply.status == 200


def why(server):
    reply = server.control("GET", "/readyz")
    assert reply.status == 503 and reply.headers["Retry-After"]
    return reply.body.decode()


def test_without_redis_there_is_nothing_to_wait_for(start):
    server = start(ROOMS)
    assert server.control("GET", "/readyz").body == b"ready\n"
    metrics = server.metrics()
    assert metrics["belfry_broker_delivers"] == 1
    assert metrics["belfry_broker_canaries_total"] == 0
    assert metrics["belfry_broker_last_canary_timestamp_seconds"] == 0


def test_a_subscription_that_does_not_deliver(silence, start):
    server = start(ROOMS + redis_broker(f"redis://127.0.0.1:{silence.port}"))
    wait_until(lambda: ready(server), "not ready")
    wait_until(lambda: server.metrics()["belfry_broker_canaries_total", "result=heard"] >= 2, "no canaries")
    metrics = server.metrics()
    assert metrics["belfry_broker_received_total"] == 0, "a canary is no message"
    assert metrics["belfry_broker_published_total"] == 0
    assert metrics["belfry_broker_lag_seconds_count"] >= 2 and metrics["belfry_broker_lag_seconds_sum"] > 0
    assert metrics["belfry_broker_last_canary_timestamp_seconds"] > 1_700_000_000

    silence.swallows = True
    wait_until(lambda: not ready(server), "still ready")
    assert silence.swallowed
    assert why(server).startswith("the subscription does not deliver: last canary ")
    server.wait_log("the subscription does not deliver")
    metrics = server.metrics()
    assert metrics["belfry_ready"] == 0 and metrics["belfry_broker_delivers"] == 0
    assert metrics["belfry_broker_up"] == 1, "the links are well"
    assert metrics["belfry_broker_canaries_total", "result=lost"] >= 1
    assert metrics["belfry_broker_reconnects_total"] == 0
    assert server.status()["times"]["canary"]["missing"] is True

    silence.swallows = False
    wait_until(lambda: ready(server), "not ready again")
    server.wait_log("the subscription delivers again")
    assert server.metrics()["belfry_broker_delivers"] == 1
    assert server.status()["times"]["canary"]["missing"] is False


def test_late_is_measured(silence, redis, start):
    """What Redis takes to deliver is the lag: here it stands still for a moment."""
    server = start(ROOMS + redis_broker(f"redis://127.0.0.1:{silence.port}"))
    wait_until(lambda: server.metrics()["belfry_broker_lag_seconds_count"] >= 1, "no canary")
    before = server.metrics()["belfry_broker_lag_seconds_sum"]
    redis.client().call("CLIENT", "PAUSE", 2500, "WRITE")
    wait_until(lambda: server.metrics()["belfry_broker_lag_seconds_sum"] > before + 0.3, "no lag")
    assert ready(server)


def test_redis_out_of_reach_is_another_thing(start, redis):
    server = start(ROOMS + redis_broker(redis.url))
    wait_until(lambda: server.metrics()["belfry_broker_canaries_total", "result=heard"], "no canary")
    redis.kill()
    wait_until(lambda: not ready(server), "still ready")
    assert why(server) == "the broker is out of reach\n"
    assert server.metrics()["belfry_broker_up"] == 0
    redis.start()
    wait_until(lambda: ready(server), "not ready again", 15)
    heard = server.metrics()["belfry_broker_canaries_total", "result=heard"]
    wait_until(lambda: server.metrics()["belfry_broker_canaries_total", "result=heard"] > heard, "no canary any more")


def test_a_user_who_may_not_publish_there(start, redis):
    """The canary can't be sent, which says nothing about what is subscribed: one warning, and no alarm."""
    admin = redis.client()
    admin.call("ACL", "SETUSER", "narrow", "on", ">secret", "~*", "+@all", "resetchannels", "&belfry:room:*",
               "&belfry:message:*", "&belfry:command*")
    url = redis.url.replace("redis://", "redis://narrow:secret@")
    server = start(ROOMS + redis_broker(url))
    server.wait_log("Redis refuses (the canary|a subscription)")
    assert server.metrics()["belfry_broker_canaries_total", "result=lost"] == 0
