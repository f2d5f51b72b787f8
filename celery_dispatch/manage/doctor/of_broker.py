"""How the messages reach the broker."""

from __future__ import annotations

from collections.abc import Iterator

from celery_dispatch.manage.doctor.findings import Area, Finding
from celery_dispatch.manage.doctor.snapshot import Route, Snapshot
from celery_dispatch.manage.reports import Severity
from celery_dispatch.manage.words import counted, listed, sentence

__all__ = ["check_broker"]


def check_broker(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the broker is there, and which entries take one write or two steps."""
    routes = snapshot.routes
    if routes is None:
        return
    if routes.error:
        yield Finding(
            Area.BROKER,
            Severity.ERROR,
            "The broker cannot be used from this host.",
            (routes.error,),
            "Is it running, and is broker_url right? Beats that cannot reach it fire nothing and catch up.",
        )
    for route in routes.routes:
        yield _route(route)


def _route(route: Route) -> Finding:
    shown = (listed(route.names, len(route.names)),)
    if route.one_write:
        return Finding(
            Area.BROKER,
            Severity.NOTE,
            f"{counted(route.count, 'entry')} of beat_schedule: claim and message are one write. No fault "
            "can double or lose an occurrence between them.",
        )
    more = route.count - len(route.names)
    return Finding(
        Area.BROKER,
        Severity.NOTE,
        f"{counted(route.count, 'entry')} of beat_schedule: two steps, because {sentence(route.why)}",
        (*shown, f"and {more:,} more") if more else shown,
        "Nothing. A fault between claim and message may repeat a message, under the same task id.",
    )
