"""The outbox in memory, which other tests and users build on."""

from __future__ import annotations

import pytest

from celery_dispatch.core.entry import Entry, Occurrence
from celery_dispatch.core.ports import Path, Publication, PublicationStatus
from celery_dispatch.errors import EntryError, StoreUnavailable
from celery_dispatch.testing import MemoryOutbox, MemoryStore
from tests.outboxes import DUE, NOW
from tests.unit.world import Every

ONE = Occurrence(Entry("one", Every(1.0), "d"), DUE)


def status(publications: list[Publication]) -> PublicationStatus:
    (publication,) = publications
    return publication.status


def test_a_published_message_is_on_its_queue() -> None:
    outbox = MemoryOutbox(store := MemoryStore(), same_store=False)
    assert status(outbox.publish([outbox.render(ONE, now=NOW)])) is PublicationStatus.CONFIRMED
    assert store.messages() == [("one", DUE)]
    assert outbox.rendered == [ONE]


def test_a_broker_that_is_away_takes_nothing() -> None:
    outbox = MemoryOutbox(store := MemoryStore(), same_store=False)
    message = outbox.render(ONE, now=NOW)
    store.broker_available = False
    with pytest.raises(StoreUnavailable):
        outbox.connect()
    assert status(outbox.publish([message])) is PublicationStatus.UNKNOWN
    assert store.messages() == []


def test_a_confirmation_can_be_lost() -> None:
    outbox = MemoryOutbox(store := MemoryStore(), same_store=False)
    message = outbox.render(ONE, now=NOW)
    outbox.lose_confirms()
    assert status(outbox.publish([message])) is PublicationStatus.UNKNOWN
    assert status(outbox.publish([message])) is PublicationStatus.CONFIRMED
    assert len(store.messages()) == 2


def test_a_queue_can_refuse() -> None:
    outbox = MemoryOutbox(store := MemoryStore(), same_store=False)
    store.refused.add("celery")
    assert status(outbox.publish([outbox.render(ONE, now=NOW)])) is PublicationStatus.REFUSED
    assert store.messages() == []


def test_the_broker_of_another_store_does_not_need_this_one() -> None:
    store = MemoryStore()
    store.available = False
    MemoryOutbox(store, same_store=False).connect()
    with pytest.raises(StoreUnavailable):
        MemoryOutbox(store).connect()


def test_a_scene_can_be_set() -> None:
    outbox = MemoryOutbox(MemoryStore())
    assert outbox.path(ONE) == Path(True, False)
    outbox.user_code.add("one")
    assert outbox.path(ONE).user_code
    outbox.unsent.add("one")
    assert outbox.render(ONE, now=NOW) == ()
    outbox.failing["one"] = "broken"
    with pytest.raises(EntryError, match="broken"):
        outbox.render(ONE, now=NOW)
