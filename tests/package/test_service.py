"""The package installed: files and rights, the service in its sandbox, reloads, certificates, logs, modules, sockets."""

import re

import pytest

CHAT = """
[listener edge]
listen = 127.0.0.1:81

[route /edge]
mode = rooms
"""

TLS = """
[listener tls]
listen = 127.0.0.1:443
tls = yes
certificate = /etc/belfry/tls/example.org/fullchain.pem
private_key = /etc/belfry/tls/example.org/privkey.pem
"""

LINEAGE = "/etc/letsencrypt/live/example.org"
HOOK = "/usr/share/doc/belfry/examples/belfry-deploy-hook"


def test_files_and_rights(installed):
    expected = {
        "/etc/belfry": "root:belfry 750",
        "/etc/belfry/belfry.ini": "root:belfry 640",
        "/etc/belfry/conf.d": "root:belfry 750",
        "/run/belfry": "belfry:belfry 750",
        "/run/belfry/control.sock": "belfry:belfry 660",
        "/usr/lib/belfry/modules": "root:root 755",
        "/var/lib/belfry": "belfry:belfry 750",
        "/var/log/belfry": "belfry:belfry 750",
    }
    assert {path: installed.mode(path) for path in expected} == expected
    for path in ("man1/belfryctl.1", "man5/belfry.ini.5", "man7/belfry-protocol.7", "man8/belfry.8"):
        assert installed.exists(f"/usr/share/man/{path}.gz")
    assert installed.run("getent", "passwd", "belfry").stdout.rstrip().endswith(":/var/lib/belfry:/usr/sbin/nologin")
    assert installed.run("cat", "/etc/belfry/belfry.ini", user="nobody", check=False).returncode != 0


def test_service_is_enabled_and_confined(installed):
    assert installed.run("systemctl", "is-enabled", "belfry.service").stdout == "enabled\n"
    assert installed.run("systemctl", "is-enabled", "belfry.socket", check=False).stdout == "disabled\n"
    status = installed.shell("cat /proc/$(systemctl show -P MainPID belfry)/status")
    words = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert words["CapEff"] == words["CapBnd"] == "0000000000000400"  # CAP_NET_BIND_SERVICE
    assert words["NoNewPrivs"] == "1" and words["Seccomp"] == "2"
    assert installed.mode("/proc/" + installed.service("MainPID")).startswith("belfry:belfry ")
    limits = installed.shell("grep 'open files' /proc/$(systemctl show -P MainPID belfry)/limits").split()
    assert limits[3] == limits[4], limits  # as many as the machine lets systemd give


def test_systemd_approves_of_the_units(installed):
    for unit in ("belfry.service", "belfry.socket"):
        done = installed.run("systemd-analyze", "verify", "--man=no", unit)
        assert done.stdout + done.stderr == ""
    installed.run("systemd-analyze", "security", "--threshold=20", "belfry.service")
    installed.run("systemd-analyze", "security", "--offline=true", "--threshold=20", "belfry.service")


def test_clients_are_served_after_two_lines(installed):
    """A port below 1024 and a room of one's own, taken into use by a reload."""
    pid = installed.service("MainPID")
    installed.run("sed", "-i", "-e", "s/^listen = 127.0.0.1:8080/listen = 127.0.0.1:80/", "/etc/belfry/belfry.ini")
    installed.run("sed", "-i", "-e", r"s/^\[room chat:\*\]/[room talk:*]/", "/etc/belfry/belfry.ini")
    installed.run("systemctl", "reload", "belfry")
    installed.wait(lambda: "127.0.0.1:80\"" in installed.shell("belfryctl --json status"), installed.journal)
    said = installed.shell("python3 /scripts/say.py ws://127.0.0.1:80/ws talk:1 hello")
    assert said == "hello"
    assert installed.service("MainPID") == pid and installed.service("NRestarts") == "0"


def test_conf_d_is_read(installed):
    installed.write("/etc/belfry/conf.d/edge.ini", CHAT)
    installed.write("/etc/belfry/conf.d/edge.ini~", "nonsense")
    installed.run("systemctl", "restart", "belfry")
    assert installed.shell("python3 /scripts/say.py ws://127.0.0.1:81/edge chat:1 hello") == "hello"


def test_broken_configuration_is_not_taken(installed):
    pid = installed.service("MainPID")
    installed.write("/etc/belfry/conf.d/wrong.ini", "[route /x]\nmoed = rooms\n")
    assert installed.run("systemctl", "reload", "belfry", check=False).returncode != 0
    assert "/etc/belfry/conf.d/wrong.ini:2:" in installed.journal()
    assert installed.active() and installed.service("MainPID") == pid
    assert installed.shell("python3 /scripts/say.py ws://127.0.0.1:8080/ws chat:1 hello") == "hello"


def test_worker_that_dies_is_started_again_within_the_sandbox(installed):
    pid = installed.service("MainPID")
    worker = installed.run("cat", f"/proc/{pid}/task/{pid}/children").stdout.split()[0]
    installed.shell(f"kill -SEGV {worker}")
    installed.wait(
        lambda: installed.run("cat", f"/proc/{pid}/task/{pid}/children", check=False).stdout.split()[:1] not in ([], [worker]),
        installed.journal,
    )
    installed.wait(lambda: installed.run("belfryctl", "status", check=False).returncode == 0, installed.journal)
    assert installed.shell("python3 /scripts/say.py ws://127.0.0.1:8080/ws chat:1 hello") == "hello"
    assert installed.service("MainPID") == pid and installed.service("NRestarts") == "0"


def make_certificate(machine, serial):
    """As certbot leaves them: for root alone."""
    machine.shell(
        f"umask 077; mkdir -p {LINEAGE}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
        f"-days 2 -subj /CN=example.org -set_serial {serial} -keyout {LINEAGE}/privkey.pem "
        f"-out {LINEAGE}/fullchain.pem"
    )


def shown_serial(machine):
    return machine.shell(
        "openssl s_client -connect 127.0.0.1:443 -servername example.org </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )


def test_certbot_hook_brings_certificates_without_a_restart(installed):
    make_certificate(installed, 17)
    hook = f"RENEWED_LINEAGE={LINEAGE} {HOOK}"
    installed.shell(hook)
    assert installed.mode("/etc/belfry/tls/example.org/privkey.pem") == "root:belfry 640"
    installed.write("/etc/belfry/conf.d/tls.ini", TLS)
    installed.run("systemctl", "restart", "belfry")
    assert shown_serial(installed) == "serial=11"
    pid = installed.service("MainPID")
    make_certificate(installed, 18)
    installed.shell(hook)
    installed.wait(lambda: shown_serial(installed) == "serial=12", installed.journal)
    assert installed.service("MainPID") == pid


def test_certificates_by_credentials(installed):
    """As the unit's last comment says, word by word."""
    make_certificate(installed, 17)
    installed.run("mkdir", "/etc/systemd/system/belfry.service.d")
    unit = installed.shell("cat /lib/systemd/system/belfry.service")
    example = re.search(r"^#     (\[Service\]\n(?:#     .*\n)+)", unit, re.M)[1]
    assert LINEAGE in example and "LoadCredential=" in example
    installed.write("/etc/systemd/system/belfry.service.d/certificate.conf", example.replace("#     ", ""))
    tls = TLS.replace("/etc/belfry/tls/example.org/fullchain.pem", "${CREDENTIALS_DIRECTORY}/chain.pem")
    tls = tls.replace("/etc/belfry/tls/example.org/privkey.pem", "${CREDENTIALS_DIRECTORY}/key.pem")
    installed.write("/etc/belfry/conf.d/tls.ini", tls)
    installed.shell("systemctl daemon-reload; systemctl restart belfry")
    assert shown_serial(installed) == "serial=11"
    assert installed.run("systemctl", "reload", "belfry", check=False).returncode == 0, installed.journal()
    installed.wait(lambda: "reloaded: generation 2" in installed.journal(), installed.journal)
    assert shown_serial(installed) == "serial=11"


def test_logs_are_rotated(installed):
    installed.run("sed", "-i", "-e", "s|^;log = stderr|log = /var/log/belfry/belfry.log|", "/etc/belfry/belfry.ini")
    installed.run("systemctl", "restart", "belfry")
    pid = installed.service("MainPID")
    assert installed.mode("/var/log/belfry/belfry.log").startswith("belfry:belfry 6")
    installed.run("logrotate", "-f", "/etc/logrotate.d/belfry")
    assert installed.exists("/var/log/belfry/belfry.log.1")
    installed.wait(lambda: installed.exists("/var/log/belfry/belfry.log"), installed.journal)
    old = installed.shell("cat /var/log/belfry/belfry.log.1")
    installed.shell("systemctl stop belfry")
    assert "stopped" in installed.shell("cat /var/log/belfry/belfry.log")
    assert installed.shell("cat /var/log/belfry/belfry.log.1") == old
    assert pid != "0"


@pytest.mark.parametrize("directory, taken", [("/usr/lib/belfry/modules", True), ("/var/lib/belfry", False)])
def test_modules_are_loaded_from_where_the_daemon_may_not_write(installed, deb, directory, taken):
    installed.install("/packages/" + deb.name.replace("belfry_", "belfry-dev_").rsplit("_", 1)[0] + "_all.deb")
    installed.shell(
        "sed 's|\"module.h\"|<belfry/module.h>|' /usr/share/doc/belfry-dev/examples/thirdparty.c > /root/m.c;"
        f"cc -std=c11 -fPIC -shared -pthread $(pkg-config --cflags belfry) -o {directory}/thirdparty.so /root/m.c"
    )
    installed.run("sed", "-i", "-e", f"s|^;load_module =|load_module = {directory}/thirdparty.so|", "/etc/belfry/belfry.ini")
    assert (installed.run("systemctl", "restart", "belfry", check=False).returncode == 0) == taken, installed.journal()
    assert installed.shell("pkg-config --variable=moduledir belfry") == "/usr/lib/belfry/modules"


def test_socket_activation(installed):
    """systemd listens, and a client that comes while nothing runs starts the daemon."""
    installed.shell("systemctl stop belfry.service; systemctl enable -q --now belfry.socket")
    assert not installed.active()
    assert installed.shell("python3 /scripts/say.py ws://127.0.0.1:8080/ws chat:1 hello") == "hello"
    assert installed.active(), installed.journal()
    installed.run("systemctl", "restart", "belfry.service")
    assert installed.shell("python3 /scripts/say.py ws://127.0.0.1:8080/ws chat:1 hello") == "hello"
