"""The one immutable record each flow ends in, and the rows a commit writes.

Everything else reads the record: the reply, metrics, the log line, the journal row, `explain`,
replay. No counter is bumped and nothing is logged in the middle of the logic.

`CommitUnit` is what the group-commit writer makes durable in one transaction: all of it or nothing.
Its row structs have exactly the columns of the tables of the same name (`day` is derived in SQL
from the lead's id), so the SQL stays short. Bytes travel as Postgres hex text (`\\x...`), times as
ISO 8601.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

from exchange.core.model import Candidate, ContractAnswer, Fact, Ping
from exchange.core.reasons import Delivery

# --- the end of a ping ----------------------------------------------------------------------------


class PingRecord(Fact, frozen=True, kw_only=True, gc=False):
    """A ping and everything that was decided about it. Times in ms since it was read from the
    socket.

    `outcome` is `offer` or `no_offer`; `reason` a `Reason` code when there is no offer. `added_ms`
    is what the exchange added: read-to-written less the slowest awaited answer. `late_ms` > 0 when
    the answer was written after `tmax`. `reason_masks` are counts per non-bid code of contracts not
    asked.
    """

    ping: Ping
    outcome: Literal["offer", "no_offer"]
    reason: int | None
    answers: tuple[ContractAnswer, ...]
    ranking: tuple[Candidate, ...]
    payout_micros: int | None
    expires_at_ms: int | None
    eligible: int
    reason_counts: dict[int, int]
    book_version: int
    mask_id: int
    took_ms: float
    waited_ms: float
    added_ms: float
    late_ms: float
    worker: str


# --- the end of a post ----------------------------------------------------------------------------


class PostStep(Fact, frozen=True, kw_only=True):
    """One candidate's turn: what became of it and when (ms since the post began). `loss` is a
    `Loss` code; `delivery` is `None` when nothing was sent to this buyer."""

    contract_id: int
    buyer_id: int
    rank: int
    price_micros: int
    payout_micros: int
    loss: int
    attempt_id: str | None = None
    delivery: Delivery | None = None
    buyer_reason: str | None = None
    began_ms: float = 0.0
    took_ms: float = 0.0


class PostRecord(Fact, frozen=True, kw_only=True):
    """A post and everything that was decided about it. `status` is what the seller hears. Of
    `took_ms`, `committed_ms` went to Postgres, `delivered_ms` to buyers, and `reserved_ms` to
    Valkey."""

    lead_id: str
    seller_id: int
    source_id: int
    vertical_id: int
    direct: bool
    status: Literal["sold", "unsold", "duplicate", "rejected", "queued", "pending", "test"]
    reason: int | None
    price_micros: int
    payout_micros: int
    fee_micros: int
    currency: str
    steps: tuple[PostStep, ...]
    replayed: bool
    took_ms: float
    committed_ms: float
    delivered_ms: float
    reserved_ms: float
    worker: str
    test: bool = False


class ReturnRecord(Fact, frozen=True, kw_only=True):
    """A step of a return and what was decided about it. `decision` is the state the case came to;
    `by` is `buyer` (a request, decided by rule, or an appeal), `person`, `lapse` or `incident`.
    `replayed`: a retry, told the case as it stands."""

    return_id: str
    lead_id: str
    attempt_id: str
    seller_id: int
    buyer_id: int
    contract_id: int
    reason: str
    decision: str
    rule: str
    by: Literal["buyer", "person", "lapse", "incident"]
    credit_micros: int
    clawback_micros: int
    currency: str
    replayed: bool
    took_ms: float


class RequestRecord(Fact, frozen=True, kw_only=True):
    """A request that ended before any flow began (bad key, bad body, refused): for the log and
    metrics."""

    route: str
    status: int
    problem: str
    party_id: int | None
    took_ms: float


# --- what a commit writes -------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table named like the struct."""


class IdemRow(Row, frozen=True, kw_only=True):
    """The claim of an idempotency key by a seller. `fingerprint` is keyed, hex bytea."""

    seller_id: int
    key: str
    fingerprint: str
    lead_id: str
    state: Literal["running", "done"] = "running"


class LeadRow(Row, frozen=True, kw_only=True):
    """The lead, at its first commit. `ping` is the compact JSON of what the sale carries of its
    ping."""

    lead_id: str
    seller_id: int
    source_id: int
    sub_id: str | None
    vertical_id: int
    external_id: str | None
    state: str
    mode: Literal["exclusive", "shared"]
    max_sales: int
    direct: bool
    promised_payout_micros: int
    min_payout_micros: int
    floor_micros: int
    currency: str
    consent_kind: str
    custody_seq: int
    custody_head: str
    book_version: int
    mask_id: int
    offer: dict[str, Any]
    boot_id: str
    test: bool
    received_at: datetime


class LeadPrivateRow(Row, frozen=True, kw_only=True):
    """The sealed lead, consent and salts; all bytea as hex text."""

    lead_id: str
    key_epoch: int
    wrapped_dek: str
    sealed: str


class PrivateDoc(msgspec.Struct, frozen=True, kw_only=True):
    """What is sealed in `lead_private`, as JSON: the normalised record (dates as ISO text),
    consent, chain of hand-overs, and the salts of the custody commitments (hex). Only the vault
    sees it whole."""

    lead: dict[str, Any]
    consent: dict[str, Any]
    chain: list[dict[str, Any]]
    salts: dict[str, str]

    def __repr__(self) -> str:
        return f"<private document, {len(self.lead)} fields>"


class PersonKeyRow(Row, frozen=True, kw_only=True):
    """A keyed hash of what identifies the consumer, for duplicate rules and erasure."""

    lead_id: str
    vertical_id: int
    kind: str
    pepper_epoch: int
    hmac: str


class PersonClaim(Row, frozen=True, kw_only=True):
    """A consumer, by a keyed hash, whom a lead may be sold only if no other lead of the same
    consumer was sold in the vertical after `since`, or is being sold. Not a row: the fence reads
    it."""

    lead_id: str
    vertical_id: int
    hmac: str
    since: datetime


class AttemptRow(Row, frozen=True, kw_only=True):
    """One try at one buyer, at its INTENT (state `posting`). `windows` are the cap windows held:
    `[[win, limit, amount], ...]`; `slots` how many sale slots it takes (exclusive: all)."""

    attempt_id: str
    lead_id: str
    seller_id: int
    buyer_id: int
    contract_id: int
    contract_version: int
    rank: int
    leg: int
    price_micros: int
    payout_micros: int
    fee_micros: int
    currency: str
    buyer_bid_ref: str | None
    bid_expires_at: datetime | None
    deadline_at: datetime
    next_check_at: datetime
    boot_id: str
    cap_mode: str
    cap_sq: int
    windows: list[list[Any]]
    slots: list[int]
    test: bool
    created_at: datetime


class ResaleRow(Row, frozen=True, kw_only=True):
    """A returned lead offered again: after which return, as the sale of which number (`leg`), by
    the market of which version, by whom and why. `released`: it is written with the INTENT; false:
    it came to none, and `rule` says why."""

    resale_id: str
    lead_id: str
    return_id: str
    leg: int
    released: bool
    rule: str
    book_version: int
    by: str
    why: str
    at: datetime


class AttemptMove(Row, frozen=True, kw_only=True):
    """A compare-and-set of one attempt along the lifecycle. `buyer_ref` is the buyer's id of the
    sale. `strict`: it has claims on strict caps in the database (which are settled with it)."""

    attempt_id: str
    lead_id: str
    old: str
    new: str
    strict: bool
    buyer_ref: str | None = None
    buyer_reason: str | None = None
    resolved_by: str | None = None
    next_check_at: datetime | None = None


class AttemptEventRow(Row, frozen=True, kw_only=True):
    """The fact behind an attempt's state; `(attempt_id, state)` is unique and marks its commit."""

    attempt_id: str
    lead_id: str
    state: str
    at: datetime
    detail: dict[str, Any]


class LeadMove(Row, frozen=True, kw_only=True):
    """A compare-and-set of the lead; `custody_seq` and `custody_head` move with it. `old` may name
    several states, comma-separated."""

    lead_id: str
    old: str
    new: str
    custody_seq: int
    custody_head: str
    boot_id: str | None = None


class CustodyRow(Row, frozen=True, kw_only=True):
    """One event of a lead's chain: its canonical bytes, the hash of the one before, and its own."""

    lead_id: str
    seq: int
    kind: str
    bytes: str
    prev: str
    hash: str
    at: datetime


class TransferRow(Row, frozen=True, kw_only=True):
    """One debit, one credit, amount > 0. Accounts are named `(party_id, kind)`; the writer knows
    their ids (and makes a missing account). `transfer_id` is deterministic: posting twice is
    harmless. A reversal names the leg it takes back and which part of it (from 1)."""

    transfer_id: str
    lead_id: str
    attempt_id: str | None
    code: int
    debit_party: int
    debit_kind: str
    credit_party: int
    credit_kind: str
    amount_micros: int
    currency: str
    reverses: str | None
    at: datetime
    part: int = 0


class OutboxRow(Row, frozen=True, kw_only=True):
    """Something to be told to a party after the commit (a webhook): no personal data."""

    outbox_id: str
    lead_id: str
    party_id: int
    kind: str
    body: dict[str, Any]
    at: datetime


class IdemDone(Row, frozen=True, kw_only=True):
    """The stored reply of a finished key: replayed byte for byte."""

    seller_id: int
    key: str
    reply: dict[str, Any]


class CommitUnit(msgspec.Struct, frozen=True, kw_only=True):
    """All or nothing, in one transaction. `marker` is `(attempt_id or lead_id, state)`: the event
    row by which a lost connection can be asked whether the unit had committed.

    The moves are the gate: if any compare-and-set finds another state, nothing of the unit is
    applied and the answer is `"stale"`. An insert that collides answers `"conflict"`. A consumer
    who cannot be claimed answers `"duplicate"`. A strict cap without room answers `"cap"` with the
    window. Else `"done"`.
    """

    lead_id: str
    marker: tuple[str, str]
    idem: IdemRow | None = None
    lead: LeadRow | None = None
    private: LeadPrivateRow | None = None
    persons: tuple[PersonKeyRow, ...] = ()
    claims: tuple[PersonClaim, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    attempt_moves: tuple[AttemptMove, ...] = ()
    lead_move: LeadMove | None = None
    events: tuple[AttemptEventRow, ...] = ()
    custody: tuple[CustodyRow, ...] = ()
    transfers: tuple[TransferRow, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    idem_done: IdemDone | None = None
    resale: ResaleRow | None = None


class CommitAnswer(Fact, frozen=True, kw_only=True):
    """What became of a unit. `win` names the full cap window when `kind` is `"cap"`."""

    kind: Literal["done", "stale", "conflict", "duplicate", "cap"]
    win: str | None = None
    detail: str = ""
