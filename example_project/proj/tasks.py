"""What runs.  Any of these may run twice (a worker that dies, a broker that repeats), and may bear it."""

from __future__ import annotations

import random
from typing import Any

from celery import chord, shared_task
from celery.utils.log import get_task_logger

logger = get_task_logger(__name__)


@shared_task(ignore_result=True)
def heartbeat() -> None:
    """Says that the way from beat to worker is open; urgent, so that a full queue does not hide it."""
    logger.info("alive")


@shared_task(
    bind=True,
    ignore_result=True,
    autoretry_for=(ConnectionError, TimeoutError),  # only what may pass by itself
    retry_backoff=2,  # after 2, 4, 8, 16 s …
    retry_backoff_max=60,  # … a minute at most
    retry_jitter=True,  # a random part of each, so that what failed together does not return together
    max_retries=5,  # then the task fails for good, and its error is in the log
)
def fetch_rates(self: Any, currency: str) -> None:
    """Asks a service that is busy now and then; with the exchange rates of one currency."""
    if random.random() < 0.3:
        raise ConnectionError(f"the rates of {currency} cannot be had now (try {self.request.retries + 1})")
    logger.info("rates of %s are up to date", currency)


@shared_task(ignore_result=True)
def clean_up() -> None:
    """Work that can wait."""
    logger.info("tidied")


# --- a fan-out and its barrier ------------------------------------------------------------------------------
# beat fires one small task; that task spreads the work; the last part to finish starts the join.  These tasks
# need their results (the barrier counts them), the ones above do not.


@shared_task(ignore_result=True)
def build_report(shards: int) -> None:
    """Counts every shard at the same time, then joins once all of them are there."""
    chord(count_shard.s(shard) for shard in range(shards))(join_report.s())


@shared_task
def count_shard(shard: int) -> int:
    """One part of the report."""
    return 100 + shard


@shared_task
def join_report(counts: list[int]) -> int:
    """Runs once, after the last shard."""
    total = sum(counts)
    logger.info("report: %d shards, %d in total", len(counts), total)
    return total
