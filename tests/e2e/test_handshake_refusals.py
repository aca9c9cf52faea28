"""Every refusal at the handshake: a complete HTTP answer with a JSON body, counted, logged once; and what never becomes
a request at all: slow heads, garbage and half handshakes on the TLS port.
"""

import select
import ssl
import time

import pytest

import ws
from belfry import wait_until

CONFIG = """
[belfry]
workers = 2

[listener public]
listen = 127.0.0.1:0
handshake_timeout = 5s

[route /ws]
mode = rooms
protocol = raw

[route /narrow]
host = narrow.example
mode = rooms
protocol = raw
"""


@pytest.fixture(scope="module")
def shared_server(start_shared, certificate):
    return start_shared(CONFIG + "\n" + certificate.listener("secure", "handshake_timeout = 5s"))


@pytest.fixture
def server(shared_server):
    yield shared_server
    shared_server.check()


def expect_refusal(server, client, status):
    """A whole answer with that status, then the end of the connection; and it is counted."""
    statuses = (status,) if isinstance(status, int) else status
    answer = client.read_answer()
    assert answer.status in statuses, answer
    assert answer.field("Content-Type").startswith("application/json")
    error = answer.json()["error"]
    assert error["code"] == answer.status
    assert error["message"]
    client.expect_end()
    wait_until(lambda: server.refused(answer.status) > 0, f"refused: {server.status()['refused']}")
    return answer


def refuse(server, wire, status, listener="public"):
    before = server.refused()
    client = server.client(listener)
    client.send_while_open(wire)
    answer = expect_refusal(server, client, status)
    wait_until(lambda: server.refused() == before + 1, f"{before} and {server.status()['refused']}")
    return answer


def head(target="/ws", **options):
    return ws.request_head(target, **options)


GOOD = head().decode("latin-1")
MALFORMED = {
    "no version": GOOD.replace(" HTTP/1.1", ""),
    "two spaces": GOOD.replace("GET /ws", "GET  /ws"),
    "tab": GOOD.replace("GET /ws", "GET\t/ws"),
    "lower-case protocol": GOOD.replace("HTTP/1.1", "http/1.1"),
    "leading zero in the version": GOOD.replace("HTTP/1.1", "HTTP/01.1"),
    "bad method": GOOD.replace("GET", "G@T"),
    "leading space": " " + GOOD,
    "space before the first field": GOOD.replace("Host:", " Host:", 1),
    "no host": GOOD.replace("Host: localhost\r\n", ""),
    "two hosts": GOOD.replace("\r\n\r\n", "\r\nHost: localhost\r\n\r\n"),
    "two different hosts": GOOD.replace("\r\n\r\n", "\r\nHost: other\r\n\r\n"),
    "bad host": GOOD.replace("Host: localhost", "Host: local host"),
    "host with a path": GOOD.replace("Host: localhost", "Host: localhost/x"),
    "bad port": GOOD.replace("Host: localhost", "Host: localhost:8o"),
    "space before the colon": GOOD.replace("Upgrade: websocket", "Upgrade : websocket"),
    "no colon": GOOD.replace("Upgrade: websocket", "Upgrade: websocket\r\nnonsense"),
    "empty name": GOOD.replace("Upgrade: websocket", "Upgrade: websocket\r\n: x"),
    "name that is no token": GOOD.replace("Upgrade: websocket", "Upgrade: websocket\r\nx(y): z"),
    "folded line": GOOD.replace("Upgrade: websocket", "Upgrade: websocket\r\nX-Fold: a\r\n b"),
    "bare LF in a line": GOOD.replace("Upgrade: websocket\r\n", "Upgrade: websocket\n"),
    "bare LF everywhere": GOOD.replace("\r\n", "\n"),
    "bare CR": GOOD.replace("Upgrade: websocket", "Upgrade: web\rsocket"),
    "NUL in a value": GOOD.replace("Upgrade: websocket", "Upgrade: websocket\r\nX: a\0b"),
    "NUL in the target": GOOD.replace("/ws", "/ws\0"),
    "control in a value": GOOD.replace("Upgrade: websocket", "Upgrade: websocket\r\nX: a\x0bb"),
    "fragment in the target": GOOD.replace("/ws", "/ws#x"),
    "non-ASCII target": GOOD.replace("/ws", "/w\xe9"),
    "target without a slash": GOOD.replace("/ws", "ws"),
    "bad percent-encoding": GOOD.replace("/ws", "/ws%zz"),
    "encoded NUL": GOOD.replace("/ws", "/ws%00"),
    "encoded slash": GOOD.replace("/ws", "/x%2f..%2fws"),
    "dot segments": GOOD.replace("/ws", "/x/../ws"),
    "Content-Length and Transfer-Encoding": GOOD.replace(
        "\r\n\r\n", "\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "two Content-Lengths": GOOD.replace("\r\n\r\n", "\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"),
    "Content-Length +0": GOOD.replace("\r\n\r\n", "\r\nContent-Length: +0\r\n\r\n"),
    "empty Content-Length": GOOD.replace("\r\n\r\n", "\r\nContent-Length:\r\n\r\n"),
    "hidden chunked": GOOD.replace("\r\n\r\n", "\r\nTransfer-Encoding: \x0bchunked\r\n\r\n"),
    "HTTP/1.0 with Transfer-Encoding": GOOD.replace("HTTP/1.1", "HTTP/1.0").replace(
        "\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "garbage": "\x01\x02\x03\x04 garbage\r\n\r\n",
    "TLS on the plain port": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 200,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_400_malformed_head(server, name):
    refuse(server, MALFORMED[name].encode("latin-1"), 400)


BAD_HANDSHAKES = {
    "no key": {"Sec-WebSocket-Key": None},
    "empty key": {"Sec-WebSocket-Key": ""},
    "key of 15 bytes": {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAA"},
    "key of 17 bytes": {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAAA="},
    "key that is no base64": {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j!Q=="},
    "key without padding": {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"},
    "key with stray bits": {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZR=="},
    "a body": {"Content-Length": "5"},
    "a chunked body": {"Transfer-Encoding": "chunked"},
    "subprotocol that is no token": {"Sec-WebSocket-Protocol": "a b"},
    "subprotocol twice": {"Sec-WebSocket-Protocol": "chat, chat"},
    "bad extension list": {"Sec-WebSocket-Extensions": "foo; ;"},
    "bad extension parameter": {"Sec-WebSocket-Extensions": 'foo; a="b c"'},
}


@pytest.mark.parametrize("name", BAD_HANDSHAKES)
def test_400_bad_handshake(server, name):
    refuse(server, head(change=BAD_HANDSHAKES[name]), (400, 413) if "body" in name else 400)


@pytest.mark.parametrize(
    "name,value",
    [
        ("Sec-WebSocket-Key", ws.SAMPLE_KEY),
        ("Sec-WebSocket-Version", "13"),
        ("Origin", "https://app.example"),
        ("Host", "localhost"),
    ],
)
def test_400_single_field_twice(server, name, value):
    refuse(server, head(change={name: value}, add=[(name, value)]), 400)


def test_400_body_that_looks_like_frames(server):
    # A refused body must never be read as frames or as a second request.
    client = server.client()
    client.send_while_open(head(change={"Content-Length": "300"}) + b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)
    expect_refusal(server, client, (400, 413))


@pytest.mark.parametrize("target", ["/", "/nothing", "/w", "/wsx", "/WS", "/narro", "/%77sx"])
def test_404_no_route(server, target):
    refuse(server, head(target), 404)


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "get", "BREW"])
def test_405_other_method(server, method):
    client = server.client()
    client.send(head(method=method))
    answer = client.read_answer(head_request=method == "HEAD")
    assert answer.status in (405, 501), answer
    if answer.status == 405:
        assert "GET" in answer.field("Allow")


def test_413_body_too_large(server):
    refuse(server, head(method="POST", change={"Content-Length": "99999999999"}), (413, 405, 400))


def test_414_target_too_long(server):
    refuse(server, head("/ws?" + "x" * 9000), 414)


def test_414_as_soon_as_it_shows(server):
    client = server.client()
    client.send_while_open(b"GET /" + b"x" * 9000)  # never ends
    expect_refusal(server, client, 414)


def test_target_of_7000_bytes_is_fine(server):
    server.open("/ws?" + "x" * 7000).finish()


@pytest.mark.parametrize("listener", ["public", "secure"])
def test_431_head_too_large(server, listener):
    refuse(server, head(add=[("X-Padding", "x" * 17000)]), 431, listener)


def test_431_head_without_end(server):
    client = server.client()
    client.send_while_open(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 17000)
    expect_refusal(server, client, 431)


def test_431_too_many_fields(server):
    refuse(server, head(add=[(f"X-{i}", "x") for i in range(200)]), 431)


def test_fifty_fields_are_fine(server):
    server.open("/ws", add=[(f"X-{i}", "x") for i in range(50)]).finish()


@pytest.mark.parametrize("host", ["localhost", "other.example", "narrow.example.evil.example", "xnarrow.example"])
def test_421_wrong_host(server, host):
    refuse(server, head("/narrow", host=host), 421)


@pytest.mark.parametrize("host", ["narrow.example", "NARROW.example", "narrow.example:8443"])
def test_right_host(server, host):
    server.open("/narrow", host=host).finish()


def test_421_absolute_target_counts_before_the_host_field(server):
    # RFC 9112 section 3.2.2.
    refuse(server, head("http://other.example/narrow", host="narrow.example"), 421)


@pytest.mark.parametrize("version", ["12", "8", "7", "0", "14", "113"])
def test_426_other_version(server, version):
    answer = refuse(server, head(change={"Sec-WebSocket-Version": version}), 426)
    assert answer.field("Sec-WebSocket-Version") == "13"


@pytest.mark.parametrize("version", [None, "", "x", "13, 8", "-13", "013", "13.0", "256000"])
def test_bad_version(server, version):
    refuse(server, head(change={"Sec-WebSocket-Version": version}), (400, 426))


@pytest.mark.parametrize(
    "change",
    [
        {"Upgrade": None, "Connection": None},
        {"Upgrade": None},
        {"Connection": None},
        {"Connection": "close"},  # an upgrade was done for this by a well-known server
        {"Connection": "keep-alive, upgrade-insecure"},
        {"Upgrade": "h2c"},
        {"Upgrade": "websocketx"},
        {"Upgrade": "x-websocket"},
    ],
    ids=str,
)
def test_426_no_upgrade_to_websocket(server, change):
    answer = refuse(server, head(change=change), (426, 400))
    if answer.status == 426:
        assert "websocket" in answer.field("Upgrade").lower()


def test_http_1_0_is_no_upgrade(server):
    refuse(server, head(version="HTTP/1.0"), (400, 426))


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/0.9", "HTTP/3"])
def test_other_http_versions(server, version):
    refuse(server, head(version=version), (400, 505))


def test_refusal_does_not_echo_the_request(server):
    answer = refuse(server, head("/%3Cscript%3Ealert(1)%3C/script%3E"), 404)
    assert b"script" not in answer.body


def test_refusal_over_tls(server):
    client = server.client("secure")
    client.send(head("/nothing"))
    expect_refusal(server, client, 404)
    assert not client.ragged_end


def test_refusal_with_a_lot_behind_it_arrives(server):
    # The answer must not be eaten by the reset that follows a close() with unread input.
    for _ in range(5):
        client = server.client()
        client.send_while_open(head("/nothing") + b"x" * 60000)
        time.sleep(0.05)
        assert client.read_answer().status == 404


def test_refusals_are_logged_once_with_their_reason(start):
    server = start(CONFIG)
    for wire, status in [(head("/nothing"), 404), (head(change={"Sec-WebSocket-Key": "x"}), 400)]:
        client = server.client()
        client.send(wire)
        expect_refusal(server, client, status)
        wait_until(lambda status=status: server.refusal_lines(status), f"no line about {status}:\n{server.log()}")
    time.sleep(0.1)
    assert len(server.refusal_lines(404)) == 1, server.log()
    assert len(server.refusal_lines(400)) == 1, server.log()
    assert server.refused() == 2


def test_log_lines_cannot_be_forged(start):
    server = start(CONFIG)
    client = server.client()
    client.send(head("/%0a2026-01-01T00:00:00.000Z%20error%20forged", change={"User-Agent": "\x7f\x80 forged"}))
    client.read_answer()
    server.check_log()  # every line has the log's form, and none is an error


# 408 and other deadlines.

HURRIED = """
[listener public]
listen = 127.0.0.1:0
handshake_timeout = 500ms

[listener patient]
listen = 127.0.0.1:0
handshake_timeout = 10m

[route /ws]
mode = rooms
protocol = raw
"""


@pytest.fixture
def hurried(start, certificate):
    return start(HURRIED + "\n" + certificate.listener("secure", "handshake_timeout = 500ms"))


@pytest.mark.parametrize("sent", [b"G", b"GET /ws HTTP/1.1\r\n", ws.request_head("/ws")[:-2]])
def test_408_head_that_stops(hurried, sent):
    patient, client = hurried.client("patient"), hurried.client()
    started = time.monotonic()
    for each in (patient, client):
        each.send(sent)
    expect_refusal(hurried, client, 408)
    assert time.monotonic() - started > 0.4
    patient.expect_silence()
    patient.send(ws.request_head("/ws")[len(sent) :])
    assert patient.read_answer().status == 101


def test_408_head_that_drips(hurried):
    # The deadline is for the whole head: bytes that keep coming do not move it.
    patient, client = hurried.client("patient"), hurried.client()
    sent = 0
    for byte in (b"GET /ws HTTP/1.1\r\n" + b"X-More: and more\r\n" * 40)[:-1]:
        if not client.send_while_open(bytes([byte])) or select.select([client.socket], [], [], 0)[0]:
            break
        patient.send(bytes([byte]))
        sent += 1
        time.sleep(0.01)
    assert sent < 700, "it took all of it"
    expect_refusal(hurried, client, 408)
    patient.expect_silence()


@pytest.mark.parametrize("sent", [b"", b"GET /ws HTTP/1.1\r\nHost"])
def test_slow_head_over_tls(hurried, sent):
    client = hurried.client("secure")
    client.send(sent)
    if sent:
        expect_refusal(hurried, client, 408)
    else:
        client.read_to_end()


def test_silent_connection_is_let_go(hurried):
    patient, client = hurried.client("patient"), hurried.client()
    started = time.monotonic()
    rest = client.read_to_end()
    assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started > 0.4
    patient.expect_silence()


def test_open_connection_outlives_the_handshake_deadline(hurried):
    for listener in ("public", "secure"):
        client = hurried.open("/ws", listener)
        client.expect_silence(0.8)
        client.finish()


def test_drained_body_has_a_deadline(hurried):
    # A refused request whose bytes keep dripping in must not hold the connection for ever.
    client = hurried.client()
    client.send(head("/nothing"))
    assert client.read_answer().status == 404
    deadline = time.monotonic() + ws.TIMEOUT
    while client.send_while_open(b"x"):
        assert time.monotonic() < deadline, "held for ever"
        time.sleep(0.05)


# The TLS port.


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 64,
        b"\xff" * 4096,
        b"garbage that is neither TLS nor HTTP\r\n\r\n",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",  # a hello of one byte
        b"\x16\x03\x01\x40\x01" + b"\x01" * 100,  # a record longer than a record may be
        b"\x80\x2e\x01\x00\x02" + b"\0" * 40,  # an SSL 2 hello
    ],
    ids=range(6),
)
def test_garbage_on_the_tls_port(hurried, sent):
    client = hurried.client("secure", tls=False)
    client.send_while_open(sent)
    answer = client.read_to_end()
    assert not answer.startswith(b"HTTP/1.1 101")
    hurried.open("/ws", "secure").finish()


def test_plain_http_on_the_tls_port(hurried):
    client = hurried.client("secure", tls=False)
    started = time.monotonic()
    client.send(head())
    answer = client.read_to_end()
    assert answer == b"" or answer[0] == 0x15 or answer.startswith(b"HTTP/1.1 400 "), answer
    assert time.monotonic() - started < 3


def client_hello(context):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("part", [0, 1, 5, 100, None])
def test_half_tls_handshake_meets_the_deadline(hurried, trust, part):
    client = hurried.client("secure", tls=False)
    started = time.monotonic()
    client.send(client_hello(trust)[:part])
    client.read_to_end()  # the server's flight, an alert perhaps, the end
    assert 0.4 < time.monotonic() - started < 3


def test_half_handshakes_do_not_keep_others_out(hurried, trust):
    hello = client_hello(trust)
    stuck = [hurried.client("secure", tls=False) for _ in range(50)]
    for client in stuck:
        client.send(hello)
    hurried.open("/ws", "secure").finish()
    for client in stuck:
        client.read_to_end()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_versions_are_refused(hurried, certificate):
    context = ssl.create_default_context(cafile=str(certificate.chain))
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    client = hurried.client("secure", tls=False)
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(client.socket, server_hostname="localhost")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_versions_and_alpn(hurried, certificate, version):
    context = ssl.create_default_context(cafile=str(certificate.chain))
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = ws.Client(hurried.address("secure"), tls=context)
    hurried.clients.append(client)
    assert client.socket.selected_alpn_protocol() == "http/1.1"
    client.open("/ws").finish()


# 503.


def test_503_when_full(start):
    server = start("[belfry]\nworkers = 2\nmax_connections = 3\n\n[route /ws]\nmode = rooms\nprotocol = raw\n")
    inside = [server.open("/ws") for _ in range(3)]
    client = server.client()
    client.send(head())
    expect_refusal(server, client, 503)
    for client in inside:  # those inside do not notice
        client.send(ws.ping(b"still here"))
        assert client.receive() == ("pong", b"still here")
    inside.pop().finish()
    wait_until(lambda: server.connections() == 2, "the place is not given back")
    server.open("/ws").finish()
