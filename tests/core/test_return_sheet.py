"""A buyer's sheet of returns: columns and reasons found by their words, lines matched with a sale
or flagged, never guessed."""

from datetime import UTC, date, datetime
from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from exchange.core.partner_sheet import layout_of, words_of
from exchange.core.reasons import ReturnReason
from exchange.core.return_matching import Found, Matched, Posted, Terms, claim_key, matched
from exchange.core.return_sheet import FLAGS, WORDS, Flag, ReturnLine, ReturnReader
from exchange.core.return_words import _SAID, PHRASES, reason_of
from exchange.core.returns import ReturnClaim
from exchange.core.sheet_words import (
    BadWord,
    SheetWord,
    column_word,
    days_word,
    learnt_of,
    news,
    reason_word,
)

ID = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001"
HEADER = ("Lead ID", "Our Ref", "Phone", "Sold date", "Return Reason", "Call log")
TERMS = Terms(zone=ZoneInfo("America/Chicago"), tolerance_days=1)


def hashed(kind: str, plain: str) -> tuple[bytes, ...]:
    return (f"{kind} {plain}".encode(),)


def read(*cells: Any, header: tuple[str, ...] = HEADER, **given: Any) -> ReturnLine:
    named: Any = {"reference": "Our Ref"} if "Our Ref" in header else {}
    terms = {"hashed": hashed, "zone": TERMS.zone, "day_order": None, "learnt": {}} | given
    return ReturnReader(layout_of(header, named, WORDS), **terms).line(2, cells)


# --- reasons --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Disconnected", ReturnReason.DISCONNECTED),
        ("  WRONG  number. ", ReturnReason.WRONG_PERSON),
        ("dup", ReturnReason.DUPLICATE),
        ("already a client", ReturnReason.EXISTING_CUSTOMER),
        ("Not Interested", ReturnReason.NO_CONTACT),
        ("didn't fill out form", ReturnReason.NEVER_REQUESTED),
        ("invalid_phone", ReturnReason.INVALID_PHONE),
        ("bad number", None),  # invalid, disconnected, or somebody else's
        ("spoke to wife, call back", None),
        ("", None),
    ],
)
def test_a_phrase_of_the_trade_is_its_reason_and_nothing_else_is_guessed(
    said: str, reason: ReturnReason | None
) -> None:
    assert reason_of(said, {}) is reason


def test_every_reason_is_known_by_its_name_and_no_phrase_means_two() -> None:
    assert all(PHRASES[words_of(reason.label)] is reason for reason in ReturnReason)
    phrases = list(chain(*(map(words_of, said.split(";")) for said in _SAID.values())))
    assert len(set(phrases)) == len(phrases)


def test_what_was_learnt_of_a_buyer_comes_first() -> None:
    learnt = {"bad number": ReturnReason.INVALID_PHONE, "dup": ReturnReason.EXISTING_CUSTOMER}
    assert reason_of("Bad number!", learnt) is ReturnReason.INVALID_PHONE
    assert reason_of("DUP", learnt) is ReturnReason.EXISTING_CUSTOMER


# --- what is learnt -------------------------------------------------------------------------------


def test_a_newer_word_corrects_an_older_one() -> None:
    said = (
        "reason=Disposition", "reason=Outcome", "phone=Outcome", "reason=Why not",
    )  # fmt: skip
    learnt = learnt_of([*map(column_word, said), reason_word("bad no.=fraud"), days_word("mdy")])
    assert learnt.columns == {"phone": "Outcome", "reason": "Why not"}
    assert (learnt.reasons, learnt.day_order) == ({"bad no": ReturnReason.FRAUD}, "mdy")


def test_what_is_known_already_is_no_news_but_what_was_corrected_is() -> None:
    one, other = column_word("reason=Why"), column_word("phone=Why")
    assert news([one, one], [one]) == ()
    assert news([one], [one, other]) == (one,)


def test_a_word_that_no_longer_means_anything_is_left_out() -> None:
    old = [
        SheetWord(kind="column", said="x", meaning="colour"),
        SheetWord(kind="reason", said="x", meaning="ugly"),
        SheetWord(kind="days", said="", meaning="ydm"),
    ]
    assert learnt_of(old) == learnt_of([])


@pytest.mark.parametrize(
    ("learn", "text"),
    [
        (column_word, "colour=Hue"),
        (column_word, "reason"),
        (column_word, "reason=!"),
        (column_word, "phone=+13105550123"),
        (reason_word, "bad number=ugly"),
        (reason_word, "invalid_phone"),
        (reason_word, "Bob at 310-555-0123 says no=no_contact"),
        (reason_word, "x" * 81 + "=fraud"),
        (days_word, "ydm"),
    ],
)
def test_what_cannot_be_learnt_is_told(learn: Any, text: str) -> None:
    with pytest.raises(BadWord) as bad:
        learn(text)
    assert "555" not in str(bad.value)


# --- lines ----------------------------------------------------------------------------------------


def test_a_row_is_read_whole() -> None:
    assert read(ID.upper(), "r-1", "(310) 555-0123", "2026-03-31", "dead number", "CL-1") == (
        ReturnLine(
            line=2,
            our_id=ID,
            reference="r-1",
            persons=(("phone", b"phone +13105550123"),),
            on=date(2026, 3, 31),
            has_day=True,
            reason=ReturnReason.DISCONNECTED,
            evidence={"call_log": "CL-1"},
        )
    )


@pytest.mark.parametrize(
    ("cells", "flag"),
    [
        ((ID, "", "", "", "", ""), Flag.NO_REASON),
        ((ID, "", "", "", "just because", ""), Flag.UNKNOWN_REASON),
        ((ID, "", "", "", "dup", "called 310-555-0123"), Flag.BAD_EVIDENCE),
        (("", "", "12", "", "dup", ""), Flag.NAMES_NOTHING),
        (("no id of ours", "r-1", "", "", "dup", ""), None),
        ((ID,), Flag.NO_REASON),
    ],
)
def test_a_row_that_needs_a_person_says_why(cells: tuple[str, ...], flag: Flag | None) -> None:
    line = read(*cells)
    assert line.flag is flag
    assert "555" not in str(line.evidence)


def test_every_flag_has_a_sentence() -> None:
    assert FLAGS.keys() == set(Flag)


# --- matching -------------------------------------------------------------------------------------

PERSON, OTHER = ("phone", b"one"), ("phone", b"two")
SALE = Posted(
    attempt_id="a1", lead_id="l1", contract_id=1, seller="s", state="sold",
    posted_at=datetime(2026, 4, 1, 3, tzinfo=UTC),  # still March 31 in Chicago
    persons=(PERSON, ("email", b"mail")),
)  # fmt: skip
AGAIN = replace(SALE, attempt_id="a2", posted_at=datetime(2026, 4, 9, 20, tzinfo=UTC))
REJECTED = replace(SALE, attempt_id="a3", state="rejected")
FOUND = Found(
    by_id={ID: [REJECTED, SALE]},
    by_reference={"r-1": [SALE], "r-2": [SALE, AGAIN], "r-3": [REJECTED]},
    by_person={PERSON: [SALE, AGAIN], OTHER: [REJECTED], ("email", b"mail"): [SALE]},
)
DAY = date(2026, 3, 31)


def line(**given: Any) -> ReturnLine:
    return ReturnLine(line=2, has_day=bool(given.get("on")), **given)


@pytest.mark.parametrize(
    ("asked", "came_to"),
    [
        (line(our_id=ID), "id a1"),
        (line(our_id=ID, persons=(PERSON,), on=date(2020, 1, 1)), "id a1"),
        (line(our_id=ID, persons=(OTHER,)), Flag.CONTRADICTORY),
        (line(our_id=ID, persons=(OTHER, ("email", b"mail"))), "id a1"),  # a second number
        (line(our_id=ID, persons=(("fax", b"x"),)), "id a1"),
        (line(our_id="0199"), Flag.NO_SALE),
        (line(reference="r-1"), "reference a1"),
        (line(reference="r-1", persons=(OTHER,)), Flag.CONTRADICTORY),
        (line(reference="r-2"), Flag.SEVERAL_SALES),
        (line(reference="r-2", on=DAY), "reference a1"),
        (line(reference="r-2", persons=(PERSON,), on=date(2026, 4, 10)), "reference a2"),
        (line(reference="r-2", on=date(2020, 1, 1)), Flag.SEVERAL_SALES),
        (line(reference="r-3"), Flag.NOT_SOLD),
        (line(reference="r-9"), Flag.NO_SALE),
        (line(reference="r-9", persons=(PERSON,), on=DAY), "person a1"),
        (line(persons=(PERSON,), on=DAY), "person a1"),
        (line(persons=(PERSON,), on=date(2026, 4, 2)), Flag.NO_SALE),
        (line(persons=(PERSON,)), Flag.NO_DAY),
        (replace(line(persons=(PERSON,)), has_day=True), Flag.UNREAD_DAY),
        (line(persons=(OTHER,), on=DAY), Flag.NOT_SOLD),
    ],
)
def test_a_line_is_one_sale_or_flagged(asked: ReturnLine, came_to: Any) -> None:
    found = matched(asked, FOUND, TERMS)
    assert found == came_to if isinstance(found, Flag) else told(found) == came_to


def told(found: Matched) -> str:
    return f"{found.by} {found.sale.attempt_id}"


def test_a_line_without_a_day_is_matched_when_asked_for_and_only_to_the_one_sale() -> None:
    undated = replace(TERMS, undated=True)
    one = matched(line(persons=(("email", b"mail"),)), FOUND, undated)
    assert isinstance(one, Matched)
    assert matched(line(persons=(PERSON,)), FOUND, undated) is Flag.SEVERAL_SALES


def test_a_wider_tolerance_finds_more_and_then_does_not_choose() -> None:
    wide = replace(TERMS, tolerance_days=9)
    assert matched(line(persons=(PERSON,), on=DAY), FOUND, wide) is Flag.SEVERAL_SALES


def test_the_key_of_a_claim_is_the_same_for_the_same_claim_alone() -> None:
    claim = ReturnClaim(reason=ReturnReason.FRAUD, evidence={"call_log": "1", "document": "2"})
    turned = replace(claim, evidence={"document": "2", "call_log": "1"})
    assert claim_key("s", claim) == claim_key("s", turned)
    others = [
        claim_key("t", claim),
        claim_key("s", replace(claim, reason=ReturnReason.LANGUAGE)),
        claim_key("s", replace(claim, evidence={"call_log": "1"})),
    ]
    assert claim_key("s", claim) not in others
