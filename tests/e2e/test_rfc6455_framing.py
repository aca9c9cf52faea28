"""RFC 6455 section 5: frames, masks, lengths, reserved bits and opcodes, control frames, message sizes.

Numbers in brackets are the cases of the Autobahn test suite with the same content, held to its strict verdicts: what
was valid before an error is still answered, in order, and nothing behind it is.
"""

import random
import struct
import time

import pytest

import ws

SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536]
HELLO = ("text", "Hello, world!")
RESERVED_DATA = [0x3, 0x4, 0x5, 0x6, 0x7]
RESERVED_CONTROL = [0xB, 0xC, 0xD, 0xE, 0xF]


def noise(size):
    return random.Random(size).randbytes(size)


def expect_failure(client, code, before=()):
    """The server sends Close with that code behind `before`, and ends the connection."""
    events = client.events()
    assert events[:-1] == list(before)
    assert events[-1][:2] == ("close", code), events


# 5.2: payload lengths [1.1, 1.2].


@pytest.mark.parametrize("size", SIZES)
def test_text_of_each_length_form(echo, listener, size):
    client = echo.open("/echo", listener)
    client.send(ws.text("*" * size))
    assert client.receive() == ("text", "*" * size)
    client.finish()


@pytest.mark.parametrize("size", SIZES)
def test_binary_of_each_length_form(echo, listener, size):
    client = echo.open("/echo", listener)
    payload = noise(size)
    client.send(ws.binary(payload))
    assert client.receive() == ("binary", payload)
    client.finish()


@pytest.mark.parametrize("chop", [1, 2, 3, 13])
def test_frames_in_small_chops(echo, listener, chop):
    client = echo.open("/echo", listener)
    payload = noise(300)
    client.send_chopped(ws.binary(payload) + ws.text("next"), chop)
    assert [client.receive(), client.receive()] == [("binary", payload), ("text", "next")]
    client.finish()


@pytest.mark.parametrize("chop", [997, 4096, 16384])
def test_64k_in_chops(echo, listener, chop):
    client = echo.open("/echo", listener)
    payload = noise(65536)
    client.send_chopped(ws.binary(payload), chop)
    assert client.receive() == ("binary", payload)
    client.finish()


@pytest.mark.parametrize("size,width", [(0, 16), (125, 16), (0, 64), (125, 64), (126, 64), (65535, 64)])
def test_length_in_more_bytes_than_needed_fails(echo, size, width):
    client = echo.open("/echo")
    client.send(ws.binary(noise(size), width=width))
    expect_failure(client, 1002)


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1, (1 << 64) - 4, (1 << 63) + 5])
def test_length_with_the_highest_bit_fails_at_once(echo, listener, length):
    client = echo.open("/echo", listener)
    client.send(ws.binary(b"x", length=length))
    expect_failure(client, 1002)


@pytest.mark.parametrize("length", [16 * 1024 * 1024 + 1, 1 << 31, 1 << 32, (1 << 63) - 1])
def test_length_above_max_message_fails_at_the_header(echo, listener, length):
    client = echo.open("/echo", listener)
    client.send(ws.binary(b"", length=length))
    expect_failure(client, 1009)


# 5.1, 5.3: masks.


@pytest.mark.parametrize("opcode", [ws.TEXT, ws.BINARY, ws.PING, ws.PONG, ws.CLOSE, ws.CONTINUATION])
@pytest.mark.parametrize("payload", [b"", b"ab"])
def test_unmasked_frame_fails(echo, opcode, payload):
    client = echo.open("/echo")
    client.send(ws.frame(opcode, payload, key=None))
    expect_failure(client, 1002)


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\xff\1\x80", b"\1\2\3\4"])
def test_any_mask_is_undone(echo, key):
    client = echo.open("/echo")
    for size in [*range(0, 40), 255, 256, 257, 1000]:
        payload = noise(size)
        client.send(ws.binary(payload, key=key))
        assert client.receive() == ("binary", payload)
    client.finish()


@pytest.mark.parametrize("cut", range(1, 24))
def test_mask_over_a_frame_cut_anywhere(echo, cut):
    client = echo.open("/echo")
    wire = ws.binary(b"0123456789abcdef")
    client.send(wire[:cut])
    time.sleep(0.02)
    client.send(wire[cut:])
    assert client.receive() == ("binary", b"0123456789abcdef")
    client.finish()


# 5.2: reserved bits [3.1 to 3.7].


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [ws.TEXT, ws.BINARY, ws.PING, ws.PONG, ws.CLOSE])
def test_reserved_bit_fails(echo, rsv, opcode):
    client = echo.open("/echo")
    client.send(ws.frame(opcode, b"", rsv=rsv))
    expect_failure(client, 1002)


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("chop", [None, 1])
def test_reserved_bit_behind_a_message(echo, listener, rsv, chop):
    client = echo.open("/echo", listener)
    wire = ws.text(HELLO[1]) + ws.text(HELLO[1], rsv=rsv) + ws.ping()
    for piece in ws.split(wire, chop or len(wire)):
        client.send_while_open(piece)
    expect_failure(client, 1002, [HELLO])


def test_reserved_bit_inside_a_message(echo):
    client = echo.open("/echo")
    client.send(ws.text("a", fin=False) + ws.frame(ws.CONTINUATION, b"b", rsv=4))
    expect_failure(client, 1002)


# 5.2: reserved opcodes [4.1, 4.2].


@pytest.mark.parametrize("opcode", RESERVED_DATA + RESERVED_CONTROL)
@pytest.mark.parametrize("payload", [b"", b"reserved opcode payload"])
def test_reserved_opcode_fails(echo, opcode, payload):
    client = echo.open("/echo")
    client.send(ws.frame(opcode, payload))
    expect_failure(client, 1002)


@pytest.mark.parametrize("opcode", RESERVED_DATA + RESERVED_CONTROL)
@pytest.mark.parametrize("chop", [None, 1])
def test_reserved_opcode_behind_a_message(echo, opcode, chop):
    client = echo.open("/echo")
    wire = ws.text(HELLO[1]) + ws.frame(opcode, b"payload") + ws.ping()
    for piece in ws.split(wire, chop or len(wire)):
        client.send_while_open(piece)
    expect_failure(client, 1002, [HELLO])


# 5.5: control frames [2.1 to 2.11].


@pytest.mark.parametrize("payload", [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125])
def test_ping_is_answered_with_its_payload(echo, listener, payload):
    client = echo.open("/echo", listener)
    client.send(ws.ping(payload))
    assert client.receive() == ("pong", payload)
    client.finish()


def test_ping_of_125_bytes_in_single_bytes(echo, listener):
    client = echo.open("/echo", listener)
    client.send_chopped(ws.ping(b"\xfe" * 125), 1)
    assert client.receive() == ("pong", b"\xfe" * 125)
    client.finish()


@pytest.mark.parametrize("opcode", [ws.PING, ws.PONG, ws.CLOSE])
@pytest.mark.parametrize("size,width", [(126, 16), (1000, 16), (65536, 64), (5, 16), (5, 64)])
def test_control_frame_above_125_bytes_fails(echo, opcode, size, width):
    client = echo.open("/echo")
    client.send(ws.frame(opcode, b"\x03\xe8" + b"a" * (size - 2), width=width)[:200])  # the header is enough
    expect_failure(client, 1002)


@pytest.mark.parametrize("opcode", [ws.PING, ws.PONG, ws.CLOSE])
def test_fragmented_control_frame_fails(echo, opcode):
    client = echo.open("/echo")
    client.send(ws.frame(opcode, b"", fin=False) + ws.frame(ws.CONTINUATION, b""))
    expect_failure(client, 1002)


@pytest.mark.parametrize("payload", [b"", b"unsolicited pong payload", b"\xff" * 125])
def test_unsolicited_pong_is_passed_over(echo, payload):
    client = echo.open("/echo")
    client.send(ws.pong(payload) + ws.ping(b"ping payload"))
    assert client.receive() == ("pong", b"ping payload")
    client.expect_silence()
    client.finish()


@pytest.mark.parametrize("chop", [None, 1])
def test_ten_pings_at_once(echo, listener, chop):
    # Section 5.5.3 would let the server answer the last one alone; ten are few enough to answer each. What a flood of
    # pings may cost: test_slow_and_flood.py.
    client = echo.open("/echo", listener)
    payloads = [b"payload-%d" % i for i in range(10)]
    wire = b"".join(ws.ping(p) for p in payloads)
    client.send_chopped(wire, chop or len(wire))
    assert [client.receive() for _ in payloads] == [("pong", p) for p in payloads]
    client.finish()


def test_each_of_ten_pings_one_after_the_other(echo):
    client = echo.open("/echo")
    for i in range(10):
        client.send(ws.ping(b"payload-%d" % i))
        assert client.receive() == ("pong", b"payload-%d" % i)
    client.finish()


def test_pong_carries_nothing_but_the_ping(echo):
    # Uninitialised memory behind a short payload was a bug of several servers.
    client = echo.open("/echo")
    client.send(ws.ping(b"\xaa" * 125))
    assert client.receive() == ("pong", b"\xaa" * 125)
    client.send(ws.ping(b"b"))
    assert client.receive() == ("pong", b"b")
    client.send(ws.ping())
    assert client.receive() == ("pong", b"")
    client.finish()


# Order and pipelining.


def test_many_messages_in_one_write_keep_their_order(echo, listener):
    client = echo.open("/echo", listener)
    messages = [("text", str(i)) if i % 2 else ("binary", noise(i)) for i in range(1000)]
    client.send(b"".join(ws.text(p) if kind == "text" else ws.binary(p) for kind, p in messages))
    assert [client.receive() for _ in messages] == messages
    client.finish()


def test_text_and_binary_keep_their_kind(echo):
    client = echo.open("/echo")
    client.send(ws.text("same bytes") + ws.binary(b"same bytes"))
    assert [client.receive(), client.receive()] == [("text", "same bytes"), ("binary", b"same bytes")]
    client.finish()


@pytest.mark.parametrize("size", [0, 16, 64, 256, 1024, 4096])
def test_round_trips(echo, listener, size):  # [9.7, 9.8, fewer]
    client = echo.open("/echo", listener)
    for _ in range(100):
        client.send(ws.text("*" * size))
        assert client.receive() == ("text", "*" * size)
    client.finish()


# Big messages [9.1 to 9.6, 10.1.1].


@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("size", [1 << 18, 1 << 20, 1 << 22, 1 << 23, 1 << 24])
def test_big_message(echo, listener, kind, size):
    client = echo.open("/echo", listener)
    payload = "BAsd7&jh23\u00e9\u20ac " * (size // 16) if kind == "text" else noise(1024) * (size // 1024)
    assert len(payload.encode() if kind == "text" else payload) == size
    client.send(ws.text(payload) if kind == "text" else ws.binary(payload))
    assert client.receive() == (kind, payload)
    client.finish()


@pytest.mark.parametrize("size", [64, 256, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22])
def test_4m_in_fragments(echo, size):
    client = echo.open("/echo")
    payload = b"0123456789abcdef" * (1 << 18)
    client.send(ws.fragments(ws.TEXT, ws.split(payload, size)))
    assert client.receive() == ("text", payload.decode())
    client.finish()


@pytest.mark.parametrize("chop", [64, 512, 2048])
def test_1m_in_chops(echo, listener, chop):
    client = echo.open("/echo", listener)
    payload = noise(1 << 20)
    client.send_chopped(ws.binary(payload), chop)
    assert client.receive() == ("binary", payload)
    client.finish()


def test_64k_in_fragments_of_1300(echo, listener):
    client = echo.open("/echo", listener)
    client.send(ws.fragments(ws.TEXT, ws.split(b"*" * 65536, 1300)))
    assert client.receive() == ("text", "*" * 65536)
    client.finish()


def test_message_of_exactly_max_message_in_fragments_and_one_byte_more(echo):
    client = echo.open("/echo")
    half = noise(1024) * 8192
    client.send(ws.binary(half, fin=False) + ws.frame(ws.CONTINUATION, half))
    assert client.receive() == ("binary", half + half)
    client.send(ws.binary(half, fin=False))
    # A control frame in between must not reset the count (gorilla #537).
    client.send(ws.ping(b"p") + ws.frame(ws.CONTINUATION, b"", length=len(half) + 1))
    expect_failure(client, 1009, [("pong", b"p")])


def test_random_frames_and_chops(echo, listener):
    # What comes back depends on the messages alone, not on fragments, chops, masks or control frames between them.
    dice = random.Random(6455)
    client = echo.open("/echo", listener)
    for _ in range(60):
        payload = dice.randbytes(dice.choice([0, 1, 7, 125, 126, 1000, 70000]))
        parts = ws.split(payload, dice.choice([1 << 20, 300, 33])) if len(payload) <= 1000 else [payload]
        wire = bytearray()
        for i, part in enumerate(parts):
            opcode = ws.BINARY if i == 0 else ws.CONTINUATION
            wire += ws.frame(opcode, part, fin=i == len(parts) - 1, key=dice.randbytes(4))
            if dice.random() < 0.2:
                wire += ws.pong(struct.pack("!I", i))
        client.send_chopped(bytes(wire), dice.choice([1, 5, 1448, 1 << 20]) if len(wire) < 2000 else 1448)
        assert client.receive() == ("binary", payload)
    client.finish()
