"""Terms of payout: every price divides into payout and fee as agreed, and the parts add up."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.auction import rank
from exchange.core.book import book_of
from exchange.core.guarantees import guarantee_transfers
from exchange.core.ledger import HOUSE, balances
from exchange.core.market import doc_of_json
from exchange.core.model import Bid, Payout, Tier
from exchange.core.payouts import guaranteed_micros, least_price, parted, payout_of, words
from exchange.core.terms import Margin, PayoutTerms, SellerTerms, SourceTerms
from tests.core.test_auction import PING, bid, contract

FIXED = Payout(fixed_micros=12_000_000)
AT_A_LOSS = Payout(fixed_micros=12_000_000, loss_micros=3_000_000, guaranteed=True)
some_terms = st.builds(
    Payout,
    percent_millionths=st.integers(0, 1_000_000),
    fee_fixed_micros=st.integers(0, 3_000_000),
) | st.integers(1, 20_000_000).flatmap(
    lambda fixed: st.builds(Payout, fixed_micros=st.just(fixed), loss_micros=st.integers(0, fixed))
)


@given(st.integers(0, 40_000_000), some_terms)
def test_payout_and_fee_add_up_to_the_price_under_all_terms(price: int, terms: Payout) -> None:
    parts = parted(price, terms)
    if parts is None:
        assert terms.fixed_micros is not None
        assert price < terms.fixed_micros - terms.loss_micros or price == 0
        return
    payout, fee = parts
    assert payout + fee == price
    assert payout >= 0
    assert fee >= -terms.loss_micros


@given(st.integers(0, 20_000_000), some_terms)
def test_the_least_price_is_the_first_that_the_terms_allow(floor: int, terms: Payout) -> None:
    price = least_price(floor, terms)
    if price is None:
        assert all((parted(most, terms) or (-1, 0))[0] < floor for most in (1, 10**9))
        return
    assert (parted(price, terms) or (-1, 0))[0] >= floor
    before = parted(price - 1, terms) if price else None
    assert before is None or before[0] < floor


@pytest.mark.parametrize(
    ("terms", "price", "parts"),
    [
        (FIXED, 15_000_000, (12_000_000, 3_000_000)),
        (FIXED, 12_000_000, (12_000_000, 0)),
        (FIXED, 11_999_999, None),
        (AT_A_LOSS, 11_000_000, (12_000_000, -1_000_000)),
        (AT_A_LOSS, 9_000_000, (12_000_000, -3_000_000)),
        (AT_A_LOSS, 8_999_999, None),
    ],
)
def test_a_fixed_payout_is_paid_whatever_the_price_down_to_the_loss_allowed(
    terms: Payout, price: int, parts: tuple[int, int] | None
) -> None:
    assert parted(price, terms) == parts


def test_fixed_payouts_rank_by_price_and_a_bid_below_them_is_below_floor() -> None:
    bids = [bid(contract(n), price * 1_000_000) for n, price in enumerate((13, 11, 15, 9), 1)]
    ranking = rank(PING, bids, terms=FIXED, floor_micros=0, kept=10)
    assert [one.contract_id for one in ranking.candidates] == [3, 1]
    assert {one.payout_micros for one in ranking.candidates} == {12_000_000}
    assert ranking.below_floor == (2, 4)
    at_a_loss = rank(PING, bids, terms=AT_A_LOSS, floor_micros=0, kept=10)
    assert [one.fee_micros for one in at_a_loss.candidates] == [
        3_000_000, 1_000_000, -1_000_000, -3_000_000,
    ]  # fmt: skip
    above = rank(PING, bids, terms=FIXED, floor_micros=12_000_001, kept=10)
    assert above.candidates == ()


def test_equal_prices_at_a_fixed_payout_fall_to_the_lower_priority_number() -> None:
    bids: list[tuple[object, Bid]] = [
        bid(contract(1), 13_000_000), bid(contract(2, priority=1), 13_000_000)
    ]  # fmt: skip
    ranking = rank(PING, bids, terms=FIXED, floor_micros=0, kept=10)  # type: ignore[arg-type]
    assert [one.contract_id for one in ranking.candidates] == [2, 1]


def test_what_a_source_does_not_say_is_its_sellers() -> None:
    seller = SellerTerms(margin=Margin(percent=Decimal(15)), payout=PayoutTerms(fixed="9.00"))
    assert payout_of(seller, SourceTerms()) == payout_of(seller)
    plain = payout_of(seller, SourceTerms(payout=PayoutTerms()))
    assert (plain.fixed_micros, plain.percent_millionths) == (None, 150_000)
    own = payout_of(seller, SourceTerms(margin=Margin(percent=Decimal(5)), payout=PayoutTerms()))
    assert own.percent_millionths == 50_000


def test_a_book_knows_the_terms_of_every_source() -> None:
    sources = {"web": {}, "tv": {"payout": {"fixed": "4.00"}}}
    seller = {"margin": {"percent": 20}, "sources": sources}
    book = book_of(doc_of_json({"sellers": {"bright": seller}}))
    ids = {key: source.id for (_, key), source in book.sources.items()}
    assert book.parties.payout(2, ids["web"]).percent_millionths == 200_000
    assert book.parties.payout(2, ids["tv"]).fixed_micros == 4_000_000
    assert book.parties.payout(99, 99) == Payout()


@pytest.mark.parametrize(
    ("terms", "test", "owed"),
    [(AT_A_LOSS, False, 12_000_000), (AT_A_LOSS, True, 0), (FIXED, False, 0), (Payout(), False, 0)],
)
def test_only_a_guarantee_pays_for_an_unsold_lead_and_never_for_a_test(
    terms: Payout, test: bool, owed: int
) -> None:
    assert guaranteed_micros(terms, test=test) == owed
    from datetime import UTC, datetime

    rows = guarantee_transfers(
        lead_id=PING, seller_id=7, amount_micros=owed, currency="USD", at=datetime.now(UTC)
    )
    expected = {(HOUSE, "margin", "USD"): owed, (7, "payable", "USD"): -owed} if owed else {}
    assert balances(rows) == expected
    assert balances([*rows, *rows]) == expected


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (Payout(percent_millionths=152_500), "price less 15.25 %"),
        (Payout(fee_fixed_micros=500_000), "price less 0 % and 0.50"),
        (FIXED, "12.00 for each sold lead"),
        (
            AT_A_LOSS,
            "12.00 for each sold lead, at a loss of up to 3.00, and for each accepted lead that "
            "nobody buys",
        ),
        (
            Payout(
                percent_millionths=200_000,
                net_of_returns=True,
                tiers=(Tier(percent_millionths=150_000, leads=1_000),),
            ),
            "price less 20 %, net of all returns; of the month's sales 15 % from 1,000 leads on",
        ),
        (
            Payout(tiers=(Tier(percent_millionths=0, money_micros=5_000_000_000),)),
            "price less 0 %; of the month's sales 0 % from 5000.00 in prices on",
        ),
    ],
)
def test_terms_are_said_in_words(terms: Payout, said: str) -> None:
    assert words(terms) == said
