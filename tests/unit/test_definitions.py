"""Definitions as JSON: what Redis holds of an entry."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from celery.beat import BeatLazyFunc
from celery.schedules import crontab, schedule

from celery_dispatch.celery_bridge.definitions import Definitions
from celery_dispatch.config import Config
from celery_dispatch.errors import EntryError


def definitions(**conf: Any) -> Definitions:
    app = Celery("t", broker="redis://", set_as_current=False)
    app.conf.update(**conf)
    return Definitions(app, Config.from_app(app))


def item(**changed: Any) -> dict[str, Any]:
    return {"task": "t.a", "schedule": 5, **changed}


def test_schedule_may_be_a_document() -> None:
    of = definitions()
    written = of.entry("a", item(schedule={"kind": "crontab", "minute": "*/5", "timezone": "Asia/Tokyo"}))
    shared = of.entry("b", item(schedule={"kind": "crontab", "minute": "*/5", "timezone": "Asia/Tokyo"}))
    assert written.definition == shared.definition
    assert of.entry("a", item(schedule={"kind": "interval", "every": 5})).definition == (
        of.entry("a", item()).definition
    )


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"schedule": timedelta(seconds=1.5)},
        {"schedule": schedule(60), "relative": True},
        {"schedule": crontab(minute={5, 3}), "args": (1, [2, (3,)]), "kwargs": {"a": {"b": None}}},
        {"options": {"queue": "q", "headers": {"x": 1}, "expires": 2.5, "retry_policy": {"max_retries": 3}}},
        {"dispatch": {"catch_up": "all", "catch_up_window": timedelta(minutes=1)}},
    ],
)
def test_entry_made_of_the_document_equals_that_of_the_item(changed: dict[str, Any]) -> None:
    of = definitions()
    document = of.document("a", item(**changed))
    reread = json.loads(json.dumps(document))
    assert reread == document
    again, entry = of.entry("a", reread), of.entry("a", item(**changed))
    assert replace(again, payload=None) == replace(entry, payload=None)
    assert of.document("a", reread) == document


def test_what_is_empty_is_left_out_of_the_document() -> None:
    given = item(args=(), kwargs={}, options={}, dispatch={})
    assert definitions().document("a", given) == {
        "task": "t.a",
        "schedule": {"kind": "interval", "every": 5, "relative": False},
    }


def contains_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"args": [{1, 2}]}, r"args\[0\] = \{1, 2\}: JSON cannot carry a set; use"),
        ({"kwargs": {"a": [b"x"]}}, r"kwargs\['a'\]\[0\] = b'x': JSON cannot carry a bytes"),
        ({"kwargs": {"a": {1: 2}}}, r"kwargs\['a'\]: the key 1 is a int; use text"),
        ({"args": [float("nan")]}, r"args\[0\] = nan: JSON cannot carry"),
        ({"args": ["\ud800"]}, r"args\[0\] = '\\ud800': cannot be written as UTF-8"),
        ({"options": {"expires": timedelta(1)}}, r"options\['expires'\] = .*: JSON cannot carry a timedelta"),
        ({"args": contains_itself()}, "contain themselves"),
        ({"schedule": type("own", (schedule,), {})(5)}, "a own cannot be written as JSON"),
        ({"schedule": {"kind": "solr"}}, "schedule kind = 'solr': did you mean 'solar'"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_place_and_cure(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(EntryError, match=said):
        definitions().document("a", item(**changed))


def test_arguments_that_are_changed_in_place_do_not_change_the_entry() -> None:
    lazy = BeatLazyFunc(list)
    given = item(args=[[1], lazy], kwargs={"a": {"b": [1]}}, options={"headers": {"tenant": "x"}})
    payload: Any = definitions().entry("a", given).payload
    given["args"][0].append(2)
    given["kwargs"]["a"]["b"].append(2)
    given["options"]["headers"]["tenant"] = "y"
    given["options"]["queue"] = "other"
    assert list(payload.args) == [[1], lazy]
    assert payload.args[1] is lazy
    assert payload.kwargs == {"a": {"b": [1]}}
    assert payload.options == {"headers": {"tenant": "x"}}
