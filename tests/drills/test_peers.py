from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.drills.checker import Arrival, Verdict, judge
from tests.drills.faults import FAULTS
from tests.drills.ground import one_redis
from tests.drills.oracle import Every
from tests.drills.peers import PRODUCTS, Product, matched, peer_stage, period
from tests.drills.redis_server import program_kind
from tests.drills.runs import drill

ANCHOR = 1_800_000_000_123
END = ANCHOR + 20_000
SCHEDULE = {"entry": Every(1)}
SENDERS = {11: "node-1", 22: "node-2"}


def run(at: float, *, pid: int = 11, entry: str = "entry") -> Arrival:
    """A message that is on the broker ``at`` seconds after the anchor."""
    headers: dict[str, object] = {"origin": f"gen{pid}@host"}
    return Arrival(entry, None, f"{entry}-{pid}-{at}", round((ANCHOR + at * 1000) * 1000), headers=headers)


def seconds(arrivals: Iterable[Arrival]) -> list[float]:
    """The occurrences that the arrivals are, in seconds after the anchor."""
    found = matched(arrivals, SCHEDULE, anchor=ANCHOR, senders=SENDERS)
    return [((it.due or 0) - ANCHOR) / 1000 for it in found]


def verdict(arrivals: Iterable[Arrival]) -> Verdict:
    history = matched(arrivals, SCHEDULE, anchor=ANCHOR, senders=SENDERS)
    return judge(SCHEDULE, history, anchor=ANCHOR, until=END)


def test_runs_on_the_grid_are_its_occurrences() -> None:
    found = verdict(run(number) for number in range(1, 21))
    assert (found.problems(bound=0), found.expected) == ([], 20)


def test_a_run_belongs_to_the_nearest_instant() -> None:
    assert seconds([run(1.0), run(2.49), run(5.51)]) == [1, 2, 6]


def test_a_run_that_drifted_has_a_lag_and_one_before_its_instant_is_on_time() -> None:
    found = matched([run(1.3), run(3.7)], SCHEDULE, anchor=ANCHOR, senders=SENDERS)
    assert [it.lag for it in found] == [300, 0]
    assert verdict([run(3.7)]).early == ()


def test_what_drift_swallows_is_lost() -> None:
    period_with_drift = 1.06
    runs = [run(1 + number * period_with_drift) for number in range(18)]  # the last one at 19.02 s
    found = verdict(runs)
    assert found.doubled == ()
    assert [due - ANCHOR for _, due in found.lost] == [10_000, 20_000]


def test_jitter_about_half_a_period_is_neither_lost_nor_doubled_again_and_again() -> None:
    runs = [run(number + (0.49 if number % 2 else 0.51)) for number in range(1, 20)]
    found = verdict(runs)
    assert found.doubled == ()
    assert len(found.lost) == 1


def test_a_gap_is_lost() -> None:
    found = verdict(run(number) for number in range(1, 21) if not 5 <= number <= 9)
    assert [(due - ANCHOR) / 1000 for _, due in found.lost] == [5, 6, 7, 8, 9]


def test_two_processes_in_one_period_are_one_occurrence_doubled() -> None:
    runs = [run(number + shift, pid=pid) for number in range(1, 20) for pid, shift in ((11, 0), (22, 0.3))]
    assert len(verdict(runs).doubled_other_id) == 19


def test_one_process_that_runs_twice_at_once_has_doubled() -> None:
    runs = [*(run(number) for number in range(1, 21)), run(5.01)]
    found = verdict(runs)
    assert [(due - ANCHOR) / 1000 for _, due in found.doubled] == [5]
    assert found.lost == ()


def test_another_process_goes_on_with_the_grid_of_the_first() -> None:
    runs = [*(run(number) for number in range(1, 6)), *(run(number + 0.2, pid=22) for number in range(8, 21))]
    found = verdict(runs)
    assert found.doubled == ()
    assert [(due - ANCHOR) / 1000 for _, due in found.lost] == [6, 7]


def test_the_sender_is_named_by_its_process_id() -> None:
    found = matched([run(1), run(2, pid=22), run(3, pid=33)], SCHEDULE, anchor=ANCHOR, senders=SENDERS)
    assert [it.node for it in found] == ["node-1", "node-2", "unknown"]


def test_entries_are_matched_each_by_itself_and_those_of_the_product_are_left_out() -> None:
    schedule = {"entry": Every(1), "other": Every(1)}
    runs = [run(1), run(1.1, entry="other"), run(1.2, entry="celery.backend_cleanup")]
    found = matched(runs, schedule, anchor=ANCHOR, senders=SENDERS)
    assert [(it.entry, (it.due or 0) - ANCHOR) for it in found] == [("entry", 1000), ("other", 1000)]


def test_the_rule_is_for_one_interval() -> None:
    assert period({"a": Every(2), "b": Every(2)}) == 2000
    with pytest.raises(ValueError, match="one interval"):
        period({"a": Every(1), "b": Every(2)})


def test_every_fault_of_a_product_exists() -> None:
    assert {name for product in PRODUCTS for name in product.faults} <= FAULTS.keys()


def _peer(name: str) -> object:
    (product,) = (product for product in PRODUCTS if product.name == name)
    missing = pytest.mark.skipif(not product.installed, reason="celery-redbeat: pip install -e '.[peers]'")
    return pytest.param(product, id=name, marks=missing)


@pytest.mark.integration
@pytest.mark.parametrize("product", [_peer("3 stock beats"), _peer("RedBeat")])
def test_of_three_processes_stock_beat_doubles_each_occurrence_and_redbeat_none(
    product: Product, tmp_path: Path
) -> None:
    settings = {"dispatch_lease_ttl": 2, "dispatch_heartbeat_interval": 0.5}
    with one_redis(tmp_path, program_kind()) as ground:
        stage = peer_stage(product, FAULTS["none"], ground, tmp_path, settings=settings, calm=0.5)
        outcome = drill(stage, FAULTS["none"])
    assert outcome.verdict.expected >= 60
    assert {arrival.node for arrival in outcome.record.arrivals} <= {"node-1", "node-2", "node-3"}
    doubled = len(outcome.verdict.doubled)
    assert doubled > 20 if product.name == "3 stock beats" else doubled == 0
