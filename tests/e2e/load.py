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
