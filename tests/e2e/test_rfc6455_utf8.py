"""RFC 6455 section 8.1: text is UTF-8 (RFC 3629), and what is not fails at the first byte that shows it, with 1007.

The sequences are those of Markus Kuhn's "UTF-8 decoder capability and stress test", which the Autobahn test suite
uses too (cases 6.1 to 6.23).
"""

import time

import pytest

import ws

GREEK = bytes.fromhex("cebae1bdb9cf83cebcceb5")
LONELY = ["c0", "e080", "f0808080"[:6], "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf"]

VALID = [
    "68656c6c6f24776f726c64", "68656c6c6fc2a2776f726c64", "68656c6c6fe282ac776f726c64", "68656c6c6ff0a4ada2776f726c64",
    "cebae1bdb9cf83cebcceb5", "00", "c280", "e0a080", "f0908080", "7f", "dfbf", "efbfbf", "f48fbfbf", "ed9fbf",
    "ee8080", "efbfbd", "efbfbe", "f09fbfbe", "f09fbfbf", "f0afbfbe", "f3bfbfbf", "f48fbfbe", "efb790",
]  # fmt: skip

INVALID = [
    # codes of five and six bytes, above U+10FFFF
    "f888808080", "fc8480808080", "f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf", "f4908080", "f5808080",
    # continuation bytes without a start
    "80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf", bytes(range(0x80, 0xBF)).hex(),
    # starts without continuation
    *["".join(f"{byte:02x}20" for byte in run) for run in
      (range(0xC0, 0xDF), range(0xE0, 0xEF), range(0xF0, 0xF7), range(0xF8, 0xFB), range(0xFC, 0xFD))],
    # the last byte missing, one by one and all in a row
    *LONELY, "".join(LONELY),
    # bytes that never occur
    "fe", "ff", "fefeffff",
    # overlong: '/', the longest, NUL
    "c0af", "e080af", "f08080af", "f8808080af", "fc80808080af", "c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf",
    "fc83bfbfbfbf", "c080", "e08080", "f0808080", "f880808080", "fc8080808080",
    # surrogates, alone and in pairs
    "eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf", "eda080edb080", "eda080edbfbf",
    "edadbfedb080", "edadbfedbfbf", "edae80edb080", "edae80edbfbf", "edafbfedb080", "edafbfedbfbf",
]  # fmt: skip


def expect_1007(client, before=()):
    events = client.events()
    assert events[:-1] == list(before)
    assert events[-1][:2] == ("close", 1007), events


@pytest.mark.parametrize("sequence", VALID)
def test_valid(echo, sequence):
    client = echo.open("/echo")
    payload = bytes.fromhex(sequence)
    client.send(ws.text(payload))
    client.send(ws.fragments(ws.TEXT, ws.split(payload, 1)))
    client.send_chopped(ws.text(payload), 1)
    for _ in range(3):
        assert client.receive() == ("text", payload.decode())
    client.finish()


@pytest.mark.parametrize("sequence", INVALID)
def test_invalid(echo, sequence):
    client = echo.open("/echo")
    client.send(ws.text(bytes.fromhex(sequence)))
    expect_1007(client)


@pytest.mark.parametrize("sequence", INVALID)
def test_invalid_in_fragments_of_one_byte(echo, sequence):
    client = echo.open("/echo")
    client.send_while_open(ws.fragments(ws.TEXT, ws.split(bytes.fromhex(sequence), 1)))
    expect_1007(client)


@pytest.mark.parametrize("padding", [1, 7, 8, 9, 15, 16, 31, 63, 64, 1000])
@pytest.mark.parametrize("sequence", ["ff", "c0af", "eda080", "e282"])
def test_invalid_behind_ascii(echo, sequence, padding):
    # ASCII runs are skipped in wide words; the bad byte must be seen at any place in one.
    client = echo.open("/echo")
    client.send(ws.text(b"a" * padding + bytes.fromhex(sequence)))
    expect_1007(client)


@pytest.mark.parametrize("size", range(1, len(GREEK) + 1))
def test_prefixes(echo, size):
    client = echo.open("/echo")
    client.send(ws.text(GREEK[:size]))
    try:
        whole = GREEK[:size].decode()
    except UnicodeDecodeError:
        expect_1007(client)
    else:
        assert client.receive() == ("text", whole)
        client.finish()


@pytest.mark.parametrize("cut", range(1, len(GREEK)))
def test_character_cut_by_a_fragment(echo, listener, cut):
    client = echo.open("/echo", listener)
    client.send(ws.text(GREEK[:cut], fin=False) + ws.ping() + ws.frame(ws.CONTINUATION, GREEK[cut:]))
    assert [client.receive(), client.receive()] == [("pong", b""), ("text", GREEK.decode())]
    client.finish()


@pytest.mark.parametrize("tail", [GREEK[:1], GREEK[:3], b"\xf0\x9f\x98"])
def test_message_that_ends_inside_a_character(echo, tail):
    client = echo.open("/echo")
    client.send(ws.text(b"ok" + tail, fin=False) + ws.frame(ws.CONTINUATION, b""))
    expect_1007(client)


@pytest.mark.parametrize("bad", ["f4908080", "eda080"])
def test_fails_at_the_fragment_that_shows_it(echo, listener, bad):  # [6.4.1, 6.4.2]
    client = echo.open("/echo", listener)
    client.send(ws.text(GREEK, fin=False))
    client.expect_silence(0.05)
    client.send(ws.frame(ws.CONTINUATION, bytes.fromhex(bad), fin=False))
    expect_1007(client)


@pytest.mark.parametrize("bad", ["f490", "eda0", "c0", "80", "ff"])
def test_fails_at_the_byte_that_shows_it(echo, listener, bad):  # [6.4.3, 6.4.4]
    client = echo.open("/echo", listener)
    payload = GREEK + bytes.fromhex(bad)
    wire = ws.text(payload + b"edited", length=1000)  # the frame never ends
    head = len(wire) - len(payload + b"edited")
    client.send(wire[: head + len(GREEK)])
    client.expect_silence(0.05)
    client.send(wire[head + len(GREEK) : head + len(payload)])
    expect_1007(client)


def test_message_before_the_bad_one_is_answered(echo):
    client = echo.open("/echo")
    client.send(ws.text("good") + ws.text(b"\xff") + ws.ping())
    expect_1007(client, [("text", "good")])


def test_binary_may_hold_anything(echo):
    client = echo.open("/echo")
    for sequence in INVALID:
        client.send(ws.binary(bytes.fromhex(sequence)))
        assert client.receive() == ("binary", bytes.fromhex(sequence))
    client.finish()


def test_state_does_not_leak_into_the_next_message(echo):
    client = echo.open("/echo")
    client.send(ws.binary(b"\xe2\x82") + ws.text("\u20ac"))
    assert [client.receive(), client.receive()] == [("binary", b"\xe2\x82"), ("text", "\u20ac")]
    time.sleep(0.02)
    client.send(ws.text("\u20ac"))
    assert client.receive() == ("text", "\u20ac")
    client.finish()
