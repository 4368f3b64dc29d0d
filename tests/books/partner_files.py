"""Partners' files of simulated trade: what a partner that agrees would send, with differences
seeded where asked for, and which they are."""

import csv
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import asyncpg
from openpyxl import Workbook

from exchange.core.money import text_of
from exchange.effects.vault import Vault
from tests.books.trade import Sold

HEADER = ("Sale ID", "External ID", "Phone", "E-mail", "Date", "Amount", "Currency", "Status")
KINDS = ("only_ours", "only_theirs", "other_price", "other_status")
STRAY = 9_000_000
Seeded = dict[str, set[str | int]]


class File(NamedTuple):
    """A file, how many lines it has, and what was seeded: ours by sale, theirs by line."""

    path: Path
    lines: int
    seeded: Seeded


def phone_of(number: int) -> str:
    """A phone number of its own for every sale."""
    return f"+1310{2_000_000 + number:07d}"


async def known_phones(database_url: str, vault: Vault, sold: Sequence[Sold]) -> None:
    """The keyed hash of each sale's phone, as the exchange keeps it."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO key_epoch (kind, epoch) VALUES ('pepper', 1)")
    vertical = await connection.fetchval("SELECT min(id) FROM vertical")
    rows = [
        (one.lead_id, one.at.date(), vertical, "phone", 1, _hash(vault, number))
        for number, one in enumerate(sold)
    ]
    columns = ("lead_id", "day", "vertical_id", "kind", "pepper_epoch", "hmac")
    await connection.copy_records_to_table("person_key", records=rows, columns=columns)
    await connection.execute("ANALYZE person_key")
    await connection.close()


def _hash(vault: Vault, number: int) -> bytes:
    return bytes.fromhex(vault.person("phone", phone_of(number), pepper_epoch=1)[1])


def write_file(path: Path, sold: Sequence[Sold], side: str, *, wrong: int, chance: Random) -> File:
    """A partner's file with so many differences, CSV or XLSX by its name."""
    seeded: Seeded = {kind: set() for kind in KINDS}
    places = set(chance.sample(range(len(sold)), wrong))
    lines = 0
    with _written(path) as add:
        add(HEADER)
        for number, sale in enumerate(sold):
            kind = KINDS[len(places) % len(KINDS)] if number in places else None
            places.discard(number)
            for row in _rows(number, sale, side, kind, chance):
                add(row)
                lines += 1
            if kind is not None:
                seeded[kind].add(lines + 1 if kind == "only_theirs" else sale.attempt_id)
    return File(path, lines, seeded)


def _rows(
    number: int, sale: Sold, side: str, kind: str | None, chance: Random
) -> Iterator[tuple[object, ...]]:
    price, credit = (
        (sale.price_micros, sale.credited_micros)
        if side == "buyer"
        else (sale.payout_micros, sale.clawback_micros)
    )
    reference = f"R{number}" if side == "buyer" else f"X{number}"
    keys = chance.choice(
        [
            (sale.attempt_id, "", ""),
            (sale.lead_id, "", ""),
            ("", reference, ""),
            ("", "", phone_of(number)),
            (sale.attempt_id, reference, phone_of(number)),
        ]
    )
    day = sale.at.date()
    if kind == "only_ours":
        return
    status = "returned" if kind == "other_status" and not credit else "sold"
    price += 10_000 if kind == "other_price" else 0
    yield _row(keys, number, day, price, status)
    if credit and kind != "other_status":
        yield _row(keys, number, day, -credit, "")
    if kind == "only_theirs":
        yield _row(("", "", phone_of(STRAY - 2_000_000 + number)), STRAY + number, day, price, "")


def _row(
    keys: tuple[str, str, str], number: int, day: date, micros: int, status: str
) -> tuple[object, ...]:
    sign = "-" if micros < 0 else ""
    amount = f"{sign}{text_of(abs(micros))}"
    return (*keys, f"person{number}@mail.example", day.isoformat(), amount, "USD", status)


class _written:
    """Writes rows to a file by its ending."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Any:
        if self._path.suffix == ".csv":
            self._file = self._path.open("w", encoding="utf-8", newline="")
            return csv.writer(self._file).writerow
        self._book = Workbook(write_only=True)
        return self._book.create_sheet().append

    def __exit__(self, *_: object) -> None:
        if self._path.suffix == ".csv":
            self._file.close()
        else:
            self._book.save(self._path)


def found_of(findings: Sequence[dict[str, Any]]) -> Seeded:
    """What was found, as what was seeded is told."""
    return {
        kind: {
            one["lines"][0] if kind == "only_theirs" else one["attempt_id"]
            for one in findings
            if one["verdict"] == kind
        }
        for kind in KINDS
    }
