"""A Debian of its own for a test: booted by systemd-nspawn from a tree that debootstrap made, with a network of its own
that has nothing but loopback, and forgotten afterwards. Needs root.

The tree is made once (some minutes; a Debian mirror is asked) and kept beside the packages, in `root`: what the tests
need is in it, what the packages depend on is not, but lies in apt's cache, so that apt can install it without a network.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time

TIMEOUT = 180
TOOLS = "systemd,curl,gcc,libc6-dev,logrotate,openssl,pkgconf,python3,python3-websockets,redis-server"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def codename():
    with open("/etc/os-release", encoding="utf-8") as release:
        return next(line.partition("=")[2].strip() for line in release if line.startswith("VERSION_CODENAME="))


def make_root(packages):
    """The tree of all machines, below `packages`."""
    root = packages / "root"
    if not root.is_dir():
        part = packages / "root.part"
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={TOOLS}", codename(), part], check=True)
        part.rename(root)
    # Now, while there is a network: nspawn shares the host's.
    command = ["systemd-nspawn", "-q", "-D", root, f"--bind-ro={packages}/deb:/packages", "--resolv-conf=replace-host"]
    command += ["--pipe", "--register=no", "--keep-unit", "--setenv=DEBIAN_FRONTEND=noninteractive", "sh", "-ec"]
    command += ["apt-get update -q; apt-get install -q -y --download-only /packages/belfry_*.deb /packages/belfry-dev_*.deb"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10 * TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


class Machine:
    """`with Machine(root, {"/where": path}) as m`: booted. The second argument is what it sees of the host, read-only."""

    def __init__(self, root, binds):
        self.command = ["systemd-nspawn", "-q", "-D", root, "--volatile=overlay", "--private-network"]
        self.command += [f"--bind-ro={path}:{where}" for where, path in binds.items()]
        self.command += ["--hostname=belfry-test", "--register=no", "--keep-unit", "--console=pipe", "-b"]

    def __enter__(self):
        self.console = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT
        )
        try:
            self.leader = self.wait_for_leader()
            self.wait(lambda: self.state() in ("running", "degraded"), "systemd does not come up")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *reason):
        self.end()

    def end(self):
        """Twice TERM: at once."""
        self.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.console.close()

    def wait(self, condition, what):
        deadline = time.monotonic() + TIMEOUT
        while not (value := condition()):
            if self.process.poll() is not None:
                self.console.seek(0)
                raise AssertionError(f"the machine ended: {self.console.read()}")
            assert time.monotonic() < deadline, what() if callable(what) else what
            time.sleep(0.1)
        return value

    def wait_for_leader(self):
        """Its first process: the child of nspawn that has become systemd."""

        def find():
            try:
                with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as children:
                    for child in children.read().split():
                        if os.readlink(f"/proc/{child}/exe").endswith("/systemd/systemd"):
                            return child
            except OSError:
                pass
            return None

        return self.wait(find, "no machine was started")

    def state(self):
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()

    # What is done in it.

    def inside(self, command, user=None):
        enter = ["nsenter", "-t", self.leader, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        return [*enter, *become, "env", "-i", f"PATH={PATH}", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", *command]

    def run(self, *command, check=True, user=None, stdin=None):
        done = subprocess.run(
            self.inside(command, user), input=stdin, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def shell(self, text, **options):
        return self.run("sh", "-ec", text, **options).stdout.strip()

    def start(self, *command):
        """In the background, with pipes: a Popen."""
        return subprocess.Popen(
            self.inside(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def write(self, path, text):
        self.run("sh", "-ec", 'cat > "$1"', "sh", path, stdin=text)

    def mode(self, path):
        """OWNER:GROUP MODE, the mode in octal."""
        return self.run("stat", "-c", "%U:%G %a", path).stdout.strip()

    def exists(self, path):
        return self.run("test", "-e", path, check=False).returncode == 0

    # Packages and the service.

    def install(self, *packages):
        """By apt, with dependencies. What it said."""
        done = self.run("apt-get", "install", "-q", "-y", "-o", "Dpkg::Options::=--force-confold", *packages)
        return done.stdout + done.stderr

    def service(self, name):
        """A property of belfry.service."""
        return self.run("systemctl", "show", f"--property={name}", "--value", "belfry.service").stdout.strip()

    def journal(self):
        return self.run("journalctl", "-u", "belfry.service", "--no-pager", "-o", "cat").stdout

    def active(self):
        return self.service("ActiveState") == "active"
