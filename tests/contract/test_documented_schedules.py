"""The examples of the API reference, run as they are written."""

from __future__ import annotations

import doctest
from pathlib import Path

import redis
from celery import Celery

from tests.servers import Server

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def _report(period: str = "daily") -> None: ...


def test_every_example_of_the_reference_gives_what_it_says(server: Server, client: redis.Redis) -> None:
    app = Celery("proj", broker=server.url, set_as_current=False)
    app.task(_report, name="proj.report", shared=False)
    found = doctest.DocTestParser().get_doctest(
        _PAGE.read_text(encoding="utf-8"), {"app": app}, _PAGE.name, str(_PAGE), 0
    )
    printed: list[str] = []
    results = doctest.DocTestRunner().run(found, out=printed.append)
    assert results.attempted > 10
    assert results.failed == 0, "".join(printed)
