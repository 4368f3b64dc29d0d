"""The book: a changed one equals one compiled anew, and shares what did not change."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from exchange.core import book as books
from exchange.core import masks
from exchange.core.book import EMPTY, Rows, book_of, compile_book, contract_of, edited, rows_of
from exchange.core.filters import invite
from exchange.core.indexing import finished
from exchange.core.model import ApiKey, Ping
from exchange.core.shards import Shards
from exchange.core.terms import ContractTerms, SourceTerms
from tests.core import markets

AT = markets.AT


def fact(book, number, terms):
    terms = markets.doc_of([terms]).contracts["c0"]
    buyer = next(each for each in book.buyers.values() if each.key == terms.buyer)
    return contract_of(number + 1, f"c{number}", terms, buyer=buyer, vertical_id=1)


@st.composite
def changes(draw):
    """A book, rows that change it, and the same market compiled at once."""
    book = book_of(draw(markets.markets))
    count = len(book.contracts)
    numbers = draw(st.lists(st.integers(0, count + 2), unique=True, max_size=6))
    rows = [fact(book, number, draw(markets.contracts())) for number in sorted(numbers)]
    rows = [replace(row, closed=draw(st.booleans()) and row.id in book.contracts) for row in rows]
    off = draw(st.none() | st.sets(st.sampled_from([("contract", 1), ("buyer", 4), ("house", 0)])))
    buyers = [draw(st.sampled_from(list(book.buyers.values())))] if draw(st.booleans()) else []
    buyers = [
        replace(each, terms=replace(each.terms, paused=draw(st.booleans()))) for each in buyers
    ]
    changed = Rows(
        version=2,
        contracts=tuple(rows),
        buyers=tuple(buyers),
        switched_off=None if off is None else frozenset(off),
    )
    contracts = {**dict(book.contracts), **{row.id: row for row in rows}}
    whole = Rows(
        version=2,
        verticals=tuple(book.verticals.values()),
        sellers=tuple(book.sellers.values()),
        sources=tuple(book.parties.sources.values()),
        buyers=tuple({**book.buyers, **{each.id: each for each in buyers}}.values()),
        contracts=tuple(contracts.values()),
        keys=(),
        switched_off=frozenset(off or ()),
    )
    return book, changed, compile_book(whole)


@pytest.mark.parametrize("edits_max", [0, 24])
@given(case=changes(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_an_edited_book_invites_as_one_compiled_anew(edits_max, case, data):
    book, changed, anew = case
    before = markets.invited(book, data) if book.contracts else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "EDITS_MAX", edits_max)
        after = finished(edited(book, changed))
    index, wanted = after.indexes[1], anew.indexes[1]
    assert index.contracts == wanted.contracts
    assert dict(index.slot_of) == dict(wanted.slot_of)
    assert index.buyer_mask == wanted.buyer_mask
    assert (index.every, index.paused, index.test_only) == (
        wanted.every,
        wanted.paused,
        wanted.test_only,
    )
    for _ in range(3):
        ping = data.draw(markets.pings(after))
        asked = {"gates": (), "at": AT, "invited_max": 3}
        assert invite(ping, index, **asked) == invite(ping, wanted, **asked)
    if before is not None:
        assert markets.again(book, before), "the old book must not change"


def test_what_did_not_change_is_shared():
    book = book_of(markets.doc_of([{"buyer": "a", "vertical": "auto"}] * 3))
    row = replace(book.contracts[2], terms=replace(book.contracts[2].terms, paused=True))
    after = finished(edited(book, Rows(version=2, contracts=(row,))))
    assert after.contracts[1] is book.contracts[1]
    assert after.indexes[1].tables == book.indexes[1].tables
    assert after.indexes[1].paused == 0b010
    assert (book.version, book.indexes[1].paused) == (1, 0)


def test_a_contract_that_cannot_be_read_is_left_out_and_named():
    book = book_of(markets.doc_of([{"buyer": "a", "vertical": "auto"}] * 2))
    bad = ContractTerms(buyer="a", vertical="auto", where={"age": {"around": 30}})
    row = contract_of(1, "c0", bad, buyer=book.buyers[4], vertical_id=1)
    after = finished(edited(book, Rows(version=2, contracts=(row,))))
    assert [each.key for each in after.indexes[1].contracts] == ["c1"]
    assert after.refused == ("c0: around is not one of min, max, not, prefix, list, regex",)
    healed = finished(edited(after, Rows(version=3, contracts=(book.contracts[1],))))
    assert (healed.refused, len(healed.indexes[1].contracts)) == ((), 2)
    assert compile_book(replace(rows_of(markets.doc_of([])), contracts=(row,))).refused


def test_new_fields_of_a_vertical_compile_its_contracts_anew():
    terms = {"buyer": "a", "vertical": "auto", "where": {"age": {"min": 30}}}
    book = book_of(markets.doc_of([terms]))
    vertical = book.verticals[1]
    fields = {name: each for name, each in vertical.terms.fields.items() if name != "age"}
    row = replace(vertical, terms=replace(vertical.terms, fields=fields))
    after = finished(edited(book, Rows(version=2, verticals=(row,))))
    assert after.indexes[1].tables == {}
    assert len(after.indexes[1].contracts) == 1
    paused = replace(vertical, terms=replace(vertical.terms, paused=True))
    after = finished(edited(book, Rows(version=2, verticals=(paused,))))
    assert after.indexes[1].paused == 1
    assert after.schemas[1] is book.schemas[1]


def test_keys_and_switches_change_without_the_rest():
    book = book_of(markets.doc_of([{"buyer": "a", "vertical": "auto"}]))
    key = ApiKey(id="k", role="seller", party_id=2, secret_sha256=b"x" * 32)
    after = finished(edited(book, Rows(version=1, keys=(key,), switched_off=frozenset())))
    assert after.keys == {"k": key}
    assert after.indexes[1].contracts is book.indexes[1].contracts


@pytest.mark.parametrize(
    ("off", "takes"),
    [((), True), ((("house", 0),), False), ((("source", 1),), False), ((("source", 2),), True)],
)
def test_a_switched_off_source_is_not_taken_from(off, takes):
    book = compile_book(replace(rows_of(markets.doc_of([])), switched_off=frozenset(off)))
    assert book.takes_from(book.sellers[2], book.sources[2, "search"]) is takes
    assert book.is_off("source", 1) is not takes


def test_closed_and_paused_sources_are_not_taken_from():
    book = book_of(markets.doc_of([]))
    seller, source = book.sellers[2], book.sources[2, "search"]
    assert not book.takes_from(seller, replace(source, terms=SourceTerms(paused=True)))
    assert not book.takes_from(replace(seller, closed=True), source)


def test_the_empty_book_has_nothing():
    assert (EMPTY.version, len(EMPTY.contracts), EMPTY.indexes) == (0, 0, {})


@given(
    st.dictionaries(st.integers(0, 5000), st.integers()),
    st.dictionaries(st.integers(0, 5000), st.integers()),
    st.sets(st.integers(0, 5000)),
)
def test_shards_are_a_mapping_that_a_change_leaves_alone(items, more, without):
    old = Shards(items.items())
    new = old.with_items(more.items(), without=without)
    assert dict(old) == items
    assert len(old) == len(items)
    wanted = {key: value for key, value in {**items, **more}.items() if key not in without}
    assert dict(new) == wanted
    assert len(new) == len(wanted)


def many(count):
    """A market large enough that everything is done in several slices."""
    return markets.doc_of(
        [
            {
                "buyer": "ab"[number % 2],
                "vertical": "auto",
                "priority": number % 7,
                "where": {
                    "zip": {"list": [f"{number % 300:03d}10"]},
                    "age": {"min": 16 + number % 40},
                    "source": {"not": ["social"]},
                },
                "hours": {"fri": "09:00-17:00"},
            }
            for number in range(count)
        ]
    )


@pytest.mark.parametrize("priority", [3, 9])
def test_a_change_of_a_large_market_is_made_in_many_short_steps(monkeypatch, priority):
    doc = many(1100)
    book = book_of(doc)
    monkeypatch.setattr(masks, "SLICE_BITS", 40_000)
    terms = replace(doc.contracts["c3"], priority=priority, where={"age": {"min": 50}})
    row = contract_of(4, "c3", terms, buyer=book.buyers[4], vertical_id=1)
    steps = edited(book, Rows(version=2, contracts=(row,), switched_off=frozenset({("buyer", 5)})))
    count = 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as end:
            after = end.value
            break
    assert count > 10
    contracts = tuple(after.contracts.values())
    anew = compile_book(
        replace(rows_of(doc), contracts=contracts, switched_off=frozenset({("buyer", 5)}))
    )
    assert len(after.indexes[1].slot_of) == 1100
    assert after.indexes[1].contracts == anew.indexes[1].contracts
    assert after.indexes[1].hours == anew.indexes[1].hours
    assert after.indexes[1].paused == anew.indexes[1].paused
    for raw in ({"zip": "00310", "age": 50}, {"zip": "01010", "age": 20}, {"age": 50}):
        fields = after.schemas[1].gate(raw, mode="strip", pseudonym=None).fields
        ping = Ping(
            ping_id="p",
            seller_id=2,
            source_id=1,
            vertical_id=1,
            fields=fields,
            received_at=AT,
            tmax_ms=1000,
        )
        asked = {"gates": (), "at": AT, "invited_max": 50}
        assert invite(ping, after.indexes[1], **asked) == invite(ping, anew.indexes[1], **asked)
