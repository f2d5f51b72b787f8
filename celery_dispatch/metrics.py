"""What a node counts, as Prometheus reads it.

Each node serves its own page, and a scrape asks nobody else: not Redis, not the broker, not the loop.  So the
page is there, and says what is wrong, while they are away.

The registry is the node's own.  What the process exports by itself is left alone, and two apps in one process
do not meet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from importlib.metadata import version
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from celery_dispatch.core.clock import PoolClock
from celery_dispatch.core.pool import View
from celery_dispatch.core.ports import Member
from celery_dispatch.core.report import LAG_BOUNDS, NodeReport
from celery_dispatch.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["STATES", "Metrics", "NodeSeries", "check_available"]

logger = logging.getLogger(__name__)

_PREFIX = "celery_dispatch_"
_MISSING = 'the package prometheus-client is not installed. Run: pip install "celery-dispatch[metrics]"'

#: What a node can be, as the pool sees it; ``absent``: it has no lease.
STATES = ("absent", "joining", "steady", "cut_off", "draining", "standing_by", "foreign")


def check_available() -> None:
    """Raise ``ConfigError`` unless metrics can be served here."""
    if find_spec("prometheus_client") is None:
        raise ConfigError(f"dispatch_metrics_port is set, and {_MISSING}, or unset dispatch_metrics_port.")


class Metrics:
    """Serves a node's metrics over HTTP; that it cannot is logged and stops nothing.

    ``pool_view`` gives the pool as the node knows it.  ``pool_outage`` says why the last heartbeat was not
    answered, and ``None`` if it was.
    """

    def __init__(
        self,
        report: NodeReport,
        *,
        node: str,
        pool_view: Callable[[], View | None],
        pool_outage: Callable[[], str | None],
        clock: PoolClock,
    ) -> None:
        self._node = node
        self._series = NodeSeries(
            report, node=node, pool_view=pool_view, pool_outage=pool_outage, clock=clock
        )
        self._server: Any = None

    @property
    def port(self) -> int | None:
        """Where it listens; ``None`` where it does not."""
        return None if self._server is None else int(self._server.server_port)

    def start(self, address: str, port: int) -> None:
        """Listen on ``address`` and ``port`` (0 for any that is free) in a daemon thread."""
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            logger.error("Node %s serves no metrics: %s", self._node, _MISSING)
            return
        registry = CollectorRegistry()
        registry.register(self._series)
        try:
            self._server, _ = start_http_server(port, addr=address, registry=registry)
        except OSError as error:
            logger.error(
                "Node %s serves no metrics: it cannot listen on %s port %d: %s. Free the port, or set "
                "another dispatch_metrics_port or dispatch_metrics_address; nodes that share a host "
                "need a port each.",
                self._node, address, port, error,
            )  # fmt: skip
            return
        logger.info("Node %s serves its metrics at http://%s:%d/metrics", self._node, address, self.port)

    def stop(self) -> None:
        """Close the port.  Idempotent, safe in a signal handler."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class NodeSeries:
    """A collector: everything on the page, read anew for each scrape."""

    def __init__(
        self,
        report: NodeReport,
        *,
        node: str,
        pool_view: Callable[[], View | None],
        pool_outage: Callable[[], str | None],
        clock: PoolClock,
    ) -> None:
        self._report = report
        self._node = node
        self._pool_view = pool_view
        self._pool_outage = pool_outage
        self._clock = clock
        self._version = version("celery-dispatch")

    def collect(self) -> Iterator[Metric]:
        """One family after the other, as a Prometheus registry asks for them."""
        yield from self._signs_of_life()
        yield from self._occurrences()
        yield from self._intents()
        yield from self._pool(self._pool_view())
        yield from self._faults()

    def _signs_of_life(self) -> Iterator[Metric]:
        report = self._report
        about = {"version": self._version, "node": self._node}
        yield _info("build", "The version, and the id of this node.", about)
        yield _counter("turns", "Times that the node's loop came round; once a second or more.", report.turns)
        for name, what, monotonic in (
            ("last_turn", "When the node's loop last came round", report.last_turn),
            ("last_fire", "When this node last fired an occurrence", report.last_fire),
        ):
            instant = self._pool_time(monotonic)
            if instant is not None:
                yield _gauge(f"{name}_timestamp_seconds", f"{what}, Unix time by the pool's clock.", instant)

    def _occurrences(self) -> Iterator[Metric]:
        report = self._report
        yield _counter("fired", "Occurrences that this node fired.", report.fired)
        yield _lag(report)
        yield _counters(
            "skipped",
            "Occurrences that were counted and not fired.",
            "reason",
            {reason.value: count for reason, count in report.skips.items()},
        )
        yield _counter("takeovers", "Occurrences that this node fired as their standby.", report.takeovers)
        yield _counter("claims_lost", "Claims that another node had won before.", report.lost)
        yield _gauges(
            "entries",
            "Entries that this node owns, stands by for, and has yet to load.",
            "rank",
            {"owner": report.owned, "standby": report.standby, "loading": report.loading},
        )
        yield _gauge("run_time_entries", "Entries created at run time that this node knows.", report.run_time)

    def _intents(self) -> Iterator[Metric]:
        report = self._report
        yield _gauge(
            "intents_open",
            "Occurrences that this node claimed and that are not known to be on the broker.",
            report.open_intents,
        )
        yield _counter(
            "intents_taken_over",
            "Open intents that this node took up again, its own after an outage included.",
            report.intents_taken_over,
        )

    def _pool(self, view: View | None) -> Iterator[Metric]:
        states = {member.id: _state(member, view) for member in view.members} if view is not None else {}
        mine = states.get(self._node, "absent")
        yield _gauges(
            "node_state",
            "1 for the state of this node in the pool.",
            "state",
            {state: int(state == mine) for state in STATES},
        )
        seen = list(states.values())
        yield _gauges(
            "nodes",
            "The live nodes of the pool, as this node last saw it.",
            "state",
            {state: seen.count(state) for state in STATES if state != "absent"},
        )
        if view is not None and view.fence is not None:
            config = {"config": view.fence.config}
            yield _info("config_in_force", "The config that the pool has in force.", config)
        in_force = int(view is not None and view.in_force)
        yield _gauge("runs_config_in_force", "1 while this node runs the config in force.", in_force)
        recovering = int(view is not None and bool(view.recovery))
        yield _gauge("recovering", "1 while the pool recovers and nobody fires.", recovering)

    def _faults(self) -> Iterator[Metric]:
        report = self._report
        yield _gauge("store_up", "1 while the Redis of the pool answers this node.", int(self._store_up()))
        broker_up = int(report.broker_outage is None)
        yield _gauge("broker_up", "1 unless this node knows that the broker cannot be reached.", broker_up)
        yield _gauge(
            "entries_in_error", "Entries of this node that cannot be fired now.", report.entries_in_error
        )
        yield _counters(
            "errors",
            "Failures, by what was at fault.",
            "kind",
            {kind.value: count for kind, count in report.failures.items()},
        )
        yield _counter("recoveries", "Recoveries of the pool that this node took part in.", report.recoveries)
        yield _counter("clock_steps", "Times that the clock of Redis stepped.", self._clock.steps)

    def _store_up(self) -> bool:
        """Whether Redis answers; an outage of the broker alone is none of its own."""
        answered = self._clock.known and self._pool_outage() is None
        return answered and (self._report.outage is None or self._report.broker_outage is not None)

    def _pool_time(self, monotonic: float | None) -> float | None:
        """Unix time, by the pool's clock, of an instant of the local one."""
        if monotonic is None or not self._clock.known:
            return None
        ago = timedelta(seconds=self._clock.monotonic() - monotonic)
        return round((self._clock.now() - ago).timestamp(), 3)


def _state(member: Member, view: View) -> str:
    """One of ``STATES``."""
    if view.identity and member.identity != view.identity:
        return "foreign"
    if member.draining:
        return "draining"
    if view.fence is None or member.config != view.fence.config:
        return "standing_by"
    return member.state.value


# --- families -----------------------------------------------------------------------------------------------


def _counter(name: str, text: str, value: float) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(_PREFIX + name, text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(_PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(_PREFIX + name, text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(_PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _info(name: str, text: str, values: dict[str, str]) -> Metric:
    from prometheus_client.core import InfoMetricFamily

    return InfoMetricFamily(_PREFIX + name, text, value=values)


def _lag(report: NodeReport) -> Metric:
    from prometheus_client.core import HistogramMetricFamily
    from prometheus_client.utils import floatToGoString

    lags = report.lags
    bounds = [*map(floatToGoString, LAG_BOUNDS), "+Inf"]
    return HistogramMetricFamily(
        _PREFIX + "lag_seconds",
        "How long after its due an occurrence was fired.",
        buckets=list(zip(bounds, accumulate(lags.counts))),
        sum_value=lags.total,
    )
