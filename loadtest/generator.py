"""A load generator that costs little beside what it measures: raw protocol, keep-alive connections.

    python -m loadtest.generator --url http://127.0.0.1:8080/v1/ping --body-file pings.jsonl \\
        --header "Authorization: Bearer ex_live_..." --connections 16 --seconds 5 --pid 4711

Closed loop: each connection asks again as soon as it was answered. With `--rate`, open loop:
requests start at even times whether or not the earlier ones were answered, and the wait for a free
connection counts. `--post-path /v1/post --post-file posts.jsonl` sends a post after each ping that
was offered something: its line is the post's JSON, to which the `ping_id` of the offer is added.

Prints one JSON document: requests, errors, rate, latencies in ms (pings and posts apart), and for
every `--pid` the CPU time per request. `Load`, `run` are for other benchmarks.
"""

import argparse
import asyncio
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send and how. `next_request` makes the bytes of the next first request; `follow_up`
    the bytes of a second one from the first and the body of its 200 reply, or `None`."""

    host: str
    port: int
    next_request: Callable[[], bytes]
    follow_up: Callable[[bytes, bytes], bytes | None] | None = None
    connections: int = 16
    rate: float | None = None
    seconds: float = 5.0
    warmup_s: float = 1.0
    pids: Sequence[int] = ()


@dataclass
class Tally:
    """What was measured after the warm-up. Latencies in seconds."""

    first_s: list[float] = field(default_factory=list)
    second_s: list[float] = field(default_factory=list)
    late_start_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0

    def report(self, elapsed_s: float, cpu_s: dict[int, float]) -> dict[str, Any]:
        """The figures as JSON."""
        count = len(self.first_s)
        return {
            "requests": count,
            "per_s": round(count / elapsed_s, 1),
            "statuses": {str(status): number for status, number in sorted(self.statuses.items())},
            "lost": self.lost,
            "latency_ms": quantiles_ms(self.first_s),
            "second": {"requests": len(self.second_s), "latency_ms": quantiles_ms(self.second_s)},
            "late_start_ms": quantiles_ms(self.late_start_s),
            "cpu_us_per_request": {
                str(pid): round(used * 1e6 / count, 1) if count else None
                for pid, used in cpu_s.items()
            },
            "cpu_share": {str(pid): round(used / elapsed_s, 3) for pid, used in cpu_s.items()},
        }


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """The quantiles and the largest, in ms."""
    if not seconds:
        return {}
    ranked = sorted(seconds)
    last = len(ranked) - 1
    found = {name: ranked[min(last, int(part * len(ranked)))] for name, part in QUANTILES.items()}
    return {name: round(value * 1000, 3) for name, value in (*found.items(), ("max", ranked[-1]))}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads so far (not its children)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


class Connection(asyncio.Protocol):
    """One keep-alive connection of the generator. Replies must have a Content-Length."""

    def __init__(self, generator: "Generator") -> None:
        self._generator = generator
        self._buffer = self.request = b""
        self._transport: Any = None
        self._asked_at = 0.0
        self._is_second = False
        self._is_under_way = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, request: bytes, *, asked_at: float, is_second: bool) -> None:
        """Send one request; its latency counts from `asked_at`."""
        self._asked_at, self._is_second, self._is_under_way = asked_at, is_second, True
        self.request = request
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        end = head + 4 + _length(self._buffer[:head])
        if len(self._buffer) < end:
            return
        status, body = int(self._buffer[9:12]), self._buffer[head + 4 : end]
        self._buffer = self._buffer[end:]
        self._is_under_way = False
        took_s = time.perf_counter() - self._asked_at
        self._generator.answered(self, status, body, took_s, is_second=self._is_second)

    def connection_lost(self, exc: Exception | None) -> None:
        self._generator.lost(self, was_under_way=self._is_under_way)

    def close(self) -> None:
        """Drop it."""
        self._transport.abort()


def _length(head: bytes) -> int:
    at = head.lower().find(b"content-length: ")
    return int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


class Generator:
    """One run of a load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._open: set[Connection] = set()
        self._tally = Tally()
        self._is_measuring = self._is_over = False

    async def run(self) -> dict[str, Any]:
        """Connect, warm up, measure, report."""
        for _ in range(self._load.connections):
            await self._connect()
        ticking = None if self._load.rate is None else asyncio.create_task(self._tick())
        if ticking is None:
            for connection in list(self._free):
                self._ask(connection, time.perf_counter())
            self._free.clear()
        await asyncio.sleep(self._load.warmup_s)
        before = {pid: cpu_seconds(pid) for pid in self._load.pids}
        self._is_measuring, began = True, time.perf_counter()
        await asyncio.sleep(self._load.seconds)
        self._is_measuring, elapsed_s = False, time.perf_counter() - began
        cpu_s = {pid: cpu_seconds(pid) - used for pid, used in before.items()}
        self._is_over = True
        if ticking is not None:
            ticking.cancel()
        for connection in tuple(self._open):
            connection.close()
        return self._tally.report(elapsed_s, cpu_s)

    async def _connect(self) -> None:
        _, connection = await self._loop.create_connection(
            lambda: Connection(self), self._load.host, self._load.port
        )
        self._open.add(connection)
        self._free.append(connection)

    async def _tick(self) -> None:
        """Start requests at even times. A start that this process itself is late for is reported
        apart: it is the generator's fault, not the server's."""
        assert self._load.rate is not None
        began, number = time.perf_counter(), 0
        while True:
            number += 1
            due = began + number / self._load.rate
            now = time.perf_counter()
            if due > now:
                await asyncio.sleep(due - now)
            now = time.perf_counter()
            if self._is_measuring:
                self._tally.late_start_s.append(now - due)
            if self._free:
                self._ask(self._free.popleft(), now)
            else:
                self._due.append(now)

    def _ask(self, connection: Connection, asked_at: float) -> None:
        connection.send(self._load.next_request(), asked_at=asked_at, is_second=False)

    def answered(
        self, connection: Connection, status: int, body: bytes, took_s: float, *, is_second: bool
    ) -> None:
        """Note an answer, and use its connection again."""
        if self._is_over:
            return
        if self._is_measuring:
            self._tally.statuses[status] += 1
            (self._tally.second_s if is_second else self._tally.first_s).append(took_s)
        follow_up = self._load.follow_up
        if follow_up is not None and status == 200 and not is_second:
            request = follow_up(connection.request, body)
            if request is not None:
                connection.send(request, asked_at=time.perf_counter(), is_second=True)
                return
        if self._load.rate is None:
            self._ask(connection, time.perf_counter())
        elif self._due:
            self._ask(connection, self._due.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: Connection, *, was_under_way: bool) -> None:
        """A connection was closed by the server: count it, make a new one."""
        self._open.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if self._is_over:
            return
        if self._is_measuring and was_under_way:
            self._tally.lost += 1
        self._again = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        await self._connect()
        if self._load.rate is None:
            self._ask(self._free.pop(), time.perf_counter())


async def run(load: Load) -> dict[str, Any]:
    """Run one load and report it."""
    return await Generator(load).run()


def request_bytes(path: str, host: str, headers: Sequence[str], body: bytes) -> bytes:
    """A POST of JSON."""
    lines = "".join(f"{line}\r\n" for line in headers)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{lines}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def cycled(requests: Sequence[bytes]) -> Callable[[], bytes]:
    """One after the other, for ever."""
    endless = cycle(requests)
    return lambda: next(endless)


def posting(
    path: str, host: str, headers: Sequence[str], posts: Sequence[dict[str, Any]]
) -> Callable[[bytes, bytes], bytes | None]:
    """A follow-up that takes up every offer."""
    endless = cycle(posts)

    def follow_up(_request: bytes, reply: bytes) -> bytes | None:
        offer = orjson.loads(reply)
        if offer.get("status") != "offer":
            return None
        post = {**next(endless), "ping_id": offer["ping_id"]}
        return request_bytes(path, host, headers, orjson.dumps(post))

    return follow_up


def _load(spec: argparse.Namespace) -> Load:
    url = urlsplit(spec.url)
    host = f"{url.hostname}:{url.port}"
    lines = (
        Path(spec.body_file).read_bytes().splitlines() if spec.body_file else [spec.body.encode()]
    )
    posts = (
        [orjson.loads(line) for line in Path(spec.post_file).read_bytes().splitlines()]
        if (spec.post_file)
        else []
    )
    return Load(
        host=url.hostname or "127.0.0.1",
        port=url.port or 80,
        next_request=cycled(
            [request_bytes(url.path or "/", host, spec.header, one) for one in lines]
        ),
        follow_up=posting(spec.post_path, host, spec.header, posts) if posts else None,
        connections=spec.connections,
        rate=spec.rate,
        seconds=spec.seconds,
        warmup_s=spec.warmup,
        pids=spec.pid,
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--body", default="{}")
    parser.add_argument("--body-file", default="", help="one JSON body a line, sent in turn")
    parser.add_argument("--post-path", default="/v1/post")
    parser.add_argument("--post-file", default="")
    parser.add_argument("--header", action="append", default=[], help='such as "Name: value"')
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=float, default=None, help="requests per second (open loop)")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--pid", type=int, action="append", default=[])
    print(json.dumps(uvloop.run(run(_load(parser.parse_args()))), indent=2))


if __name__ == "__main__":
    main()
