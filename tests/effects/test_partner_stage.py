"""The memory of a reconciliation on disk: it decides as the one in memory does, whatever the file,
and what is personal does not stand in it."""

import random
import sqlite3
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from exchange.core.partner_lines import OurLine, Status, TheirLine
from exchange.core.reconciliation import Matching, Terms
from exchange.core.shelf import Memory, Shelf
from exchange.core.verdicts import Finding
from exchange.effects.partner_stage import Stage
from tests.core.test_reconciliation import doctored, market, told
from tests.core.test_reconciliation import our as usual

TERMS = Terms(zone=UTC, tolerance_days=1, first=date(2026, 3, 2), last=date(2026, 3, 6))
IDS = ("attempt-000001", "attempt-000002", "lead-000001", "lead-000003", "stray", "")
STATUSES: tuple[Status | None, ...] = ("sold", "returned", "rejected", None)


def outcome(
    memory: Memory, ours: Sequence[OurLine], theirs: list[TheirLine], terms: Terms
) -> object:
    matching = Matching(theirs, terms, memory)
    found: list[Finding] = [*matching.passed(ours), *matching.rest()]
    return sorted(map(repr, found)), matching.totals, matching.outside


def agree(ours: Sequence[OurLine], theirs: list[TheirLine], terms: Terms = TERMS) -> None:
    stage = Stage()
    assert outcome(stage, ours, theirs, terms) == outcome(Shelf(), ours, theirs, terms)
    stage.close()


@st.composite
def files(draw: st.DrawFn) -> tuple[list[OurLine], list[TheirLine]]:
    """A handful of sales and lines that name few things, so that everything clashes."""
    number, day = st.integers(1, 4), st.integers(0, 8)
    persons = st.lists(
        st.sampled_from([("phone", b"1"), ("phone", b"2"), ("email", b"1")]), max_size=2
    )
    ours = [
        usual(
            place,
            reference=f"ref-{draw(number)}",
            persons=tuple(draw(persons)),
            sold_at=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=draw(day)),
            status=draw(st.sampled_from(("sold", "returned", "rejected", "in_doubt"))),
            parts=draw(st.sampled_from(((), ("stray",)))),
        )
        for place in range(1, draw(number) + 1)
    ]
    theirs = [
        TheirLine(
            line=line,
            our_id=draw(st.sampled_from(IDS)),
            reference=draw(st.sampled_from(("", "ref-1", "ref-2", "stray"))),
            persons=tuple(draw(persons)),
            on=draw(st.sampled_from((None, *(date(2026, 3, 1 + n) for n in range(8))))),
            amount_micros=draw(st.sampled_from((None, 25_000_000, -25_000_000, 1))),
            status=draw(st.sampled_from(STATUSES)),
        )
        for line in range(2, 2 + draw(st.integers(0, 12)))
    ]
    return ours, theirs


@given(files(), st.sampled_from(("buyer", "seller")))
def test_on_disk_and_in_memory_a_file_is_judged_alike(
    sides: tuple[list[OurLine], list[TheirLine]], side: str
) -> None:
    agree(*sides, terms=replace(TERMS, side=side))


def test_a_market_is_judged_alike(seed: int) -> None:
    chance = random.Random(seed)
    ours, theirs, _ = doctored(market(2_000, chance), 100, chance)
    agree(ours, theirs, replace(TERMS, first=None, last=None))


@pytest.mark.parametrize("given", [
    {"our_id": "", "reference": "", "persons": (("email", b"all"),)},
    {"our_id": "", "reference": "n/a"},
    {"our_id": "same"},
])  # fmt: skip
def test_a_column_of_one_value_costs_no_square(given: dict[str, object]) -> None:
    theirs = [
        told(usual(1), line, **given, amount_micros=25_000_000 * (-1 if line % 3 == 0 else 1))
        for line in range(2, 4_000)
    ]
    agree([usual(n, persons=(("email", b"all"),), reference="n/a") for n in range(300)], theirs)


def test_what_it_holds_names_nobody(tmp_path: Path) -> None:
    """A partner's reference may be an e-mail address, so it stands there as a keyed hash."""
    stage = Stage()
    line = told(usual(1), 2, reference="ann@example.com", our_id="")
    matching = Matching([line], Terms(zone=UTC, tolerance_days=1), stage)
    list(matching.passed([usual(2, reference="ann@example.com", persons=line.persons)]))
    with sqlite3.connect(tmp_path / "copy") as copy:
        stage._db.commit()
        stage._db.backup(copy)
    copy.close()
    held = (tmp_path / "copy").read_bytes()
    assert b"attempt-000002" in held
    assert b"ann@" not in held
    stage.close()
