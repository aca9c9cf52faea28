"""What is in the packages, without installing them: lintian's opinion, hardening, lists of files."""

import re
import subprocess

import pytest

RPM_FILES = """
drwxr-x--- root belfry /etc/belfry
-rw-r----- root belfry /etc/belfry/belfry.ini
drwxr-x--- root belfry /etc/belfry/conf.d
-rw-r--r-- root root /etc/logrotate.d/belfry
-rwxr-xr-x root root /usr/bin/belfryctl
drwxr-xr-x root root /usr/lib/belfry/modules
-rw-r--r-- root root /usr/lib/systemd/system/belfry.service
-rw-r--r-- root root /usr/lib/systemd/system/belfry.socket
-rw-r--r-- root root /usr/lib/sysusers.d/belfry.conf
-rwxr-xr-x root root /usr/sbin/belfry
-rw-r--r-- root root /usr/share/bash-completion/completions/belfry
-rw-r--r-- root root /usr/share/bash-completion/completions/belfryctl
-rw-r--r-- root root /usr/share/belfry/redis/publish.lua
-rw-r--r-- root root /usr/share/belfry/web/belfry.js
-rw-r--r-- root root /usr/share/man/man1/belfryctl.1
-rw-r--r-- root root /usr/share/man/man5/belfry.ini.5
-rw-r--r-- root root /usr/share/man/man7/belfry-protocol.7
-rw-r--r-- root root /usr/share/man/man8/belfry.8
"""


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def rpm_files(rpm):
    """{path: (mode, owner, group)}; manual pages are compressed or not, as the distribution has it."""
    files = {}
    for line in output("rpm", "-qlvp", rpm).splitlines():
        mode, _, owner, group, rest = line.split(maxsplit=4)
        files[re.sub(r"^.*? (?=/)", "", rest).removesuffix(".gz")] = (mode, owner, group)
    return files


def the_rpm(packages, name):
    (found,) = (packages / "rpm/RPMS").glob(f"*/{name}-[0-9]*.rpm")
    return found


def test_lintian_finds_nothing(packages):
    (changes,) = (packages / "deb").glob("belfry_*.changes")
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", changes], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("program", ["usr/sbin/belfry", "usr/bin/belfryctl"])
def test_programs_are_hardened(deb, tmp_path, program):
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path], check=True)
    headers = output("readelf", "-hldW", tmp_path / program)
    assert re.search(r"Type: +DYN \(Position-Independent Executable", headers)
    assert "BIND_NOW" in headers and "GNU_RELRO" in headers
    assert re.search(r"GNU_STACK.* RW ", headers) and not re.search(r"GNU_STACK.*RWE", headers)
    assert "RPATH" not in headers and "RUNPATH" not in headers
    symbols = output("readelf", "-W", "--dyn-syms", tmp_path / program)
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__\w+_chk@", symbols.replace("__stack_chk_fail", "")), "no fortified function"


def test_nothing_of_the_build_is_left_in_files(deb, tmp_path):
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path], check=True)
    for name in ("lib/systemd/system/belfry.service", "etc/belfry/belfry.ini", "usr/share/bash-completion"):
        found = subprocess.run(
            ["grep", "-rnE", r"@[a-zA-Z_]+@|\$\{(exec_)?prefix\}|/build/", tmp_path / name], capture_output=True, text=True
        )
        assert found.returncode == 1, found.stdout


def test_rpm_holds_what_it_should(packages, version):
    rpm = the_rpm(packages, "belfry")
    files = rpm_files(rpm)
    for line in RPM_FILES.split("\n")[1:-1]:
        mode, owner, group, path = line.split()
        assert files.get(path) == (mode, owner, group), (path, files.get(path))
    assert output("rpm", "-qp", "--qf", "%{VERSION}", rpm) == version
    assert output("rpm", "-qcp", rpm).split() == ["/etc/belfry/belfry.ini", "/etc/logrotate.d/belfry"]
    scripts = output("rpm", "-qp", "--scripts", rpm)
    assert "--signal=USR2" in scripts and "systemctl restart" not in scripts and "try-restart" not in scripts


def test_rpm_for_authors_of_modules(packages):
    files = rpm_files(the_rpm(packages, "belfry-devel"))
    for path in ("/usr/include/belfry/module.h", "/usr/share/pkgconfig/belfry.pc", "/usr/share/man/man3/belfry-module.3"):
        assert files[path] == ("-rw-r--r--", "root", "root")


def test_rpm_has_its_source(packages):
    (source,) = (packages / "rpm/SRPMS").glob("belfry-*.src.rpm")
    assert "belfry.spec" in output("rpm", "-qlp", source)
