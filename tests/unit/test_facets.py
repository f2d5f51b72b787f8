"""Which entry and which field two configs differ in."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.schedules import crontab

from celery_dispatch.celery_bridge.entries import catalog_of
from celery_dispatch.celery_bridge.facets import Difference, differences, facets_of
from celery_dispatch.config import Config

TICK: dict[str, Any] = {"task": "proj.tick", "schedule": 10.0, "args": (1,), "options": {"queue": "q"}}


def facets(schedule: dict[str, Any], **settings: Any) -> dict[str, str]:
    app = Celery("proj", broker="redis://127.0.0.1:6379/0", set_as_current=False)
    app.conf.update(result_expires=None, beat_schedule=schedule, **settings)
    config = Config.from_app(app)
    return facets_of(app, catalog_of(app, config), config)


def test_equal_configs_do_not_differ() -> None:
    assert differences(facets({"tick": TICK}), facets({"tick": {**TICK, "args": [1]}})) == ()


def test_each_field_of_an_entry_is_told_apart() -> None:
    changes: dict[str, Any] = {
        "task": "proj.tock",
        "schedule": 11.0,
        "args": (2,),
        "kwargs": {"a": 1},
        "options": {"queue": "r"},
        "dispatch": {"catch_up": "all"},
    }
    for field, value in changes.items():
        other = facets({"tick": {**TICK, field: value}})
        assert differences(facets({"tick": TICK}), other) == (Difference("tick", (field,)),)


def test_entry_of_one_config_only_is_named_with_its_side() -> None:
    both, one = facets({"tick": TICK, "tock": TICK}), facets({"tick": TICK})
    assert differences(both, one) == (Difference("tock", only_first=True),)
    assert differences(one, both) == (Difference("tock"),)


def test_settings_that_route_come_before_entries() -> None:
    ours = facets({"tick": TICK}, task_compression="gzip", broker_transport_options={"sep": ":"})
    theirs = facets({"tick": {**TICK, "task": "x.y"}}, task_compression="bzip2", dispatch_catch_up="all")
    assert differences(ours, theirs) == (
        Difference("", ("broker_transport_options['sep']",)),
        Difference("", ("dispatch_catch_up",)),
        Difference("", ("task_compression",)),
        Difference("tick", ("task",)),
    )


def test_time_zone_differs_in_what_depends_on_it() -> None:
    schedule = {"nightly": {"task": "x.y", "schedule": crontab(hour=3)}, "tick": TICK}
    there = facets(schedule, timezone="Europe/Madrid")
    assert differences(facets(schedule), there) == (
        Difference("", ("timezone",)),
        Difference("nightly", ("schedule",)),
    )


def test_entry_that_cannot_be_used_in_one_of_them_is_said_to_be_so() -> None:
    (found,) = differences(facets({"tick": TICK}), facets({"tick": {**TICK, "schedule": "never"}}))
    assert (found.entry, found.fields) == ("tick", ("whether it can be used",))


def test_arguments_that_contain_themselves_spoil_only_their_entry() -> None:
    endless: list[Any] = []
    endless.append(endless)
    rows = facets({"tick": TICK, "endless": {**TICK, "args": (endless,)}})
    assert rows["entry:endless"] == "broken"
    assert rows["entry:tick"] == facets({"tick": TICK})["entry:tick"]


def test_what_is_sent_cannot_be_read_from_the_facets() -> None:
    assert "proj" not in str(facets({"tick": TICK}))
