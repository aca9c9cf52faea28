"""Upgrade over a running daemon, an upgrade that cannot start, removal, purge, and Debian's own tests of the package."""

import json
import re

import pytest

from conftest import REPOSITORY, next_version

HERE = re.findall(r"^Tests: (\S+)$", (REPOSITORY / "packaging/debian/tests/control").read_text(), re.M)


def status(machine):
    return json.loads(machine.shell("belfryctl --json status"))


def hold(machine, url):
    """A client that stays, a member of chat:1 already."""
    client = machine.start("python3", "/scripts/hold.py", url)
    for kind in ("welcome", "ok"):
        line = client.stdout.readline()
        assert json.loads(line)["type"] == kind, line
    return client


def upgraded(machine, version):
    """Once the new version answers; the old one's process may be leaving yet."""
    said = machine.run("belfryctl", "--json", "status", check=False).stdout
    return f'"version":"{next_version(version)}"' in said


def test_upgrade_drops_nobody(installed, version):
    """dpkg unpacks the new binary under the running daemon. A client lives through it and misses none of the messages
    that come from Redis meanwhile."""
    installed.write("/etc/belfry/conf.d/redis.ini", "[room live:*]\njoin = anyone\n")
    installed.run("sed", "-i", "-e", "s/^;type = memory/type = redis/", "/etc/belfry/belfry.ini")
    installed.shell("chmod 0440 /etc/belfry/belfry.ini; systemctl restart belfry")
    installed.wait(lambda: status(installed)["broker"]["ready"], installed.journal)
    pid = installed.service("MainPID")
    client = hold(installed, "ws://127.0.0.1:8080/ws")
    publisher = installed.start(
        *("sh", "-c", "n=0; while read -r line; do n=$((n + 1)); redis-cli PUBLISH belfry:room:chat:1 $n; done")
    )
    assert status(installed)["version"] == version

    told = 0

    def publish(count):
        nonlocal told
        publisher.stdin.write("\n" * count)
        publisher.stdin.flush()
        told += count

    publish(50)
    installed.install("/upgrades/newer.deb")
    publish(50)
    installed.wait(lambda: upgraded(installed, version), installed.journal)
    publish(50)
    publisher.communicate()
    heard = [json.loads(client.stdout.readline()) for _ in range(told)]
    assert [(message["type"], message.get("data")) for message in heard] == [("message", n + 1) for n in range(told)]
    client.communicate()
    assert installed.service("MainPID") == pid and installed.service("NRestarts") == "0"
    assert installed.active(), installed.journal()
    # The administrator's file and its rights are kept.
    assert "\ntype = redis" in installed.shell("cat /etc/belfry/belfry.ini")
    assert installed.mode("/etc/belfry/belfry.ini") == "root:belfry 440"


def test_upgrade_of_an_untouched_file_keeps_its_rights(installed):
    installed.install("/upgrades/newer.deb")
    assert "a line of the new version" in installed.shell("cat /etc/belfry/belfry.ini")
    assert installed.mode("/etc/belfry/belfry.ini") == "root:belfry 640"
    assert installed.mode("/etc/belfry") == installed.mode("/etc/belfry/conf.d") == "root:belfry 750"


def test_upgrade_that_cannot_start_leaves_the_old_one_running(installed, version):
    pid = installed.service("MainPID")
    client = hold(installed, "ws://127.0.0.1:8080/ws")
    installed.install("/upgrades/broken.deb")
    installed.wait(lambda: "this version cannot start" in installed.journal(), installed.journal)
    assert installed.service("MainPID") == pid and installed.active()
    assert status(installed)["version"] == version
    assert json.loads(installed.shell("belfryctl --json publish chat:1 1"))["receivers"] == 1
    assert json.loads(client.stdout.readline())["data"] == 1
    client.communicate()


def test_stopped_service_stays_as_the_administrator_left_it(installed):
    installed.shell("systemctl disable -q --now belfry")
    installed.install("/upgrades/newer.deb")
    assert not installed.active()
    assert installed.run("systemctl", "is-enabled", "belfry.service", check=False).stdout == "disabled\n"


def test_remove_keeps_configuration_and_purge_does_not(installed, deb):
    installed.write("/etc/belfry/conf.d/own.ini", "[room own:*]\njoin = anyone\n")
    installed.shell("echo '; ours' >> /etc/belfry/belfry.ini; touch /var/log/belfry/belfry.log")
    client = hold(installed, "ws://127.0.0.1:8080/ws")
    installed.run("apt-get", "remove", "-q", "-y", "belfry")
    # Told to go, and not cut off.
    said = client.communicate()[0].splitlines()
    assert json.loads(said[0])["type"] == "bye" and said[-1] == "closed 1012", said
    assert not installed.exists("/usr/sbin/belfry") and not installed.exists("/run/belfry")
    assert installed.mode("/etc/belfry/belfry.ini") == "root:belfry 640"
    assert installed.exists("/var/log/belfry/belfry.log")

    installed.install(f"/packages/{deb.name}")
    assert installed.active(), installed.journal()
    assert "; ours" in installed.shell("cat /etc/belfry/belfry.ini")
    assert installed.mode("/etc/belfry/belfry.ini") == "root:belfry 640"

    installed.run("apt-get", "purge", "-q", "-y", "belfry")
    for path in ("/etc/belfry/belfry.ini", "/etc/logrotate.d/belfry", "/var/log/belfry", "/var/lib/belfry", "/run/belfry"):
        assert not installed.exists(path), path
    # What the administrator put there is not the package's to delete.
    assert installed.exists("/etc/belfry/conf.d/own.ini")
    left = installed.shell("find / -xdev -path /proc -prune -o -path /sys -prune -o -name '*belfry*' -print")
    assert [path for path in left.split() if not path.startswith(("/etc/belfry", "/var/cache/apt", "/var/log/journal"))] == []
    assert installed.run("systemctl", "status", "belfry", check=False).returncode == 4  # no such unit


def test_purge_of_an_untouched_installation_leaves_nothing(installed):
    installed.run("apt-get", "purge", "-q", "-y", "belfry")
    assert not installed.exists("/etc/belfry")


@pytest.mark.parametrize("name", HERE)
def test_debians_own(installed, deb, name):
    """As autopkgtest would run it."""
    installed.install("/packages/" + deb.name.replace("belfry_", "belfry-dev_").rsplit("_", 1)[0] + "_all.deb")
    said = installed.shell(
        f"export AUTOPKGTEST_TMP=$(mktemp -d) PYTHONDONTWRITEBYTECODE=1; cd /tests/../..; exec /tests/{name}"
    )
    assert said.endswith(f"{name}: passed")
