"""Draws a plan from a seed.

Two kinds: *dense* ones, minutes with the default settings and entries due every few seconds, in which faults
meet each other; and *long* ones, weeks with slow settings, entries due every few hours and a fault now and
then, in which time itself is what may go wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from tests.simulation.plan import Config, Event, Plan, Settings, Spec

__all__ = ["draw"]

_CALLS = {
    "pool.heartbeat": 3,
    "pool.leave": 1,
    "ledger.read": 3,
    "ledger.claim": 6,
    "ledger.scan": 2,
    "intents.settle": 4,
    "intents.keep": 3,
    "intents.take_over": 3,
    "outbox.publish": 5,
}
_FAULTS = {
    "kill": 4,
    "pause": 4,
    "cut": 3,
    "deaf": 2,
    "flaky": 3,
    "point": 10,
    "drain": 2,
    "nobroker": 1,
    "down": 2,
    "away": 2,
    "restart": 2,
    "restore": 4,
    "flush": 3,
    "forget": 2,
    "step": 2,
    "broker": 1,
    "stop": 3,
    "start": 3,
    "deploy": 8,
}


def draw(seed: int) -> Plan:
    """The plan of ``seed``, always the same."""
    return _Drawing(seed).plan()


class _Drawing:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.kinds = Random(f"{seed} kinds")
        self.long = seed % 10 == 0
        self.settings = self._settings()
        self.length = random.uniform(100, 700) * 3600 if self.long else random.uniform(40, 180)
        self.configs = self._configs()
        self.live: list[str] = []  # as far as one can know beforehand
        self.started = dict.fromkeys("abcdefgh", 0)
        self.config = 0
        self.rows: dict[str, bool] = {}  # those that are defined at run time; whether they are held
        self.edition = 1000  # of the next definition
        self.events: list[Event] = []

    def plan(self) -> Plan:
        random = self.random
        for host in random.sample("abcde", random.choice([1, 2, 3, 3, 3, 4, 5])):
            self._begin(random.uniform(0, 3), host)
        quiet = 0.0
        for at in sorted(self._instants()):
            fault = random.choices(list(_FAULTS), list(_FAULTS.values()))[0]
            quiet = max(quiet, getattr(self, f"_{fault}")(at))
        for at in sorted(self._instants_of_edits()):
            quiet = max(quiet, self._edit(at))
        if not self.live:
            self._begin(self.length, random.choice("abc"))
        events = tuple(sorted(self.events, key=lambda event: event.at))
        return Plan(self.seed, self.settings, self.configs, events, quiet=max(quiet, self.length))

    def _instants(self) -> Iterator[float]:
        """When something happens: anywhere, and often close upon something else."""
        settle = 3 * self.settings.interval
        at = 0.0
        for _ in range(self.random.randint(1, 20 if self.long else 10)):
            if at and self.random.random() < 0.5:
                at = min(at + self.random.expovariate(1 / self.settings.interval), self.length)
            else:
                at = self.random.uniform(settle, self.length)
            yield round(at, 3)

    def _instants_of_edits(self) -> Iterator[float]:
        """Anywhere, and often while something else happens."""
        random, faults = self.random, [event.at for event in self.events]
        for _ in range(random.randint(0, 12)):
            at = random.choice(faults) + random.uniform(-1, 1) * self.settings.interval
            yield round(random.choice([at, random.uniform(0, self.length)]), 3) if at > 0 else 0.0

    def _settings(self) -> Settings:
        random = self.random
        scale = 150.0 if self.long else random.choice([1.0, 1.0, 1.0, 0.5])
        return Settings(
            interval=2.0 * scale,
            lease=10.0 * scale,
            handover=0.5 * scale,
            same_store=random.random() < 0.65,
            wakes=self.long or random.random() < 0.7,
        )

    # --- configs --------------------------------------------------------------------------------------------

    def _configs(self) -> tuple[Config, ...]:
        configs = [tuple(self._spec(f"e{i}") for i in range(self.random.randint(2, 6)))]
        for _ in range(2):
            configs.append(self._changed(configs[-1]))
        return tuple(configs)

    def _spec(self, name: str, edition: int = 0) -> Spec:
        random = self.random
        every = [3600.0, 7200.0, 43200.0, 86400.0] if self.long else [0.7, 1.0, 2.0, 5.0, 30.0]
        return Spec(
            name,
            random.choice(every),
            fixed=random.random() < 0.5,
            edition=edition,
            catch_up=random.choice(["all", "all", "latest", "none"]),
            user_code=random.random() < 0.3,
            **self._kind(),
        )

    def _kind(self) -> dict[str, Any]:
        """Most are plain; some have a jitter, some can only be asked."""
        chance = self.kinds.random()
        if chance < 0.15:
            return {"jitter": self.kinds.choice([0.2, 1.0, 10.0]) * (150 if self.long else 1)}
        return {"polled": True} if chance < 0.25 else {}

    def _changed(self, config: Config) -> Config:
        """Some entries stay, some change, some leave, and one comes."""
        edition = self.random.randint(1, 999)
        specs = [spec for spec in config if self.random.random() < 0.8]
        specs = [self._spec(s.name, edition) if self.random.random() < 0.3 else s for s in specs]
        return (*specs, self._spec(f"n{edition}"))

    # --- nodes ----------------------------------------------------------------------------------------------

    def _begin(self, at: float, host: str) -> None:
        name = f"{host}{self.started[host]}"
        self.started[host] += 1
        self.live.append(name)
        self._add(at, "start", name, detail=str(self.config))

    def _end(self, at: float, name: str, what: str) -> None:
        if name in self.live:
            self.live.remove(name)
        self._add(at, what, name)

    def _add(self, at: float, what: str, node: str = "", seconds: float = 0.0, detail: str = "") -> float:
        self.events.append(Event(round(at, 3), what, node, round(seconds, 3), detail))
        return at + abs(seconds)

    def _node(self) -> str:
        return self.random.choice(self.live) if self.live else "a0"

    def _span(self) -> float:
        """A while: shorter than a handover, than a lease, or longer."""
        settings = self.settings
        return self.random.choice(
            [settings.handover, settings.interval, settings.lease]
        ) * self.random.uniform(0.3, 2.5)

    # --- what may happen ------------------------------------------------------------------------------------

    def _kill(self, at: float) -> float:
        node = self._node()
        self._end(at, node, "kill")
        return self._again(at, node)

    def _stop(self, at: float) -> float:
        node = self._node()
        self._end(at, node, "stop")
        return self._again(at, node)

    def _again(self, at: float, node: str) -> float:
        """Mostly the process is started again, sooner or later."""
        if self.random.random() < 0.7:
            at += self.random.choice([0.2, self._span()])
            self._begin(at, node[0])
        return at

    def _start(self, at: float) -> float:
        if len(self.live) < 6:
            self._begin(at, self.random.choice("abcde"))
        return at

    def _pause(self, at: float) -> float:
        return self._add(at, "pause", self._node(), self._span())

    def _cut(self, at: float) -> float:
        return self._add(at, "cut", self._node(), self._span())

    def _nobroker(self, at: float) -> float:
        return self._add(at, "nobroker", self._node(), self._span())

    def _deaf(self, at: float) -> float:
        return self._add(at, "deaf", self._node(), self._span())

    def _flaky(self, at: float) -> float:
        detail = f"{self.random.choice(['before', 'after'])} {self.random.choice([0.1, 0.3, 0.6])}"
        return self._add(at, "flaky", self._node(), self._span(), detail)

    def _point(self, at: float) -> float:
        """Harm at one very instruction."""
        call = self.random.choices(list(_CALLS), list(_CALLS.values()))[0]
        moment, what = self.random.choice(["before", "after"]), self.random.choice(["kill", "pause", "lose"])
        node = self._node()
        seconds = 0.0 if what == "kill" else self._span()
        self._add(at, "point", node, seconds, f"{call} {moment} {what}")
        if what == "kill":
            self.live = [name for name in self.live if name != node]
            return self._again(at + self.settings.lease, node)
        return at + self.settings.lease + seconds

    def _drain(self, at: float) -> float:
        node, until = self._node(), at + self._span() * 3
        self._add(at, "drain", node)
        self._add(until, "undrain", node)
        return until

    def _down(self, at: float) -> float:
        return self._add(at, "down", seconds=self._span())

    def _away(self, at: float) -> float:
        return self._add(at, "away", seconds=self._span())

    def _restart(self, at: float) -> float:
        return self._add(at, "restart")

    def _restore(self, at: float) -> float:
        self._add(at, "restore", seconds=min(self._span(), at))
        return at

    def _flush(self, at: float) -> float:
        return self._add(at, "flush")

    def _forget(self, at: float) -> float:
        return self._add(at, "forget", detail=self.random.choice(self.configs[self.config]).name)

    def _step(self, at: float) -> float:
        until = self._add(at, "step", seconds=self._span() * self.random.choice([-1, 1]))
        if self.random.random() < 0.3:
            self._add(until, "reset", detail=self.random.choice(self.configs[self.config]).name)
        return until

    def _broker(self, at: float) -> float:
        return self._add(at, "broker", seconds=self._span())

    def _edit(self, at: float) -> float:
        """What is fired is changed at run time: some entry, one of the config, or all."""
        random = self.random
        if random.random() < 0.25:
            name = "" if random.random() < 0.3 else random.choice(self.configs[self.config]).name
            until = at + self._span()
            self._add(at, "hold", detail=name)
            return self._add(until, "release", detail=name)
        name = f"r{random.randint(0, 2)}"
        if name not in self.rows:
            return self._define(at, "create", name)
        what = random.choice(["update", "delete", "release" if self.rows[name] else "hold"])
        if what == "update":
            return self._define(at, what, name)
        if what == "delete":
            del self.rows[name]
        else:
            self.rows[name] = what == "hold"
        return self._add(at, what, detail=name)

    def _define(self, at: float, what: str, name: str) -> float:
        self.edition += 1
        self.rows.setdefault(name, False)
        return self._add(at, what, detail=self._spec(name, self.edition).text)

    def _deploy(self, at: float) -> float:
        """Another config goes through the pool: one by one, all at once, or a canary that is taken back."""
        config = self.random.choice([c for c in range(len(self.configs)) if c != self.config])
        manner = self.random.choice(["rolling", "rolling", "surge", "recreate", "canary"])
        before, self.config = self.config, config
        pace = self.random.choice([0.3, 1.2]) * self.settings.lease
        olds: Sequence[str] = list(self.live)
        if manner == "canary":
            self._begin(at, "h")
            self.config = before
            canary, until = self.live[-1], at + self._span() * 2
            self._end(until, canary, self.random.choice(["stop", "kill"]))
            return until
        if manner == "recreate":
            for node in olds:
                self._end(at, node, self.random.choice(["stop", "stop", "kill"]))
            at += self.random.choice([0.1, pace])
        for node in olds:
            self._begin(at, node[0])
            if manner == "rolling":
                self._end(at + self.random.uniform(0, pace), node, "stop")
            at += 0.0 if manner == "surge" else pace
        if manner == "surge":
            for node in olds:
                self._end(at + pace * 2, node, "stop")
            at += pace * 2
        return at + pace
