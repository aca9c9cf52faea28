"""Clients that do not read, that flood, that never end a message; and a process that runs out of descriptors."""

import resource
import time

import pytest

import ws
from belfry import wait_until
from conftest import PUBLIC_LISTENER

CONFIG = """
[route /slow]
mode = rooms
protocol = raw
send_queue = 128k
join_on_connect = news

[route /echo]
mode = rooms
protocol = raw
join_on_connect = echo:{conn}
echo = yes
max_message = 64k

[broker]
type = memory
max_message = 100k

[room news]
join = anyone
publish = nobody

[room echo:*]
join = anyone
publish = members
"""


@pytest.fixture
def server(start, certificate):
    return start(CONFIG + PUBLIC_LISTENER + certificate.listener("secure"))


def news(number, size=65000):
    return b"%08d " % number + b"x" * size


def number_of(event):
    assert event[0] == "text", str(event)[:200]
    return int(event[1][:8])


def flood_until(server, condition, most=1000, published=lambda: None):
    """Publishes numbered messages to `news` until condition(), `published()` behind each; how many there were."""
    for i in range(most):
        server.publish("news", news(i))
        published()
        if condition():
            return i + 1
    raise AssertionError(f"{most} messages, and the slow client is still there")


# A client that never reads.


def test_slow_consumer_is_closed_with_4413(server, listener):
    slow = server.open("/slow", listener, receive_buffer=4096)
    quick = server.open("/slow", listener)
    received = []
    total = flood_until(
        server,
        lambda: server.closed(4413) == 1,
        published=lambda: received.append(number_of(quick.receive())),
    )
    # Who reads got everything, once and in order, and goes on.
    assert received == list(range(total))
    assert server.publish("news", news(total)) == 1
    assert number_of(quick.receive()) == total
    # The slow one, once it reads: whole messages from the first on without a hole, then the reason.
    events = slow.events()
    assert [number_of(event) for event in events[:-1]] == list(range(len(events) - 1))
    assert events[-1][:2] == ("close", 4413)
    assert server.dropped() > 0


def test_slow_consumer_that_never_reads_is_let_go(server):
    server.open("/slow", receive_buffer=4096)
    flood_until(server, lambda: server.closed(4413) == 1)
    wait_until(lambda: server.connections() == 0, "held for ever", 15)


def test_memory_of_a_slow_consumer_is_bounded(server):
    before = server.resident_bytes()
    slow = [server.open("/slow", receive_buffer=4096) for _ in range(20)]
    flood_until(server, lambda: server.closed(4413) == len(slow))
    if not server.sanitized():
        # 20 queues of 128 KiB, messages shared by all, and what the allocator keeps.
        assert server.resident_bytes() - before < 16 << 20


def test_slow_reader_that_keeps_up_is_not_closed(server):
    client = server.open("/slow")
    for i in range(200):
        server.publish("news", news(i, 30000))
        assert number_of(client.receive()) == i
    assert server.closed(4413) == 0


# Pings


def test_ping_flood_without_reading_the_pongs(server):
    # Were every ping answered, the pongs would overflow send_queue, or memory: only the latest waits (RFC 6455 section
    # 5.5.3), and a client is not closed for pings.
    client = server.client("public", receive_buffer=4096).open("/echo")
    before = server.resident_bytes()
    total, batch = 60000, 500
    for first in range(0, total, batch):
        client.send(b"".join(ws.ping(b"%08d" % i + b"p" * 117) for i in range(first, first + batch)))
    if not server.sanitized():
        assert server.resident_bytes() - before < 8 << 20
    numbers = []
    while not numbers or numbers[-1] < total - 1:
        kind, payload = client.receive()
        assert kind == "pong" and payload[8:] == b"p" * 117
        numbers.append(int(payload[:8]))
    assert numbers == sorted(set(numbers))
    client.send(ws.text("still here"))
    assert client.receive() == ("text", "still here")
    client.finish()


def test_pong_flood(server):
    client = server.open("/echo")
    wire = b"".join(ws.pong(b"p" * 125) for _ in range(1000))
    for _ in range(20):
        client.send(wire)
    client.send(ws.text("still here"))
    assert client.receive() == ("text", "still here")
    client.finish()


def test_others_are_served_during_a_flood(server):
    flooder, other = server.open("/echo"), server.open("/echo")
    wire = b"".join(ws.ping(b"p" * 125) for _ in range(5000))
    for _ in range(5):
        flooder.send(wire)
        started = time.monotonic()
        other.send(ws.text("x"))
        assert other.receive() == ("text", "x")
        assert time.monotonic() - started < 2
    flooder.drop()


# Fragments and sizes


@pytest.mark.parametrize("payload", [b"", b"x"])
@pytest.mark.parametrize("opcode", [ws.TEXT, ws.BINARY])
def test_endless_fragments(server, opcode, payload):
    client = server.open("/echo")
    client.send(ws.frame(opcode, payload, fin=False))
    piece = ws.frame(ws.CONTINUATION, payload, fin=False) * 4096
    for _ in range(500):
        if server.closed(1009) or not client.send_while_open(piece):
            break
    wait_until(lambda: server.closed(1009) == 1, "2 million fragments were taken")


def test_endless_fragments_are_refused_with_1009(server):
    # Small enough that all of it fits the buffers between us: so the Close must arrive.
    client = server.open("/echo")
    client.send(ws.binary(b"x" * 40000, fin=False) + ws.frame(ws.CONTINUATION, b"x" * 25537, fin=False))
    assert client.events()[-1][:2] == ("close", 1009)


def test_control_frames_between_fragments_do_not_reset_the_count(server):
    client = server.open("/echo")
    client.send(ws.binary(b"x" * 65000, fin=False) + ws.ping(b"p"))
    assert client.receive() == ("pong", b"p")
    client.send(ws.frame(ws.CONTINUATION, b"x" * 537, fin=False))
    assert client.events()[-1][:2] == ("close", 1009)


@pytest.mark.parametrize("length", [65537, 1 << 20, 1 << 40, (1 << 63) - 1])
def test_oversized_frame_is_refused_at_its_header(server, listener, length):
    client = server.open("/echo", listener)
    started = time.monotonic()
    client.send(ws.binary(b"", length=length))
    assert client.events()[-1][:2] == ("close", 1009)
    assert time.monotonic() - started < 2


def test_announced_bytes_cost_no_memory(server):
    before = server.resident_bytes()
    clients = [server.open("/echo") for _ in range(200)]
    for client in clients:
        client.send(ws.binary(b"x", length=65536))
    time.sleep(0.1)
    if not server.sanitized():
        assert server.resident_bytes() - before < 6 << 20


# Descriptors


def test_descriptors_exhausted(server):
    server.open("/echo").finish()  # whatever is opened late is open now
    wait_until(lambda: server.connections() == 0, "a connection is left")
    limit = server.open_files() + 12
    resource.prlimit(server.worker_pid(), resource.RLIMIT_NOFILE, (limit, limit))
    inside = [server.open("/echo") for _ in range(6)]
    waiting = [server.client() for _ in range(40)]  # most of them in the kernel's backlog
    time.sleep(0.3)
    before = server.cpu_seconds()
    time.sleep(1.0)
    spent = server.cpu_seconds() - before
    assert spent < 0.3, f"{spent} s of CPU time in one second: accept spins"
    for client in inside:  # those inside do not notice
        client.send(ws.text("x"))
        assert client.receive() == ("text", "x")
    assert len(server.find_log("(?i)descriptor|too many open files|EMFILE")) in range(1, 20)
    for client in waiting:
        client.drop()
    started = time.monotonic()
    late = server.open("/echo")
    late.send(ws.text("x"))
    assert late.receive() == ("text", "x")
    assert time.monotonic() - started < 5


# Comings and goings


def test_many_short_connections(server, listener):
    for i in range(150):
        client = server.open("/echo", listener)
        if i % 3 == 0:
            client.finish()
        elif i % 3 == 1:
            client.abort()
        else:
            client.drop()
        server.clients.remove(client)


def test_client_that_leaves_while_much_is_due(server):
    for _ in range(5):
        client = server.open("/slow", receive_buffer=4096)
        for i in range(20):
            server.publish("news", news(i))
        client.abort()
        server.clients.remove(client)
