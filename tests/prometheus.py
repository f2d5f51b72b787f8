"""A real Prometheus for tests: scrapes pages on the loopback, evaluates the alerts that we ship."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from tests.programs import program
from tests.servers import free_port, wait_until

__all__ = ["MONITORING", "Prometheus", "prometheus"]

MONITORING = Path(__file__).parents[1] / "docs" / "monitoring"
_CONFIG = """
global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: beats
    static_configs: [{{targets: {targets}}}]
"""


class Prometheus:
    """A Prometheus server, asked over its API."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._base}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except URLError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        url = f"{self._base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.get("query", query=expression)["result"])

    def value(self, expression: str) -> float | None:
        """The value of the only series that ``expression`` gives, ``None`` for none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if len(found) == 1 else None

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def alerts(self, state: str = "firing") -> set[str]:
        """The names of the alerts in that state."""
        alerts = self.get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == state}


@contextmanager
def prometheus(directory: Path, targets: Sequence[int], *, patience: str = "") -> Iterator[Prometheus]:
    """A server that scrapes these ports every quarter of a second; skips the test where there is none.

    With ``patience``, such as ``1s``, an alert fires after that, whatever it says in its ``for``.
    """
    config, rules, port = directory / "prometheus.yml", directory / "alerts.yml", free_port()
    text = (MONITORING / "alerts.yml").read_text()
    rules.write_text(re.sub(r"^( *for:) .*$", rf"\1 {patience}", text, flags=re.M) if patience else text)
    hosts = json.dumps([f"127.0.0.1:{target}" for target in targets])
    config.write_text(_CONFIG.format(rules=rules, targets=hosts))
    command = (
        program("prometheus", package="prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = Prometheus(port)
    try:
        wait_until(server.is_ready, 60, f"a Prometheus that serves; see {directory}/prometheus.log")
        yield server
    finally:
        process.terminate()
        process.wait(20)
