"""Reconciliation: seeded differences are found and nothing else, parts add up, order does not
matter."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from exchange.core.partner_lines import OurLine, TheirLine
from exchange.core.reconciliation import Matching, Terms, findings_of
from exchange.core.verdicts import Finding, Total

ZONE = ZoneInfo("America/New_York")
TERMS = Terms(zone=ZONE, tolerance_days=1)
NOON = datetime(2026, 3, 10, 16, tzinfo=UTC)
PRICE = 25_000_000


def our(number: int = 1, **given: Any) -> OurLine:
    line = OurLine(
        attempt_id=f"attempt-{number:06d}",
        lead_id=f"lead-{number:06d}",
        reference=f"ref-{number}",
        persons=(("phone", b"p%d" % number), ("email", b"e%d" % number)),
        sold_at=NOON,
        price_micros=PRICE,
        credited_micros=0,
        currency="USD",
        status="sold",
    )
    return replace(line, **given)


def told(sale: OurLine, line: int = 2, **given: Any) -> TheirLine:
    """The sale as a partner that agrees, and keeps everything, would tell it."""
    same = TheirLine(
        line=line,
        our_id=sale.attempt_id,
        reference=sale.reference or "",
        persons=sale.persons,
        on=sale.sold_at.astimezone(ZONE).date(),
        amount_micros=sale.price_micros,
        currency=sale.currency,
        status="sold",
    )
    return replace(same, **given)


def found(ours: Sequence[OurLine], theirs: Sequence[TheirLine], terms: Terms = TERMS) -> Any:
    return findings_of(ours, theirs, terms)[0]


def by_person(sale: OurLine, line: int = 2, **given: Any) -> TheirLine:
    return told(sale, line, **{"our_id": "", "reference": "", **given})


# --- one pair: (what differs of ours, what differs of theirs) -> verdict, suggested entry ---------

FULL = {"status": "returned", "credited_micros": PRICE}
HALF = {"status": "returned", "credited_micros": PRICE // 2}
PAIRS: list[tuple[dict[str, Any], dict[str, Any], str, str, int]] = [
    ({}, {}, "agreed", "none", 0),
    ({}, {"status": None}, "agreed", "none", 0),
    ({}, {"amount_micros": None}, "agreed", "none", 0),
    ({}, {"currency": ""}, "agreed", "none", 0),
    ({}, {"amount_micros": PRICE - 1}, "other_price", "credit", 1),
    ({}, {"amount_micros": PRICE + 7}, "other_price", "charge", 7),
    ({}, {"amount_micros": 0}, "other_price", "credit", PRICE),
    ({}, {"currency": "EUR"}, "other_price", "ask", 0),
    ({}, {"status": "returned"}, "other_status", "return", PRICE),
    ({}, {"status": "rejected"}, "other_status", "return", PRICE),
    ({}, {"amount_micros": -PRICE, "status": None}, "other_status", "return", PRICE),
    (FULL, {}, "other_status", "tell", PRICE),
    (FULL, {"status": "returned"}, "agreed", "none", 0),
    (FULL, {"status": "returned", "amount_micros": 0}, "agreed", "none", 0),
    (FULL, {"status": "returned", "amount_micros": None}, "agreed", "none", 0),
    (HALF, {"status": "returned", "amount_micros": -PRICE // 2}, "agreed", "none", 0),
    (HALF, {"amount_micros": PRICE // 2}, "agreed", "none", 0),
    (HALF, {}, "other_status", "tell", PRICE // 2),
    ({"status": "rejected"}, {"status": "rejected"}, "agreed", "none", 0),
    ({"status": "rejected"}, {}, "other_status", "book", PRICE),
    ({"status": "in_doubt"}, {}, "other_status", "resolve", PRICE),
    ({"status": "in_doubt"}, {"status": "rejected"}, "other_status", "resolve", PRICE),
]


@pytest.mark.parametrize(("ours", "theirs", "verdict", "entry", "amount"), PAIRS)
@pytest.mark.parametrize("by", [told, by_person])
def test_a_pair_is_judged(
    ours: dict[str, Any], theirs: dict[str, Any], verdict: str, entry: str, amount: int, by: Any
) -> None:
    sale = our(**ours)
    (one,) = found([sale], [by(our(), **theirs)])
    assert (one.verdict, one.suggested.kind, one.suggested.amount_micros) == (
        verdict,
        entry,
        amount,
    )
    assert not one.ambiguous
    assert one.evidence


# --- what matches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "key"),
    [
        ({"reference": "", "persons": ()}, "id"),
        ({"our_id": "lead-000001", "reference": "", "persons": ()}, "id"),
        ({"our_id": "", "persons": ()}, "reference"),
        ({"our_id": "", "reference": ""}, "person"),
        ({"our_id": "", "reference": "", "persons": (("email", b"e1"),)}, "person"),
    ],
)
def test_the_surest_thing_a_line_names_matches_it(left: dict[str, Any], key: str) -> None:
    (one,) = found([our()], [told(our(), **left)])
    assert (one.verdict, one.matched_by) == ("agreed", key)


@pytest.mark.parametrize(
    ("days", "verdicts"), [(1, ["agreed"]), (-1, ["agreed"]), (2, ["only_ours", "only_theirs"])]
)
def test_a_person_matches_within_the_days_tolerated(days: int, verdicts: list[str]) -> None:
    line = by_person(our(), on=date(2026, 3, 10) + timedelta(days=days))
    assert [one.verdict for one in found([our()], [line])] == verdicts


def test_their_day_is_a_day_of_their_zone() -> None:
    late = our(sold_at=datetime(2026, 3, 11, 2, tzinfo=UTC))  # still the tenth in New York
    exact = replace(TERMS, tolerance_days=0)
    (one,) = found([late], [by_person(late, on=date(2026, 3, 10))], exact)
    assert (one.verdict, one.our_day) == ("agreed", date(2026, 3, 10))
    utc = replace(exact, zone=UTC)
    assert len(found([late], [by_person(late, on=date(2026, 3, 10))], utc)) == 2


def test_an_id_wins_over_a_reference_and_that_over_a_person() -> None:
    named, guessed = our(1), our(2, persons=our(1).persons)
    lines = [by_person(guessed, 2), told(named, 3)]
    one, two = sorted(found([guessed, named], lines), key=lambda finding: finding.lines)
    assert (one.attempt_id, one.matched_by) == (guessed.attempt_id, "person")
    assert (two.attempt_id, two.matched_by) == (named.attempt_id, "id")


def test_what_may_be_either_of_two_is_paired_by_the_nearest_day_and_flagged() -> None:
    early = our(1)
    late = our(2, persons=early.persons, sold_at=NOON + timedelta(days=1))
    pairs = found([late, early], [by_person(early, 2), by_person(late, 3)])
    assert {one.lines: one.attempt_id for one in pairs} == {
        (2,): early.attempt_id,
        (3,): late.attempt_id,
    }
    assert all(one.ambiguous and one.verdict == "agreed" for one in pairs)


def test_an_id_whose_phone_is_anothers_is_flagged() -> None:
    (one,) = found([our()], [told(our(), persons=(("phone", b"other"), ("email", b"e1")))])
    assert one.ambiguous
    assert "the phone is another" in one.evidence


def test_a_sale_and_its_credit_are_one() -> None:
    back = told(our(), 9, amount_micros=-PRICE, status=None, on=date(2026, 3, 20))
    (one,) = found([our(**FULL)], [told(our(), 2), back])
    assert (one.verdict, one.lines, one.theirs_micros) == ("agreed", (2, 9), 0)


@pytest.mark.parametrize("twin", [told, lambda sale, line: told(sale, line, our_id=sale.lead_id)])
def test_a_line_that_stands_twice_is_struck(twin: Any) -> None:
    first, second = found([our()], [told(our(), 2), twin(our(), 5)])
    assert (first.verdict, first.lines) == ("agreed", (2,))
    assert (second.verdict, second.lines, second.suggested.kind) == ("only_theirs", (5,), "strike")
    assert second.evidence == ("line 2 is the same sale already",)


def test_what_they_refused_they_need_not_list() -> None:
    assert found([our(status="rejected")], []) == []


def test_what_belongs_to_another_period_is_counted_apart() -> None:
    march = replace(TERMS, first=date(2026, 3, 1), last=date(2026, 3, 31))
    april = our(1, sold_at=datetime(2026, 4, 1, 16, tzinfo=UTC))
    lines = [
        told(april, 2, on=date(2026, 3, 31)),
        told(our(2), 3, on=date(2026, 5, 1)),
        told(our(3), 4, on=date(2026, 4, 1), our_id=""),
    ]
    matching = Matching(lines, march)
    assert [*matching.passed([april]), *matching.rest()] == []
    assert matching.outside == 3


# --- among thousands ------------------------------------------------------------------------------

Seeded = dict[str, set[str | int]]


def market(count: int, chance: random.Random) -> list[OurLine]:
    """Sales of two months, some returned, in three currencies; one consumer in twenty twice, a
    week apart."""
    sales, once = [], list[OurLine]()
    for number in range(count):
        price = chance.randrange(1, 60_000_000)
        returned = chance.random() < 0.12
        sale = our(
            number,
            sold_at=NOON + timedelta(minutes=chance.randrange(60 * 24 * 60)),
            price_micros=price,
            credited_micros=chance.randint(1, price) if returned else 0,
            status="returned" if returned else "sold",
            currency=chance.choice(["USD", "EUR", "CAD"]),
        )
        if once and chance.random() < 0.05:
            again = once.pop(chance.randrange(len(once)))
            later = again.sold_at + timedelta(days=7)
            sale = replace(sale, persons=again.persons, sold_at=later)
        else:
            once.append(sale)
        sales.append(sale)
    return sales


def file_of(sale: OurLine, line: int, keys: random.Random) -> list[TheirLine]:
    """How an agreeing partner tells a sale, by whatever key it keeps."""
    kept = keys.choice(
        [{}, {"our_id": ""}, {"our_id": "", "reference": ""}, {"our_id": sale.lead_id}]
    )
    first = told(sale, line, **kept)
    if sale.status == "sold":
        return [first]
    return [first, replace(first, line=line + 1, amount_micros=-sale.credited_micros)]


def doctored(
    sales: list[OurLine], wrong: int, chance: random.Random
) -> tuple[list[OurLine], list[TheirLine], Seeded]:
    """Both sides, with so many differences, and which they are: ours by id, theirs by line."""
    seeded: Seeded = {v: set() for v in ("only_ours", "only_theirs", "other_price", "other_status")}
    ours, theirs = list(sales), list[TheirLine]()
    for place, sale in enumerate(sales):
        lines = file_of(sale, 10 * place + 2, chance)
        kind = chance.choice(list(seeded)) if place % (len(sales) // wrong) == 0 else None
        match kind:
            case "only_ours":
                lines = []
                seeded[kind].add(sale.attempt_id)
            case "only_theirs":
                stray = our(10**6 + place, reference="nobody's", sold_at=sale.sold_at)
                lines.append(told(stray, 10 * place + 5, our_id="", reference=""))
                seeded[kind].add(10 * place + 5)
            case "other_price":
                lines[0] = replace(lines[0], amount_micros=sale.price_micros + 1)
                seeded[kind].add(sale.attempt_id)
            case "other_status":
                status = "sold" if sale.status == "returned" else "returned"
                lines = [replace(lines[0], status=status)]
                seeded[kind].add(sale.attempt_id)
            case _:
                pass
        theirs += lines
    chance.shuffle(theirs)
    chance.shuffle(ours)
    return ours, theirs, seeded


def named(findings: Sequence[Finding], seeded: Seeded) -> Seeded:
    return {
        verdict: {
            one.lines[0] if verdict == "only_theirs" else one.attempt_id
            for one in findings
            if one.verdict == verdict
        }
        for verdict in seeded
    }


def test_two_hundred_seeded_differences_among_thousands_are_found_and_nothing_else(
    seed: int,
) -> None:
    chance = random.Random(seed)
    ours, theirs, seeded = doctored(market(4_000, chance), 200, chance)
    findings, totals = findings_of(ours, theirs, TERMS)
    assert named(findings, seeded) == seeded, f"seed {seed}"
    assert sum(map(len, seeded.values())) == 200
    adds_up(ours, findings, totals)


@given(st.integers(0, 2**32), st.integers(20, 60), st.integers(1, 20))
def test_seeded_differences_are_found_whatever_the_order(
    number: int, count: int, wrong: int
) -> None:
    chance = random.Random(number)
    ours, theirs, seeded = doctored(market(count, chance), min(wrong, count), chance)
    findings, totals = findings_of(ours, theirs, TERMS)
    assert named(findings, seeded) == seeded
    adds_up(ours, findings, totals)
    again, same = findings_of(ours[::-1], theirs, TERMS)
    assert same == totals
    assert sorted(again, key=repr) == sorted(findings, key=repr)


def adds_up(ours: Sequence[OurLine], findings: list[Finding], totals: tuple[Total, ...]) -> None:
    """Every sale stands in one finding, every line in one, and the totals are their sums."""
    attempts = [one.attempt_id for one in findings if one.attempt_id]
    assert len(attempts) == len(set(attempts)) == len(ours)
    lines = [line for one in findings for line in one.lines]
    assert len(lines) == len(set(lines))
    for currency in ("USD", "EUR", "CAD"):
        mine = [total for total in totals if total.currency == currency]
        owed = sum(sale.owed_micros for sale in ours if sale.currency == currency)
        assert sum(total.ours_micros for total in mine) == owed
        told = sum(one.theirs_micros for one in findings if one.their_currency == currency)
        assert sum(total.theirs_micros for total in mine) == told
    assert sum(total.lines for total in totals) == len(lines)
    assert sum(total.findings for total in totals) == len(findings)


def test_a_missed_difference_is_caught(seed: int) -> None:
    """The property above is not empty: one more difference than was seeded breaks it."""
    chance = random.Random(seed)
    ours, theirs, seeded = doctored(market(100, chance), 10, chance)
    theirs.append(told(our(10**7), 1, our_id="", reference="", persons=(("phone", b"new"),)))
    assert named(findings_of(ours, theirs, TERMS)[0], seeded) != seeded
