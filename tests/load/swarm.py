"""Builds and drives the swarm (swarm.h): ten thousand WebSocket clients in a process of their own.

Used by the load tests in ../e2e, by ../budget and by ../bench, which add this directory to sys.path.
"""

import json
import os
import queue
import shlex
import subprocess
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = "-O2 -g -Wall -Wextra -Wconversion -Werror"


def compile_if_older(target, sources, compiler, *libraries):
    """A helper program, in the build directory, made anew where one of its sources is newer."""
    target = Path(os.environ["BELFRY_BUILD"]).resolve() / "tests" / target
    newest = max(source.stat().st_mtime for source in sources)
    if not target.exists() or target.stat().st_mtime < newest:
        target.parent.mkdir(parents=True, exist_ok=True)
        code = [source for source in sources if source.suffix != ".h"]
        made = target.with_name(f"{target.name}.{os.getpid()}")  # several tests may want it at the same moment
        command = [*shlex.split(compiler), *shlex.split(FLAGS), *code, "-o", made, *libraries]
        subprocess.run(command, check=True)
        made.replace(target)
    return target


def compile_c(target, source, *libraries):
    return compile_if_older(target, [source], os.environ.get("CC", "cc") + " -std=gnu11", *libraries)


def program():
    sources = [source for source in HERE.iterdir() if source.suffix in (".cc", ".h")]
    compiler = os.environ.get("CXX", "c++") + " -std=c++20"
    return compile_if_older("load/swarm", sources, compiler, "-lssl", "-lcrypto", "-lz", "-lm")


def payload(sequence, room, size=0):
    """What the swarm checks, filled up to `size` bytes."""
    return f"t={time.monotonic_ns()};seq={sequence};room={room};".ljust(size, "x").encode()


class Swarm:
    """A running swarm, all its clients in. Options are the program's: Swarm(address, n=100, rooms=10, tls=True)."""

    def __init__(self, address, *, prefix=(), wait=180, max_seconds=300, **options):
        command = [*prefix, program(), "--host", address[0], "--port", address[1], "--max-seconds", max_seconds]
        for name, value in options.items():
            name = "-n" if name == "n" else "--" + name.replace("_", "-")
            command += [name] if value is True else [] if value is False else [name, value]
        self.count = options.get("n", 1)
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines = queue.Queue()
        threading.Thread(target=self.collect, daemon=True).start()
        try:
            line = self.line(wait)
            assert line == "ready", line
        except BaseException:
            self.kill()
            raise

    def collect(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("the swarm has ended")

    def line(self, wait=60):
        return self.lines.get(timeout=wait)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def report(self):
        self.say("report")
        line = self.line()
        assert line.startswith("{"), line
        return json.loads(line)

    def expect(self, first, last):
        self.say(f"expect {first} {last}")

    def wait_for(self, condition, what, seconds=60):
        """Reports until condition(report) holds; the report."""
        deadline = time.monotonic() + seconds
        while True:
            report = self.report()
            if condition(report):
                return report
            assert time.monotonic() < deadline, f"waited {seconds} s: {what}: {report}"
            time.sleep(0.1)

    def wait_complete(self, seconds=60):
        """Until nobody misses any of the expected messages, then once more a little later: a duplicate may come late."""
        self.wait_for(lambda report: report["missing"] == 0, "messages are missing", seconds)
        time.sleep(0.5)
        return self.report()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def assert_flawless(report, alive):
    """Everybody there, everything once, in order, in the right room."""
    assert report["alive"] == alive and report["closed"] == {}, report
    for flaw in ("missing", "duplicates", "reordered", "misrouted", "unnumbered", "bad_frames", "errors"):
        assert report[flaw] == 0, report
    for flaw in ("churn_broken", "churn_stray"):
        assert report[flaw] == 0, report
