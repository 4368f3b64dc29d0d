"""The bare fan-out on FastAPI and httpx, under uvicorn with uvloop and httptools.

    python -m loadtest.peers.fastapi_fanout --ports 8001,8002 [--tmax-ms 1500]

For every POST it asks all buyers with `asyncio.gather` and answers the best bid. It is not slowed
on purpose: a client per buyer, because httpx walks all connections of a client's pool for every
request (one client for all collapses at 160 connections); no limit of connections, no access log.
FastAPI, httpx and uvicorn are no dependencies of the project: the bench fetches them.
"""

import argparse
import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal, InvalidOperation

import fastapi
import httpx
import orjson
import uvicorn

JSON = {"Content-Type": "application/json"}
UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=75)


class Fanout:
    """The route and its clients."""

    def __init__(self, ports: list[str], tmax_s: float) -> None:
        self._ports, self._tmax_s = ports, tmax_s
        self._clients: list[httpx.AsyncClient] = []

    @asynccontextmanager
    async def connected(self, app: fastapi.FastAPI) -> AsyncIterator[None]:
        """The clients, for as long as the application runs."""
        async with AsyncExitStack() as stack:
            for port in self._ports:
                client = httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}",
                    headers=JSON,
                    limits=UNLIMITED,
                    timeout=self._tmax_s,
                    trust_env=False,
                )
                self._clients.append(await stack.enter_async_context(client))
            yield

    async def ping(self, request: fastapi.Request) -> fastapi.Response:
        """Ask everybody, answer the best bid."""
        body = await request.body()
        bids = await asyncio.gather(*(self._asked(client, body) for client in self._clients))
        best = max((bid for bid in bids if bid is not None), default=None)
        reply = orjson.dumps({"bid": None if best is None else str(best)})
        return fastapi.Response(content=reply, media_type="application/json")

    async def _asked(self, client: httpx.AsyncClient, body: bytes) -> Decimal | None:
        try:
            async with asyncio.timeout(self._tmax_s):
                reply = await client.post("/ping", content=body)
            return Decimal(orjson.loads(reply.content)["bid"])
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, InvalidOperation):
            return None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", required=True)
    parser.add_argument("--tmax-ms", type=int, default=1500)
    spec = parser.parse_args()
    fanout = Fanout(spec.ports.split(","), spec.tmax_ms / 1000)
    app = fastapi.FastAPI(lifespan=fanout.connected, openapi_url=None)
    app.add_api_route("/ping", fanout.ping, methods=["POST"])
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(json.dumps({"pid": os.getpid(), "port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="error",
        timeout_keep_alive=75,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
