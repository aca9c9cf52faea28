"""10,000 strangers at the TLS port who connect and say nothing, or three bytes: cheap, bounded in time, in nobody's way."""

import contextlib
import os
import resource
import socket
import time

import pytest

from belfry import wait_until
from load import ROOMS, private_bytes

pytestmark = pytest.mark.load
STRANGERS = 10000
HANDSHAKE_SECONDS = 8
MAX_HANDSHAKES = 256  # of TLS at once, for each of the two threads


@pytest.fixture
def server(start, certificate):
    limits = [f"handshake_timeout = {HANDSHAKE_SECONDS}s", f"max_handshakes = {MAX_HANDSHAKES}"]
    return start("[belfry]\nworkers = 2\n" + ROOMS + certificate.listener("public", *limits))


@pytest.fixture(autouse=True)
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def strangers(address, count, first_bytes):
    """Connections from several addresses, since one has 28,000 ports of which others are in TIME_WAIT."""
    sockets = []
    try:
        for number in range(count):
            s = socket.socket()
            sockets.append(s)
            s.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            s.bind((f"127.{200 + os.getpid() % 50}.1.{1 + number // 2500}", 0))
            s.connect(address)
            if first_bytes:
                s.send(first_bytes)
        yield sockets
    finally:
        for s in sockets:
            s.close()


def good_client_gets_in(server):
    """Seconds until a member has got a message."""
    begin = time.monotonic()
    member = server.client(timeout=HANDSHAKE_SECONDS + 5).open("/raw?room=load:0")
    assert server.publish("load:0", "hello") == 1
    assert member.receive_text() == "hello"
    seconds = time.monotonic() - begin
    member.finish()
    return seconds


def refused_for_time(server):
    return server.status()["refused"]["tls_timeout"]


def assert_all_are_dropped(server, sockets, begin):
    wait_until(lambda: server.connections() == 0, "half-open connections stay", HANDSHAKE_SECONDS + 10)
    assert time.monotonic() - begin >= HANDSHAKE_SECONDS - 1, "dropped too early"
    assert refused_for_time(server) == STRANGERS
    for s in sockets[:: STRANGERS // 50]:
        s.settimeout(5)
        with contextlib.suppress(ConnectionResetError):  # three bytes may be unread at the other end
            assert s.recv(1) == b""


def test_silent(server):
    good_client_gets_in(server)
    before = private_bytes(server.worker_pid())
    begin = time.monotonic()
    with strangers(server.address(), STRANGERS, b"") as sockets:
        wait_until(lambda: server.connections() == STRANGERS, "not all were accepted")
        each = (private_bytes(server.worker_pid()) - before) / STRANGERS
        print(f"{each:.0f} bytes for each half-open connection")
        if not server.sanitized():
            assert each < 2048
        assert good_client_gets_in(server) < 3, "in the way of a good client"
        assert_all_are_dropped(server, sockets, begin)


def test_three_bytes_of_a_hello(server):
    """Each of these wants a TLS object (13 KB): only max_handshakes of them get one, the others wait without. Who comes
    behind them waits until the time of those in front is up, and no longer."""
    good_client_gets_in(server)
    before = private_bytes(server.worker_pid())
    begin = time.monotonic()
    with strangers(server.address(), STRANGERS, b"\x16\x03\x01") as sockets:
        wait_until(lambda: server.connections() == STRANGERS, "not all were accepted")
        assert server.status()["tls_handshakes"] <= 2 * MAX_HANDSHAKES
        extra = private_bytes(server.worker_pid()) - before
        print(f"{extra / STRANGERS:.0f} bytes for each half-open connection")
        if not server.sanitized():
            assert extra < STRANGERS * 2048 + 2 * MAX_HANDSHAKES * 40960
        time.sleep(1)
        assert good_client_gets_in(server) < HANDSHAKE_SECONDS
        assert_all_are_dropped(server, sockets, begin)
