"""Celery's own tests of beat and of schedules, run on this scheduler and on this project's JSON.

They come from the source distribution of the Celery that is installed, at test time, and run in a pytest of
their own with ``plugin``; what does not hold is in ``exceptions``, with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import celery
import pytest

from tests.conformance.exceptions import EXCEPTIONS
from tests.conformance.sources import SourcesMissing, unpack_tests
from tests.programs import is_ci
from tests.servers import Server

ROOT = Path(__file__).parents[2]
EXCEPTED = 30  # tests; who makes the list of exceptions shorter lowers it
PLUGINS = ("tests.conformance.plugin", "celery.contrib.pytest", "pytest_timeout")

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Module:
    """A module of Celery's tests, and how much has to come out of it with the oldest Celery that has it."""

    path: str
    passed: int
    schedulers: int = 0
    schedules: int = 0
    dues: int = 0
    since: tuple[int, int] = (5, 5)

    def __str__(self) -> str:
        return self.path


MODULES = (
    Module("t/unit/app/test_beat.py", passed=54, schedulers=46, schedules=28),
    Module("t/unit/app/test_schedules.py", passed=142, schedules=729),
    Module("t/integration/test_beat.py", passed=2, schedulers=32, schedules=1, dues=26, since=(5, 7)),
)


@pytest.fixture(scope="session")
def tests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the tests of the installed Celery; the archive stays in pytest's cache."""
    into, cache = tmp_path_factory.mktemp("celery"), getattr(request.config, "cache", None)
    try:
        unpack_tests(
            version("celery"),
            into,
            cache=cache.mkdir("celery-sources") if cache else tmp_path_factory.mktemp("celery-sources"),
        )
    except SourcesMissing as missing:
        if is_ci():
            pytest.fail(f"CI skips nothing: {missing}")
        pytest.skip(str(missing))
    return into


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_celerys_own_tests_pass_but_for_the_exceptions(
    module: Module, tests: Path, server_of: Callable[[str], Server], tmp_path: Path
) -> None:
    if (celery.VERSION.major, celery.VERSION.minor) < module.since:
        pytest.skip(f"Celery {celery.__version__} has no {module}")
    server = server_of("valkey")
    counts = run(module, tests, server.url, tmp_path)
    assert counts["outcomes"]["passed"] >= module.passed
    assert counts["outcomes"]["skipped"] <= 1, "Celery itself skips one"
    assert sum(counts["outcomes"].values()) == counts["collected"]
    assert counts["schedulers"] >= module.schedulers
    assert counts["schedules"] >= module.schedules
    assert (counts["dues"] >= module.dues, counts["wrong_dues"]) == (True, [])


def test_the_list_of_exceptions_only_gets_shorter() -> None:
    listed = [test for exception in EXCEPTIONS for test in exception.ids()]
    assert len(listed) == len(set(listed)) == EXCEPTED


def run(module: Module, tests: Path, redis_url: str, directory: Path) -> dict[str, Any]:
    """The counts of a run without a failure; what pytest said is the message of one with any."""
    summary = directory / "summary.json"
    command = (
        *(sys.executable, "-m", "pytest", module.path, "-q", "--tb=short", "-p", "no:cacheprovider"),
        *(part for plugin in PLUGINS for part in ("-p", plugin)),
        *("--conformance-redis", redis_url, "--conformance-summary", str(summary)),
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(tests))),
        "TEST_BROKER": redis_url,
        "TEST_BACKEND": redis_url,
    }
    ended = subprocess.run(
        command, cwd=tests, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    counts: dict[str, Any] = json.loads(summary.read_text())
    return counts
