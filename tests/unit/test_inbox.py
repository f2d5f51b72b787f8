from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue

import pytest

from celery_dispatch.core.inbox import receive


def test_a_word_is_received_at_once_or_when_it_comes() -> None:
    inbox: SimpleQueue[str] = SimpleQueue()
    inbox.put("here")
    assert receive(inbox, 0) == "here"
    threading.Timer(0.02, inbox.put, ["later"]).start()
    assert receive(inbox, 10) == "later"


def test_without_a_word_it_waits_as_long_as_it_may() -> None:
    began = time.monotonic()
    with pytest.raises(Empty):
        receive(SimpleQueue(), 0.05)
    assert 0.05 <= time.monotonic() - began < 5


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e-6])
def test_a_moment_that_is_over_is_never_waited_for(seconds: float) -> None:
    """With ``get(timeout=…)`` Python 3.10 waits for ever after some thousand tries."""
    for _ in range(50_000):
        inbox: SimpleQueue[str] = SimpleQueue()
        with pytest.raises(Empty):
            receive(inbox, seconds)
        inbox.put("word")  # the queue's lock is free again
        assert receive(inbox, seconds) == "word"
        with pytest.raises(Empty):
            receive(inbox, seconds)
