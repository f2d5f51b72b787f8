"""A TCP proxy that can be told to misbehave, in a thread of its own.

=========  =============================================================================================
mode       what it does
=========  =============================================================================================
pass       forwards both ways
delay      forwards both ways, each piece later by ``seconds``
hold       a partition that heals as TCP does: accepts, keeps every byte and delivers it when it heals
deaf       a host that vanished: accepts and swallows; on healing, connections that lost bytes are reset
refuse     closes the listening socket, so that connecting is refused, and resets what is open
=========  =============================================================================================

``cut()`` resets the open connections once; ``drop_reply()`` lets a request through and swallows its answer,
and that connection is reset, or silent from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, TypeVar

__all__ = ["Mode", "Proxy"]

T = TypeVar("T")
_PIECE = 1 << 16
_PATIENCE = 5.0  # seconds that a command to the proxy may take
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends a reset


class Mode(Enum):
    PASS = "pass"
    DELAY = "delay"
    HOLD = "hold"
    DEAF = "deaf"
    REFUSE = "refuse"


class _Link:
    """One client connection and its connection to the server."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._down = (reader, writer)
        self._up_writer: asyncio.StreamWriter | None = None
        self.lost_bytes = proxy.mode is Mode.DEAF
        self.drops_next_reply = False
        self._silent = False
        self._reset = False

    async def run(self) -> None:
        try:
            await self._proxy.passable()
            if self._reset:
                return
            reader, self._up_writer = await asyncio.open_connection(*self._proxy.target)
            pumps = [
                asyncio.ensure_future(self._pump(self._down[0], self._up_writer, is_request=True)),
                asyncio.ensure_future(self._pump(reader, self._down[1], is_request=False)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            self.reset()  # the server is away
        finally:
            self._close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        while piece := await reader.read(_PIECE):
            if self._proxy.mode is Mode.DEAF:
                self.lost_bytes = True
                continue
            if is_request:
                self.drops_next_reply |= self._proxy.takes_reply_of(piece)
            elif self._silent:
                continue
            elif self.drops_next_reply:
                self.drops_next_reply = False
                self._proxy.dropped += 1
                if not self._proxy.silently:
                    self.reset()
                    return
                self._silent = True
                continue
            await self._proxy.passable()
            if self._reset:
                return
            writer.write(piece)
            await writer.drain()

    def reset(self) -> None:
        """End both connections the hard way: what is on its way is lost."""
        self._reset = True
        for writer in self._open_writers():
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def _close(self) -> None:
        """End both connections in order: what was sent before arrives, even from a client that has gone."""
        for writer in self._open_writers():
            writer.close()

    def _open_writers(self) -> list[asyncio.StreamWriter]:
        writers = (self._down[1], self._up_writer)
        return [writer for writer in writers if writer is not None and not writer.transport.is_closing()]


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to ``target``; use as a context manager."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.mode = Mode.PASS
        self.dropped = 0  #: replies that were swallowed
        self.accepted = 0  #: connections so far
        self.port = 0
        self._seconds = 0.0
        self._drop_after: bytes | None = None
        self.silently = False  #: how a dropped reply ends its connection
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="drill-proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """Close everything; idempotent."""
        if self._loop.is_closed():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- faults ---------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Forward again; what was held is delivered, what lost bytes is reset."""
        self._call(self._become(Mode.PASS))

    def delay(self, seconds: float) -> None:
        self._seconds = seconds
        self._call(self._become(Mode.DELAY))

    def hold(self) -> None:
        self._call(self._become(Mode.HOLD))

    def go_deaf(self) -> None:
        self._call(self._become(Mode.DEAF))

    def refuse(self) -> None:
        self._call(self._become(Mode.REFUSE))

    def cut(self) -> None:
        """Reset every open connection; new ones are served as before."""
        self._call(self._reset_all(lambda link: True))

    def drop_reply(self, *, after: bytes = b"", silently: bool = False) -> None:
        """Swallow the answer to the next request that contains ``after``, then reset that connection.

        ``silently``: swallow whatever comes on it instead, so that the caller has to lose its patience.
        """
        self.silently = silently
        self._drop_after = after

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    # --- inside the loop ------------------------------------------------------------------------------------

    async def passable(self) -> None:
        """Returns when the mode lets a piece through, after its delay."""
        if self.mode is Mode.DELAY:
            await asyncio.sleep(self._seconds)
        await self._passing.wait()

    def takes_reply_of(self, piece: bytes) -> bool:
        if self._drop_after is None or self._drop_after not in piece:
            return False
        self._drop_after = None
        return True

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        except asyncio.CancelledError:
            link.reset()
        finally:
            self._links.discard(link)

    async def _become(self, mode: Mode) -> None:
        was, self.mode = self.mode, mode
        if mode in (Mode.HOLD, Mode.DEAF):
            self._passing.clear()
        else:
            self._passing.set()
        if mode is Mode.REFUSE:
            await self._close_listener()
            await self._reset_all(lambda link: True)
        elif was is Mode.REFUSE:
            await self._listen()
        if was is Mode.DEAF and mode is not Mode.DEAF:
            await self._reset_all(lambda link: link.lost_bytes)

    async def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset_all(self, chosen: Callable[[_Link], bool]) -> None:
        for link in [link for link in self._links if chosen(link)]:
            link.reset()

    async def _shut(self) -> None:
        await self._close_listener()
        await self._reset_all(lambda link: True)
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
