"""demo.py --check: a WebSocket client of a few lines, and what must reach it."""

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

SECONDS = 20


class Client:
    """RFC 6455 as far as the check needs it: text frames of the JSON protocol, small and whole."""

    def __init__(self, port, context=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.file = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: belfry.v1.json\r\n\r\n".encode()
        )
        head = list(iter(self.file.readline, b"\r\n"))
        assert head[0].startswith(b"HTTP/1.1 101 "), head
        assert self.receive()["type"] == "welcome"

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

    def join(self, room):
        self.send({"type": "join", "id": 1, "room": room})
        answer = self.receive()
        assert answer["type"] == "ok" and answer["id"] == 1, answer
        return self

    def expect(self, data):
        message = self.receive()
        assert message["type"] == "message" and message["data"] == data, f"{message} instead of {data}"


def say(connection, room, text):
    """As the page asks the backend to publish."""
    connection.request("POST", "/say", body=json.dumps({"room": room, "text": text}))
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status == 200 and answer["receivers"] == 2, (response.status, answer)


def check(backend, ports, certificate, room, commands):
    """Publishes in every way that there is, and sees each message arrive at two clients."""
    trust = ssl.create_default_context(cafile=certificate)
    plain, secure = clients = [Client(ports["plain"]).join(room), Client(ports["secure"], trust).join(room)]

    say(http.client.HTTPConnection("127.0.0.1", backend.http_port, timeout=SECONDS), room, "by http")
    say(http.client.HTTPSConnection("127.0.0.1", backend.https_port, timeout=SECONDS, context=trust), room, "by https")
    for client in clients:
        client.expect({"name": "backend", "text": "by http"})
        client.expect({"name": "backend", "text": "by https"})

    for command in commands:
        if not shutil.which(shlex.split(command)[0]):
            print(f"not installed, so not checked: {command}")
            continue
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS)
        for client in clients:
            client.expect({"text": "hi"})

    plain.send({"type": "publish", "room": room, "data": {"text": "from a client"}})
    for client in clients:
        client.expect({"text": "from a client"})
