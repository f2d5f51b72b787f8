"""What happens while schedules are created, changed, paused and deleted, and their beats come to harm.

Whoever changes them talks to Redis through a proxy of its own, which loses replies: then it is unknown
whether the change took place, and what it would bring may come or not (``changes``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from celery import Celery

from celery_dispatch import Schedules, cron
from celery_dispatch.errors import StoreError, UnknownSchedule
from tests.drills.changes import Change, judge_changes
from tests.drills.node_faults import handover
from tests.drills.oracle import Clock
from tests.drills.proxy import Proxy
from tests.drills.stage import Stage

__all__ = ["NAMES", "changed_live"]

NAMES = tuple(f"live-{number}" for number in range(8))
_LOSSES = 0.2  # of all changes
_PAUSE = 0.15  # seconds between two changes


class _Editor:
    """Somebody who changes one schedule after the other, at random, and writes down what is known of it."""

    def __init__(self, stage: Stage, schedules: Schedules, cable: Proxy) -> None:
        self._stage, self._schedules, self._cable = stage, schedules, cable
        self._chance = random.Random(4)
        self._rules: dict[str, Clock] = {}  # of those that are there
        self._paused: set[str] = set()
        self._unknown: set[str] = set()
        self.changes: list[Change] = []

    def edit(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._edit(self._chance.choice(NAMES))
            self._stage.run_on(_PAUSE)

    def clear(self) -> None:
        """Delete all that is there, and all that may be."""
        self._cable.heal()
        for name in NAMES:
            while name in self._rules or name in self._unknown:
                self._delete(name)

    @property
    def unanswered(self) -> int:
        return sum(change.answered is None for change in self.changes)

    def _edit(self, name: str) -> None:
        if self._chance.random() < _LOSSES:
            self._cable.drop_reply(after=self._chance.choice([b"", b"EVALSHA"]))
        if name in self._unknown:
            self._delete(name)
        elif name not in self._rules:
            self._create(name)
        elif name in self._paused:
            self._chance.choice([self._resume, self._delete])(name)
        else:
            self._chance.choice([self._update, self._pause, self._delete])(name)

    def _create(self, name: str) -> None:
        rule = Clock(1)
        self._rules[name] = rule
        self._change(
            name,
            rule,
            lambda: self._schedules.create(
                name, task="drill.record", schedule=_schedule(rule), args=(name,), allow_unknown_task=True
            ),
        )

    def _update(self, name: str) -> None:
        rule = Clock(3 - self._rules[name].step)
        self._rules[name] = rule
        self._change(name, rule, lambda: self._schedules.update(name, schedule=_schedule(rule)))

    def _pause(self, name: str) -> None:
        self._paused.add(name)
        self._change(name, None, lambda: self._schedules.pause(name))

    def _resume(self, name: str) -> None:
        self._paused.discard(name)
        self._change(name, self._rules[name], lambda: self._schedules.resume(name))

    def _delete(self, name: str) -> None:
        self._rules.pop(name, None)
        self._paused.discard(name)
        self._change(name, None, lambda: self._schedules.delete(name))

    def _change(self, name: str, rule: Clock | None, carry_out: Callable[[], object]) -> None:
        asked = self._stage.now()
        try:
            carry_out()
        except UnknownSchedule:  # of one that was to be deleted
            pass
        except StoreError:
            self._unknown.add(name)
            self._rules.pop(name, None)
            self.changes.append(Change(name, rule, asked, None))
            return
        self._unknown.discard(name)
        self.changes.append(Change(name, rule, asked, self._stage.now()))


def changed_live(stage: Stage) -> None:
    """Eight schedules are changed all the time, while a beat sleeps through changes and another is killed."""
    handover(stage)
    stage.elsewhere.update(NAMES)
    parts = urlsplit(stage.ground.url)
    with Proxy((parts.hostname or "", parts.port or 0)) as cable, Schedules(_app(stage, cable)) as schedules:
        editor = _Editor(stage, schedules, cable)
        editor.edit(0.5 * stage.lease)
        sleeper = stage.cluster.beats["node-3"].process
        stage.at_a_due()
        sleeper.pause()
        stage.note("SIGSTOP to node-3")
        editor.edit(0.8 * stage.lease)
        stage.at_a_due()
        sleeper.resume()
        stage.note("SIGCONT to node-3")
        editor.edit(0.5 * stage.lease)
        stage.at_a_due()
        stage.cluster.beats["node-2"].process.kill()
        stage.note("SIGKILL to node-2")
        editor.edit(1.2 * stage.lease)
        stage.cluster.wait_for_nodes(2)
        stage.note(f"node-2 trimmed; {len(editor.changes)} changes, {editor.unanswered} without an answer")
        editor.clear()
    stage.run_on(0.6 * stage.lease)
    _judge(stage, editor)


def _judge(stage: Stage, editor: _Editor) -> None:
    arrivals = [it for it in stage.collector.arrivals if it.entry in NAMES]
    verdict = judge_changes(
        editor.changes, arrivals, until=stage.now(), handover=round(stage.bound)
    )  # fmt: skip
    stage.note(f"{verdict.must} of them had to come, {verdict.sent} of {verdict.may} others came")
    stage.complaints += [f"changed schedules: {problem}" for problem in verdict.problems]
    if not editor.unanswered:
        stage.complaints.append("no reply to a change was lost")


def _app(stage: Stage, cable: Proxy) -> Celery:
    """The app of the editor, whose dispatch Redis is at the end of the cable."""
    app, url = Celery("drill", set_as_current=False), f"redis://127.0.0.1:{cable.port}/0"
    broker = {"broker_url": url} if stage.ground.broker is None else {}
    app.conf.update({**stage.cluster.settings, **broker, "dispatch_redis_url": url})
    return app


def _schedule(rule: Clock) -> cron:
    return cron(f"*/{rule.step} * * * * *", timezone="UTC")
