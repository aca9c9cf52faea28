"""The budget tests use the end-to-end tests' harness: daemons, certificates, Redis. BELFRY_BUILD names a release build."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

E2E = Path(__file__).resolve().parents[1] / "e2e"
sys.path.insert(0, str(E2E))
spec = importlib.util.spec_from_file_location("e2e_conftest", E2E / "conftest.py")
e2e = importlib.util.module_from_spec(spec)
sys.modules["e2e_conftest"] = e2e  # dataclasses look their module up
spec.loader.exec_module(e2e)

start, redis, certificate, trust = e2e.start, e2e.redis, e2e.certificate, e2e.trust


def pytest_configure(config):
    e2e.pytest_configure(config)
    program = (Path(os.environ["BELFRY_BUILD"]) / "belfry").read_bytes()
    if b"__asan_init" in program or b"__tsan_init" in program:
        raise pytest.UsageError("budgets are those of the release build; this one has a sanitizer")
