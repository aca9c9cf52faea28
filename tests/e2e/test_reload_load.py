"""Fifty reloads in a row under 5,000 clients over TLS with messages flowing both ways: certificate, origins, rates, servers
and routes change each time, every tenth file is broken. Nobody is dropped, nothing is lost, nothing comes twice.
"""

import contextlib
import json
import shutil
import signal
import ssl
import time

import pytest

import ws
from backend import Backend, serve
from belfry import wait_until
from conftest import make_certificate
from http1 import response
from load import Stepper, Swarm, assert_flawless, payload, private_bytes, redis_broker

pytestmark = pytest.mark.load
CLIENTS = 5000
ROOMS = 50
RELOADS = 50
TALKERS = 20
PAUSE = 0.15  # between two reloads


class Site:
    """The daemon and everything that its file names: version n of it is another one in each respect."""

    def __init__(self, start, directory, redis, backends):
        self.directory, self.redis, self.backends = directory, redis, backends
        self.certificates = [make_certificate(directory, f"number{i}", "DNS:localhost", "IP:127.0.0.1") for i in (0, 1)]
        self.trusts = [ssl.create_default_context(cafile=str(c.chain)) for c in self.certificates]
        self.server = start(self.config(0))
        self.server.trust = self.trusts[0]

    def config(self, n):
        live = self.certificates[n % 2]
        shutil.copy(live.chain, self.directory / "live.pem")
        shutil.copy(live.key, self.directory / "live.key")
        servers = [b.address for i, b in enumerate(self.backends) if (n + i) % len(self.backends)]
        return (
            f"[belfry]\nworkers = 2\ndrain_timeout = 3s\n"
            f"[listener public]\nlisten = 127.0.0.1:0\ntls = yes\nhandshake_timeout = 60s\n"
            f"certificate = {self.directory}/live.pem\nprivate_key = {self.directory}/live.key\n"
            f"[upstream app]\n" + "".join(f"server = {s} weight={1 + n % 3}\n" for s in servers) + f"keepalive = {n % 8}\n"
            f"[route /json]\norigin = https://number{n}.example, none\nmessage_rate = {1000 + n}/s\n"
            f"max_message = {32 + n}k\nping_interval = {20 + n}s\n"
            f"[route /app]\nmode = proxy\nupstream = app\norigin = any\n"
            f"[route /only{n}]\n"
            f"[room *]\njoin = anyone\npublish = members\nmax_members = {100000 + n}\n" + redis_broker(self.redis.url)
        )

    def reload(self, n):
        """Seconds from the wish to its end; the file is broken where n is a multiple of ten."""
        broken = n % 10 == 0
        text = self.config(n)
        self.server.write_config(text + "[route /json]\nmax_mesage = 1k\n" if broken else text)
        before = self.server.status()["config"]
        begun = time.monotonic()
        if n % 5 == 2:
            self.server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: self.server.status()["config"]["reloads"] > before["reloads"], "no end of the reload")
        else:
            reply = self.server.control("POST", "/v1/reload")
            assert reply.status == (422 if broken else 200), reply.body
        took = time.monotonic() - begun
        after = self.server.status()["config"]
        assert after["generation"] == before["generation"] + (not broken)
        if not broken:
            self.server.trust = self.trusts[n % 2]
        return took

    def check_new_connections(self, n):
        """A new handshake sees the new certificate, the new origins, and the old ones no more."""
        with pytest.raises(ssl.SSLCertVerificationError):
            ws.Client(self.server.address(), tls=self.trusts[1 - n % 2])
        client = ws.Client(self.server.address(), tls=self.server.trust)
        client.open("/json", add=[("Origin", f"https://number{n}.example")])
        assert client.receive_json()["type"] == "welcome"
        client.finish()
        client = ws.Client(self.server.address(), tls=self.server.trust)
        client.send(ws.request_head("/json", add=[("Origin", f"https://number{n - 1}.example")]))
        assert client.read_answer().status == 403
        client.drop()


def talkers(site, stack):
    """Connections that publish, each time from the next one, and wait for the answer and their own message."""
    clients = []
    for i in range(TALKERS):
        client = site.server.open_json("/json")
        stack.callback(client.drop)
        client.send_json({"type": "join", "id": 1, "room": f"talk:{i}"})
        assert client.receive_json()["type"] == "ok"
        clients.append(client)

    def say(number):
        i = number % TALKERS
        clients[i].send_json({"type": "publish", "id": number, "room": f"talk:{i}", "data": number})
        got = sorted((clients[i].receive_json() for _ in range(2)), key=lambda m: m["type"])
        assert [(m["type"], m.get("id", m.get("data"))) for m in got] == [("message", number), ("ok", number)], got

    return Stepper(say, 0.005)


def visitors(site):
    """Proxied requests over one connection that is kept, to servers that come and go."""
    client = ws.Client(site.server.address(), tls=site.server.trust)

    def visit(number):
        client.send(b"GET /app HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = client.read_answer()
        assert (answer.status, answer.body) == (200, b"hello"), answer

    return client, Stepper(visit, 0.005)


def test_nobody_is_dropped_and_nothing_is_lost(start, redis, tmp_path):
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(Backend(serve(lambda request: response(b"hello")))) for _ in range(3)]
        site = Site(start, tmp_path, redis, backends)
        server = site.server
        options = {"n": CLIENTS, "rooms": ROOMS, "tls": True, "resume_tickets": True, "protocol": "json"}
        swarm = stack.enter_context(Swarm(server.address(), path="/json", churn=100, churn_rate=300, **options))
        publisher = redis.client()
        stack.callback(publisher.close)

        def publish(number):
            publisher.pipeline([("PUBLISH", f"belfry:room:load:{r}", payload(number, r, 100)) for r in range(ROOMS)])

        memory = private_bytes(server.worker_pid())
        talking = talkers(site, stack)
        visitor, visiting = visitors(site)
        stack.callback(visitor.drop)
        publishing = Stepper(publish, 0.1)
        swarm.say("churn on")
        times = []
        for n in range(1, RELOADS + 1):
            times.append(site.reload(n))
            if n % 7 == 0 and n % 10:
                site.check_new_connections(n)
            time.sleep(PAUSE)
        swarm.say("churn off")
        said, visited, last = talking.stop(), visiting.stop(), publishing.stop()
        swarm.expect(1, last)
        report = swarm.wait_complete(60)
        status = server.status()
        server.expect_error("reload")
        figures = {
            "clients": CLIENTS,
            "reloads": status["config"]["reloads"],
            "refused_files": status["config"]["failed"],
            "reload_ms_median": round(sorted(times)[RELOADS // 2] * 1000, 1),
            "reload_ms_worst": round(max(times) * 1000, 1),
            "published": last * ROOMS,
            "delivered": report["messages"],
            "said_and_answered": said,
            "proxied": visited,
            "churn_joins": report["churn_joins"],
            "memory_mb": [round(m / 2**20, 1) for m in (memory, private_bytes(server.worker_pid()))],
        }
        print("\n50 reloads under load:", json.dumps(figures))
        assert_flawless(report, CLIENTS)
        assert report["messages"] >= CLIENTS * last
        assert report["gaps"] == 0 and server.dropped() == 0
        assert (status["config"]["reloads"], status["config"]["failed"]) == (RELOADS - RELOADS // 10, RELOADS // 10)
        assert min(said, visited, last) > RELOADS // 5
        assert set(status["closed"]) <= {"1000"}, status["closed"]  # who came to look at the certificate
