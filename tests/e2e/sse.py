"""Clients without WebSocket for tests: a strict reader of server-sent events, long polling, messages by POST."""

import json
import socket
import time
import urllib.parse

from http1 import Ended, connect, request
from ws import TIMEOUT, NothingArrived


class Event:
    """One block of the stream: an event, an id, a comment or a retry."""

    def __init__(self, lines):
        self.lines, self.data, self.name, self.id, self.retry, self.comments = lines, None, None, None, None, []
        for line in lines:
            field, colon, value = line.partition(":")
            assert colon, f"a line without a colon: {line!r}"
            value = value[1:] if value.startswith(" ") else value
            if not field:
                self.comments.append(value)
            elif field == "data":
                self.data = value if self.data is None else self.data + "\n" + value
            elif field == "event":
                assert self.name is None, lines
                self.name = value
            elif field == "id":
                assert self.id is None, lines
                self.id = value
            else:
                assert field == "retry" and value.isdigit() and self.retry is None, line
                self.retry = int(value)

    def json(self):
        assert self.name is None, self.lines
        return json.loads(self.data)

    def __repr__(self):
        return f"Event({self.lines})"


class Reader:
    """An EventSource by the byte. `last_id` is what a browser would come back with."""

    def __init__(self, address, target, fields=(), *, last_id=None, tls=None, receive_buffer=None):
        self.stream = connect(address, receive_buffer=receive_buffer)
        if tls:
            self.stream.sock = tls.wrap_socket(self.stream.sock, server_hostname="localhost")
        fields = [("Accept", "text/event-stream"), *fields]
        if last_id is not None:
            fields.append(("Last-Event-ID", last_id))
        self.last_id = last_id
        self.stream.send(request("GET", target, fields=fields))
        self.head = self.stream.read_head()
        framed = self.head.get("Content-Length") or self.head.get("Transfer-Encoding")
        if framed or self.head.status != 200:  # no stream of events
            self.stream.read_body(self.head, until_close=True)

    def block(self):
        """The next block, whatever it is; None at the end of the stream."""
        while b"\n\n" not in self.stream.buffer:
            if not self.stream.fill():
                assert not self.stream.buffer, self.stream.buffer[-200:]
                return None
        raw, _, self.stream.buffer = self.stream.buffer.partition(b"\n\n")
        assert b"\r" not in raw, raw
        found = Event(raw.decode().split("\n"))
        if found.id is not None:
            self.last_id = found.id
        return found

    def event(self):
        """The next event that a browser would dispatch; None at the end."""
        while (found := self.block()) is not None:
            if found.data is not None:
                return found
        return None

    def json(self, **expected):
        """The next protocol object; with `expected`, its members are compared."""
        found = self.event()
        assert found is not None, "the stream ended"
        message = found.json()
        for name, value in expected.items():
            assert message.get(name) == value, message
        return message

    def welcome(self):
        self.welcomed = self.json(type="welcome")
        assert self.head.get("Belfry-Connection") == self.welcomed["connection"]
        return self.welcomed

    def settle(self, seconds=0.3):
        """Reads what comes for a moment, which must be no event: the id behind the last one."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.stream.sock.settimeout(left)
            try:
                found = self.block()
            except (TimeoutError, socket.timeout):
                break
            assert found is not None and found.data is None, found
        self.stream.sock.settimeout(TIMEOUT)
        return self.last_id

    def drop(self):
        self.stream.close()


class Carrier:
    """Requests on connections that are kept, as a browser does it."""

    def __init__(self, address, target, fields=()):
        self.address, self.target, self.fields = address, target, list(fields)
        self.stream = None

    def ask(self, method, target=None, body=None, fields=()):
        for again in (True, False):
            fresh = self.stream is None
            if fresh:
                self.stream = connect(self.address)
            try:
                answer = self.stream.ask(method, target or self.target, body, [*self.fields, *fields])
                break
            except Ended:
                self.stream = None
                if fresh or not again:
                    raise
        if answer.get("Connection") == "close":
            self.drop()
        return answer

    def post(self, connection, message, kind="application/json", fields=()):
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.ask("POST", None, body, [("Belfry-Connection", connection), ("Content-Type", kind), *fields])

    def drop(self):
        if self.stream:
            self.stream.close()
            self.stream = None


class Poller(Carrier):
    """A client of long polling."""

    def __init__(self, address, target, fields=()):
        super().__init__(address, target, fields)
        self.cursor, self.inbox = None, []

    def url(self, cursor):
        joint = "&" if "?" in self.target else "?"
        return f"{self.target}{joint}transport=poll" + (f"&cursor={urllib.parse.quote(cursor)}" if cursor else "")

    def poll(self, cursor=None):
        """One poll: its answer, whatever the status."""
        answer = self.ask("GET", self.url(cursor if cursor is not None else self.cursor))
        if answer.status == 200:
            batch = json.loads(answer.body)
            assert set(batch) == {"cursor", "messages"}, batch
            self.cursor = batch["cursor"]
            self.inbox += batch["messages"]
            answer.messages = batch["messages"]
        return answer

    def receive(self, **expected):
        deadline = time.monotonic() + TIMEOUT
        while not self.inbox:
            if time.monotonic() > deadline:
                raise NothingArrived("no message")
            answer = self.poll()
            assert answer.status == 200, (answer.status, answer.body)
        message = self.inbox.pop(0)
        for name, value in expected.items():
            assert message.get(name) == value, message
        return message

    def welcome(self):
        self.welcomed = self.receive(type="welcome")
        return self.welcomed

    def send(self, message):
        """By POST: (status, object)."""
        answer = self.post(self.welcomed["connection"], message)
        return answer.status, json.loads(answer.body)
