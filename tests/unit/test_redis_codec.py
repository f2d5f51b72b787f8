"""Instants as Redis holds them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from celery_dispatch.redis_store.codec import from_ms, to_ms


def test_an_instant_is_the_same_in_every_zone() -> None:
    noon = datetime(2030, 1, 1, 12, 0, 0, 5000, tzinfo=timezone.utc)
    assert to_ms(noon) == to_ms(noon.astimezone(ZoneInfo("Asia/Kolkata"))) == 1893499200005
    assert from_ms(to_ms(noon)) == noon


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    first = datetime(2030, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    second = first.replace(fold=1)
    assert first == second
    assert to_ms(second) - to_ms(first) == timedelta(hours=1) // timedelta(milliseconds=1)


@pytest.mark.parametrize("microsecond", [1, 999, 1_500])
def test_parts_of_a_millisecond_are_refused_each_time(microsecond: int) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="no whole millisecond"):
            to_ms(datetime(2030, 1, 1, microsecond=microsecond, tzinfo=timezone.utc))
