#!/usr/bin/env python3
"""What a proxied request and a tunnelled frame cost in CPU time, Belfry against nginx in the same run, and what a hook call
costs Belfry: `./dev bench proxy`.

The same backend (http_backend.c) behind both, the same load (http_load.c), one worker each. The proxy alone is on the first
CPU, backend, load and this program on the second. In a round both are running, and a slice of the exchanges goes through one,
then one through the other, and so on: what disturbs the machine for longer than a slice disturbs both. A round's figure is the
median of its slices, the table's the median of the rounds, and its ratio the median of the rounds' ratios. Every answer is
compared byte by byte with what was asked. Look at the ratios and at the spread, not at the absolute figures.
"""

import argparse
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "load")]
os.environ.setdefault("BELFRY_BUILD", str(TESTS.parent / "build" / "release"))

from bench import cpu_seconds, family, pinned  # noqa: E402
from nginx import nginx_command  # noqa: E402
from redis_server import free_port  # noqa: E402
from swarm import compile_c  # noqa: E402

SERVERS = {"get": ("nginx", "belfry"), "tunnel": ("nginx", "belfry"), "call": ("belfry",)}
NAMES = {"get": "request", "tunnel": "tunnelled frame", "call": "hook call"}
UNITS = {"get": 1, "tunnel": 2, "call": 1}  # of what is counted, in an exchange: a frame goes there, and one comes back

BELFRY = """
[belfry]
workers = 1
log_level = warn
[listener public]
listen = 127.0.0.1:{port}
[upstream app]
server = 127.0.0.1:{backend}
keepalive = 256
[route /]
mode = proxy
upstream = app
[route /call]
mode = rooms
upstream = app
hook = /hook
hook_secret = whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
"""

# What its manual advises for keep-alive and WebSocket, nothing that Belfry does not do: no log, no gzip, no cache. The bounds
# of requests for each connection are Belfry's, none. What stands in its block `http`.
NGINX = """
    keepalive_requests 1000000000;
    tcp_nodelay on;
    map $http_upgrade $onward {{ default upgrade; "" ""; }}
    upstream app {{
        server 127.0.0.1:{backend};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Request-Id $request_id;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $onward;
        location / {{ proxy_pass http://app; }}
    }}
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64], help="at once, each with one exchange under way")
    parser.add_argument("--exchanges", type=int, default=100000, help="in a round")
    parser.add_argument("--size", type=int, default=100, help="bytes of a tunnelled frame's payload")
    parser.add_argument("--slices", type=int, default=40, help="that the exchanges of a round are cut into")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--realtime", action="store_true", help="real-time priority, on a machine that is busy (root)")
    parser.add_argument("--max-ratio", type=float, help="exit with 1 where a ratio is above")
    parser.add_argument("--syscalls", action="store_true", help="one round of each under strace: system calls an exchange")
    return parser.parse_args()


def wait_for_port(port, process):
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.02)


@contextlib.contextmanager
def running(words, port):
    """A process group that listens on that port."""
    process = subprocess.Popen([str(word) for word in words], start_new_session=True)
    try:
        wait_for_port(port, process)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):  # it had not begun
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Bench:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        self.slice = max(options.exchanges // options.slices, *options.connections)
        self.backend = compile_c("bench/http_backend", TESTS / "bench" / "http_backend.c")
        self.load = compile_c("bench/http_load", TESTS / "bench" / "http_load.c")

    def command(self, server, port, backend):
        if server == "nginx":
            return nginx_command(self.directory, NGINX.format(port=port, backend=backend))
        config = self.directory / server
        config.write_text(BELFRY.format(port=port, backend=backend))
        return [Path(os.environ["BELFRY_BUILD"]) / "belfry", "-c", config]

    @contextlib.contextmanager
    def loaded(self, server, kind, connections):
        """Both running and every connection warm: the proxy's pid, and a function that makes a slice of exchanges and returns
        the seconds that they took."""
        options, port, backend = self.options, free_port(), free_port()
        with contextlib.ExitStack() as stack:
            stack.enter_context(running([*pinned(1, options.realtime), self.backend, backend], backend))
            pid = stack.enter_context(running([*pinned(0, options.realtime), *self.command(server, port, backend)], port))
            words = [*pinned(1, options.realtime), self.load, port, kind, connections, self.slice, options.size]
            load = stack.enter_context(
                subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(load.kill)

            def run():
                load.stdin.write("go\n")
                load.stdin.flush()
                line = load.stdout.readline().split()
                assert line and int(line[0]) == self.slice, f"the load of {server} failed"
                return float(line[1])

            assert load.stdout.readline() == "ready\n", f"{server} does not serve {kind}"
            yield pid, run

    def round(self, kind, connections):
        """{server: microseconds of CPU time for each of what is counted, and of time for each exchange}."""
        with contextlib.ExitStack() as stack:
            servers = {server: stack.enter_context(self.loaded(server, kind, connections)) for server in SERVERS[kind]}
            slices = {server: [] for server in servers}
            for _ in range(self.options.slices):
                for server, (pid, run) in servers.items():
                    before = cpu_seconds(pid)
                    seconds = run()
                    slices[server].append((cpu_seconds(pid) - before, seconds))
        scale = 1e6 / self.slice
        return {
            server: (statistics.median(cpu for cpu, _ in each) * scale / UNITS[kind], statistics.median(t for _, t in each) * scale)
            for server, each in slices.items()
        }

    def syscalls(self, server, kind, connections):
        """{name: calls an exchange}, by strace."""
        report = self.directory / "strace"
        with self.loaded(server, kind, connections) as (pid, run):
            words = ["strace", "-f", "-c", "-U", "calls,name", "-o", str(report)]
            for process in family(pid):
                words += ["-p", str(process)]
            tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
            tracer.stderr.readline()  # "attached": one line is enough, the others follow at once
            time.sleep(0.5)
            for _ in range(self.options.slices):
                run()
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        counted = re.findall(r"^ *(\d+) (\w+)$", report.read_text(), re.M)
        return {name: int(calls) / (self.slice * self.options.slices) for calls, name in counted if name != "total"}


def show_syscalls(bench, options):
    for kind in options.kinds:
        for connections in options.connections:
            for server in SERVERS[kind]:
                calls = bench.syscalls(server, kind, connections)
                total = sum(calls.values())
                often = sorted(((count, name) for name, count in calls.items() if count >= 0.005), reverse=True)
                words = "  ".join(f"{name} {count:.2f}" for count, name in often)
                print(f"{NAMES[kind]:15}  {connections:11}  {server:6}  {total:6.2f}  {words}", flush=True)


def show_costs(bench, options):
    """The largest ratio."""
    largest = 0
    print("kind             connections    nginx   belfry    ratio   rounds: nginx | belfry           us an exchange", flush=True)
    for kind in options.kinds:
        for connections in options.connections:
            rounds = [bench.round(kind, connections) for _ in range(options.rounds)]
            cost = {server: [each[server][0] for each in rounds] for server in SERVERS[kind]}
            wall = " | ".join(f"{statistics.median(each[server][1] for each in rounds):.1f}" for server in cost)
            spread = " | ".join(" ".join(f"{value:.2f}" for value in values) for values in cost.values())
            median = {server: f"{statistics.median(values):.2f}" for server, values in cost.items()}
            ratio = ""
            if "nginx" in cost:
                middle = statistics.median(ours / theirs for ours, theirs in zip(cost["belfry"], cost["nginx"]))
                largest, ratio = max(largest, middle), f"{middle:.3f}"
            print(
                f"{NAMES[kind]:15}  {connections:11}  {median.get('nginx', ''):>7}  {median['belfry']:>7}  {ratio:>7}   {spread}"
                f"   {wall}",
                flush=True,
            )
    return largest


def main():
    options = arguments()
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    else:
        print("one CPU only: proxy, backend and load share it, the ratios are worth little")
    with tempfile.TemporaryDirectory(prefix="belfry-bench-") as name:
        bench = Bench(options, Path(name))
        if options.syscalls:
            print("kind             connections  server  system calls an exchange")
            show_syscalls(bench, options)
            return 0
        print(f"{options.exchanges} exchanges a round; us of CPU time (user and system, all of the proxy's processes)")
        largest = show_costs(bench, options)
    return 1 if options.max_ratio is not None and largest > options.max_ratio else 0


if __name__ == "__main__":
    sys.exit(main())
