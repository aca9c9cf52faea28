"""A primary, a replica and three sentinels for tests: real processes on free ports, ended by their pids."""

import subprocess
import time

from redis_server import TIMEOUT, RedisClient, RedisError, RedisServer, free_port

NAME = "belfry-test"


def wait_for(condition, what, seconds=TIMEOUT):
    """Until it holds; what it raises for lack of a server counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, RedisError):
            pass
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Sentinels:
    """`primary` is who is it at the start; the other one is `replica`."""

    def __init__(self, directory, *, count=3, password=None):
        self.directory = directory
        self.password = password
        self.primary = self.server("primary")
        self.replica = self.server("replica")
        self.ports = [free_port() for _ in range(count)]
        self.processes = []

    def server(self, name):
        directory = self.directory / name
        directory.mkdir()
        options = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
        return RedisServer(directory, options=options)

    def start(self):
        self.primary.start()
        self.replica.options += ["--replicaof", "127.0.0.1", str(self.primary.port)]
        self.replica.start()
        wait_for(lambda: self.role(self.replica.port)[3] == "connected", "the replica does not replicate")
        for port in self.ports:
            self.start_sentinel(port)
        wait_for(self.agreed, "the sentinels do not find each other", 20)
        return self

    def start_sentinel(self, port):
        directory = self.directory / f"sentinel{port}"
        directory.mkdir(exist_ok=True)
        lines = [f"port {port}", "bind 127.0.0.1", f"dir {directory}", "daemonize no"]
        lines += [f"sentinel monitor {NAME} 127.0.0.1 {self.primary.port} 2"]
        lines += [f"sentinel down-after-milliseconds {NAME} 1000", f"sentinel failover-timeout {NAME} 3000"]
        if self.password:
            lines += [f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"]
        (directory / "sentinel.conf").write_text("\n".join(lines) + "\n")
        with open(directory / "log", "ab") as log:
            command = ["redis-server", str(directory / "sentinel.conf"), "--sentinel"]
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(process)

    def client(self, port):
        client = RedisClient(port)
        if self.password:
            client.call("AUTH", self.password)
        return client

    def ask(self, port, *words):
        client = self.client(port)
        try:
            return client.call(*words)
        finally:
            client.close()

    @staticmethod
    def role(port):
        client = RedisClient(port)
        try:
            return [w.decode() if isinstance(w, bytes) else w for w in client.call("ROLE")]
        finally:
            client.close()

    def agreed(self):
        """Each sentinel knows all others and the replica."""
        for port in self.ports:
            fields = self.ask(port, "SENTINEL", "MASTER", NAME)
            state = dict(zip(fields[::2], fields[1::2]))
            if state[b"num-other-sentinels"] != b"%d" % (len(self.ports) - 1) or state[b"num-slaves"] != b"1":
                return False
        return True

    def named(self, port):
        """The primary's port, by one sentinel."""
        return int(self.ask(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def wait_switched(self, to, seconds=20):
        def switched():
            return self.role(to)[0] == "master" and all(self.named(port) == to for port in self.ports)

        wait_for(switched, "no sentinel failed over", seconds)

    def options(self):
        """Of [broker]."""
        lines = [f"sentinel = 127.0.0.1:{port}" for port in self.ports] + [f"master_name = {NAME}"]
        if self.password:
            lines.append(f"sentinel_password = {self.password}")
        return lines

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait(TIMEOUT)
        self.processes = []
        self.primary.kill()
        self.replica.kill()
