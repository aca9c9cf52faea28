"""TLS handshakes beyond max_handshakes wait, and what waits does no harm."""

import resource
import socket

import pytest

from belfry import wait_until

CONFIG = """
[belfry]
workers = 1

[route /ws]
protocol = raw

"""
STACK = 256 * 1024
WAITING = 6000


@pytest.fixture
def small_stack():
    """For the threads of the processes that the test starts."""
    old = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_STACK, old)


@pytest.fixture
def many_files():
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (old[1], old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, old)


def connect(server, sockets, first):
    client = socket.create_connection(server.address("secure"), timeout=20)
    client.sendall(first)
    sockets.append(client)
    return client


def test_many_that_fail_at_once_when_their_turn_comes(start, certificate, small_stack, many_files):
    # Each failure made room for the next one, which failed: once a level of the stack each, until it was used up.
    server = start(CONFIG + certificate.listener("secure", "max_handshakes = 1", "handshake_timeout = 60s"))
    sockets = []
    try:
        first = connect(server, sockets, b"\x16\x03\x01")
        wait_until(lambda: server.status()["tls_handshakes"] == 1, "the first handshake has not begun")
        for _ in range(WAITING):
            connect(server, sockets, b"this is no ClientHello\r\n\r\n")
        wait_until(lambda: server.connections() == WAITING + 1, lambda: f"{server.connections()} connections")
        assert server.status()["tls_handshakes"] == 1
        first.close()
        wait_until(lambda: server.status()["refused"]["tls_failed"] == WAITING + 1, lambda: server.status()["refused"], 30)
        server.open("/ws", "secure").finish()
    finally:
        for client in sockets:
            client.close()
