"""A plan is data: what runs, under which settings, and what happens to it when.

The same plan always gives the same run.  It can be written down as JSON, and what was drawn from a seed can
be made smaller and still be the same kind of thing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from celery_dispatch.core.entry import Catalog, CatchUp, Entry
from tests.simulation.grid import Asked, Grid

__all__ = ["Config", "Event", "Plan", "Settings", "Spec"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One entry of a config, or one that is created at run time.

    ``user_code``: publishing it runs code of the user.  ``jitter`` is in seconds.  ``polled``: it can only be
    asked whether it is due.
    """

    name: str
    every: float
    fixed: bool = False
    edition: int = 0
    catch_up: str = "all"
    user_code: bool = False
    jitter: float = 0.0
    polled: bool = False

    @property
    def definition(self) -> str:
        more = f"j{self.jitter}p{int(self.polled)}" if self.jitter or self.polled else ""
        kind = "f" if self.fixed else "i"
        return f"{self.every}{kind}{self.edition}{self.catch_up}{int(self.user_code)}{more}"

    @property
    def grid(self) -> Grid:
        return Grid(self.every, self.fixed)

    @property
    def entry(self) -> Entry:
        return Entry(
            self.name,
            Asked(self.every) if self.polled else self.grid,
            self.definition,
            catch_up=CatchUp(self.catch_up),
            payload=self,
            jitter=timedelta(seconds=self.jitter),
        )

    @property
    def text(self) -> str:
        """The definition as a row holds it."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_text(text: str) -> Spec:
        """The inverse of ``text``."""
        return Spec(**json.loads(text))


Config = tuple[Spec, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds; ``same_store``: the broker is the pool's own store; ``wakes``: nodes are told of a change."""

    interval: float = 2.0
    lease: float = 10.0
    handover: float = 0.5
    same_store: bool = True
    wakes: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """What happens at ``at`` seconds; ``run`` has a method for each ``what``, which says what the rest is."""

    at: float
    what: str
    node: str = ""
    seconds: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        rest = [self.what, self.node, f"{self.seconds:g} s" if self.seconds else "", self.detail]
        return f"{self.at:10.3f}  " + " ".join(word for word in rest if word)


@dataclass(frozen=True, slots=True)
class Plan:
    """``quiet``: when the last harm is over; in the time that follows everything has to come right."""

    seed: int
    settings: Settings
    configs: tuple[Config, ...]
    events: tuple[Event, ...]
    quiet: float

    @property
    def until(self) -> float:
        """When the run ends: long enough after the last harm for leases, votes and recoveries to settle."""
        return self.quiet + 6 * self.settings.lease + 12 * self.settings.interval

    def catalog(self, config: int) -> Catalog:
        """The catalog of the nodes that run ``config``."""
        return Catalog(f"v{config}", {spec.name: spec.entry for spec in self.configs[config]})

    def with_events(self, events: tuple[Event, ...]) -> Plan:
        return replace(self, events=events)

    def to_json(self) -> str:
        """One line per event, readable and complete."""
        document = asdict(self)
        events = [json.dumps(_sparse(event)) for event in document.pop("events")]
        configs = [json.dumps(config) for config in document.pop("configs")]
        head = json.dumps(document)[:-1]
        return (
            head
            + ', "configs": [\n  ' + ",\n  ".join(configs)
            + '\n], "events": [\n  ' + ",\n  ".join(events) + "\n]}"
        )  # fmt: skip

    @staticmethod
    def from_json(text: str) -> Plan:
        """The inverse of ``to_json``."""
        document: dict[str, Any] = json.loads(text)
        return Plan(
            seed=document["seed"],
            settings=Settings(**document["settings"]),
            configs=tuple(tuple(Spec(**spec) for spec in config) for config in document["configs"]),
            events=tuple(Event(**event) for event in document["events"]),
            quiet=document["quiet"],
        )


def _sparse(event: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in event.items() if value not in ("", 0.0) or key == "at"}
