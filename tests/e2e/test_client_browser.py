"""The browser client in Chromium, against real daemons: each transport, falling back, coming back, tokens."""

import shutil
import time

import pytest

from belfry import wait_until
from chromium import SECONDS, browser, in_page, leave_pages, needs_chromium  # noqa: F401 (fixture)
from clocks import Clocks
from gate import Gate
from hook_backend import HookBackend, hook_config
from redis_server import RedisServer
from tokens import Key

pytestmark = needs_chromium
needs_redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")

TRANSPORTS = ["websocket", "sse", "poll"]
ROOMS = """
[room chat:*]
join = anyone
publish = members
history = 100
presence = yes
announce = yes

[room plain:*]
join = anyone
publish = members
"""
ROUTE = "protocol = json\nclient_js = yes\nping_interval = 5s\norigin = same\npoll_wait = 5s\npoll_timeout = 4s\n"
CONFIG = f"[route /ws]\nmode = rooms\n{ROUTE}{ROOMS}"

# What the tests look at: `told` of all that the client has told, `seen` of the room's messages. Tokens are taken one after
# the other, the last one for ever.
START = """
const [options, room, tokens] = given;
const {Belfry} = await import("/ws/belfry.js");
if (tokens) options.token = async () => tokens.length > 1 ? tokens.shift() : tokens[0];
window.told = [];
window.seen = [];
window.belfry = new Belfry("/ws", options);
for (const type of ["open", "close", "join", "member", "gap", "bye", "error"])
    belfry.on(type, (detail) => told.push([type, {...detail}, performance.now()]));
if (room) window.room = belfry.join(room, {onMessage: (message) => seen.push(message.data), onGap: () => seen.push("gap")});
"""


class Page:
    """A page in a window of its own with a client in it, and in one room."""

    def __init__(self, browser, port, room=None, tokens=None, **options):
        self.browser, self.port, self.arguments = browser, port, (options, room, tokens)
        browser.switch_to.new_window("window")
        self.handle = browser.current_window_handle
        browser.get(f"http://127.0.0.1:{port}/ws/belfry.js")
        self.run(START, options, room, tokens)

    def run(self, script, *arguments):
        self.browser.switch_to.window(self.handle)
        result = in_page(self.browser, script, *arguments)
        assert not str(result).startswith("threw: "), result
        return result

    def get(self, expression):
        return self.run(f"return {expression};")

    def told(self, kind):
        return [detail for type, detail, _ in self.get("told") if type == kind]

    def times(self, kind):
        return [ms for type, _, ms in self.get("told") if type == kind]

    def wait(self, condition, seconds=SECONDS):
        wait_until(lambda: self.get(condition), lambda: f"{condition}: {self.get('[belfry.state, seen, told]')}", seconds)

    def ready(self, transport=None, joins=1):
        """Open, and in the room for the n-th time."""
        self.wait("belfry.state === 'open'")
        self.wait(f"told.filter(([type]) => type === 'join').length >= {joins}")
        if transport:
            assert self.get("belfry.transport") == transport
        return self

    def saw(self, messages):
        wait_until(lambda: len(self.get("seen")) >= len(messages), lambda: f"{self.get('[belfry.state, seen, told]')}", SECONDS)
        assert self.get("seen") == messages


def go(browser, *servers):
    """Leaves the pages, and waits until they are gone for the servers, too: a session of long polling ends by its time-out."""
    leave_pages(browser)
    for server in servers:
        wait_until(lambda: server.connections() == 0, lambda: server.get("/v1/connections"), SECONDS)


@pytest.fixture
def clean(browser, start):
    yield
    go(browser, *(server for server in start.started if server.process.returncode is None))


@pytest.fixture
def server(start, clean):
    return start(CONFIG)


def port_of(server):
    return server.address()[1]


def publish(server, room, *messages):
    for message in messages:
        server.command({"op": "publish", "room": room, "data": message})


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_rooms_calls_and_members(start, clean, browser, transport):
    answers = {"call": lambda call: {"data": {"asked": call.body["method"], "with": call.body["data"]}}}
    with HookBackend(connect=lambda call: {"user": call.body["query"].get("as", ["?"])}, **answers) as backend:
        server = start(hook_config(backend, route=ROUTE, more=ROOMS))
        one, two = (Page(browser, port_of(server), "chat:1", transports=[transport]).ready(transport) for _ in range(2))
        published = one.run("return await room.publish({text: given[0]});", "gr\u00fc\u00df dich \U0001f514")
        assert published["offset"] == 1
        for page in (one, two):
            page.saw([{"text": "gr\u00fc\u00df dich \U0001f514"}])
        one.run("await room.publish('not for me', {echo: false});")
        two.run("await room.publish('for both');")
        one.saw([{"text": "gr\u00fc\u00df dich \U0001f514"}, "for both"])
        two.saw([{"text": "gr\u00fc\u00df dich \U0001f514"}, "not for me", "for both"])
        assert one.run("return await belfry.call('add', [1, 2]);") == {"asked": "add", "with": [1, 2]}
        members = one.run("return (await room.members()).map((member) => member.conn);")
        assert sorted(members) == sorted(page.get("belfry.conn") for page in (one, two))
        refused = one.run("return await belfry.publish('plain:1', 1).catch((error) => error.code);")
        assert refused == 403
        two.run("room.leave();")
        one.wait("told.some(([type, detail]) => type === 'member' && detail.event === 'leave')")
        two.run("belfry.close();")
        assert two.get("belfry.state") == "closed"
        go(browser, server)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_was_missed_comes_once_and_in_order(server, browser, transport):
    with Gate(server.address()) as gate:
        page = Page(browser, gate.port, "chat:1", transports=[transport]).ready(transport)
        publish(server, "chat:1", 1, 2)
        page.saw([1, 2])
        gate.target = None
        gate.cut()
        page.wait("belfry.state !== 'open'")
        publish(server, "chat:1", 3, 4, 5)
        gate.target = server.address()
        page.ready(transport, joins=2)
        publish(server, "chat:1", 6)
        page.saw([1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_messages_that_come_while_it_joins_again(server, browser, transport):
    with Gate(server.address()) as gate:
        page = Page(browser, gate.port, "chat:1", transports=[transport]).ready(transport)
        for round in range(5):
            gate.cut()
            for i in range(20):
                publish(server, "chat:1", round * 20 + i)
        page.saw(list(range(100)))


def test_a_gap_where_history_is_too_short(server, browser):
    with Gate(server.address()) as gate:
        page = Page(browser, gate.port, "chat:1").ready()
        gate.target = None
        gate.cut()
        page.wait("belfry.state !== 'open'")
        publish(server, "chat:1", *range(101))
        gate.target = server.address()
        page.ready(joins=2)
        publish(server, "chat:1", "after")
        page.saw(["gap", "after"])


@needs_redis
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_is_killed_and_started_again(start, clean, browser, tmp_path, transport):
    broker = RedisServer(tmp_path).start()
    config = f"{CONFIG}\n[broker]\ntype = redis\nurl = {broker.url}\n"
    killed, other = start(config), start(config)
    with Gate(killed.address()) as gate:
        page = Page(browser, gate.port, "chat:1", transports=[transport]).ready(transport)
        publish(killed, "chat:1", 1)
        page.saw([1])
        gate.target = None
        killed.kill()
        publish(other, "chat:1", 2, 3)
        page.wait("belfry.state !== 'open'")
        killed.start()
        publish(other, "chat:1", 4)
        gate.target = killed.address()
        page.ready(transport, joins=2)
        publish(other, "chat:1", 5)
        page.saw([1, 2, 3, 4, 5])
    go(browser, killed, other)
    for server in (killed, other):
        server.stop()
    broker.stop()


def is_websocket(head):
    return b"\r\nUpgrade: websocket\r\n" in head


def is_stream(head):
    return b"\r\nAccept: text/event-stream\r\n" in head


@pytest.mark.parametrize(
    "refuses, transport",
    [(is_websocket, "sse"), (lambda head: is_websocket(head) or is_stream(head), "poll")],
    ids=["no websocket", "no websocket, no stream"],
)
def test_falls_back_and_remembers(server, browser, refuses, transport):
    with Gate(server.address(), refuses) as gate:
        page = Page(browser, gate.port, "chat:1").ready(transport)
        refused = gate.refused
        assert refused >= (2 if transport == "sse" else 4)
        page.run("await room.publish('through');")
        page.saw(["through"])
        page.browser.refresh()
        page.run(START, {}, "chat:1", None)
        page.ready(transport)
        assert gate.refused == refused


def test_bye_says_when_to_come_back(server, browser):
    page = Page(browser, port_of(server), "chat:1").ready()
    server.command({"op": "disconnect", "conn": page.get("belfry.conn"), "code": 4503, "reason": "elsewhere", "reconnect": True})
    page.ready(joins=2)
    (bye,), (close,) = page.told("bye"), page.told("close")
    assert (bye["code"], bye["reason"], close["reconnect"]) == (4503, "elsewhere", True)
    if bye["after_ms"]:
        assert close["after_ms"] == bye["after_ms"]
    assert page.times("open")[1] - page.times("close")[0] >= close["after_ms"]


def test_bye_says_not_to_come_back(server, browser):
    page = Page(browser, port_of(server), "chat:1").ready()
    server.command({"op": "disconnect", "conn": page.get("belfry.conn"), "code": 4403, "reason": "banned", "reconnect": False})
    page.wait("belfry.state === 'closed'")
    assert page.told("close")[0]["reconnect"] is False
    wait_until(lambda: server.members("chat:1") == 0, "still connected")


@pytest.fixture
def key(tmp_path):
    return Key("HS256", tmp_path)


@pytest.fixture
def clocks(tmp_path):
    return Clocks(tmp_path)


@pytest.fixture
def token_server(start, clean, key, clocks):
    auth = f"auth = jwt\njwt_key = file:{key.public}\njwt_leeway = 0s\n"
    return start(f"[route /ws]\nmode = rooms\n{ROUTE}{auth}{ROOMS}", extra_environment=clocks.environment)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_token_is_renewed(token_server, key, browser, transport):
    now = int(time.time())
    tokens = [key.token(sub="56", exp=now + 6), key.token(sub="56", exp=now + 3600)]
    page = Page(browser, port_of(token_server), "chat:1", tokens, transports=[transport]).ready(transport)
    conn = page.get("belfry.conn")
    assert page.get("belfry.user") == "56"
    wait_until(lambda: time.time() > now + 8, "time stands still", SECONDS)
    page.run("await room.publish('still here');")
    page.saw(["still here"])
    assert page.get("belfry.conn") == conn
    assert page.told("close") == []


def test_credentials_that_have_run_out(token_server, key, clocks, browser):
    """The renewal fails; when its time of grace is over the server says 4401, and a new token opens anew."""
    old = key.token(sub="56", exp=int(time.time()) + 3)
    page = Page(browser, port_of(token_server), "chat:1", [old, "no token", key.token(sub="56")]).ready()
    page.wait("told.some(([type, error]) => type === 'error' && error.code === 403)")
    assert page.told("bye") == []
    clocks.go_on(25)
    page.wait("told.some(([type]) => type === 'bye')")
    page.ready(joins=2)
    assert page.told("bye")[0]["code"] == 4401
    assert page.told("close")[0]["reconnect"] is True
