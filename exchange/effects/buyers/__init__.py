"""The fan-out: one question to many buyers at once, under one deadline; and one post to one buyer.

This is the one hot path of the exchange, so it is built on transports and a C parser instead of an
HTTP client: a warm connection per call, one write each, one timer per auction, no task per buyer.

The parts, each in its file: `Asking` (one round: every call is answered exactly once),
`Connection` (one request, one answer, every limit), `Endpoint` (a buyer's address: warm
connections, limit in flight, health), `Names` (addresses off the loop), `Health` (rest and trial).

What a caller may assume: nothing a buyer does raises, blocks, outlives its deadline or costs
another buyer anything; redirects are never followed; `NoReply.sent` is true exactly when the
request was given to the transport.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from exchange.core.addresses import Target, target
from exchange.core.wire import Answer
from exchange.effects.buyers.asking import TOO_LATE, Asking, OnAnswer
from exchange.effects.buyers.endpoint import Endpoint, Limits, Pool, Stats
from exchange.effects.buyers.names import Names, Resolve

__all__ = ["Buyers", "Endpoint", "Stats"]

SWEEP_S = 0.5
"""How often idle and draining connections are looked at: their limits are exact to this."""

Spec = tuple[str, tuple[tuple[str, str], ...], str | None, Pool]


class Buyers:
    """The engine of one worker. Build it inside the running loop; `close` it there.

    - `reply_bytes_max`, `head_bytes_max`: the most of an answer's body and head that is read.
    - `lab`: plain http, any port, loopback and private addresses are allowed.
    - `connect_timeout_ms`: name, connection and TLS together at most twice this.
    - `dns_ttl_s`: how long addresses are believed; `resolve` replaces the system's resolver.
    - `ping_idle_s`, `post_idle_s`: how long an unused connection is trusted. A ping lost to a
      half-dead connection is asked again, a post never: hence the second is short.
    - `connection_age_s`: no connection lives longer, so a buyer's moved name is noticed.
    - `drain_s`: how long a late answer is awaited before its connection is closed.
    - `fair_wait_ms`: silence counts against a buyer only if it had this long to answer.
    - `failures_max` in a row, and the endpoint rests `rest_s_min`, doubling up to `rest_s_max`.
    """

    def __init__(
        self,
        *,
        reply_bytes_max: int = 65_536,
        head_bytes_max: int = 16_384,
        lab: bool = False,
        connect_timeout_ms: int = 2_000,
        dns_ttl_s: float = 60.0,
        ping_idle_s: float = 30.0,
        post_idle_s: float = 1.0,
        connection_age_s: float = 300.0,
        drain_s: float = 5.0,
        fair_wait_ms: int = 250,
        failures_max: int = 10,
        rest_s_min: float = 1.0,
        rest_s_max: float = 30.0,
        resolve: Resolve | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lab = lab
        self._limits = Limits(
            reply_bytes_max=reply_bytes_max,
            head_bytes_max=head_bytes_max,
            connect_timeout_s=connect_timeout_ms / 1000,
            ping_idle_s=ping_idle_s,
            post_idle_s=post_idle_s,
            connection_age_s=connection_age_s,
            drain_s=drain_s,
            fair_wait_s=fair_wait_ms / 1000,
            failures_max=failures_max,
            rest_s_min=rest_s_min,
            rest_s_max=rest_s_max,
        )
        self._names = Names(ttl_s=dns_ttl_s, resolve=resolve)
        self._endpoints: dict[str, tuple[Spec, Endpoint]] = {}
        self._retired: list[Endpoint] = []
        self._tls: dict[str | None, ssl.SSLContext] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rounds: set[Asking] = set()
        self._quiet: asyncio.Future[None] | None = None
        self._sweeper = self._loop.call_later(SWEEP_S, self._swept)

    # --- endpoints --------------------------------------------------------------------------------

    def endpoint(
        self,
        *,
        key: str,
        url: str,
        headers: Mapping[str, str],
        in_flight_max: int,
        tls_ca: str | None,
        pool: Pool,
    ) -> Endpoint:
        """The endpoint of this key: the same object as long as its settings are the same (only
        `in_flight_max` changes in place). Never raises: with a URL, header or CA that may not be
        used, every call to it is answered FORBIDDEN with the reason. `tls_ca` is a PEM text or the
        path of a PEM file; it replaces the system's authorities for this buyer."""
        spec: Spec = (url, tuple(sorted(headers.items())), tls_ca, pool)
        known = self._endpoints.get(key)
        if known is not None and known[0] == spec:
            known[1].in_flight_max = in_flight_max
            return known[1]
        if known is not None:
            self._retire(known[1])
        made = self._made(key, url, headers, in_flight_max, tls_ca, pool)
        self._endpoints[key] = (spec, made)
        return made

    def retire(self, keys: Iterable[str]) -> None:
        """Retire the endpoints of these keys, if there are any: calls under way still end."""
        for key in self._endpoints.keys() & set(keys):
            self._retire(self._endpoints.pop(key)[1])

    def is_healthy(self, key: str) -> bool:
        """Is the endpoint of this key worth inviting now? An unknown one is."""
        known = self._endpoints.get(key)
        return known is None or known[1].healthy

    def stats(self) -> dict[str, Stats]:
        """The counters of every endpoint in force, by key."""
        return {key: endpoint.stats for key, (_, endpoint) in self._endpoints.items()}

    # --- asking -----------------------------------------------------------------------------------

    def ask(
        self,
        calls: Sequence[tuple[Endpoint, bytes]],
        *,
        deadline: float,
        on_answer: OnAnswer,
    ) -> asyncio.Future[None]:
        """Ask all at once; the future is done when every call has been answered.

        `on_answer(index, answer, waited_ms)` is called synchronously, exactly once per call, also
        for those outstanding at the `deadline` (loop time) or when it returns `True`: "this round
        may end now". Calls that cannot be sent are answered before this returns. If `on_answer`
        raises, the future does too, when all have ended.
        """
        now = self._loop.time()
        asking = self._begun(len(calls), now, deadline, on_answer, repeatable=True)
        if deadline <= now:
            for index in range(len(calls)):
                asking.settle(index, TOO_LATE)
            return asking.done
        for index, (endpoint, body) in enumerate(calls):
            if asking.is_ending:
                break
            request = b"%b%d\r\n\r\n%b" % (endpoint.ping_head, len(body), body)
            endpoint.start(asking, index, request, now)
        if asking.left:
            asking.timer = self._loop.call_at(deadline, asking.expire)
        return asking.done

    async def send(
        self,
        endpoint: Endpoint,
        *,
        method: str = "POST",
        query: str = "",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        deadline: float,
    ) -> Answer:
        """One request that is never repeated: a post, or a question about one. `query` is added to
        the endpoint's URL and, like headers, must hold nothing personal. Raises `ValueError` for a
        header or query that is not one line. When cancelled, the answer is drained unread."""
        request = endpoint.request(method, query, headers, body)
        answers: list[Answer] = []

        def on_answer(_index: int, answer: Answer, _waited_ms: float) -> bool:
            answers.append(answer)
            return False

        now = self._loop.time()
        asking = self._begun(1, now, deadline, on_answer, repeatable=False)
        if deadline <= now:
            asking.settle(0, TOO_LATE)
        else:
            endpoint.start(asking, 0, request, now)
        if asking.left:
            asking.timer = self._loop.call_at(deadline, asking.expire)
        try:
            await asking.done
        finally:
            asking.abandon()
        return answers[0]

    def _begun(
        self, count: int, now: float, deadline: float, on_answer: OnAnswer, *, repeatable: bool
    ) -> Asking:
        asking = Asking(
            count,
            now=now,
            deadline=deadline,
            repeatable=repeatable,
            on_answer=on_answer,
            on_end=self._ended,
            done=self._loop.create_future(),
        )
        if count:
            self._rounds.add(asking)
        else:
            asking.done.set_result(None)
        return asking

    def _ended(self, asking: Asking) -> None:
        self._rounds.discard(asking)
        if self._quiet is not None and not self._rounds and not self._quiet.done():
            self._quiet.set_result(None)

    # --- tidying ----------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Close what has idled or drained too long; runs by itself, public for virtual time."""
        for _, endpoint in self._endpoints.values():
            endpoint.sweep(now)
        for endpoint in self._retired:
            endpoint.sweep(now)
        self._retired = [endpoint for endpoint in self._retired if not endpoint.is_quiet]

    async def close(self) -> None:
        """Let the rounds under way end (each has its deadline), then close every connection."""
        if self._rounds:
            self._quiet = self._loop.create_future()
            await self._quiet
        self._sweeper.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        everyone = [endpoint for _, endpoint in self._endpoints.values()] + self._retired
        for endpoint in everyone:
            await endpoint.close()
        self._names.close()

    def _swept(self) -> None:
        self.sweep(self._loop.time())
        self._sweeper = self._loop.call_later(SWEEP_S, self._swept)

    def _retire(self, endpoint: Endpoint) -> None:
        endpoint.retire()
        self._retired.append(endpoint)

    # --- making -----------------------------------------------------------------------------------

    def _made(
        self,
        key: str,
        url: str,
        headers: Mapping[str, str],
        in_flight_max: int,
        tls_ca: str | None,
        pool: Pool,
    ) -> Endpoint:
        aim = target(url, lab=self._lab)
        tls = None
        if isinstance(aim, Target) and aim.tls:
            try:
                tls = self._tls_context(tls_ca)
            except (OSError, ssl.SSLError, ValueError):
                aim = "the buyer's CA file cannot be read as PEM"
        return Endpoint(
            key=key,
            target=aim,
            headers=headers,
            in_flight_max=in_flight_max,
            tls=tls,
            pool=pool,
            lab=self._lab,
            limits=self._limits,
            names=self._names,
            spawn=self._spawned,
        )

    def _tls_context(self, tls_ca: str | None) -> ssl.SSLContext:
        """A verifying context; one per CA, as loading authorities takes milliseconds."""
        context = self._tls.get(tls_ca)
        if context is None:
            if tls_ca is not None and tls_ca.lstrip().startswith("-----BEGIN"):
                context = ssl.create_default_context(cadata=tls_ca)
            else:
                context = ssl.create_default_context(cafile=tls_ca)
            context.set_alpn_protocols(["http/1.1"])
            self._tls[tls_ca] = context
        return context

    def _spawned(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
