from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.drills import points
from tests.drills.points import ARMED, PORTS, REACHED, Point


class Ledger:
    """Counts what reaches it."""

    calls = 0

    def claim(self, fence: object, claims: list[SimpleNamespace]) -> str:
        type(self).calls += 1
        return "done"


MESSAGE = [SimpleNamespace(commands=("LPUSH",), intent=None)]
ANCHORS = [SimpleNamespace(commands=(), intent=None)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "point"


@pytest.fixture
def harmed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[signal.Signals, int]]:
    """Each signal that the process would have sent itself, and how many calls had been carried out."""
    seen: list[tuple[signal.Signals, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: seen.append((number, Ledger.calls)))
    return seen


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, file: Path) -> Callable[[str], Ledger]:
    def install(point: str) -> Ledger:
        monkeypatch.setattr(Ledger, "claim", Ledger.claim)
        monkeypatch.setattr(Ledger, "calls", 0)
        monkeypatch.setitem(PORTS, "ledger.claim", (__name__, "Ledger.claim", 1, PORTS["ledger.claim"][3]))
        monkeypatch.setattr(points, "importlib", SimpleNamespace(import_module=lambda name: _here()))
        monkeypatch.setenv("DRILL_POINT", point)
        monkeypatch.setenv("DRILL_POINT_FILE", str(file))
        points.install()
        return Ledger()

    return install


def _here() -> SimpleNamespace:
    return SimpleNamespace(Ledger=Ledger)


def test_the_stated_call_is_counted_from_arming_and_calls_without_a_message_are_not(
    install: Callable[[str], Ledger], file: Path, harmed: list[tuple[signal.Signals, int]]
) -> None:
    ledger = install("ledger.claim:after:2:kill")
    ledger.claim(None, MESSAGE)
    file.write_text(ARMED)
    for claims in (ANCHORS, MESSAGE, ANCHORS):
        assert ledger.claim(None, claims) == "done"
    assert harmed == []
    ledger.claim(None, MESSAGE)
    ledger.claim(None, MESSAGE)
    assert (harmed, file.read_text()) == ([(signal.SIGKILL, 5)], REACHED)


@pytest.mark.parametrize("when, calls", [("before", 0), ("after", 1)])
def test_before_is_before_the_call_and_after_is_after_it(
    when: str,
    calls: int,
    install: Callable[[str], Ledger],
    file: Path,
    harmed: list[tuple[signal.Signals, int]],
) -> None:
    ledger = install(f"ledger.claim:{when}:1:pause")
    file.write_text(ARMED)
    ledger.claim(None, MESSAGE)
    assert harmed == [(signal.SIGSTOP, calls)]


@pytest.mark.parametrize(
    "text",
    ["ledger.claim:after:3", "ledger.read:after:3:kill", "ledger.claim:at:3:kill", "ledger.claim:after:3:x"],
)
def test_a_point_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"point|unpack"):
        Point.parse(text)


def test_every_port_has_the_method_that_is_wrapped() -> None:
    for module, path, *_ in PORTS.values():
        owner, method = path.split(".")
        kind = getattr(importlib.import_module(module), owner)
        assert callable(getattr(kind, method))
