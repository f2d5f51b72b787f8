"""A fixed range of seeds, the plans that once failed, and the simulator itself."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from celery_dispatch.core.ports import Claim, ClaimResult
from celery_dispatch.testing import MemoryLedger
from tests.simulation.draw import draw
from tests.simulation.plan import Event, Plan, Settings, Spec
from tests.simulation.run import Outcome, run
from tests.simulation.shrink import shrink

ROOT = Path(__file__).parents[2]
PLANS = sorted((Path(__file__).parent / "plans").glob("*.json"))
LONG = (0, 10, 20, 40)  # weeks each, more than two thousand hours in all; see draw.py
DENSE = [seed for seed in range(1, 50) if seed % 10]


def _said(outcome: Outcome) -> str:
    seed = outcome.plan.seed
    return f"{outcome.wrong}\nagain: python -m tests.simulation {seed} --shrink --trace"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [*LONG, *DENSE])
def test_nothing_is_wrong_with(seed: int) -> None:
    outcome = run(draw(seed))

    assert not outcome.wrong, _said(outcome)
    assert outcome.fired > 0


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_what_once_was_wrong_is_right(file: Path) -> None:
    outcome = run(Plan.from_json(file.read_text()))

    assert not outcome.wrong, _said(outcome)


# --- the simulator ------------------------------------------------------------------------------------------

TRACE = """
import logging, sys
logging.disable(logging.CRITICAL)
from tests.simulation.draw import draw
from tests.simulation.run import run
print("\\n".join(line for seed in (1, 6, 9) for line in run(draw(seed)).trace))
"""


def _trace(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    ended = subprocess.run(
        [sys.executable, "-c", TRACE], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return ended.stdout


@pytest.mark.timeout(600)
def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    first, second = _trace("1"), _trace("2")

    assert first.count("\n") > 500
    assert hashlib.sha256(first.encode()).digest() == hashlib.sha256(second.encode()).digest()


def test_a_plan_is_the_same_after_a_round_trip_through_json() -> None:
    plans = [draw(seed) for seed in range(50)]

    assert [Plan.from_json(plan.to_json()) for plan in plans] == plans


def _quiet(*events: Event) -> Plan:
    configs = ((Spec("often", 1.0), Spec("seldom", 7.0, fixed=True, user_code=True)),)
    return Plan(7, Settings(), configs, events, quiet=60.0)


START_TWO = (Event(0.0, "start", "a0", detail="0"), Event(0.5, "start", "b0", detail="0"))


def test_in_calm_every_occurrence_is_sent_once_and_in_time() -> None:
    outcome = run(_quiet(*START_TWO))

    assert outcome.wrong == ()
    assert outcome.repeated == 0
    assert outcome.fired == pytest.approx((outcome.hours * 3600 - 4) * (1 + 1 / 7), abs=3)


def test_a_standby_helps_in_virtual_time_as_well() -> None:
    outcome = run(_quiet(*START_TWO, Event(30.0, "pause", "a0", seconds=8.0)))

    assert outcome.wrong == ()
    assert outcome.repeated == 0


@pytest.mark.timeout(600)
def test_a_plan_that_fails_is_made_smaller_and_still_fails() -> None:
    original = MemoryLedger._claim

    def without_comparing(self: MemoryLedger, claim: Claim, now: datetime | None) -> ClaimResult:
        return original(self, replace(claim, expected=self.store.cursors.get(claim.name)), now)

    with patch.object(MemoryLedger, "_claim", without_comparing):
        found = next(outcome for seed in DENSE if (outcome := run(draw(seed))).wrong)
        small = shrink(found, most=40)

        assert small.wrong
        assert len(small.plan.events) < len(found.plan.events)
        assert run(Plan.from_json(small.plan.to_json())).wrong == small.wrong
    assert not run(small.plan).wrong


# --- what makes it honest -----------------------------------------------------------------------------------

#: The modules of the core that may have a clock or a thread of their own.
OF_THIS_HOST = {"clock.py": {"time"}, "keeper.py": {"threading", "time"}}
HIDDEN = {"time", "threading", "random", "secrets", "uuid", "asyncio", "sched", "socket", "os"}


def test_the_core_has_no_clock_thread_or_chance_but_in_two_places() -> None:
    for file in sorted((ROOT / "celery_dispatch" / "core").rglob("*.py")):
        tree = ast.parse(file.read_text())
        imported = {name.split(".")[0] for node in ast.walk(tree) for name in _imports(node)}
        calls = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

        assert imported & HIDDEN == OF_THIS_HOST.get(file.name, set()), file
        assert not calls & {"utcnow", "today", "token_hex"}, file


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []
