"""What is looked at when a record comes in: its phone against the numbering plan, the seller's own
check of it, its consent."""

from datetime import UTC, datetime
from typing import Any

import pytest

from exchange.core.sale_checks import ConsentCheck, PhoneCheck, consent_check, phone_check
from exchange.core.terms import FieldTerms

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
TERMS = {
    "mobile": FieldTerms(type="us_phone"),
    "phone": FieldTerms(type="us_phone"),
    "phone_status": FieldTerms(type="enum", values=("connected", "disconnected", "invalid", "?")),
    "zip": FieldTerms(type="us_zip"),
}
GOOD, BAD = "+13105550123", "+12115550123"  # 211 is no area, but a service


@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({"phone": GOOD}, PhoneCheck(in_plan=True)),
        ({"phone": BAD}, PhoneCheck(in_plan=False)),
        ({"mobile": BAD}, PhoneCheck(in_plan=False)),
        ({"mobile": BAD, "phone": GOOD}, PhoneCheck(in_plan=True)),
        (
            {"phone": GOOD, "phone_status": "disconnected"},
            PhoneCheck(in_plan=True, status="disconnected"),
        ),
        ({"phone": GOOD, "phone_status": "?"}, PhoneCheck(in_plan=True)),
        ({"mobile": GOOD, "phone_status": "invalid"}, PhoneCheck(in_plan=True)),  # of another one
        ({"zip": "90210"}, None),
    ],
)
def test_a_phone_is_checked_once_and_only_its_own_status_counts(
    fields: dict[str, Any], check: PhoneCheck | None
) -> None:
    assert phone_check(fields, TERMS) == check


@pytest.mark.parametrize(
    ("captured_at", "held"),
    [
        ("2026-03-02T11:59:00Z", True),
        ("2026-03-02T06:59:00-05:00", True),
        ("2026-03-02T12:04:00Z", True),  # a clock that is ahead
        ("2026-03-02T12:06:00Z", None),  # after the record came in
        ("2026-03-02T11:59:00", None),  # of no zone
        ("yesterday", None),
        (None, None),
    ],
)
def test_a_consent_is_held_when_it_says_a_moment_before_the_record(
    captured_at: str | None, held: bool | None
) -> None:
    consent = {"kind": "tcpa"} if captured_at is None else {"captured_at": captured_at}
    assert consent_check(consent, AT, kind="tcpa").held is held


def test_a_post_without_a_consent_record_holds_none() -> None:
    assert consent_check({}, AT, kind="tcpa") == ConsentCheck(held=False)


def test_of_a_consent_nothing_is_noted_that_names_a_person() -> None:
    said = {
        "captured_at": "2026-03-02T11:00:00Z", "text_version": "v1 a@mail.example",
        "ip": "192.0.2.7", "phone": GOOD,
    }  # fmt: skip
    noted = consent_check(said, AT, kind="tcpa")
    assert noted == ConsentCheck(held=True, kind="tcpa", captured_at=said["captured_at"])
