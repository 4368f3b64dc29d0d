"""The in-doubt policy: which steps are due, what an answer proves, when to look again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.doubt import (
    NEVER_RECEIVED,
    Reading,
    finding,
    next_check_at,
    settled_by_waiting,
    steps_due,
)
from exchange.core.reasons import Delivery
from exchange.core.terms import InDoubtTerms

SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL = InDoubtTerms(policy=("inquire", "repost", "hold_as_sold", "write_off"), hold_s=600)


@pytest.mark.parametrize(
    ("age", "has_status_url", "expected"),
    [
        (timedelta(0), True, ("inquire", "repost")),
        (timedelta(0), False, ("repost",)),
        (timedelta(seconds=600), True, ("inquire", "repost", "hold_as_sold")),
        (timedelta(hours=24), True, ("inquire", "repost", "hold_as_sold", "write_off")),
    ],
)
def test_steps_become_due_in_the_order_of_the_policy(
    age: timedelta, has_status_url: bool, expected: tuple[str, ...]
) -> None:
    assert steps_due(ALL, since=SINCE, now=SINCE + age, has_status_url=has_status_url) == expected


def test_a_step_that_the_policy_does_not_name_is_never_due() -> None:
    terms = InDoubtTerms(policy=("write_off",))
    assert steps_due(terms, since=SINCE, now=SINCE, has_status_url=True) == ()


ACCEPTED = Reading(delivery=Delivery.ACCEPTED, buyer_ref="b-1")
REJECTED = Reading(delivery=Delivery.REJECTED, buyer_reason="bad_phone")
DUPLICATE = Reading(delivery=Delivery.REJECTED, buyer_reason="Duplicate")
SILENT = Reading(delivery=Delivery.UNKNOWN)
UNSENT = Reading(delivery=Delivery.NOT_SENT)
NEVER = Reading(never_seen=True)


@pytest.mark.parametrize(
    ("step", "reading", "late_by_s", "expected"),
    [
        ("inquire", ACCEPTED, 0, "sold"),
        ("inquire", REJECTED, 0, "rejected"),
        ("inquire", DUPLICATE, 0, "rejected"),
        ("inquire", SILENT, 9_999, None),
        ("inquire", UNSENT, 9_999, None),
        ("inquire", NEVER, 29, None),
        ("inquire", NEVER, 30, "rejected"),
        ("repost", ACCEPTED, 0, "sold"),
        ("repost", REJECTED, 0, "rejected"),
        ("repost", DUPLICATE, 0, "sold"),
        ("repost", SILENT, 9_999, None),
        ("repost", UNSENT, 9_999, None),
    ],
)
def test_only_an_explicit_answer_ends_a_doubt(
    step: str, reading: Reading, late_by_s: int, expected: str | None
) -> None:
    found = finding(
        step,
        reading,
        now=SINCE + timedelta(seconds=late_by_s),
        deadline_at=SINCE,
        never_seen_after=timedelta(seconds=30),
    )
    assert (found and found.outcome) == expected
    assert found is None or found.by == {"inquire": "inquiry", "repost": "repost"}[step]


def test_never_seen_says_so_in_the_reason() -> None:
    found = finding(
        "inquire",
        NEVER,
        now=SINCE + timedelta(minutes=5),
        deadline_at=SINCE,
        never_seen_after=timedelta(seconds=30),
    )
    assert found is not None
    assert found.buyer_reason == NEVER_RECEIVED


def test_waiting_alone_settles_only_by_the_two_waits() -> None:
    assert settled_by_waiting("inquire") is None
    assert settled_by_waiting("repost") is None
    held = settled_by_waiting("hold_as_sold")
    written = settled_by_waiting("write_off")
    assert held is not None
    assert written is not None
    assert (held.outcome, held.by) == ("sold", "policy")
    assert (written.outcome, written.by) == ("written_off", "policy")


@given(age_s=st.integers(0, 400_000), every_s=st.integers(1, 600))
def test_the_next_check_lies_ahead_and_never_past_the_end_of_a_wait(
    age_s: int, every_s: int
) -> None:
    terms = InDoubtTerms(
        policy=("inquire", "hold_as_sold", "write_off"), inquire_every_s=every_s, hold_s=900
    )
    now = SINCE + timedelta(seconds=age_s)
    at = next_check_at(terms, since=SINCE, now=now)
    assert at > now
    assert at - now <= max(timedelta(seconds=every_s), timedelta(minutes=15))
    for wait in (timedelta(seconds=900), timedelta(hours=24)):
        assert not now < SINCE + wait < at
