"""One line of a buyer's truth file: what it received, byte for byte, and what it answered."""

import base64
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something a buyer received. Written before the answer leaves.

    `kind`: `fragment` is a request whose connection ended before it was whole. `head`: the request
    line and headers as received; `body`: the body as text, or `body_base64` when it is not UTF-8.
    `answered`: one word (`bid`, `no_bid`, `accepted`, `rejected`, `hung`, `reset`, `late`,
    `malformed:cut`, ...). `reply`: the body meant for the answer, at most 1,000 characters.
    `accepted`: the buyer has this lead in its books by this attempt. `repeat`: a re-post of an
    attempt that its books knew already.
    """

    at: datetime
    buyer: str
    kind: Literal["ping", "post", "status", "fragment"]
    accepted: bool
    answered: str
    http: int = 0
    reply: str = ""
    delay_ms: float = 0.0
    ping_id: str = ""
    lead_id: str = ""
    attempt_id: str = ""
    contract: str = ""
    price: str = ""
    repeat: bool = False
    signature: Literal["unchecked", "ok", "bad", "missing"] = "unchecked"
    idempotency_key: str = ""
    head: str = ""
    body: str = ""
    body_base64: str = ""

    def received(self) -> bytes:
        """Every byte the buyer received with this request."""
        body = base64.b64decode(self.body_base64) if self.body_base64 else self.body.encode()
        return self.head.encode("latin-1") + b"\r\n" + body


def body_texts(body: bytes) -> tuple[str, str]:
    """`body` and `body_base64` of an event that keep these bytes without loss."""
    try:
        return body.decode(), ""
    except UnicodeDecodeError:
        return "", base64.b64encode(body).decode()


def read(path: Path) -> tuple[list[Event], int]:
    """The events of a truth file, and how many bytes they take.

    A torn last line (the machine died while it was written) was never answered and is left out;
    any other line that does not read raises `msgspec.MsgspecError`.
    """
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    return [decode(line) for line in whole.splitlines()], len(whole)


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode
