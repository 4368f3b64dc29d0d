"""The chain of custody of one lead: who was given what, in order, in bytes that can be proved.

An event is canonical JSON (RFC 8785) of `{v, lead_id, seq, kind, at, body, prev}`; its hash is the
SHA-256 of those bytes, and `prev` is the hash of the event before, so no event can be changed, left
out or moved without every later hash changing. The exact bytes are kept: they are the evidence.

No event holds a value of the consumer's. In its place stands a *commitment*, a keyed hash under a
fresh random salt that is sealed with the lead: whoever is shown salt and value can check it, and
once the salts are erased nobody can guess the value from it. Names of fields and our own ids and
prices are in the clear.

The JSON is restricted: no floats, integers within 2^53 - 1 (what every JSON reader holds exactly),
text in Unicode NFC. So there is one way to write an event down. Building costs time, so the events
of a sale are built with its two commits, never on the path of a ping.
"""

import hashlib
import hmac
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import rfc8785
from msgspec.structs import replace

from exchange.core.model import Fact, Offer
from exchange.core.records import CustodyRow

VERSION: Final = "ex/v1"
GENESIS: Final = "0" * 64
"""`prev` of a lead's first event."""
INT_MAX: Final = 2**53 - 1
"""The largest integer that every JSON reader holds exactly (RFC 8785, appendix D)."""
SALT_BYTES: Final = 32
"""256 bits per field and lead: a commitment says nothing about its value without its salt."""

_HEX = "\\x"
_LEAVES = frozenset({str, int, bool, type(None)})


class NotCanonical(ValueError):
    """A body that has no single canonical form, or none at all. The message names the place, never
    the value."""


class Broken(Fact, frozen=True, kw_only=True):
    """Where a chain does not hold (`seq` as the rows number it), and why, in a sentence."""

    seq: int
    why: str


class Opened(Fact, frozen=True, kw_only=True):
    """A commitment opened: the salt and the normalised value it was made of."""

    salt: bytes
    value: str | int | bool

    def __repr__(self) -> str:
        return "Opened(...)"


# --- the chain ------------------------------------------------------------------------------------


class Chain(Fact, frozen=True, kw_only=True):
    """A lead's chain up to `seq` (0: nothing yet), whose last hash is `head` (hex). `rows` are the
    events appended since the chain was begun or taken up: what the next commit writes."""

    lead_id: str
    seq: int
    head: str
    rows: tuple[CustodyRow, ...] = ()

    @classmethod
    def begin(cls, lead_id: str) -> "Chain":
        """The chain of a lead to which nothing has happened yet."""
        return cls(lead_id=lead_id, seq=0, head=GENESIS)

    def append(self, kind: str, at: datetime, body: Mapping[str, Any]) -> "Chain":
        """The chain with one more event. `at` is aware; text is put in NFC. Raises
        `NotCanonical`."""
        seq = self.seq + 1
        event = {
            "v": VERSION,
            "lead_id": self.lead_id,
            "seq": seq,
            "kind": kind,
            "at": _time(at),
            "body": body,
            "prev": self.head,
        }
        data = _quick(event) or canonical(event | {"body": _composed(body)})
        head = hashlib.sha256(data).hexdigest()
        row = CustodyRow(
            lead_id=self.lead_id,
            seq=seq,
            kind=kind,
            bytes=_HEX + data.hex(),
            prev=_HEX + self.head,
            hash=_HEX + head,
            at=at,
        )
        return replace(self, seq=seq, head=head, rows=(*self.rows, row))


def stored_row(record: Mapping[str, Any]) -> CustodyRow:
    """A row of the table `custody_event` as Postgres gives it (bytea as bytes, uuid as anything
    that prints as one): for `verify` and for showing."""
    return CustodyRow(
        lead_id=str(record["lead_id"]),
        seq=record["seq"],
        kind=record["kind"],
        bytes=_HEX + record["bytes"].hex(),
        prev=_HEX + record["prev"].hex(),
        hash=_HEX + record["hash"].hex(),
        at=record["at"],
    )


def event(row: CustodyRow) -> dict[str, Any]:
    """The event inside a row. Raises `ValueError` for bytes that are none."""
    found = orjson.loads(bytes.fromhex(row.bytes.removeprefix(_HEX)))
    if not isinstance(found, dict):
        raise ValueError("an event is a JSON object")
    return found


# --- commitments ----------------------------------------------------------------------------------


def commitment(salt: bytes, field: str, normalised: str | int | bool) -> str:
    """The commitment (hex) to one field's normalised value: HMAC-SHA256 under the salt. Text stands
    for itself; a number or a yes/no for its JSON. Raises `ValueError` for a salt of another
    length."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    text = normalised if isinstance(normalised, str) else canonical(normalised).decode()
    message = f"{VERSION}\0{field}\0{unicodedata.normalize('NFC', text)}"
    return hmac.digest(salt, message.encode(), "sha256").hex()


# --- verifying ------------------------------------------------------------------------------------


def verify(
    rows: Iterable[CustodyRow],
    opened: Mapping[str, Opened] | None = None,
    *,
    head: tuple[int, str] | None = None,
) -> Broken | None:
    """The first place where the chain of one lead does not hold, `None` when it holds from its
    first event to its last.

    `opened` are salts and values to check against the commitments of the `received` event. `head`
    is `(seq, hash)` as the lead's own row keeps it: without it, a chain that lost its end still
    holds.
    """
    seq, last, lead_id = 0, GENESIS, None
    for row in rows:
        lead_id = lead_id or row.lead_id
        why = _flaw(row, lead_id=lead_id, seq=seq + 1, prev=last)
        if why is None and opened is not None and row.kind == "received":
            why = _unopened(event(row)["body"], opened)
        if why is not None:
            return Broken(seq=row.seq, why=why)
        seq, last = row.seq, row.hash.removeprefix(_HEX)
    if head is not None and head != (seq, last):
        return Broken(seq=seq, why="the chain does not end where its lead says")
    return None


def _flaw(row: CustodyRow, *, lead_id: str, seq: int, prev: str) -> str | None:
    try:
        data = bytes.fromhex(row.bytes.removeprefix(_HEX))
    except ValueError:
        return "the bytes are not hexadecimal"
    if row.bytes != _HEX + data.hex():
        return "the bytes are not written as they were"
    if row.hash != _HEX + hashlib.sha256(data).hexdigest():
        return "the hash is not that of the bytes"
    if row.prev != _HEX + prev:
        return "the event does not follow the one before it"
    found = _read(data)
    if found is None:
        return "the bytes are not a canonical event"
    said = {
        "v": VERSION,
        "lead_id": row.lead_id,
        "seq": row.seq,
        "kind": row.kind,
        "at": _time(row.at),
        "body": found.get("body"),
        "prev": prev,
    }
    if found != said or row.seq != seq or row.lead_id != lead_id:
        return "the event says something else than its row"
    return None


def _read(data: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(data)
        return found if isinstance(found, dict) and canonical(found) == data else None
    except ValueError:
        return None


def _unopened(body: Mapping[str, Any], opened: Mapping[str, Opened]) -> str | None:
    commitments = body.get("commitments", {})
    for field, one in opened.items():
        if commitments.get(field) != commitment(one.salt, field, one.value):
            return f"the commitment to {field} is to another value"
    return None


# --- canonical bytes ------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """The RFC 8785 bytes of a value made of objects, lists, text, integers, booleans and null.
    Raises `NotCanonical`.

    orjson with sorted keys writes the same bytes ninety times as fast as long as keys are ASCII (it
    sorts by code point, the RFC by UTF-16); other keys take the reference implementation.
    """
    if (data := _quick(value)) is not None:
        return data
    if _checked(value, "$"):
        try:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError:
            raise NotCanonical("text holds half a surrogate pair") from None
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError):
        raise NotCanonical("text holds half a surrogate pair") from None


def _quick(value: Any) -> bytes | None:
    """The canonical bytes of a value that is ASCII all through, which needs no other look at its
    text: it is in NFC, and its keys sort alike. `None` for any other, and for what is refused."""
    if not _is_plain(value):
        return None
    try:
        data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)
    except TypeError:  # an integer out of range, a key that is no text, half a surrogate pair
        return None
    return data if data.isascii() else None


def _is_plain(value: Any) -> bool:
    """Whether a value is objects, lists and `_LEAVES`, and no subclass of any. (Not its keys.)"""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list:
        return kind in _LEAVES
    for item in value:  # noqa: SIM110 - `all` of a generator takes twice as long
        if type(item) not in _LEAVES and not _is_plain(item):
            return False
    return True


def _checked(value: Any, path: str) -> bool:
    """Whether all keys are ASCII. Raises `NotCanonical` at the first value outside the restricted
    JSON; exact types, so that a subclass cannot print as something else."""
    kind = type(value)
    if kind is str:
        if not value.isascii() and not unicodedata.is_normalized("NFC", value):
            raise NotCanonical(f"{path}: text is not in NFC")
    elif kind is int:
        if not -INT_MAX <= value <= INT_MAX:
            raise NotCanonical(f"{path}: an integer beyond 2^53 - 1")
    elif kind is list or kind is tuple:
        # Not a generator: `all` would stop looking at the first key that is not ASCII.
        return all([_checked(item, f"{path}[]") for item in value])  # noqa: C419
    elif kind is dict:
        return _checked_object(value, path)
    elif value is not None and kind is not bool:
        raise NotCanonical(f"{path}: {kind.__name__} has no place in an event")
    return True


def _checked_object(value: dict[Any, Any], path: str) -> bool:
    is_ascii = True
    for key, item in value.items():
        if type(key) is not str:
            raise NotCanonical(f"{path}: a key that is no text")
        is_ascii = _checked(key, path) and key.isascii() and is_ascii
        is_ascii = _checked(item, f"{path}.{key}") and is_ascii
    return is_ascii


def _composed(value: Any) -> Any:
    """The same value with its text in NFC. What partners write (their references, a seller's sub
    id) must never be what keeps a sale from being booked."""
    kind = type(value)
    if kind is int or kind is bool or value is None:  # a Mapping is costly to ask for
        return value
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if kind is dict or isinstance(value, Mapping):
        return {_composed(key): _composed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_composed(item) for item in value]
    return value


def _time(at: datetime) -> str:
    naive = at.astimezone(UTC).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds") + "Z"


# --- what events say ------------------------------------------------------------------------------


def received_body(
    offer: Offer,
    commitments: Mapping[str, str],
    *,
    direct: bool,
    phone: Mapping[str, Any] | None = None,
    consent: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The full record reached the exchange: from whom, commitments to each of its fields, and what
    the checks of its phone and consent came to (`sale_checks`)."""
    return {
        "seller_id": offer.seller_id,
        "source_id": offer.source_id,
        "sub_id": offer.sub_id,
        "vertical_id": offer.vertical_id,
        "direct": direct,
        "test": offer.test,
        "consent_kind": offer.consent.kind if offer.consent else None,
        "commitments": dict(commitments),
        "phone": phone,
        "consent": consent,
    }


def invited_body(offer: Offer, *, hidden: Collection[str] = ()) -> dict[str, Any]:
    """The ping went out: to which contracts, with which fields (names, never values). `hidden`
    fields, pseudonyms, stayed with the exchange."""
    return {
        "fields": sorted(name for name in offer.fields if name not in hidden),
        "contracts": list(offer.invited),
        "pinged_at_ms": offer.received_at_ms,
        "book_version": offer.book_version,
        "mask_id": offer.mask_id,
    }


def offered_body(offer: Offer) -> dict[str, Any]:
    """What the seller was promised, and whose bids stood behind it, best first."""
    return {
        "payout_micros": offer.payout_micros,
        "currency": offer.currency,
        "expires_at_ms": offer.expires_at_ms,
        "ranking": [
            {
                "contract_id": one.contract_id,
                "buyer_id": one.buyer_id,
                "price_micros": one.price_micros,
                "payout_micros": one.payout_micros,
            }
            for one in offer.candidates
        ],
    }


def released_body(
    *,
    attempt_id: str,
    buyer_id: int,
    contract_id: int,
    contract_version: int,
    price_micros: int,
    fields: Sequence[str] | None = None,
) -> dict[str, Any]:
    """From here on this buyer may have the record (`fields`: all that was received when not
    given)."""
    body: dict[str, Any] = {
        "attempt_id": attempt_id,
        "buyer_id": buyer_id,
        "contract_id": contract_id,
        "contract_version": contract_version,
        "price_micros": price_micros,
    }
    return body if fields is None else body | {"fields": sorted(fields)}


def reoffered_body(*, resale_id: str, return_id: str, leg: int) -> dict[str, Any]:
    """The lead, returned in full, was auctioned again: under which id buyers were asked, and as the
    sale of which number."""
    return {"resale_id": resale_id, "return_id": return_id, "leg": leg}


def ended_event(
    *,
    attempt_id: str,
    buyer_id: int,
    state: str,
    was_in_doubt: bool,
    by: str | None = None,
    evidence: str | None = None,
    buyer_ref: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Kind and body of what an attempt came to (`state` as the lifecycle names it): `accepted`,
    `rejected`, `voided`, `unknown`, or, when it had been in doubt, `resolved` (`written_off` when
    nothing was found out)."""
    kind = "accepted" if state == "sold" else state
    body: dict[str, Any] = {"attempt_id": attempt_id, "buyer_id": buyer_id}
    if was_in_doubt:
        body |= {"came_to": kind, "by": by or "post"}
        body |= {} if evidence is None else {"evidence": evidence}
        kind = "written_off" if kind == "written_off" else "resolved"
    if buyer_ref is not None:
        body["buyer_ref"] = buyer_ref
    return kind, body


def returned_event(
    *,
    return_id: str,
    attempt_id: str,
    buyer_id: int,
    state: str,
    reason: str,
    rule: str,
    by: str,
    credit_micros: int,
    clawback_micros: int,
) -> tuple[str, dict[str, Any]]:
    """Kind and body of a step of a return (`state` as the lifecycle names it). `by` is `rule`,
    `lapse` or `person`: who that was stands in the case."""
    return f"return_{state}", {
        "return_id": return_id,
        "attempt_id": attempt_id,
        "buyer_id": buyer_id,
        "reason": reason,
        "rule": rule,
        "by": by,
        "credit_micros": credit_micros,
        "clawback_micros": clawback_micros,
    }
