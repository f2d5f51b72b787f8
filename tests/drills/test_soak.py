from __future__ import annotations

from itertools import islice

from tests.drills.harms import DEADLY, OF_NODES, OF_SERVERS
from tests.drills.soak import rounds


def test_a_seed_draws_the_same_rounds_again() -> None:
    first, again, other = (list(islice(rounds(seed, lease=10), 50)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_harm_is_drawn_in_time_and_no_round_is_without_any() -> None:
    drawn = list(islice(rounds(1, lease=10), 300))
    assert {what for it in drawn for what, _ in it.harms} == {*OF_NODES, *OF_SERVERS}
    assert {len(it.harms) for it in drawn} == {1, 2, 3}


def test_a_beat_is_never_killed_so_that_it_can_be_compared() -> None:
    drawn = list(islice(rounds(1, lease=10), 300))
    assert not [what for it in drawn for what, victim in it.harms if victim == "node-1" and what in DEADLY]
    assert [what for it in drawn for what, victim in it.harms if victim == "node-1"]


def test_of_one_beat_one_harm_at_a_time() -> None:
    for it in islice(rounds(2, lease=10), 300):
        victims = [victim for _, victim in it.harms if victim]
        assert len(victims) == len(set(victims))
