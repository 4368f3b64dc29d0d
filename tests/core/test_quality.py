"""Small numbers prove little: rates are drawn to the vertical's, the less the more was seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.quality import (
    ACCEPT_STRENGTH,
    MILLION,
    PauseRule,
    Seen,
    factor_millionths,
    means,
    qualities,
    shrunk,
)


def seen(source: int, contract: int, accepted: int, refused: int = 0, returned: int = 0) -> Seen:
    return Seen(
        vertical_id=1,
        source_id=source,
        contract_id=contract,
        vertical="auto",
        source=f"s/{source}",
        contract=f"c{contract}",
        accepted=accepted,
        not_accepted=refused,
        returned=returned,
    )


def test_two_sales_of_which_one_came_back_are_no_rate_of_a_half() -> None:
    small, large = seen(1, 1, 2, returned=1), seen(2, 1, 998, returned=99)
    by_source = {one.source_id: one for one in qualities([small, large]) if not one.contract_id}
    assert by_source[1].return_rate == 0.5
    assert by_source[1].return_shrunk == pytest.approx((1 + 100 * 0.1) / 102)
    assert by_source[2].return_shrunk == pytest.approx(0.1, abs=0.001)


def test_a_source_with_as_many_posts_as_the_prior_weighs_stands_half_way() -> None:
    rate = shrunk(0, ACCEPT_STRENGTH, mean=0.8, strength=ACCEPT_STRENGTH)
    assert rate == pytest.approx(0.4)


COUNTS = st.integers(0, 500)
RATES = st.floats(0, 1)


@given(COUNTS, COUNTS, RATES, st.integers(1, 500))
def test_a_shrunk_rate_lies_between_its_own_and_the_mean(
    happened: int, more: int, mean: float, strength: int
) -> None:
    total = happened + more
    rate = shrunk(happened, total, mean=mean, strength=strength)
    own = happened / total if total else mean
    assert min(own, mean) - 1e-9 <= rate <= max(own, mean) + 1e-9


@given(st.integers(1, 300), RATES)
def test_the_more_was_seen_the_less_the_mean_says(happened: int, mean: float) -> None:
    few = shrunk(happened, happened * 2, mean=mean, strength=50)
    many = shrunk(happened * 10, happened * 20, mean=mean, strength=50)
    assert abs(many - 0.5) <= abs(few - 0.5) + 1e-9


def test_a_source_is_told_whole_and_at_each_contract() -> None:
    told = qualities([seen(1, 1, 8, 2), seen(1, 2, 1, 9), seen(2, 1, 10)])
    assert [(one.source_id, one.contract_id, one.posts) for one in told] == [
        (1, 0, 20), (2, 0, 10), (1, 1, 10), (1, 2, 10), (2, 1, 10),
    ]  # fmt: skip
    assert told[0].accept_rate == 9 / 20


def test_a_vertical_that_has_sold_nothing_yet_ranks_by_payout_alone() -> None:
    assert means([seen(1, 1, 0)])[1].accept == 1.0
    assert qualities([seen(1, 1, 0)])[0].factor_millionths == MILLION


@given(RATES, RATES)
def test_a_factor_leaves_something_and_never_more_than_all(accept: float, returns: float) -> None:
    assert 1 <= factor_millionths(accept, returns) <= MILLION


@pytest.mark.parametrize(
    ("accepted", "returned", "pauses"),
    [
        (200, 120, True),
        (200, 40, False),  # not over the rule
        (10, 10, False),  # too few sales
    ],
)
def test_a_source_would_be_paused_over_the_rule_with_sales_enough(
    accepted: int, returned: int, pauses: bool
) -> None:
    rows = [seen(1, 1, accepted, returned=returned), seen(2, 1, 2_000, returned=100)]
    told = {one.source_id: one for one in qualities(rows, PauseRule(over=0.25, least=20))}
    assert told[1].would_pause is pauses
    assert not told[2].would_pause
