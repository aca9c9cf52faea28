"""What one address, one user, one connection and one room may do, and whose address counts behind proxies.

GCRA is tested to the millisecond in tests/unit/modules/test_rate_limit.cc. Here rates are so low (a few a minute, or an
hour) that only the burst passes while a test runs.
"""

import ipaddress
import struct

import pytest

import ws
from belfry import wait_until
from tokens import Key

ECHO = """
[route /echo]
protocol = raw
join_on_connect = echo:{{conn}}
echo = yes
{options}

[room echo:*]
join = anyone
publish = members

[listener public]
listen = 127.0.0.1:0
{listener}
"""


def echo(*options, listener=""):
    return ECHO.format(options="\n".join(options), listener=listener)


def handshake(server, fields=(), before=b"", target="/echo"):
    """(the answer, the client) of one handshake."""
    client = server.client()
    client.send(before + ws.request_head(target, add=fields))
    return client.read_answer(), client


def expect_limit(answer, client):
    assert answer.status == 429
    assert answer.json()["error"]["code"] == 429
    assert int(answer.field("Retry-After")) >= 1
    client.expect_end()


# Connections.


def test_connection_rate(start):
    server = start(echo("connection_rate = 2/h burst=3"))
    for _ in range(3):
        answer, client = handshake(server)
        assert answer.status == 101
        client.drop()
    for _ in range(2):
        answer, client = handshake(server)
        expect_limit(answer, client)
        assert 1 <= int(answer.field("Retry-After")) <= 1800
    wait_until(lambda: server.refused(429) == 2, server.status)


def test_connections_of_an_address_at_once(start):
    server = start(echo("connections_per_ip = 2"))
    first, second = server.open("/echo"), server.open("/echo")
    for _ in range(3):  # refused ones don't add up
        expect_limit(*handshake(server))
    first.finish()

    def opens():
        answer, client = handshake(server)
        if answer.status != 101:
            client.drop()
        return answer.status == 101

    wait_until(opens, "the place of the closed connection is not free again")
    expect_limit(*handshake(server))
    second.abort()
    wait_until(opens, "the place of the aborted connection is not free again")


def test_a_handshake_refused_later_gives_its_place_back(start):
    server = start(echo("connections_per_ip = 1", "auth = jwt", "jwt_key = " + "k" * 32))
    for _ in range(5):
        assert handshake(server)[0].status == 401


def forwarded(value):
    return [("X-Forwarded-For", value)]


def test_addresses_behind_a_trusted_proxy(start):
    server = start(echo("connections_per_ip = 1", listener="trusted_proxies = 127.0.0.1, 10.0.0.0/8"))
    for good in ("203.0.113.1", "203.0.113.2", "2001:db8:0:1::1", "2001:db8:0:2::1", "6.6.6.6, 203.0.113.3, 10.1.2.3"):
        assert handshake(server, forwarded(good))[0].status == 101, good
    for known in ("203.0.113.1", "2001:db8:0:1:ffff::2", "1.1.1.1, 203.0.113.2", "8.8.8.8, 203.0.113.3",
                  "203.0.113.2, 10.9.9.9"):
        expect_limit(*handshake(server, forwarded(known)))
    # What a client writes in front of its own address is its own invention.
    assert handshake(server, forwarded("203.0.113.1, 203.0.113.9"))[0].status == 101


def test_who_is_no_proxy_cannot_choose_an_address(start):
    server = start(echo("connections_per_ip = 1"))
    assert handshake(server, forwarded("203.0.113.1"))[0].status == 101
    expect_limit(*handshake(server, forwarded("203.0.113.2")))


def proxy_v1(address):
    family = "TCP4" if ipaddress.ip_address(address).version == 4 else "TCP6"
    other = "192.0.2.1" if family == "TCP4" else "2001:db8::ffff"
    return f"PROXY {family} {address} {other} 40000 443\r\n".encode()


def proxy_v2(address):
    ip = ipaddress.ip_address(address)
    other = ipaddress.ip_address("192.0.2.1" if ip.version == 4 else "2001:db8::ffff")
    body = ip.packed + other.packed + struct.pack("!HH", 40000, 443)
    head = bytes([0x21, 0x11 if ip.version == 4 else 0x21])
    return b"\r\n\r\n\0\r\nQUIT\n" + head + struct.pack("!H", len(body)) + body


@pytest.mark.parametrize("header", [proxy_v1, proxy_v2])
def test_addresses_of_the_proxy_protocol(start, header):
    server = start(echo("connections_per_ip = 1", listener="proxy_protocol = yes"))
    for address in ("203.0.113.1", "203.0.113.2", "2001:db8:0:1::1", "2001:db8:0:2::1"):
        assert handshake(server, before=header(address))[0].status == 101
    for address in ("203.0.113.1", "2001:db8:0:1:ffff::2"):
        expect_limit(*handshake(server, before=header(address)))


# Messages of one connection.


def test_message_rate_closes(start):
    server = start(echo("message_rate = 1/h burst=3"))
    client, other = server.open("/echo"), server.open("/echo")
    client.send(b"".join(ws.text(str(i)) for i in range(3)))
    assert [client.receive_text() for _ in range(3)] == ["0", "1", "2"]
    client.send(ws.text("3") + ws.text("4"))
    assert client.events() == [("close", 4408, "rate limit")]
    assert server.closed(4408) == 1
    other.send(ws.text("mine"))  # each has its own
    assert other.receive_text() == "mine"


def test_byte_rate(start):
    server = start(echo("byte_rate = 1/h burst=1000"))
    client = server.open("/echo")
    client.send(ws.text("x" * 600) + ws.text("y" * 400) + ws.text(""))
    assert [client.receive_text() for _ in range(3)] == ["x" * 600, "y" * 400, ""]
    client.send(ws.text("z"))
    assert client.events() == [("close", 4408, "rate limit")]


def test_fragments_are_one_message_and_pings_are_none(start):
    server = start(echo("message_rate = 1/h burst=2"))
    client = server.open("/echo")
    client.send(ws.fragments(ws.TEXT, ["a", "b", "c"]) + ws.ping(b"1") + ws.ping(b"2") + ws.text("two"))
    seen = [client.receive() for _ in range(4)]
    assert sorted(seen) == [("pong", b"1"), ("pong", b"2"), ("text", "abc"), ("text", "two")]


def test_on_limit_drop(start):
    server = start(echo("message_rate = 1/h burst=2", "on_limit = drop"))
    client = server.open("/echo")
    before = server.dropped()
    client.send(b"".join(ws.text(str(i)) for i in range(5)) + ws.ping(b"end"))
    assert sorted(client.receive() for _ in range(3)) == [("pong", b"end"), ("text", "0"), ("text", "1")]
    wait_until(lambda: server.dropped() == before + 3, server.status)
    assert server.status()["dropped"]["rate"] == 3


def test_on_limit_slow(start):
    server = start(echo("message_rate = 20/s burst=2", "on_limit = slow"))
    client, other = server.open("/echo"), server.open("/echo")
    client.send(b"".join(ws.text(str(i)) for i in range(12)))
    other.send(ws.text("at once"))
    assert other.receive_text() == "at once"
    assert [client.receive_text() for _ in range(12)] == [str(i) for i in range(12)]
    client.send(ws.ping(b"alive"))
    assert client.receive() == ("pong", b"alive")


def test_a_client_may_leave_while_it_is_slowed(start):
    server = start(echo("message_rate = 30/m burst=1", "on_limit = slow"))
    client = server.open("/echo")
    client.send(b"".join(ws.text(str(i)) for i in range(20)))
    assert [client.receive_text() for _ in range(2)] == ["0", "1"]  # the second is paid for by the pause
    client.abort()
    wait_until(lambda: server.connections() == 0, server.status)


# Publishes: of a room, of a user.

CHAT = """
[route /ws]
auth = jwt
jwt_key = file:{key}
token = query:token
{options}

[room chat:*]
join = anyone
publish = members
{room}
"""


@pytest.fixture
def key(tmp_path):
    return Key("HS256", tmp_path)


def chat(key, options="", room=""):
    return CHAT.format(key=key.public, options=options, room=room)


def member(server, key, user, room="chat:1"):
    client = server.open_json("/ws?token=" + key.token(sub=user))
    assert client.welcome["user"] == user
    client.send_json({"type": "join", "id": 1, "room": room})
    assert client.receive_json()["type"] == "ok"
    return client


def publish(client, number, room="chat:1"):
    client.send_json({"type": "publish", "id": number, "room": room, "data": number, "echo": False})
    return client.receive_json()


def test_messages_of_a_room(start, key):
    server = start(chat(key, room="message_rate = 1/h burst=3"))
    one, two = member(server, key, "1"), member(server, key, "2")
    assert publish(one, 1)["type"] == "ok"
    assert two.receive_json()["data"] == 1
    assert publish(two, 2)["type"] == "ok"
    assert one.receive_json()["data"] == 2
    assert publish(one, 3)["type"] == "ok"
    assert two.receive_json()["data"] == 3
    for client in (one, two):  # the room is full, and nobody is closed for it
        answer = publish(client, 4)
        assert (answer["type"], answer["id"], answer["code"]) == ("error", 4, 429)
    three = member(server, key, "3", "chat:2")
    assert publish(three, 5, "chat:2")["type"] == "ok"


def test_messages_of_a_user(start, key):
    server = start(chat(key, "user_message_rate = 1/h burst=2\non_limit = drop"))
    one, again, other = member(server, key, "1"), member(server, key, "1", "chat:2"), member(server, key, "2", "chat:3")
    assert publish(one, 1)["type"] == "ok"
    assert publish(again, 2, "chat:2")["type"] == "ok"
    assert publish(one, 3)["code"] == 429
    assert publish(again, 4, "chat:2")["code"] == 429
    assert publish(other, 5, "chat:3")["type"] == "ok"


def test_messages_of_a_user_close(start, key):
    server = start(chat(key, "user_message_rate = 1/h burst=1"))
    one = member(server, key, "1")
    assert publish(one, 1)["type"] == "ok"
    assert publish(one, 2)["code"] == 429
    assert one.events()[-1][:2] == ("close", 4408)


def test_connections_of_a_user_at_once(start, key):
    server = start(chat(key, "connections_per_user = 2"))
    target = {user: "/ws?token=" + key.token(sub=user) for user in ("1", "2")}
    first, _ = server.open(target["1"]), server.open(target["1"])
    expect_limit(*handshake(server, target=target["1"]))
    server.open(target["2"])
    first.drop()

    def opens():
        return handshake(server, target=target["1"])[0].status == 101

    wait_until(opens, "the place of the closed connection is not free again")
    expect_limit(*handshake(server, target=target["1"]))


def test_nothing_is_limited_by_default(start):
    server = start(echo())
    clients = [server.open("/echo") for _ in range(130)]
    clients[0].send(ws.text("x") * 500)
    assert [clients[0].receive_text() for _ in range(500)] == ["x"] * 500
