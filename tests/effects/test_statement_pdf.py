"""A statement as PDF: the same bytes for the same statement, as many pages as its lines need, and
no text that a reader's fonts cannot draw."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from exchange.core.statements import LINE_KINDS, Line, Party, PartyKind, Statement
from exchange.effects.papers.statement_pdf import grouped, owed, write_pdf

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def statement(count: int = 0, *, kind: PartyKind = "buyer", closing: int = 0) -> Statement:
    line = Line(
        day=NOON.date(), at=NOON, kind="sale", document="0199aaaa-0001", lead_id="l",
        contract="a contract of a name that is much too long for its column", reference="Łódź 株",
        amount_micros=1_000_000, balance_micros=1_000_000,
    )  # fmt: skip
    return Statement(
        party=Party(id=3, kind=kind, key="acme", name="Acme, Inc."),
        first=date(2026, 3, 1), last=date(2026, 3, 31), zone="UTC", currency="USD",
        opening_micros=0, totals=dict.fromkeys(LINE_KINDS, 0), counts=dict.fromkeys(LINE_KINDS, 0),
        closing_micros=closing, lines=(line,) * count,
    )  # fmt: skip


def pdf(folder: Path, *statements: Statement) -> bytes:
    path = folder / "a.pdf"
    write_pdf(path, statements, house="The exchange")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("lines", "pages"), [(0, 1), (1, 1), (34, 1), (36, 2), (80, 2), (90, 3), (1_000, 20)]
)
def test_every_line_has_its_place(tmp_path: Path, lines: int, pages: int) -> None:
    data = pdf(tmp_path, statement(lines))
    assert data.startswith(b"%PDF-")
    assert data.count(b"/Type /Page\n") == pages


def test_the_same_statement_gives_the_same_bytes(tmp_path: Path) -> None:
    assert pdf(tmp_path, statement(50)) == pdf(tmp_path, statement(50))


def test_each_currency_has_its_own_pages(tmp_path: Path) -> None:
    assert pdf(tmp_path, statement(40), statement(3)).count(b"/Type /Page\n") == 3


@pytest.mark.parametrize(
    ("kind", "closing", "words"),
    [
        ("buyer", 0, "Nothing is owed."),
        ("buyer", 1_500_000, "Acme, Inc. owes 1.50 USD to The exchange."),
        ("buyer", -1_500_000, "The exchange owes 1.50 USD to Acme, Inc."),
        ("seller", 1_500_000, "The exchange owes 1.50 USD to Acme, Inc."),
        ("seller", -1_500_000, "Acme, Inc. owes 1.50 USD to The exchange."),
    ],
)
def test_the_closing_balance_is_said_in_words(kind: PartyKind, closing: int, words: str) -> None:
    assert owed(statement(kind=kind, closing=closing), "The exchange") == words


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0.00"), (-1_234_567_890_000, "-1,234,567.89"), (21_105_000, "21.105"), (-1, "-0.000001")],
)
def test_amounts_are_grouped_and_exact(micros: int, text: str) -> None:
    assert grouped(micros) == text
