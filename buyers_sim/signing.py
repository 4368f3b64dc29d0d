"""Standard Webhooks signatures, as a buyer checks them: HMAC-SHA256 over `id.timestamp.body`.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Literal

AGE_MAX_S = 300
"""How old or early a timestamp may be: the tolerance of the reference libraries."""

Verdict = Literal["ok", "bad", "missing"]


def verdict(headers: Mapping[str, str], body: bytes, *, secret: str, now: float) -> Verdict:
    """Whether `headers` (lower-case names) carry a signature of `body` by `secret`.

    `secret` is `whsec_` and base64; `now` is Unix time in s. Any one good `v1` signature of the
    list is enough, so that a sender can change its secret.
    """
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    if not all(headers.get(name) for name in names):
        return "missing"
    message_id, timestamp, signatures = (headers[name] for name in names)
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > AGE_MAX_S:
        return "bad"
    expected = signature(message_id, timestamp, body, secret=secret)
    good = any(hmac.compare_digest(expected, given) for given in signatures.split())
    return "ok" if good else "bad"


def signature(message_id: str, timestamp: str, body: bytes, *, secret: str) -> str:
    """`v1,` and the base64 of the signature of one message."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
