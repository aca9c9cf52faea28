"""The dashboard in Chromium and `belfryctl top` in tmux, under load. Both leave a picture in BELFRY_BUILD/pictures, which
`./dev pictures` copies to doc/."""

import contextlib
import html
import json
import os
import random
import re
import selectors
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

import ws
from belfry import build_directory, environment, wait_until
from chromium import browser, leave_pages, needs_chromium  # noqa: F401, the fixture
from conftest import PUBLIC_LISTENER
from hook_backend import HookBackend, hook_config

TOKEN = "a token for the eyes"
ROOMS = """
[room *]
join = anyone
publish = anyone
"""
# The clients answer no Pings.
ROUTE = "connect_hook = always\nping_interval = 0\nsend_queue = 1m\non_slow = drop_oldest\n"
CONTROL = f"[control]\nlisten = 127.0.0.1:0\ntoken = {TOKEN}\n"


def pictures():
    directory = build_directory() / "pictures"
    directory.mkdir(exist_ok=True)
    return directory


class Load:
    """Clients in rooms of different size, messages at different rates, two readers that are too slow, refusals."""

    ROOMS = {"ticker:EURUSD": 40, "ticker:BTCUSD": 25, "game:lobby": 12, "chat:general": 6, "chat:42": 2, "doc:readme": 1}

    def __init__(self, server, clients=120):
        self.server, self.over = server, threading.Event()
        self.readers = selectors.DefaultSelector()
        chance = random.Random(1)
        for i in range(clients):
            client = server.open_json("/ws", add=[("Cookie", f"user=u{i}")])
            for room in chance.sample(sorted(self.ROOMS), 3):
                client.send_json({"type": "join", "room": room})
            self.readers.register(client.socket, selectors.EVENT_READ)
        self.talkers = list(server.clients[:20])
        for name in ("old-phone", "in-a-tunnel"):
            slow = server.open_json("/ws", receive_buffer=4096, add=[("Cookie", f"user={name}")])
            for room in ("ticker:EURUSD", "slow"):
                slow.send_json({"type": "join", "id": 1, "room": room})
                slow.receive_json()
        for _ in range(100):  # more than the kernel keeps for them
            server.publish("slow", json.dumps("x" * 50_000))
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.read, self.publish, self.knock)]

    def read(self):
        while not self.over.is_set():
            for key, _ in self.readers.select(0.1):
                with contextlib.suppress(OSError):
                    key.fileobj.recv(1 << 16)

    def publish(self):
        chance = random.Random(2)
        while not self.over.wait(0.1):
            commands = [
                {"op": "publish", "room": room, "data": "x" * 2000}
                for room, times in self.ROOMS.items()
                for _ in range(times // 2 or chance.random() < 0.3)
            ]
            self.server.command(*commands, {"op": "publish", "room": "nobody", "data": 1})
            for client in chance.sample(self.talkers, 4):
                client.send_json({"type": "publish", "room": "chat:general", "data": "hello"})

    def knock(self):
        while not self.over.wait(0.3):
            client = ws.Client(self.server.address())
            client.send(ws.request_head("/elsewhere"))
            client.read_answer()
            client.drop()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        self.readers.close()


@pytest.fixture
def loaded(start):
    answer = lambda call: {"user": call.headers.get("cookie", "=somebody").split("=")[1]}
    with HookBackend(connect=answer) as backend:
        server = start(hook_config(backend, route=ROUTE, more=ROOMS) + PUBLIC_LISTENER + CONTROL)
        with Load(server):
            yield server


def settle():
    """Until rates mean something."""
    time.sleep(float(os.environ.get("EYES_SECONDS", "4")))


# ---- the dashboard


@needs_chromium
def test_the_dashboard(loaded, browser):  # noqa: F811
    host, port = loaded.control_tcp_address()
    browser.set_window_size(1280, 1180)
    browser.get(f"http://{host}:{port}/")
    find = lambda selector: browser.find_element("css selector", selector)
    wait_until(lambda: find("#token").is_displayed(), "the question for the token")
    find("#token").send_keys("a wrong one")
    find("form button").click()
    wait_until(lambda: "is the token right" in find("#state").text, lambda: find("#state").text)
    find("#token").send_keys(TOKEN)
    find("form button").click()
    wait_until(lambda: find("#state").text == "ready", lambda: find("#state").text)
    settle()
    rooms = wait_until(lambda: "ticker:EURUSD" in (text := find("#rooms").text) and text, lambda: find("#rooms").text)
    assert rooms.index("ticker:EURUSD") < rooms.index("game:lobby")
    assert "122 ws" in find("#limit").text
    wait_until(lambda: "c_" in find("#slow").text, lambda: find("#slow").text)
    assert "refused: not_found" in find("#reasons").text and "app 127.0.0.1" in find("#upstreams").text
    assert re.match(r"[\d.]+k?$", find("#out").text) and find("#out").text != "0"
    # The token is nowhere but in the page's memory, and nothing was asked of anybody else.
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert all(name.startswith((f"http://{host}:{port}/", f"ws://{host}:{port}/")) for name in asked), asked
    kept = browser.execute_script("return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert TOKEN not in kept
    # A refused handshake is all that the browser may complain of.
    logged = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert all("HTTP Authentication failed" in message or "favicon" in message for message in logged), logged
    picture = pictures() / "dashboard.png"
    browser.save_screenshot(str(picture))
    assert 10_000 < picture.stat().st_size < 150_000, picture.stat().st_size
    leave_pages(browser)


@needs_chromium
def test_names_are_no_markup(start, browser):  # noqa: F811
    server = start("[route /ws]\nmode = rooms\n" + ROOMS + CONTROL)
    name = "<img/src=x/onerror=document.title='caught'>"
    client = server.open_json("/ws")
    client.send_json({"type": "join", "id": 1, "room": name})
    client.receive_json()
    server.publish(name, "1")
    host, port = server.control_tcp_address()
    browser.get(f"http://{host}:{port}/")
    find = lambda selector: browser.find_element("css selector", selector)
    wait_until(lambda: find("#token").is_displayed(), "the question for the token")
    find("#token").send_keys(TOKEN)
    find("form button").click()
    wait_until(lambda: name in find("#rooms").text, lambda: find("#rooms").text)
    assert browser.title == "Belfry" and not browser.find_elements("css selector", "img")
    leave_pages(browser)


# ---- belfryctl top

needs_tmux = pytest.mark.skipif(not shutil.which("tmux") and not os.environ.get("CI"), reason="tmux is not installed")


class Tmux:
    """A terminal of its own; its server ends with it."""

    def __init__(self, directory, command, width, height):
        self.socket = str(Path(directory) / "tmux")
        size = ["-x", str(width), "-y", str(height)]
        self.run("-f", "/dev/null", "new-session", "-d", *size, *command)

    def run(self, *arguments):
        command = ["tmux", "-S", self.socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment({"LC_ALL": "C.UTF-8"})).stdout

    def screen(self, colours=False):
        return self.run("capture-pane", "-p", *(["-e"] if colours else []))

    def lives(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            return bool(self.run("list-sessions"))
        return False

    def end(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("kill-server")


@pytest.fixture
def top(loaded):
    terminal = Tmux(loaded.sockets.name, [str(build_directory() / "belfryctl"), "-s", loaded.control_path, "top"], 110, 44)
    yield terminal
    terminal.end()


PAGE = """<!doctype html><meta charset="utf-8"><style>body {{ margin: 0; background: #14171d; }}
pre {{ margin: 0; padding: 14px 18px; color: #d5dae3; font: 14px/1.3 "DejaVu Sans Mono", monospace; display: inline-block; }}
b {{ color: #fff; }} .g {{ color: #4cc38a; }} .r {{ color: #ff6b81; }}</style><pre>{}</pre>"""


def page_of(screen):
    """The terminal's text with its few colours, as a page."""
    text = html.escape(screen.rstrip("\n"), quote=False)
    tags = {"1": "<b>", "32": '<b class="g">', "31": '<b class="r">'}
    out, opened = [], 0
    for piece in re.split(r"(\x1b\[[0-9;]*m)", text):
        code = re.fullmatch(r"\x1b\[([0-9;]*)m", piece)
        if not code:
            out.append(piece)
            continue
        for one in code[1].split(";"):
            if one in tags:
                out.append(tags[one])
                opened += 1
            elif one in ("", "0", "39"):
                out.append("</b>" * opened)
                opened = 0
    return PAGE.format("".join(out) + "</b>" * opened)


@needs_tmux
def test_top(loaded, top):
    settle()
    wait_until(lambda: re.search(r"ticker:EURUSD +\d", top.screen()), top.screen)
    wait_until(lambda: re.search(r"SLOW READER.*\nc_", top.screen()), top.screen)
    screen = top.screen()
    assert re.search(r"READY", screen) and re.search(r"connections +12\d of .*122 ws", screen), screen
    assert re.search(r"delivered [1-9]", screen) and "refused: not_found" in screen, screen
    assert len(screen.splitlines()) <= 44 and max(map(len, screen.splitlines())) <= 110
    (pictures() / "top.txt").write_text(top.screen(colours=True))
    top.run("resize-window", "-x", "70", "-y", "20")
    wait_until(lambda: "ROOM" in (now := top.screen()) and max(map(len, now.splitlines())) <= 70, top.screen)
    top.run("send-keys", "x")
    time.sleep(0.3)
    assert top.lives()
    top.run("send-keys", "q")
    wait_until(lambda: not top.lives(), "the end behind q")


@needs_tmux
@needs_chromium
def test_a_picture_of_top(loaded, top, browser, tmp_path):  # noqa: F811
    settle()
    wait_until(lambda: re.search(r"SLOW READER.*\nc_", top.screen()), top.screen)
    page = tmp_path / "top.html"
    page.write_text(page_of(top.screen(colours=True)))
    browser.set_window_size(1280, 1180)
    browser.get(page.as_uri())
    picture = pictures() / "top.png"
    browser.find_element("css selector", "pre").screenshot(str(picture))
    assert 5_000 < picture.stat().st_size < 150_000, picture.stat().st_size
    leave_pages(browser)


@needs_tmux
def test_top_waits_for_a_daemon_that_comes_back(start, tmp_path):
    server = start("[route /ws]\nmode = rooms\n" + ROOMS)
    top = Tmux(server.sockets.name, [str(build_directory() / "belfryctl"), "-s", server.control_path, "top"], 100, 30)
    try:
        wait_until(lambda: "READY" in top.screen(), top.screen)
        os.rename(server.control_path, server.control_path + ".away")
        wait_until(lambda: "no answer" in top.screen(), top.screen)
        os.rename(server.control_path + ".away", server.control_path)
        wait_until(lambda: "READY" in top.screen(), top.screen)
        assert top.lives()
    finally:
        top.end()
    assert json.loads(server.ctl("--json", "status").stdout)["connections"] == 0
