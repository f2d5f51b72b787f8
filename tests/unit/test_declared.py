"""The files of apply and export, and what would change."""

from __future__ import annotations

import ast
from datetime import timedelta
from typing import Any

import pytest
from celery.schedules import crontab, schedule, solar
from hypothesis import given
from hypothesis import strategies as st

from celery_dispatch.manage.controls import ControlError
from celery_dispatch.manage.declared import as_json, as_yaml, read_definitions
from celery_dispatch.manage.differences import ABSENT, Field, fields_of
from celery_dispatch.manage.stock_form import as_beat_schedule
from celery_dispatch.schedules import Planned, Step

TICK = {"task": "proj.tick", "schedule": {"kind": "interval", "every": 10, "relative": False}}

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(texts, st.dictionaries(texts, json_values, max_size=3), max_size=3))
@pytest.mark.parametrize("write", [as_yaml, as_json])
def test_what_is_exported_is_read_back(write: Any, definitions: dict[str, dict[str, Any]]) -> None:
    assert read_definitions(write(definitions), source="a file") == definitions


def test_dates_of_yaml_become_text() -> None:
    text = "entries: {a: {dispatch: {start: 2026-11-21T03:00:00Z, end: 2026-12-01}}}"
    assert read_definitions(text, source="a file") == {
        "a": {"dispatch": {"start": "2026-11-21T03:00:00+00:00", "end": "2026-12-01"}}
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("entries: {a: {task: x}, a: {task: y}}", "the key 'a' is there twice"),
        ('{"entries": {"a": {"task": "x"}, "a": {"task": "y"}}}', "the key 'a' is there twice"),
        ("entries: [", "neither YAML nor JSON"),
        ("tick: {task: x}", "has not exactly the key 'entries'"),
        ("", "has not exactly the key 'entries'"),
        ("entries: [1]", "entries is a list"),
        ("entries: {1: {task: x}}", "the name 1 is no text"),
        ("entries: {a: 10}", "entry 'a' is 10"),
        ("entries: {a: {args: !!binary aGVsbG8=}}", "entry 'a' holds a bytes"),
        ("entries: {a: !!python/object/apply:os.system [ls]}", "neither YAML nor JSON"),
        ("entries: {a: {dispatch: {start: 2026-13-41}}}", "neither YAML nor JSON"),
        ("entries: {a: {[1]: 2}}", "neither YAML nor JSON"),
        ("entries: {a: {args: " + "[" * 5_000 + "]" * 5_000 + "}}", "nested too deeply"),
        ('{"entries": {"a": {"args": ' + "[" * 100_000 + "]" * 100_000 + "}}}", "nested too deeply"),
        ('{"entries": {"a": {"args": ' + "[" * 900 + "]" * 900 + "}}}", "nested too deeply"),
        ("entries: {a: {args: &it [*it]}}", "an alias that contains itself"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_a_cure(text: str, what: str) -> None:
    with pytest.raises(ControlError) as caught:
        read_definitions(text, source="schedules.yaml")
    assert "schedules.yaml" in str(caught.value)
    assert what in str(caught.value)
    assert caught.value.cure


# --- differences --------------------------------------------------------------------------------------------


def _fields(before: dict[str, Any], after: dict[str, Any]) -> tuple[Field, ...]:
    return fields_of(Planned("tick", Step.UPDATE, before, after))


def test_a_change_names_the_fields_that_differ() -> None:
    wanted = {**TICK, "schedule": {**TICK["schedule"], "every": 20}, "args": [1]}  # type: ignore[dict-item]
    assert _fields(TICK, wanted) == (Field("args", ABSENT, [1]), Field("schedule.every", 10, 20))
    assert _fields(TICK, dict(TICK)) == ()


@pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), (None, ABSENT), (1, 1.0)])
def test_values_that_json_tells_apart_differ(before: Any, after: Any) -> None:
    def definition(value: Any) -> dict[str, Any]:
        return {**TICK, "kwargs": {} if value is ABSENT else {"x": value}}

    assert _fields(definition(before), definition(after)) == (Field("kwargs.x", before, after),)


# --- moving out ---------------------------------------------------------------------------------------------


def _moved(**definition: Any) -> tuple[str, dict[str, Any]]:
    text = as_beat_schedule({"tick": {"task": "proj.tick", **definition}})
    names: dict[str, Any] = {}
    exec(compile(ast.parse(text), "<export>", "exec"), names)  # noqa: S102  # the module that a user would run
    return text, names["beat_schedule"]


@pytest.mark.parametrize(
    ("document", "made"),
    [
        ({"kind": "interval", "every": 0.5, "relative": False}, timedelta(seconds=0.5)),
        ({"kind": "interval", "every": 60, "relative": True}, schedule(timedelta(seconds=60), relative=True)),
        ({"kind": "crontab", "minute": "*/5", "hour": [8, 20]}, crontab(minute="*/5", hour=[8, 20])),
        ({"kind": "solar", "event": "sunset", "lat": 48.85, "lon": 2.35}, solar("sunset", 48.85, 2.35)),
    ],
)
def test_celerys_own_schedules_move_out(document: dict[str, Any], made: Any) -> None:
    _, found = _moved(schedule=document, args=[1], options={"queue": "q"}, dispatch={"catch_up": "all"})
    assert found == {"tick": {"task": "proj.tick", "schedule": made, "args": [1], "options": {"queue": "q"}}}


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        ({"schedule": {"kind": "cron", "expression": "* * * * * *"}}, "no schedule of the kind 'cron'"),
        ({"schedule": {"kind": "crontab", "timezone": "Asia/Tokyo"}}, "its time zone is its own"),
        ({**TICK, "dispatch": {"end": "2027-01-01T00:00:00Z", "labels": {}}}, "stock beat knows no end"),
    ],
)
def test_what_stock_beat_cannot_do_is_left_out_and_said(definition: dict[str, Any], why: str) -> None:
    text, found = _moved(**definition)
    assert found == {}
    assert why in text


def test_a_name_cannot_break_out_of_its_comment() -> None:
    text = as_beat_schedule({"a\nimport os": {"task": "t", "schedule": {"kind": "cron"}}})
    assert all(line.startswith("    #") for line in text.splitlines() if "import os" in line)
