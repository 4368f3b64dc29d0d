"""Many buyers in one very cheap process, so that a benchmark measures the exchange and not them.

    python -m loadtest.peers.raw_buyer --buyers 10 --delay-ms 0 --tls-dir /tmp/x

Every buyer has a port of its own, plain, and one with TLS when `--tls-dir` is given (its authority
is written there as `ca.pem`). To a POST whose path starts with /post it answers an accepted sale,
to anything else a constant bid, higher from port to port. `--hanging N`: the last N never answer.

When ready it prints one line of JSON: {"pid", "ports", "tls_ports", "ca", "delay_ms"}.
"""

import argparse
import asyncio
import json
import os
import signal
import ssl
from pathlib import Path
from typing import Any

import trustme
import uvloop


class Buyer(asyncio.Protocol):
    """One connection. Reads just enough HTTP to know where a request ends."""

    __slots__ = ("_accepted", "_bid", "_buffer", "_delay_s", "_hangs", "_loop", "_transport")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, bid: bytes, spec: argparse.Namespace
    ) -> None:
        self._loop, self._bid = loop, _reply(bid, spec.delay_ms)
        self._accepted = _reply(b'{"status":"accepted","ref":"raw"}', spec.delay_ms)
        self._delay_s, self._hangs = spec.delay_ms / 1000, bid == b""
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            end = head + 4 + _length(self._buffer[:head])
            if len(self._buffer) < end:
                return
            is_post = self._buffer.startswith(b"POST /post")
            self._buffer = self._buffer[end:]
            if not self._hangs:
                self._answer(self._accepted if is_post else self._bid)

    def _answer(self, reply: bytes) -> None:
        if self._delay_s:
            self._loop.call_later(self._delay_s, self._write, reply)
        else:
            self._transport.write(reply)

    def _write(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)


def _length(head: bytes) -> int:
    at = head.find(b"Content-Length: ")
    return int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def _reply(body: bytes, delay_ms: float) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nServer: raw\r\nContent-Type: application/json\r\n"
        b"X-Sim-Delay-Ms: %g\r\nContent-Length: %d\r\n\r\n%b" % (delay_ms, len(body), body)
    )


def _tls(folder: Path) -> ssl.SSLContext:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def serve(spec: argparse.Namespace) -> None:
    """Listen, say where, and run until told to stop."""
    loop = asyncio.get_running_loop()
    tls = _tls(Path(spec.tls_dir)) if spec.tls_dir else None
    ports: list[int] = []
    tls_ports: list[int] = []
    servers = []
    for number in range(spec.buyers):
        hangs = number >= spec.buyers - spec.hanging
        bid = b"" if hangs else b'{"bid":"%d.%02d","ref":"r%d"}' % (spec.bid + number, 50, number)
        for context, found in ((None, ports), (tls, tls_ports)):
            if context is None and found is tls_ports:
                continue
            server = await loop.create_server(
                lambda bid=bid: Buyer(loop, bid, spec), "127.0.0.1", 0, ssl=context, backlog=1024
            )
            servers.append(server)
            found.append(server.sockets[0].getsockname()[1])
    ready = {
        "pid": os.getpid(),
        "ports": ports,
        "tls_ports": tls_ports,
        "ca": str(Path(spec.tls_dir) / "ca.pem") if spec.tls_dir else None,
        "delay_ms": spec.delay_ms,
    }
    print(json.dumps(ready), flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buyers", type=int, default=10)
    parser.add_argument("--bid", type=int, default=20, help="whole units of the lowest bid")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--hanging", type=int, default=0)
    parser.add_argument("--tls-dir", default="")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
