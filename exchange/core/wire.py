"""HTTP as values: a dialect makes an `HttpCall`, the engine turns it into an `HttpReply` or a
`NoReply`.

So dialects are pure, the engine can be swapped for a recording, and the one fact that decides about
money, whether the first byte left, travels in the value (`NoReply.sent`).
"""

from enum import IntEnum

import msgspec


class HttpCall(msgspec.Struct, frozen=True, kw_only=True):
    """One request to one party. Personal data is only ever in `body`, never in `url` or
    `headers`."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class HttpReply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A complete answer: at most `reply_bytes_max` of body, never a followed redirect."""

    status: int
    content_type: str = ""
    body: bytes = b""


class NoReplyKind(IntEnum):
    """What stood between us and an answer. Those before `TIMEOUT` are known to be unsent."""

    BUSY = 0  # the in-flight limit of this buyer was reached
    RESTING = 1  # the endpoint is being rested after failures
    FORBIDDEN = 2  # the address is not one we may connect to (SSRF)
    UNRESOLVED = 3  # the name has no address
    UNREACHABLE = 4  # connection refused, TLS failed, or connect ran out of time
    TIMEOUT = 5  # no complete answer before the deadline
    RESET = 6  # the connection was lost before the answer was complete
    TOO_LARGE = 7  # the answer was larger than the limit
    UNREADABLE = 8  # not HTTP, or a head larger than the limit
    REDIRECT = 9  # 3xx: never followed, a redirect would carry personal data elsewhere
    EARLY_CLOSED = 10  # the auction ended before this answer mattered


class NoReply(msgspec.Struct, frozen=True, kw_only=True):
    """No usable answer. `sent` is true once the first byte may have left (the transport accepted
    the write): then nobody knows what the buyer did with it."""

    kind: NoReplyKind
    sent: bool
    detail: str = ""


Answer = HttpReply | NoReply
