"""One connection to a buyer: a request written, one answer parsed, and again.

Everything a buyer can do to us on a connection ends here as a value: too much, not HTTP, closed
halfway, more than was asked for. Bytes are counted as they come, so no answer costs more memory
than the limits.

```
            ask()                     answer complete ► ready(self)
   idle ─────────────► outstanding ──┬───────────────────────────────► idle
                          │          └ fault, or the connection lost ► closed
                          │ let_go()                                     ▲
                          ▼          answer complete: counted, dropped   │
                       draining ─────────────────────────► idle          │ longer than the limit
                          └──────────────────────────────────────────────┘
```
"""

import asyncio
from typing import Final, Protocol, cast

import httptools

from exchange.core.model import Fact
from exchange.core.wire import HttpReply, NoReply, NoReplyKind
from exchange.effects.buyers.asking import Asking

CHUNK_OVERHEAD: Final = 8
"""An answer may take this many times its size on the wire: a chunk of one byte costs six."""


HEAD_KNOWN_BYTES_MAX: Final = 1_024
"""Longer heads are not remembered."""


class Head(Fact, frozen=True, kw_only=True):
    """What the head of an answer said: the same bytes will say it again."""

    status: int
    content_type: str
    body_bytes: int


class Owner(Protocol):
    """The endpoint a connection belongs to."""

    reply_bytes_max: int
    head_bytes_max: int
    heads: dict[bytes, Head]
    """Heads of complete answers that left their connection open, by their bytes."""

    def learn(self, head: bytes, said: Head) -> None:
        """Remember a head."""

    def opened(self, connection: "Connection") -> None:
        """The connection exists."""

    def ready(self, connection: "Connection") -> None:
        """The connection is free for the next request."""

    def answered(self) -> None:
        """A request in time was answered."""

    def served(self, connection: "Connection") -> None:
        """`answered` and `ready` at once: how almost every request ends."""

    def drained(self, *, was_late: bool) -> None:
        """A request that nobody waits for any more was answered."""

    def given_up(self, connection: "Connection", asking: Asking, *, timed_out: bool) -> None:
        """A request was let go before it was answered; the connection is draining."""

    def failed(self, *, counts: bool) -> None:
        """The request under way failed; `counts`: it says something about the buyer's health."""

    def gone(self, connection: "Connection") -> None:
        """The connection is closed."""

    def again(self, asking: Asking, index: int, request: bytes) -> bool:
        """Ask a harmless question once more on a fresh connection; false when there is no time."""


class Connection(asyncio.Protocol):
    """A connection and its parser. Not made for pipelining: one request at a time."""

    __slots__ = (
        "_chunks",
        "_content_type",
        "_extra",
        "_fault",
        "_framed",
        "_head_bytes_max",
        "_head_done",
        "_heads",
        "_is_whole",
        "_keep_alive",
        "_lost",
        "_owner",
        "_parser",
        "_received",
        "_reply_bytes_max",
        "_request",
        "_size",
        "_status",
        "_wire_bytes_max",
        "asking",
        "born",
        "free_since",
        "index",
        "is_closed",
        "is_outstanding",
        "let_go_at",
        "transport",
        "uses",
        "was_late",
    )
    sent = True

    def __init__(self, owner: Owner, *, now: float) -> None:
        self._owner, self._heads = owner, owner.heads
        self._head_bytes_max, self._reply_bytes_max = owner.head_bytes_max, owner.reply_bytes_max
        self._wire_bytes_max = owner.head_bytes_max + CHUNK_OVERHEAD * owner.reply_bytes_max
        self.transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self.asking: Asking | None = None
        self.index = 0
        self._request: bytes | None = None
        self.uses = 0
        self.born = self.free_since = now
        self.let_go_at = 0.0
        self.is_outstanding = self.is_closed = self.was_late = False
        self._lost: asyncio.Future[None] | None = None
        self._fault: NoReply | None = None
        self._extra = self._keep_alive = False
        self._status = 0
        self._clear()

    def _clear(self) -> None:
        """Ready for the next answer. A fault or anything extra is for good: it closes us."""
        self._chunks.clear()
        self._received = self._size = 0
        self._content_type = b""
        self._head_done = self._framed = self._is_whole = False

    # --- our side ---------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Nobody has closed it, as far as we know."""
        return not self.is_closed and not self.transport.is_closing()

    @property
    def is_draining(self) -> bool:
        """An answer that nobody waits for is still to come."""
        return self.is_outstanding and self.asking is None

    def ask(self, asking: Asking, index: int, request: bytes) -> None:
        """Write a request. From here on the call counts as sent."""
        self.asking, self.index = asking, index
        asking.held[index] = self
        self._request = request if asking.repeatable else None
        self.uses += 1
        self.is_outstanding = True
        self.transport.write(request)

    def let_go(self, *, timed_out: bool) -> None:
        """Nobody waits for the answer any more: read it and drop it, then be free."""
        asking, self.asking = self.asking, None
        self._request = None
        self._chunks.clear()
        self.was_late = timed_out
        if asking is not None:
            self._owner.given_up(self, asking, timed_out=timed_out)

    def close(self) -> None:
        """Drop the connection at once; a request under way fails."""
        if not self.is_closed:
            self.is_closed = True
            self.transport.abort()

    def lost(self) -> asyncio.Future[None]:
        """Done when the transport has let the connection go; asked once, of an open connection."""
        self._lost = asyncio.get_running_loop().create_future()
        return self._lost

    # --- the transport's side ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came. Bytes nobody asked for close the connection: what follows could be taken
        for the next answer."""
        if not self.is_outstanding:
            self.close()
            return
        if not self._received:
            body_at = data.find(b"\r\n\r\n") + 4
            head = self._heads.get(data[:body_at])
            if head is not None and len(data) == body_at + head.body_bytes:
                reply = HttpReply(
                    status=head.status, content_type=head.content_type, body=data[body_at:]
                )
                self._end(reply, reusable=True)  # the parser has seen nothing of it, nor need it
                return
        self._received += len(data)
        had_head = self._head_done
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._extra = True
            if not self._is_whole and self._fault is None:
                self._fault = _unreadable(str(error))
        if self._received > self._head_bytes_max and self._fault is None:
            self._fault = self._outgrown(data, had_head=had_head)
        if self._fault is not None:
            self._fail(self._fault)
        elif self._is_whole:
            reusable = self._keep_alive and not self._extra
            if reusable and self._received == len(data):
                self._learn(data)
            self._complete(reusable=reusable)

    def eof_received(self) -> bool:
        """The buyer has closed its side; the transport closes ours."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer without a length ends here; any other request under way is lost."""
        self.is_closed = True
        if self.is_outstanding:
            if self._head_done and not self._framed and exc is None:
                self._complete(reusable=False)
            else:
                self._cut_off()
        self._owner.gone(self)
        if self._lost is not None:
            self._lost.set_result(None)
        del self._parser  # it knows us: a ring that only a full collection would break

    # --- the parser's side ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_whole:
            self._extra = True

    def on_header(self, name: bytes, value: bytes) -> None:
        length = len(name)
        if length == 12:
            if name.lower() == b"content-type" and not self._head_done:
                self._content_type = value
        elif length == 14:
            if name.lower() == b"content-length":
                self._framed = True
        elif length == 17 and name.lower() == b"transfer-encoding":
            self._framed = b"chunked" in value.lower()

    def on_headers_complete(self) -> None:
        if not self._is_whole:
            self._head_done = True
            self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._is_whole:
            return
        self._size += len(body)
        if self._size > self._reply_bytes_max:
            self._fault = _TOO_LARGE
        elif self.asking is not None:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self._is_whole:
            return
        if 100 <= self._status <= 199 and self._status != 101:
            self._head_done = self._framed = False  # the real answer is still to come
            return
        self._is_whole = True
        self._keep_alive = self._parser.should_keep_alive()  # forgotten once this returns
        if self._status < 200:
            self._fault = _unreadable(f"status {self._status}")

    # --- ends -------------------------------------------------------------------------------------

    def _outgrown(self, data: bytes, *, had_head: bool) -> NoReply | None:
        """What the bytes so far, framing included, are too many for. Asked only once there are more
        than a head may have."""
        head_bytes = 0
        if not self._head_done:
            head_bytes = self._received
        elif not had_head:
            head_bytes = self._received - len(data) + data.find(b"\r\n\r\n") + 4
        if head_bytes > self._head_bytes_max:
            return _unreadable("the head is larger than the limit")
        return _TOO_LARGE if self._received > self._wire_bytes_max else None

    def _learn(self, data: bytes) -> None:
        """Remember the head of an answer that came alone and in one piece, its body as it is: a
        head is all that decides what such an answer means, and most buyers' seldom changes."""
        body_at = data.find(b"\r\n\r\n") + 4
        is_plain = 200 <= self._status <= 299 and len(data) == body_at + self._size
        if is_plain and body_at <= HEAD_KNOWN_BYTES_MAX:
            content_type = self._content_type.decode("latin-1")
            self._owner.learn(
                data[:body_at],
                Head(status=self._status, content_type=content_type, body_bytes=self._size),
            )

    def _complete(self, *, reusable: bool) -> None:
        reply = self._reply()
        self._clear()
        self._end(reply, reusable=reusable)

    def _end(self, reply: HttpReply | NoReply, *, reusable: bool) -> None:
        """The request under way is answered, whether or not somebody still waits for it."""
        asking, index, owner = self.asking, self.index, self._owner
        self.is_outstanding = False
        self.asking = self._request = None
        if asking is None:
            owner.drained(was_late=self.was_late)
            self.was_late = False
        elif reusable:
            owner.served(self)
            asking.settle(index, reply)
            return
        else:
            owner.answered()
        if reusable:
            owner.ready(self)
        else:
            self.close()
        if asking is not None:
            asking.settle(index, reply)

    def _reply(self) -> HttpReply | NoReply:
        status = self._status
        if 300 <= status <= 399:
            return NoReply(kind=NoReplyKind.REDIRECT, sent=True, detail=f"status {status}")
        return HttpReply(
            status=status,
            content_type=self._content_type.decode("latin-1"),
            body=b"".join(self._chunks),
        )

    def _fail(self, answer: NoReply) -> None:
        asking, index = self.asking, self.index
        self._idle()
        self.close()
        self._owner.failed(counts=False)
        if asking is not None:
            asking.settle(index, answer)

    def _cut_off(self) -> None:
        """Lost under a request. A connection that had served before and died without one byte was
        most likely closed before our request reached the buyer."""
        asking, index, request = self.asking, self.index, self._request
        half_dead = self.uses > 1 and self._received == 0
        detail = f"closed after {self._received} bytes"
        self._idle()
        self._owner.failed(counts=asking is not None and not half_dead)
        if asking is None:
            return
        if half_dead and request is not None and self._owner.again(asking, index, request):
            return
        asking.settle(index, NoReply(kind=NoReplyKind.RESET, sent=True, detail=detail))

    def _idle(self) -> None:
        self.is_outstanding = False
        self.asking = self._request = None
        self._clear()


_TOO_LARGE: Final = NoReply(kind=NoReplyKind.TOO_LARGE, sent=True)


def _unreadable(detail: str) -> NoReply:
    return NoReply(kind=NoReplyKind.UNREADABLE, sent=True, detail=detail)
