"""RFC 6455 sections 5.5.1 and 7: the closing handshake, close codes and reasons, who ends the TCP connection.

Numbers in brackets are the cases of the Autobahn test suite with the same content, held to its strict verdicts.
"""

import time

import pytest

import ws

VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 32768, 65535]


def test_message_then_close(echo, listener):  # [7.1.1]
    client = echo.open("/echo", listener)
    client.close_sent = True
    client.send(ws.text("Hello World!") + ws.close(1000))
    assert client.events() == [("text", "Hello World!"), ("close", 1000, "")]


@pytest.mark.parametrize("behind", [ws.close(1000), ws.ping(), ws.text("late"), ws.frame(3), b"garbage", b"\xff" * 999])
def test_what_follows_a_close_is_not_looked_at(echo, listener, behind):  # [7.1.2 to 7.1.4]
    client = echo.open("/echo", listener)
    client.close_sent = True
    client.send(ws.close(1000) + behind)
    assert client.events() == [("close", 1000, "")]


def test_close_inside_a_message(echo):  # [7.1.5]
    client = echo.open("/echo")
    client.close_sent = True
    client.send(ws.text("fragment1", fin=False) + ws.close(1000) + ws.frame(ws.CONTINUATION, "fragment2"))
    assert client.events() == [("close", 1000, "")]


def test_big_message_then_close_then_ping(echo, listener):  # [7.1.6]
    client = echo.open("/echo", listener)
    big = "BAsd7&jh23" * 26000
    client.close_sent = True
    client.send(ws.text(big) + ws.text("Hello World!") + ws.close(1000) + ws.ping())
    assert client.events() == [("text", big), ("text", "Hello World!"), ("close", 1000, "")]


def test_close_without_code(echo, listener):  # [7.3.1]
    client = echo.open("/echo", listener)
    client.close_sent = True
    client.send(ws.close(None))
    events = client.events()
    assert events in ([("close", 1005, "")], [("close", 1000, "")]), events


def test_close_with_half_a_code_fails(echo):  # [7.3.2]
    client = echo.open("/echo")
    client.close_sent = True
    client.send(ws.frame(ws.CLOSE, b"a"))
    assert client.events()[0][:2] == ("close", 1002)


@pytest.mark.parametrize("reason", ["", "Hello World!", "*" * 123, "\u20ac" * 41, "\U0001f600"])
def test_close_with_reason(echo, reason):  # [7.3.3 to 7.3.5]
    client = echo.open("/echo")
    client.say_close(1000, reason)
    (event,) = client.events()
    assert event[:2] == ("close", 1000)
    assert event[2] in ("", reason)


def test_close_with_too_long_a_reason_fails(echo):  # [7.3.6]
    client = echo.open("/echo")
    client.close_sent = True
    client.send(ws.close(1000, "*" * 124))
    assert client.events()[0][:2] == ("close", 1002)


@pytest.mark.parametrize("reason", [b"\xff", b"ok\xed\xa0\x80", b"\xe2\x82", bytes.fromhex("cebaf4908080")])
def test_close_reason_that_is_no_utf8_fails(echo, reason):  # [7.5.1]
    client = echo.open("/echo")
    client.close_sent = True
    client.send(ws.close(1000, reason))
    assert client.events()[0][:2] == ("close", 1007)


@pytest.mark.parametrize("code", VALID_CODES)
def test_valid_code_is_echoed(echo, code):  # [7.7]
    client = echo.open("/echo")
    client.finish(code)


@pytest.mark.parametrize("code", INVALID_CODES)
@pytest.mark.parametrize("reason", [b"", b"reason"])
def test_invalid_code_fails(echo, code, reason):  # [7.9, 7.13]
    client = echo.open("/echo")
    client.close_sent = True
    client.send(ws.close(code, reason))
    assert client.events()[0][:2] == ("close", 1002)


def test_close_frame_byte_by_byte(echo, listener):
    client = echo.open("/echo", listener)
    client.close_sent = True
    client.send_chopped(ws.close(4321, "bye"), 1)
    assert client.events()[0][:2] == ("close", 4321)


# 7.1.1: the server ends the TCP connection first, and cleanly.


def test_server_ends_the_connection_first(echo):
    client = echo.open("/echo")
    client.send(ws.close())
    started = time.monotonic()
    assert client.receive() == ("close", 1000, "")
    client.expect_end()
    assert time.monotonic() - started < 2


def test_tls_ends_with_close_notify(echo):
    client = echo.open("/echo", "secure")
    client.send(ws.close())
    assert client.receive() == ("close", 1000, "")
    client.expect_end()
    assert not client.ragged_end


def test_close_arrives_in_spite_of_unread_bytes(echo, listener):
    # The Close must not be eaten by the reset that follows a close() with unread input: the server lingers.
    for _ in range(5):
        client = echo.open("/echo", listener)
        client.send(ws.frame(3) + ws.binary(b"x" * 200000)[:100000])
        time.sleep(0.05)
        client.send_while_open(b"y" * 5000)
        event = client.receive()
        assert event[:2] == ("close", 1002)
        client.drop()


def test_client_that_never_answers_a_close_is_let_go(echo):
    client = echo.open("/echo")
    client.send(ws.frame(3))
    assert client.receive()[:2] == ("close", 1002)
    client.expect_end()  # within the client's deadline, without our Close


def test_client_that_keeps_sending_after_the_failure_is_let_go(echo):
    client = echo.open("/echo")
    client.send(ws.frame(3))
    deadline = time.monotonic() + ws.TIMEOUT
    while client.send_while_open(ws.text("x" * 100)):
        assert time.monotonic() < deadline, "the server reads on for ever"
        time.sleep(0.01)


@pytest.mark.parametrize("leave", ["shutdown", "abort", "drop"])
def test_client_that_leaves_without_close(echo, listener, leave):
    client = echo.open("/echo", listener)
    client.send(ws.text("x"))
    assert client.receive() == ("text", "x")
    getattr(client, leave)()
    if leave == "shutdown":
        client.read_to_end()
    assert echo.process.poll() is None


def test_half_closed_client_is_not_kept(echo):
    client = echo.open("/echo")
    client.shutdown()
    rest = client.read_to_end()
    assert rest in (b"",) or rest[0] == 0x88, rest


def test_codes_that_the_server_closes_with_are_counted(start):
    server = start("[route /]\nmode = rooms\nprotocol = raw\nmax_message = 1k\n")
    for wire, code in [(ws.frame(3), 1002), (ws.text(b"\xff"), 1007), (ws.text("x" * 1025), 1009)]:
        client = server.open()
        client.send(wire)
        assert client.events()[-1][:2] == ("close", code)
        assert server.closed(code) == 1, server.status()
