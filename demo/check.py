"""demo.py --check: a browser and a WebSocket client of a few lines, and what must reach them. All on Belfry's one port."""

import base64
import http.client
import json
import os
import shlex
import shutil
import socket
import ssl
import struct
import subprocess
import time
import urllib.parse

SECONDS = 20


class Refused(Exception):
    """The handshake was answered with another status than 101."""


class Visitor:
    """One browser: its cookie, its requests over https, its WebSocket."""

    def __init__(self, port, context):
        self.port, self.context, self.cookie = port, context, ""
        self.backlog = []  # messages that came while an answer was waited for

    def request(self, method, path, body=None, fields=None):
        """(status, header fields, body)."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=SECONDS, context=self.context)
        try:
            connection.request(method, path, body, {"Cookie": self.cookie, **(fields or {})})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def log_in(self, name):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        status, fields, _ = self.request("POST", "/login", urllib.parse.urlencode({"name": name}), form)
        assert (status, fields["Location"]) == (303, "/"), (status, fields)
        assert "Secure" in fields["Set-Cookie"] and "HttpOnly" in fields["Set-Cookie"], fields
        self.cookie = fields["Set-Cookie"].partition(";")[0]
        return self

    def connect(self):
        """RFC 6455 as far as the check needs it: text frames of the JSON protocol, small and whole."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        self.socket = self.context.wrap_socket(raw, server_hostname="127.0.0.1")
        self.file = self.socket.makefile("rb")
        cookie = f"Cookie: {self.cookie}\r\n" if self.cookie else ""
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nOrigin: https://127.0.0.1:{self.port}\r\n{cookie}"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Protocol: belfry.v1.json\r\n\r\n".encode()
        )
        head = list(iter(self.file.readline, b"\r\n"))
        if not head[0].startswith(b"HTTP/1.1 101 "):
            self.socket.close()
            raise Refused(head[0].decode())
        self.welcome = self.receive()
        assert self.welcome["type"] == "welcome", self.welcome
        return self

    def send(self, value):
        payload, mask = json.dumps(value).encode(), os.urandom(4)
        assert len(payload) < 126
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.socket.sendall(bytes((0x81, 0x80 | len(payload))) + mask + masked)

    def receive(self):
        first, size = self.file.read(2)
        assert first == 0x81, f"no whole text frame: {first:#x}"
        if size == 126:
            (size,) = struct.unpack(">H", self.file.read(2))
        return json.loads(self.file.read(size))

    def ask(self, request):
        """The answer ok to a request of the JSON protocol."""
        self.send({**request, "id": 1})
        while (answer := self.receive()).get("id") != 1:
            assert answer["type"] == "message", answer
            self.backlog.append(answer)
        assert answer["type"] == "ok", answer
        return answer

    def call(self, method, data=None):
        return self.ask({"type": "call", "method": method, "data": data})["data"]

    def expect(self, data, user=None):
        """The next message holds this, and is by that user; None: not by a client."""
        message = self.backlog.pop(0) if self.backlog else self.receive()
        assert message["type"] == "message" and message["data"] == data, f"{message} instead of {data}"
        assert message.get("from", {}).get("user") == user, message


def check_login(port, context):
    """A stranger is sent to the login form and gets no WebSocket, nor does who makes a cookie up; nobody gets at the hook."""
    stranger = Visitor(port, context)
    assert stranger.request("GET", "/")[:2][0] == 303
    assert b"<form" in stranger.request("GET", "/login")[2]
    assert stranger.request("POST", "/say", "{}")[0] == 401
    assert stranger.request("POST", "/belfry", '{"event":"notify","events":[]}')[0] == 404
    for cookie in ("", "demo_login=QWRh.00"):
        stranger.cookie = cookie
        try:
            stranger.connect()
        except Refused as refused:
            assert " 401 " in str(refused), refused
        else:
            raise AssertionError("a WebSocket without a login")


def check_calls(ada, bob, room):
    assert ada.call("whoami") == {"user": "Ada", "conn": ada.welcome["conn"], "rolls": 0}
    dice = bob.call("roll", {"room": room})["dice"]
    for visitor in (ada, bob):
        visitor.expect({"name": "dice", "text": f"Bob rolled {dice}"})
    assert bob.call("whoami")["rolls"] == 1  # kept by Belfry
    deadline = time.monotonic() + SECONDS  # notifications come behind what they tell of
    while (who := ada.call("who")) != {"users": ["Ada", "Bob"], "rooms": [room, "chat:tower"]}:
        assert time.monotonic() < deadline, who
        time.sleep(0.05)


def check(port, certificate, room, commands):
    """Uses all that there is, and sees each message arrive at two clients."""
    context = ssl.create_default_context(cafile=certificate)
    check_login(port, context)
    ada, bob = visitors = [Visitor(port, context).log_in(name).connect() for name in ("Ada", "Bob")]
    for visitor, name in zip(visitors, ("Ada", "Bob")):
        assert visitor.welcome["user"] == name and room in visitor.welcome["rooms"], visitor.welcome
        assert visitor.request("GET", "/")[0] == 200
        visitor.ask({"type": "join", "room": "chat:tower"})
    check_calls(ada, bob, room)

    ada.ask({"type": "publish", "room": room, "data": {"text": "from a client"}})
    for visitor in visitors:
        visitor.expect({"text": "from a client"}, user="Ada")

    said = {"name": "backend", "text": "gr\u00fc\u00df dich"}
    status, fields, body = bob.request("POST", "/say", json.dumps({"room": room, "text": said["text"]}))
    assert status == 200 and json.loads(body) == said and "Belfry-Publish" not in fields, (status, fields, body)
    for visitor in visitors:
        visitor.expect(said)

    for command in commands:
        if not shutil.which(shlex.split(command)[0]):
            print(f"not installed, so not checked: {command}")
            continue
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS)
        for visitor in visitors:
            visitor.expect({"text": "hi"})
