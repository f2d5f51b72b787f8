"""The schedule file of a stock beat, written by Celery's own scheduler."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.beat import PersistentScheduler
from celery.schedules import crontab

from celery_dispatch.manage.controls import ControlError
from celery_dispatch.manage.moving.stock import read_stock


@pytest.fixture
def written(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """``written(beat_schedule)``: the file of a stock beat that sent each entry once."""

    def write(schedule: dict[str, Any]) -> str:
        app = Celery("proj", set_as_current=False, broker="memory://")
        app.conf.result_expires = None
        app.conf.beat_schedule = schedule
        path = str(tmp_path / "celerybeat-schedule")
        beat: Any = PersistentScheduler(app, schedule_filename=path, lazy=False)
        for name in schedule:
            beat.schedule[name] = next(beat.schedule[name])
        beat.sync()
        beat._store.close()
        return path

    return write


def test_entries_with_their_last_run(written: Callable[[dict[str, Any]], str]) -> None:
    before = datetime.now(timezone.utc)
    path = written(
        {
            "tick": {"task": "proj.tick", "schedule": 30.0, "args": (1, 2), "options": {"queue": "q"}},
            "nightly": {"task": "proj.nightly", "schedule": crontab(hour=3, minute=0)},
        }
    )
    nightly, tick = read_stock(path)
    assert tick.name == "tick"
    assert tick.definition == {
        "task": "proj.tick",
        "schedule": {"kind": "interval", "every": 30, "relative": False},
        "args": [1, 2],
        "options": {"queue": "q"},
    }
    assert tick.last_run is not None
    assert timedelta() <= tick.last_run - before < timedelta(seconds=30)
    assert tick.runs == 1
    assert nightly.definition is not None
    assert nightly.definition["schedule"]["kind"] == "crontab"


def test_what_json_cannot_carry_says_why_and_keeps_its_last_run(
    written: Callable[[dict[str, Any]], str],
) -> None:
    (found,) = read_stock(written({"odd": {"task": "proj.odd", "schedule": 30.0, "args": ({1, 2},)}}))
    assert found.definition is None
    assert "args cannot be carried in JSON" in found.refusal
    assert found.last_run is not None


def test_a_file_that_is_none_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("hello")
    with pytest.raises(ControlError, match="cannot be read as the schedule file of a beat") as caught:
        list(read_stock(str(path)))
    assert "Stop the old beat first" in caught.value.cure
    assert path.read_text() == "hello"


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ControlError):
        list(read_stock(str(tmp_path / "celerybeat-schedule")))
    assert list(tmp_path.iterdir()) == []
