"""Reading a partner's sheet: which column is what, and what a row says.

Columns are found by the words of the trade in the header, unless a mapping names them. Nothing is
guessed that money hangs on: a date that may be two days, an amount that may be two amounts, is an
unread line with its number, not a line read wrongly. Phones and e-mails become keyed hashes here
and go no further.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, tzinfo
from decimal import Decimal
from typing import Any, Final, Generic, Literal, TypeVar

from exchange.core.fields import identity
from exchange.core.model import Fact
from exchange.core.money import BadMoney, micros_of
from exchange.core.partner_lines import Person, Status, TheirLine

Field = Literal["our_id", "reference", "phone", "email", "date", "amount", "currency", "status"]
DayOrder = Literal["ymd", "mdy", "dmy"]
Named = TypeVar("Named", bound=str)
Hashed = Callable[[str, str], tuple[bytes, ...]]
"""The keyed hashes of a kind's normalised value: one per pepper in use."""

WORDS: Final[dict[Field, tuple[str, ...]]] = {
    "our_id": (
        *("sale id", "attempt id", "exchange id", "exchange lead id", "lead id", "leadid"),
        *("lead uuid", "transaction id"),
    ),
    "reference": (
        *("buyer ref", "buyer reference", "our reference", "reference", "ref", "our id"),
        *("external id", "order id", "record id", "id"),
    ),
    "phone": (
        *("phone", "phone number", "primary phone", "phone1", "phone 1", "telephone", "mobile"),
        *("cell", "cell phone", "home phone"),
    ),
    "email": ("email", "e mail", "email address", "e mail address", "mail"),
    "date": (
        *("sale date", "sold date", "sold at", "sold on", "date sold", "purchase date", "date"),
        *("lead date", "received", "received at", "date received", "delivered at", "created"),
        *("created at", "date created", "timestamp", "time", "day"),
    ),
    "amount": ("price", "amount", "cost", "lead price", "lead cost", "net", "paid", "total"),
    "currency": ("currency", "cur", "currency code"),
    "status": ("status", "state of sale", "lead status", "disposition", "result", "outcome"),
}
"""Header words by field, surest first; a header is compared in lower case, letters and digits."""
SELLER_WORDS: Final[dict[Field, tuple[str, ...]]] = WORDS | {
    "reference": (
        *("external id", "our reference", "seller ref", "reference", "ref", "click id", "our id"),
        *("record id", "order id", "id"),
    ),
    "amount": (
        *("payout", "our payout", "revenue", "earnings", "earned", "commission"),
        *WORDS["amount"],
    ),
}
"""The same of a seller's file: its own id is the lead's `external_id`, its money the payout."""

STATUSES: Final[dict[str, Status]] = {
    **dict.fromkeys(
        ("sold", "accepted", "accept", "matched", "match", "success", "purchased", "bought"), "sold"
    ),
    **dict.fromkeys(("ok", "billable", "billed", "valid", "approved", "paid", "delivered"), "sold"),
    **dict.fromkeys(
        ("returned", "return", "credited", "credit", "refund", "refunded", "scrubbed"), "returned"
    ),
    **dict.fromkeys(
        ("rejected", "reject", "declined", "unmatched", "duplicate", "failed", "invalid"),
        "rejected",
    ),
}  # fmt: skip
"""Words of the trade for what became of a lead."""

TEXT_MAX: Final = 200
"""Longest reference kept."""
_YEARS: Final = range(2000, 2200)
"""A day in another year is a mistyped one, or a spreadsheet's zero."""
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DAY: Final = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?:[T ].*)?", re.DOTALL)
_AMOUNT: Final = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:,\d{3})+(?=\.))(?:\.\d+)?")
_COMMA: Final = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d{1,2}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


class BadHeader(ValueError):
    """The header does not do; the message says what is missing, in a sentence."""


class Unread(Fact, frozen=True, kw_only=True):
    """A row that cannot be read: where, and why, in words that quote nothing of it."""

    line: int
    column: str
    why: str


class Layout(Fact, Generic[Named], frozen=True, kw_only=True):
    """Where each field stands (from 0), and under which header."""

    places: dict[Named, int]
    headers: dict[Named, str]


class Cannot(Exception):
    """A cell says nothing that can be used; the message says why."""


def layout_of(
    header: Sequence[Any], named: Mapping[Named, str], words: Mapping[Named, tuple[str, ...]]
) -> Layout[Named]:
    """The columns of a header: those `named` (field -> header), else found by their `words`. Raises
    `BadHeader` when a named one is not there, or nothing is left to match lines by; it quotes
    nothing of the file, for one without a header begins with a person."""
    texts = [str(cell).strip() if cell is not None else "" for cell in header]
    said = [words_of(text) for text in texts]
    places: dict[Named, int] = {}
    for field, name in named.items():
        if words_of(name) not in said:
            raise BadHeader(f"the first line, the header, has no column {name}")
        places[field] = said.index(words_of(name))
    for field, known in words.items():
        free = [word for word in known if word in said]
        place = next((said.index(w) for w in free if said.index(w) not in places.values()), None)
        if field not in named and place is not None:
            places[field] = place
    if not places.keys() & {"our_id", "reference", "phone", "email"}:
        raise BadHeader(
            "no column holds an id, a reference, a phone or an e-mail; name one with --column"
        )
    return Layout(places=places, headers={field: texts[n] for field, n in places.items()})


class Reader:
    """Reads rows of one sheet. `zone`: whose days a moment with an offset falls in; `day_order`: of
    days such as 03/04/2026, which are not read without it."""

    def __init__(
        self, layout: Layout[Field], *, hashed: Hashed, zone: tzinfo, day_order: DayOrder | None
    ) -> None:
        self._layout, self._hashed, self._zone, self._order = layout, hashed, zone, day_order

    def line(self, number: int, cells: Sequence[Any]) -> TheirLine | Unread:
        """What the row at this line says."""
        cell = {
            field: cells[place] if place < len(cells) else None
            for field, place in self._layout.places.items()
        }
        field: Field = "date"
        try:
            on = day_of(cell.get("date"), self._zone, self._order)
            field = "amount"
            amount = _amount(cell.get("amount"))
            field = "currency"
            currency = _currency(cell.get("currency"))
            field = "status"
            status = _status(cell.get("status"))
        except Cannot as cannot:
            return Unread(line=number, column=self._layout.headers[field], why=str(cannot))
        our_id = cell_text(cell.get("our_id")).lower()
        is_ours = _UUID.fullmatch(our_id) is not None
        read = TheirLine(
            line=number,
            our_id=our_id if is_ours else "",
            reference=self._reference(cell, our_id if not is_ours else ""),
            persons=persons_of(
                cell_text(cell.get("phone")), cell_text(cell.get("email")), self._hashed
            ),
            on=on,
            amount_micros=amount,
            currency=currency,
            status=status,
        )
        if not (read.our_id or read.reference or read.persons):
            return Unread(line=number, column="", why="it names no id, reference, phone or e-mail")
        return read

    def _reference(self, cell: Mapping[Field, Any], other_id: str) -> str:
        """Their own id. Where no column is said to hold it, what a partner calls the lead's id and
        is none of ours is theirs; a word such as "Total" is nobody's."""
        if "reference" in self._layout.places:
            return cell_text(cell.get("reference"))[:TEXT_MAX]
        is_id = any(character.isdigit() for character in other_id)
        return cell_text(cell.get("our_id"))[:TEXT_MAX] if is_id else ""


def persons_of(phone: str, email: str, hashed: Hashed) -> tuple[Person, ...]:
    """The keyed hashes of a line's phone and e-mail; none of what is neither."""
    said: tuple[tuple[Literal["phone", "email"], str], ...] = (("phone", phone), ("email", email))
    known = ((kind, identity(kind, text)) for kind, text in said if text)
    return tuple((kind, digest) for kind, plain in known if plain for digest in hashed(kind, plain))


def words_of(header: str) -> str:
    """A header or phrase as it is compared: lower case, letters and digits."""
    return " ".join(re.findall(r"[^\W_]+", header.lower()))


def cell_text(cell: Any) -> str:
    """What a cell says; a spreadsheet may hold an id as a float."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


def day_of(cell: Any, zone: tzinfo, order: DayOrder | None) -> date | None:
    """The day a cell says, `None` when it says nothing. Raises `Cannot`."""
    if isinstance(cell, datetime):
        return _plausible((cell.astimezone(zone) if cell.tzinfo else cell).date())
    if isinstance(cell, date):
        return _plausible(cell)
    text = cell_text(cell)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is not None:
        return day_of(moment, zone, order)
    parts = _DAY.fullmatch(text)
    if parts is None:
        raise Cannot("it is no date such as 2026-03-31")
    first, _, second, third = parts.groups()
    if len(first) == 4:
        return _date_of(first, second, third)
    if order in (None, "ymd"):
        raise Cannot("the day may be read in two ways: say which with --days mdy or --days dmy")
    return _date_of(third, *((first, second) if order == "mdy" else (second, first)))


def _date_of(year: str, month: str, day: str) -> date:
    try:
        return _plausible(date(int(year) + (2000 if len(year) == 2 else 0), int(month), int(day)))
    except ValueError:
        raise Cannot("there is no such day") from None


def _plausible(day: date) -> date:
    if day.year not in _YEARS:
        raise Cannot("that is no year of this trade")
    return day


def _amount(cell: Any) -> int | None:
    """Micros; a leading minus or parentheses make it negative."""
    text = (
        f"{cell:.6f}" if isinstance(cell, float) else cell_text(cell)
    )  # 63.300000000000004 is 63.3
    if not text:
        return None
    is_credit = text.startswith("(") and text.endswith(")")
    plain = re.sub(r"[\s$€£()]|[A-Z]{3}", "", text).replace("\u2212", "-")
    if _COMMA.fullmatch(plain):
        plain = plain.replace(".", "").replace(",", ".")
    if not _AMOUNT.fullmatch(plain):
        raise Cannot("it is no amount such as 1234.50, or may be two amounts")
    value = Decimal(plain.replace(",", ""))
    try:
        micros = micros_of(abs(value))
    except BadMoney as bad:
        raise Cannot(str(bad)) from None
    return -micros if is_credit or value < 0 else micros


def _currency(cell: Any) -> str:
    text = cell_text(cell).upper()
    if text and not _CURRENCY.fullmatch(text):
        raise Cannot("it is no currency such as USD")
    return text


def _status(cell: Any) -> Status | None:
    word = words_of(cell_text(cell))
    if word and word not in STATUSES:
        raise Cannot(f"it is no status known; known are {', '.join(sorted(STATUSES))}")
    return STATUSES[word] if word else None
