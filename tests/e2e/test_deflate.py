"""permessage-deflate (RFC 7692): what is agreed on, messages both ways, what a hostile client tries, and that a message
is compressed once whatever the number of its readers.

Numbers in brackets are the groups of the Autobahn test suite with the same content.
"""

import asyncio
import functools
import json
import random
import re
import zlib
from pathlib import Path

import pytest
import websockets

import ws

OFFER = "permessage-deflate; client_max_window_bits"  # Chromium's
TAKEOVER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
AUTOBAHN = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
NO_TAKEOVER = "; server_no_context_takeover"
WINDOW = "; server_max_window_bits="
# [13.1 to 13.7], those with 9 bits also with the 8 of older versions; [12] offers the first.
AUTOBAHN_OFFERS = [
    (AUTOBAHN, TAKEOVER),
    (AUTOBAHN + NO_TAKEOVER, TAKEOVER),
    (AUTOBAHN + WINDOW + "8", TAKEOVER + WINDOW + "8"),
    (AUTOBAHN + WINDOW + "9", TAKEOVER + WINDOW + "9"),
    (AUTOBAHN + WINDOW + "15", TAKEOVER + WINDOW + "15"),
    (AUTOBAHN + NO_TAKEOVER + WINDOW + "9", TAKEOVER + WINDOW + "9"),
    (AUTOBAHN + NO_TAKEOVER + WINDOW + "15", TAKEOVER + WINDOW + "15"),
    (
        f"{AUTOBAHN}{NO_TAKEOVER}{WINDOW}8, {AUTOBAHN}{NO_TAKEOVER}, {AUTOBAHN}",
        TAKEOVER + WINDOW + "8",
    ),
]
# [12.*.*, 13.*.*]: (bytes of a message, bytes of a fragment, 0: one frame).
SIZES = [(n, 0) for n in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)]
SIZES += [(n, 256) for n in (8192, 16384, 32768, 65536, 131072)] + [(131072, n) for n in (1024, 4096, 32768)]

ROOMS = """
[route /json]
max_message = 256k
send_queue = 4m
[route /raw]
protocol = raw
max_message = 256k
send_queue = 4m
[route /plain]
protocol = raw
compression = no
[room *]
join = anyone
publish = members
"""


def offering(offer):
    return {"Sec-WebSocket-Extensions": offer}


@functools.cache
def text_of(size, seed=1):
    """Words, as people write and programs send them: of so many bytes."""
    numbers = random.Random(seed)
    words = ["Faust", "river", "{", "}", '"price":', '"user":', "und", "die", "\u00dc", "mit", " ", ",", "null"]
    words = numbers.choices(words, k=size) + numbers.choices(range(1000), k=size)
    numbers.shuffle(words)
    text = "".join(map(str, words)).encode()[:size].decode("utf-8", "ignore")
    return text + "x" * (size - len(text.encode()))


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def open_deflate(server, target, offer=OFFER, **options):
    return server.open(target, change=offering(offer), **options)


@pytest.fixture
def packed(echo):
    """A connection to the echo that has agreed on compression."""
    return open_deflate(echo, "/echo")


def expect_close(client, code, before=()):
    events = client.events()
    assert events[:-1] == list(before)
    assert events[-1][:2] == ("close", code), events


# ---------------------------------------------------------------- what is agreed on


@pytest.mark.parametrize(
    "offer, answer",
    [
        ("permessage-deflate", TAKEOVER),
        (OFFER, TAKEOVER),
        ("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", TAKEOVER + WINDOW + "12"),
        ('permessage-deflate; server_max_window_bits="10"', TAKEOVER + WINDOW + "10"),
        ("x-webkit-deflate-frame, permessage-deflate", TAKEOVER),
        ("permessage-deflate; server_max_window_bits=7, permessage-deflate", TAKEOVER),
        (
            "permessage-deflate; server_max_window_bits=16, permessage-deflate; server_max_window_bits=11",
            TAKEOVER + WINDOW + "11",
        ),
        ("permessage-deflate; unknown, permessage-deflate; client_no_context_takeover", TAKEOVER),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=08", None),
        ("permessage-deflate; server_no_context_takeover=true", None),
        ("permessage-bzip2", None),
        *AUTOBAHN_OFFERS,
    ],
)
def test_negotiation(echo, offer, answer):
    client = open_deflate(echo, "/echo", offer)
    assert client.answer.field("Sec-WebSocket-Extensions") == answer
    client.send(ws.text("hello " * 100))
    assert client.receive_text() == "hello " * 100
    assert client.was_compressed == (answer is not None)
    client.finish()


def test_offers_in_several_fields(echo):
    name = "Sec-WebSocket-Extensions"
    fields = [(name, "permessage-deflate; x"), (name, "permessage-deflate; server_max_window_bits=9")]
    client = open_deflate(echo, "/echo", "other", add=fields)
    assert client.answer.field("Sec-WebSocket-Extensions") == TAKEOVER + WINDOW + "9"


def test_nobody_offers_nobody_gets(echo):
    client = echo.open("/echo")
    assert client.answer.field("Sec-WebSocket-Extensions") is None
    client.send(ws.text("a" * 10000))
    assert client.receive_text() == "a" * 10000
    assert not client.was_compressed


def test_a_route_without_compression(start):
    client = start(ROOMS).open("/plain", change=offering(OFFER))
    assert client.deflate is None
    client.send(ws.frame(ws.TEXT, ws.deflate("a"), rsv=4))
    expect_close(client, 1002)


# ---------------------------------------------------------------- messages


def echoed(client, opcode, payload, size_of_fragments, bits):
    compressed = ws.deflate(payload, bits)
    client.send(ws.compressed_fragments(opcode, ws.split(compressed, size_of_fragments or len(compressed))))
    assert client.receive() == ("text" if opcode == ws.TEXT else "binary", payload)
    return client.was_compressed


@pytest.mark.parametrize("offer, answer", AUTOBAHN_OFFERS)
def test_text_of_all_sizes(echo, offer, answer):  # [12.4, 12.5, 13.*]
    client = open_deflate(echo, "/echo", offer)
    for size, fragment in SIZES:
        for seed, bits in ((1, 9), (2, 15)):
            assert echoed(client, ws.TEXT, text_of(size, seed), fragment, bits) == (size >= 256)
    client.finish()


@pytest.mark.parametrize("offer, answer", AUTOBAHN_OFFERS[:3])
def test_binary_of_all_sizes(echo, listener, offer, answer):  # [12.1 to 12.3]
    client = open_deflate(echo, "/echo", offer, listener=listener)
    for size, fragment in SIZES:
        assert echoed(client, ws.BINARY, text_of(size).encode(), fragment, 15) == (size >= 256)
        assert not echoed(client, ws.BINARY, noise(size), fragment, 15)  # comes back plain: it would be larger
    client.finish()


def test_the_rfcs_examples(packed):
    for payload in (
        "f248cdc9c90700",
        "000500faff48656c6c6f00",
        "f348cdc9c9070000",
        "f24805000000ffffcac9c90700",
    ):
        packed.send(ws.frame(ws.TEXT, bytes.fromhex(payload), rsv=4))
        assert packed.receive_text() == "Hello"
    packed.send(ws.compressed_fragments(ws.TEXT, [b"\xf2\x48\xcd", b"\xc9\xc9\x07\x00"]))
    assert packed.receive_text() == "Hello"
    packed.send(ws.frame(ws.TEXT, b"\0", rsv=4) + ws.frame(ws.BINARY, b"\0", rsv=4))
    assert [packed.receive(), packed.receive()] == [("text", ""), ("binary", b"")]
    packed.finish()


def test_compressed_and_plain_in_turn(packed):
    wire = ws.frame(ws.TEXT, ws.deflate("one"), rsv=4) + ws.text("two")
    wire += ws.compressed_fragments(ws.TEXT, ws.split(ws.deflate("three"), 3)) + ws.fragments(ws.TEXT, ["fo", "ur"])
    packed.send(wire)
    assert [packed.receive_text() for _ in range(4)] == ["one", "two", "three", "four"]
    packed.finish()


@pytest.mark.parametrize("chop", [1, 7])
def test_byte_by_byte_with_pings_between(packed, chop):
    payload = text_of(3000)
    parts = ws.split(ws.deflate(payload), 100)
    wire = b""
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        wire += ws.frame(ws.CONTINUATION if i else ws.TEXT, part, fin=last, rsv=0 if i else 4)
        if not last:
            wire += ws.ping(str(i)) + (ws.frame(ws.CONTINUATION, b"", fin=False) if i % 3 == 0 else b"")
    packed.send_chopped(wire, chop)
    events = []
    while not events or events[-1][0] != "text":
        events.append(packed.receive())
    assert events[-1] == ("text", payload)
    packed.finish()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("opcode", [ws.TEXT, ws.BINARY, ws.CONTINUATION, ws.PING, ws.CLOSE])
def test_rsv1_where_nothing_was_agreed_on(echo, opcode):
    client = echo.open("/echo")
    client.send(ws.frame(opcode, b"\0", rsv=4))
    expect_close(client, 1002)


@pytest.mark.parametrize(
    "wire",
    [
        ws.frame(ws.TEXT, b"\0", rsv=4, fin=False) + ws.frame(ws.CONTINUATION, b"\0", rsv=4),
        ws.frame(ws.TEXT, b"a", fin=False) + ws.frame(ws.CONTINUATION, b"\0", rsv=4),
        ws.frame(ws.PING, b"\0", rsv=4),
        ws.frame(ws.CLOSE, b"\x03\xe8", rsv=4),
        ws.frame(ws.TEXT, b"\0", rsv=2),
        ws.frame(ws.TEXT, b"\0", rsv=5),
        ws.frame(ws.TEXT, b"\0", rsv=7),
        ws.frame(0x3, b"\0", rsv=4),
    ],
)
def test_rsv_bits_elsewhere(packed, wire):
    packed.send(wire)
    expect_close(packed, 1002)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x06",  # a reserved type of block
        bytes.fromhex("000500fafe"),  # a stored block whose length is denied
        ws.deflate("cut off " * 20)[:-2],
        bytes.fromhex("f200110000"),  # reaches into the message before: there is no context takeover
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x06",  # garbage behind a last block
        noise(500),
        ws.deflate(b"\xc3\x28"),  # text that is not UTF-8
        ws.deflate(b"\xe2\x82"),  # ends inside a character
    ],
)
def test_bad_payloads(packed, payload):
    packed.send(ws.frame(ws.TEXT, ws.deflate("Hello"), rsv=4))
    packed.send(ws.frame(ws.TEXT, payload, rsv=4) + ws.text("nobody reads this"))
    expect_close(packed, 1007, [("text", "Hello")])


def test_bytes_need_not_be_text(packed):
    packed.send(ws.frame(ws.BINARY, ws.deflate(b"\xc3\x28"), rsv=4))
    assert packed.receive() == ("binary", b"\xc3\x28")


def test_max_message_counts_inflated_bytes(start):
    server = start("[route /]\nprotocol = raw\necho = yes\njoin_on_connect = e:{conn}\nmax_message = 1000\n" + ROOMS)
    client = open_deflate(server, "/")
    for size in (999, 1000):
        client.send(ws.frame(ws.TEXT, ws.deflate("a" * size), rsv=4))
        assert client.receive_text() == "a" * size
    client.send(ws.frame(ws.BINARY, ws.deflate(noise(1000), level=0), rsv=4))  # with what zlib adds to it
    assert client.receive() == ("binary", noise(1000))
    client.send(ws.frame(ws.TEXT, ws.deflate("a" * 1001), rsv=4))
    expect_close(client, 1009)
    client = open_deflate(server, "/")
    client.send(ws.frame(ws.BINARY, noise(1127), rsv=4))  # too long before it is inflated
    expect_close(client, 1009)
    assert server.closed(1009) == 2


def peak_bytes(pid):
    """The most that the process ever had in memory."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def bomb(blocks):
    """`blocks` times 10 MB of zeros: each in 10 KB, and none refers to another."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(10_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * blocks


@pytest.mark.load  # that is: on the release build, whose figures of memory mean something
@pytest.mark.parametrize("limit", ["64k", "1m", "16m"])
def test_bombs_cost_what_max_message_allows(start, limit):
    most = {"64k": 1 << 16, "1m": 1 << 20, "16m": 16 << 20}[limit]
    server = start(f"[belfry]\nworkers = 1\n[route /]\nprotocol = raw\nmax_message = {limit}\nsend_queue = 64m\n")
    payload = bomb(1000)[: most - 1000]  # 10 GB, as far as a frame may be long
    warm = open_deflate(server, "/")
    warm.send(ws.frame(ws.BINARY, ws.deflate(bytes(1000)), rsv=4))
    warm.finish()
    pid = server.worker_pid()
    before = peak_bytes(pid)
    for opcode, fragment in [(ws.BINARY, 0), (ws.TEXT, 0), (ws.BINARY, 60000)] * 3:
        client = open_deflate(server, "/")
        parts = ws.split(payload, fragment or len(payload))
        client.send_while_open(ws.compressed_fragments(opcode, parts))
        expect_close(client, 1009)
    highest = peak_bytes(pid) - before
    print(f"{len(payload)} bytes of bomb, max_message {most}: at most {highest} bytes more")
    assert server.closed(1009) == 9
    if not server.sanitized():
        # What came in (the message is whole before it is inflated), and what came out.
        assert highest < 2 * most + most // 16 + (2 << 20)


# ---------------------------------------------------------------- rooms


def test_one_deflate_for_all_readers(start):
    server = start("[belfry]\nworkers = 1\n" + ROOMS)
    offers = {"wide": OFFER, "narrow": AUTOBAHN + WINDOW + "9", "8": AUTOBAHN + WINDOW + "8", "plain": None}
    clients = []
    for protocol in ("json", "raw"):
        for offer in list(offers.values()) * 3:
            change = offering(offer) if offer else None
            clients.append((protocol, offer, server.open(f"/{protocol}?room=news", change=change)))
    for protocol, _, client in clients:
        if protocol == "json":
            assert client.receive_json()["type"] == "welcome"
            client.send_json({"type": "join", "id": 1, "room": "news"})
            assert client.receive_json()["type"] == "ok"
    sender = server.open("/raw?room=news", change=offering(OFFER))
    payload = text_of(5000)
    before = server.status()
    sender.send(ws.frame(ws.TEXT, ws.deflate(payload), rsv=4))
    for protocol, offer, client in clients:
        got = client.receive_text()
        assert got == payload if protocol == "raw" else json.loads(got)["data"] == payload
        assert client.was_compressed == (offer is not None)
    after = server.status()
    # JSON and raw, of each the wide window, the narrow one and the plain form.
    assert after["deflates"] - before["deflates"] == 4
    assert after["encodes"] - before["encodes"] == 6
    assert after["inflates"] - before["inflates"] == 1
    assert after["deliveries"] - before["deliveries"] == len(clients)


def test_short_and_incompressible_messages_share_the_plain_form(start):
    server = start("[belfry]\nworkers = 1\n" + ROOMS)
    clients = [server.open("/raw?room=news", change=offering(o) if o else None) for o in (OFFER, None, OFFER)]
    before = server.status()
    for payload in (b"short " * 10, noise(5000)):
        server.publish("news", payload)
        for client in clients:
            assert client.receive()[1] in (payload, payload.decode("latin-1"))
            assert not client.was_compressed
    after = server.status()
    assert after["encodes"] - before["encodes"] == 2
    assert after["deflates"] - before["deflates"] == 1  # the noise: it was tried once


def test_compression_min(start):
    server = start("[belfry]\nworkers = 1\ncompression_min = 10\n" + ROOMS)
    client = open_deflate(server, "/raw?room=news")
    server.publish("news", "a" * 10)
    assert client.receive_text() == "a" * 10 and client.was_compressed
    server.publish("news", "a" * 9)
    assert client.receive_text() == "a" * 9 and not client.was_compressed


def test_json_both_ways(start):
    server = start(ROOMS)
    one, two = (open_deflate(server, "/json", o) for o in (OFFER, AUTOBAHN + WINDOW + "10"))
    for client in (one, two):
        client.receive_json()
        client.send(ws.frame(ws.TEXT, ws.deflate('{"type":"join","id":1,"room":"chat"}'), rsv=4))
        assert client.receive_json()["type"] == "ok"
        assert not client.was_compressed  # answers are made for one, and short
    data = text_of(2000)
    message = json.dumps({"type": "publish", "id": 2, "room": "chat", "data": data})
    one.send(ws.compressed_fragments(ws.TEXT, ws.split(ws.deflate(message), 50)))
    got = two.receive_json()
    assert (got["type"], got["data"]) == ("message", data) and two.was_compressed
    assert {one.receive_json()["type"], one.receive_json()["type"]} == {"ok", "message"}  # its own, too


@pytest.mark.parametrize("path", ["/json", "/raw"])
@pytest.mark.parametrize("fragments", [False, True])
def test_an_independent_client(start, path, fragments):
    """Python's websockets, which offers server_max_window_bits=12 as it comes."""
    server = start(ROOMS)
    host, port = server.address()
    data = [text_of(n, n) for n in (10, 300, 3000, 100_000)]

    async def join(socket):
        if path == "/json":
            await socket.recv()
            await socket.send('{"type":"join","id":1,"room":"chat"}')
            await socket.recv()

    async def send(socket, text):
        text = json.dumps({"type": "publish", "room": "chat", "data": text}) if path == "/json" else text
        await socket.send([text[i : i + 1000] for i in range(0, len(text), 1000)] if fragments else text)

    async def receive(socket):
        got = await socket.recv()
        return json.loads(got)["data"] if path == "/json" else got

    async def run():
        url = f"ws://{host}:{port}{path}" + ("?room=chat" if path == "/raw" else "")
        async with websockets.connect(url, compression="deflate") as one:
            async with websockets.connect(url, compression="deflate") as two:
                assert [e.name for e in one.extensions] == ["permessage-deflate"]
                await join(one)
                await join(two)
                for text in data:
                    await send(one, text)
                    assert await asyncio.wait_for(receive(two), ws.TIMEOUT) == text

    asyncio.run(run())
    assert server.status()["inflates"] >= len(data)
