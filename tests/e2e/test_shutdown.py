"""The end of the daemon, and of what it should leave alone."""

import signal
import threading
import time

import pytest

import ws
from backend import Backend, proxy_config
from belfry import wait_until
from http1 import connect, request, response

CONFIG = """
[route /ws]
[room *]
join = anyone
publish = members
"""


def stop(server):
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(30)


def test_goodbye(start):
    server = start(CONFIG + "\n[route /raw]\nprotocol = raw\n")
    client, raw = server.open_json("/ws"), server.open("/raw")
    server.process.send_signal(signal.SIGTERM)
    bye = client.receive_json()
    assert (bye["type"], bye["code"], bye["reconnect"]) == ("bye", 4503, True)
    assert 0 <= bye["after_ms"] < 10000
    for each in (client, raw):
        assert each.receive() == ("close", 1012, "restarting")
        each.send(ws.close(1012))
    assert server.process.wait(10) == 0
    server.check_log()


def test_second_signal_ends_at_once(start):
    server = start("[belfry]\nworkers = 1\ndrain_rate = 1/m\ndrain_timeout = 10m\n" + CONFIG)
    client, other = server.open_json("/ws"), server.open_json("/ws")
    server.process.send_signal(signal.SIGTERM)
    assert client.receive_json()["type"] == "bye"
    server.process.send_signal(signal.SIGTERM)  # else the other one would be told in a minute
    assert server.process.wait(30) == 0
    other.expect_end()
    server.check_log()


def test_nobody_connects_while_stopping(start):
    server = start(CONFIG)
    server.open_json("/ws")
    address = server.address()
    server.process.send_signal(signal.SIGTERM)
    server.wait_log("stopping")

    def refused():
        try:
            ws.Client(address).drop()
            return False
        except OSError:
            return True

    wait_until(refused, "the listener is closed")
    server.close_clients()
    assert server.process.wait(10) == 0


def test_a_proxied_request_under_way_is_answered(start):
    """The answer comes whole and ends the connection; one that idles between two requests ends at once."""
    asked, go = threading.Event(), threading.Event()

    def script(stream):
        while (question := stream.read_request()) is not None:
            stream.backend.requests.append(question)
            if question.target == "/slow":
                asked.set()
                assert go.wait(20)
            stream.send(response(b"whole" * 50000))

    with Backend(script) as backend:
        server = start(proxy_config(backend))
        busy, idle = connect(server.address()), connect(server.address())
        assert idle.ask().status == 200
        busy.send(request("GET", "/slow") + request("GET", "/behind"))
        assert asked.wait(20)
        server.process.send_signal(signal.SIGTERM)
        assert idle.at_end()
        idle.close()
        assert server.process.poll() is None
        go.set()
        answer = busy.read_answer()
        assert (answer.status, answer.body, answer.get("Connection")) == (200, b"whole" * 50000, "close")
        assert busy.at_end()  # what came behind is not asked any more
        busy.close()
        assert server.process.wait(10) == 0
        assert [r.target for r in backend.requests] == ["/", "/slow"]
        server.check_log()


@pytest.mark.parametrize("broker", ["memory", "redis"])
def test_questions_and_publishes_under_way(start, redis, broker):
    server = start(CONFIG + f"\n[broker]\ntype = {broker}\nurl = redis://127.0.0.1:{redis.port}/0\n")
    for _ in range(20):
        client = server.open_json("/ws")
        client.send_json({"type": "join", "id": 1, "room": "r"})
        client.receive_json()
    ended = threading.Event()

    def ask(path, body):
        while not ended.is_set():
            try:
                server.control("POST" if body else "GET", path, body)
            except Exception:
                time.sleep(0.001)

    asking = [threading.Thread(target=ask, args=pair) for pair in [("/v1/status", None), ("/v1/rooms/r", b"x"), ("/v1/rooms", None)]]
    for thread in asking:
        thread.start()
    time.sleep(0.2)
    try:
        server.close_clients()
        assert stop(server) == 0
    finally:
        ended.set()
        for thread in asking:
            thread.join()
    server.check_log()


def test_failed_second_start_leaves_the_first_alone(start, tmp_path):
    pid_file, edge = tmp_path / "pid", tmp_path / "edge"
    config = f"[belfry]\nworkers = 1\npid_file = {pid_file}\n" + CONFIG + f"\n[listener public]\nlisten = unix:{edge}\n"
    first = start(config)
    with pytest.raises(AssertionError, match="did not start, exit code 1"):
        start(config)
    assert pid_file.read_text() == f"{first.process.pid}\n"
    assert edge.is_socket()
    assert first.open_json("/ws").welcome
