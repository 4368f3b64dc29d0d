"""The exchange's fan-out engine behind a bare aiohttp server: the same job as `aiohttp_fanout`, so
that the two can be compared in one run. Each answer is read by the house dialect, as in an auction.

    python -m loadtest.peers.engine_fanout --ports 8001,8002 [--ca ca.pem] [--tmax-ms 1500]
"""

import argparse
import asyncio
import importlib
import json
import os
from typing import Any

import orjson
import uvloop
from aiohttp import web


class Fanout:
    """The handler and the engine's endpoints."""

    def __init__(self, buyers: Any, endpoints: list[Any], tmax_s: float) -> None:
        self._buyers, self._endpoints, self._tmax_s = buyers, endpoints, tmax_s
        self._loop = asyncio.get_running_loop()
        model = importlib.import_module("exchange.core.model")
        self._bid_type = model.Bid
        self._read_bid = importlib.import_module("exchange.dialects.json").read_bid
        self._reply_type = importlib.import_module("exchange.core.wire").HttpReply
        self._contract = model.Contract(
            id=1,
            key="bench",
            buyer_id=1,
            vertical_id=1,
            terms=model.ContractTerms(buyer="bench", vertical="bench"),
            price_micros=None,
            bid_min_micros=0,
            bid_max_micros=None,
            caps=(),
            time_zone=None,
        )

    async def ping(self, request: web.Request) -> web.Response:
        """Ask everybody, answer the best bid."""
        body = await request.read()
        prices: list[int] = []

        def on_answer(_index: int, answer: Any, _waited_ms: float) -> bool:
            if isinstance(answer, self._reply_type):
                bid = self._read_bid(self._contract, answer)
                if isinstance(bid, self._bid_type):
                    prices.append(bid.price_micros)
            return False

        await self._buyers.ask(
            [(endpoint, body) for endpoint in self._endpoints],
            deadline=self._loop.time() + self._tmax_s,
            on_answer=on_answer,
        )
        reply = orjson.dumps({"bid": max(prices) if prices else None, "bids": len(prices)})
        return web.Response(body=reply, content_type="application/json")


async def serve(spec: argparse.Namespace) -> None:
    """Serve until killed."""
    buyers = importlib.import_module("exchange.effects.buyers").Buyers(lab=True)
    scheme = "https" if spec.ca else "http"
    endpoints = [
        buyers.endpoint(
            key=str(number),
            url=f"{scheme}://127.0.0.1:{port}/ping",
            headers={},
            in_flight_max=256,
            tls_ca=spec.ca or None,
            pool="ping",
        )
        for number, port in enumerate(spec.ports.split(","))
    ]
    fanout = Fanout(buyers, endpoints, spec.tmax_ms / 1000)
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
