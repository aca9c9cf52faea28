"""For the tests beside this file: the installed daemon, started with a configuration of the test's own, and clients."""

import json
import os
import pathlib
import signal
import subprocess
import time

import websockets

TIMEOUT = 20


class Daemon:
    """`with Daemon(name, ini)`: runs until the end of the block, then must end well within drain_timeout. `name` keeps
    the files of several apart; {directory} in `ini` is where they are."""

    def __init__(self, name, ini):
        self.directory = pathlib.Path(os.environ["AUTOPKGTEST_TMP"]) / name
        self.directory.mkdir()
        self.socket = self.directory / "control"
        self.file = self.directory / "belfry.ini"
        self.file.write_text(ini.format(directory=self.directory) + f"\n[control]\nlisten = unix:{self.socket}\n")

    def __enter__(self):
        subprocess.run(["belfry", "-t", "-c", self.file], check=True)
        self.process = subprocess.Popen(["belfry", "-c", self.file])
        deadline = time.monotonic() + TIMEOUT
        while subprocess.run(["belfryctl", "-s", self.socket, "status"], capture_output=True).returncode != 0:
            assert self.process.poll() is None, f"the daemon ended: {self.process.returncode}"
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError("the daemon does not answer")
            time.sleep(0.05)
        return self

    def __exit__(self, kind, value, trace):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert code == 0 or kind, f"the daemon's exit code is {code}"

    def ctl(self, *arguments):
        command = ["belfryctl", "-s", self.socket, "--json", *arguments]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def address(self):
        """HOST:PORT of the first listener, which may have asked for port 0."""
        return self.ctl("status")["listeners"][0]["address"]


class Client:
    """`async with Client(url)`: a connection of the JSON protocol."""

    def __init__(self, url, **options):
        self.connecting = websockets.connect(url, subprotocols=["belfry.v1.json"], open_timeout=TIMEOUT, **options)

    async def __aenter__(self):
        self.connection = await self.connecting.__aenter__()
        assert self.connection.subprotocol == "belfry.v1.json"
        await self.expect(type="welcome")
        return self

    async def __aexit__(self, *reason):
        await self.connecting.__aexit__(*reason)

    async def send(self, **message):
        await self.connection.send(json.dumps(message))

    async def expect(self, **members):
        """The next message, which must have these members."""
        message = json.loads(await self.connection.recv())
        assert members.items() <= message.items(), f"{message} instead of {members}"
        return message

    async def join(self, room):
        await self.send(type="join", id=1, room=room)
        await self.expect(type="ok", id=1, room=room)
