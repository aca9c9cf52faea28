"""A WebSocket client for tests that works byte by byte.

It builds any frame, also illegal ones, and reads the server's frames strictly: what RFC 6455 forbids a server raises
ServerViolation. Blocking sockets, every read has a deadline. It knows nothing of Belfry: see belfry.py for that.
"""

import base64
import hashlib
import json
import os
import re
import socket
import ssl
import struct
import time
import zlib
from dataclasses import dataclass

TIMEOUT = float(os.environ.get("BELFRY_TEST_TIMEOUT", "10"))  # seconds; generous, for sanitizers on busy machines

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODE_NAMES = {TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}
SAMPLE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ServerViolation(AssertionError):
    """The server sent what RFC 6455 or RFC 9112 forbids, or ended the connection in a way that loses bytes."""


class NothingArrived(AssertionError):
    """The deadline passed."""


class Refused(AssertionError):
    """The handshake was answered with something else than 101."""

    def __init__(self, answer):
        super().__init__(f"handshake refused: {answer.status} {answer.body!r}")
        self.answer = answer


# Frames that a client writes.


def apply_mask(key, payload):
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def frame(opcode, payload=b"", *, fin=True, rsv=0, key=b"\x37\xfa\x21\x3d", length=None, width=None):
    """One frame. key=None: unmasked. length: what the header promises. width: 7, 16 or 64 bits of length."""
    if isinstance(payload, str):
        payload = payload.encode()
    length = len(payload) if length is None else length
    width = width or (7 if length < 126 else 16 if length < 65536 else 64)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    masked = 0x80 if key is not None else 0
    if width == 7:
        head += bytes([masked | length])
    elif width == 16:
        head += bytes([masked | 126]) + struct.pack("!H", length)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", length)
    return head + (payload if key is None else key + apply_mask(key, payload))


def text(payload, **options):
    return frame(TEXT, payload, **options)


def binary(payload, **options):
    return frame(BINARY, payload, **options)


def ping(payload=b"", **options):
    return frame(PING, payload, **options)


def pong(payload=b"", **options):
    return frame(PONG, payload, **options)


def close(code=1000, reason=b"", **options):
    """A Close frame; code=None: without a body."""
    reason = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason, **options)


def fragments(opcode, parts):
    """The frames of one message in several fragments."""
    last = len(parts) - 1
    return b"".join(frame(opcode if i == 0 else CONTINUATION, part, fin=i == last) for i, part in enumerate(parts))


def deflate(payload, bits=15, level=6):
    """A message as permessage-deflate's payload (RFC 7692 section 7.2.1); its frame has rsv=4."""
    if isinstance(payload, str):
        payload = payload.encode()
    packer = zlib.compressobj(level, zlib.DEFLATED, -bits)
    packed = packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert packed.endswith(b"\0\0\xff\xff")
    return packed[:-4]


def compressed_fragments(opcode, parts):
    """As fragments, of a payload that is compressed already: RSV1 on the first alone (RFC 7692 section 6.1)."""
    last = len(parts) - 1
    return b"".join(
        frame(CONTINUATION if i else opcode, part, fin=i == last, rsv=0 if i else 4) for i, part in enumerate(parts)
    )


def split(payload, size):
    return [payload[i : i + size] for i in range(0, len(payload), size)] or [payload]


# HTTP heads.


def request_head(target="/", *, host="localhost", method="GET", version="HTTP/1.1", change=None, add=()):
    """An opening handshake. change: {name: new value, or None to leave the field out}. add: more (name, value)."""
    fields = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": SAMPLE_KEY,
        "Sec-WebSocket-Version": "13",
    }
    fields.update(change or {})
    lines = [f"{method} {target} {version}"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    lines += [f"{name}: {value}" for name, value in add]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def accept_value(key):
    return base64.b64encode(hashlib.sha1((key + ACCEPT_GUID).encode()).digest()).decode()


@dataclass
class Answer:
    status: int
    fields: list  # (lower-case name, value)
    body: bytes

    def field(self, name):
        """The only field of that name, or None."""
        values = [value for n, value in self.fields if n == name.lower()]
        if len(values) > 1:
            raise ServerViolation(f"{len(values)} fields {name}: {values}")
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)


@dataclass
class Frame:
    opcode: int
    fin: bool
    payload: bytes
    compressed: bool = False  # RSV1


def close_event(payload):
    if not payload:
        return ("close", 1005, "")
    if len(payload) == 1:
        raise ServerViolation("a Close frame with a body of one byte (RFC 6455 section 5.5.1)")
    code = struct.unpack("!H", payload[:2])[0]
    if not (code in (1000, 1001, 1002, 1003) or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise ServerViolation(f"close code {code} may not be sent (RFC 6455 section 7.4)")
    return ("close", code, payload[2:].decode("utf-8", "strict"))


def parse_deflate(extensions):
    """The parameters of an answer that agrees on permessage-deflate (RFC 7692 section 7.1), as {name: value or None}."""
    name, *parameters = [word.strip() for word in extensions.split(";")]
    if name != "permessage-deflate":
        raise ServerViolation(f"extension {extensions!r}")
    result = {}
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        flag = key in ("server_no_context_takeover", "client_no_context_takeover")
        if key in result or not (flag and not value or key.endswith("_max_window_bits") and 8 <= int(value) <= 15):
            raise ServerViolation(f"bad parameter in {extensions!r}")
        result[key] = int(value) if value else None
    return result


class Client:
    """One connection. `open` makes the handshake; without it the connection is raw TCP or TLS."""

    def __init__(self, address, *, tls=None, server_name="localhost", receive_buffer=None, timeout=TIMEOUT):
        self.timeout = timeout
        self.inbox = b""
        self.close_sent = False
        self.deflate = None  # what was agreed on
        self.was_compressed = False  # the last message that receive gave out
        self.ragged_end = False  # TLS ended without close_notify
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:  # before connect, so that the window is small from the start
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=server_name, suppress_ragged_eofs=False)

    # Writing.

    def send(self, data):
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)

    def send_chopped(self, data, size):
        for piece in split(data, size):
            self.send(piece)

    def send_while_open(self, data):
        """Sends what a server that may end the connection takes. False once it takes no more."""
        try:
            self.send(data)
            return True
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return False

    def send_json(self, value):
        self.send(text(json.dumps(value)))

    def shutdown(self):
        """Ends our half of the TCP connection; with TLS, what is read behind it is not decrypted any more."""
        self.socket.shutdown(socket.SHUT_WR)

    def abort(self):
        """Closes with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def drop(self):
        self.socket.close()

    # Reading bytes.

    def fill(self, deadline):
        """Reads more into the inbox. False at the end of the stream."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise NothingArrived(f"within {self.timeout} s; so far {self.inbox[:80]!r}")
        self.socket.settimeout(left)
        try:
            piece = self.socket.recv(262144)
        except TimeoutError:
            raise NothingArrived(f"within {self.timeout} s; so far {self.inbox[:80]!r}") from None
        except ssl.SSLEOFError:
            self.ragged_end, piece = True, b""
        except ConnectionResetError:
            raise ServerViolation("reset: a close must linger so that its code arrives") from None
        self.inbox += piece
        return bool(piece)

    def read(self, size):
        deadline = time.monotonic() + self.timeout
        pieces, have = [self.inbox], len(self.inbox)
        while have < size:
            self.inbox = b""
            if not self.fill(deadline):
                raise ServerViolation(f"end of stream, {have} of {size} bytes: {b''.join(pieces)[:80]!r}")
            pieces.append(self.inbox)
            have += len(self.inbox)
        everything = b"".join(pieces)
        self.inbox = everything[size:]
        return everything[:size]

    def read_to_end(self):
        deadline = time.monotonic() + self.timeout
        while self.fill(deadline):
            pass
        rest, self.inbox = self.inbox, b""
        return rest

    def expect_end(self):
        rest = self.read_to_end()
        if rest:
            raise ServerViolation(f"bytes where the connection should end: {rest[:80]!r}")

    def expect_silence(self, seconds=0.15):
        """Nothing arrives and the connection stays open for that long."""
        try:
            opened = self.fill(time.monotonic() + seconds) if not self.inbox else True
        except NothingArrived:
            return
        raise ServerViolation(f"expected silence, got {self.inbox[:80]!r}" if opened else "the connection ended")

    # Reading HTTP.

    def read_answer(self, head_request=False):
        """One whole HTTP/1.1 answer, checked for what makes it complete."""
        deadline = time.monotonic() + self.timeout
        while b"\r\n\r\n" not in self.inbox:
            if not self.fill(deadline):
                raise ServerViolation(f"end of stream inside an HTTP answer: {self.inbox!r}")
        head, self.inbox = self.inbox.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        status_line = re.fullmatch(r"HTTP/1\.1 (\d{3}) [\x20-\x7e]*", lines[0])
        if not status_line:
            raise ServerViolation(f"bad status line {lines[0]!r}")
        fields = []
        for line in lines[1:]:
            parts = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)", line)
            if not parts:
                raise ServerViolation(f"bad field line {line!r}")
            fields.append((parts[1].lower(), parts[2].strip()))
        answer = Answer(int(status_line[1]), fields, b"")
        if answer.status >= 200 and answer.status not in (204, 304) and not head_request:
            length = answer.field("Content-Length")
            if length is None or not length.isdigit():
                raise ServerViolation(f"no Content-Length in {head!r}")
            answer.body = self.read(int(length))
        return answer

    def open(self, target="/", *, host="localhost", protocols=(), change=None, add=(), behind=b""):
        """The opening handshake, its answer checked by RFC 6455 section 4.1. behind: sent in the same write."""
        key = base64.b64encode(os.urandom(16)).decode()
        change = {"Sec-WebSocket-Key": key, **(change or {})}
        if protocols:
            change["Sec-WebSocket-Protocol"] = ", ".join(protocols)
        self.send(request_head(target, host=host, change=change, add=add) + behind)
        answer = self.read_answer()
        if answer.status != 101:
            raise Refused(answer)
        if (answer.field("Upgrade") or "").lower() != "websocket":
            raise ServerViolation(f"Upgrade: {answer.field('Upgrade')}")
        if "upgrade" not in [t.strip().lower() for t in (answer.field("Connection") or "").split(",")]:
            raise ServerViolation(f"Connection: {answer.field('Connection')}")
        if answer.field("Sec-WebSocket-Accept") != accept_value(change["Sec-WebSocket-Key"]):
            raise ServerViolation(f"Sec-WebSocket-Accept: {answer.field('Sec-WebSocket-Accept')}")
        chosen = answer.field("Sec-WebSocket-Protocol")
        if chosen is not None and chosen not in protocols:
            raise ServerViolation(f"subprotocol {chosen!r} was not offered")
        extensions = answer.field("Sec-WebSocket-Extensions")
        if extensions is not None and "sec-websocket-extensions" not in {n.lower() for n in change}:
            raise ServerViolation(f"extension {extensions!r} was not offered")
        self.deflate = None if extensions is None else parse_deflate(extensions)
        self.answer = answer
        return self

    # Reading frames.

    def read_frame(self):
        first, second = self.read(2)
        opcode, fin, length = first & 0x0F, bool(first & 0x80), second & 0x7F
        if first & (0x70 if self.deflate is None or opcode not in (TEXT, BINARY) else 0x30):
            raise ServerViolation(f"RSV bits in {first:#x} (RFC 6455 section 5.2)")
        if opcode not in OPCODE_NAMES and opcode != CONTINUATION:
            raise ServerViolation(f"reserved opcode {opcode:#x}")
        if second & 0x80:
            raise ServerViolation("a server must not mask (RFC 6455 section 5.1)")
        if opcode >= CLOSE and (length > 125 or not fin):
            raise ServerViolation("a control frame is fragmented or above 125 bytes (RFC 6455 section 5.5)")
        if length == 126:
            length = struct.unpack("!H", self.read(2))[0]
            minimum = 126
        elif length == 127:
            length = struct.unpack("!Q", self.read(8))[0]
            minimum = 65536
        else:
            minimum = 0
        if not minimum <= length < 1 << 63:
            raise ServerViolation(f"length {length} in more bytes than it needs (RFC 6455 section 5.2)")
        return Frame(opcode, fin, self.read(length), bool(first & 0x40))

    def inflate(self, payload):
        if "server_no_context_takeover" not in self.deflate:
            raise ServerViolation("Belfry's messages are compressed once for everybody")
        unpacker = zlib.decompressobj(-(self.deflate.get("server_max_window_bits") or 15))
        return unpacker.decompress(payload + b"\0\0\xff\xff")

    def receive(self):
        """The next message or control frame as an event: ("text", str), ("binary", bytes), ("ping", bytes),
        ("pong", bytes) or ("close", code, reason). Fragments are put together."""
        opcode, parts, compressed = None, [], False
        while True:
            f = self.read_frame()
            if f.opcode == CLOSE:
                return close_event(f.payload)
            if f.opcode in (PING, PONG):
                if opcode is not None:
                    raise AssertionError("a control frame inside a message: legal, but receive() cannot tell it")
                return (OPCODE_NAMES[f.opcode], f.payload)
            if (f.opcode == CONTINUATION) != (opcode is not None):
                raise ServerViolation("fragments out of order (RFC 6455 section 5.4)")
            if opcode is None:
                opcode, compressed = f.opcode, f.compressed
            parts.append(f.payload)
            if f.fin:
                payload = b"".join(parts)
                self.was_compressed = compressed
                if compressed:
                    payload = self.inflate(payload)
                return ("text", payload.decode("utf-8", "strict")) if opcode == TEXT else ("binary", payload)

    def receive_text(self):
        event = self.receive()
        assert event[0] == "text", f"expected a text message, got {str(event)[:300]}"
        return event[1]

    def receive_json(self):
        return json.loads(self.receive_text())

    def events(self):
        """Everything up to the end of the stream. A Close is answered (once); nothing may follow the server's."""
        seen = []
        while True:
            seen.append(self.receive())
            if seen[-1][0] == "close":
                if not self.close_sent:
                    self.close_sent = True
                    self.send_while_open(close(None if seen[-1][1] == 1005 else seen[-1][1]))
                self.expect_end()
                return seen

    def say_close(self, code=1000, reason=""):
        self.close_sent = True
        self.send(close(code, reason))

    def finish(self, code=1000):
        """A clean closing handshake from our side with nothing else on the way."""
        self.say_close(code)
        events = self.events()
        assert events == [("close", 1005 if code is None else code, "")], events
        self.drop()
