"""What the load tests share: the swarm's driver made importable, configurations, publishing."""

import sys
import threading
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


class Stepper(threading.Thread):
    """Calls step(number) with 1, 2, ... until it is stopped; `last` is the last one that was done."""

    def __init__(self, step, pause):
        super().__init__(daemon=True)
        self.step, self.pause, self.last, self.failure = step, pause, 0, None
        self.ending = threading.Event()
        self.start()

    def run(self):
        try:
            while not self.ending.wait(self.pause):
                self.step(self.last + 1)
                self.last += 1
        except Exception as failure:  # told by stop
            self.failure = failure

    def stop(self):
        self.ending.set()
        self.join(60)
        assert self.failure is None and not self.is_alive(), self.failure
        return self.last
