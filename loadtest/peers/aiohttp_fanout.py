"""The baseline: what one would write without thinking twice. For every POST it asks all buyers with
one aiohttp client session and `asyncio.gather`, and answers the best bid. No rules, no records.

    python -m loadtest.peers.aiohttp_fanout --ports 8001,8002 [--ca ca.pem] [--tmax-ms 1500]

It is not slowed on purpose: uvloop, keep-alive without a limit of connections, no cookies, orjson.
"""

import argparse
import asyncio
import json
import os
import ssl
from decimal import Decimal

import aiohttp
import orjson
import uvloop
from aiohttp import web


class Fanout:
    """The handler and its session."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str]) -> None:
        self._session, self._urls = session, urls

    async def ping(self, request: web.Request) -> web.Response:
        """Ask everybody, answer the best bid."""
        body = await request.read()
        bids = await asyncio.gather(*(self._asked(url, body) for url in self._urls))
        best = max((bid for bid in bids if bid is not None), default=None)
        reply = orjson.dumps({"bid": None if best is None else str(best)})
        return web.Response(body=reply, content_type="application/json")

    async def _asked(self, url: str, body: bytes) -> Decimal | None:
        try:
            async with self._session.post(
                url, data=body, headers={"Content-Type": "application/json"}, allow_redirects=False
            ) as reply:
                answer = orjson.loads(await reply.read())
                return Decimal(answer["bid"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return None


async def serve(spec: argparse.Namespace) -> None:
    """Serve until killed."""
    tls = ssl.create_default_context(cafile=spec.ca) if spec.ca else None
    scheme = "https" if tls else "http"
    urls = [f"{scheme}://127.0.0.1:{port}/ping" for port in spec.ports.split(",")]
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, ssl=tls or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=spec.tmax_ms / 1000),
    ) as session:
        await listen(Fanout(session, urls))


async def listen(fanout: Fanout) -> None:
    """An aiohttp server with the one route; prints where it listens."""
    app = web.Application()
    app.router.add_post("/ping", fanout.ping)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(json.dumps({"pid": os.getpid(), "port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", required=True)
    parser.add_argument("--ca", default="")
    parser.add_argument("--tmax-ms", type=int, default=1500)
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
