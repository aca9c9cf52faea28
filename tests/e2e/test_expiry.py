"""The end of credentials: refresh hook, grace, Close 4401. (The 25 s of grace themselves are tested in the unit tests.)"""

from belfry import wait_until
from clocks import Clocks
from hook_backend import HookBackend, hook_config

ALWAYS = "connect_hook = always\n"


def test_the_refresh_hook_extends(start):
    with HookBackend(connect={"user": "56", "expires_in": 1, "state": [1]}, refresh={"expires_in": 1}) as backend:
        server = start(hook_config(backend, route=ALWAYS))
        client = server.open_json("/ws")
        assert client.welcome["expires_in"] == 1
        first, second = backend.wait_for("refresh", 2)[:2]
        assert first.body == {"event": "refresh", "conn": client.welcome["conn"], "user": "56", "state": [1]}
        client.send_json({"type": "ping", "id": 1})
        assert client.receive_json()["type"] == "pong"


def test_a_command_asks_for_a_refresh(start):
    with HookBackend(connect={"user": "56"}, refresh={"expires_in": 3600}) as backend:
        server = start(hook_config(backend, route=ALWAYS))
        a, b = server.open_json("/ws"), server.open_json("/ws")
        server.command({"op": "refresh", "user": "56"})
        backend.wait_for("refresh", 2)
        server.command({"op": "refresh", "conn": a.welcome["conn"]})
        calls = backend.wait_for("refresh", 3)
        assert [c.body["conn"] for c in calls].count(a.welcome["conn"]) == 2
        assert b.welcome["conn"] in {c.body["conn"] for c in calls}


def test_a_no_closes_behind_the_grace(start, tmp_path):
    clocks = Clocks(tmp_path)
    with HookBackend(connect={"user": "56", "expires_in": 1}, refresh={"expired": True}) as backend:
        server = start(hook_config(backend, route=ALWAYS + "ping_interval = 0\n"), extra_environment=clocks.environment)
        client = server.open_json("/ws")
        backend.wait_for("refresh")
        clocks.go_on(20)
        client.expect_silence(2)  # not at once: `auth` may still come
        clocks.go_on(5)
        bye = client.receive_json()
        assert (bye["type"], bye["code"], bye["reconnect"]) == ("bye", 4401, False)
        assert client.events() == [("close", 4401, "credentials expired")]
        assert len(backend.of("refresh")) == 1
        wait_until(lambda: server.status()["closed"].get("4401") == 1, "not counted")
