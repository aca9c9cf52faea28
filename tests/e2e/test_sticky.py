"""Sticky backends: the same key goes to the same server, and the affinity cookie cannot be forged."""

import re

import pytest

from named_backend import NamedBackend


@pytest.fixture
def backends():
    made = [NamedBackend(f"b{i}") for i in range(4)]
    yield made
    for backend in made:
        backend.stop()


def config(backends, *lines, listener="trusted_proxies = 127.0.0.1"):
    servers = "\n".join(f"server = {backend.address}" for backend in backends)
    options = "\n".join(lines)
    return f"""
[listener public]
listen = 127.0.0.1:0
{listener}

[upstream app]
{servers}
{options}

[route /]
mode = proxy
upstream = app
"""


def ask(server, target="/", fields=(), listener="public", client=None):
    """(the backend's name, the answer) of one request."""
    own = client or server.client(listener)
    lines = [f"GET {target} HTTP/1.1", "Host: app.example"] + [f"{name}: {value}" for name, value in fields]
    own.send(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = own.read_answer()
    assert answer.status == 200, answer
    if client is None:
        own.drop()
    return answer.json()["backend"], answer


def spread(pick, keys):
    """The servers that the keys go to; each key to one and the same."""
    first = {key: pick(key) for key in keys}
    assert {key: pick(key) for key in keys} == first
    return set(first.values())


KEYS = [f"key-{i}" for i in range(24)]


@pytest.mark.parametrize("option", ["cookie:session", "header:X-Tenant", "query:doc"])
def test_a_key_of_the_request(start, backends, option):
    server = start(config(backends, f"sticky = {option}"))

    def pick(key):
        if option.startswith("query"):
            return ask(server, f"/x?a=b&doc={key}")[0]
        field = ("Cookie", f"a=b; session={key}") if option.startswith("cookie") else ("x-tenant", key)
        return ask(server, "/x", [field])[0]

    assert len(spread(pick, KEYS)) > 1


def test_by_address(start, backends):
    server = start(config(backends, "sticky = ip"))
    addresses = [f"203.0.113.{i}" for i in range(16)] + [f"2001:db8::{i}" for i in range(16)]
    assert len(spread(lambda address: ask(server, "/", [("X-Forwarded-For", address)])[0], addresses)) > 1


def test_another_belfry_picks_the_same(start, backends):
    one, two = start(config(backends, "sticky = query:doc")), start(config(backends, "sticky = query:doc"))
    for key in KEYS:
        assert ask(one, f"/?doc={key}")[0] == ask(two, f"/?doc={key}")[0]


def issued(answer):
    field = answer.field("Set-Cookie")
    found = field and re.fullmatch(r"belfry=([0-9a-f]{16}\.[0-9a-f]{32})(; .*)", field)
    assert found, field
    return found[1], found[2]


SECRET = "sticky_secret = a secret that both nodes know"


def test_an_affinity_cookie_is_issued_once(start, backends):
    server = start(config(backends, "sticky = cookie:belfry issue", SECRET))
    seen = set()
    for _ in range(12):
        name, answer = ask(server)
        cookie, attributes = issued(answer)
        assert attributes == "; Path=/; HttpOnly; SameSite=Lax"
        seen.add(name)
        for _ in range(3):
            again, answer = ask(server, "/", [("Cookie", f"other=1; belfry={cookie}")])
            assert again == name
            assert answer.field("Set-Cookie") is None
    assert len(seen) > 1


def test_an_affinity_cookie_over_tls_is_for_tls(start, backends):
    server = start(config(backends, "sticky = cookie:belfry issue"))
    _, answer = ask(server, "/", [("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https")])
    assert issued(answer)[1] == "; Path=/; HttpOnly; SameSite=Lax; Secure"


def test_a_forged_cookie_is_replaced(start, backends):
    server = start(config(backends, "sticky = cookie:belfry issue", SECRET))
    good = issued(ask(server)[1])[0]
    last = "1" if good[-1] == "0" else "0"
    first = "1" if good[0] == "0" else "0"
    for forged in ("", "x", good[:-1] + last, first + good[1:], good + "0", good[:17] + "0" * 32, "0" * 49):
        _, answer = ask(server, "/", [("Cookie", f"belfry={forged}")])
        assert issued(answer)[0] not in (forged, good)


def test_a_cookie_is_good_at_another_node_with_the_secret(start, backends):
    one = start(config(backends, "sticky = cookie:belfry issue", SECRET))
    two = start(config(backends, "sticky = cookie:belfry issue", "sticky_secret = the secret of tomorrow", SECRET))
    three = start(config(backends, "sticky = cookie:belfry issue"))
    name, answer = ask(one)
    cookie = [("Cookie", "belfry=" + issued(answer)[0])]
    other, answer = ask(two, "/", cookie)
    assert other == name and answer.field("Set-Cookie") is None
    issued(ask(three, "/", cookie)[1])


def test_each_connection_on_its_own(start, backends):
    server = start(config(backends, "sticky = conn"))
    assert len({ask(server)[0] for _ in range(40)}) > 1
    assert all(answer.field("Set-Cookie") is None for _, answer in [ask(server)])
