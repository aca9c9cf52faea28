"""Attacks on the edge that once went through: what a hostile client gets from the proxy, and what a slow one must not lose."""

import threading
import time

import pytest
from backend import Backend, proxy_config, serve
from belfry import wait_until
from clocks import Clocks
from http1 import Stream, connect, head, request, response

KB = 1 << 10


@pytest.fixture
def backends():
    """backends(script): a backend that ends with the test."""
    made = []

    def begin(script):
        made.append(Backend(script))
        return made[-1]

    yield begin
    for backend in made:
        backend.stop()


# The hook is for Belfry alone.

HOOK_ROUTES = """
[route /ws]
mode = rooms
upstream = {upstream}
hook = {hook}
"""


@pytest.mark.parametrize(
    "hook, target",
    [
        ("/belfry", "/belfry"),
        ("/belfry", "/belfry?x=1"),
        ("/belfry", "/%62elfr%79"),
        ("/belfry", "/Belfry"),  # Express and IIS don't tell them apart
        ("/belfry", "/belfry/"),
        ("/belfry", "//belfry"),
        ("/belfry", "/belfry//"),
        ("/belfry", "/belfry;jsessionid=1"),  # Java containers cut parameters off
        ("/belfry", "/belfry/;x=1/"),
        ("/belfry", "/belfry%3bx"),
        ("/belfry", "http://app.example/belfry"),
        ("/api/belfry", "/api//belfry"),
        ("/api/belfry", "/api;x/belfry"),
        ("/belfry/?key=1", "/belfry"),
        ("/belfry.php", "/belfry.php/more"),  # PATH_INFO
        ("/belfry.php", "/belfry.php;x/more"),
        ("/", "//"),
    ],
)
def test_hooks_in_disguise(start, backends, hook, target):
    backend = backends(serve(lambda r: response(b"reached")))
    server = start(proxy_config(backend) + HOOK_ROUTES.format(upstream="app", hook=hook))
    with connect(server.address()) as c:
        c.send(request("POST", target, b"{}"))
        assert c.read_answer().status == 404
    assert backend.requests == []


@pytest.mark.parametrize(
    "hook, target",
    [
        ("/belfry", "/belfry2"),
        ("/belfry", "/belfry/sub"),
        ("/belfry", "/be/lfry"),
        ("/belfry.php", "/belfry.phpx"),
        ("/belfry.d/hook", "/belfry.d/hook/sub"),
        ("/", "/a"),
    ],
)
def test_what_is_no_hook_is_served(start, backends, hook, target):
    backend = backends(serve(lambda r: response(b"reached")))
    server = start(proxy_config(backend) + HOOK_ROUTES.format(upstream="app", hook=hook))
    with connect(server.address()) as c:
        assert c.ask("GET", target).body == b"reached"


def test_a_hook_by_another_name_of_its_backend(start, backends):
    """Two upstreams that name the same server, and one where the path is no hook."""
    backend = backends(serve(lambda r: response(b"reached")))
    other = backends(serve(lambda r: response(b"other")))
    hook = f"[upstream same]\nserver = {backend.address}\n" + HOOK_ROUTES.format(upstream="same", hook="/belfry")
    with connect(start(proxy_config(backend) + hook).address()) as c:
        assert c.ask("POST", "/belfry", b"{}").status == 404
    with connect(start(proxy_config(other) + hook).address()) as c:
        assert c.ask("POST", "/belfry", b"{}").body == b"other"
    assert backend.requests == []


# What was promised to a slow reader is kept, however the connection ends.


@pytest.mark.parametrize("ending", ["close", "http/1.0", "half-closed", "half-closed later", "idle"])
def test_a_slow_reader_gets_all_of_it(start, backends, tmp_path, ending):
    """Answers of many sizes: whatever the kernel's buffers hold, of some a last bit waits in the daemon. The client
    reads nothing for longer than a connection that has ended is waited for, and for less than a stalled one is."""
    clocks = Clocks(tmp_path)
    sizes = [600 * KB + n * 97 * KB for n in range(45)]

    def answer(r):
        return response(b"x" * int(r.target[1:]))

    backend = backends(serve(answer))
    route = "keepalive_timeout = 1s" if ending == "idle" else ""
    config = proxy_config(backend, upstream="read_timeout = 60s", route=route)
    server = start(config, extra_environment=clocks.environment)
    waiting = []
    for size in sizes:
        c = connect(server.address(), receive_buffer=16 * KB)
        fields = [("Connection", "close")] if ending == "close" else []
        c.send(request("GET", f"/{size}", None, fields, version="HTTP/1.0" if ending == "http/1.0" else "HTTP/1.1"))
        if ending == "half-closed":
            c.shut()
        waiting.append(c)
    wait_until(lambda: len(backend.requests) == len(sizes), lambda: f"{len(backend.requests)} asked", 30)
    time.sleep(1)  # what finds room in the kernel's buffers goes there
    for seconds in (10, 10):
        for c in waiting if ending == "half-closed later" else []:
            c.shut()
        clocks.go_on(seconds)
        time.sleep(1.5)  # behind a jump the daemon reads for a second before it judges
    for size, c in zip(sizes, waiting, strict=True):
        assert len(c.read_answer().body) == size
        c.close()


# An answer that nobody asked for is nobody's answer.


def test_a_body_behind_an_answer_to_head(start, backends):
    """A backend that sends the body of a HEAD all the same, a moment later, when somebody else's request has taken the
    connection: that request must not be answered by it."""
    evil = response(b"evil")
    lock = threading.Lock()

    def script(stream: Stream):
        while (asked := stream.read_request()) is not None:
            if asked.method == "HEAD":
                stream.send(head("HTTP/1.1 200 OK", [("Content-Length", len(evil))]))
                with lock:
                    stream.send(evil)
            else:
                stream.send(response(b"good"))

    backend = backends(script)
    server = start("[belfry]\nworkers = 1\n" + proxy_config(backend))
    a, b = connect(server.address()), connect(server.address())
    for _ in range(300):
        a.send(request("HEAD"))
        b.send(request())
        answer = b.read_answer()
        assert answer.body != b"evil"
        a.read_answer("HEAD")
        if answer.status != 200:
            b = connect(server.address())


def test_a_flood_of_preflights(start, backends):
    """Belfry answers them itself, as many as it has room for; then it says that it closes, and resets nothing."""
    backend = backends(serve(lambda r: response(b"reached")))
    server = start("[belfry]\nworkers = 1\n" + proxy_config(backend, route="origin = https://a.example, none"))
    fields = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")]
    with connect(server.address()) as c:
        assert c.ask("OPTIONS", "/", None, fields).status == 204
        flood = request("OPTIONS", "/", None, fields) * 5000
        threading.Thread(target=c.send, args=(flood,), daemon=True).start()
        answers = [c.read_answer()]
        while answers[-1].get("Connection") is None:
            answers.append(c.read_answer())
        assert {a.status for a in answers} == {204} and len(answers) > 10
        assert answers[-1].get("Connection") == "close"
        assert c.at_end()
    assert backend.requests == []
