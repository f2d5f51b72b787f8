"""Beats and workers against one dispatch Redis: started, disturbed and always ended.

All are of one release, unless a beat is started with another: entries and settings of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tests.drills.collector import WORK, connect
from tests.drills.oracle import Schedule
from tests.drills.process import ROOT, Process, celery, wait_until
from tests.drills.proxy import Proxy
from tests.drills.releases import Release, Spec, every

__all__ = ["PREFIX", "Beat", "Cluster", "Finished", "Spec", "every"]

PREFIX = "celery-dispatch"
_START = 30.0  # seconds that a process may take to be there; the machine may be busy


@dataclass(slots=True)
class Beat:
    """A process, and the proxy between it and Redis, if any."""

    process: Process
    proxy: Proxy | None = None

    @property
    def cable(self) -> Proxy:
        """Its proxy, where it was started with one."""
        if self.proxy is None:
            raise RuntimeError(f"{self.process.name} has no proxy")
        return self.proxy


class Cluster:
    """Use as a context manager: on leaving, every process and proxy is ended.

    ``url`` is the real server, and the broker unless the settings name another one; a beat behind a proxy
    gets the proxy's port instead.
    """

    app = "tests.drills.app"  #: the module whose Celery app all processes run

    def __init__(
        self,
        url: str,
        directory: Path,
        entries: Mapping[str, Spec],
        *,
        settings: Mapping[str, object] | None = None,
        namespace: str = "",
        user_code: str = "",
    ) -> None:
        self.url = url
        self.directory = directory
        self.namespace = namespace
        self.settings: dict[str, object] = {
            "beat_scheduler": "celery_dispatch:DispatchScheduler",
            "timezone": "UTC",
            "task_ignore_result": True,
            "broker_connection_retry_on_startup": True,
            "worker_hijack_root_logger": True,
            **(settings or {}),
        }
        self.release = Release(dict(entries), self.settings, user_code=user_code)
        self.released: dict[str, Release] = {}  #: the release of each beat, by name
        self.beats: dict[str, Beat] = {}
        self.processes: list[Process] = []
        self._proxies: list[Proxy] = []
        self.redis = connect(url)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything; idempotent.  All are asked first, so that they end side by side."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError, RuntimeError):
                process.resume()
                process.terminate()
        for process in self.processes:
            process.end()
        for proxy in self._proxies:
            proxy.stop()
        self.redis.close()

    def moved_to(self, url: str) -> None:
        """The dispatch Redis is another server now; proxies lead to the old one."""
        self.redis.close()
        self.url = url
        self.redis = connect(url)

    # --- what it is about -----------------------------------------------------------------------------------

    @property
    def schedule(self) -> Schedule:
        """What the oracle reckons from."""
        return self.release.schedule

    def environment(
        self,
        *,
        url: str | None = None,
        conf: Mapping[str, object] | None = None,
        release: Release | None = None,
    ) -> dict[str, str]:
        """What a process of this app needs to know; ``conf`` overrides settings for it alone.

        ``url`` is where it finds the dispatch Redis, if that is not the real address.
        """
        release = release or self.release
        settings = {"broker_url": url or self.url, **self.settings, **release.settings, **(conf or {})}
        if url is not None and "dispatch_redis_url" in settings:
            settings["dispatch_redis_url"] = url
        document = {
            "app": release.app,
            "conf": settings,
            "entries": {name: spec.item() for name, spec in release.entries.items()},
            "namespace": self.namespace,
            "user_code": release.user_code,
        }
        path = self.directory / f"app-{uuid.uuid4().hex[:8]}.json"
        path.write_text(json.dumps(document))
        return {"DRILL_APP": str(path), "DRILL_SERVER": self.url}

    def logs(self) -> str:
        """What every process printed, newest last; for a failure's report."""
        parts = [f"----- {process.name} -----\n{process.log[-6000:]}" for process in self.processes]
        return "\n".join(parts)

    # --- processes ------------------------------------------------------------------------------------------

    def process(
        self,
        name: str,
        *arguments: str,
        url: str | None = None,
        conf: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
        launch: bool = False,
        release: Release | None = None,
    ) -> Process:
        """Start ``celery -A app <arguments>``."""
        environment = {**self.environment(url=url, conf=conf, release=release), **(env or {})}
        argv = celery("-A", self.app, *arguments, launch=launch)
        process = Process(name, argv, env=environment, log=self.directory / f"{name}.log")
        self.processes.append(process)
        process.start()
        return process

    def beat(
        self,
        name: str,
        *arguments: str,
        proxied: bool = False,
        conf: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
        launch: bool = False,
        release: Release | None = None,
    ) -> Beat:
        """Start a beat; returns at once."""
        proxy = self._proxy() if proxied else None
        url = None if proxy is None else _with_port(self.url, proxy.port)
        arguments = ("beat", "-l", "INFO", "--pidfile=", f"--schedule={self.directory / name}.db", *arguments)
        node = {"dispatch_node_name": name} if self._dispatches(arguments) else {}
        conf = {**node, **(conf or {})}
        self.released[name] = release or self.release
        process = self.process(name, *arguments, url=url, conf=conf, env=env, launch=launch, release=release)
        self.beats[name] = Beat(process, proxy)
        return self.beats[name]

    def worker(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a worker that runs what the collector passes on, and wait until it is ready."""
        node = {"dispatch_node_name": name} if "-B" in arguments else {}
        process = self.process(
            name, "worker", "-Q", WORK, "-n", f"{name}@%h", "-l", "INFO", "--without-mingle",
            f"--schedule={self.directory / name}.db", *arguments, env=env, conf=node,
        )  # fmt: skip
        if node:
            self.released[name] = self.release
            self.beats[name] = Beat(process)
        return process

    def start(self, count: int, *, proxied: bool = False) -> None:
        """Start ``count`` beats (node-1, node-2 …) and wait until all of them are steady."""
        for number in range(1, count + 1):
            self.beat(f"node-{number}", proxied=proxied)
        self.wait_for_nodes(count)

    def run(
        self,
        *arguments: str,
        timeout: float = 60,
        conf: Mapping[str, object] | None = None,
        release: Release | None = None,
    ) -> Finished:
        """Run a ``celery`` command of this app to its end; ``AssertionError`` if that does not come."""
        ours = self.environment(conf=conf, release=release)
        env = {**os.environ, "PYTHONPATH": _python_path(), **ours}
        argv = celery("-A", self.app, *arguments)
        try:
            done = subprocess.run(
                argv,
                env=env,
                cwd=self.directory,
                timeout=timeout,
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{arguments} did not end within {timeout:g} s") from None
        return Finished(done.returncode, done.stdout, done.stderr)

    def _proxy(self) -> Proxy:
        parts = urlsplit(self.url)
        proxy = Proxy((parts.hostname or "127.0.0.1", parts.port or 6379))
        proxy.start()
        self._proxies.append(proxy)
        return proxy

    def _dispatches(self, arguments: Sequence[str]) -> bool:
        return "dispatch" in str(self.settings["beat_scheduler"]) or "dispatch" in arguments

    # --- the pool, as it stands in Redis --------------------------------------------------------------------

    @property
    def prefix(self) -> str:
        return str(self.settings.get("dispatch_key_prefix", PREFIX))

    def key(self, name: str) -> str:
        return f"{{{self.prefix}}}:{name}"

    def nodes(self) -> list[str]:
        """The ids of the nodes in the pool, lapsed leases included."""
        found: Any = self.redis.zrange(self.key("nodes"), 0, -1)
        return [node.decode() for node in found]

    def members_called(self, name: str) -> list[dict[str, Any]]:
        """What the pool knows of the nodes of the beat called ``name``."""
        return [row for node, row in self.members().items() if node.rpartition("-")[0] == name]

    def lease_ends(self) -> dict[str, int]:
        """The end of each node's lease; ms by Redis TIME."""
        found: Any = self.redis.zrange(self.key("nodes"), 0, -1, withscores=True)
        return {node.decode(): int(end) for node, end in found}

    def members(self) -> dict[str, dict[str, Any]]:
        """What the pool knows of each node."""
        found: Any = self.redis.hgetall(self.key("members"))
        return {node.decode(): json.loads(member) for node, member in found.items()}

    def wait_for_state(self, name: str, state: str, timeout: float = _START) -> None:
        """Until the beat called ``name`` is a member in ``state``."""
        wait_until(
            lambda: any(member.get("state") == state for member in self.members_called(name)),
            timeout,
            why=lambda: f"{name} is {state}; members are {self.members()}\n{self.logs()}",
        )

    def wait_for_renewals(self, count: int, timeout: float = _START) -> None:
        """Until ``count`` nodes have renewed since now, and do not just live on an old lease."""
        before = self.lease_ends()
        wait_until(
            lambda: count == sum(end > before.get(node, 0) for node, end in self.lease_ends().items()),
            timeout,
            why=lambda: f"{count} nodes renew; leases were {before}, are {self.lease_ends()}\n{self.logs()}",
        )

    def steady(self) -> list[str]:
        """The nodes that fire their share."""
        return [node for node, member in self.members().items() if member.get("state") == "steady"]

    def since(self) -> int:
        """The instant at which the config in force came into force: the anchor of a fresh pool; ms."""
        found: Any = self.redis.hget(self.key("pool"), "since")
        if found is None:
            raise AssertionError(f"the pool has no anchor: {self.redis.hgetall(self.key('pool'))}")
        return int(found)

    def has_config(self) -> bool:
        """Whether a config is in force and nothing is being recovered."""
        config, recovery = self.redis.hmget(self.key("pool"), ["config", "recovery"])
        return bool(config) and not recovery

    def wait_for_nodes(self, count: int, timeout: float = _START) -> None:
        """Until exactly ``count`` nodes are in the pool and all of them fire their share."""
        wait_until(
            lambda: len(self.nodes()) == count == len(self.steady()) and self.has_config(),
            timeout,
            why=lambda: f"{count} nodes; there are {self.nodes()}, steady {self.steady()}\n{self.logs()}",
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    status: int
    out: str
    err: str


def _python_path() -> str:
    return os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def _with_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))
