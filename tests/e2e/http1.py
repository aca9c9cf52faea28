"""HTTP/1.1 by the byte, for both ends: what a raw client and a raw backend of the tests read and write.

Blocking sockets, every read has a deadline. Strict: a message that is not framed as RFC 9112 says fails the test.
"""

import socket
import ssl
import struct
from dataclasses import dataclass, field

from ws import TIMEOUT


class Ended(AssertionError):
    """The peer ended the connection in the middle of something, or reset it."""


@dataclass
class Message:
    start: str  # the request line or the status line
    fields: list  # (name, value), as sent
    body: bytes = b""
    trailers: list = field(default_factory=list)
    interims: list = field(default_factory=list)  # of an answer: (status, fields)
    raw: bytes = b""  # the head, as it came

    @property
    def method(self):
        return self.start.split(" ")[0]

    @property
    def target(self):
        return self.start.split(" ")[1]

    @property
    def status(self):
        return int(self.start.split(" ")[1])

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name):
        """The only field of that name, or None."""
        values = self.all(name)
        assert len(values) <= 1, f"several {name}: {values}"
        return values[0] if values else None

    def names(self):
        return [name.lower() for name, _ in self.fields]


def head(start, fields):
    return (start + "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n").encode("latin-1")


def request(method="GET", target="/", body=None, fields=(), *, host="app.example", version="HTTP/1.1"):
    lines = ([("Host", host)] if host else []) + list(fields)
    if body is not None:
        lines.append(("Content-Length", len(body)))
    return head(f"{method} {target} {version}", lines) + (body or b"")


def response(body=b"", status=200, fields=(), *, reason="Fine"):
    return head(f"HTTP/1.1 {status} {reason}", [*fields, ("Content-Length", len(body))]) + body


def chunks(*pieces, trailers=()):
    """A chunked body of these pieces."""
    out = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return out + b"0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in trailers).encode() + b"\r\n"


def parse_fields(lines):
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon and name and name == name.strip(), f"no field line: {line!r}"
        fields.append((name, value.strip(" \t")))
    return fields


class Stream:
    """A connected socket that is read by line, by size, by message."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(TIMEOUT)
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data)

    def fill(self):
        """Reads some more; False at the end of the stream."""
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionError as e:
            raise Ended(f"reset: {e}") from None
        except ssl.SSLError as e:
            raise Ended(f"TLS: {e}") from None
        self.buffer += data
        return bool(data)

    def read(self, size):
        while len(self.buffer) < size:
            if not self.fill():
                raise Ended(f"{len(self.buffer)} of {size} bytes, then the end")
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_line(self):
        while b"\r\n" not in self.buffer:
            if not self.fill():
                raise Ended(f"end within a line: {self.buffer[:200]!r}")
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def read_to_end(self):
        while self.fill():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def at_end(self):
        """Waits for the end of the stream; nothing may come before."""
        assert not self.buffer, self.buffer[:200]
        return not self.fill()

    def read_head(self):
        """A message without its body; None where the stream ends before its first byte."""
        if not self.buffer and not self.fill():
            return None
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                raise Ended(f"end within a head: {self.buffer[:200]!r}")
        raw, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        return Message(lines[0], parse_fields(lines[1:]), raw=raw)

    def read_chunks(self, message):
        pieces = []
        while size := int(self.read_line(), 16):
            pieces.append(self.read(size))
            assert self.read(2) == b"\r\n"
        message.body = b"".join(pieces)
        lines = []
        while line := self.read_line():
            lines.append(line.decode("latin-1"))
        message.trailers = parse_fields(lines)

    def read_body(self, message, *, until_close):
        length, coding = message.get("Content-Length"), message.get("Transfer-Encoding")
        assert length is None or coding is None, message.fields
        if coding is not None:
            assert coding == "chunked", coding
            self.read_chunks(message)
        elif length is not None:
            message.body = self.read(int(length))
        elif until_close:
            message.body = self.read_to_end()

    def read_request(self):
        """A whole request, or None at the end of the stream."""
        message = self.read_head()
        if message is not None:
            self.read_body(message, until_close=False)
        return message

    def read_answer(self, method="GET"):
        """A whole answer with the interim ones before it."""
        interims = []
        while True:
            message = self.read_head()
            if message is None:
                raise Ended("the end instead of an answer")
            if message.status >= 200 or message.status == 101:
                break
            interims.append((message.status, message.fields))
        message.interims = interims
        if method != "HEAD" and message.status not in (101, 204, 304):
            self.read_body(message, until_close=True)
        return message

    def ask(self, method="GET", target="/", body=None, fields=(), **options):
        self.send(request(method, target, body, fields, **options))
        return self.read_answer(method)

    def shut(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes so that the peer sees a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def connect(address, *, receive_buffer=None):
    """A raw client's connection to one of the daemon's listeners."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(TIMEOUT)
    sock.connect(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Stream(sock)
