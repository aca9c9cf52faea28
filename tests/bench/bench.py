#!/usr/bin/env python3
"""What a delivery costs Belfry in CPU time, against the floor (floor.c) in the same run: `./dev bench`.

10,000 subscribers, 100 bytes, 5 messages a second; the server alone on the first CPU, Redis, the clients and this program on
the second. Rounds alternate between the two servers; the table shows medians. Absolute figures say more about the machine
than about Belfry: look at the ratios, and at the spread, before believing them.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
sys.path[:0] = [str(TESTS / "e2e"), str(TESTS / "load")]
os.environ.setdefault("BELFRY_BUILD", str(ROOT / "build" / "release"))

from redis_server import RedisServer, free_port  # noqa: E402
from swarm import Swarm, compile_c, payload  # noqa: E402

WARM_UP = 5
CONFIG = """
[belfry]
workers = 1
log_level = error
[listener public]
listen = 127.0.0.1:{port}
{tls}
[route /raw]
protocol = raw
[room *]
join = anyone
[broker]
type = redis
url = {redis}
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10000)
    parser.add_argument("--rooms", type=int, nargs="+", default=[1, 1000], help="how many rooms they are spread over")
    parser.add_argument("--kinds", nargs="+", choices=["ws", "wss"], default=["ws", "wss"])
    parser.add_argument("--size", type=int, default=100, help="bytes of a payload")
    parser.add_argument("--rate", type=float, default=5, help="messages a second that each client gets")
    parser.add_argument("--messages", type=int, default=40, help="that each client gets in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--realtime", action="store_true", help="real-time priority, on a machine that is busy (root)")
    parser.add_argument("--max-ratio", type=float, help="exit with 1 where a ratio is above")
    return parser.parse_args()


def pinned(cpu, realtime):
    """The words in front of a command."""
    words = ["taskset", "-c", str(cpu)] if (os.cpu_count() or 1) > 1 else []
    return [*words, *(["chrt", "-r", "5"] if realtime else [])]


def make_certificate(directory):
    chain, key = directory / "chain.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", chain]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


def family(pid):
    """The process and its descendants."""
    found = [pid]
    for process in found:
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pid):
    """Of the process and its descendants, as the scheduler counts: by the nanosecond, and exact for a thread that sleeps."""
    threads = (thread for process in family(pid) for thread in Path(f"/proc/{process}/task").iterdir())
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


@contextlib.contextmanager
def running(words, name):
    """A server that was given its port: its pid."""
    process = subprocess.Popen([str(word) for word in words], start_new_session=True)
    try:
        time.sleep(1)  # until it listens and has subscribed
        assert process.poll() is None, f"{name} did not start"
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def beside_the_server():
    """A directory and a Redis; this program and what it starts are on the second CPU from here on."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    else:
        print("one CPU only: server and clients share it, the ratios are worth little")
    with tempfile.TemporaryDirectory(prefix="belfry-bench-") as name:
        redis = RedisServer(Path(name)).start()
        try:
            yield Path(name), redis
        finally:
            redis.stop()


class Bench:
    def __init__(self, options, directory, redis):
        self.options, self.directory, self.redis = options, directory, redis
        self.certificate = make_certificate(directory)
        self.floor = compile_c("bench/floor", TESTS / "bench" / "floor.c", "-lssl", "-lcrypto")

    def command(self, server, kind, port):
        chain, key = self.certificate
        if server == "floor":
            return [self.floor, port, self.redis.port, *([chain, key] if kind == "wss" else [])]
        tls = f"tls = yes\ncertificate = {chain}\nprivate_key = {key}" if kind == "wss" else ""
        config = self.directory / "belfry.ini"
        config.write_text(CONFIG.format(port=port, tls=tls, redis=self.redis.url))
        return [Path(os.environ["BELFRY_BUILD"]) / "belfry", "-c", config]

    def server(self, server, kind, port):
        return running([*pinned(0, self.options.realtime), *self.command(server, kind, port)], server)

    def publish(self, client, rooms, sequence):
        channel = "belfry:room:load:{}"
        size = self.options.size
        client.pipeline([("PUBLISH", channel.format(room), payload(sequence, room, size)) for room in range(rooms)])

    def round(self, server, kind, rooms):
        """(microseconds of CPU time a delivery, 99th percentile of the latency in milliseconds)"""
        options, port = self.options, free_port()
        with self.server(server, kind, port) as pid, Swarm(
            ("127.0.0.1", port),
            prefix=pinned(1, options.realtime),
            n=options.clients,
            rooms=rooms,
            tls=kind == "wss",
            path="/raw?room=load:%r",
        ) as swarm:
            client = self.redis.client()
            begin = time.monotonic()
            for number in range(WARM_UP + options.messages):
                time.sleep(max(0, begin + number / options.rate - time.monotonic()))
                if number == WARM_UP:
                    cpu = cpu_seconds(pid)
                self.publish(client, rooms, number + 1)
            swarm.expect(1, WARM_UP + options.messages)
            report = swarm.wait_complete()
            spent = cpu_seconds(pid) - cpu
            client.close()
            assert report["alive"] == options.clients and report["duplicates"] == report["reordered"] == 0, report
        return spent * 1e6 / (options.clients * options.messages), report["p99_us"] / 1000


def main():
    options = arguments()
    too_slow = False
    with beside_the_server() as (directory, redis):
        bench = Bench(options, directory, redis)
        print(f"{options.clients} clients, {options.size} bytes, {options.rate:g} messages a second each; us of CPU a delivery")
        print("kind  rooms   floor  belfry   ratio   rounds: floor | belfry             p99 ms: floor | belfry", flush=True)
        for kind in options.kinds:
            for rooms in options.rooms:
                rounds = {"floor": [], "belfry": []}
                for _ in range(options.rounds):
                    for server, results in rounds.items():
                        results.append(bench.round(server, kind, rooms))
                cost = {server: [cpu for cpu, _ in results] for server, results in rounds.items()}
                late = {server: statistics.median(p99 for _, p99 in results) for server, results in rounds.items()}
                median = {server: statistics.median(values) for server, values in cost.items()}
                ratio = median["belfry"] / median["floor"]
                too_slow |= options.max_ratio is not None and ratio > options.max_ratio
                spread = " | ".join(" ".join(f"{value:5.2f}" for value in values) for values in cost.values())
                print(
                    f"{kind:4}  {rooms:5}  {median['floor']:6.2f}  {median['belfry']:6.2f}  {ratio:6.2f}   {spread}"
                    f"   {late['floor']:6.1f} | {late['belfry']:6.1f}",
                    flush=True,
                )
    return 1 if too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
