"""Notifications to the backend: what is told, in which order, and that nothing is lost while it is down."""

from belfry import wait_until
from hook_backend import HookBackend, hook_config

ALL = "notify = connected, disconnected, joined, left, occupied, vacated\n"


def types(events, conn=None):
    return [e["type"] for e in events if conn is None or e.get("conn") == conn]


def test_a_life_is_told(start):
    with HookBackend(connect={"user": "56"}) as backend:
        server = start(hook_config(backend, route=ALL + "connect_hook = always\njoin_on_connect = open:1\n"))
        client = server.open_json("/ws")
        conn = client.welcome["conn"]
        client.send_json({"type": "join", "id": 1, "room": "open:2"})
        client.receive_json()
        client.send_json({"type": "leave", "id": 2, "room": "open:2"})
        client.receive_json()
        client.finish(4000)
        wait_until(lambda: types(backend.events()).count("vacated") == 2, lambda: backend.events(), 15)
        events = backend.events()
        mine = [(e["type"], e.get("room"), e.get("code")) for e in events if e.get("conn") == conn]
        assert mine == [
            ("connected", None, None), ("joined", "open:1", None), ("joined", "open:2", None), ("left", "open:2", None),
            ("left", "open:1", None), ("disconnected", None, 4000),
        ]  # fmt: skip
        assert {e["user"] for e in events if "conn" in e} == {"56"}
        rooms = [(e["type"], e["room"]) for e in events if "conn" not in e]
        assert sorted(rooms) == [("occupied", "open:1"), ("occupied", "open:2"), ("vacated", "open:1"), ("vacated", "open:2")]
        assert all(e["time"] > 1_600_000_000_000 for e in events)
        assert server.status()["notify"]["sent"] == len(events)


def test_a_room_that_changes_hands_is_not_vacated(start):
    with HookBackend() as backend:
        server = start(hook_config(backend, route="notify = occupied, vacated\njoin_on_connect = open:1\n"))
        for _ in range(3):
            server.open_json("/ws").finish()
        wait_until(lambda: "vacated" in types(backend.events()), lambda: backend.events(), 15)
        assert types(backend.events()) == ["occupied", "vacated"]


def test_only_what_was_asked_for_is_told(start):
    with HookBackend() as backend:
        server = start(hook_config(backend, route="notify = disconnected\njoin_on_connect = open:1\n"))
        for _ in range(5):
            server.open_json("/ws").finish()
        assert types(backend.wait_events(5)) == ["disconnected"] * 5


def test_everything_arrives_once_the_backend_is_back(start):
    backend = HookBackend().start()
    server = start(hook_config(backend, route="notify = connected, disconnected\n"))
    backend.stop()
    conns = []
    for _ in range(50):
        client = server.open_json("/ws")
        conns.append(client.welcome["conn"])
        client.finish()
    wait_until(lambda: server.status()["notify"]["retried"] >= 2, "no second try", 15)
    backend.start()
    backend.wait_events(100)
    for conn in conns:
        assert types(backend.events(), conn) == ["connected", "disconnected"]
    wait_until(lambda: server.status()["notify"]["spooled"] == 0, "the spool stays")
    assert server.status()["notify"]["dropped"] == 0
    backend.stop()


def test_a_backend_that_fails_gets_them_again(start):
    answers = iter([(500, ""), (404, "")])
    with HookBackend(notify=lambda c: next(answers, None)) as backend:
        server = start(hook_config(backend, route="notify = connected\n"))
        server.open_json("/ws")
        calls = backend.wait_for("notify", 3)
        assert len({c.body["events"][0]["id"] for c in calls}) == 1
        assert server.status()["notify"]["dropped"] == 0


def test_what_is_spooled_is_sent_at_the_end(start):
    with HookBackend() as backend:
        server = start(hook_config(backend, route="notify = connected, disconnected\n"))
        conns = [server.open_json("/ws").welcome["conn"] for _ in range(20)]
        server.stop()
        for conn in conns:
            assert types(backend.events(), conn) == ["connected", "disconnected"]


def test_a_dead_backend_does_not_stop_the_end(start):
    backend = HookBackend().start()
    server = start("[belfry]\ndrain_timeout = 1s\n" + hook_config(backend, route="notify = connected, disconnected\n"))
    backend.stop()
    server.open_json("/ws")
    server.stop()
    assert server.find_log("notify: .* dropped")
