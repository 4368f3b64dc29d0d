"""One address of one buyer: its prebuilt head, its warm connections, its limits and its health.

A call takes a warm connection, or queues while one is made. There are never fewer connections
under way than calls in the queue, and never more calls (answers still being drained included) than
`in_flight_max`; so a buyer that hangs costs at most that many connections, then answers BUSY.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Literal

from exchange.core.addresses import Target, refusal
from exchange.core.model import Fact
from exchange.core.wire import NoReply, NoReplyKind
from exchange.effects.buyers.asking import Asking
from exchange.effects.buyers.connection import Connection, Head
from exchange.effects.buyers.health import Health
from exchange.effects.buyers.names import Names

Pool = Literal["ping", "post"]

BUSY: Final = NoReply(kind=NoReplyKind.BUSY, sent=False)
RESTING: Final = NoReply(kind=NoReplyKind.RESTING, sent=False)

HEADS_KNOWN_MAX: Final = 16
"""Heads remembered of one address. When there are more, all are forgotten: most old ones differ
from today's by a date, and will not come again."""
ADDRESSES_TRIED_MAX: Final = 3
"""Of a name with many addresses so many are tried per connection, within one connect timeout."""
OWN_HEADERS: Final = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "expect",
        "upgrade",
        "te",
        "trailer",
    }
)
"""What only the engine may say: these decide how the bytes are framed and who reads them."""
DEFAULT_HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "lead-exchange",
}


class Limits(Fact, frozen=True, kw_only=True):
    """The numbers of the engine; their meaning stands at `Buyers`."""

    reply_bytes_max: int
    head_bytes_max: int
    connect_timeout_s: float
    ping_idle_s: float
    post_idle_s: float
    connection_age_s: float
    drain_s: float
    fair_wait_s: float
    failures_max: int
    rest_s_min: float
    rest_s_max: float


class Stats:
    """What has happened at an endpoint since it was made; plain ints, read by metrics.

    `in_flight` is a level: requests under way, those whose late answer is still awaited included.
    `late`: answers that came after their deadline; `dropped`: answers after an early close.
    """

    __slots__ = (
        "answered",
        "asked",
        "busy",
        "connect_failures",
        "connects",
        "dropped",
        "failed",
        "in_flight",
        "late",
        "rested",
        "retried",
        "reused",
        "timeouts",
    )

    def __init__(self) -> None:
        self.asked = self.answered = self.timeouts = self.late = self.dropped = self.failed = 0
        self.connects = self.connect_failures = self.reused = self.retried = 0
        self.busy = self.rested = self.in_flight = 0


class Waiting:
    """A call in the queue for a connection."""

    __slots__ = ("_endpoint", "asking", "index", "request")
    sent = False

    def __init__(self, endpoint: "Endpoint", asking: Asking, index: int, request: bytes) -> None:
        self._endpoint, self.asking, self.index, self.request = endpoint, asking, index, request

    def let_go(self, *, timed_out: bool) -> None:
        """Leave the queue; the connection in the making will serve someone else."""
        self._endpoint.left_queue(self)


class Endpoint:
    """Where one buyer is asked (or posted to). Made by `Buyers.endpoint`."""

    def __init__(
        self,
        *,
        key: str,
        target: Target | str,
        headers: Mapping[str, str],
        in_flight_max: int,
        tls: ssl.SSLContext | None,
        pool: Pool,
        lab: bool,
        limits: Limits,
        names: Names,
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
    ) -> None:
        self.key, self.in_flight_max, self.stats = key, in_flight_max, Stats()
        self.reply_bytes_max, self.head_bytes_max = limits.reply_bytes_max, limits.head_bytes_max
        self._limits, self._names, self._spawn, self._lab, self._tls = (
            limits,
            names,
            spawn,
            lab,
            tls,
        )
        self._idle_s = limits.ping_idle_s if pool == "ping" else limits.post_idle_s
        self._age_s = limits.connection_age_s
        self._target, self._refused = _checked(target, headers)
        self._fixed = _fixed_head(self._target, headers) if self._target else b""
        self.ping_head = self._head("POST", "", ())
        """What stands before the length of a ping."""
        self._loop = asyncio.get_running_loop()
        self._health = Health(
            failures_max=limits.failures_max,
            rest_s_min=limits.rest_s_min,
            rest_s_max=limits.rest_s_max,
        )
        self.heads: dict[bytes, Head] = {}
        self._idle: deque[Connection] = deque()
        self._queue: deque[Waiting] = deque()
        self._draining: deque[Connection] = deque()
        self._connections: set[Connection] = set()
        self._dialing = 0
        self._good_address = ""
        self.is_retired = False

    @property
    def healthy(self) -> bool:
        """Worth inviting now: not resting, or due for its trial."""
        return self._health.is_healthy(self._loop.time())

    # --- asking -----------------------------------------------------------------------------------

    def request(
        self, method: str, query: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> bytes:
        """The bytes of any other request. Raises `ValueError` for a header or query that would
        break out of its line."""
        return b"%b%d\r\n\r\n%b" % (self._head(method, query, headers), len(body), body)

    def start(self, asking: Asking, index: int, request: bytes, now: float) -> None:
        """Begin one call: on a warm connection at once, else in the queue for one."""
        stats = self.stats
        stats.asked += 1
        if self._refused is not None:
            asking.settle(index, self._refused)
            return
        if stats.in_flight >= self.in_flight_max:
            stats.busy += 1
            asking.settle(index, BUSY)
            return
        if self._health.rest_until and not self._health.admits(now):
            stats.rested += 1
            asking.settle(index, RESTING)
            return
        stats.in_flight += 1
        idle = self._idle
        while idle:
            connection = idle.pop()  # the one used last
            is_fresh = now - connection.free_since <= self._idle_s
            if is_fresh and not (connection.is_closed or connection.transport.is_closing()):
                stats.reused += 1
                connection.ask(asking, index, request)
                return
            connection.close()
        self._enqueue(asking, index, request)

    def _enqueue(self, asking: Asking, index: int, request: bytes) -> None:
        waiting = Waiting(self, asking, index, request)
        asking.held[index] = waiting
        self._queue.append(waiting)
        if self._dialing < len(self._queue):
            self._dialing += 1
            self._spawn(self._dial)

    def left_queue(self, waiting: Waiting) -> None:
        """A queued call was given up by its round."""
        self._queue.remove(waiting)
        self.stats.in_flight -= 1
        self._health.undecided()

    # --- what connections report ------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """A connection exists."""
        self._connections.add(connection)

    def ready(self, connection: Connection) -> None:
        """A connection is free: it serves the queue, or waits warm."""
        now = self._loop.time()
        if self._queue:
            waiting = self._queue.popleft()
            connection.ask(waiting.asking, waiting.index, waiting.request)
        elif self.is_retired or now - connection.born > self._age_s:
            connection.close()
        else:
            connection.free_since = now
            self._idle.append(connection)

    def served(self, connection: Connection) -> None:
        """An answer came in time and its connection is free: `answered` and `ready` in one step."""
        stats, health, now = self.stats, self._health, self._loop.time()
        stats.in_flight -= 1
        stats.answered += 1
        if health.failures or health.rest_until:
            health.succeeded()
        if self._queue or self.is_retired or now - connection.born > self._age_s:
            self.ready(connection)
        else:
            connection.free_since = now
            self._idle.append(connection)

    def answered(self) -> None:
        """An answer came in time."""
        self.stats.in_flight -= 1
        self.stats.answered += 1
        self._health.succeeded()

    def learn(self, head: bytes, said: Head) -> None:
        """The head of a whole answer, to be recognised when it comes again."""
        if len(self.heads) >= HEADS_KNOWN_MAX:
            self.heads.clear()
        self.heads[head] = said

    def drained(self, *, was_late: bool) -> None:
        """An answer came that nobody waits for."""
        self.stats.in_flight -= 1
        if was_late:
            self.stats.late += 1
        else:
            self.stats.dropped += 1

    def given_up(self, connection: Connection, asking: Asking, *, timed_out: bool) -> None:
        """An answer did not come before its round ended; it is drained when it does. A round too
        short to be fair says nothing about the buyer."""
        now = self._loop.time()
        connection.let_go_at = now
        self._draining.append(connection)
        if not timed_out:
            self._health.undecided()
            return
        self.stats.timeouts += 1
        if asking.allowed_s >= self._limits.fair_wait_s:
            self._health.failed(now)
        else:
            self._health.undecided()

    def failed(self, *, counts: bool) -> None:
        """A request under way came to nothing."""
        self.stats.in_flight -= 1
        self.stats.failed += 1
        if counts:
            self._health.failed(self._loop.time())
        else:
            self._health.undecided()

    def gone(self, connection: Connection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def again(self, asking: Asking, index: int, request: bytes) -> bool:
        """Ask once more; the connection it gets is fresh, or has just answered someone."""
        if self._loop.time() >= asking.deadline or asking.is_ending:
            return False
        self.stats.retried += 1
        self.stats.in_flight += 1
        self._enqueue(asking, index, request)
        return True

    # --- connecting -------------------------------------------------------------------------------

    async def _dial(self) -> None:
        """Make one connection. It goes to the queue even when the round that asked for it is
        over."""
        try:
            made = await self._connected()
        except Exception as error:  # a task of the fan-out must end its call, whatever happens
            made = _unreachable(type(error).__name__)
        finally:
            self._dialing -= 1
        if isinstance(made, Connection) and not made.is_usable:
            made = _unreachable("closed at once")
        if isinstance(made, Connection):
            self.stats.connects += 1
            self.ready(made)
        else:
            self._dial_failed(made)

    def _dial_failed(self, answer: NoReply) -> None:
        self.stats.connect_failures += 1
        self._health.failed(self._loop.time())
        while len(self._queue) > self._dialing:
            waiting = self._queue.popleft()
            self.stats.in_flight -= 1
            waiting.asking.settle(waiting.index, answer)

    async def _connected(self) -> Connection | NoReply:
        assert self._target is not None
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                addresses = await self._names.addresses(self._target.host)
        except OSError as error:  # TimeoutError is one
            return NoReply(kind=NoReplyKind.UNRESOLVED, sent=False, detail=_words(error))
        allowed = [one for one in addresses if refusal(one, lab=self._lab) is None]
        if not addresses:
            return NoReply(kind=NoReplyKind.UNRESOLVED, sent=False, detail="no address")
        if not allowed:
            why = refusal(addresses[0], lab=self._lab)
            return NoReply(
                kind=NoReplyKind.FORBIDDEN, sent=False, detail=f"the address is refused: {why}"
            )
        return await self._tried(allowed)

    async def _tried(self, addresses: list[str]) -> Connection | NoReply:
        """Connect to one of these addresses, the one that worked last first. Connecting to the
        checked address itself leaves nothing for the name to change."""
        if self._good_address in addresses:
            addresses.remove(self._good_address)
            addresses.insert(0, self._good_address)
        addresses = addresses[:ADDRESSES_TRIED_MAX]
        answer = _unreachable("no address")
        for address in addresses:
            try:
                async with asyncio.timeout(self._limits.connect_timeout_s / len(addresses)):
                    connection = await self._open(address)
            except (OSError, ValueError) as error:  # TLS errors are one or the other
                answer = _unreachable(_words(error))
            else:
                self._good_address = address
                return connection
        return answer

    async def _open(self, address: str) -> Connection:
        assert self._target is not None
        tls = self._tls
        _, connection = await self._loop.create_connection(
            lambda: Connection(self, now=self._loop.time()),
            address,
            self._target.port,
            ssl=tls,
            server_hostname=None if tls is None else self._target.host,
            ssl_handshake_timeout=None if tls is None else self._limits.connect_timeout_s,
        )
        return connection

    # --- tidying ----------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Close connections that idled too long or whose late answer does not come."""
        while self._idle and now - self._idle[0].free_since > self._idle_s:
            self._idle.popleft().close()
        while self._draining and now - self._draining[0].let_go_at > self._limits.drain_s:
            connection = self._draining.popleft()
            if connection.is_draining:
                connection.close()
        while self._draining and not self._draining[0].is_draining:
            self._draining.popleft()

    def retire(self) -> None:
        """No longer in the market: what is under way may end, nothing is kept warm."""
        self.is_retired = True
        while self._idle:
            self._idle.pop().close()

    async def close(self) -> None:
        """Drop every connection now; returns when the transports are gone."""
        self.retire()
        lost = [connection.lost() for connection in self._connections]
        for connection in tuple(self._connections):
            connection.close()
        await asyncio.gather(*lost)

    @property
    def is_quiet(self) -> bool:
        """No connection is left, nor in the making."""
        return not self._connections and not self._dialing

    # --- heads ------------------------------------------------------------------------------------

    def _head(self, method: str, query: str, headers: Sequence[tuple[str, str]]) -> bytes:
        path = self._target.path if self._target else "/"
        if query:
            path += ("&" if "?" in path else "?") + query
        if not _is_line(method + path):
            raise ValueError("a method or query may not contain spaces or line ends")
        lines = b"".join(_header(name, value) for name, value in headers)
        return b"%b %b HTTP/1.1\r\n%b%bContent-Length: " % (
            method.encode("ascii"),
            path.encode("ascii"),
            self._fixed,
            lines,
        )


def _checked(
    target: Target | str, headers: Mapping[str, str]
) -> tuple[Target | None, NoReply | None]:
    """The target, or the answer that every call to an endpoint of a bad configuration gets."""
    why = target if isinstance(target, str) else None
    if why is None and any(name.lower() in OWN_HEADERS for name in headers):
        why = "a configured header is one that only the exchange may set"
    try:
        for name, value in headers.items():
            _header(name, value)
    except ValueError as error:
        why = why or str(error)
    if isinstance(target, str) or why is not None:
        return None, NoReply(kind=NoReplyKind.FORBIDDEN, sent=False, detail=why or "")
    return target, None


def _fixed_head(target: Target, headers: Mapping[str, str]) -> bytes:
    given = {name.lower() for name in headers}
    lines = [_header("Host", target.authority)]
    lines += [_header(*one) for one in DEFAULT_HEADERS.items() if one[0].lower() not in given]
    lines += [_header(*one) for one in headers.items()]
    return b"".join(lines)


def _header(name: str, value: str) -> bytes:
    """One header line; raises `ValueError` for what would break out of it."""
    if not name or not _is_line(name) or ":" in name:
        raise ValueError("a header's name must be printable ASCII without spaces and colons")
    if not all(" " <= letter <= "~" for letter in value):
        raise ValueError(f"the value of header {name} must be printable ASCII")
    return f"{name}: {value}\r\n".encode("ascii")


def _is_line(text: str) -> bool:
    return all("!" <= letter <= "~" for letter in text)


def _unreachable(detail: str) -> NoReply:
    return NoReply(kind=NoReplyKind.UNREACHABLE, sent=False, detail=detail)


def _words(error: BaseException) -> str:
    """What went wrong with a connection, for the operator: no data of ours is in it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no connection in time"
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'failed'}"
