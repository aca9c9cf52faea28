"""Tests of the packages in $BELFRY_PACKAGES (its subdirectories deb and rpm): `./dev package --test` sets it."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from machine import Machine, make_root

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def pytest_configure(config):
    if not os.environ.get("BELFRY_PACKAGES"):
        raise pytest.UsageError("BELFRY_PACKAGES must name the directory that `make deb rpm` has made")


@pytest.fixture(scope="session")
def packages():
    return pathlib.Path(os.environ["BELFRY_PACKAGES"]).resolve()


@pytest.fixture(scope="session")
def version():
    return re.search(r"^AC_INIT\(\[belfry\], \[([^]]+)\]", (REPOSITORY / "configure.ac").read_text(), re.M)[1]


@pytest.fixture(scope="session")
def deb(packages, version):
    (found,) = (packages / "deb").glob(f"belfry_{version}_*.deb")
    return found


def next_version(version):
    """Of the same length, so that it can take the other's place in a binary."""
    return version[:-1] + ("9" if version[-1] != "9" else "8")


def repack(deb, directory, name, change):
    """A package of the next version: `change(tree, old, new)` does to its files what makes the difference."""
    old = deb.name.split("_")[1]
    new = next_version(old)
    tree = directory / name
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {new}", control.read_text()))
    change(tree, old, new)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", tree, directory / f"{name}.deb"], check=True)
    shutil.rmtree(tree)


def say_other_version(tree, old, new):
    for name in ("usr/sbin/belfry", "usr/bin/belfryctl"):
        binary = tree / name
        text = binary.read_bytes()
        binary.write_bytes(text.replace(old.encode() + b"\0", new.encode() + b"\0"))
    ini = tree / "etc/belfry/belfry.ini"
    ini.write_text(ini.read_text() + "\n; a line of the new version\n")


def break_program(tree, old, new):
    (tree / "usr/sbin/belfry").write_text("#!/bin/sh\necho 'this version cannot start' >&2\nexit 1\n")


@pytest.fixture(scope="session")
def upgrades(deb, tmp_path_factory):
    """newer.deb: the same program, which says that it is the next version; broken.deb: one that cannot start."""
    directory = tmp_path_factory.mktemp("upgrades")
    repack(deb, directory, "newer", say_other_version)
    repack(deb, directory, "broken", break_program)
    return directory


@pytest.fixture(scope="session")
def binds(packages, upgrades):
    return {
        "/packages": packages / "deb",
        "/upgrades": upgrades,
        "/tests": REPOSITORY / "packaging/debian/tests",
        "/scripts": REPOSITORY / "tests/package/scripts",
    }


@pytest.fixture(scope="session")
def root(packages):
    return make_root(packages)


@pytest.fixture
def machine(root, binds):
    with Machine(root, binds) as booted:
        yield booted


@pytest.fixture
def installed(machine, deb):
    """A machine with the package on it."""
    machine.install(f"/packages/{deb.name}")
    assert machine.active(), machine.journal()
    return machine
