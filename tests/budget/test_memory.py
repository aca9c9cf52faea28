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


def measure(server, kind, options):
    """(bytes a connection, those in the daemon's books)"""
    pid = server.worker_pid()
    with Swarm(server.address(), n=FEW, **options):
        few, accounted_few = settled_bytes(pid), accounted_bytes(server)
        with Swarm(server.address(), n=MANY - FEW, **options):
            many, accounted_many = settled_bytes(pid), accounted_bytes(server)
            status = server.status()
            assert status["connections"] == status["memberships"] == MANY
    each = (many - few) / (MANY - FEW)
    accounted = (accounted_many - accounted_few) / (MANY - FEW)
    print(f"{kind} {options['protocol']}: {each:.0f} bytes a connection, {accounted:.0f} of them in the daemon's books")
    return each, accounted


@pytest.mark.parametrize("resumed", [False, True], ids=["full", "resumed"])
@pytest.mark.parametrize("kind", BUDGETS)
@pytest.mark.parametrize("protocol", ["raw", "json"])
def test_idle_connection(start, certificate, kind, protocol, resumed):
    """What handshakes that run at once leave as holes in OpenSSL's heap depends on how the kernel schedules them (100 to 500 bytes
    a connection on a busy machine), and only ever adds: the least of three processes is what a connection costs."""
    if resumed and kind == "ws":
        pytest.skip("only TLS resumes")
    listener = certificate.listener("public") if kind == "wss" else "[listener public]\nlisten = 127.0.0.1:0\n"
    path = "/raw?room=load:%r" if protocol == "raw" else "/json"
    options = {"rooms": IN_ROOMS, "protocol": protocol, "path": path, "tls": kind == "wss", "resume_tickets": resumed}
    best = None
    for _ in range(3):
        server = start("[belfry]\nworkers = 2\n" + ROOMS + listener)
        each, accounted = measure(server, kind, options)
        assert 0 < accounted <= BUDGETS["ws"]
        best = each if best is None else min(best, each)
        if best <= BUDGETS[kind]:
            break
    assert best <= BUDGETS[kind]
