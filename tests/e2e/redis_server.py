"""A real redis-server for tests, on a port of its own, and a RESP2 client of a few lines."""

import shutil
import socket
import subprocess
import time

TIMEOUT = 10


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class RedisError(Exception):
    """An error reply."""


class RedisClient:
    """Blocking, one socket, RESP2. Integers, None and lists come as such, strings as bytes, statuses as str."""

    def __init__(self, port, timeout=TIMEOUT):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    @staticmethod
    def encode(*words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)

    def send(self, *words):
        self.socket.sendall(self.encode(*words))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"$":
            return self.file.read(size + 2)[:-2]
        return [self.read() for _ in range(size)]

    def call(self, *words):
        self.send(*words)
        return self.read()

    def pipeline(self, commands):
        """All commands in one write, then all replies."""
        self.socket.sendall(b"".join(self.encode(*words) for words in commands))
        return [self.read() for _ in commands]

    def publish(self, channel, payload):
        """How many subscribers it reached."""
        return self.call("PUBLISH", channel, payload)


class RedisServer:
    """Keeps its port over stop, kill and start, so that a reconnect can be tested."""

    def __init__(self, directory, *, password=None, options=()):
        self.directory = directory
        self.port = free_port()
        self.password = password
        self.options = list(options) + (["--requirepass", password] if password else [])
        self.bind = "127.0.0.1"  # addresses, parted by blanks
        self.process = None

    @property
    def url(self):
        return f"redis://{':' + self.password + '@' if self.password else ''}127.0.0.1:{self.port}/0"

    def start(self):
        command = [shutil.which("redis-server") or "redis-server", "--port", str(self.port), "--bind", *self.bind.split()]
        command += ["--dir", str(self.directory), "--save", "", "--appendonly", "no", *self.options]
        with open(self.directory / "redis.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                client = self.client()
                assert client.call("PING") == "PONG"
                client.close()
                return self
            except (OSError, RedisError) as failure:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log = (self.directory / "redis.log").read_text(errors="replace")
                    raise RuntimeError(f"redis-server did not start ({failure}):\n{log}") from failure
                time.sleep(0.02)

    def client(self):
        client = RedisClient(self.port)
        if self.password:
            client.call("AUTH", self.password)
        return client

    def end(self, signal_sender):
        if self.process and self.process.poll() is None:
            signal_sender()
            self.process.wait(TIMEOUT)
        self.process = None

    def stop(self):
        self.end(lambda: self.process.terminate())

    def kill(self):
        self.end(lambda: self.process.kill())

    def subscribers(self, channel):
        client = self.client()
        try:
            return client.call("PUBSUB", "NUMSUB", channel)[1]
        finally:
            client.close()
