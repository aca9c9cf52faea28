"""The client protocol in JSON: one object a text frame, answers by id, rooms and policies, data relayed verbatim."""

import json
import time

import pytest

import ws
from conftest import PUBLIC_LISTENER

CONFIG = """
[route /json]
mode = rooms
protocol = json
ping_interval = 25s
max_message = 64k

[route /raw]
mode = rooms
protocol = raw
echo = yes
join_on_connect = chat:raw

[route /lobby]
mode = rooms
protocol = json
join_on_connect = chat:lobby, inbox:{conn}, doc:{query.x}

[route /template]
mode = rooms
protocol = json
join_on_connect = {query.x}

[route /part]
mode = rooms
protocol = json
join_on_connect = doc:{query.x}

[room chat:*]
join = anyone
publish = members

[room chat:quiet]
join = anyone
publish = nobody

[room open:*]
join = anyone
publish = anyone

[room closed:*]
join = nobody
publish = nobody

[room user:*]
join = user
publish = user

[room ask:*]
join = backend
publish = backend

[room inbox:*]
join = anyone
publish = nobody

[room doc:*]
join = anyone
publish = members

[room doc:secret:*]
join = nobody
"""


@pytest.fixture(scope="module")
def shared_server(start_shared, certificate):
    return start_shared(CONFIG + PUBLIC_LISTENER + certificate.listener("secure"))


@pytest.fixture
def server(shared_server):
    yield shared_server
    shared_server.check()


def ask(client, request):
    """Sends a request with an id; the next object must be its answer."""
    client.send_json(request)
    answer = client.receive_json()
    assert answer.get("id") == request["id"], answer
    return answer


def join(client, room):
    answer = ask(client, {"type": "join", "id": 1, "room": room})
    assert answer["type"] == "ok" and answer["room"] == room, answer
    return client


def expect_error(client, request, code):
    answer = ask(client, request)
    codes = (code,) if isinstance(code, int) else code
    assert answer["type"] == "error" and answer["code"] in codes, answer
    assert answer["message"]
    return answer


def expect_closed(client, code):
    """The server says bye or nothing, then closes with that code."""
    events = client.events()
    assert events[-1][:2] == ("close", code), events
    assert all(kind == "text" and json.loads(t)["type"] in ("bye", "error") for kind, t in events[:-1]), events


# Welcome.


def test_welcome(server, listener):
    client = server.open_json("/json", listener)
    assert client.welcome["conn"].startswith("c_")
    assert client.welcome["ping"] == 25
    assert client.welcome["rooms"] == {}
    assert "user" not in client.welcome
    client.finish()


def test_connection_ids_differ(server):
    clients = [server.open_json("/json") for _ in range(20)]
    assert len({c.welcome["conn"] for c in clients}) == 20


def test_request_behind_the_handshake(server, listener):
    client = server.client(listener).open("/json", behind=ws.text('{"type":"ping","id":7}'))
    assert client.receive_json()["type"] == "welcome"
    assert client.receive_json() == {"type": "pong", "id": 7}
    client.finish()


# join_on_connect.


def test_join_on_connect_with_templates(server):
    client = server.open_json("/lobby?x=7")
    assert set(client.welcome["rooms"]) == {"chat:lobby", "inbox:" + client.welcome["conn"], "doc:7"}
    assert server.publish("inbox:" + client.welcome["conn"], '"hello"') == 1
    assert client.receive_json()["data"] == "hello"
    client.finish()


def test_join_on_connect_decodes_the_query(server):
    client = server.open_json("/lobby?a=b&x=%C3%A9%2F%3A")
    assert "doc:\u00e9/:" in client.welcome["rooms"]
    client.finish()


@pytest.mark.parametrize("query", ["", "?x=", "?y=1", "?x=a%20b", "?x=%00", "?x=%ff", "?x=" + "y" * 300])
def test_join_on_connect_without_a_usable_value(server, query):
    # Refused, or let in without that room; never in a room with a broken name.
    client = server.client()
    try:
        client.open("/lobby" + query)
    except ws.Refused as refused:
        assert refused.answer.status == 400
        return
    rooms = set(client.receive_json()["rooms"])
    assert all(room == "chat:lobby" or room.startswith("inbox:c_") for room in rooms - {"doc:"}), rooms
    client.finish()


@pytest.mark.parametrize(
    "target",
    [
        "/part?x=secret:1",
        "/template?x=%40all",
        "/template?x=%40user%3A5",
        "/template?x=%40conn%3Ac_1",
        "/template?x=closed%3A1",
        "/template?x=user%3A1",
        "/template?x=unconfigured",
    ],
)
def test_join_on_connect_takes_no_forbidden_room_from_the_query(server, target):
    # What the client wrote is subject to `join` like any wish of the client; and @ names are nobody's.
    client = server.client()
    try:
        client.open(target)
    except ws.Refused as refused:
        assert refused.answer.status in (400, 403)
        return
    assert client.receive_json()["rooms"] == {}
    client.finish()


# Join, leave, publish.


def test_publish_reaches_every_member_and_the_sender(server, listener):
    one, two, other = (server.open_json("/json", listener) for _ in range(3))
    join(one, "chat:1")
    join(two, "chat:1")
    join(other, "chat:2")
    before = time.time() * 1000
    one.send_json({"type": "publish", "id": 3, "room": "chat:1", "data": {"text": "hi"}})
    answers = [one.receive_json(), one.receive_json()]
    ok = next(a for a in answers if a["type"] == "ok")
    own = next(a for a in answers if a["type"] == "message")
    assert ok["id"] == 3
    message = two.receive_json()
    assert message == own
    assert message["type"] == "message"
    assert message["room"] == "chat:1"
    assert message["data"] == {"text": "hi"}
    assert message["from"]["conn"] == one.welcome["conn"]
    assert before - 1000 <= message["time"] <= time.time() * 1000 + 1000
    other.expect_silence(0.05)


def test_echo_false_leaves_the_sender_out(server):
    one, two = server.open_json("/json"), server.open_json("/json")
    join(one, "chat:1")
    join(two, "chat:1")
    assert ask(one, {"type": "publish", "id": 1, "room": "chat:1", "data": 1, "echo": False})["type"] == "ok"
    assert two.receive_json()["data"] == 1
    one.expect_silence(0.05)
    one.send_json({"type": "publish", "room": "chat:1", "data": 2, "echo": True})
    assert one.receive_json()["data"] == 2


def test_leave_ends_it(server):
    one, two = server.open_json("/json"), server.open_json("/json")
    join(one, "chat:1")
    join(two, "chat:1")
    assert ask(one, {"type": "leave", "id": 2, "room": "chat:1"})["type"] == "ok"
    assert server.members("chat:1") == 1
    ask(two, {"type": "publish", "id": 3, "room": "chat:1", "data": "x", "echo": False})
    one.expect_silence(0.05)
    join(one, "chat:1")
    ask(two, {"type": "publish", "id": 4, "room": "chat:1", "data": "y", "echo": False})
    assert one.receive_json()["data"] == "y"


def test_joining_twice_delivers_once(server):
    client = server.open_json("/json")
    join(client, "chat:1")
    join(client, "chat:1")
    assert server.publish("chat:1", "1") == 1
    assert client.receive_json()["data"] == 1
    client.expect_silence(0.05)
    assert ask(client, {"type": "leave", "id": 5, "room": "chat:1"})["type"] == "ok"
    assert server.members("chat:1") == 0


def test_leaving_a_room_one_is_not_in(server):
    client = server.open_json("/json")
    assert ask(client, {"type": "leave", "id": 5, "room": "chat:never"})["type"] in ("ok", "error")
    assert ask(client, {"type": "ping", "id": 6})["type"] == "pong"


def test_closing_leaves_all_rooms(server):
    client = server.open_json("/json")
    for i in range(10):
        join(client, f"chat:{i}")
    assert len(server.rooms()) == 10
    client.finish()
    server.check()
    assert server.rooms() == {}


def test_many_rooms_and_order_within_each(server):
    sender, member = server.open_json("/json"), server.open_json("/json")
    for room in range(20):
        join(member, f"open:{room}")
    for i in range(400):
        sender.send_json({"type": "publish", "room": f"open:{i % 20}", "data": i})
    seen = {}
    for _ in range(400):
        message = member.receive_json()
        seen.setdefault(message["room"], []).append(message["data"])
    assert seen == {f"open:{room}": list(range(room, 400, 20)) for room in range(20)}
    sender.expect_silence(0.05)  # without an id there is no answer, and it is in none of the rooms


def test_requests_in_one_write_are_answered_in_order(server):
    client = server.open_json("/json")
    client.send(b"".join(ws.text(json.dumps({"type": "ping", "id": i})) for i in range(200)))
    assert [client.receive_json() for _ in range(200)] == [{"type": "pong", "id": i} for i in range(200)]


# ids.


@pytest.mark.parametrize("number", [0, 1, -1, 2**31, 2**53, 2**63 - 1, -(2**63)])
def test_ids_come_back(server, number):
    client = server.open_json("/json")
    client.send(ws.text('{"type":"ping","id":%d}' % number))
    assert client.receive_json() == {"type": "pong", "id": number}


@pytest.mark.parametrize("bad", ['"1"', "1.5", "1e3", "null", "true", "[]", str(2**63), str(10**40)])
def test_id_that_is_no_integer(server, bad):
    client = server.open_json("/json")
    client.send(ws.text('{"type":"ping","id":%s}' % bad))
    answer = client.receive_json()
    assert answer["type"] == "error" and answer["code"] == 400 and "id" not in answer


def test_without_id_there_is_no_ok(server):
    client = server.open_json("/json")
    client.send_json({"type": "join", "room": "chat:1"})
    client.send_json({"type": "leave", "room": "chat:1"})
    client.send_json({"type": "ping"})
    assert client.receive_json() == {"type": "pong"}


def test_error_without_id_still_comes(server):
    client = server.open_json("/json")
    client.send_json({"type": "join", "room": "closed:1"})
    answer = client.receive_json()
    assert (answer["type"], answer["code"]) == ("error", 403) and "id" not in answer


# Policies.


@pytest.mark.parametrize("room", ["closed:1", "user:1", "ask:1", "unconfigured", "@all", "@user:1", "@conn:c_x"])
def test_join_is_refused(server, room):
    client = server.open_json("/json")
    expect_error(client, {"type": "join", "id": 1, "room": room}, (400, 403) if room[0] == "@" else 403)
    assert room[0] == "@" or server.members(room) == 0
    assert ask(client, {"type": "ping", "id": 2})["type"] == "pong"


@pytest.mark.parametrize("room", ["chat:1", "chat:quiet", "closed:1", "user:1", "ask:1", "unconfigured", "@all"])
def test_publish_is_refused_to_a_stranger(server, room):
    client = server.open_json("/json")
    expect_error(client, {"type": "publish", "id": 1, "room": room, "data": 1}, (400, 403) if room[0] == "@" else 403)


def test_publish_is_refused_to_a_member_where_nobody_may(server):
    client = server.open_json("/json")
    join(client, "chat:quiet")
    expect_error(client, {"type": "publish", "id": 1, "room": "chat:quiet", "data": 1}, 403)
    assert server.publish("chat:quiet", "2") == 1  # the backend may
    assert client.receive_json()["data"] == 2


def test_publish_by_anyone(server):
    member, stranger = server.open_json("/json"), server.open_json("/json")
    join(member, "open:1")
    assert ask(stranger, {"type": "publish", "id": 1, "room": "open:1", "data": 1})["type"] == "ok"
    assert member.receive_json()["data"] == 1


def test_publish_after_leaving_is_refused(server):
    client = server.open_json("/json")
    join(client, "chat:1")
    ask(client, {"type": "leave", "id": 2, "room": "chat:1"})
    expect_error(client, {"type": "publish", "id": 3, "room": "chat:1", "data": 1}, 403)


# Errors that keep the connection.


@pytest.mark.parametrize(
    "request_",
    [
        {"type": "join", "id": 1},
        {"type": "join", "id": 1, "room": 5},
        {"type": "join", "id": 1, "room": None},
        {"type": "leave", "id": 1},
        {"type": "publish", "id": 1, "data": 1},
        {"type": "publish", "id": 1, "room": "open:1", "data": 1, "echo": "no"},
        {"type": "join", "id": 1, "room": "chat:1", "since": 5},
    ],
    ids=json.dumps,
)
def test_bad_member(server, request_):
    client = server.open_json("/json")
    expect_error(client, request_, 400)
    assert ask(client, {"type": "ping", "id": 2})["type"] == "pong"


@pytest.mark.parametrize(
    "room",
    ["", "a b", "a\tb", "a\nb", "a\0b", "a\x7f", "a\u0085", "a\u00a0b", "a\u2003b", "chat:" + "x" * 251, "\u3000"],
    ids=ascii,
)
def test_bad_room_name(server, room):
    client = server.open_json("/json")
    for request in ("join", "leave", "publish"):
        expect_error(client, {"type": request, "id": 1, "room": room, "data": 1}, 400)


@pytest.mark.parametrize("room", [r"a\ud800", r"a\udc00b", r"a\u0000b", r"a\u0020b", r"a\u00a0b"])
def test_bad_room_name_in_escapes(server, room):
    client = server.open_json("/json")
    client.send(ws.text('{"type":"join","id":1,"room":"%s"}' % room))
    answer = client.receive_json()
    assert (answer["type"], answer["code"], answer["id"]) == ("error", 400, 1)


@pytest.mark.parametrize("name", ["x" * 250, "\u00e9\u20ac\U0001f600", "a/b?c#d%20", '"quoted"\\', "*", "a,b"])
def test_good_room_name(server, name):
    client = server.open_json("/json")
    join(client, "chat:" + name)
    assert server.publish("chat:" + name, "1") == 1
    assert client.receive_json()["room"] == "chat:" + name


@pytest.mark.parametrize("type_", ["subscribe", "", "JOIN", "welcome", "message", "\u00e9\n"])
def test_unknown_type(server, type_):
    client = server.open_json("/json")
    expect_error(client, {"type": type_, "id": 9}, (400, 404))
    assert ask(client, {"type": "ping", "id": 2})["type"] == "pong"


@pytest.mark.parametrize(
    "request_",
    [{"type": "call", "method": "x", "data": 1}, {"type": "auth", "token": "t"}, {"type": "members", "room": "chat:1"}],
    ids=lambda request: request["type"],
)
def test_what_needs_a_backend_or_a_user(server, request_):
    client = server.open_json("/json")
    expect_error(client, {**request_, "id": 4}, (403, 501))
    assert ask(client, {"type": "ping", "id": 2})["type"] == "pong"


def test_unknown_members_are_ignored(server):
    client = server.open_json("/json")
    request = {"type": "ping", "id": 1, **{f"x{i}": [i, {"y": None}] for i in range(20)}}
    assert ask(client, request) == {"type": "pong", "id": 1}


# Bad objects: the connection ends with 4400.


@pytest.mark.parametrize(
    "bad",
    [
        "", " ", "x", "{", "}", "[]", "null", "5", '"ping"', '{"type":"ping"', '{"type":"ping"}}', '{type:"ping"}',
        "{'type':'ping'}", '{"type":"ping",}', '{"type":"ping" "id":1}', '{"type":"ping"}{"type":"ping"}',
        '{"type":"ping"}\n{"type":"ping"}', '{"type":"ping"} x', '[{"type":"ping"}]', "{}", '{"id":1}', '{"type":5}',
        '{"type":null}', '{"type":"ping","type":"ping"}', '{"type":"ping","id":1,"id":2}', '{"type":"ping","x":tru}',
        '{"type":"ping","x":nul}', '{"type":"ping","x":NaN}', '{"type":"ping","x":01}', '{"type":"ping","x":1.}',
        '{"type":"ping","x":.5}', '{"type":"ping","x":+1}', '{"type":"ping","x":-}', '{"type":"ping","x":1e}',
        '{"type":"ping","x":"\\x"}', '{"type":"ping","x":"\\u12"}', '{"type":"ping","x":"\\u12G4"}',
        '{"type":"ping","x":"a\nb"}', '{"type":"ping","x":"\0"}', '{"type":"ping"} \0', '\ufeff{"type":"ping"}',
        '{"type":"ping","x":[1,]}', '{"type":"ping","x":[1 2]}', '{"type":"ping","x":{"a"}}', '{"type":"ping"}/**/',
        '{"type":"publish","room":"open:1","data":{"a":1}},"injected":{"b":2}}',
    ],
    ids=ascii,
)  # fmt: skip
def test_4400_for_what_is_no_object(server, bad):
    client = server.open_json("/json")
    client.send(ws.text(bad))
    expect_closed(client, 4400)


def nested(levels, opening="[", closing="]"):
    return opening * levels + closing * levels


def test_nesting_up_to_the_limit(server):
    client = join(server.open_json("/json"), "chat:deep")
    for data in (nested(63), '{"a":' * 62 + "{}" + "}" * 62):  # 64 levels with the request's own
        client.send(ws.text('{"type":"publish","room":"chat:deep","data":%s}' % data))
        assert f'"data":{data}' in client.receive_text()


@pytest.mark.parametrize(
    "data", [nested(64), nested(65), nested(1000), nested(30000), "[" * 60000, '{"a":' * 70 + "1" + "}" * 70]
)
def test_nesting_above_the_limit(server, data):
    client = server.open_json("/json")
    client.send(ws.text('{"type":"publish","room":"open:1","data":%s}' % data))
    expect_closed(client, 4400)


def test_1003_for_a_binary_frame(server):
    client = server.open_json("/json")
    client.send(ws.binary(b'{"type":"ping"}'))
    expect_closed(client, 1003)


def test_1007_for_bad_utf8(server):
    client = server.open_json("/json")
    client.send(ws.text(b'{"type":"ping","x":"\xff"}'))
    expect_closed(client, 1007)


def test_1009_above_max_message(server):
    client = server.open_json("/json")
    client.send(ws.text('{"type":"ping","x":"' + "y" * 65536 + '"}'))
    expect_closed(client, 1009)


def test_object_over_fragments_and_chops(server, listener):
    client = server.open_json("/json", listener)
    whole = json.dumps({"type": "ping", "id": 1, "x": "\u20ac" * 1000}, ensure_ascii=False).encode()
    client.send(ws.fragments(ws.TEXT, ws.split(whole, 7)))
    client.send_chopped(ws.text(whole), 100)
    assert [client.receive_json() for _ in range(2)] == [{"type": "pong", "id": 1}] * 2


# Verbatim data.

VERBATIM = [
    "null", "true", "false", "0", "-0", "-0.0", "1.0", "1.10", "1E5", "1e+05", "123456789012345678901234567890",
    "-123456789012345678901234567890.5", "0.1000000000000000055511151231257827", "1e400", "1e-400",
    '""', '"\\u0041\\/\\n"', '"\\ud83d\\ude00"', '"\u00e9\U0001f600"', '"\\u0000"', '"\u2028"', '"</script>"',
    "[]", "{}", '[ 1 ,2,\t3 ]', '{"a" :1 , "b":  [ ] }', '{"b":1,"a":2}', '{"a":1,"a":2}', '{"":""}',
    '{"type":"bye","room":"x"}', '"}{"', '[["]"]]', '"\\\\"', '"\\""', '"\\ud800"',
]  # fmt: skip


@pytest.mark.parametrize("data", VERBATIM, ids=ascii)
def test_data_is_relayed_verbatim(server, data):
    sender, member = server.open_json("/json"), server.open_json("/json")
    join(member, "open:verbatim")
    sender.send(ws.text(' { "data"\n:  %s  , "room":"open:verbatim","type":"publish" } ' % data))
    message = member.receive_text()
    assert f'"data":{data},' in message or f'"data":{data}}}' in message, message
    parsed = json.loads(message)
    assert (parsed["type"], parsed["room"]) == ("message", "open:verbatim")


def test_publish_without_data_is_null(server):
    client = join(server.open_json("/json"), "chat:1")
    client.send_json({"type": "publish", "room": "chat:1"})
    assert client.receive_json()["data"] is None


def test_escapes_in_names_and_types(server):
    client = server.open_json("/json")
    client.send(ws.text('{"\\u0074ype":"jo\\u0069n","id":1,"room":"chat:\\u0041\\ud83d\\ude00"}'))
    assert client.receive_json()["room"] == "chat:A\U0001f600"
    assert server.members("chat:A\U0001f600") == 1


def test_large_data(server):
    client = join(server.open_json("/json"), "chat:1")
    data = json.dumps("x" * 60000)
    client.send(ws.text('{"type":"publish","room":"chat:1","data":%s}' % data))
    assert f'"data":{data}' in client.receive_text()


# Subprotocols.


def test_no_subprotocol_no_field(server):
    assert server.open("/json").answer.field("Sec-WebSocket-Protocol") is None


@pytest.mark.parametrize(
    "offer", [("belfry.v1.json",), ("chat", "belfry.v1.json"), ("belfry.token.abc", "belfry.v1.json")]
)
def test_json_on_a_raw_route(server, offer):
    client = server.open("/raw", protocols=offer)
    assert client.answer.field("Sec-WebSocket-Protocol") == "belfry.v1.json"
    assert client.receive_json()["type"] == "welcome"


def test_raw_on_a_json_route(server):
    client = server.open("/json?room=chat:1", protocols=("belfry.v1.raw",))
    assert client.answer.field("Sec-WebSocket-Protocol") == "belfry.v1.raw"
    server.publish("chat:1", "bytes")
    assert client.receive() == ("text", "bytes")


def test_the_first_known_subprotocol_is_taken(server):
    for offer in [("belfry.v1.json", "belfry.v1.raw"), ("belfry.v1.raw", "belfry.v1.json")]:
        assert server.open("/json", protocols=offer).answer.field("Sec-WebSocket-Protocol") == offer[0]


@pytest.mark.parametrize("offer", [("chat",), ("belfry.v2.json",), ("BELFRY.V1.RAW",), ("belfry.v1.raw.x",)])
def test_unknown_subprotocol_is_not_chosen(server, offer):
    client = server.open("/json", protocols=offer)
    assert client.answer.field("Sec-WebSocket-Protocol") is None
    assert client.receive_json()["type"] == "welcome"  # the route's own protocol


def test_token_is_never_chosen_nor_logged(server):
    client = server.open("/json", protocols=("belfry.token.sesame42",))
    assert client.answer.field("Sec-WebSocket-Protocol") is None
    assert "sesame42" not in server.log()


# Between the protocols.


def test_raw_and_json_members_of_one_room(server):
    raw, client = server.open("/raw"), join(server.open_json("/json"), "chat:raw")
    client.send(ws.text('{"type":"publish","room":"chat:raw","data":{"a" : 1},"echo":false}'))
    assert raw.receive() == ("text", '{"a" : 1}')
    raw.send(ws.text('{"b" : 2}'))
    assert '"data":{"b" : 2}' in client.receive_text()
    assert raw.receive() == ("text", '{"b" : 2}')
    raw.send(ws.text("no JSON"))
    assert client.receive_json()["data"] == "no JSON"
    raw.send(ws.binary(b"\xff\x00"))
    message = client.receive_json()
    assert message["data64"] == "/wA=" and "data" not in message


# Pings from the server.


def test_ping_and_pong_deadlines(start):
    server = start(
        "[route /json]\nmode = rooms\nprotocol = json\nping_interval = 1s\npong_timeout = 500ms\n"
        "[room chat:*]\njoin = anyone\n"
    )
    alive, dead = server.open_json("/json"), server.open_json("/json")
    kind, payload = alive.receive()
    assert kind == "ping"
    alive.send(ws.pong(payload))
    kind, payload = alive.receive()
    assert kind == "ping"  # the pong was counted
    alive.send(ws.pong(payload))
    events = dead.events()
    assert events[0][0] == "ping"
    assert events[-1][0] == "close" and events[-1][1] in (1001, 1008, 1011), events
    alive.send_json({"type": "ping", "id": 1})
    assert alive.receive_json() == {"type": "pong", "id": 1}


def test_idle_timeout(start):
    server = start("[route /json]\nmode = rooms\nprotocol = json\nidle_timeout = 1s\n")
    client = server.open_json("/json")
    for _ in range(3):
        time.sleep(0.5)
        assert ask(client, {"type": "ping", "id": 1})["type"] == "pong"
    started = time.monotonic()
    assert client.events()[-1][0] == "close"
    assert 0.7 < time.monotonic() - started < 3
