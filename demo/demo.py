#!/usr/bin/env python3
"""The demo: Belfry in front of a small application on loopback, until Ctrl-C. Python's standard library alone.

Makes a throw-away certificate and secret, starts the application (and a Redis, with --redis) and Belfry with conf/demo.ini,
prints where everything is. All files are in one temporary directory, which goes when the demo goes.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from backend import LOBBY, Backend
from check import check

HERE = Path(__file__).resolve().parent
START_SECONDS = 30
HELLO = '{"text":"hi"}'


class Failure(Exception):
    """The demo can't go on; its text says why."""


class ControlConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=START_SECONDS)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def control_get(path, target):
    """(status, body) of Belfry's control API."""
    connection = ControlConnection(path)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_until(ready, what, process):
    """Until ready() is true. Fails at once where the process ends."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None:
            raise Failure(f"{what} ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise Failure(f"{what} is not ready after {START_SECONDS} s")
        time.sleep(0.02)


def start(stack, command, **options):
    """A child that is ended by leaving the stack. In a session of its own: Ctrl-C comes to the demo alone, which then ends its
    children in order."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    stack.callback(end, process)
    return process


def end(process):
    """In order; then, as a second signal means it to Belfry, at once."""
    for _ in range(2):
        process.terminate()
        try:
            return process.wait(10)
        except subprocess.TimeoutExpired:
            pass
    process.kill()
    return process.wait()


def port_or_free(port):
    """The port, or 0 where somebody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            print(f"port {port} is in use: taking a free one", file=sys.stderr)
            return 0
    return port


def make_certificate(directory):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "7"]
    command += ["-subj", "/CN=Belfry demo", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", directory / "key.pem", "-out", directory / "certificate.pem"]
    try:
        made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        raise Failure("the openssl command is missing") from None
    if made.returncode != 0:
        raise Failure(f"openssl made no certificate:\n{made.stderr}")


def redis_answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def start_redis(stack, directory):
    """Its port. What is kept in it is gone with the demo."""
    program = shutil.which("redis-server")
    if not program:
        raise Failure("redis-server is missing; ./dev run --redis installs it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--appendonly", "no"]
    process = start(stack, command, stdout=subprocess.DEVNULL)
    wait_until(lambda: redis_answers(port), "redis-server", process)
    return port


def is_ready(control):
    try:
        return control_get(control, "/readyz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def start_belfry(stack, belfry, directory, backend, secret, port, redis_port):
    """The process and the port of its listener."""
    environment = dict(
        os.environ,
        BELFRY_DEMO_DIR=str(directory),
        BELFRY_DEMO_PORT=str(port_or_free(port)),
        BELFRY_DEMO_BACKEND=str(backend.port),
        BELFRY_DEMO_SECRET=secret,
        BELFRY_DEMO_BROKER="redis" if redis_port else "memory",
        BELFRY_DEMO_REDIS=f"redis://127.0.0.1:{redis_port or 6379}/0",
    )
    control = directory / "control.sock"
    try:
        process = start(stack, [belfry, "-c", HERE.parent / "conf/demo.ini"], env=environment)
    except OSError as error:
        raise Failure(f"{belfry}: {error.strerror}") from None
    wait_until(lambda: is_ready(control), "belfry", process)
    (listener,) = json.loads(control_get(control, "/v1/status")[1])["listeners"]
    return process, int(listener["address"].rsplit(":", 1)[1])


def publish_commands(belfry, directory, redis_port):
    """One-line ways to publish."""
    control = str(directory / "control.sock")
    commands = [
        [str(belfry.with_name("belfryctl")), "-s", control, "publish", LOBBY, HELLO],
        ["curl", "--unix-socket", control, "-d", HELLO, f"http://localhost/v1/rooms/{LOBBY}"],
    ]
    if redis_port:
        commands.append(["redis-cli", "-p", str(redis_port), "publish", f"belfry:room:{LOBBY}", HELLO])
    return [shlex.join(command) for command in commands]


def describe(port, backend, commands):
    lines = [
        "",
        f"  Chat           https://127.0.0.1:{port}/",
        "                 Your browser will say that nobody it knows has signed the certificate: that is so. Go on by",
        '                 "Advanced" and "Proceed" (Chromium) or "Accept the Risk" (Firefox).',
        f"  WebSocket      wss://127.0.0.1:{port}/ws   (with the login's cookie; 401 without)",
        f"  The backend    http://127.0.0.1:{backend.port}/   plain HTTP, demo/backend.py; Belfry passes requests on to it",
        "",
        "  Log in with two names, the second in a private window, and publish from a shell:",
        "",
        *(f"    {command}" for command in commands),
        "",
        "  Ctrl-C ends all of it.",
        "",
    ]
    print("\n".join(lines), flush=True)


def run(stack, options):
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="belfry-demo-")))
    belfry = options.belfry.resolve()
    make_certificate(directory)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    redis_port = start_redis(stack, directory) if options.redis else None
    backend = stack.enter_context(Backend(secret))
    process, port = start_belfry(stack, belfry, directory, backend, secret, options.port, redis_port)
    commands = publish_commands(belfry, directory, redis_port)
    describe(port, backend, commands)
    if options.check:
        check(port, directory / "certificate.pem", LOBBY, commands)
        print("checked: login, connect hook, rooms, calls, and every way to publish reached two clients over wss")
        return 0
    raise Failure(f"belfry ended with exit code {process.wait()}")


def arguments():
    parser = argparse.ArgumentParser(description="Belfry in front of a chat application on loopback, until Ctrl-C.")
    parser.add_argument("--belfry", type=Path, required=True, help="the program; belfryctl is beside it")
    parser.add_argument("--redis", action="store_true", help="with a Redis that the demo starts, instead of the memory broker")
    parser.add_argument("--port", type=int, default=8443, help="of https:// and wss://; a free one where it is taken (default 8443)")
    parser.add_argument("--check", action="store_true", help="log in, join, call, publish in every way, see it arrive, end")
    return parser.parse_args()


def interrupted(number, frame):
    raise KeyboardInterrupt


def main():
    options = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # INT too: a shell without job control has it ignored
        signal.signal(number, interrupted)
    try:
        with contextlib.ExitStack() as stack:
            return run(stack, options)
    except KeyboardInterrupt:
        print("\nended", file=sys.stderr)
        return 0
    except Failure as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
