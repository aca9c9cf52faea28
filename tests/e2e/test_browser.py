"""A real browser: the demo's application behind Belfry in two windows, and what a page's own WebSocket sees of Belfry."""

import runpy
import time
from pathlib import Path

import pytest

from belfry import wait_until
from chromium import SECONDS, Chat, browser, errors, in_page, leave_pages, needs_chromium, page_url  # noqa: F401 (fixture)
from conftest import ECHO_ROUTE, PUBLIC_LISTENER
from gate import Gate

# By its path: the tests have a backend.py of their own.
Backend = runpy.run_path(str(Path(__file__).resolve().parents[2] / "demo/backend.py"))["Backend"]

pytestmark = needs_chromium

CONFIG = (
    ECHO_ROUTE
    + """
[route /ws]
mode = rooms
protocol = json
upstream = app
auth = backend
client_js = yes
poll_wait = 5s
poll_timeout = 4s
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
history = 100
"""
    + PUBLIC_LISTENER
)

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
    leave_pages(browser, page_url(shared_server, "https", "/chat.css"))
    shared_server.check()


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
    browser.find_element("css selector", "#logout button").click()
    wait_until(lambda: browser.current_url.endswith("/login"), lambda: browser.current_url, SECONDS)
    wait_until(lambda: server.members("chat:lobby") == 0, "the WebSocket outlives its page", SECONDS)
    browser.get(page_url(server, "https", "/"))
    assert browser.current_url.endswith("/login")


def test_chat_comes_back_after_a_close(server, browser):
    chat = Chat(browser, server, "https", "Ada").join("tower")
    (before,) = server.connection_ids(room="chat:tower")
    server.command({"op": "disconnect", "conn": before, "code": 4503, "reason": "try again", "reconnect": True})
    chat.wait("messages", "the server says goodbye: try again")
    wait_until(lambda: server.connection_ids(room="chat:tower") not in ([], [before]), "no reconnect", SECONDS)
    chat.wait("state", "connected, in chat:tower")
    chat.say("here again")
    chat.wait("messages", "Ada (you) here again")


class Behind:
    """The daemon's https address as a gate shows it, by another name, which has cookies of its own."""

    def __init__(self, gate):
        self.gate = gate

    def address(self, _):
        return "localhost", self.gate.port


def set_offline(browser, gate, target, offline):
    """The browser is told, which alone leaves a WebSocket that is open as it is; so the network is cut, too."""
    conditions = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    gate.target = None if offline else target
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
    if offline:
        gate.cut()


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
def test_chat_is_complete_after_a_reload_and_ten_seconds_offline(server, browser, transport):
    target = server.address("secure")
    with Gate(target) as gate:
        ada = Chat(browser, Behind(gate), "https", "Ada", transport).join("tower")
        bob = Chat(browser, server, "https", "Bob").join("tower")
        expected = []

        def hear(*lines):
            expected.extend(lines)
            wait_until(lambda: len(ada.lines()) >= len(expected), lambda: f"{ada.lines()} of {expected}", SECONDS)
            assert ada.lines() == expected

        bob.say("one")
        ada.wait("messages", "Bob one")
        ada.say("two")
        bob.wait("messages", "Ada two")
        hear("Bob one", "Ada (you) two")

        ada.find("state")  # its window
        browser.refresh()
        ada.wait("state", "connected, in chat:lobby")
        ada.join("tower")
        hear()

        ada.find("state")
        set_offline(browser, gate, target, True)
        ada.wait("state", "disconnected")
        missed = []
        for number in range(10):
            server.publish("chat:tower", f'"missed {number}"')
            missed.append(f"backend missed {number}")
            time.sleep(1)
        assert ada.lines() == expected
        set_offline(browser, gate, target, False)
        ada.wait("state", "connected, in chat:tower")
        server.publish("chat:tower", '"back"')
        hear(*missed, "backend back")
        ada.say("three")
        bob.wait("messages", "Ada three")
        hear("Ada (you) three")
        leave_pages(browser, page_url(Behind(gate), "https", "/chat.css"))
    # A session of long polling ends by its time-out.
    wait_until(lambda: server.connections() == 0, lambda: server.get("/v1/connections"), SECONDS)


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
        "extensions": "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
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
