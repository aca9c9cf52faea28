#!/usr/bin/env python3
"""What goes along with the program agrees with it: versions, completions, unit, paths.

- packaging/debian/changelog and packaging/rpm/belfry.spec name the version of configure.ac.
- Completion offers each option and command that belfry and belfryctl name in their help, and no other.
- belfry.service: no variable is left in a path, a drain ends before systemd's patience does, and, where
  systemd-analyze is there, it is valid and its exposure is 2.0 or less.
- Every test in packaging/debian/tests/control is an executable file beside it, and the other way round.

Run by `make check` in the build directory, which has belfry.service; by hand: tests/lint/packages.py [SOURCE_DIR].
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("srcdir", "."))
EXPOSURE_MAX = "20"  # tenths
problems = []


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def first(pattern, text, what):
    found = re.search(pattern, text, re.M)
    if not found:
        problems.append(f"{what} is not there")
    return found[1] if found else ""


# ---- versions

def check_versions():
    version = first(r"^AC_INIT\(\[belfry\], \[([^]]+)\]", read("configure.ac"), "configure.ac: the version")
    debian = first(r"^belfry \(([^)-]+)", read("packaging/debian/changelog"), "packaging/debian/changelog: the version")
    rpm = first(r"^Version: +(\S+)", read("packaging/rpm/belfry.spec"), "packaging/rpm/belfry.spec: the version")
    for name, other in (("packaging/debian/changelog", debian), ("packaging/rpm/belfry.spec", rpm)):
        if other != version:
            problems.append(f"{name}: version {other}, configure.ac has {version}")


# ---- completion

def complete(program, *words):
    """What bash offers behind these words."""
    script = 'source "$1"; shift; COMP_WORDS=("$@" ""); COMP_CWORD=$#; _$1 "$1" "" "${@: -1}"; echo "${COMPREPLY[*]}"'
    completion = ROOT / "conf/bash-completion" / program
    done = subprocess.run(
        ["bash", "-c", script, "bash", completion, program, *words], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def usage(program):
    return subprocess.run([f"./{program}", "-h"], check=True, capture_output=True, text=True).stdout


def options_of(text):
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text))


def compare(what, offered, expected):
    for word in sorted(expected - offered):
        problems.append(f"{what}: {word} is not offered")
    for word in sorted(offered - expected):
        problems.append(f"{what}: {word} is offered, but the program's help does not name it")


def check_completion():
    compare("completion of belfry", complete("belfry"), options_of(usage("belfry").splitlines()[0]))
    help_lines = usage("belfryctl").splitlines()
    commands = {}
    for line in help_lines[1:]:
        if match := re.match(r"  ([a-z]+)\b(.*)", line):
            # What follows the arguments is prose, two spaces away or on the next line.
            commands[match[1]] = options_of(match[2])
    if "status" not in commands:
        problems.append("belfryctl -h: the commands can't be read from it")
    compare("completion of belfryctl", complete("belfryctl"), set(commands) | options_of(help_lines[0]) | {"-h"})
    for command, options in commands.items():
        compare(f"completion of belfryctl {command}", complete("belfryctl", command), options)
        compare("completion behind an option", complete("belfryctl", "-s", "/x", command), options)
    if complete("belfryctl", "disconnect", "--user"):
        problems.append("completion of belfryctl: an option's value is not ours to offer")


# ---- the unit

def seconds(text):
    found = re.fullmatch(r"(\d+)(ms|s|m|min|h)?", text)
    return int(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, None: 1}[found[2]]


def drain_at_most():
    printed = subprocess.run(["./belfry", "--help-config", "ini"], check=True, capture_output=True, text=True).stdout
    found = dict(re.findall(r"^;?(drain_delay|drain_timeout) = (\S+)", printed, re.M))
    return sum(seconds(value) for value in found.values())


def analyze(unit):
    """systemd's own opinion. Its programs are replaced by the one that was built, which need not be installed yet."""
    if not shutil.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory) / "belfry.service"
        copy.write_text(re.sub(r"(?m)^(Exec\w+=)\S*/belfry ", rf"\1{pathlib.Path('belfry').resolve()} ", unit))
        verify = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)
        if verify.returncode != 0 or verify.stderr:
            problems.append(f"systemd-analyze verify: {verify.stderr}")
        command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", copy]
        security = subprocess.run(command, capture_output=True, text=True)
        if security.returncode != 0:
            problems.append(f"systemd-analyze security: {security.stdout.strip().splitlines()[-1:] or security.stderr}")


def check_unit():
    unit = pathlib.Path("belfry.service").read_text(encoding="utf-8")
    for match in re.finditer(r"(?m)^(?!#).*(\$\{\w+\}|@\w+@).*$", unit):
        problems.append(f"belfry.service: {match[1]} was not replaced")
    stop = first(r"^TimeoutStopSec=(\S+)", unit, "belfry.service: TimeoutStopSec")
    if stop and seconds(stop) < drain_at_most() + 10:
        problems.append(f"belfry.service: TimeoutStopSec={stop} would cut a drain of {drain_at_most():.0f} s")
    analyze(unit)


# ---- Debian's tests

def check_debian_tests():
    folder = ROOT / "packaging/debian/tests"
    named = set(re.findall(r"^Tests: (\S+)$", (folder / "control").read_text(encoding="utf-8"), re.M))
    there = {path.name for path in folder.iterdir() if path.is_file() and os.access(path, os.X_OK)}
    for name in sorted(named ^ there):
        problems.append(f"packaging/debian/tests: {name} is not both named in control and an executable file")


def main():
    check_versions()
    check_completion()
    check_unit()
    check_debian_tests()
    for problem in problems:
        print(problem)
    print(f"packages: {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
