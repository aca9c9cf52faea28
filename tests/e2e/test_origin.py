"""The Origin field: cross-site WebSocket hijacking is refused before anybody else is asked, and CORS answers.

The rules of matching are tested exhaustively in tests/unit/modules/test_origin.cc; here, that they are in force.
"""

import pytest

import ws
from belfry import wait_until
from named_backend import NamedBackend

ROOMS = """
[route /default]
protocol = raw

[route /listed]
protocol = raw
origin = https://app.example, https://*.pages.example
origin = http://[2001:db8::1]:8080

[route /any]
protocol = raw
origin = any
"""


@pytest.fixture
def backend():
    made = NamedBackend("app")
    yield made
    made.stop()


def outcome(server, target, origins, listener="public", host="app.example"):
    """The status of a handshake with these Origin fields; the client is dropped again."""
    client = server.client(listener)
    client.send(ws.request_head(target, host=host, add=[("Origin", origin) for origin in origins]))
    answer = client.read_answer()
    if answer.status != 101:
        assert answer.json()["error"]["code"] == answer.status
        assert not any(origin in answer.json()["error"]["message"] for origin in origins if origin)
        client.expect_end()
    client.drop()
    return answer.status


def test_a_page_of_another_site_is_refused_by_default(start):
    server = start(ROOMS)
    before = server.refused(403)
    bad = ["http://evil.example", "https://app.example", "http://app.example:81", "http://evil-app.example", "null", ""]
    bad += ["http://app.example.evil.example", "http://x.app.example", "http://app.example, http://evil.example"]
    for origin in bad:
        assert outcome(server, "/default", [origin]) == 403, origin
    wait_until(lambda: server.refused(403) == before + len(bad), server.status)
    for good in ([], ["http://app.example"], ["http://APP.example:80"]):
        assert outcome(server, "/default", good) == 101, good


def test_same_means_the_listeners_scheme_and_port(start, certificate):
    server = start(ROOMS + certificate.listener("secure") + "[listener public]\nlisten = 127.0.0.1:0\n")
    assert outcome(server, "/default", ["https://localhost"], "secure", "localhost") == 101
    assert outcome(server, "/default", ["https://localhost:443"], "secure", "localhost") == 101
    assert outcome(server, "/default", ["http://localhost"], "secure", "localhost") == 403
    assert outcome(server, "/default", ["https://localhost"], "secure", "localhost:8443") == 403
    assert outcome(server, "/default", ["https://localhost:8443"], "secure", "localhost:8443") == 101


def test_same_behind_a_proxy_that_ends_tls(start):
    listener = "[listener public]\nlisten = 127.0.0.1:0\ntrusted_proxies = 127.0.0.1\n"
    server = start(ROOMS + listener)
    for proto, origin, status in (("https", "https", 101), ("https", "http", 403), ("http", "http", 101)):
        client = server.client()
        fields = [("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", proto)]
        fields += [("Origin", f"{origin}://app.example")]
        client.send(ws.request_head("/default", host="app.example", add=fields))
        assert client.read_answer().status == status
        client.drop()


def test_only_what_is_listed_counts(start):
    server = start(ROOMS)
    good = ["https://app.example", "HTTPS://APP.EXAMPLE:443", "https://a.b.pages.example", "http://[2001:DB8::1]:8080"]
    for origin in good:
        assert outcome(server, "/listed", [origin]) == 101, origin
    bad = ["http://app.example", "https://pages.example", "https://evil-pages.example", "null", "https://app.example/"]
    for origin in [*bad, "https://user@app.example"]:
        assert outcome(server, "/listed", [origin]) == 403, origin
    assert outcome(server, "/listed", []) == 403
    for anything in (["https://evil.example"], ["null"], []):
        assert outcome(server, "/any", anything) == 101, anything


def test_two_origin_fields_are_refused(start):
    server = start(ROOMS)
    for target in ("/default", "/listed", "/any"):
        for pair in (["https://app.example", "https://evil.example"], ["https://app.example", "https://app.example"]):
            assert outcome(server, target, pair) in (400, 403)


def test_the_backend_is_not_asked_about_a_foreign_page(start, backend):
    server = start(f"""
[upstream app]
server = {backend.address}

[route /ws]
upstream = app
hook = /hook
auth = backend
origin = https://app.example
""")
    assert outcome(server, "/ws", ["https://evil.example"]) == 403
    assert not backend.requests
    assert outcome(server, "/ws", ["https://app.example"]) == 101
    assert [request[1] for request in backend.requests] == ["/hook"]


def test_a_tunnel_is_guarded_too(start, backend):
    server = start(f"[upstream app]\nserver = {backend.address}\n[route /]\nmode = proxy\nupstream = app\n")
    assert outcome(server, "/socket", ["https://evil.example"]) == 403
    assert not backend.requests


def request(server, method, path, fields):
    client = server.client()
    lines = [f"{method} {path} HTTP/1.1", "Host: app.example"] + [f"{name}: {value}" for name, value in fields]
    client.send(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = client.read_answer()
    client.drop()
    return answer


PROXY = """
[upstream app]
server = {address}

[route /]
mode = proxy
upstream = app

[route /shared]
mode = proxy
upstream = app
origin = same, https://app2.example, null

[route /public]
mode = proxy
upstream = app
origin = any
"""


def test_cors_fields_on_plain_http(start, backend):
    server = start(PROXY.format(address=backend.address))

    def fields(path, *origin):
        answer = request(server, "GET", path, [("Origin", o) for o in origin])
        assert answer.status == 200
        names = ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Vary")
        return tuple(answer.field(name) for name in names)

    assert fields("/shared", "https://app2.example") == ("https://app2.example", "true", "Origin")
    assert fields("/shared", "null") == ("null", None, "Origin")
    assert fields("/shared", "https://evil.example") == (None, None, "Origin")
    assert fields("/shared", "http://app.example") == (None, None, "Origin")
    assert fields("/shared") == (None, None, "Origin")
    assert fields("/public", "https://evil.example") == ("*", None, None)
    assert fields("/", "https://evil.example") == (None, None, None)
    assert request(server, "GET", "/public", [("Origin", "https://a.example")] * 2).status == 403


def test_preflight_is_answered_here(start, backend):
    server = start(PROXY.format(address=backend.address))
    client = server.client()
    for _ in range(2):  # the connection is kept
        client.send(
            b"OPTIONS /shared/x HTTP/1.1\r\nHost: app.example\r\nOrigin: https://app2.example\r\n"
            b"Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: content-type,x-one\r\n\r\n"
        )
        answer = client.read_answer()
        assert answer.status == 204
        assert answer.field("Content-Length") is None
        assert answer.field("Access-Control-Allow-Origin") == "https://app2.example"
        assert answer.field("Access-Control-Allow-Credentials") == "true"
        assert answer.field("Access-Control-Allow-Methods") == "PUT"
        assert answer.field("Access-Control-Allow-Headers") == "content-type,x-one"
        assert answer.field("Access-Control-Max-Age") == "600"
    assert not backend.requests
    assert server.refused() == 0
    # A page that isn't listed, and an OPTIONS that is no preflight, are the backend's to answer.
    preflight = [("Access-Control-Request-Method", "PUT")]
    answer = request(server, "OPTIONS", "/shared", [("Origin", "https://evil.example"), *preflight])
    assert answer.status == 200 and answer.field("Access-Control-Allow-Origin") is None
    assert request(server, "OPTIONS", "/shared", [("Origin", "https://app2.example")]).status == 200
    assert len(backend.requests) == 2
    bad = [("Origin", "https://app2.example"), ("Access-Control-Request-Method", "PUT, GET")]
    assert request(server, "OPTIONS", "/shared", bad).status == 400
