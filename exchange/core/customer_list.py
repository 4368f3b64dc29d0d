"""Reading a buyer's list of customers: phones and e-mails, of which keyed hashes alone are kept.

A list needs no header: where the first row has a phone or an e-mail, its columns are those that
have one. Hashes are refused: ours are keyed, so one that a buyer computed could be compared with
none of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from exchange.core import partner_sheet
from exchange.core.fields import identity
from exchange.core.model import Fact
from exchange.core.partner_lines import Person
from exchange.core.partner_sheet import Hashed, cell_text, words_of

Kind = Literal["phone", "email"]
KINDS: Final[tuple[Kind, ...]] = ("phone", "email")
_MORE: Final[dict[Kind, tuple[str, ...]]] = {
    "phone": ("phone 2", "phone2", "alternate phone", "work phone", "mobile phone"),
    "email": ("email 2", "email2", "alternate email"),
}
_HASH: Final = re.compile(r"[0-9a-fA-F]{32,128}")


class BadList(ValueError):
    """The list cannot be taken; the message says why, in a sentence, and quotes nothing of it."""


class Customers(Fact, frozen=True, kw_only=True):
    """Whom a list names, as keyed hashes; `unread` are the rows with neither phone nor e-mail."""

    persons: frozenset[Person]
    rows: int
    unread: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """What kinds of persons there are."""
        return tuple(sorted({kind for kind, _ in self.persons}))


def customers_of(rows: Iterable[Sequence[Any]], hashed: Hashed) -> Customers:
    """Everybody on a list, its header (if it has one) first. Raises `BadList`."""
    whole: Iterator[Sequence[Any]] = iter(rows)
    first = next(whole, ())
    columns = _with_header(first)
    persons, count, unread = set[Person](), 0, 0
    if not columns:
        columns = {place: kind for place, cell in enumerate(first) if (kind := _kind(cell))}
        whole = iter([first, *whole]) if columns else whole
    if not columns:
        is_hash = any(_HASH.fullmatch(cell_text(cell)) for cell in first)
        raise BadList(_HASHES if is_hash else "no column holds phones or e-mails")
    for cells in whole:
        found = list(_persons(cells, columns, hashed))
        count, unread = count + 1, unread + (not found)
        persons.update(found)
    if not persons:
        raise BadList("no row has a phone or an e-mail; hashes cannot be compared with ours")
    return Customers(persons=frozenset(persons), rows=count, unread=unread)


_HASHES: Final = (
    "it has hashes: send phones and e-mails; what is kept is our own keyed hash of each"
)


def _with_header(first: Sequence[Any]) -> dict[int, Kind]:
    """The columns that a header names."""
    said = [words_of(cell_text(cell)) for cell in first]
    return {
        place: kind
        for place, word in enumerate(said)
        for kind in KINDS
        if word in (*partner_sheet.WORDS[kind], *_MORE[kind])
    }


def _kind(cell: Any) -> Kind | None:
    return next((kind for kind in KINDS if identity(kind, cell_text(cell))), None)


def _persons(cells: Sequence[Any], columns: Mapping[int, Kind], hashed: Hashed) -> Iterator[Person]:
    for place, kind in columns.items():
        plain = identity(kind, cell_text(cells[place])) if place < len(cells) else None
        if plain:
            yield from ((kind, digest) for digest in hashed(kind, plain))
