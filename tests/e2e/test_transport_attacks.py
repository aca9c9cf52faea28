"""What a hostile client tries with sessions without WebSocket: past the limits, through another route, by leaving."""

import json
import time

import pytest
from backend import Backend, serve
from belfry import wait_until
from http1 import connect, request, response
from sse import Carrier, Reader

CONFIG = """
[belfry]
workers = 1
max_connections = 20

[upstream app]
server = {address}

[route /json]
mode = rooms
max_message = 64k

[route /raw]
mode = rooms
protocol = raw
max_message = 1k

[route /feed]
mode = proxy
upstream = app
publish_header = yes
connections_per_ip = 2

[room chat:*]
join = anyone
publish = anyone
"""

HELD = response(b"data: first\n\n", fields=[("Content-Type", "text/event-stream"), ("Belfry-Hold", "chat:1")])


@pytest.fixture
def backend():
    def answer(asked):
        if asked.target.endswith("?late"):
            time.sleep(0.3)
        return HELD

    running = Backend(serve(answer))
    yield running
    running.stop()


@pytest.fixture
def server(start, backend):
    running = start(CONFIG.format(address=backend.address))
    yield running
    for conn in running.connection_ids():
        running.command({"op": "disconnect", "conn": conn})


def poll_session(server, target):
    """A session of long polling by its first answer alone: its name for POSTs."""
    with connect(server.address()) as stream:
        return json.loads(stream.ask("GET", target + "&transport=poll").body)["cursor"].rsplit(".", 1)[0]


def test_one_socket_opens_no_more_sessions_than_there_are_places(server):
    """Each session of long polling is a connection that costs its client no socket."""
    with connect(server.address()) as stream:
        stream.send(request("GET", "/json?transport=poll") * 60)
        answers = []
        while len(answers) < 60:
            head = stream.read_head()
            answers.append(head.status)
            stream.read_body(head, until_close=False)
            if head.get("Connection") == "close":
                break
        assert answers[-1] == 503 and set(answers[:-1]) == {200}
        assert server.connections() <= 20


def test_bytes_that_come_by_a_json_route_are_no_text_in_a_raw_room(server):
    """Text that is not UTF-8 ends the connection of every browser that gets it (RFC 6455 section 8.1)."""
    member = server.open("/raw?room=chat:1")
    session = poll_session(server, "/raw?room=chat:1")
    carrier = Carrier(server.address(), "/json")
    assert carrier.post(session, b"\xff\xfe").status == 202
    assert member.receive() == ("binary", b"\xff\xfe")
    member.finish()
    carrier.drop()


def test_another_route_does_not_lend_its_max_message(server):
    session = poll_session(server, "/raw?room=chat:1")
    carrier = Carrier(server.address(), "/json")
    assert carrier.post(session, b"x" * 1025).status == 413
    assert carrier.post(session, b"x" * 1024).status == 202
    carrier.drop()


def test_held_streams_count_among_the_connections_of_an_address(server):
    readers = [Reader(server.address(), "/feed") for _ in range(2)]
    assert [reader.head.status for reader in readers] == [200, 200]
    refused = Reader(server.address(), "/feed")
    assert refused.head.status == 429
    refused.drop()
    readers[0].drop()
    wait_until(lambda: server.members("chat:1") == 1, "the end of a stream")
    again = Reader(server.address(), "/feed")
    assert again.head.status == 200
    for reader in (readers[1], again):
        reader.drop()


def test_plain_requests_do_not_count_as_held_ones(server):
    for _ in range(5):
        with connect(server.address()) as stream:
            assert stream.ask("GET", "/feed").status == 200


def test_who_leaves_before_its_stream_is_held_leaves_nothing_behind(server):
    """The sanitizer's leak check, behind the test, is what looks."""
    for _ in range(3):
        with connect(server.address()) as stream:
            stream.send(request("GET", "/feed?late", fields=[("Accept", "text/event-stream")]))
            stream.shut()
            assert stream.read_to_end() == b""
    assert server.members("chat:1") == 0
