"""RFC 6455 section 4: the opening handshake as a server must read and answer it.

Refusals: test_handshake_refusals.py.
"""

import time

import pytest

import ws


def test_sample_of_the_rfc(echo, listener):
    # Section 1.3: this key gives this accept value.
    client = echo.client(listener)
    client.send(ws.request_head("/echo"))
    answer = client.read_answer()
    assert answer.status == 101
    assert answer.field("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer.field("Upgrade").lower() == "websocket"
    assert answer.field("Connection").lower() == "upgrade"
    assert answer.field("Sec-WebSocket-Protocol") is None
    assert answer.field("Sec-WebSocket-Extensions") is None
    assert answer.field("Content-Length") is None
    client.finish()


@pytest.mark.parametrize(
    "change",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "WEBSOCKET"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "upgrade"},
        {"Connection": "keep-alive, Upgrade"},  # as Firefox sends it
        {"Connection": "keep-alive,upgrade ,x"},
        {"Connection": ", Upgrade,"},  # empty list elements are legal (RFC 9110 section 5.6.1.2)
        {"Sec-WebSocket-Key": ws.SAMPLE_KEY + "  "},
        {"Sec-WebSocket-Version": "  13 "},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
        {"Sec-WebSocket-Extensions": 'foo; bar="baz", x-webkit-deflate-frame'},
        {"Sec-WebSocket-Protocol": "chat, superchat"},
        {"Origin": "http://localhost"},  # the page of this very host: others are in test_origin.py
        {"Content-Length": "0"},
        {"User-Agent": "tests/1.0 (\u00e9)", "Cookie": "a=b; c=d", "Accept-Language": "en"},
    ],
    ids=lambda change: "-".join(f"{k}={v}"[:40] for k, v in change.items()),
)
def test_accepted(echo, change):
    client = echo.client()
    client.send(ws.request_head("/echo", change=change))
    answer = client.read_answer()
    assert answer.status == 101, answer
    client.send(ws.text("hello"))
    assert client.receive() == ("text", "hello")
    client.finish()


def test_field_names_in_any_case_and_order(echo):
    client = echo.client()
    client.send(
        b"GET /echo HTTP/1.1\r\nsec-websocket-version:13\r\nSEC-WEBSOCKET-KEY: " + ws.SAMPLE_KEY.encode() + b"\r\n"
        b"connection:\tUpgrade\t\r\nupgrade:websocket\r\nhost:localhost\r\n\r\n"
    )
    assert client.read_answer().status == 101
    client.finish()


def test_lists_over_several_fields(echo):
    client = echo.client()
    head = ws.request_head("/echo", change={"Connection": "keep-alive"}, add=[("Connection", "Upgrade")])
    client.send(head)
    assert client.read_answer().status == 101
    client.finish()


def test_one_empty_line_before_the_request(echo):
    # RFC 9112 section 2.2: a server should pass over one.
    client = echo.client()
    client.send(b"\r\n" + ws.request_head("/echo"))
    assert client.read_answer().status == 101
    client.finish()


@pytest.mark.parametrize("target", ["/echo", "/echo?", "/echo?a=b&c=%20", "/echo/below", "http://localhost/echo"])
def test_targets(echo, target):
    client = echo.open(target)
    client.send(ws.text("x"))
    assert client.receive() == ("text", "x")
    client.finish()


# How the bytes are cut must not matter.


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_head_in_chops(echo, listener, size):
    client = echo.client(listener)
    client.send_chopped(ws.request_head("/echo"), size)
    assert client.read_answer().status == 101
    client.send(ws.text("x"))
    assert client.receive() == ("text", "x")
    client.finish()


def test_head_in_two_pieces_cut_at_its_end(echo, listener):
    head = ws.request_head("/echo")
    for behind in (1, 2, 3, 4):
        client = echo.client(listener)
        client.send(head[:-behind])
        time.sleep(0.02)
        client.send(head[-behind:])
        assert client.read_answer().status == 101
        client.finish()


def test_frames_behind_the_handshake_in_the_same_write(echo, listener):
    # On wss: in the same TLS record.
    client = echo.client(listener).open("/echo", behind=ws.text("early") + ws.ping(b"p") + ws.binary(b"bird"))
    assert [client.receive() for _ in range(3)] in (
        [("text", "early"), ("pong", b"p"), ("binary", b"bird")],
        [("pong", b"p"), ("text", "early"), ("binary", b"bird")],
        [("text", "early"), ("binary", b"bird"), ("pong", b"p")],
    )
    client.finish()


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 8, 11])
def test_part_of_a_frame_behind_the_handshake(echo, listener, cut):
    wire = ws.text("early")
    client = echo.client(listener).open("/echo", behind=wire[:cut])
    client.send(wire[cut:])
    assert client.receive() == ("text", "early")
    client.finish()


def test_head_cut_and_frames_behind_its_rest(echo, listener):
    head = ws.request_head("/echo")
    client = echo.client(listener)
    client.send(head[:40])
    time.sleep(0.02)
    client.send(head[40:] + ws.text("early"))
    assert client.read_answer().status == 101
    assert client.receive() == ("text", "early")
    client.finish()


def test_big_message_behind_the_handshake(echo, listener):
    # Larger than one read and than one TLS record.
    payload = bytes(range(256)) * 1000
    client = echo.client(listener).open("/echo", behind=ws.binary(payload))
    assert client.receive() == ("binary", payload)
    client.finish()


def test_illegal_frame_behind_the_handshake(echo, listener):
    client = echo.client(listener).open("/echo", behind=ws.text("x", key=None))
    assert client.events()[-1][:2] == ("close", 1002)


def test_close_behind_the_handshake(echo, listener):
    client = echo.client(listener).open("/echo", behind=ws.text("early") + ws.close(1000))
    client.close_sent = True
    assert client.events() == [("text", "early"), ("close", 1000, "")]


def test_client_gone_before_the_answer(echo, listener):
    for leave in ("drop", "abort"):
        client = echo.client(listener)
        client.send(ws.request_head("/echo") + ws.text("x"))
        getattr(client, leave)()
        client = echo.client(listener)
        client.send(ws.request_head("/echo")[:30])
        getattr(client, leave)()


def test_half_closed_behind_the_handshake(echo):
    client = echo.client()
    # It has ended the WebSocket connection before it began: an answer is allowed, keeping it is not.
    client.send(ws.request_head("/echo") + ws.text("x"))
    client.shutdown()
    answer = client.read_to_end()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 101 "), answer


def test_every_connection_has_a_room_of_its_own(echo):
    one, two = echo.open("/echo"), echo.open("/echo")
    one.send(ws.text("1"))
    assert one.receive() == ("text", "1")
    two.send(ws.text("2"))
    assert two.receive() == ("text", "2")
    one.expect_silence(0.05)
    one.finish()
    two.finish()
