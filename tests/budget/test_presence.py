"""Bytes that presence costs for each connection in a room: 250 at most, in the books and in memory."""

import pytest

from load import Swarm
from test_memory import FEW, MANY, settled_bytes

BUDGET = 250
# Ten in a room, so that what is announced stays little. Nothing else of a room differs.
CONFIG = """
[belfry]
workers = 2
[route /raw]
protocol = raw
[room *]
join = anyone
publish = members
{}
"""


def bytes_a_connection(server):
    options = {"protocol": "raw", "path": "/raw?room=load:%r"}
    pid = server.worker_pid()
    with Swarm(server.address(), n=FEW, rooms=FEW // 10, **options):
        few, books_few = settled_bytes(pid), server.status()["presence"]["bytes"]
        with Swarm(server.address(), n=MANY - FEW, rooms=FEW // 10, **options):
            many, presence = settled_bytes(pid), server.status()["presence"]
            return (many - few) / (MANY - FEW), (presence["bytes"] - books_few) / (MANY - FEW), presence["members"]


@pytest.mark.parametrize("option", ["presence = yes", "announce = yes"])
def test_bytes_a_member(start, option):
    without, _, nobody = bytes_a_connection(start(CONFIG.format("")))
    with_presence, books, members = bytes_a_connection(start(CONFIG.format(option)))
    print(f"{option}: {with_presence - without:.0f} bytes a member, {books:.0f} in the daemon's books")
    assert nobody == 0 and members == MANY
    assert 0 < books <= BUDGET
    assert with_presence - without <= BUDGET
