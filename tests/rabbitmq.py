"""A real RabbitMQ for tests: a node of its own, everything in one directory, every port on the loopback.

Starting takes some seconds, so one serves the whole session (fixture ``rabbitmq``); tests use queues with
names of their own.  Whoever stops it starts it again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import amqp

from tests.programs import missing, program
from tests.servers import free_port, wait_until

__all__ = ["RabbitMQ", "running_rabbitmq"]

_HOME = Path("/usr/lib/rabbitmq/bin")  # the scripts behind Debian's wrappers, which insist on a user
_CONFIG = "disk_free_limit.absolute = 1MB\n"
_TLS = """listeners.ssl.1 = 127.0.0.1:{}
ssl_options.cacertfile = {}
ssl_options.certfile = {}
ssl_options.keyfile = {}
"""
_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"


class RabbitMQ:
    """One broker, with the ``epmd`` that Erlang needs; keeps its port and directory when started again.

    With the files of an authority, a certificate for localhost and its key it also speaks TLS: ``tls_port``.
    """

    def __init__(self, directory: Path, tls: tuple[str, str, str] | None = None) -> None:
        self.port = free_port()
        self.tls_port = free_port() if tls else None
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._directory = directory
        self._epmd_port = free_port()
        self._environment = self._settings()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        settings = _TLS.format(self.tls_port, *tls) if tls else ""
        (directory / "rabbitmq.conf").write_text(_CONFIG + settings)
        for empty in ("env.conf", "plugins"):
            (directory / empty).write_text("[]." if empty == "plugins" else "")

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker does not run"
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it serves; its durable queues and persistent messages are still there."""
        if self._epmd is None:
            arguments = ("-address", "127.0.0.1", "-port", str(self._epmd_port))
            self._epmd = self._run(_epmd(), *arguments)
            wait_until(lambda: self._epmd_listens(), what="epmd listens")
        self._process = self._run(str(_HOME / "rabbitmq-server"))
        wait_until(self._serves, 110, f"RabbitMQ serves; see {self._directory}")

    def stop(self) -> None:
        """End it in order; nothing if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL); nothing if it does not run."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Keep the port and the connections, answer nothing (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """End the broker and its ``epmd``."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(10)
            self._epmd = None

    def block(self) -> None:
        """Raise the memory alarm: connections that publish are blocked."""
        self._control("set_vm_memory_high_watermark", "0")

    def unblock(self) -> None:
        self._control("set_vm_memory_high_watermark", "0.4")

    def close_connections(self) -> None:
        self._control("close_all_connections", "a test says so")

    # --- queues ---------------------------------------------------------------------------------------------

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel of a connection that lasts as long as the block."""
        host = f"127.0.0.1:{self.port}"
        with amqp.Connection(host, read_timeout=10, connect_timeout=10) as connection:
            yield connection.channel()

    def version(self) -> str:
        with self.channel() as channel:
            return str(channel.connection.server_properties["version"])

    def declare(self, queue: str, **arguments: Any) -> None:
        """A durable queue; ``arguments`` with underscores for the hyphens: ``x_max_length=1``."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        with self.channel() as channel:
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments=named)

    def purge(self, queue: str) -> None:
        with self.channel() as channel:
            channel.queue_purge(queue)

    def delete(self, queue: str) -> None:
        with self.channel() as channel:
            channel.queue_delete(queue)

    def has(self, queue: str) -> bool:
        try:
            self.depth(queue)
        except amqp.NotFound:
            return False
        return True

    def depth(self, queue: str) -> int:
        """How many messages of ``queue`` are ready.  Raises ``amqp.NotFound`` if there is none."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    def take(self, queue: str) -> list[amqp.Message]:
        """Every message of ``queue``, in the order in which they would be delivered; removes them."""
        taken: list[amqp.Message] = []
        with self.channel() as channel:
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                taken.append(message)
        return taken

    # --- processes ------------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, str]:
        there = self._directory
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(there),  # of the cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_CONF_ENV_FILE": str(there / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(there / "rabbitmq.conf"),
            "RABBITMQ_CTL_ERL_ARGS": _LOOPBACK,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(there / "plugins"),
            "RABBITMQ_LOG_BASE": str(there),
            "RABBITMQ_MNESIA_BASE": str(there / "mnesia"),
            "RABBITMQ_NODENAME": f"dispatch{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 {_LOOPBACK}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the broker instead of its parent
        }

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._directory / "processes.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _control(self, *arguments: str) -> None:
        command = (str(_HOME / "rabbitmqctl"), *arguments)
        subprocess.run(command, env=self._environment, check=True, timeout=60, capture_output=True)

    def _serves(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (
            f"RabbitMQ ended while starting; see {self._directory}"
        )
        try:
            with self.channel():
                return True
        except OSError:
            return False

    def _epmd_listens(self) -> bool:
        names = subprocess.run(
            (_epmd(), "-names"), env=self._environment, timeout=10, capture_output=True, check=False
        )
        return names.returncode == 0

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _epmd() -> str:
    """The path of Erlang's ``epmd``; skips the test, or fails it under CI, where there is no RabbitMQ."""
    if not (_HOME / "rabbitmq-server").exists():
        missing("rabbitmq-server", package="rabbitmq-server")
    return program("epmd", package="rabbitmq-server")


@contextmanager
def running_rabbitmq(tls: tuple[str, str, str] | None = None) -> Iterator[RabbitMQ]:
    """A broker in a directory of its own; skips the test, or fails it under CI, where there is none."""
    _epmd()
    with tempfile.TemporaryDirectory(prefix="dispatch-rabbitmq-") as directory:
        broker = RabbitMQ(Path(directory), tls)
        try:
            broker.start()
            yield broker
        finally:
            broker.end()
