"""The examples of the API reference, run as they are written."""

from __future__ import annotations

import doctest
from pathlib import Path

import redis

from tests.servers import Server

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def test_every_example_of_the_reference_gives_what_it_says(server: Server, client: redis.Redis) -> None:
    found = doctest.DocTestParser().get_doctest(
        _PAGE.read_text(encoding="utf-8"), {"redis_url": server.url}, _PAGE.name, str(_PAGE), 0
    )
    printed: list[str] = []
    results = doctest.DocTestRunner().run(found, out=printed.append)
    assert results.attempted > 10
    assert results.failed == 0, "".join(printed)
