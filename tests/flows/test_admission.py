"""Keys and rates at the door."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest

from exchange.core.messages import Refusal
from exchange.core.model import ApiKey, Seller
from exchange.core.terms import SellerTerms
from exchange.flows.admission import Admission

SECRET = "s3cret"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 0.0

    def loop_time(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)


def key(**given: Any) -> ApiKey:
    made = {
        "id": "k1",
        "role": "seller",
        "party_id": 7,
        "secret_sha256": sha256(SECRET.encode()).digest(),
    }
    return ApiKey(**(made | given))


def seller(rate_per_s: int = 10) -> Seller:
    return Seller(
        id=7,
        key="bright",
        terms=SellerTerms(rate_per_s=rate_per_s),
    )


@pytest.fixture
def clock() -> Iterator[Clock]:
    return Clock()


def admission(clock: Clock, *, keys: tuple[ApiKey, ...] = (key(),), workers: int = 1) -> Admission:
    book = SimpleNamespace(keys={one.id: one for one in keys}, sellers={7: seller()})
    standing: Any = SimpleNamespace(book=book)
    return Admission(clock=clock, standing=standing, workers=workers)  # type: ignore[arg-type]


GOOD = f"Bearer ex_live_k1_{SECRET}"


def test_a_key_in_force_opens_the_door(clock: Clock) -> None:
    assert admission(clock).caller(GOOD, "seller") == key()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Basic abc", 401),
        ("Bearer ex_live_k1", 401),
        ("Bearer ex_live_k1_wrong", 401),
        ("Bearer ex_live_other_" + SECRET, 401),
        ("Bearer ex_live_k1_" + SECRET + "x", 401),
    ],
)
def test_anything_else_is_refused_the_same_way(clock: Clock, header: str, status: int) -> None:
    refused = admission(clock).caller(header, "seller")
    assert isinstance(refused, Refusal)
    assert refused.status == status


def test_a_key_of_another_role_is_told_so(clock: Clock) -> None:
    refused = admission(clock).caller(GOOD, "operator")
    assert isinstance(refused, Refusal)
    assert refused.status == 403


def test_an_expired_key_opens_nothing(clock: Clock) -> None:
    old = key(expires_at=datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC))
    guard = admission(clock, keys=(old,))
    assert guard.caller(GOOD, "seller") == old
    clock.at = 5.0
    assert isinstance(guard.caller(GOOD, "seller"), Refusal)


def admitted_in(guard: Admission, clock: Clock, seconds: float, *, every_s: float) -> int:
    count, until = 0, clock.at + seconds
    while clock.at < until:
        count += guard.wait_s(seller()) == 0
        clock.at += every_s
    return count


@pytest.mark.parametrize("workers", [1, 2])
def test_over_time_a_worker_admits_its_share_of_the_rate_and_one_seconds_burst(
    clock: Clock, workers: int
) -> None:
    guard = admission(clock, workers=workers)
    share = 10 // workers
    admitted = admitted_in(guard, clock, 20, every_s=0.001)
    assert share * 20 <= admitted <= share * 21 + 1


def test_a_refused_call_says_how_long_to_wait_and_is_welcome_then(clock: Clock) -> None:
    guard = admission(clock)
    while not (wait_s := guard.wait_s(seller())):
        pass
    clock.at += wait_s
    assert guard.wait_s(seller()) == pytest.approx(0.0, abs=1e-9)
