"""A real browser: the demo's application behind Belfry in two windows, and what a page's own WebSocket sees of Belfry."""

import os
import runpy
import shutil
from pathlib import Path

import pytest

from belfry import wait_until
from conftest import ECHO_ROUTE, PUBLIC_LISTENER

# By its path: the tests have a backend.py of their own.
Backend = runpy.run_path(str(Path(__file__).resolve().parents[2] / "demo/backend.py"))["Backend"]

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
except ImportError:
    webdriver = None

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
SECONDS = 30

# Missing is a failure where all must be there.
pytestmark = pytest.mark.skipif(
    not (webdriver and CHROMIUM and DRIVER) and not os.environ.get("CI"),
    reason="Chromium, chromedriver or selenium is not installed",
)

CONFIG = (
    ECHO_ROUTE
    + """
[route /ws]
mode = rooms
protocol = json
upstream = app
auth = backend
hook = /belfry
hook_secret = ${BROWSER_SECRET}
notify = connected, disconnected, occupied, vacated

[route /]
mode = proxy
upstream = app
publish_header = yes

[upstream app]
server = 127.0.0.1:${BROWSER_BACKEND}

[route /raw]
mode = rooms
protocol = raw

[room chat:*]
join = anyone
publish = members
"""
    + PUBLIC_LISTENER
)

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --no-proxy-server "
    "--disable-background-networking --disable-component-update --disable-sync --disable-extensions "
    # A window in the background must run as if it was looked at.
    "--disable-background-timer-throttling --disable-renderer-backgrounding --disable-backgrounding-occluded-windows "
    "--ignore-certificate-errors"
).split()


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def backend():
    with Backend(SECRET) as running:
        yield running


@pytest.fixture(scope="module")
def shared_server(start_shared, certificate, backend):
    environment = {"BROWSER_SECRET": SECRET, "BROWSER_BACKEND": str(backend.port)}
    return start_shared(CONFIG + certificate.listener("secure"), extra_environment=environment)


@pytest.fixture
def server(shared_server, browser):
    """Behind each test the browser leaves its pages and drops its connections, so that the check finds every connection gone."""
    yield shared_server
    while len(browser.window_handles) > 1:
        browser.close()
        browser.switch_to.window(browser.window_handles[0])
    browser.get(page_url(shared_server, "https", "/chat.css"))
    browser.delete_all_cookies()  # of 127.0.0.1, whatever the port: the next test logs in anew
    # A browser keeps connections for later requests, and opens some that it never uses.
    browser.get("chrome://net-internals/#sockets")
    browser.find_element(By.ID, "sockets-view-flush-button").click()
    shared_server.check()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(service=Service(DRIVER), options=options)
    started.set_script_timeout(SECONDS)
    started.set_page_load_timeout(SECONDS)
    yield started
    started.quit()


def page_url(server, scheme, path):
    """Of a page, or of a WebSocket: everything is on one port."""
    return f"{scheme}://127.0.0.1:{server.address('secure' if scheme in ('https', 'wss') else 'public')[1]}{path}"


class Chat:
    """A window with the chat page, logged in. The cookie is the browser's: who logs in last is who the next connection is."""

    def __init__(self, browser, server, scheme, name):
        browser.switch_to.new_window("window")
        self.browser, self.handle = browser, browser.current_window_handle
        browser.get(page_url(server, scheme, "/login"))
        self.fill("name", name)
        self.find("enter").click()
        wait_until(lambda: browser.find_elements(By.ID, "state"), "the login does not lead to the chat", SECONDS)
        self.wait("state", "connected, in chat:lobby")
        assert self.text("user") == name

    def find(self, name):
        self.browser.switch_to.window(self.handle)
        return self.browser.find_element(By.ID, name)

    def text(self, name):
        return self.find(name).text

    def wait(self, name, text):
        wait_until(lambda: text in self.text(name), lambda: f"{text!r} in #{name}: {self.text(name)!r}", SECONDS)

    def fill(self, name, text):
        self.find(name).clear()
        self.find(name).send_keys(text)

    def join(self, room):
        self.fill("room", room)
        self.browser.find_element(By.CSS_SELECTOR, "#join button").click()
        self.wait("state", f"connected, in chat:{room}")
        return self

    def say(self, text, button="send"):
        self.fill("text", text)
        self.find(button).click()

    def lines(self):
        self.browser.switch_to.window(self.handle)
        return [line.text for line in self.browser.find_elements(By.CSS_SELECTOR, "#messages li:not(.note)")]


def in_page(browser, script, *arguments):
    """Runs the body of an async function in the page; what it returns."""
    wrapped = (
        "const done = arguments[arguments.length - 1];"
        f"(async (...given) => {{ {script} }})(...arguments).then(done, (e) => done('threw: ' + e));"
    )
    return browser.execute_async_script(wrapped, *arguments)


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_chat_between_two_windows(server, browser, scheme):
    ada, bob = (Chat(browser, server, scheme, name).join("tower") for name in ("Ada", "Bob"))
    assert server.members("chat:tower") == 2
    assert server.members("chat:lobby") == 0

    ada.say("gr\u00fc\u00df dich <b>Bob</b>")
    bob.wait("messages", "Ada gr\u00fc\u00df dich <b>Bob</b>")  # the markup is text
    bob.say("hello Ada")
    ada.wait("messages", "Bob hello Ada")
    ada.say("said by the backend", "ask")
    expected = ["gr\u00fc\u00df dich <b>Bob</b>", "hello Ada", "said by the backend"]
    for chat, names in ((ada, ("Ada (you)", "Bob", "backend")), (bob, ("Ada", "Bob (you)", "backend"))):
        chat.wait("messages", "backend said by the backend")
        assert chat.lines() == [f"{name} {text}" for name, text in zip(names, expected)]

    assert server.publish("chat:tower", '"a plain string"') == 2
    bob.wait("messages", "backend a plain string")
    assert not errors(browser)


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_calls(server, browser):
    ada, bob = (Chat(browser, server, "https", name) for name in ("Ada", "Bob"))
    bob.find("roll").click()
    bob.wait("messages", "your dice show ")
    for chat in (ada, bob):
        chat.wait("messages", "dice Bob rolled ")
    (rolled,) = ada.lines()
    assert f"your dice show {rolled[-1]}" in bob.text("messages") and "your dice" not in ada.text("messages")

    def who():  # what the backend knows comes from notifications, a moment behind
        ada.find("who").click()
        return "online: Ada, Bob; rooms: chat:lobby" in ada.text("messages")

    wait_until(who, lambda: ada.text("messages"), SECONDS)
    assert not errors(browser)


def test_the_chat_needs_a_login(server, browser):
    browser.get(page_url(server, "https", "/"))
    assert browser.current_url.endswith("/login")
    assert in_page(browser, REFUSED, page_url(server, "wss", "/ws")) == 1006
    assert server.refused(401) == 1
    assert server.members("chat:lobby") == 0


def test_logging_out(server, browser):
    Chat(browser, server, "https", "Ada")
    browser.find_element(By.CSS_SELECTOR, "#logout button").click()
    wait_until(lambda: browser.current_url.endswith("/login"), lambda: browser.current_url, SECONDS)
    wait_until(lambda: server.members("chat:lobby") == 0, "the WebSocket outlives its page", SECONDS)
    browser.get(page_url(server, "https", "/"))
    assert browser.current_url.endswith("/login")


def test_chat_comes_back_after_a_close(server, browser):
    chat = Chat(browser, server, "https", "Ada").join("tower")
    (before,) = server.connection_ids(room="chat:tower")
    server.command({"op": "disconnect", "conn": before, "code": 4403, "reason": "try again"})
    chat.wait("messages", "the server says goodbye: try again")
    wait_until(lambda: server.connection_ids(room="chat:tower") not in ([], [before]), "no reconnect", SECONDS)
    chat.wait("state", "connected, in chat:tower")
    chat.say("here again")
    chat.wait("messages", "Ada (you) here again")


ECHO = """
const ws = new WebSocket(given[0]);
ws.binaryType = "arraybuffer";
const next = () => new Promise((resolve, reject) => {
    ws.onmessage = (event) => resolve(event.data);
    ws.onclose = (event) => reject(new Error("closed with " + event.code));
});
await new Promise((resolve, reject) => { ws.onopen = resolve; ws.onerror = () => reject(new Error("no connection")); });
const result = {};
let answer = next();
ws.send("gr\u00fc\u00df \U0001f514");
result.text = await answer;
const bytes = new Uint8Array(given[1]).map((_, i) => i * 7 % 256);
answer = next();
ws.send(bytes.buffer);
const echoed = await answer;
result.binary = echoed instanceof ArrayBuffer && echoed.byteLength === bytes.length
    && new Uint8Array(echoed).every((byte, i) => byte === bytes[i]);
answer = next();
ws.send("");
result.empty = await answer;
answer = next();
ws.send(new ArrayBuffer(0));
const nothing = await answer;
result.empty_binary = nothing instanceof ArrayBuffer && nothing.byteLength === 0;
const closed = new Promise((resolve) => { ws.onclose = resolve; });
ws.close(4001, "enough");
const event = await closed;
return {...result, code: event.code, reason: event.reason, clean: event.wasClean, extensions: ws.extensions};
"""


def open_page(browser, server, scheme):
    """A page of the same origin as the WebSocket of this scheme. Not the chat itself, whose policy is the same."""
    browser.get(page_url(server, scheme.replace("ws", "http"), "/chat.css"))


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536, 1 << 20])
@pytest.mark.parametrize("scheme", ["wss", "ws"])
def test_echo_of_text_and_binary(server, browser, scheme, size):
    open_page(browser, server, scheme)
    assert in_page(browser, ECHO, page_url(server, scheme, "/echo"), size) == {
        "text": "gr\u00fc\u00df \U0001f514",
        "binary": True,
        "empty": "",
        "empty_binary": True,
        "code": 4001,
        "reason": "",  # the code is echoed, the reason need not be (RFC 6455 section 5.5.1)
        "clean": True,
        "extensions": "",  # the browser offers permessage-deflate
    }


PROTOCOL = """
const ws = given[1].length ? new WebSocket(given[0], given[1]) : new WebSocket(given[0]);
const opened = await new Promise((resolve) => { ws.onopen = () => resolve(true); ws.onerror = () => resolve(false); });
const chosen = ws.protocol;
ws.close();
return [opened, chosen];
"""


@pytest.mark.parametrize(
    "offered, chosen",
    [
        ([], [True, ""]),
        (["belfry.v1.json"], [True, "belfry.v1.json"]),
        (["belfry.v1.raw"], [True, "belfry.v1.raw"]),
        (["other", "belfry.v1.raw"], [True, "belfry.v1.raw"]),
        # A browser ends a connection whose server chose none of those that it offered (the WebSocket standard).
        (["other"], [False, ""]),
    ],
    ids=lambda value: "+".join(map(str, value)) or "none",
)
def test_subprotocol(server, browser, offered, chosen):
    open_page(browser, server, "wss")
    assert in_page(browser, PROTOCOL, page_url(server, "wss", "/raw"), offered) == chosen


REFUSED = """
const ws = new WebSocket(given[0]);
return await new Promise((resolve) => { ws.onclose = (event) => resolve(event.code); });
"""


def test_refusal_is_a_failed_connection(server, browser):
    open_page(browser, server, "wss")
    assert in_page(browser, REFUSED, page_url(server, "wss", "/belfry")) == 1006
    assert server.refused(404) == 1


BIG = """
const ws = new WebSocket(given[0]);
await new Promise((resolve) => { ws.onopen = resolve; });
const closed = new Promise((resolve) => { ws.onclose = resolve; });
ws.send("x".repeat(given[1]));
return (await closed).code;
"""


@pytest.mark.parametrize("size", [65537, 1 << 20, 32 << 20])
def test_close_code_of_a_message_that_is_too_large(server, browser, size):
    # The browser sends on while it is refused. Once this ended in 1006: the server closed after 256 KiB of that, and the
    # reset overtook its Close.
    open_page(browser, server, "wss")
    assert in_page(browser, BIG, page_url(server, "wss", "/raw?room=chat:big"), size) == 1009
