"""The five mutations that the checks were promised to notice are noticed; see ``mutations`` for the rest."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, broken, noticed_by_contract, noticed_by_simulation

PROMISED = MUTATIONS[:5]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", PROMISED, ids=lambda mutation: mutation.name)
def test_it_is_noticed(mutation: Mutation) -> None:
    with broken(mutation) as sources:
        assert noticed_by_simulation(mutation, sources)
        assert noticed_by_contract(mutation, sources)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_it_breaks_is_there(mutation: Mutation) -> None:
    with broken(mutation):
        pass
