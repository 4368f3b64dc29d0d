"""The house dialect: JSON both ways, posts signed as Standard Webhooks.

```
ping    POST ping_url   {contract, ping_id, vertical, tmax_ms, exclusive, fields{}, consent{}, test}
        -> 200 {"bid": "25.00", "ref": "...", "expires_in_s": 60}  |  204  |  {"no_bid": code}
post    POST post_url   {attempt_id, lead_id, ping_id, contract, ref, price, lead{}, consent{},
                         custody{}, test}
        -> {"status": "accepted", "ref": "...", "redirect_url": "..."}
        |  {"status": "rejected", "reason": "..."}
status  GET  status_url?attempt_id=...   -> as to the post  |  404 never seen
```

Everything here is pure and total: any bytes make an answer, and what is not clearly a yes or a no
is an error, or unknown. A bid of 0, `false` or `null` is no bid.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from exchange.core.doubt import Reading
from exchange.core.labels import reason_code, ref_of_bid, ref_of_sale
from exchange.core.model import Bid, Contract, Lead, Ping, PingConsent, Value
from exchange.core.money import BadMoney, micros_of, text_of
from exchange.core.reasons import Delivery, NonBid
from exchange.core.wire import Answer, HttpReply, NoReply

URL_LENGTH_MAX: Final = 2048
EXPIRES_IN_S_MAX: Final = 31 * 86_400
"""A bid that claims to live longer than a month is taken to live a month."""
SECRET_PREFIX: Final = "whsec_"

_encode = msgspec.json.Encoder().encode


# --- ping -----------------------------------------------------------------------------------------


class _Consent(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str | None = None
    captured_at: str | None = None
    text_version: str | None = None
    ping_url: str | None = None


class _Shared(msgspec.Struct, frozen=True):
    ping_id: str
    vertical: str
    tmax_ms: int
    exclusive: bool
    fields: dict[str, Value]
    consent: _Consent
    test: bool


def ping_prefix(contract_key: str) -> bytes:
    """The start of a ping to one contract; `ping_shared` goes behind it."""
    return b'{"contract":%b,' % _encode(contract_key)


def ping_floor(price_floor_micros: int) -> bytes:
    """The least price that can win, for a contract that is told it; goes between prefix and shared
    part."""
    return b'"price_floor":%b,' % _encode(text_of(price_floor_micros))


def ping_shared(ping: Ping, *, vertical_key: str, tmax_ms: int, exclusive: bool = True) -> bytes:
    """The part of a ping that is the same for every contract: encoded once per auction. `tmax_ms`
    is the time the buyer has."""
    shared = _Shared(
        ping_id=ping.ping_id,
        vertical=vertical_key,
        tmax_ms=tmax_ms,
        exclusive=exclusive,
        fields=ping.fields,
        consent=_consent(ping.consent),
        test=ping.test,
    )
    return _encode(shared)[1:]


def _consent(consent: PingConsent | None) -> _Consent:
    if consent is None:
        return _Consent()
    return _Consent(
        kind=consent.kind,
        captured_at=consent.captured_at,
        text_version=consent.text_version,
        ping_url=consent.ping_url,
    )


# --- bid ------------------------------------------------------------------------------------------


class _Answer(msgspec.Struct, frozen=True, gc=False):
    bid: Decimal | bool | msgspec.UnsetType | None = msgspec.UNSET
    no_bid: int | str | bool | None = None
    ref: str | int | None = None
    expires_in_s: int | float | None = None


_bid_of = msgspec.json.Decoder(_Answer).decode
_any_of = msgspec.json.Decoder(dict[str, Any]).decode

_NOT_JSON = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises for bytes that are not the JSON it was told to expect."""


def read_bid(contract: Contract, reply: HttpReply, *, at_ms: int | None = None) -> Bid | NonBid:
    """What one contract answered. `at_ms` is the time the answer came (Unix ms), from which
    `expires_in_s` counts; without it the bid has no expiry of its own."""
    status = reply.status
    if status == 204:
        return NonBid.NO_BID
    if not 200 <= status <= 299:
        return NonBid.ERROR
    try:
        answer = _bid_of(reply.body)
    except _NOT_JSON:
        return _misread(reply.body)
    no_bid, bid = answer.no_bid, answer.bid
    if no_bid is not None and no_bid is not False:  # 0 is a code, too
        return _no_bid(answer)
    if isinstance(bid, Decimal) or bid is True:
        return _bid(contract, answer, bid, at_ms)
    return NonBid.ERROR if bid is msgspec.UNSET else NonBid.NO_BID


def _misread(body: bytes) -> NonBid:
    """JSON with a bid that cannot be one is an invalid bid; anything else is an error."""
    try:
        return NonBid.INVALID_BID if "bid" in _any_of(body) else NonBid.ERROR
    except _NOT_JSON:
        return NonBid.ERROR


def _no_bid(answer: _Answer) -> NonBid:
    if isinstance(answer.bid, Decimal) or answer.bid is True:
        return NonBid.INVALID_BID  # yes and no at once
    is_duplicate = answer.no_bid in (NonBid.DUPLICATE, str(int(NonBid.DUPLICATE)), "duplicate")
    return NonBid.DUPLICATE if is_duplicate else NonBid.NO_BID


def _bid(
    contract: Contract, answer: _Answer, bid: Decimal | bool, at_ms: int | None
) -> Bid | NonBid:
    """`true` accepts a fixed price, nothing else."""
    try:
        price_micros = contract.price_micros if bid is True else micros_of(bid)
    except BadMoney:
        return NonBid.INVALID_BID
    if price_micros == 0:
        return NonBid.NO_BID
    if price_micros is None or not _is_allowed(contract, price_micros):
        return NonBid.INVALID_BID
    expires_at_ms = None
    if answer.expires_in_s is not None:
        if not answer.expires_in_s > 0:
            return NonBid.INVALID_BID
        if at_ms is not None:
            expires_at_ms = at_ms + int(min(answer.expires_in_s, EXPIRES_IN_S_MAX) * 1000)
    return Bid(
        contract_id=contract.id,
        buyer_id=contract.buyer_id,
        price_micros=price_micros,
        buyer_ref=ref_of_bid(answer.ref),
        expires_at_ms=expires_at_ms,
    )


def _is_allowed(contract: Contract, price_micros: int) -> bool:
    if contract.price_micros is not None:
        return price_micros == contract.price_micros
    bid_max = contract.bid_max_micros
    return contract.bid_min_micros <= price_micros and (bid_max is None or price_micros <= bid_max)


# --- post -----------------------------------------------------------------------------------------


def post_body(
    lead: Lead,
    *,
    attempt_id: str,
    contract_key: str,
    buyer_ref: str | None,
    price_micros: int,
    custody: Mapping[str, Any],
    test: bool,
) -> bytes:
    """The full record for the winner. The only place of this dialect that reads personal data."""
    return _encode(
        {
            "attempt_id": attempt_id,
            "lead_id": lead.lead_id,
            "ping_id": lead.ping_id or lead.lead_id,
            "contract": contract_key,
            "ref": buyer_ref,
            "price": text_of(price_micros),
            "lead": lead.fields.values,
            "consent": lead.consent.values,
            "custody": custody,
            "test": test,
        }
    )


def post_headers(
    *, attempt_id: str, timestamp: int, body: bytes, secret: bytes | None
) -> tuple[tuple[str, str], ...]:
    """The headers of a post: the key that makes a repeat harmless, and, when the buyer has a
    secret, the Standard Webhooks signature of `id.timestamp.body`. `timestamp` is Unix seconds."""
    headers: tuple[tuple[str, str], ...] = (
        ("Idempotency-Key", attempt_id),
        ("webhook-id", attempt_id),
        ("webhook-timestamp", str(timestamp)),
    )
    if secret is None:
        return headers
    signed = b"%b.%d.%b" % (attempt_id.encode(), timestamp, body)
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return (*headers, ("webhook-signature", "v1," + base64.b64encode(digest).decode("ascii")))


def _key(secret: bytes) -> bytes:
    """The bytes to sign with: `whsec_` and base64 as the standard writes them, else as given."""
    prefix = SECRET_PREFIX.encode()
    if not secret.startswith(prefix):
        return secret
    try:
        return base64.b64decode(secret[len(prefix) :], validate=True)
    except binascii.Error:
        return secret


# --- delivery -------------------------------------------------------------------------------------


class _Verdict(msgspec.Struct, frozen=True):
    status: str
    ref: str | int | None = None
    reason: str | int | None = None
    redirect_url: Any = None


_verdict_of = msgspec.json.Decoder(_Verdict).decode

_UNKNOWN: Final = Reading(delivery=Delivery.UNKNOWN)


def read_delivery(answer: Answer) -> Reading:
    """What became of a post. Only an explicit word ends it: a 2xx that says accepted, or a 2xx or
    4xx that says rejected. Everything else after the request had left is unknown."""
    if isinstance(answer, NoReply):
        return _UNKNOWN if answer.sent else Reading(delivery=Delivery.NOT_SENT)
    return _said(answer)


def status_query(attempt_id: str) -> str:
    """What is added to the status URL to ask about an attempt."""
    return f"attempt_id={attempt_id}"


def read_status(answer: Answer) -> Reading:
    """What the buyer says of an attempt when asked about it. Not being able to ask says nothing
    about the attempt, so `NOT_SENT` is never an answer here."""
    if isinstance(answer, NoReply):
        return _UNKNOWN
    if answer.status == 404:
        return Reading(delivery=Delivery.UNKNOWN, never_seen=True)
    return _said(answer)


def _said(reply: HttpReply) -> Reading:
    is_good = 200 <= reply.status <= 299
    if not is_good and not 400 <= reply.status <= 499:
        return _UNKNOWN
    try:
        verdict = _verdict_of(reply.body)
    except _NOT_JSON:
        return _UNKNOWN
    if verdict.status == "accepted" and is_good:
        return Reading(
            delivery=Delivery.ACCEPTED,
            buyer_ref=ref_of_sale(verdict.ref),
            redirect_url=_redirect_url(verdict.redirect_url),
        )
    if verdict.status == "rejected":
        return Reading(
            delivery=Delivery.REJECTED,
            buyer_ref=ref_of_sale(verdict.ref),
            buyer_reason=reason_code(verdict.reason),
        )
    return _UNKNOWN


def _redirect_url(url: Any) -> str | None:
    """Where the consumer may be sent on; only http(s) and only one line."""
    if not isinstance(url, str) or len(url) > URL_LENGTH_MAX or not url.isprintable():
        return None
    return url if url.startswith(("https://", "http://")) and " " not in url else None
