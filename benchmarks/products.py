"""Whose beats are measured: ours, and what a user would pick instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

__all__ = ["OURS", "PEERS", "REDBEAT", "STOCK", "Product"]


@dataclass(frozen=True, slots=True)
class Product:
    """A beat scheduler; ``settings`` are told the URL of the Redis."""

    name: str
    settings: Callable[[str], Mapping[str, object]]
    module: str = "celery"

    @property
    def installed(self) -> bool:
        return find_spec(self.module) is not None


def _ours(url: str) -> Mapping[str, object]:
    scheduler = "celery_dispatch:DispatchScheduler"
    return {"beat_scheduler": scheduler, "dispatch_redis_url": url, "dispatch_catch_up": "all"}


def _stock(url: str) -> Mapping[str, object]:
    return {"beat_scheduler": "celery.beat:PersistentScheduler"}


def _redbeat(url: str) -> Mapping[str, object]:
    return {"beat_scheduler": "redbeat.RedBeatScheduler", "redbeat_redis_url": url}


OURS = Product("celery-dispatch", _ours)
STOCK = Product("stock beat", _stock)
REDBEAT = Product("RedBeat", _redbeat, "redbeat")
PEERS = (STOCK, REDBEAT)
