"""auth = jwt and jwt_or_backend: tokens from each place, each algorithm, and every way in which one is not good.

The vectors of the RFCs are in tests/unit/proto/test_jwt.cc and tests/unit/net/test_signing_keys.cc.
"""

import json
import time

import pytest

import tokens
import ws
from belfry import run_daemon
from named_backend import NamedBackend
from tokens import Key

ROUTE = """
[route /ws]
auth = {auth}
jwt_key = file:{key}
{options}

[room chat:*]
join = backend
publish = backend

[room open:*]
join = user
publish = user
"""


def config(key, *options, auth="jwt"):
    return ROUTE.format(auth=auth, key=key.public, options="\n".join(options))


@pytest.fixture
def key(tmp_path):
    return Key("HS256", tmp_path)


def try_token(server, token, target="/ws"):
    """The answer to a handshake with this bearer token; None: without."""
    client = server.client()
    client.send(ws.request_head(target, add=[("Authorization", f"Bearer {token}")] if token is not None else []))
    answer = client.read_answer()
    if answer.status != 101:
        client.expect_end()
    client.drop()
    return answer


def expect_bad(server, token):
    before = len(server.log_lines())
    answer = try_token(server, token)
    assert answer.status == 401, (answer.status, token)
    assert answer.field("WWW-Authenticate") == 'Bearer error="invalid_token"'
    assert answer.json()["error"]["code"] == 401
    # Neither the answer nor the log has a part of it.
    parts = [part for part in token.split(".") if len(part) > 12]
    logged = "\n".join(line for _, line in server.log_lines()[before:])
    assert not any(part in logged or part in answer.body.decode() for part in parts)
    return answer.json()["error"]["message"]


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
def test_each_algorithm(start, tmp_path, algorithm):
    key = Key(algorithm, tmp_path)
    other = Key(algorithm, tmp_path, "other", b"another secret of thirty-two bytes or more")
    server = start(config(key))
    client = server.open_json("/ws", add=[("Authorization", "Bearer " + key.token(sub="56"))])
    assert client.welcome["user"] == "56"
    assert 3590 <= client.welcome["expires_in"] <= 3600
    expect_bad(server, other.token(sub="56"))
    good = key.token(sub="56")
    head, body, signature = good.split(".")
    forged = tokens.encode(json.dumps({"sub": "1", "exp": int(time.time()) + 60}).encode())
    expect_bad(server, f"{head}.{forged}.{signature}")
    swapped = ("B" if signature[5] == "A" else "A").join((signature[:5], signature[6:]))
    expect_bad(server, f"{head}.{body}.{swapped}")
    expect_bad(server, f"{head}.{body}.")
    expect_bad(server, f"{head}.{body}")


def test_no_token(start, key):
    server = start(config(key))
    answer = try_token(server, None)
    assert answer.status == 401
    assert answer.field("WWW-Authenticate") == "Bearer"
    assert server.refused(401) == 1
    answer = try_token(server, "", "/ws")
    assert answer.status == 401 and answer.field("WWW-Authenticate") == "Bearer"


def test_times(start, key):
    server = start(config(key, "jwt_leeway = 60s"))
    now = int(time.time())
    expect_bad(server, key.token(sub="1", exp=now - 120))
    expect_bad(server, key.token(sub="1", exp=None))
    expect_bad(server, key.token(sub="1", exp="soon"))
    expect_bad(server, key.token(sub="1", nbf=now + 120))
    assert try_token(server, key.token(sub="1", nbf=now + 50)).status == 101
    assert try_token(server, key.token(sub="1", exp=now - 20)).status == 101
    assert try_token(server, key.token(sub="1", exp=now + 0.5 + 3600)).status == 101


def test_times_without_leeway(start, key):
    server = start(config(key, "jwt_leeway = 0s"))
    now = int(time.time())
    expect_bad(server, key.token(sub="1", exp=now - 2))
    expect_bad(server, key.token(sub="1", nbf=now + 50))
    assert try_token(server, key.token(sub="1", nbf=now - 2)).status == 101


def test_issuer_and_audience(start, key):
    server = start(config(key, "jwt_issuer = https://issuer.example", "jwt_audience = one, two"))
    good = {"sub": "1", "iss": "https://issuer.example", "aud": "two"}
    assert try_token(server, key.token(**good)).status == 101
    assert try_token(server, key.token(**{**good, "aud": ["x", "one"]})).status == 101
    for bad in ({"iss": None}, {"iss": "https://issuer.example/"}, {"aud": None}, {"aud": "three"}, {"aud": []},
                {"aud": "one, two"}):
        expect_bad(server, key.token(**{**good, **bad}))


def test_the_token_does_not_choose_the_algorithm(start, tmp_path):
    rsa = Key("RS256", tmp_path)
    server = start(config(rsa))
    body = tokens.encode(json.dumps({"sub": "1", "exp": int(time.time()) + 60}).encode())
    for name in ("none", "None", "NONE", "nOnE", "", None, 5):
        head = tokens.encode(json.dumps({"alg": name}).encode())
        expect_bad(server, f"{head}.{body}.")
        expect_bad(server, f"{head}.{body}.{tokens.encode(b'x' * 32)}")
    # The public key, which everybody knows, as HMAC secret.
    for secret in (rsa.public.read_bytes(), rsa.public.read_bytes().rstrip()):
        confused = Key("HS256", tmp_path, "confused", secret)
        expect_bad(server, confused.token(sub="1"))
    expect_bad(server, rsa.token({"alg": "HS256"}, sub="1"))
    expect_bad(server, rsa.token({"crit": ["exp"]}, sub="1"))
    assert try_token(server, rsa.token(sub="1")).status == 101


def test_only_the_algorithms_of_the_config(start, key):
    server = start(config(key, "jwt_algorithms = RS256, ES256"))
    expect_bad(server, key.token(sub="1"))


def test_several_keys_by_kid(start, tmp_path):
    old, new = Key("RS256", tmp_path, "old"), Key("EdDSA", tmp_path, "new")
    keys = f"jwt_key = kid=old file:{old.public}\njwt_key = kid=new file:{new.public}"
    server = start(f"[route /ws]\nauth = jwt\n{keys}\n")
    assert try_token(server, old.token({"kid": "old"}, sub="1")).status == 101
    assert try_token(server, new.token({"kid": "new"}, sub="1")).status == 101
    expect_bad(server, old.token({"kid": "new"}, sub="1"))
    expect_bad(server, old.token({"kid": "other"}, sub="1"))


def test_sizes(start, key):
    server = start(config(key))
    short = len(key.token(sub="1", pad=""))
    pad = (8192 - short) * 3 // 4
    while len(key.token(sub="1", pad="x" * pad)) > 8192:
        pad -= 1
    assert try_token(server, key.token(sub="1", pad="x" * pad)).status == 101
    expect_bad(server, key.token(sub="1", pad="x" * (pad + 8)))
    for garbage in ("x", ".", "..", "...", "a.b.c", "a.b.c.d", "%%%", "~" * 100):
        expect_bad(server, garbage)


# Where it is looked for.


def test_places(start, key):
    server = start(config(key, "token = header, cookie:session, query:token, subprotocol"))

    def user(target="/ws", **options):
        return server.open_json(target, **options).welcome["user"]

    named = {name: key.token(sub=name) for name in ("header", "cookie", "query", "subprotocol")}
    header, cookie = ("Authorization", "bearer " + named["header"]), ("Cookie", "a=b; session=" + named["cookie"])
    query = "/ws?x=y&token=" + named["query"]
    protocols = ["belfry.v1.json", "belfry.token." + named["subprotocol"]]
    assert user(add=[header]) == "header"
    assert user(add=[cookie]) == "cookie"
    assert user(query) == "query"
    assert user(protocols=protocols) == "subprotocol"
    # The first place that has one decides.
    assert user(query, add=[header, cookie], protocols=protocols) == "header"
    assert user(query, add=[cookie], protocols=protocols) == "cookie"
    assert user(query, protocols=protocols) == "query"
    assert user(query, add=[("Authorization", "Basic dXNlcjpwYXNz")]) == "query"


def test_the_token_is_never_the_chosen_subprotocol(start, key):
    server = start(config(key))
    client = server.open("/ws", protocols=["belfry.token." + key.token(sub="1"), "belfry.v1.json"])
    assert client.answer.field("Sec-WebSocket-Protocol") == "belfry.v1.json"
    server.open("/ws", protocols=["belfry.token." + key.token(sub="1"), "belfry.v1.json"])


def test_a_place_that_is_not_listed_is_not_looked_at(start, key):
    server = start(config(key))  # header and subprotocol
    for head in (ws.request_head("/ws?token=" + key.token(sub="1")),
                 ws.request_head("/ws", add=[("Cookie", "token=" + key.token(sub="1"))])):
        client = server.client()
        client.send(head)
        assert client.read_answer().status == 401


def test_two_authorization_fields(start, key):
    server = start(config(key))
    client = server.client()
    client.send(ws.request_head("/ws", add=[("Authorization", "Bearer " + key.token(sub="1"))] * 2))
    assert client.read_answer().status == 400


# What the claims give.


def test_rooms_of_the_token(start, key):
    server = start(config(key))
    token = key.token(sub="1", rooms={"join": ["chat:*"], "publish": ["chat:1"]})
    client = server.open_json("/ws", add=[("Authorization", "Bearer " + token)])

    def ask(kind, room):
        client.send_json({"type": kind, "id": 1, "room": room, "data": 1, "echo": False})
        answer = client.receive_json()
        return answer.get("code", answer["type"])

    assert ask("join", "chat:1") == "ok"
    assert ask("join", "chat:2") == "ok"
    assert ask("join", "other:1") == 403
    assert ask("publish", "chat:1") == "ok"
    assert ask("publish", "chat:2") == 403
    assert ask("join", "open:1") == "ok"  # a user may
    assert ask("join", "@all") in (400, 403)


def renew(client, token):
    client.send_json({"type": "auth", "id": 6, "token": token})
    return client.receive_json()


def test_a_token_for_the_next_hours(start, key):
    server = start(config(key))
    client = server.open_json("/ws", add=[("Authorization", "Bearer " + key.token(sub="1", exp=int(time.time()) + 60))])
    answer = renew(client, key.token(sub="1", exp=int(time.time()) + 7200))
    assert (answer["type"], answer["id"]) == ("ok", 6)
    assert 7190 <= answer["expires_in"] <= 7200
    for bad in (key.token(sub="2"), key.token(), key.token(sub="1", exp=int(time.time()) - 60), "x", ""):
        answer = renew(client, bad)
        assert answer["type"] == "error" and answer["id"] == 6 and answer["code"] in (400, 401, 403), answer
    client.send_json({"type": "ping", "id": 7})
    assert client.receive_json() == {"type": "pong", "id": 7}


def test_routes_that_take_no_token(start):
    server = start("[route /ws]\n")
    answer = renew(server.open_json("/ws"), "x.y.z")
    assert answer["type"] == "error" and answer["code"] == 501


# With a backend.


@pytest.fixture
def backend():
    made = NamedBackend("app")
    yield made
    made.stop()


def upstream(backend):
    return f"[upstream app]\nserver = {backend.address}\n"


def test_jwt_or_backend(start, key, backend):
    server = start(upstream(backend) + config(key, "upstream = app", "hook = /hook", auth="jwt_or_backend"))
    client = server.open_json("/ws", add=[("Authorization", "Bearer " + key.token(sub="56"))])
    assert client.welcome["user"] == "56"
    assert not backend.requests
    assert "user" not in server.open_json("/ws").welcome
    assert [request[1] for request in backend.requests] == ["/hook"]
    expect_bad(server, key.token(sub="56", exp=1))  # not made good by asking elsewhere
    assert len(backend.requests) == 1


PROXY = """
[route /]
mode = proxy
upstream = app
auth = jwt
jwt_key = file:{key}
{options}
"""


def test_plain_http(start, key, backend):
    def get(server, *fields):
        client = server.client()
        lines = ["GET /page HTTP/1.1", "Host: localhost"] + [f"{name}: {value}" for name, value in fields]
        client.send(("\r\n".join(lines) + "\r\n\r\n").encode())
        return client.read_answer()

    plain = start(upstream(backend) + PROXY.format(key=key.public, options=""))
    strict = start(upstream(backend) + PROXY.format(key=key.public, options="auth_http = yes"))
    assert get(plain).status == 200  # the backend's own business
    assert get(strict).status == 401
    assert get(strict, ("Authorization", "Bearer " + key.token(sub="1", exp=1))).status == 401
    assert len(backend.requests) == 1
    assert get(strict, ("Authorization", "Bearer " + key.token(sub="1"))).status == 200
    # A tunnel needs it on both.
    for server in (plain, strict):
        assert try_token(server, None, "/socket").status == 401
    assert len(backend.requests) == 2


def test_a_token_is_good_for_its_own_request(start, key, backend):
    """Behind a proxy that shares connections among people, the next request on this one is another's."""
    proxy = PROXY.format(key=key.public, options="auth_http = yes")
    server = start(upstream(backend) + proxy + "[route /ws]\n")
    client = server.client()
    fields = "Host: localhost\r\nAuthorization: Bearer " + key.token(sub="1")
    client.send(f"GET /page HTTP/1.1\r\n{fields}\r\n\r\n".encode())
    assert client.read_answer().status == 200
    client.open("/ws")
    assert "user" not in client.receive_json()


@pytest.mark.parametrize(
    "lines, why",
    [
        ("auth = jwt", "jwt_key"),
        ("auth = jwt\njwt_key = tiny-secret", "32 bytes"),
        ("auth = jwt\njwt_key = {key}\njwt_algorithms = none", "HS256"),
        ("auth = jwt\njwt_key = {key}\ntoken = body", "subprotocol"),
        ("auth_http = yes", "auth"),
    ],
)
def test_mistakes_in_the_config(tmp_path, lines, why):
    path = tmp_path / "belfry.ini"
    listener = "[listener public]\nlisten = 127.0.0.1:0\n"
    path.write_text(listener + "[route /ws]\n" + lines.format(key="k" * 32) + "\n")
    result = run_daemon("-t", "-c", path)
    assert result.returncode == 1
    assert why in result.stdout + result.stderr
    assert "tiny-secret" not in result.stdout + result.stderr  # a secret is not quoted
    assert str(path) + ":" in result.stdout + result.stderr
