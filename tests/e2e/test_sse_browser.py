"""Chromium's own EventSource, without any client library: it comes back by itself and has missed nothing."""

import pytest
from belfry import wait_until
from chromium import SECONDS, browser, in_page, leave_pages, needs_chromium  # noqa: F401 (fixture)
from gate import Gate

pytestmark = needs_chromium

CONFIG = """
[route /ws]
mode = rooms
origin = any

[room kept:*]
join = anyone
publish = anyone
history = 100
"""

OPEN = """
window.told = [];
window.source = new EventSource(given[0]);
source.onmessage = (e) => told.push(JSON.parse(e.data));
source.onopen = () => told.push({type: 'open'});
"""


def told(browser, kind):
    return [message for message in in_page(browser, "return told") if message["type"] == kind]


@pytest.mark.parametrize("cuts", [3])
def test_an_event_source_alone_recovers(start, browser, cuts):  # noqa: F811
    server = start(CONFIG)
    rooms = ["kept:1", "kept:2"]
    with Gate(server.address()) as gate:
        here = f"http://127.0.0.1:{gate.port}"
        browser.get(here + "/nothing")  # a page of this origin
        in_page(browser, OPEN, here + "/ws?room=kept:1&room=kept:2")
        wait_until(lambda: told(browser, "welcome"), "the first welcome", SECONDS)
        count = 0
        for cut in range(cuts):
            count += 1
            for room in rooms:
                server.publish(room, str(count))
            wait_until(lambda: len(told(browser, "message")) == 2 * count, lambda: in_page(browser, "return told"), SECONDS)
            gate.target = None
            gate.cut()
            wait_until(lambda: server.members("kept:1") == 0, "the cut")
            for _ in range(3):
                count += 1
                for room in rooms:
                    server.publish(room, str(count))
            gate.target = server.address()
            wait_until(lambda: len(told(browser, "message")) >= 2 * count, lambda: in_page(browser, "return told"), SECONDS)
        for room in rooms:
            got = [message["data"] for message in told(browser, "message") if message["room"] == room]
            assert got == list(range(1, count + 1))
        assert told(browser, "gap") == []
        assert len(told(browser, "open")) == cuts + 1
        in_page(browser, "source.close()")
        leave_pages(browser)
