"""Upstreams: TLS to the backend, backup servers, servers taken out by the config or by checks, slow start."""

import pytest
from backend import Backend, TlsBackend, proxy_config, serve
from belfry import wait_until
from conftest import make_certificate
from http1 import connect, response

ONE_WORKER = "[belfry]\nworkers = 1\n"


def named(name):
    return Backend(serve(lambda request: response(name)))


@pytest.fixture
def pair():
    with named(b"one") as one, named(b"two") as two:
        yield one, two


def shown(server, query=""):
    (upstream,) = server.get("/v1/upstreams" + query)["upstreams"]
    return upstream


def states(server):
    return [each["state"] for each in shown(server)["servers"]]


def answers(server, count, fields=()):
    """Who answered, over one connection."""
    with connect(server.address()) as client:
        return [client.ask("GET", "/", None, fields).body for _ in range(count)]


# TLS.


def test_tls(start, certificate):
    with TlsBackend(serve(lambda r: response(r.body + b" " + r.get("X-Forwarded-Proto").encode())), certificate) as backend:
        config = proxy_config(f"https://localhost:{backend.port}", upstream=f"tls_ca = {certificate.chain}")
        server = start(ONE_WORKER + config)
        with connect(server.address()) as client:
            for body in (b"x", b"y" * 300000, b"z"):
                answer = client.ask("POST", "/", body)
                assert (answer.status, answer.body) == (200, body + b" http")
        assert set(backend.names) == {"localhost"}
        assert len(backend.requests) == 3 and len(backend.names) == 1, "the connection is kept"


def test_tls_by_another_name(start, certificate):
    with TlsBackend(serve(lambda r: response(b"good")), certificate) as backend:
        options = f"tls_ca = {certificate.chain}\ntls_name = localhost"
        server = start(proxy_config(f"https://127.0.0.1:{backend.port}", upstream=options))
        assert answers(server, 1) == [b"good"]
        assert backend.names == ["localhost"]


@pytest.mark.parametrize("wrong", ["issuer", "name"])
def test_a_certificate_that_does_not_fit(start, certificate, tmp_path, wrong):
    """502, and not a byte of the request reaches whoever that is."""
    other = make_certificate(tmp_path, "other", "DNS:other.example")
    with TlsBackend(serve(lambda r: response(b"secret")), other) as backend:
        trusted = certificate if wrong == "issuer" else other
        name = "other.example" if wrong == "issuer" else "localhost"
        options = f"tls_ca = {trusted.chain}\ntls_name = {name}"
        server = start(proxy_config(f"https://127.0.0.1:{backend.port}", upstream=options))
        with connect(server.address()) as client:
            assert client.ask("POST", "/", b"password").status == 502
        assert backend.requests == []
        assert server.find_log(r"upstream app: .*certificate")


def test_a_certificate_that_nobody_looks_at(start, tmp_path):
    other = make_certificate(tmp_path, "other", "DNS:other.example")
    with TlsBackend(serve(lambda r: response(b"good")), other) as backend:
        server = start(proxy_config(f"https://127.0.0.1:{backend.port}", upstream="tls_verify = no"))
        assert answers(server, 1) == [b"good"]
        assert server.find_log(r"belfry.ini:\d+: tls_verify: no: the backend could be anybody")


def test_a_backend_without_tls(start, certificate):
    with Backend(lambda stream: stream.send(response(b"plain"))) as backend:
        server = start(proxy_config(f"https://localhost:{backend.port}", upstream=f"tls_ca = {certificate.chain}"))
        with connect(server.address()) as client:
            assert client.ask().status == 502


# Which servers take part.


def test_a_backup_takes_over_and_gives_back(start):
    with named(b"two") as two:
        one = named(b"one")
        server = start(ONE_WORKER + proxy_config(f"{one.address} fail_timeout=200ms", f"{two.address} backup"))
        assert set(answers(server, 5)) == {b"one"}
        one.stop(reset=True)
        assert set(answers(server, 5)) == {b"two"}
        assert [each["backup"] for each in shown(server)["servers"]] == [False, True]
        with Backend(serve(lambda r: response(b"one")), port=one.port):
            wait_until(lambda: answers(server, 1) == [b"one"], "the first server does not come back")
            assert set(answers(server, 5)) == {b"one"}


def test_down_by_config(start, pair):
    """It gets nothing new, the keys of the others stay with them; with the line gone it is as it was."""
    one, two = pair
    keys = [[("X-Key", str(i))] for i in range(20)]
    full = start(ONE_WORKER + proxy_config(one, two, upstream="sticky = header:X-Key"))
    before = [answers(full, 1, key) for key in keys]
    assert len({str(each) for each in before}) == 2
    one.requests.clear()
    less = start(ONE_WORKER + proxy_config(one.address + " down", two, upstream="sticky = header:X-Key"))
    assert {str(answers(less, 1, key)) for key in keys} == {str([b"two"])}
    assert set(answers(less, 5)) == {b"two"}
    assert states(less) == ["draining", "up"] and one.requests == []
    assert {shown(less, f"?key={i}")["key_server"] for i in range(20)} == {two.address}


def test_nobody_but_down(start, pair):
    server = start(proxy_config(pair[0].address + " down"))
    with connect(server.address()) as client:
        answer = client.ask()
        assert answer.status == 502 and b"no_server" in answer.body


def test_slow_start(start, pair):
    """A server that comes back is given little at first."""
    one, two = pair
    options = "slow_start = 1h"
    server = start(ONE_WORKER + proxy_config(f"{one.address} fail_timeout=200ms", two, upstream=options))
    one.stop(reset=True)
    assert set(answers(server, 4)) == {b"two"}
    with Backend(serve(lambda r: response(b"one")), port=one.port):
        wait_until(lambda: answers(server, 4) and states(server) == ["starting", "up"], lambda: states(server))
        assert answers(server, 60).count(b"one") <= 3


def test_slow_start_moves_a_key_once(start, pair):
    """With sticky hashing the server gets few of its keys back at first; no key goes to and fro."""
    one, two = pair
    options = "slow_start = 1h\nsticky = header:X-Key"
    server = start(ONE_WORKER + proxy_config(f"{one.address} fail_timeout=200ms", two, upstream=options))
    one.stop(reset=True)
    keys = [[("X-Key", str(i))] for i in range(30)]
    for key in keys:
        assert answers(server, 1, key) == [b"two"]
    with Backend(serve(lambda r: response(b"one")), port=one.port):
        wait_until(lambda: [answers(server, 1, k) for k in keys] and states(server)[0] == "starting", lambda: states(server))
        for key in keys:
            assert len(set(answers(server, 10, key))) == 1


# Active checks.


def test_health_checks(start, pair):
    """Two bad answers take a server out, a good one brings it back; the check has a request of its own."""
    one, two = pair
    healthy = True

    def answer(request):
        if request.target == "/healthz":
            return response(status=204 if healthy else 500)
        return response(b"checked")

    with Backend(serve(answer)) as checked:
        options = "health_check = /healthz\nhealth_interval = 100ms"
        server = start(ONE_WORKER + proxy_config(checked, f"{two.address} backup", upstream=options))
        assert set(answers(server, 4)) == {b"checked"}
        healthy = False
        wait_until(lambda: states(server)[0] == "down", lambda: states(server))
        assert set(answers(server, 4)) == {b"two"}
        healthy = True
        wait_until(lambda: states(server)[0] == "up", lambda: states(server))
        assert set(answers(server, 4)) == {b"checked"}
        asked = [r for r in checked.requests if r.target == "/healthz"]
        assert {(r.method, r.get("Host")) for r in asked} == {("GET", checked.address)}
