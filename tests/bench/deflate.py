#!/usr/bin/env python3
"""What permessage-deflate costs Belfry in CPU time a delivery, against the same messages plain: `./dev bench deflate`.

10,000 subscribers of one room, JSON, 5 messages a second; the server alone on the first CPU, Redis, the clients and this
program on the second. Rounds alternate between clients that offer compression and clients that do not; the table shows
medians. Whatever the number of readers, a message is compressed once for each protocol that they speak.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
import urllib.request
from pathlib import Path

from bench import CONFIG, WARM_UP, beside_the_server, cpu_seconds, make_certificate, pinned, running

from redis_server import free_port
from swarm import Swarm, payload

CONTROL = """
[control]
listen = 127.0.0.1:{port}
token = bench
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10000)
    parser.add_argument("--kinds", nargs="+", choices=["ws", "wss"], default=["ws", "wss"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000], help="bytes of a payload")
    parser.add_argument("--rate", type=float, default=5, help="messages a second")
    parser.add_argument("--messages", type=int, default=40, help="in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--realtime", action="store_true", help="real-time priority, on a machine that is busy (root)")
    parser.add_argument("--max-ratio", type=float, help="exit with 1 where a ratio is above")
    return parser.parse_args()


def quotes(sequence, size):
    """What the swarm checks, filled up with prices: JSON that shrinks to about 40 %."""
    numbers = random.Random(sequence)
    text = payload(sequence, 0).decode()
    while len(text) < size:
        symbol = "".join(numbers.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=4))
        quote = {"symbol": symbol, "price": round(numbers.uniform(1, 999), 2), "volume": numbers.randrange(100000)}
        text += json.dumps(quote, separators=(",", ":"))
    return text[:size].encode()


class Bench:
    def __init__(self, options, directory, redis):
        self.options, self.directory, self.redis = options, directory, redis
        self.certificate = make_certificate(directory)

    def server(self, kind, port):
        chain, key = self.certificate
        tls = f"tls = yes\ncertificate = {chain}\nprivate_key = {key}" if kind == "wss" else ""
        self.control = free_port()
        config = self.directory / "belfry.ini"
        config.write_text(CONFIG.format(port=port, tls=tls, redis=self.redis.url) + CONTROL.format(port=self.control))
        words = [*pinned(0, self.options.realtime), Path(os.environ["BELFRY_BUILD"]) / "belfry", "-c", config]
        return running(words, "belfry")

    def deflates(self):
        url = f"http://127.0.0.1:{self.control}/v1/status"
        request = urllib.request.Request(url, headers={"Authorization": "Bearer bench"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["deflates"]

    def round(self, kind, size, deflate):
        """(microseconds of CPU time a delivery, bytes a delivery, messages compressed)"""
        options, port = self.options, free_port()
        with self.server(kind, port) as pid, Swarm(
            ("127.0.0.1", port),
            prefix=pinned(1, options.realtime),
            n=options.clients,
            tls=kind == "wss",
            path="/raw?room=load:%r",
            deflate=deflate,
        ) as swarm:
            client = self.redis.client()
            messages = [quotes(number + 1, size) for number in range(WARM_UP + options.messages)]
            begin = time.monotonic()
            for number, message in enumerate(messages):
                time.sleep(max(0, begin + number / options.rate - time.monotonic()))
                if number == WARM_UP:
                    swarm.expect(1, WARM_UP)
                    bytes_before = swarm.wait_complete()["bytes"]
                    begin = time.monotonic() - number / options.rate
                    cpu = cpu_seconds(pid)
                client.pipeline([("PUBLISH", "belfry:room:load:0", message)])
            swarm.expect(1, len(messages))
            report = swarm.wait_complete()
            spent, deflates = cpu_seconds(pid) - cpu, self.deflates()
            client.close()
            assert report["alive"] == options.clients and report["duplicates"] == report["bad_frames"] == 0, report
            assert report["compressed"] == (report["messages"] if deflate else 0), report
            assert deflates == (len(messages) if deflate else 0)  # whatever the number of readers
        deliveries = options.clients * options.messages
        return spent * 1e6 / deliveries, (report["bytes"] - bytes_before) / deliveries, deflates


def main():
    options = arguments()
    too_slow = False
    with beside_the_server() as (directory, redis):
        bench = Bench(options, directory, redis)
        print(f"{options.clients} clients, {options.rate:g} messages a second; us of CPU a delivery, bytes on the wire")
        print("kind   size   plain  deflated   ratio   bytes: plain | deflated   rounds: plain | deflated", flush=True)
        for kind in options.kinds:
            for size in options.sizes:
                rounds = {False: [], True: []}
                for _ in range(options.rounds):
                    for deflate, results in rounds.items():
                        results.append(bench.round(kind, size, deflate))
                cost = {deflate: [result[0] for result in results] for deflate, results in rounds.items()}
                wire = {deflate: statistics.median(result[1] for result in results) for deflate, results in rounds.items()}
                median = {deflate: statistics.median(values) for deflate, values in cost.items()}
                ratio = median[True] / median[False]
                too_slow |= options.max_ratio is not None and ratio > options.max_ratio
                spread = " | ".join(" ".join(f"{value:5.2f}" for value in values) for values in cost.values())
                print(
                    f"{kind:4} {size:6}  {median[False]:6.2f}    {median[True]:6.2f}  {ratio:6.2f}"
                    f"   {wire[False]:12.0f} | {wire[True]:8.0f}   {spread}",
                    flush=True,
                )
    return 1 if too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
