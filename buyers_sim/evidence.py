"""What a judge looks at: the truth of the buyers, what sellers were told, and what was agreed.

The sellers' file has one JSON object a line:

    {"kind": "ping" | "post" | "direct" | "final", "seller": "...", "at": "...",
     "sent": {request body}, "http": 200, "reply": {response body}, "canaries": ["...", ...]}

`final` is a later `GET /v1/leads/{id}`, with `sent = {}`. `canaries` may be left out: then they are
the values of the fields that `personal` names, in `sent.fields` or `sent.lead`, of at least eight
bytes. The market's file says what was agreed, in the words of the market's TOML:

    {"contracts": {"acme-auto": {"buyer": "acme", "zone": "America/Chicago",
                                 "caps": [{"leads": 50, "per": "day", "each": "state"},
                                          {"money": "900.00", "per": "month"}]}},
     "personal": {"auto_insurance": ["phone", "email", "first_name"]}}
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec

from .events import Event
from .forms import BYTES_MIN
from .truth import Truth

Per = Literal["hour", "day", "week", "month", "total"]


class CapFact(msgspec.Struct, frozen=True, kw_only=True):
    """One cap, as the market file writes it: `leads` or `money`."""

    per: Per
    leads: int | None = None
    money: str | None = None
    each: str | None = None

    def limit(self) -> int:
        """Leads, or micros."""
        return self.leads if self.leads is not None else micros(self.money)

    def __str__(self) -> str:
        amount = f"{self.leads} leads" if self.leads is not None else str(self.money)
        return f"{amount} per {self.per}" + (f" each {self.each}" if self.each else "")


class ContractFact(msgspec.Struct, frozen=True, kw_only=True):
    """What was agreed with a buyer. `zone` is needed where caps go by the calendar."""

    buyer: str
    zone: str | None = None
    caps: tuple[CapFact, ...] = ()


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """The agreed facts a judge needs. `personal`: by vertical, the fields that identify someone."""

    contracts: dict[str, ContractFact]
    personal: dict[str, tuple[str, ...]] = {}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a seller and what it was told. `http` 0: no answer came."""

    kind: Literal["ping", "post", "direct", "final"]
    http: int
    sent: dict[str, Any] = {}
    reply: dict[str, Any] | None = None
    seller: str = ""
    at: str = ""
    canaries: tuple[str, ...] | None = None

    def said(self, key: str) -> Any:
        """A member of the reply, `None` without one."""
        return self.reply.get(key) if self.reply else None

    def lead_id(self) -> str:
        """The lead it is about; `""` when the exchange gave no id (a refused request)."""
        return self.said("lead_id") or self.said("ping_id") or self.sent.get("ping_id") or ""


class Case:
    """The evidence, ordered by lead."""

    def __init__(self, truth: Truth, told: Iterable[Told], market: Market) -> None:
        self.truth = truth
        self.market = market
        self.accepted = truth.accepted_leads()
        self.told: defaultdict[str, list[Told]] = defaultdict(list)
        for one in told:
            self.told[one.lead_id()].append(one)
        self.posts: defaultdict[str, list[Event]] = defaultdict(list)
        for event in sorted(truth.events("post"), key=lambda event: event.at):
            self.posts[event.lead_id].append(event)
        self.inquiries: defaultdict[str, list[Event]] = defaultdict(list)
        for event in truth.events("status"):
            self.inquiries[event.attempt_id].append(event)

    @classmethod
    def read(cls, *, truth_dir: Path, sellers: Path, market: Path) -> "Case":
        """From files; raises `OSError` or `msgspec.MsgspecError` when one is missing or odd."""
        lines = sellers.read_bytes().splitlines()
        return cls(
            Truth.read(truth_dir),
            msgspec.json.decode(b"[" + b",".join(lines) + b"]", type=list[Told]),
            msgspec.json.decode(market.read_bytes(), type=Market),
        )

    def told_sold(self) -> Iterator[tuple[str, list[Told]]]:
        """Leads that a seller was told are sold, with the replies that said so."""
        for lead_id, told in self.told.items():
            sold = [one for one in told if one.said("status") == "sold"]
            if sold:
                yield lead_id, sold

    def sent_parts(self, lead_id: str) -> Iterator[dict[str, Any]]:
        """What sellers sent about a lead: fields of pings, leads of posts, and the requests."""
        for one in self.told.get(lead_id, ()):
            for part in (one.sent.get("fields"), one.sent.get("lead"), one.sent):
                if isinstance(part, dict):
                    yield part

    def canaries(self) -> dict[str, list[str]]:
        """By lead, what only its consumer has. A refused request counts under its own place, for
        nobody may have received anything of it."""
        found: dict[str, dict[str, None]] = {}
        for lead_id, told in self.told.items():
            vertical = _vertical(told)
            names = self.market.personal.get(vertical or "", ())
            for one in told:
                values = one.canaries if one.canaries is not None else _personal(one, names)
                found.setdefault(lead_id, {}).update(dict.fromkeys(values))
        return {lead_id: list(values) for lead_id, values in found.items()}


def micros(amount: object) -> int:
    """A decimal string or number as micros; raises `ValueError` for anything else."""
    try:
        return int(Decimal(str(amount)) * 1_000_000)
    except ArithmeticError:
        raise ValueError(f"not an amount: {amount!r}") from None


def _vertical(told: list[Told]) -> str | None:
    return next((one.sent["vertical"] for one in told if "vertical" in one.sent), None)


def _personal(one: Told, names: tuple[str, ...]) -> list[str]:
    fields = {**(one.sent.get("fields") or {}), **(one.sent.get("lead") or {})}
    values = (fields.get(name) for name in names)
    return [
        value for value in values if isinstance(value, str) and len(value.encode()) >= BYTES_MIN
    ]
