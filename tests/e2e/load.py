"""What the load tests share: the swarm's driver made importable, configurations, publishing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "load"))

from swarm import Swarm, assert_flawless, payload  # noqa: E402, F401  (re-exported)

ROOMS = """
[route /raw]
protocol = raw
[route /json]
protocol = json
[room *]
join = anyone
publish = members
"""


def redis_broker(url, *options):
    return "\n".join(["[broker]", "type = redis", f"url = {url}", *options]) + "\n"


def publish_all(client, rooms, sequences, *, size=100, name="load:{}", batch=1000):
    """Each number to each room, in pipelines; every publish must have met a subscriber."""
    commands = []
    for sequence in sequences:
        for room in range(rooms):
            commands.append(("PUBLISH", "belfry:room:" + name.format(room), payload(sequence, room, size)))
            if len(commands) == batch:
                assert min(client.pipeline(commands)) >= 1
                commands = []
    if commands:
        assert min(client.pipeline(commands)) >= 1


def private_bytes(pid):
    """What the process alone uses: heap, slabs, stacks; not the kernel's memory for its sockets."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1]) * 1024
    return total
