"""The daemon's clocks in a test's hand: jumping_clock.c is preloaded into it, both map one file."""

import mmap
import struct
from pathlib import Path

from load import Swarm  # noqa: F401  it knows where the next one is
from swarm import compile_c


class Clocks:
    """start(config, extra_environment=clocks.environment): a daemon whose clocks go as this says."""

    def __init__(self, directory):
        name = directory / "clock"
        name.write_bytes(bytes(16))
        library = compile_c("e2e/jumping_clock.so", Path(__file__).parent / "jumping_clock.c", "-shared", "-fPIC")
        self.environment = {"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(name)}
        with open(name, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 16)
        self.passed = 0

    def jump(self, seconds):
        """The wall clock is so many seconds off."""
        self.map[:8] = struct.pack("q", seconds)

    def go_on(self, seconds):
        """So many seconds pass at once, by the monotonic clock that all deadlines go by."""
        self.passed += seconds
        self.map[8:] = struct.pack("q", self.passed)
