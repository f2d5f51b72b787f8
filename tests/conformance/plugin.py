"""Goes into the pytest that runs Celery's own tests: this project in the place of what they were written for.

* ``celery.beat.Scheduler`` is ``DispatchScheduler``, on the server that ``--conformance-redis`` names, each
  test in a pool of its own.
* A schedule of one of Celery's classes is, as soon as it is made, what comes back from its JSON.  Only what
  JSON does not carry is kept: the app, and a clock of the test's.
* What ``exceptions`` lists has to fail, in the way that it says.
* The dues that a test states for a zone and an interval are compared with this project's, even where the test
  as a whole is an exception.

``--conformance-summary`` names the file that gets the counts, as JSON.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from secrets import token_hex
from typing import Any

import celery.beat
import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar

from celery_dispatch import DispatchScheduler
from celery_dispatch.celery_bridge.recurrences import recurrence_of
from celery_dispatch.celery_bridge.schedule_codec import from_json, to_json
from tests.conformance.exceptions import excepted

_OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
_NOT_IN_JSON = ("nowfun", "_orig_kwargs")


class Schedules:
    """Counts the schedules that went through JSON."""

    def __init__(self) -> None:
        self.returned = 0
        self._within = False

    def send_through_json(self, kind: Any) -> None:
        """From now on, for every schedule of exactly the class ``kind``."""
        original = kind.__init__

        @functools.wraps(original)
        def init(made: Any, *args: Any, **kwargs: Any) -> None:
            original(made, *args, **kwargs)
            if type(made) is kind and not self._within:
                self._become_its_json(made)

        kind.__init__ = init

    def _become_its_json(self, made: Any) -> None:
        kept = {name: vars(made)[name] for name in _NOT_IN_JSON if name in vars(made)}
        made.nowfun, self._within = None, True
        try:
            returned = from_json(json.loads(json.dumps(to_json(made))), app=made._app)
        finally:
            self._within = False
        vars(made).clear()
        vars(made).update(vars(returned) | kept)
        self.returned += 1


class Schedulers:
    """Counts the schedulers that were made, and closes those of a test when it is over."""

    def __init__(self) -> None:
        self.made = 0
        self._open: list[DispatchScheduler] = []

    def take_the_place_of_celerys(self) -> None:
        original = DispatchScheduler.__init__

        @functools.wraps(original)
        def init(made: DispatchScheduler, *args: Any, **kwargs: Any) -> None:
            self.made += 1
            self._open.append(made)
            original(made, *args, **kwargs)

        DispatchScheduler.__init__ = init  # type: ignore[method-assign]
        celery.beat.Scheduler = DispatchScheduler  # type: ignore[misc]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        while self._open:
            self._open.pop().close()


class Run:
    """One run: the exceptions go in, the counts come out."""

    def __init__(self, config: pytest.Config, schedules: Schedules, schedulers: Schedulers) -> None:
        self._config = config
        self._schedules = schedules
        self._schedulers = schedulers
        self._stated: list[Any] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        tests = {item.nodeid.partition("[")[0] for item in items}
        modules = {test.partition("::")[0] for test in tests}
        expected = excepted(modules, (celery.VERSION.major, celery.VERSION.minor))
        if expected.keys() - tests:
            raise pytest.UsageError(f"excepted, but not there: {sorted(expected.keys() - tests)}")
        for item in items:
            found = expected.get(item.nodeid.partition("[")[0])
            if found is not None:
                mark = pytest.mark.xfail(strict=True, reason=found.reason, raises=found.raises)
                item.add_marker(mark)
            if hasattr(item, "callspec") and item.callspec.params.keys() >= _STATED_DUES:
                self._stated.append(item.callspec.params)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        summary = {
            "collected": session.testscollected,
            "outcomes": {outcome: len(reporter.stats.get(outcome, ())) for outcome in _OUTCOMES},
            "schedulers": self._schedulers.made,
            "schedules": self._schedules.returned,
            "dues": len(self._stated),
            "wrong_dues": [repr(stated) for stated in self._stated if not _is_due_as(**stated)],
        }
        Path(self._config.getoption("--conformance-summary")).write_text(json.dumps(summary))


_STATED_DUES = {"tz_factory", "timezone_name", "interval", "relative", "last_run", "due_at", "next_due_at"}


def _is_due_as(
    tz_factory: Any, timezone_name: str, interval: timedelta, relative: bool, **local: datetime
) -> bool:
    """Whether this project's dues after ``last_run`` are those that a test states."""
    app = Celery("dues", set_as_current=False)
    app.conf.timezone = zone = tz_factory(timezone_name)
    recurrence: Any = recurrence_of(schedule(interval, relative), app)
    last, *stated = (
        local[name].replace(tzinfo=zone).astimezone(timezone.utc)
        for name in ("last_run", "due_at", "next_due_at")
    )
    due = recurrence.following(last, last)
    return [due, recurrence.following(due, due)] == stated


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--conformance-redis", required=True, help="the URL of the Redis of the pools")
    group.addoption("--conformance-summary", required=True, help="the file for the counts")


def pytest_configure(config: pytest.Config) -> None:
    schedules, schedulers = Schedules(), Schedulers()
    for kind in (schedule, crontab, solar):
        schedules.send_through_json(kind)
    schedulers.take_the_place_of_celerys()
    config.pluginmanager.register(schedulers)
    config.pluginmanager.register(Run(config, schedules, schedulers))


@pytest.fixture(autouse=True)
def pool_of_its_own(celery_app: Celery, pytestconfig: pytest.Config) -> None:
    celery_app.conf.dispatch_redis_url = pytestconfig.getoption("--conformance-redis")
    celery_app.conf.dispatch_key_prefix = f"conformance-{token_hex(4)}"
