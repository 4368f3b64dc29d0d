"""What a worker knows: cleared bits by reason, full windows by segment, the brake, and mask ids."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from exchange.core.book import Book, Rows, compile_book, edited, finished, rows_of
from exchange.core.brake import Doubts
from exchange.core.masks import slots_of
from exchange.core.model import Ping
from exchange.core.reasons import NonBid
from exchange.core.source_pauses import SourcePause, pauses_of
from exchange.core.terms import (
    BuyerTerms,
    CapTerms,
    ContractTerms,
    FieldTerms,
    MarketDoc,
    VerticalTerms,
)
from exchange.dialects import dialects
from exchange.effects.buyers import Buyers
from exchange.effects.stories import Mask
from exchange.flows.explain import gates_of
from exchange.flows.standing import FullWindow, Standing

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
MASKS_MAX = 5
BUYER = BuyerTerms(
    ping_url="https://a.example/ping", post_url="https://a.example/post", time_zone="UTC"
)


def market(*, note: str = "") -> Book:
    doc = MarketDoc(
        verticals={
            "auto": VerticalTerms(
                currency="USD",
                fields={"state": FieldTerms(type="enum", values=("CA", "NV"), ping=True)},
            ),
            "home": VerticalTerms(
                currency="USD", fields={"age": FieldTerms(type="int", ping=True)}
            ),
        },
        buyers={"acme": BUYER, "beacon": BUYER},
        contracts={
            "a": ContractTerms(
                buyer="acme", vertical="auto", caps=(CapTerms(leads=1, per="day", each="state"),)
            ),
            "b": ContractTerms(buyer="beacon", vertical="auto", hours={"mon": "13:00-14:00"}),
            "c": ContractTerms(buyer="beacon", vertical="auto", priority=7 if note else 100),
            "d": ContractTerms(buyer="beacon", vertical="home", hours={"mon": "13:00-14:00"}),
        },
    )
    return compile_book(rows_of(doc))


BOOK = market()
VERTICAL = next(one.id for one in BOOK.verticals.values() if one.key == "auto")


def test_the_factors_of_a_source_are_learned_at_once_and_the_unknown_have_the_verticals() -> None:
    world: Any = None
    standing = Standing(
        BOOK, buyers=world, dialects=dialects(), brake_count=3, brake_s=300, trial_s=30,
        worker_number=1,
    )  # fmt: skip
    assert not standing.needs_factors
    assert standing.factors(ping_of(7)).of(1) == 1_000_000  # nothing is known to be lost
    standing.learn_factors([(VERTICAL, 0, 0, 800_000), (VERTICAL, 7, 1, 500_000)])
    assert [standing.factors(ping_of(7)).of(n) for n in (1, 2)] == [500_000, 800_000]
    assert standing.factors(ping_of(8)).of(1) == 800_000
    standing.learn_factors([])
    assert standing.factors(ping_of(7)).of(1) == 1_000_000


def ping_of(source_id: int) -> Ping:
    return Ping(
        ping_id="p", seller_id=1, source_id=source_id, vertical_id=VERTICAL, fields={},
        received_at=NOW, tmax_ms=100,
    )  # fmt: skip


@pytest.fixture
async def buyers() -> AsyncIterator[Buyers]:
    made = Buyers(lab=True)
    yield made
    await made.close()


@pytest.fixture
async def standing(buyers: Buyers) -> Standing:
    made = Standing(
        BOOK,
        buyers=buyers,
        dialects=dialects(),
        brake_count=3,
        brake_s=300,
        trial_s=30,
        worker_number=5,
        masks_max=MASKS_MAX,
    )
    made.adopt(BOOK, NOW)
    return made


def ping(state: str = "CA") -> Ping:
    return Ping(
        ping_id="p",
        seller_id=1,
        source_id=1,
        vertical_id=VERTICAL,
        fields={"state": state},
        received_at=NOW,
        tmax_ms=100,
    )


def contract(key: str):
    return next(one for one in BOOK.contracts.values() if one.key == key)


def full_window(key: str) -> FullWindow:
    return FullWindow(
        contract_id=contract(key).id,
        buyer_id=contract(key).buyer_id,
        win="w",
        segment=("state", "CA"),
    )


def cleared(standing: Standing, state: str = "CA") -> dict[NonBid, list[str]]:
    """The contracts cleared for a ping, by reason."""
    index = standing.book.indexes[VERTICAL]
    return {
        reason: sorted(one.key for slot, one in enumerate(index.contracts) if mask >> slot & 1)
        for reason, mask in standing.gates(ping(state))
    }


async def test_a_contract_out_of_hours_is_a_cleared_bit_and_open_again_at_its_hour(
    standing,
) -> None:
    assert cleared(standing) == {NonBid.OUT_OF_HOURS: ["b"]}
    standing.refresh(NOW + timedelta(hours=1))
    assert cleared(standing) == {}


async def test_a_segment_that_is_full_clears_its_contract_for_that_segment_alone(standing) -> None:
    full = full_window("a")
    standing.note_full(full, NOW)
    assert cleared(standing, "CA")[NonBid.CAP_FULL] == ["a"]
    assert NonBid.CAP_FULL not in cleared(standing, "NV")
    standing.forget_full(full)
    standing.refresh(NOW)
    assert NonBid.CAP_FULL not in cleared(standing, "CA")


async def test_three_doubts_brake_a_buyer_until_a_trial_is_due_and_an_answer_reopens_it(
    standing,
) -> None:
    buyer = contract("c").buyer_id
    for _ in range(3):
        standing.note_doubt(buyer, NOW)
    assert cleared(standing)[NonBid.BUYER_BRAKED] == ["b", "c"]
    later = NOW + timedelta(seconds=30)
    standing.refresh(later)
    assert NonBid.BUYER_BRAKED not in cleared(standing), "a trial is due: it may be invited"
    assert standing.is_braked(buyer, later), "but it is still braked for posts"
    standing.note_answer(buyer, later)
    assert not standing.is_braked(buyer, later)


async def test_doubts_of_other_workers_brake_here_too(standing) -> None:
    at_ms = int(NOW.timestamp() * 1000)
    standing.learn_doubts({contract("c").buyer_id: Doubts(unknown_ms=(at_ms,) * 3)})
    standing.refresh(NOW)
    assert cleared(standing)[NonBid.BUYER_BRAKED] == ["b", "c"]


async def test_bits_get_a_new_id_only_when_they_change(standing) -> None:
    first = standing.mask_id(VERTICAL)
    standing.refresh(NOW)
    assert standing.mask_id(VERTICAL) == first
    standing.refresh(NOW + timedelta(hours=1))
    assert standing.mask_id(VERTICAL) > first
    saved = [mask.mask_id for mask in standing.masks_to_save if mask.vertical_id == VERTICAL]
    assert saved == [first, standing.mask_id(VERTICAL)]
    assert first & 1023 == 5, "the worker's number is in it"
    assert standing.mask_id(VERTICAL) < 2**53, "it stands in custody events"


async def test_a_full_window_changes_the_bits_of_its_own_vertical_alone(standing) -> None:
    home = next(one.id for one in BOOK.verticals.values() if one.key == "home")
    before = standing.mask_id(VERTICAL), standing.mask_id(home)
    standing.note_full(full_window("a"), NOW + timedelta(hours=1))
    assert standing.mask_id(VERTICAL) > before[0]
    assert standing.mask_id(home) == before[1]
    assert cleared(standing)[NonBid.CAP_FULL] == ["a"]


async def test_a_full_window_of_a_contract_that_is_gone_changes_nothing(standing) -> None:
    before = standing.mask_id(VERTICAL)
    standing.note_full(msgspec.structs.replace(full_window("a"), contract_id=999), NOW)
    assert standing.mask_id(VERTICAL) == before


async def test_a_mask_is_handed_over_once_and_before_any_ping_can_name_it(standing) -> None:
    assert standing.mask_id(VERTICAL) in {mask.mask_id for mask in standing.take_masks()}
    assert standing.take_masks() == []
    standing.note_full(full_window("a"), NOW)
    assert [mask.mask_id for mask in standing.take_masks()] == [standing.mask_id(VERTICAL)]


async def test_masks_that_cannot_be_written_are_bounded(standing) -> None:
    for hour in range(2 * MASKS_MAX):
        standing.refresh(NOW + timedelta(hours=hour % 2))
    kept = [mask.mask_id for mask in standing.masks_to_save if mask.vertical_id == VERTICAL]
    assert len(standing.masks_to_save) == MASKS_MAX
    assert kept[-1] == standing.mask_id(VERTICAL), "the newest is kept"


async def test_a_seat_is_rebuilt_only_for_a_contract_that_changed(standing) -> None:
    before = standing.seat(contract("a"))
    assert standing.seat(contract("a")) is before
    changed = market(note="c")
    standing.adopt(changed, NOW)
    moved = next(one for one in changed.contracts.values() if one.key == "c")
    assert standing.seat(moved).contract is moved


def after(*, contracts: str = "", buyers: tuple[str, ...] = ()) -> Book:
    """The market after these left it."""
    gone = [one for one in BOOK.contracts.values() if one.key in contracts]
    left = [one for one in BOOK.buyers.values() if one.key in buyers]
    rows = Rows(
        version=BOOK.version + 1,
        contracts=tuple(msgspec.structs.replace(one, closed=True) for one in gone),
        buyers=tuple(msgspec.structs.replace(one, closed=True) for one in left),
    )
    return finished(edited(BOOK, rows))


def reached(standing: Standing, *keys: str) -> dict[str, int]:
    """Takes the seats of these contracts; their buyers' ids by key."""
    for key in keys:
        standing.seat(contract(key))
    return {one.key: one.id for one in BOOK.buyers.values()}


async def test_a_buyer_that_left_the_market_keeps_no_seat_and_no_connection(
    standing, buyers
) -> None:
    ids = reached(standing, "a", "b")
    standing.endpoint(BOOK.buyers[ids["acme"]], "post")
    webhook = {"url": "https://s.example", "headers": {}, "in_flight_max": 1, "tls_ca": None}
    buyers.endpoint(key=f"{ids['acme']}.webhook", pool="post", **webhook)
    before = standing.seat(contract("b"))

    standing.adopt(after(contracts="a", buyers=("acme",)), NOW)

    assert set(buyers.stats()) == {f"{ids['beacon']}.ping", f"{ids['acme']}.webhook"}
    assert standing.seat(contract("b")) is before


async def test_a_contract_that_left_gives_up_its_seat_but_not_its_buyers_connection(
    standing, buyers
) -> None:
    ids = reached(standing, "b", "c")
    before = standing.seat(contract("b"))

    standing.adopt(after(contracts="b"), NOW)

    assert set(buyers.stats()) == {f"{ids['beacon']}.ping"}
    standing.adopt(BOOK, NOW)
    assert standing.seat(contract("b")) is not before


async def test_a_closed_buyer_that_was_reached_again_is_given_up_at_the_next_book(
    standing, buyers
) -> None:
    ids = reached(standing, "a")
    left = after(contracts="a", buyers=("acme",))
    standing.adopt(left, NOW)
    standing.endpoint(left.buyers[ids["acme"]], "post")
    standing.adopt(left, NOW)
    assert buyers.stats() == {}


# --- paused sources -------------------------------------------------------------------------------


def pinged(sub_id: str | None = None, source_id: int = 1) -> Ping:
    return msgspec.structs.replace(ping(), source_id=source_id, sub_id=sub_id)


def paused_book(*pauses: SourcePause) -> Book:
    return msgspec.structs.replace(BOOK, pauses=pauses_of(pauses))


@pytest.mark.parametrize(
    ("asked", "cleared_here"),
    [
        (pinged(), {"b", "c"}),
        (pinged("aff"), {"b", "c"}),
        (pinged("aff", source_id=2), {"a"}),
        (pinged("other", source_id=2), set()),
        (pinged(source_id=2), set()),
        (pinged(source_id=3), set()),
    ],
)
async def test_a_source_paused_at_a_buyer_clears_its_contracts_for_that_source_alone(
    standing, asked: Ping, cleared_here: set[str]
) -> None:
    acme, beacon = contract("a").buyer_id, contract("b").buyer_id
    standing.adopt(paused_book(SourcePause(1, None, beacon), SourcePause(2, "aff", acme)), NOW)
    index = standing.book.indexes[VERTICAL]
    masks = dict(standing.gates(asked))
    found = masks.get(NonBid.SOURCE_PAUSED_HERE, 0)
    assert {index.contracts[slot].key for slot in slots_of(found)} == cleared_here
    kept = [one for one in standing.take_masks() if one.vertical_id == VERTICAL][-1]
    mask = msgspec.convert(kept, Mask, from_attributes=True)  # as explain reads it
    again = gates_of(mask, asked, kept.book_version)
    assert again is not None
    assert dict(again) == masks


async def test_without_a_paused_source_the_bits_are_handed_over_as_they_are(standing) -> None:
    standing.adopt(paused_book(SourcePause(1, None, contract("b").buyer_id)), NOW)
    standing.adopt(BOOK, NOW)
    assert standing.gates(ping("NV")) is standing._gates[VERTICAL]
