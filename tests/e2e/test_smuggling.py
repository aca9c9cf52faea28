"""Request smuggling and desync through the proxy, against two real backends that log what they see: nginx and Node.

Each case is one connection's bytes in which a second request is hidden, one that appears if somebody on the way reads
the framing differently. The backend must never see the hidden one, nor two where one was sent; and a client that comes
next over the same backend connection must get its own answer. What is read in one way alone has to work.
"""

import contextlib
import json
import re
import shutil
import subprocess
import time

import pytest
from belfry import wait_until
from http1 import Ended, connect

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: app.example\r\n\r\n"
LENGTH = b"%d" % len(HIDDEN)
HOST = b"Host: app.example\r\n"

NGINX = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format seen escape=json '{{"method":"$request_method","target":"$request_uri"}}';
    access_log {directory}/access.log seen;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen unix:{directory}/socket;
        location / {{ return 200 "$request_uri"; }}
    }}
}}
"""

NODE = """
const server = require('http').createServer((request, answer) => {
  request.on('data', () => {});
  request.on('end', () => {
    require('fs').appendFileSync('access.log', JSON.stringify({method: request.method, target: request.url}) + '\\n');
    answer.end(request.url);
  });
});
server.listen('socket');
"""


class RealBackend:
    """nginx or Node on a unix socket; every request is a line of access.log and is answered with its target."""

    def __init__(self, directory, kind):
        self.directory = directory
        (directory / "access.log").touch()
        if kind == "nginx":
            (directory / "conf").write_text(NGINX.format(directory=directory))
            command = ["/usr/sbin/nginx", "-p", directory, "-c", directory / "conf", "-e", directory / "error.log"]
        else:
            (directory / "server.js").write_text(NODE)
            command = [shutil.which("node") or "nodejs", "server.js"]
        self.process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL)
        self.address = f"unix:{directory}/socket"
        wait_until((directory / "socket").exists, f"{kind} does not start", 20)

    def seen(self):
        return [json.loads(line) for line in (self.directory / "access.log").read_text().splitlines()]

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module", params=["nginx", "node"])
def chain(request, start_shared, tmp_path_factory):
    """(daemon, backend): one worker and one kept connection, so that whatever is left over meets the next client."""
    backend = RealBackend(tmp_path_factory.mktemp(request.param), request.param)
    server = start_shared(
        f"[belfry]\nworkers = 1\n\n[upstream app]\nserver = {backend.address}\nkeepalive = 1\n\n"
        "[route /]\nmode = proxy\nupstream = app\nbody_timeout = 500ms\n"
    )
    yield server, backend
    backend.stop()


def post(framing, body, target=b"/first", version=b"HTTP/1.1", host=HOST):
    return b"POST " + target + b" " + version + b"\r\n" + host + framing + b"\r\n" + body


def chunked(body, field=b"Transfer-Encoding: chunked\r\n"):
    return post(field, body)


HIDDEN_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)

# Read in one way alone: one request, with the hidden one in its body.
WHOLE = {
    "length": post(b"Content-Length: " + LENGTH + b"\r\n", HIDDEN),
    "chunk": chunked(HIDDEN_CHUNK),
    "chunk_extension": chunked(b"%x;a=b\r\n%s\r\n0;c=\"d\"\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "chunk_upper_case": chunked(HIDDEN_CHUNK, b"TRANSFER-ENCODING: CHUNKED\r\n"),
    "chunk_size_with_zeros": chunked(b"0000%x\r\n%s\r\n000\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "trailer_with_length": chunked(b"1\r\nx\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "get_with_body": b"GET /first HTTP/1.1\r\n" + HOST + b"Content-Length: " + LENGTH + b"\r\n\r\n" + HIDDEN,
    "head_with_body": b"HEAD /first HTTP/1.1\r\n" + HOST + b"Content-Length: " + LENGTH + b"\r\n\r\n" + HIDDEN,
    "options_with_body": b"OPTIONS /first HTTP/1.1\r\n" + HOST + b"Content-Length: " + LENGTH + b"\r\n\r\n" + HIDDEN,
    "delete_with_chunks": b"DELETE /first HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + HIDDEN_CHUNK,
    "absolute_target": b"GET http://app.example/first HTTP/1.1\r\nHost: other.example\r\n\r\n",
    "http_1_0_with_length": post(b"Content-Length: " + LENGTH + b"\r\n", HIDDEN, version=b"HTTP/1.0"),
    "http_1_0_keep_alive": post(
        b"Connection: keep-alive\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN, version=b"HTTP/1.0"
    ),
    "close": post(b"Connection: close\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "close_and_then_more": post(b"Connection: close\r\nContent-Length: 1\r\n", b"x" + HIDDEN),
    "expect": post(b"Expect: 100-continue\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "underscores": post(b"Transfer_Encoding: chunked\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "underscore_length": post(b"Content_Length: 1\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "h2c": post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "named_like_framing": post(b"X-Transfer-Encoding: chunked\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
}

# Could be read in two ways, or is no HTTP: refused, and no backend sees any of it.
REFUSED = {
    "cl_te": post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "te_cl": post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", HIDDEN_CHUNK),
    "te_te_identity": chunked(b"0\r\n\r\n" + HIDDEN, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    "te_te_twice": chunked(b"0\r\n\r\n" + HIDDEN, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    "te_list": chunked(b"0\r\n\r\n" + HIDDEN, b"Transfer-Encoding: identity, chunked\r\n"),
    "te_unknown": chunked(b"0\r\n\r\n" + HIDDEN, b"Transfer-Encoding: xchunked\r\n"),
    "te_vertical_tab": chunked(b"0\r\n\r\n" + HIDDEN, b"Transfer-Encoding: \x0bchunked\r\n"),
    "te_space_before_colon": post(b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "te_obs_fold": post(b"Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "te_quoted": chunked(b"0\r\n\r\n" + HIDDEN, b'Transfer-Encoding: "chunked"\r\n'),
    "te_empty": post(b"Transfer-Encoding:\r\nContent-Length: 5\r\n", b"0\r\n\r\n" + HIDDEN),
    "te_in_http_1_0": post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + HIDDEN, version=b"HTTP/1.0"),
    "cl_cl": post(b"Content-Length: 0\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "cl_cl_same": post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"12345"),
    "cl_list": post(b"Content-Length: 5, 5\r\n", b"12345"),
    "cl_plus": post(b"Content-Length: +5\r\n", b"12345"),
    "cl_minus": post(b"Content-Length: -1\r\n", HIDDEN),
    "cl_hex": post(b"Content-Length: 0x5\r\n", b"12345"),
    "cl_empty": post(b"Content-Length:\r\n", HIDDEN),
    "cl_overflow": post(b"Content-Length: 18446744073709551616\r\n", HIDDEN),
    "cl_space_before_colon": post(b"Content-Length : " + LENGTH + b"\r\n", HIDDEN),
    "cl_in_connection": post(b"Connection: close, Content-Length\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "host_in_connection": post(b"Connection: Host\r\nContent-Length: 0\r\n", b""),
    "bare_lf_head": b"POST /first HTTP/1.1\nHost: app.example\nContent-Length: 0\n\n" + HIDDEN,
    "bare_lf_in_a_field": post(b"X: a\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "bare_cr_in_a_field": post(b"X: a\rContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "nul": post(b"X: a\0b\r\nContent-Length: 0\r\n", b""),
    "no_colon": post(b"Content-Length 5\r\n", HIDDEN),
    "leading_space": b"POST /first HTTP/1.1\r\n Host: x\r\n" + HOST + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "obs_fold": post(b"X: a\r\n b\r\nContent-Length: 0\r\n", HIDDEN),
    "two_hosts": post(b"Content-Length: 0\r\nHost: other\r\n", HIDDEN),
    "no_host": post(b"Content-Length: 0\r\n", HIDDEN, host=b""),
    "http_0_9": b"GET /first\r\n\r\n" + HIDDEN,
    "http_2": b"GET /first HTTP/2.0\r\n" + HOST + b"\r\n" + HIDDEN,
    "preface_of_http_2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "space_in_the_target": b"GET /first /x HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "fragment": b"GET /first#x HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "encoded_nul": b"GET /first%00 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "target_with_escapes": b"GET /first%0d%0aHost:%20x%0d%0a HTTP/1.1\r\n" + HOST + b"\r\n",
    "dot_segments": b"GET /x/%2e%2e/first HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
}

# A good head with a body that breaks off where it is read strictly: the backend may have seen the request's head by
# then, but never a whole request, let alone two.
BROKEN = {
    "chunk_size_overflow": b"1%016x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    "chunk_size_hex": b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    "chunk_size_plus": b"+%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    "chunk_size_minus": b"-1\r\n" + HIDDEN,
    "chunk_size_space": b"%x \r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    "chunk_size_empty": b"\r\n" + HIDDEN,
    "chunk_size_bare_lf": b"%x\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    "chunk_extension_bare_lf": b"2;\nxx\r\n%x\r\n0\r\n\r\n%s" % (len(HIDDEN), HIDDEN),
    "chunk_extension_bare_cr": b"2;a=\rb\r\nxx\r\n0\r\n\r\n" + HIDDEN,
    "chunk_extension_too_long": b"2;" + b"a" * 5000 + b"\r\nxx\r\n0\r\n\r\n" + HIDDEN,
    "chunk_without_crlf": b"2\r\nxx0\r\n\r\n" + HIDDEN,
    "chunk_longer_than_it_says": b"2\r\nxxx\r\n0\r\n\r\n" + HIDDEN,
    "last_chunk_bare_lf": b"0\n\n" + HIDDEN,
    "trailer_bare_lf": b"0\r\nX: a\n\r\n" + HIDDEN,
    "trailer_obs_fold": b"0\r\nX: a\r\n b\r\n\r\n" + HIDDEN,
    "trailer_space_before_colon": b"0\r\nX : a\r\n\r\n" + HIDDEN,
    "trailers_without_end": b"0\r\nX: " + b"a" * 20000 + b"\r\n\r\n" + HIDDEN,
}


def talk(server, data):
    """Sends it; everything that is answered until the daemon ends the connection or has nothing more to say."""
    c = connect(server.address())
    c.sock.settimeout(0.3)
    with contextlib.suppress(OSError):
        c.send(data)
    with contextlib.suppress(OSError, Ended):
        while c.fill():
            pass
    c.close()
    return c.buffer


def statuses(answers):
    """Of all answers, interim ones too."""
    return [int(status) for status in re.findall(rb"(?:^|[^ ])HTTP/1\.1 (\d\d\d) ", answers)]


def check(chain, data):
    """The answers, and how often the backend saw the request."""
    server, backend = chain
    before = len(backend.seen())
    answers = talk(server, data)
    for _ in range(2):
        with connect(server.address()) as innocent:
            for target in ("/innocent/1", "/innocent/2"):
                answer = innocent.ask("GET", target)
                assert (answer.status, answer.body) == (200, target.encode())
    wait_until(lambda: len(backend.seen()) >= before + 4, "the log is behind")
    time.sleep(0.02)
    seen = [entry["target"] for entry in backend.seen()[before:]]
    assert [t for t in seen if t.startswith("/innocent")] == ["/innocent/1", "/innocent/2"] * 2
    others = [t for t in seen if not t.startswith("/innocent")]
    assert all(t.startswith("/first") for t in others), others
    assert b"/smuggled" not in answers
    server.check()
    return answers, len(others)


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE.keys())
def test_one_request(chain, data):
    answers, count = check(chain, data)
    assert count == 1
    assert statuses(answers)[-1] == 200 and statuses(answers).count(200) == 1


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refused(chain, data):
    answers, count = check(chain, data)
    assert count == 0
    assert statuses(answers) in ([400], [505]), answers[:200]


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("late", [False, True], ids=["at_once", "late"])
def test_broken_body(chain, body, late):
    """late: the head has gone to the backend before the body is there."""
    server, backend = chain
    if not late:
        answers, count = check(chain, chunked(body))
    else:
        c = connect(server.address())
        c.send(chunked(b"1\r\nx\r\n"))
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            c.send(body)
        answers, count = check(chain, b"")
        with contextlib.suppress(OSError, Ended):
            answers = c.read_to_end()
        c.close()
    # nginx may answer a `return` before the body is there; then nothing else is read on that connection.
    assert statuses(answers) == [400] or (statuses(answers) == [200] and b"\r\nConnection: close\r\n" in answers)
    assert count <= 1


def test_pipelined_requests_are_two(chain):
    """And what is honestly two is two."""
    server, backend = chain
    first = post(b"Content-Length: 2\r\n", b"xx") + b"GET /first/again HTTP/1.1\r\n" + HOST + b"\r\n"
    answers, count = check(chain, first)
    assert count == 2 and statuses(answers) == [200, 200]
