"""Bytes of user space that an idle connection costs: 1 KB at most without TLS, 15 KB at most with it."""

import time

import pytest

from load import ROOMS, Swarm, private_bytes

FEW, MANY, IN_ROOMS = 1000, 10000, 1000
BUDGETS = {"ws": 1024, "wss": 15 * 1024}


def settled_bytes(pid):
    """Once the handshakes' garbage is gone: the figure has stood still for a second."""
    last, since = private_bytes(pid), time.monotonic()
    deadline = since + 20
    while time.monotonic() - since < 1:
        time.sleep(0.1)
        now = private_bytes(pid)
        if now != last:
            last, since = now, time.monotonic()
        assert time.monotonic() < deadline, "memory does not settle"
    return last


def accounted_bytes(server):
    """By the daemon's own books. OpenSSL's heap is not in them."""
    memory = server.status()["memory"]
    return memory["connections"] + memory["queues"] + memory["memberships"] + memory["tables"]


@pytest.mark.parametrize("resumed", [False, True], ids=["full", "resumed"])
@pytest.mark.parametrize("kind", BUDGETS)
@pytest.mark.parametrize("protocol", ["raw", "json"])
def test_idle_connection(start, certificate, kind, protocol, resumed):
    if resumed and kind == "ws":
        pytest.skip("only TLS resumes")
    listener = certificate.listener("public") if kind == "wss" else "[listener public]\nlisten = 127.0.0.1:0\n"
    server = start("[belfry]\nworkers = 2\n" + ROOMS + listener)
    path = "/raw?room=load:%r" if protocol == "raw" else "/json"
    options = {"rooms": IN_ROOMS, "protocol": protocol, "path": path, "tls": kind == "wss", "resume_tickets": resumed}
    pid = server.process.pid
    with Swarm(server.address(), n=FEW, **options):
        few, accounted_few = settled_bytes(pid), accounted_bytes(server)
        with Swarm(server.address(), n=MANY - FEW, **options):
            many, accounted_many = settled_bytes(pid), accounted_bytes(server)
            status = server.status()
            assert status["connections"] == status["memberships"] == MANY
    each = (many - few) / (MANY - FEW)
    accounted = (accounted_many - accounted_few) / (MANY - FEW)
    print(f"{kind} {protocol}: {each:.0f} bytes a connection, {accounted:.0f} of them in the daemon's books")
    assert each <= BUDGETS[kind]
    assert 0 < accounted <= BUDGETS["ws"]
