"""Starts the real daemon for a test and knows the shape of its log, of its status and of its control API.

Everything that a test must know about how the daemon words things stands here and nowhere else. The build to test is
named by the environment variable BELFRY_BUILD: a directory that holds `belfry` and `belfryctl`.
"""

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import ws

from metrics import Metrics

TIMEOUT = ws.TIMEOUT
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warn|info|debug) (.*)")
SANITIZER_OPTIONS = {
    # log_path stays standard error, where the log is and where every line is checked.
    "ASAN_OPTIONS": "halt_on_error=1:detect_leaks=1:exitcode=99:detect_stack_use_after_return=1",
    "LSAN_OPTIONS": "exitcode=99:print_suppressions=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=99",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=99:second_deadlock_stack=1",
}
# By which reasons of status()["refused"] a handshake is refused with a status.
REFUSE_REASONS = {
    400: ("bad_request", "room"),
    401: ("unauthorized",),
    403: ("room", "origin", "forbidden"),
    404: ("not_found",),
    405: ("method_not_allowed",),
    408: ("timeout",),
    414: ("target_too_long",),
    421: ("misdirected",),
    426: ("upgrade_required",),
    429: ("rate",),
    431: ("head_too_large",),
    503: ("full", "draining", "room", "timeout"),
    505: ("http_version",),
}


def build_directory():
    return Path(os.environ["BELFRY_BUILD"])


def environment(extra=None):
    """The test's own environment, sanitizers set up to be seen. What the caller has set already is kept behind."""
    result = dict(os.environ)
    for name, options in SANITIZER_OPTIONS.items():
        result[name] = options + (":" + os.environ[name] if os.environ.get(name) else "")
    result.update(extra or {})
    return result


def run_daemon(*arguments, extra=None, cwd=None):
    """Runs the daemon to its end (-t, -T, -V): a CompletedProcess with text."""
    command = [build_directory() / "belfry", *arguments]
    return subprocess.run(command, env=environment(extra), cwd=cwd, capture_output=True, text=True, timeout=30)


def wait_until(condition, what, seconds=TIMEOUT):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.01)
    return value


def children_of(pid):
    """The processes that this one has started and that are still there."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def process_state(pid):
    """As proc(5) has it: R, S, T, Z and so on; empty: gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid):
    """Neither gone nor waiting for its parent to notice. Of a process with threads the first may be gone while another
    one still has all descriptors open."""
    if process_state(pid) in ("Z", "X", ""):
        try:
            return len(os.listdir(f"/proc/{pid}/task")) > 1
        except (FileNotFoundError, ProcessLookupError):
            return False
    return True


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def http_request(connection, method, path, body=None, headers=None):
    """One request on an http.client connection, closed afterwards. A dict or list becomes JSON."""
    headers = dict(headers or {})
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


class Belfry:
    """One daemon. `config` is ini text; what every test needs is added: [belfry] with two workers, a listener `public`
    on a free port of 127.0.0.1 (each unless the text has such a section), and a unix socket in [control]."""

    def __init__(
        self, directory, config, *, trust=None, extra_environment=None, files_limit=None, command=(), binary=None
    ):
        # A unix socket's path has 107 bytes at most, pytest's directories have long names.
        self.sockets = tempfile.TemporaryDirectory(prefix="belfry-")
        self.control_path = os.path.join(self.sockets.name, "control")
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log_path = self.directory / "log"
        self.config_path = self.directory / "belfry.ini"
        self.extra_environment = extra_environment
        self.files_limit = files_limit
        self.binary = binary or build_directory() / "belfry"
        self.run_by = list(command)  # what runs the daemon: ip netns exec NAME, say
        self.trust = trust  # an ssl.SSLContext for listeners with TLS
        self.process = None
        self.clients = []
        self.expected = []  # patterns of error lines that the test means to cause
        self.checked_lines = 0
        self.write_config(config)

    def write_config(self, config):
        if not re.search(r"^\[belfry\]", config, re.M):
            config = "[belfry]\nworkers = 2\n\n" + config
        if not re.search(r"^\[listener ", config, re.M):
            config += "\n[listener public]\nlisten = 127.0.0.1:0\n"
        control = f"[control]\nlisten = unix:{self.control_path}\n"
        if re.search(r"^\[control\]\n", config, re.M):
            config = config.replace("[control]\n", control, 1)
        else:
            config += "\n" + control
        self.config_path.write_text(config)
        self.tls_listeners = set(re.findall(r"^\[listener (\w+)\]\n(?:(?!\[).*\n)*tls *= *yes", config, re.M))

    # Life.

    def start(self):
        def limit_files():
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.files_limit, self.files_limit))

        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.run_by, self.binary, "-c", self.config_path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self.extra_environment),
                preexec_fn=limit_files if self.files_limit else None,
            )
        deadline = time.monotonic() + TIMEOUT
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the daemon did not start, exit code {self.process.returncode}:\n{self.log()}")
            time.sleep(0.005)
        self.addresses = self.listener_addresses()
        return self

    def answers(self):
        try:
            return self.control("GET", "/healthz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def kill(self):
        """All of it dies, with -9. The master is stopped meanwhile, so that it starts nothing, and goes last, so that nobody has
        the time to miss it."""
        if not self.process:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: process_state(self.process.pid) in ("T", "Z", ""), "the master does not stop")
            children = children_of(self.process.pid)
            for child in children:
                os.kill(child, signal.SIGKILL)
            for child in children:
                wait_until(lambda child=child: not is_alive(child), f"process {child} does not die")
            self.process.kill()
        self.process.wait()

    def freeze(self):
        """Both processes stand still until thaw()."""
        for pid in (self.process.pid, *children_of(self.process.pid)):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in (self.process.pid, *children_of(self.process.pid)):
            os.kill(pid, signal.SIGCONT)

    def stop(self):
        """SIGTERM, then a clean end: exit code 0, nothing bad in the log."""
        try:
            self.close_clients()
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"no end after SIGTERM:\n{self.log()[-4000:]}") from None
            assert code == 0, f"exit code {code}:\n{self.log()[-4000:]}"
            self.check_log()
        finally:
            self.kill()
            self.sockets.cleanup()

    def check(self):
        """What must hold after every test: alive, no connection left over, nothing bad in the log."""
        self.close_clients()
        code = self.process.poll()
        assert code is None, f"the daemon died, exit code {code}:\n{self.log()[-4000:]}"
        wait_until(lambda: self.connections() == 0, lambda: f"{self.connections()} connections leaked", 5)
        self.check_log()

    def reload(self, config=None):
        """POST /v1/reload, with a new config where one is given: the answer."""
        if config is not None:
            self.write_config(config)
        reply = self.control("POST", "/v1/reload")
        if reply.status == 200:
            self.addresses = self.listener_addresses()
        return reply

    def generation(self):
        return self.status()["config"]["generation"]

    # Log.

    def log(self):
        return self.log_path.read_text(errors="replace")

    def log_lines(self):
        """(level, text) of every whole line; level None: not a line of the log (a sanitizer's report, say)."""
        lines = [line for line in self.log().splitlines(keepends=True) if line.endswith("\n")]
        parsed = [(LOG_LINE.fullmatch(line.rstrip("\n")), line.rstrip("\n")) for line in lines]
        return [(match[1], match[2]) if match else (None, line) for match, line in parsed]

    def find_log(self, pattern, since=0):
        return [text for _, text in self.log_lines()[since:] if re.search(pattern, text)]

    def wait_log(self, pattern, since=0):
        wait_until(lambda: self.find_log(pattern, since), f"no log line {pattern!r}:\n{self.log()[-2000:]}")

    def expect_error(self, pattern):
        """Declares that this test causes error-level lines that match; at least one must come."""
        self.expected.append(pattern)

    def check_log(self):
        lines = self.log_lines()
        new, self.checked_lines = lines[self.checked_lines :], len(lines)
        bad = [line for level, line in new if level in (None, "error")]
        unexpected = [line for line in bad if not any(re.search(p, line) for p in self.expected)]
        missing = [p for p in self.expected if not any(re.search(p, line) for line in bad)]
        self.expected = []
        assert not unexpected, "unexpected lines in the log:\n" + "\n".join(unexpected[:60])
        assert not missing, f"expected error lines that did not come: {missing}"

    def refusal_lines(self, status, since=0):
        """The log lines that tell of refused handshakes with that status."""
        return [line for line in self.find_log(rf"\b{status}\b", since) if "refused" in line]

    # Clients. Every one is closed by check() and stop() if the test has not done so.

    def address(self, listener="public"):
        return self.addresses[listener]

    def client(self, listener="public", *, tls=None, **options):
        """A connection without handshake (of WebSocket; TLS is there where the listener has it, tls=False: not)."""
        use_tls = listener in self.tls_listeners if tls is None else tls
        client = ws.Client(self.address(listener), tls=self.trust if use_tls else None, **options)
        self.clients.append(client)
        return client

    def open(self, target="/", listener="public", *, receive_buffer=None, **options):
        """A WebSocket connection."""
        return self.client(listener, receive_buffer=receive_buffer).open(target, **options)

    def open_json(self, target="/", listener="public", **options):
        """A connection of the JSON protocol, its welcome read into client.welcome."""
        client = self.open(target, listener, **options)
        client.welcome = client.receive_json()
        assert client.welcome["type"] == "welcome", client.welcome
        return client

    def close_clients(self):
        for client in self.clients:
            client.drop()
        self.clients.clear()

    # Control API.

    def control(self, method, path, body=None, headers=None):
        return http_request(UnixConnection(self.control_path), method, path, body, headers)

    def get(self, path):
        reply = self.control("GET", path)
        assert reply.status == 200, (reply.status, reply.body)
        return reply.json()

    def command(self, *commands):
        """Runs commands; their results. A single one that fails gives the whole answer its status."""
        reply = self.control("POST", "/v1/commands", commands[0] if len(commands) == 1 else list(commands))
        assert reply.status == 200 or len(commands) == 1, (reply.status, reply.body)
        results = reply.json()["results"]
        assert len(results) == len(commands)
        return results

    def publish(self, room, payload):
        """The body, verbatim, to a room; how many members of this node it reached."""
        payload = payload.encode() if isinstance(payload, str) else payload
        reply = self.control("POST", "/v1/rooms/" + urllib.parse.quote(room, safe=""), payload)
        assert reply.status == 200, (reply.status, reply.body)
        return reply.json()["receivers"]

    def ctl(self, *arguments):
        command = [build_directory() / "belfryctl", "-s", self.control_path, *arguments]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30)

    # Shapes of the control API's answers.

    def status(self):
        return self.get("/v1/status")

    def metrics(self):
        reply = self.control("GET", "/metrics")
        assert reply.status == 200, (reply.status, reply.body)
        return Metrics(reply.body.decode())

    def connections(self):
        return self.status()["connections"]

    def listener_addresses(self):
        """{listener's name: (host, port), or a unix socket's path}; of several addresses the first."""
        found = {}
        for listener in self.status()["listeners"]:
            address = listener["address"]
            if address.startswith("unix:"):
                address = address[len("unix:") :]
            else:
                host, port = address.rsplit(":", 1)
                address = (host.strip("[]"), int(port))
            found.setdefault(listener["name"], address)
        return found

    def control_tcp_address(self):
        (found,) = self.find_log(r"control listening on \d")
        host, port = re.search(r"control listening on ([\d.]+):(\d+)", found).groups()
        return host, int(port)

    def refused(self, status=None):
        """Refused handshakes: with that status, or all."""
        counts = self.status()["refused"]
        reasons = counts.keys() if status is None else REFUSE_REASONS[status]
        return sum(counts.get(reason, 0) for reason in reasons)

    def closed(self, code):
        """Connections that the daemon ended with that close code."""
        return self.status()["closed"].get(str(code), 0)

    def dropped(self):
        """Messages that were due to a member and were thrown away."""
        dropped = self.status()["dropped"]
        return sum(dropped.values()) if isinstance(dropped, dict) else dropped

    def rooms(self):
        """{room: members on this node}."""
        return {room["room"]: room["members"] for room in self.get("/v1/rooms")["rooms"]}

    def members(self, room):
        """How many members a room has on this node; 0 where it does not exist."""
        return self.rooms().get(room, 0)

    def connection_ids(self, **query):
        """Ids of connections, filtered by the API's own parameters."""
        path = "/v1/connections" + ("?" + urllib.parse.urlencode(query) if query else "")
        return [connection["conn"] for connection in self.get(path)["connections"]]

    # The process that serves, by /proc. Its master, `process`, does nothing but look after it.

    def worker_pid(self):
        children = children_of(self.process.pid)
        return children[0] if len(children) == 1 else self.status()["pid"]

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.worker_pid()}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.worker_pid()}/fd"))

    def resident_bytes(self):
        return int(Path(f"/proc/{self.worker_pid()}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def sanitized(self):
        """True where figures of memory and time mean nothing."""
        program = (build_directory() / "belfry").read_bytes()
        return b"__asan_init" in program or b"__tsan_init" in program
