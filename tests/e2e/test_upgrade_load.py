"""An upgrade under 5,000 clients over TLS and 1,000 plain ones with messages flowing: the plain ones move and miss nothing;
the others are asked back at drain_rate, each by a bye, and recover everything; so do real browser clients."""

import contextlib
import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from belfry import wait_until
from load import Stepper, Swarm, assert_flawless, payload, redis_broker
from test_handover import Upgrade

pytestmark = pytest.mark.load
SECURE = 5000
PLAIN = 1000
BROWSERS = 20
ROOMS = 20
RATE = 500
PAUSE = 0.4  # between two messages of a room
WEB = Path(__file__).resolve().parents[1] / "web"

CONFIG = """
[belfry]
workers = 2
drain_rate = {rate}/s
[listener public]
listen = 127.0.0.1:0
{secure}
[route /json]
origin = any
[route /raw]
protocol = raw
join_on_connect = plain:{{query.r}}
[room load:*]
join = anyone
publish = members
history = 1000
[room plain:*]
join = anyone
publish = members
"""


class Publisher(Stepper):
    """Numbers into each room, until stopped: with a place in the history by the control API, which changes hands
    meanwhile (what is not answered is sent again, and is no second message because of its id); without, by Redis."""

    def __init__(self, server, redis):
        self.server, self.redis, self.tried = server, redis.client(), 0
        super().__init__(self.publish, PAUSE)

    def send(self, commands):
        for _ in range(50):
            with contextlib.suppress(OSError, ValueError):
                if self.server.control("POST", "/v1/commands", commands).status == 200:
                    return
            self.tried += 1
            time.sleep(0.05)
        raise AssertionError("the control API does not answer")

    def publish(self, number):
        data = [payload(number, room, 100) for room in range(ROOMS)]
        self.send(
            [{"op": "publish", "room": f"load:{r}", "id": f"{number}", "data": d.decode()} for r, d in enumerate(data)]
        )
        self.redis.pipeline([("PUBLISH", f"belfry:room:plain:{r}", d) for r, d in enumerate(data)])


class Browsers:
    """The browser client itself, under node."""

    def __init__(self, url, certificate):
        command = ["node", "--no-warnings", "--experimental-websocket", WEB / "readers.mjs", url, str(BROWSERS), str(ROOMS)]
        environment = {"NODE_EXTRA_CA_CERTS": str(certificate.chain), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def report(self):
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def assert_everything(readers, last):
    for reader in readers:
        assert reader["got"] == list(range(1, last + 1)), reader
        assert (reader["byes"], reader["gaps"], reader["recovered"]) == (1, 0, 1), reader


def test_everybody_lives_on_or_comes_back(start, redis, certificate):
    server = start(CONFIG.format(rate=RATE, secure=certificate.listener("secure")) + redis_broker(redis.url))
    with contextlib.ExitStack() as stack:
        join = {"rooms": ROOMS, "resume_tickets": True}
        secure = stack.enter_context(
            Swarm(server.address("secure"), n=SECURE, tls=True, protocol="json", path="/json", returning=True, **join)
        )
        plain = stack.enter_context(
            Swarm(server.address(), n=PLAIN // 2, protocol="json", path="/json", room="plain:%r", rooms=ROOMS)
        )
        raw = stack.enter_context(Swarm(server.address(), n=PLAIN // 2, path="/raw?r=%r", rooms=ROOMS))
        host, port = server.address("secure")
        browsers = stack.enter_context(Browsers(f"wss://localhost:{port}/json", certificate))
        ids = set(server.connection_ids(room="plain:0"))
        publisher = Publisher(server, redis)
        time.sleep(2)
        begun = time.monotonic()
        upgrade = Upgrade(server).wait_moved()
        moved_after = time.monotonic() - begun
        wait_until(lambda: secure.report()["returned"] >= SECURE, "they do not come back", 90)
        back_after = time.monotonic() - begun
        upgrade.wait_gone()
        time.sleep(1)
        last = publisher.stop()
        for swarm in (secure, plain, raw):
            swarm.expect(1, last)
        reports = {name: swarm.wait_complete() for name, swarm in (("secure", secure), ("plain", plain), ("raw", raw))}
        readers = browsers.report()
        drain = re.search(r"saying goodbye to (\d+)", server.log()[server.log().index("handover: ") :])
        figures = {
            "secure": SECURE + BROWSERS,
            "plain": PLAIN,
            "moved": upgrade.moved(),
            "moved_after_s": round(moved_after, 2),
            "goodbyes": int(drain[1]) if drain else None,
            "byes": reports["secure"]["byes"],
            "recovered": reports["secure"]["recovered"],
            "all_back_after_s": round(back_after, 1),
            "messages": last * ROOMS * 2,
            "delivered": sum(r["messages"] for r in reports.values()),
            "control_retries": publisher.tried,
        }
        print("\nupgrade under load:", json.dumps(figures))
        assert upgrade.moved() == PLAIN
        for name, count in (("plain", PLAIN // 2), ("raw", PLAIN // 2), ("secure", SECURE)):
            assert_flawless(reports[name], count)
            assert reports[name]["gaps"] == 0, name
        assert (reports["secure"]["byes"], reports["secure"]["recovered"]) == (SECURE, SECURE), reports["secure"]
        assert reports["plain"]["byes"] == 0
        assert len(ids) == PLAIN // ROOMS and set(server.connection_ids(room="plain:0")) == ids
        assert back_after > (SECURE + BROWSERS) / RATE - 1  # drain_rate held them back
        assert_everything(readers, last)
        print(f"{len(readers)} browser clients have got {last} messages each")
