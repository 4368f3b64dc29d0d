"""Real loopback sockets and buyers that behave as badly as a test asks them to.

A *script* is a coroutine that plays one connection of a buyer: it reads requests and writes
whatever bytes it likes. `service.serve(script)` gives a port, `house.ask(...)` asks and collects.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from exchange.core.wire import Answer
from exchange.effects.buyers import Buyers, Endpoint

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"bid":"1"}'


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """These tests run on the loop of production."""
    return {"uvloop": uvloop.new_event_loop}


class Peer:
    """The buyer's side of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: Any) -> None:
        self.number, self.reader, self.writer = number, reader, writer

    async def request(self) -> tuple[bytes, bytes]:
        """The next request's head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head, await self.reader.readexactly(length)

    def say(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with an RST, as a crashed process's kernel does."""
        linger = struct.pack("ii", 1, 0)
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the exchange has closed its side."""
        await self.reader.read()


Script = Callable[[Peer], Awaitable[None]]


async def polite(peer: Peer) -> None:
    """Answers everything, for ever."""
    while True:
        await peer.request()
        peer.say(OK)


def answering(*parts: bytes) -> Script:
    """Answers the first request of every connection with these bytes, then waits."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(*parts)
        await peer.gone()

    return script


async def hanging(peer: Peer) -> None:
    """Reads and never answers."""
    await peer.gone()


class Service:
    """Listening buyers of one test."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.connections = 0

    async def serve(self, script: Script, tls: ssl.SSLContext | None = None) -> int:
        async def played(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            self.connections += 1
            try:
                await script(Peer(self.connections, reader, writer))
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(played, "127.0.0.1", 0, ssl=tls)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    yield service
    await service.close()


class House:
    """An engine with small limits, and short words to use it."""

    def __init__(self, **limits: Any) -> None:
        self.buyers = Buyers(**{"lab": True, "connect_timeout_ms": 1_000, **limits})
        self._loop = asyncio.get_running_loop()

    def endpoint(self, port: int, key: str = "", **more: Any) -> Endpoint:
        settings: dict[str, Any] = {
            "key": key or str(port),
            "url": f"http://127.0.0.1:{port}/ping",
            "headers": {},
            "in_flight_max": 8,
            "tls_ca": None,
            "pool": "ping",
            **more,
        }
        return self.buyers.endpoint(**settings)

    async def ask(
        self, *endpoints: Endpoint, within_s: float = 2.0, enough: int = 10_000
    ) -> list[Answer]:
        """One round; the answers in the order of the endpoints. Checks that each came once."""
        answers: dict[int, Answer] = {}

        def on_answer(index: int, answer: Answer, waited_ms: float) -> bool:
            assert index not in answers
            assert waited_ms >= 0
            answers[index] = answer
            return len(answers) >= enough

        await self.buyers.ask(
            [(endpoint, b"{}") for endpoint in endpoints],
            deadline=self._loop.time() + within_s,
            on_answer=on_answer,
        )
        return [answers[index] for index in range(len(endpoints))]

    async def send(self, endpoint: Endpoint, within_s: float = 2.0, **more: Any) -> Answer:
        return await self.buyers.send(
            endpoint, body=b"{}", deadline=self._loop.time() + within_s, **more
        )


@pytest.fixture
async def houses() -> AsyncIterator[Callable[..., House]]:
    """Makes engines; closes them at the end."""
    made: list[House] = []

    def make(**limits: Any) -> House:
        made.append(House(**limits))
        return made[-1]

    yield make
    for house in made:
        await house.buyers.close()


@pytest.fixture
async def house(houses: Callable[..., House]) -> House:
    return houses(reply_bytes_max=1_000, head_bytes_max=2_000)


async def until(is_true: Callable[[], bool]) -> None:
    """Let the loop turn until something has come about; the test's own time limit guards it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 5
    while not is_true():
        turned = loop.create_future()
        loop.call_later(0.001, turned.set_result, None)
        await turned
        assert loop.time() < deadline, "it never came about"


@pytest.fixture
def acts() -> SimpleNamespace:
    """The usual behaviours and helpers: `acts.polite`, `acts.answering(b"...")`, `acts.until`..."""
    return SimpleNamespace(
        OK=OK, polite=polite, answering=answering, hanging=hanging, until=until, service=Service
    )
