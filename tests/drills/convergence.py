"""Judges whether a pool is of one mind again: who owns what after the last fault, and who really fires.

Asked is ``celery dispatch nodes --json`` and ``entries --json``, which any node's view of the ring decides,
and held against what the messages themselves say:

* the beats that live and run the config in force are on the ring, each once, and nobody else is;
* each entry has an owner and a standby among them, as far as there are that many;
* together the nodes own every entry once, as they themselves say;
* of the last messages of each entry at least one was fired by its owner, and none by a node that is gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tests.drills.checker import Arrival

__all__ = ["unconverged"]

_LAST = 3  # messages of each entry: on a busy machine a standby may well have helped with the newest


def unconverged(
    alive: Collection[str],
    nodes: Mapping[str, Any],
    entries: Mapping[str, Any],
    arrivals: Iterable[Arrival],
) -> list[str]:
    """What is not as it should be, a sentence each.

    ``alive`` are the names of the beats that live and run the config in force; ``nodes`` and ``entries`` the
    documents of the commands; ``arrivals`` what came after the last fault.
    """
    found = [f"nodes that are {node['state']}: {node['id']}" for node in nodes["nodes"]
             if node["name"] in alive and node["state"] != "steady"]  # fmt: skip
    steady = {node["id"]: node for node in nodes["nodes"] if node["state"] == "steady"}
    names = sorted(str(node["name"]) for node in steady.values())
    if names != sorted(alive):
        found.append(f"on the ring are {names}, alive are {sorted(alive)}")
    if (owned := sum(int(node["entries"] or 0) for node in steady.values())) != entries["total"]:
        found.append(f"the nodes own {owned} entries of {entries['total']}")
    ranks = {entry["name"]: (entry["owner"], entry["standby"]) for entry in entries["entries"]}
    found += [
        f"{name} has no owner and standby of its own among the live nodes: {owner}, {standby}"
        for name, (owner, standby) in ranks.items()
        if owner not in steady or (len(steady) > 1 and (standby not in steady or standby == owner))
    ]
    return found + _not_by_their_owners(ranks, arrivals, steady)


def _not_by_their_owners(
    ranks: Mapping[str, tuple[str, str]], arrivals: Iterable[Arrival], steady: Collection[str]
) -> list[str]:
    fired: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for arrival in arrivals:
        fired[arrival.entry].append((arrival.due or 0, arrival.node))
    found = []
    for name, messages in sorted(fired.items()):
        nodes = {node for _, node in sorted(messages)[-_LAST:]}
        if strangers := nodes - set(steady):
            found.append(f"{name} was fired by {sorted(strangers)}, which are not on the ring")
        elif name in ranks and ranks[name][0] not in nodes:
            found.append(f"{name} was fired by {sorted(nodes)}, its owner is {ranks[name][0]}")
    return found
