from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.drills.process import wait_until
from tests.drills.proxy import Proxy


class Echo(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    heard: list[bytes]


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Echo)
        try:
            while piece := self.request.recv(4096):
                self.server.heard.append(piece)
                self.request.sendall(piece.upper())
        except OSError:
            pass


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo(("127.0.0.1", 0), _Handler) as server:
        server.heard = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", echo.server_address[1])) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with _client(proxy) as connection:
        yield connection


def _client(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3)


def ask(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(4096)


def test_passes_both_ways(client: socket.socket) -> None:
    assert ask(client, b"one") == b"ONE"


def test_delays_both_ways(proxy: Proxy, client: socket.socket) -> None:
    proxy.delay(0.06)
    began = time.monotonic()
    assert ask(client, b"one") == b"ONE"
    assert time.monotonic() - began >= 0.12


def test_a_held_request_is_delivered_when_the_partition_heals(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    assert ask(client, b"one") == b"ONE"
    proxy.hold()
    with pytest.raises(TimeoutError):
        ask(client, b"two")
    assert echo.heard == [b"one"]
    proxy.heal()
    assert client.recv(4096) == b"TWO"


def test_a_held_request_of_a_client_that_gave_up_still_arrives(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    assert ask(client, b"one") == b"ONE"
    proxy.hold()
    client.sendall(b"two")
    client.close()
    proxy.heal()
    wait_until(lambda: echo.heard == [b"one", b"two"], 2)


def test_a_deaf_proxy_swallows_and_resets_on_healing(proxy: Proxy, client: socket.socket, echo: Echo) -> None:
    assert ask(client, b"one") == b"ONE"
    proxy.go_deaf()
    with pytest.raises(TimeoutError):
        ask(client, b"two")
    with _client(proxy) as newcomer:
        with pytest.raises(TimeoutError):
            ask(newcomer, b"three")
        proxy.heal()
        for connection in (client, newcomer):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    assert echo.heard == [b"one"]
    with _client(proxy) as healed:
        assert ask(healed, b"four") == b"FOUR"


def test_refuses_and_is_back_on_the_same_port(proxy: Proxy, client: socket.socket) -> None:
    port = proxy.port
    assert ask(client, b"one") == b"ONE"
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        _client(proxy)
    proxy.heal()
    with _client(proxy) as healed:
        assert ask(healed, b"two") == b"TWO"
    assert proxy.port == port


def test_cuts_what_is_open_once(proxy: Proxy, client: socket.socket) -> None:
    assert ask(client, b"one") == b"ONE"
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with _client(proxy) as newcomer:
        assert ask(newcomer, b"two") == b"TWO"


def test_drops_the_reply_to_one_matching_request(proxy: Proxy, client: socket.socket, echo: Echo) -> None:
    proxy.drop_reply(after=b"claim")
    assert ask(client, b"other") == b"OTHER"
    with pytest.raises(ConnectionResetError):
        ask(client, b"claim")
    assert (echo.heard, proxy.dropped) == ([b"other", b"claim"], 1)
    with _client(proxy) as newcomer:
        assert ask(newcomer, b"claim") == b"CLAIM"


def test_drops_a_reply_silently_and_leaves_the_connection_open(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    proxy.drop_reply(after=b"claim", silently=True)
    for text in (b"claim", b"other"):
        with pytest.raises(TimeoutError):
            ask(client, text)
    assert (echo.heard, proxy.dropped) == ([b"claim", b"other"], 1)
    with _client(proxy) as newcomer:
        assert ask(newcomer, b"claim") == b"CLAIM"


def test_a_server_that_is_away_resets_the_client(proxy: Proxy) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        proxy.target = ("127.0.0.1", free.getsockname()[1])
    with pytest.raises(ConnectionResetError), _client(proxy) as client:
        client.recv(1)
