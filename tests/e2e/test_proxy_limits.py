"""What bounds requests and their upstream in number and time. Each option is set on two things at once, small and large:
what the small one ends must leave the other as it is, so that the order of events tells and no clock does."""

import select
import threading
import time

import pytest
from backend import Backend, TlsBackend, serve
from belfry import wait_until
from conftest import make_certificate
from http1 import connect, request, response

CORE = "[belfry]\nworkers = 1\n"


class Holding(Backend):
    """Reads requests and answers none before release()."""

    def __init__(self):
        self.released = threading.Event()
        self.under_way, self.most = 0, 0
        self.lock = threading.Lock()
        super().__init__(serve(self.answer))

    def answer(self, asked):
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self.released.wait(60)
        with self.lock:
            self.under_way -= 1
        return response(b"held")

    def release(self):
        self.released.set()

    def stop(self, **options):
        self.release()
        super().stop(**options)


class Ending(Backend):
    """Answers requests; `ended` are the connections whose end it has read."""

    def __init__(self):
        self.ended = []

        def script(stream):
            serve(lambda asked: response(b"fine"))(stream)
            self.ended.append(stream)

        super().__init__(script)


def upstream(name, backend, *options):
    address = backend if isinstance(backend, str) else backend.address
    return "\n".join([f"[upstream {name}]", f"server = {address}", *options]) + "\n"


def proxied(name, *options):
    """The route /name to the upstream of that name."""
    return "\n".join([f"[route /{name}]", "mode = proxy", f"upstream = {name}", *options]) + "\n"


def shown(server, name):
    return next(each for each in server.get("/v1/upstreams")["upstreams"] if each["name"] == name)


def asking(server, target):
    """A client whose request is under way."""
    client = connect(server.address())
    client.send(request("GET", target))
    return client


def has_nothing(client):
    """Neither an answer nor an end so far."""
    return not client.buffer and not select.select([client.sock], [], [], 0)[0]


# How many.


def test_max_inflight_and_queue(start):
    """Two at once, one waits, and one more has its 503 while the others still wait; afterwards there is room again."""
    with Holding() as backend:
        options = ("max_inflight = 2", "queue = 1", "queue_timeout = 10m")
        server = start(CORE + upstream("app", backend, *options) + proxied("app"))
        clients = []
        for _ in range(2):
            clients.append(asking(server, "/app"))
            wait_until(lambda: len(backend.requests) == len(clients), "not asked")
        clients.append(asking(server, "/app"))
        wait_until(lambda: shown(server, "app")["queued"] == 1, lambda: shown(server, "app"))
        with connect(server.address()) as late:
            answer = late.ask("GET", "/app")
            assert answer.status == 503 and b"queue_full" in answer.body
        assert shown(server, "app")["running"] == 2 and len(backend.requests) == 2
        assert all(has_nothing(client) for client in clients)
        backend.release()
        assert [client.read_answer().body for client in clients] == [b"held"] * 3
        assert clients[0].ask("GET", "/app").status == 200
        assert backend.most == 2
        numbers = shown(server, "app")
        assert (numbers["queue_full"], numbers["queue_timeouts"], numbers["queued"]) == (1, 0, 0)


def test_queue_timeout(start):
    with Holding() as backend:
        options = ("max_inflight = 1", "read_timeout = 1h")
        config = upstream("patient", backend, *options, "queue_timeout = 10m")
        config += upstream("hasty", backend, *options, "queue_timeout = 100ms")
        server = start(CORE + config + proxied("patient") + proxied("hasty"))
        running = [asking(server, "/patient"), asking(server, "/hasty")]
        wait_until(lambda: len(backend.requests) == 2, "not asked")
        waits = asking(server, "/patient")
        wait_until(lambda: shown(server, "patient")["queued"] == 1, "it does not wait")
        with connect(server.address()) as late:
            answer = late.ask("GET", "/hasty")
            assert answer.status == 503 and b"queue_timeout" in answer.body
        assert has_nothing(waits) and len(backend.requests) == 2
        backend.release()
        assert [client.read_answer().status for client in (*running, waits)] == [200] * 3
        assert [shown(server, name)["queue_timeouts"] for name in ("patient", "hasty")] == [0, 1]


# For how long.


def test_connect_timeout(start):
    """A backend that takes the connection and says nothing of TLS."""
    with Backend(lambda stream: stream.fill() and stream.fill()) as silent:
        address = f"https://{silent.address}"
        config = upstream("patient", address, "connect_timeout = 10m", "tls_verify = no")
        config += upstream("hasty", address, "connect_timeout = 100ms", "tls_verify = no")
        server = start(CORE + config + proxied("patient") + proxied("hasty"))
        waits = asking(server, "/patient")
        wait_until(lambda: len(silent.streams) == 1, "not connected")
        with connect(server.address()) as late:
            assert late.ask("GET", "/hasty").status == 504
        assert has_nothing(waits)
        assert server.find_log("upstream hasty: .*connect_timeout passed") and not server.find_log("upstream patient: ")


def test_keepalive_timeout_of_backends(start):
    """Who idles too long is closed, the others are used again."""
    with Ending() as kept, Ending() as dropped:
        config = upstream("kept", kept, "keepalive_timeout = 1h") + upstream("dropped", dropped, "keepalive_timeout = 100ms")
        server = start(CORE + config + proxied("kept") + proxied("dropped"))
        with connect(server.address()) as client:
            assert [client.ask("GET", target).body for target in ("/kept", "/dropped")] == [b"fine"] * 2
            wait_until(lambda: dropped.ended, "its connection stays")
            assert not kept.ended and shown(server, "kept")["servers"][0]["idle"] == 1
            assert shown(server, "dropped")["servers"][0]["idle"] == 0
            assert [client.ask("GET", target).body for target in ("/kept", "/dropped")] == [b"fine"] * 2
        assert (len(kept.streams), len(dropped.streams)) == (1, 2)
        assert [shown(server, name)["servers"][0]["failures"] for name in ("kept", "dropped")] == [0, 0]


def test_keepalive_timeout_of_clients(start):
    """It runs from the last answer, by the route of that answer, and its end is no refusal."""
    with Backend(serve(lambda asked: response(b"fine"))) as backend:
        config = upstream("app", backend)
        for name, idle in (("long", "1h"), ("short", "100ms")):
            config += proxied(name, f"keepalive_timeout = {idle}").replace(f"upstream = {name}", "upstream = app")
        server = start(CORE + config)
        stays, moves, ends = (connect(server.address()) for _ in range(3))
        assert stays.ask("GET", "/long").status == 200
        moves.send(request("GET", "/short") + request("GET", "/long"))
        assert [moves.read_answer().status for _ in range(2)] == [200, 200]
        assert ends.ask("GET", "/short").status == 200
        assert ends.at_end()
        assert [client.ask("GET", "/long").status for client in (stays, moves)] == [200, 200]
        assert server.refused() == 0


def test_min_body_rate(start):
    """Of two bodies that come equally fast the one that is too slow for its route ends; the other is whole at last."""
    with Backend(serve(lambda asked: response(asked.body))) as backend:
        config = upstream("app", backend)
        for name, rate in (("slow", 1), ("none", 0), ("fast", "100k")):
            config += proxied(name, "body_timeout = 2s", f"min_body_rate = {rate}").replace(f"upstream = {name}", "upstream = app")
        server = start(CORE + config)
        late, *fine = clients = [connect(server.address()) for _ in range(3)]
        for client, target in zip(clients, ("/fast", "/slow", "/none")):
            client.send(request("PUT", target, None, [("Content-Length", 500)]))
        sent = 0
        while sent < 490 and has_nothing(late):
            for client in clients:
                client.send(b"x")
            sent += 1
            time.sleep(0.02)
        assert late.read_answer().status == 408
        assert all(has_nothing(client) for client in fine)
        for client in fine:
            client.send(b"x" * (500 - sent))
            assert client.read_answer().body == b"x" * 500
        assert sent < 490 and len(backend.requests) == 2


# Health checks.


def checked(name, backend, *options):
    return upstream(name, backend, f"health_check = /{name}", *options)


def asked_for(backend, name):
    return sum(each.target == "/" + name for each in backend.requests)


def test_health_interval(start):
    with Backend(serve(lambda asked: response())) as backend:
        config = checked("seldom", backend, "health_interval = 1h") + checked("often", backend, "health_interval = 100ms")
        start(CORE + config + proxied("seldom") + proxied("often"))
        wait_until(lambda: asked_for(backend, "often") >= 10, lambda: f"{asked_for(backend, 'often')} times")
        assert asked_for(backend, "seldom") == 1


def test_health_timeout(start):
    """A server that does not answer is out, and its checks end; who is given the time is still being waited for."""
    with Holding() as backend:
        config = checked("patient", backend, "health_interval = 100ms", "health_timeout = 1m")
        config += checked("hasty", backend, "health_interval = 100ms", "health_timeout = 100ms")
        server = start(CORE + config + proxied("patient") + proxied("hasty"))
        wait_until(lambda: shown(server, "hasty")["servers"][0]["state"] == "down", "it counts as healthy")
        assert server.find_log("upstream hasty: .* is out by its health checks: health_timeout passed")
        assert asked_for(backend, "hasty") >= 2
        assert asked_for(backend, "patient") == 1 and shown(server, "patient")["servers"][0]["state"] == "up"
        backend.release()
        wait_until(lambda: asked_for(backend, "patient") >= 3, "its checks do not go on")
        wait_until(lambda: shown(server, "hasty")["servers"][0]["state"] == "up", "it does not come back")


# TLS to them.


@pytest.mark.parametrize("name", ["other.example", "third.example"])
def test_tls_name_is_what_the_certificate_must_say(start, tmp_path, name):
    """Not the address that is connected to: of two certificates for one place only the one with that name will do."""
    mine = make_certificate(tmp_path, "mine", "DNS:other.example")
    with TlsBackend(serve(lambda asked: response(b"good")), mine) as backend:
        options = (f"tls_ca = {mine.chain}", f"tls_name = {name}")
        server = start(CORE + upstream("app", f"https://{backend.address}", *options) + proxied("app"))
        with connect(server.address()) as client:
            answer = client.ask("GET", "/app")
        assert answer.status == (200 if name == "other.example" else 502)
        assert backend.names[0] == name
        assert len(backend.requests) == (1 if name == "other.example" else 0)
