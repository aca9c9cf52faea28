"""RFC 6455 section 5.4: fragmentation, and control frames between the fragments of a message.

Numbers in brackets are the cases of the Autobahn test suite with the same content, held to its strict verdicts.
"""

import time

import pytest

import ws

CHOPS = [None, 1]  # all at once, byte by byte
PARTS = ["fragment1", "fragment2", "fragment3", "fragment4", "fragment5"]


def send(client, wire, chop):
    """Sends pieces also where the server may have failed the connection before the last one."""
    for piece in ws.split(wire, chop or len(wire)):
        client.send_while_open(piece)


def expect_failure(client, before=()):
    events = client.events()
    assert events[:-1] == list(before)
    assert events[-1][:2] == ("close", 1002), events


@pytest.mark.parametrize("opcode", [ws.PING, ws.PONG])
@pytest.mark.parametrize("chop", CHOPS)
def test_fragmented_control_frame_fails(echo, opcode, chop):  # [5.1, 5.2]
    client = echo.open("/echo")
    send(client, ws.frame(opcode, "fragment1", fin=False) + ws.frame(ws.CONTINUATION, "fragment2"), chop)
    expect_failure(client)


@pytest.mark.parametrize("chop", CHOPS)
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("opcode", [ws.TEXT, ws.BINARY])
def test_message_in_fragments(echo, listener, opcode, count, chop):  # [5.3 to 5.5]
    client = echo.open("/echo", listener)
    send(client, ws.fragments(opcode, PARTS[:count]), chop)
    whole = "".join(PARTS[:count])
    assert client.receive() == (("text", whole) if opcode == ws.TEXT else ("binary", whole.encode()))
    client.finish()


@pytest.mark.parametrize("parts", [["", ""], ["", "", "a"], ["a", "", ""], ["", "", "", ""], ["", "a", "", "b", ""]])
def test_empty_fragments(echo, parts):
    client = echo.open("/echo")
    client.send(ws.fragments(ws.TEXT, parts) + ws.text("next"))
    assert [client.receive(), client.receive()] == [("text", "".join(parts)), ("text", "next")]
    client.finish()


@pytest.mark.parametrize("chop", CHOPS)
def test_ping_between_fragments_is_answered_first(echo, listener, chop):  # [5.6 to 5.8]
    client = echo.open("/echo", listener)
    wire = ws.text(PARTS[0], fin=False) + ws.ping("ping payload") + ws.frame(ws.CONTINUATION, PARTS[1])
    send(client, wire, chop)
    assert [client.receive(), client.receive()] == [("pong", b"ping payload"), ("text", "fragment1fragment2")]
    client.finish()


def test_ping_between_fragments_is_answered_before_the_message_ends(echo):  # [5.19, 5.20]
    client = echo.open("/echo")
    client.send(ws.text(PARTS[0], fin=False) + ws.frame(ws.CONTINUATION, PARTS[1], fin=False) + ws.ping("pongme 1!"))
    assert client.receive() == ("pong", b"pongme 1!")
    client.expect_silence()
    client.send(ws.frame(ws.CONTINUATION, PARTS[2], fin=False) + ws.frame(ws.CONTINUATION, PARTS[3], fin=False))
    client.send(ws.ping("pongme 2!") + ws.frame(ws.CONTINUATION, PARTS[4]))
    assert [client.receive(), client.receive()] == [("pong", b"pongme 2!"), ("text", "".join(PARTS))]
    client.finish()


def test_pong_between_fragments_is_passed_over(echo):
    client = echo.open("/echo")
    client.send(ws.text("a", fin=False) + ws.pong("x") + ws.frame(ws.CONTINUATION, "b"))
    assert client.receive() == ("text", "ab")
    client.finish()


def test_close_between_fragments_ends_the_message(echo):
    client = echo.open("/echo")
    client.send(ws.text("a", fin=False))
    client.finish()


@pytest.mark.parametrize("chop", CHOPS)
@pytest.mark.parametrize("fin", [True, False])
def test_continuation_of_nothing_fails(echo, fin, chop):  # [5.9 to 5.14]
    client = echo.open("/echo")
    send(client, ws.frame(ws.CONTINUATION, "non-continuation payload", fin=fin) + ws.text("Hello, world!"), chop)
    expect_failure(client)


@pytest.mark.parametrize("chop", CHOPS)
@pytest.mark.parametrize("fin", [True, False])
def test_continuation_of_nothing_behind_a_message_fails(echo, listener, fin, chop):  # [5.15]
    client = echo.open("/echo", listener)
    wire = ws.fragments(ws.TEXT, PARTS[:2]) + ws.frame(ws.CONTINUATION, PARTS[2], fin=fin) + ws.text(PARTS[3])
    send(client, wire, chop)
    expect_failure(client, [("text", "fragment1fragment2")])


@pytest.mark.parametrize("fin", [True, False])
def test_two_rounds_of_continuation_of_nothing_fail(echo, fin):  # [5.16, 5.17]
    client = echo.open("/echo")
    one = ws.frame(ws.CONTINUATION, "fragment1", fin=fin) + ws.text("fragment2", fin=False)
    send(client, (one + ws.frame(ws.CONTINUATION, "fragment3")) * 2, None)
    expect_failure(client)


@pytest.mark.parametrize("first", [ws.TEXT, ws.BINARY])
@pytest.mark.parametrize("second", [ws.TEXT, ws.BINARY])
@pytest.mark.parametrize("fin", [True, False])
def test_new_message_inside_a_message_fails(echo, first, second, fin):  # [5.18]
    client = echo.open("/echo")
    client.send(ws.frame(first, "fragment1", fin=False) + ws.frame(second, "fragment2", fin=fin))
    expect_failure(client)


def test_fragments_slowly(echo, listener):
    client = echo.open("/echo", listener)
    for i, part in enumerate(PARTS):
        client.send(ws.frame(ws.TEXT if i == 0 else ws.CONTINUATION, part, fin=i == 4))
        time.sleep(0.02)
    assert client.receive() == ("text", "".join(PARTS))
    client.finish()


def test_hundreds_of_fragments_are_no_offence(echo):
    # Fragments are bounded by bytes of bookkeeping, not by a small count.
    client = echo.open("/echo")
    client.send(ws.fragments(ws.BINARY, [b"x"] * 10000))
    assert client.receive() == ("binary", b"x" * 10000)
    client.finish()


def test_two_connections_do_not_mix_their_fragments(echo):
    one, two = echo.open("/echo"), echo.open("/echo")
    one.send(ws.text("one ", fin=False))
    two.send(ws.binary("two ", fin=False))
    two.send(ws.frame(ws.CONTINUATION, "2"))
    one.send(ws.frame(ws.CONTINUATION, "1"))
    assert one.receive() == ("text", "one 1")
    assert two.receive() == ("binary", b"two 2")
    one.finish()
    two.finish()


def test_client_that_leaves_inside_a_message(echo, listener):
    for leave in ("shutdown", "abort", "drop"):
        client = echo.open("/echo", listener)
        client.send(ws.text("a", fin=False) + ws.frame(ws.CONTINUATION, b"bc", length=1000)[:10])
        getattr(client, leave)()
