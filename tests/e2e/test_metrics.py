"""GET /metrics: every number moves with what it counts, no client can make the list grow, and the documentation, the
dashboard and the alerts name metrics that exist."""

import http.client
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from belfry import http_request, wait_until
from hook_backend import SECRET, HookBackend
from http1 import connect, request
from sse import Poller, Reader
from ws import text

ROOT = Path(__file__).resolve().parents[2]
GRAFANA, ALERTS = ROOT / "conf/grafana/belfry.json", ROOT / "conf/prometheus/alerts.yml"
CONFIG = """
[upstream app]
server = 127.0.0.1:{port}
[upstream nobody]
server = 127.0.0.1:1 max_fails=1 fail_timeout=60s
keepalive = 1
[route /json]
sse = yes
poll = yes
poll_wait = 500ms
poll_timeout = 1s
[route /hooked]
upstream = app
hook = /belfry
hook_secret = {secret}
connect_hook = always
notify = connected
origin = any
[route /app]
mode = proxy
upstream = app
[route /gone]
mode = proxy
upstream = nobody
[route /]
host = named.example
protocol = raw
[room *]
join = anyone
publish = members
[control]
listen = 127.0.0.1:0
token = sesame42
"""


def promtool():
    """Debian's prometheus package has it; `./dev promtool` fetches it alone."""
    found = shutil.which("promtool") or ROOT / "build/tools/promtool"
    return found if Path(found).exists() else None


needs_promtool = pytest.mark.skipif(not promtool(), reason="no promtool: ./dev promtool fetches it")


@pytest.fixture(scope="module")
def backend():
    with HookBackend(connect=lambda call: {"user": "56"}) as hooks:
        yield hooks


@pytest.fixture(scope="module")
def shared_server(start_shared, backend):
    return start_shared(CONFIG.format(port=backend.port, secret=SECRET))


@pytest.fixture
def server(shared_server):
    yield shared_server
    shared_server.check()


def member(server, room="news", target="/json"):
    client = server.open_json(target)
    client.send_json({"type": "join", "id": 1, "room": room})
    assert client.receive_json()["type"] == "ok"
    return client


class Moved:
    """What has been counted since it was made: `moved["belfry_accepted_total"]`."""

    def __init__(self, server):
        self.server, self.before = server, server.metrics()

    def __getitem__(self, key):
        return self.server.metrics()[key] - self.before[key]

    def wait(self, expected, *key):
        wait_until(lambda: self[key] == expected, lambda: f"{key} moved by {self[key]}, not {expected}")


# The format


def test_type_and_token(server):
    reply = server.control("GET", "/metrics")
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert server.control("POST", "/metrics").status == 405
    host, port = server.control_tcp_address()

    def over_tcp(token):
        return http_request(http.client.HTTPConnection(host, port), "GET", "/metrics", headers={"Authorization": token})

    assert over_tcp("Bearer wrong").status == 401
    assert over_tcp("Bearer sesame42").body.startswith(b"# HELP belfry_build_info ")


@needs_promtool
def test_promtool_finds_nothing(server):
    member(server)
    checked = subprocess.run(
        [promtool(), "check", "metrics"], input=server.metrics().text, capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


# Clients


def test_connections_by_route_and_transport(server):
    def count(route, transport):
        return server.metrics()["belfry_connections", f"route={route}", f"transport={transport}"]

    clients = [server.open_json("/json") for _ in range(3)]
    raw = server.open("/", host="named.example")
    reader = Reader(server.address(), "/json", [("Accept", "text/event-stream")])
    poller = Poller(server.address(), "/json?transport=poll")
    poller.welcome()
    silent = server.client()
    wait_until(lambda: count("/json", "poll") == 1, "no poll")
    assert count("/json", "ws") == 3
    assert count("/json", "sse") == 1
    assert count("named.example/", "ws") == 1
    wait_until(lambda: count("", "handshake") == 1, "the silent one is missing")
    assert server.metrics()["belfry_connections_max"] >= 1000
    for end in (*clients, raw, reader, poller, silent):
        end.drop()
    wait_until(lambda: count("/json", "ws") == 0 and count("/json", "sse") == 0, "they are still counted")
    assert "belfry_connections{route=\"/json\",transport=\"ws\"} 0\n" in server.metrics().text


def test_handshakes_by_reason(server):
    moved = Moved(server)
    client = server.open_json("/json")
    for target, status in (("/nowhere", 421), ("/json", 426)):
        with connect(server.address()) as plain:
            plain.send(request("GET", target, host="localhost"))
            assert plain.read_answer().status == status
    assert moved["belfry_handshakes_total", "result=accepted"] == 1
    assert moved["belfry_handshakes_total", "result=refused", "reason=misdirected"] == 1
    assert moved["belfry_handshakes_total", "result=refused", "reason=upgrade_required"] == 1
    assert moved["belfry_handshakes_total", "result=refused"] == 2
    moved.wait(3, "belfry_accepted_total")
    client.drop()


def test_ends_by_code(server):
    moved = Moved(server)
    server.open_json("/json").finish(1000)
    for code in (4987, 4988):  # codes that the application makes up are one
        server.open_json("/json").finish(code)
    server.open_json("/json").abort()
    moved.wait(1, "belfry_closed_total", "code=1000")
    moved.wait(2, "belfry_closed_total", "code=4000")
    moved.wait(1, "belfry_closed_total", "code=1006")
    assert moved["belfry_closed_total"] == 4


def test_messages_and_their_latency(server):
    moved = Moved(server)
    clients = [member(server, "busy") for _ in range(4)]
    assert server.metrics()["belfry_rooms"] == 1 and server.metrics()["belfry_memberships"] == 4
    for number in range(5):
        assert server.publish("busy", f"{number}") == 4
    for client in clients:
        assert [client.receive_json()["data"] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert moved["belfry_messages_received_total"] == 4  # the joins
    assert moved["belfry_deliveries_total"] == 20
    assert moved["belfry_broker_published_total"] == 5
    assert moved["belfry_received_bytes_total"] > 400
    assert moved["belfry_sent_bytes_total"] > 20 * 20
    assert moved["belfry_writes_total"] >= 20
    assert moved["belfry_encodes_total"] == 5
    # One observation a message and worker that has members.
    workers = len({c.welcome["conn"][:6] for c in clients})
    moved.wait(moved["belfry_fanout_latency_seconds_count"], "belfry_fanout_latency_seconds_count")
    observed = moved["belfry_fanout_latency_seconds_count"]
    assert observed in (5, 10), (observed, workers)
    assert 0 < moved["belfry_fanout_latency_seconds_sum"] < 5 * observed
    assert moved["belfry_fanout_latency_seconds_bucket", "le=+Inf"] == observed


def test_what_waits_for_a_slow_reader(server):
    client = server.client(receive_buffer=4096).open("/json")
    client.receive_json()
    client.send_json({"type": "join", "id": 1, "room": "slow"})
    assert client.receive_json()["type"] == "ok"
    moved = Moved(server)
    for _ in range(40):
        server.publish("slow", '"' + "x" * 20000 + '"')
    metrics = server.metrics()
    if metrics["belfry_blocked_connections"]:
        assert metrics["belfry_queue_bytes"] > 20000 and metrics["belfry_queue_frames"] >= 1
    else:
        assert moved["belfry_sent_bytes_total"] > 800000
    client.drop()
    wait_until(lambda: server.metrics()["belfry_queue_bytes"] == 0, "it still waits")


def test_dropped_by_reason(server):
    moved = Moved(server)
    client = server.open("/", host="named.example")
    client.send(text(b"to no room"))
    moved.wait(1, "belfry_dropped_total", "reason=no_right")
    client.drop()


# Backends


def test_hooks_by_event(server):
    moved = Moved(server)
    clients = [server.open_json("/hooked") for _ in range(2)]
    assert moved["belfry_hook_duration_seconds_count", "event=connect"] == 2
    assert 0 < moved["belfry_hook_duration_seconds_sum", "event=connect"] < 20
    assert moved["belfry_hook_duration_seconds_count", "event=join"] == 0
    moved.wait(2, "belfry_notify_events_total", "result=sent")
    assert moved["belfry_hook_duration_seconds_count", "event=notify"] in (1, 2)
    for client in clients:
        client.drop()


def test_upstreams_by_server(server, backend):
    moved = Moved(server)
    app = ["upstream=app", f"server=127.0.0.1:{backend.port}"]
    nobody = ["upstream=nobody", "server=127.0.0.1:1"]
    server.open_json("/hooked").drop()
    assert moved["belfry_upstream_server_requests_total", *app] >= 1
    with connect(server.address()) as plain:
        plain.send(request("GET", "/gone", host="localhost"))
        assert plain.read_answer().status == 502
    assert moved["belfry_proxy_requests_total"] == 1
    assert moved["belfry_proxy_answers_total", "class=none"] == 1
    assert moved["belfry_upstream_server_failures_total", *nobody] == 1
    metrics = server.metrics()
    assert metrics["belfry_upstream_server_state", *nobody, "state=down"] == 1
    assert metrics["belfry_upstream_server_state", *nobody] == 1  # and no other
    assert metrics["belfry_upstream_server_state", *app, "state=up"] == 1


# The process


def test_the_process(server):
    metrics = server.metrics()
    assert metrics["belfry_ready"] == 1 and metrics["belfry_stopping"] == 0
    assert metrics["belfry_workers"] == 2
    assert metrics["belfry_broker_up", "type=memory"] == 1
    assert abs(metrics["process_resident_memory_bytes"] - server.resident_bytes()) < server.resident_bytes() / 2
    assert metrics["process_open_fds"] in range(server.open_files() - 3, server.open_files() + 4)
    assert metrics["process_max_fds"] >= 1024
    assert metrics["process_cpu_seconds_total"] > 0
    for loop in ("main", "0", "1"):
        wait_until(
            lambda loop=loop: server.metrics()["belfry_loop_lag_seconds_count", f"loop={loop}"] > 0, f"{loop} has no tick"
        )
    assert metrics["belfry_memory_bytes", "budget=tables"] > 0
    client = server.open_json("/json")
    assert server.metrics()["belfry_memory_bytes", "budget=connections"] >= 65536
    client.drop()


def test_a_thread_that_stood_still(start):
    server = start("[route /json]\n")
    wait_until(lambda: server.metrics()["belfry_loop_lag_seconds_count"] >= 6, "no ticks")
    assert server.metrics()["belfry_loop_lag_peak_seconds"] < 3
    server.freeze()
    time.sleep(1)
    server.thaw()
    for loop in ("main", "0", "1"):
        wait_until(
            lambda loop=loop: server.metrics()["belfry_loop_lag_peak_seconds", f"loop={loop}"] > 0.5, f"{loop}: no lag"
        )


def test_reloads(start):
    server = start("[route /json]\n")
    metrics = server.metrics()
    assert metrics["belfry_config_generation"] == 1 and metrics["belfry_config_last_reload_successful"] == 1
    assert server.control("POST", "/v1/reload").status == 200
    assert server.metrics()["belfry_config_generation"] == 2
    good = server.config_path.read_text()
    server.config_path.write_text(good + "\n[nonsense]\n")
    server.expect_error("nonsense|nothing has changed")
    assert server.control("POST", "/v1/reload").status == 422
    metrics = server.metrics()
    assert metrics["belfry_config_generation"] == 2 and metrics["belfry_config_last_reload_successful"] == 0
    assert metrics["belfry_config_reloads_total", "result=done"] == 1
    assert metrics["belfry_config_reloads_total", "result=failed"] == 1
    server.config_path.write_text(good)
    assert server.control("POST", "/v1/reload").status == 200
    assert server.metrics()["belfry_config_last_reload_successful"] == 1


# Nobody else's words


def test_clients_name_nothing(server):
    """Whatever they send as a path, host, room, user, code or reason, the list of series is the same."""
    warm = member(server, "warm")
    warm.finish(4999)
    server.open_json("/json").abort()
    wait_until(lambda: server.metrics()["belfry_closed_total", "code=1006"], "not closed")

    def series():
        return {key for key in server.metrics().series if key[0] != "belfry_closed_total"}

    wait_until(lambda: server.connections() == 0, "still there")
    before, codes = series(), {key for key in server.metrics().series if key[0] == "belfry_closed_total"}
    evil = 'x"} 1\\nforged_total 99'
    for target in ("/" + "a" * 50, "/%22%7D%20", "/json/%0aforged%2099", f"/json?{'b' * 40}"):
        with connect(server.address()) as plain:
            plain.send(request("GET", target, fields=[("X-Evil", evil)], host="evil.example"))
            plain.read_answer()
    client = server.open_json("/json/%22%7Dforged")
    for number in range(20):
        client.send_json({"type": "join", "id": number, "room": f"{evil} {number}"})
        client.receive_json()
    client.finish(4000 + 321)
    wait_until(lambda: server.connections() == 0, "still there")
    assert series() == before
    assert "forged" not in server.metrics().text
    assert {key for key in server.metrics().series if key[0] == "belfry_closed_total"} == codes


# What names metrics


def test_documentation(server):
    """doc/metrics.md's table is what /metrics says: names, types, labels, help."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", (ROOT / "doc/metrics.md").read_text(), re.M)
    documented = {name: (kind, labels, told) for name, kind, labels, told in rows}
    assert len(documented) == len(rows), "a metric is documented twice"
    client = member(server)
    client.finish(1000)
    wait_until(lambda: server.metrics()["belfry_closed_total"], "not closed")
    real = {
        m.name: (m.type, ", ".join(f"`{label}`" for label in m.label_names()), m.help.replace("|", "\\|"))
        for m in server.metrics().all.values()
    }
    for name in sorted(real.keys() - documented.keys()):
        print("| `%s` | %s | %s | %s |" % (name, *real[name]))
    assert real.keys() == documented.keys(), (real.keys() - documented.keys(), documented.keys() - real.keys())
    for name, row in real.items():
        assert documented[name] == row, name


def names_in(expression):
    return set(re.findall(r"\b(?:belfry|process)_[a-z0-9_]+\b", expression))


def expressions_of(panel):
    for inner in panel.get("panels", []):
        yield from expressions_of(inner)
    for target in panel.get("targets", []):
        yield panel["title"], target["expr"]


def assert_exist(metrics, where, expression):
    for name in names_in(expression):
        base = re.sub("_(bucket|sum|count)$", "", name)
        metric = metrics.all.get(name) or metrics.all.get(base)
        assert metric, f"{where}: there is no metric {name}"
        assert (metric.type == "histogram") == (metric.name != name), f"{where}: {name} is a {metric.type}"
        if metric.type != "gauge":
            assert re.search(rf"(rate|increase)\({name}\b", expression), f"{where}: {name} is a counter, without rate()"
    labels = {label for name in names_in(expression) for label in label_names(metrics, name)}
    for label in re.findall(r"[{,]\s*(\w+)\s*(?:=~?|!=|!~)", expression):
        assert label in labels | {"instance", "job"}, f"{where}: no label {label}"


def label_names(metrics, name):
    metric = metrics.all.get(name) or metrics.all[re.sub("_(bucket|sum|count)$", "", name)]
    return metric.label_names()


def test_dashboard(server):
    client = member(server)
    client.finish(1000)
    wait_until(lambda: server.metrics()["belfry_closed_total"], "not closed")
    dashboard = json.loads(GRAFANA.read_text())
    metrics = server.metrics()
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic", "Fan-out", "Latency", "Slow readers", "Backends", "Broker", "Memory", "Processes"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    expressions = [e for panel in dashboard["panels"] for e in expressions_of(panel)]
    assert len(expressions) >= 30
    for title, expression in expressions:
        assert names_in(expression), title
        assert_exist(metrics, title, expression)


def test_alerts(server):
    client = member(server)
    client.finish(1000)
    wait_until(lambda: server.metrics()["belfry_closed_total"], "not closed")
    expressions = re.findall(r"^\s+expr: (.+)$", ALERTS.read_text(), re.M)
    assert len(expressions) >= 8
    for expression in expressions:
        assert_exist(server.metrics(), "alerts.yml", expression)


@needs_promtool
def test_promtool_reads_the_alerts():
    checked = subprocess.run(
        [promtool(), "check", "rules", ALERTS], capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "SUCCESS" in checked.stdout
