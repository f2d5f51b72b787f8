"""What a deploy replaces: the entries and the settings that a beat is started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.drills.oracle import Cron, Era, Every, Rule, Schedule

__all__ = ["Release", "Spec", "every"]


@dataclass(frozen=True, slots=True)
class Spec:
    """An entry: when, and what else ``beat_schedule`` says of it."""

    rule: Rule
    options: Mapping[str, object] = field(default_factory=dict)
    dispatch: Mapping[str, object] = field(default_factory=dict)
    plain: bool = False  #: the interval is given as a number, not as a timedelta
    task: str = "drill.record"
    odd: str = ""  #: an argument that is ``lazy``, ``locked`` (which takes its time) or ``unserialisable``

    def item(self) -> dict[str, object]:
        found: dict[str, object] = {"schedule": self._schedule(), "task": self.task}
        if self.options:
            found["options"] = dict(self.options)
        if self.odd:
            found["odd"] = self.odd
        if self.dispatch:
            found["dispatch"] = dict(self.dispatch)
        return found

    def _schedule(self) -> dict[str, object]:
        if isinstance(self.rule, Cron):
            return {"cron": self.rule.expression}
        return {"every": self.rule.seconds, "relative": self.rule.relative, "plain": self.plain}


def every(count: int, seconds: float = 1.0) -> dict[str, Spec]:
    """``count`` entries, all due at once every ``seconds``."""
    return {f"entry-{number:02}": Spec(Every(seconds)) for number in range(count)}


@dataclass(frozen=True, slots=True)
class Release:
    """Entries and settings, and what the Celery app is called.

    ``user_code``: what a receiver of the app's own does when a message is published: it leaves a ``mark``,
    or takes a ``lock`` in Redis for it.
    """

    entries: Mapping[str, Spec]
    settings: Mapping[str, object] = field(default_factory=dict)
    app: str = "drill"
    user_code: str = ""

    @property
    def schedule(self) -> Schedule:
        """What the oracle reckons from."""
        return {name: spec.rule for name, spec in self.entries.items() if spec.odd != "unserialisable"}

    def era(self, since: int) -> Era:
        """This release in force from ``since`` on."""
        return Era(since, self.schedule, {name: self._queue(spec) for name, spec in self.entries.items()})

    @property
    def queues(self) -> set[str]:
        """Every queue that its messages go to."""
        return {self._queue(spec) for spec in self.entries.values()}

    def _queue(self, spec: Spec) -> str:
        routes: Any = self.settings.get("task_routes", {})
        return str(spec.options.get("queue") or routes.get(spec.task, {}).get("queue") or "celery")
