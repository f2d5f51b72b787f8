"""What the checks are worth: the product is broken, one thing at a time, and something must notice.

``python -m tests.simulation.mutations [NAME ...]`` breaks a copy of the sources by each mutation (or by those
named) and runs the simulation on it.  Where the thing has a second home, in a Lua script or beside one, it is
broken there too, and the contract test that guards it runs on a real server.  Prints who noticed, as the rows
of the table in the docs.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MUTATIONS", "Edit", "Mutation", "broken", "noticed_by_contract", "noticed_by_simulation"]

_ROOT = Path(__file__).parents[2]
_CORE, _MEMORY, _REDIS = "celery_dispatch/core/", "celery_dispatch/testing/", "celery_dispatch/redis_store/"
_LUA = _REDIS + "lua/"


@dataclass(frozen=True, slots=True)
class Edit:
    """``old``, which stands once in the file, becomes ``new``."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """``plan`` is simulated if there is one, else ``seeds`` (FROM:TO) until one fails.

    ``contract`` is a test among those of the contracts, or one of a unit, where there is one.
    """

    name: str
    what: str
    edits: tuple[Edit, ...]
    plan: str = ""
    seeds: str = "1:60"
    contract: str = ""


#: The five that this project promised to be checked against come first.
MUTATIONS = (
    Mutation(
        "claim-compare",
        "a claim does not compare the cursor",
        (
            Edit(_MEMORY + "ledger.py", "if stored != claim.expected or not (", "if not ("),
            Edit(_LUA + "claim.lua", "if not is(stored, expected) or (words", "if (words"),
        ),
        contract="test_ledger.py::test_of_two_nodes_with_one_occurrence_one_wins",
    ),
    Mutation(
        "early-guard",
        "a claim is not held against the server's time",
        (
            Edit(
                _MEMORY + "ledger.py", "if now is not None and not_before(claim) > to_ms(now):", "if False:"
            ),
            Edit(_LUA + "claim.lua", "if due > now then", "if false then"),
        ),
        plan="clock-goes-back",
        contract="test_ledger.py::test_an_occurrence_that_is_not_due_by_the_servers_clock_is_early",
    ),
    Mutation(
        "intents-left",
        "intents are never recovered",
        (
            Edit(
                _CORE + "delivery.py",
                "        if not self._must_look and now < self._look_at:\n",
                "        if now > 0.0:\n",
            ),
            Edit(_LUA + "take_over.lua", "enter_missing()\nlook()\n", "enter_missing()\n"),
        ),
        plan="dies-after-its-claim",
        contract="test_intents.py::test_the_intents_of_a_node_that_is_gone_are_taken_over",
    ),
    Mutation(
        "lease-by-local-clock",
        "the lease is trimmed by the clock of the host that beats",
        (
            Edit(_CORE + "pool.py", "info=self._info(),", 'info={"local": self._clock.monotonic()},'),
            Edit(
                _MEMORY + "pool.py",
                "if member.lease_end <= self._now]",
                'if (member.lease_end - self._now).total_seconds() <= self._beat.info["local"] - 5e5]',
            ),
            Edit(
                _REDIS + "pool_scripts.py",
                "from typing import Any\n",
                "import time\nfrom typing import Any\n",
            ),
            Edit(
                _REDIS + "pool_scripts.py",
                'to_ms(beat.swept) if beat.swept else "",',
                'to_ms(beat.swept) if beat.swept else "", int(time.time() * 1000),',
            ),
            Edit(
                _LUA + "heartbeat.lua",
                "'ZRANGEBYSCORE', nodes, '-inf', text(now))",
                "'ZRANGEBYSCORE', nodes, '-inf', ARGV[#ARGV])",
            ),
        ),
        contract="test_pool.py::test_the_clock_of_a_nodes_host_decides_nothing",
    ),
    Mutation(
        "error-is-empty-pool",
        "an error is read as an empty pool",
        (
            Edit(
                _CORE + "pool.py",
                "self.refused = error\n            raise\n",
                "self.refused = error\n            return self._take(replace(self._pulse, members=()))\n",
            ),
            Edit(
                _CORE + "pool.py",
                "        return self._take(pulse)\n\n    def leave",
                "        self._pulse = pulse\n        return self._take(pulse)\n\n    def leave",
            ),
            Edit(
                _CORE + "pool.py",
                "from dataclasses import dataclass\n",
                "from dataclasses import dataclass, replace\n",
            ),
            Edit(
                _REDIS + "pool.py",
                "        return self._scripts.heartbeat(beat, known_epoch)\n",
                "        try:\n"
                "            return self._scripts.heartbeat(beat, known_epoch)\n"
                "        except Exception:\n"
                "            return Pulse(from_micros(0), '', None, None, '', '', ())\n",
            ),
        ),
        plan="cut-for-a-moment",
        contract="test_pool.py::test_a_server_that_went_away_is_unavailable_and_then_the_same_pool_recovers",
    ),
    Mutation(
        "fence",
        "a claim is not held against the config in force",
        (
            Edit(_MEMORY + "ledger.py", "    if recovery or store.fence == fence:\n", "    if True:\n"),
            Edit(
                _LUA + "claim.lua",
                "  if recovery ~= '' or (config == ARGV[1] and since == ARGV[2]) then\n",
                "  if true then\n",
            ),
        ),
        plan="sleeps-through-a-switch",
        contract="test_ledger.py::test_a_lease_after_a_switch_the_old_config_claims_nothing",
    ),
    Mutation(
        "claims-while-recovering",
        "claims are allowed while the pool recovers",
        (
            Edit(
                _MEMORY + "ledger.py",
                "    if store.recovery != recovery:\n",
                "    if recovery and store.recovery != recovery:\n",
            ),
        ),
    ),
    Mutation(
        "no-recovery",
        "a server that came back with older data is not noticed",
        (
            Edit(
                _MEMORY + "pool.py",
                'elsewhere = store.seen_on not in ("", store.server)',
                "elsewhere = False",
            ),
            Edit(_MEMORY + "ledger.py", "if store.seen_on != store.server:", "if not store.seen_on:"),
        ),
    ),
    Mutation(
        "nothing-merged",
        "a node says that it has merged, and puts nothing back",
        (Edit(_CORE + "recovery.py", "again = self._merge(now, fence) if now else []", "again = []"),),
    ),
    Mutation(
        "lower-cursor",
        "a node takes over a cursor that is behind what it knows",
        (
            Edit(
                _CORE + "recovery.py",
                "    return isinstance(stored, Cursor) and _progress(stored) < _progress(known)",
                "    return False",
            ),
        ),
    ),
    Mutation(
        "attempt-token",
        "an intent is settled whoever has it by now",
        (
            Edit(
                _MEMORY + "ledger.py",
                "return isinstance(stored, Intent) and stored.token == intent.token",
                "return isinstance(stored, Intent)",
            ),
            Edit(
                _LUA + "settle.lua",
                "  if not row or row:sub(1, 16) ~= token then\n",
                "  if not row then\n",
            ),
        ),
        contract="test_intents.py::test_only_the_attempt_that_is_stored_is_settled",
    ),
    Mutation(
        "unknown-is-won",
        "a claim without an answer is taken for one that was won",
        (
            Edit(
                _CORE + "firing.py",
                "            bid.item.attempt = bid\n",
                "            bid.item.attempt = bid\n            bid.item.cursor = bid.claim.wanted\n",
            ),
        ),
    ),
    Mutation(
        "no-standby",
        "nobody helps an owner that does not fire",
        (
            Edit(
                _CORE + "alarms.py",
                "item.fires_at + self._patience.handover if helps",
                "item.fires_at + 40 * self._patience.handover if helps",
            ),
        ),
    ),
    Mutation(
        "published-forgotten",
        "a node does not remember what it has published",
        (Edit(_CORE + "delivery.py", "        self._published[parcel.key] = None\n", ""),),
        plan="intents-come-back",
    ),
    Mutation(
        "no-sweep",
        "cursors are not brought in line with the config in force",
        (
            Edit(
                _CORE + "sweep.py",
                "        if claims:\n            self._ledger.claim",
                "        if not claims:\n            self._ledger.claim",
            ),
        ),
    ),
    Mutation(
        "switch-at-once",
        "a switch is not written ahead",
        (
            Edit(
                _MEMORY + "election.py",
                "self.put_in_force(leader, now + interval + handover)",
                "self.put_in_force(leader, now)",
            ),
            Edit(
                _LUA + "heartbeat.lua",
                "  put_in_force(first, now + interval + handover, lease)\n",
                "  put_in_force(first, now, lease)\n",
            ),
        ),
        contract="test_pool_vote.py::test_a_switch_is_written_ahead_and_the_config_before_it_stays_"
        "claimable_for_a_lease",
    ),
    Mutation(
        "catch-up-skips",
        "catch-up skips what it should fire",
        (
            Edit(
                _CORE + "catchup.py",
                "return Plan(due, fires_at)\n    return _skip",
                "return _skip(entry, due, due, reason)\n    return _skip",
            ),
        ),
    ),
    Mutation(
        "left-for-anybody",
        "an intent that nobody rendered is not left to the nodes of its config",
        (
            Edit(
                _CORE + "pool.py",
                "due_from=own.since if own and role is Role.IN_FORCE and self._has_outgoing(pulse) else None",
                "due_from=None",
            ),
        ),
        contract="../unit/test_switch.py::test_what_a_node_of_the_config_before_left_half_made_is_made_by_another_of_them",
    ),
    Mutation(
        "before-not-remembered",
        "nodes do not remember the config before the one in force",
        (Edit(_CORE + "pool.py", "remembered_before=self._remembered_before,", "remembered_before=None,"),),
        contract="../unit/test_switch.py::test_a_redis_emptied_between_announcement_and_switch_costs_neither_config_anything",
    ),
    Mutation(
        "outage-counts",
        "time in which nobody could claim counts for what was due before a switch",
        (
            Edit(
                _MEMORY + "pool.py",
                "            store.before_until, store.reopened = store.before_until + idle, now\n",
                "            store.reopened = now\n",
            ),
            Edit(
                _LUA + "heartbeat.lua",
                "    it.before_until, it.reopened = it.before_until + idle, now\n",
                "    it.reopened = now\n",
            ),
        ),
        plan="outage-over-a-switch",
        contract="test_pool_outage.py::test_a_silence_over_the_switch_leaves_a_whole_lease",
    ),
    Mutation(
        "not-left-its-time",
        "after an outage the new config goes first",
        (
            Edit(
                _CORE + "node.py",
                "return max(own.since, self._back_at or own.since, heard_of or own.since)",
                "return own.since",
            ),
        ),
        plan="away-over-a-switch",
    ),
    Mutation(
        "row-unknown",
        "an entry is fired by a row that is not the one its cursor stands under",
        (
            Edit(
                _CORE + "timeline.py",
                "return self.replaced or self.cursor.change != "
                "(self.row.version if self.row is not None else 0)",
                "return False",
            ),
        ),
    ),
    Mutation(
        "pauses-unseen",
        "what is due in a pause is fired",
        (
            Edit(
                _CORE + "firing.py",
                "        return (item.row.pause if item.row is not None else None), halt\n",
                "        return ()\n",
            ),
        ),
    ),
    Mutation(
        "rows-not-put-back",
        "a recovery does not put rows back",
        (
            Edit(
                _MEMORY + "rows.py",
                "            store.rows.update(lost)\n",
                "",
            ),
        ),
    ),
    Mutation(
        "sweep-not-awaited",
        "a vote does not wait for the sweep after the last switch",
        (
            Edit(
                _MEMORY + "election.py",
                "timedelta(0) if store.swept == fence.since else 2 * self._lease",
                "timedelta(0)",
            ),
            Edit(
                _LUA + "heartbeat.lua",
                "  return it.before_until + (it.swept == it.since and 0 or 2 * lease)\n",
                "  return it.before_until\n",
            ),
        ),
        contract="test_pool_vote.py::test_a_switch_back_waits_for_the_sweep_as_soon_as_that_is_said",
    ),
)


@contextmanager
def broken(mutation: Mutation) -> Iterator[Path]:
    """A copy of the sources and tests with the mutation in it."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for name in ("celery_dispatch", "tests"):
            shutil.copytree(_ROOT / name, copy / name)
        shutil.copy(_ROOT / "pyproject.toml", copy)
        for edit in mutation.edits:
            file = copy / edit.path
            text = file.read_text()
            if text.count(edit.old) != 1:
                raise ValueError(f"{mutation.name}: not once in {edit.path}: {edit.old!r}")
            file.write_text(text.replace(edit.old, edit.new))
        yield copy


def noticed_by_simulation(mutation: Mutation, sources: Path) -> str:
    """What is wrong with the plan, or with the first seed that failed; empty if nothing is."""
    planned = (
        [f"tests/simulation/plans/{mutation.plan}.json"] if mutation.plan else ["--seeds", mutation.seeds]
    )
    ended = _run(sources, "tests.simulation", *planned)
    found = re.search(r"^seed (\d+): at .*? clock\): (.*)$", ended.stdout, re.MULTILINE)
    if (ended.returncode != 0) != bool(found):
        raise RuntimeError(ended.stdout + ended.stderr)
    return f"{found[2]} ({mutation.plan or 'seed ' + found[1]})" if found else ""


def noticed_by_contract(mutation: Mutation, sources: Path) -> str:
    """The test that fails, on a real server if it is one of the contracts; empty if it passes."""
    test = f"tests/contract/{mutation.contract}"
    ended = _run(sources, "pytest", test, "-q", "-x", "-p", "no:cacheprovider", "-k", "not memory")
    found = re.search(r"^FAILED \S+::(\w+)", ended.stdout, re.MULTILINE)
    if ended.returncode not in (0, 1) or bool(found) != (ended.returncode == 1):
        raise RuntimeError(ended.stdout + ended.stderr)
    return found[1] if found else ""


def _run(sources: Path, module: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *args]
    return subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    names = parser.parse_args().names
    unnoticed = 0
    for mutation in MUTATIONS:
        if names and mutation.name not in names:
            continue
        with broken(mutation) as sources:
            simulation = noticed_by_simulation(mutation, sources)
            contract = noticed_by_contract(mutation, sources) if mutation.contract else "-"
        unnoticed += not simulation and contract in ("-", "")
        print(
            f"| {mutation.what} | {simulation or 'NOT NOTICED'} | {contract or 'NOT NOTICED'} |", flush=True
        )
    return unnoticed


if __name__ == "__main__":
    sys.exit(main())
