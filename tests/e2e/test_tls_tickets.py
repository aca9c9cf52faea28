"""TLS session tickets: their keys are replaced by time, and are there across reloads and upgrades; with tls_ticket_rotate = 0
there are no tickets."""

import shutil
import socket
import ssl

import pytest

from belfry import wait_until
from conftest import make_certificate
from test_handover import Upgrade

CONFIG = """
[belfry]
workers = 2
tls_ticket_rotate = {rotate}
[route /ws]
"""
NAMES = ("localhost", "DNS:localhost", "IP:127.0.0.1")
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def version(request):
    return request.param


class Visitor:
    """A client of one TLS version, with the session of its last visit."""

    def __init__(self, server, version):
        self.server, self.session = server, None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.context.minimum_version = self.context.maximum_version = version
        assert not self.visit()

    def visit(self, session=None, listener="secure"):
        """With this session, else that of the last visit. Whether the server knew it."""
        with socket.create_connection(self.server.address(listener), timeout=20) as plain:
            with self.context.wrap_socket(plain, server_hostname="localhost", session=session or self.session) as client:
                client.sendall(REQUEST)
                while client.recv(65536):  # the ticket of TLS 1.3 comes behind the handshake
                    pass
                self.session = client.session
                return client.session_reused


def tickets(server):
    return server.status()["tls_tickets"]


def reloaded(server, config):
    reply = server.reload(config)
    assert reply.status == 200, reply.body


def test_a_visitor_that_comes_often_is_always_known(start, certificate, version):
    server = start(CONFIG.format(rotate="2s") + certificate.listener("secure"))
    visitor = Visitor(server, version)
    visits = []

    def renewed_twice():
        visits.append(visitor.visit())
        return tickets(server)["older"] >= 2

    wait_until(renewed_twice, lambda: tickets(server), 60)
    known = sum(visits)
    unknown = len(visits) - known  # where this machine has been away for two rotations
    now = tickets(server)
    assert now["rotations"] >= 2
    assert (now["newest"] + now["older"], now["unknown"]) == (known, unknown)
    assert known > unknown
    # TLS 1.2 gets a ticket where its own is of an older key; TLS 1.3 each time.
    assert now["sealed"] == 1 + (known + unknown if version == ssl.TLSVersion.TLSv1_3 else now["older"] + unknown)


def test_a_ticket_of_an_erased_key_opens_nothing(start, certificate, version):
    server = start(CONFIG.format(rotate="1s") + certificate.listener("secure"))
    visitor = Visitor(server, version)
    first, rotations = visitor.session, tickets(server)["rotations"]
    wait_until(lambda: tickets(server)["rotations"] >= rotations + 3, "no rotation")
    assert not visitor.visit(first)
    assert tickets(server)["unknown"] == 1


def test_reloads_keep_tickets_but_not_for_another_certificate(start, tmp_path, version):
    used = make_certificate(tmp_path, *NAMES)
    config = CONFIG.format(rotate="12h") + used.listener("secure") + used.listener("other")
    server = start(config)
    visitor = Visitor(server, version)
    first = visitor.session
    assert visitor.visit()
    assert not visitor.visit(first, "other")  # the same certificate, the same keys
    reloaded(server, config)
    assert visitor.visit(first)
    reloaded(server, config.replace("12h", "6h"))
    assert visitor.visit(first)
    assert tickets(server)["unknown"] == 0
    for file in (used.chain, used.key):
        shutil.copy(file, f"{file}.old")
    make_certificate(tmp_path, *NAMES)
    reloaded(server, config)
    assert not visitor.visit(first)
    for file in (used.chain, used.key):
        shutil.copy(f"{file}.old", file)
    reloaded(server, config)
    assert visitor.visit(first)


def test_there_may_be_no_tickets(start, certificate, version):
    config = CONFIG + certificate.listener("secure")
    server = start(config.format(rotate="0"))
    visitor = Visitor(server, version)
    assert not visitor.session or not visitor.session.has_ticket
    assert not visitor.visit()
    assert set(tickets(server).values()) == {0}
    reloaded(server, config.format(rotate="1h"))
    visitor = Visitor(server, version)
    first = visitor.session
    assert first.has_ticket
    assert visitor.visit(first)
    reloaded(server, config.format(rotate="0"))
    assert not visitor.visit(first)
    assert not visitor.session or not visitor.session.has_ticket


def test_an_upgrade_hands_the_keys_on(start, certificate, version):
    server = start(CONFIG.format(rotate="12h") + certificate.listener("secure"))
    visitor = Visitor(server, version)
    first = visitor.session
    for _ in range(2):
        Upgrade(server).wait_gone()
        assert visitor.visit(first)  # whose key is the first process's still
        assert visitor.visit()  # whose key is this one's
        now = tickets(server)
        assert (now["newest"], now["older"], now["unknown"]) == (1, 1, 0)
