"""The chain of custody: what is appended verifies, and no byte of it can be changed unnoticed."""

import hashlib
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from exchange.core.custody import (
    Chain,
    NotCanonical,
    Opened,
    canonical,
    commitment,
    stored_row,
    verify,
)
from exchange.core.reasons import Delivery
from exchange.core.records import CustodyRow

AT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
LEAD = "0195b2c4-6f00-7000-8000-000000000001"
SALT = bytes(range(32))

texts = st.text(st.characters(max_codepoint=127)) | st.text(st.characters(codec="utf-8")).map(
    lambda text: unicodedata.normalize("NFC", text)
)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts
bodies = st.dictionaries(
    texts,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def chain_of(*bodies: dict[str, Any]) -> Chain:
    chain = Chain.begin(LEAD)
    for number, body in enumerate(bodies):
        chain = chain.append(f"kind{number}", AT + timedelta(seconds=number), body)
    return chain


def slowly_broken(rows: list[CustodyRow], head: str) -> bool:
    """The verifier's plain twin: each event is built again from its row by the reference JSON."""
    prev = "0" * 64
    for seq, row in enumerate(rows, start=1):
        data = bytes.fromhex(row.bytes[2:])
        event = {
            "v": "ex/v1",
            "lead_id": rows[0].lead_id,
            "seq": seq,
            "kind": row.kind,
            "at": row.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "body": orjson.loads(data)["body"],
            "prev": prev,
        }
        if rfc8785.dumps(event) != data or row.prev != "\\x" + prev or row.seq != seq:
            return True
        prev = hashlib.sha256(data).hexdigest()
        if row.hash != "\\x" + prev or row.lead_id != rows[0].lead_id:
            return True
    return prev != head


@given(st.lists(bodies, max_size=4))
def test_what_is_appended_verifies(bodies: list[dict[str, Any]]) -> None:
    chain = chain_of(*bodies)
    assert chain.seq == len(bodies)
    assert verify(chain.rows, head=(chain.seq, chain.head)) is None
    assert not slowly_broken(list(chain.rows), chain.head)


@given(st.lists(bodies, min_size=1, max_size=3), st.data())
def test_any_one_changed_byte_is_refused(bodies: list[dict[str, Any]], data: Any) -> None:
    chain = chain_of(*bodies)
    rows = list(chain.rows)
    at = data.draw(st.integers(0, len(rows) - 1), label="row")
    name = data.draw(st.sampled_from([field.name for field in fields(CustodyRow)]), label="column")
    rows[at] = changed(rows[at], name, data)
    assert verify(rows, head=(chain.seq, chain.head)) is not None


def changed(row: CustodyRow, name: str, data: Any) -> CustodyRow:
    value = getattr(row, name)
    if isinstance(value, int):
        return replace(row, **{name: value + data.draw(st.sampled_from([-1, 1]))})
    if isinstance(value, datetime):
        return replace(row, **{name: value + timedelta(microseconds=1)})
    place = data.draw(st.integers(0, len(value) - 1), label="place")
    byte = data.draw(st.characters(codec="ascii").filter(lambda one: one != value[place]))
    return replace(row, **{name: value[:place] + byte + value[place + 1 :]})


def test_events_left_out_turned_round_or_of_another_lead_are_refused() -> None:
    chain = chain_of({"n": 1}, {"n": 2}, {"n": 3})
    one, two, three = chain.rows
    foreign = Chain.begin(LEAD.replace("1", "2")).append("kind0", AT, {"n": 1}).rows[0]
    head = (chain.seq, chain.head)
    for rows in ((one, three), (two, one, three), (two, three), (one, one), (foreign, two, three)):
        assert verify(rows) is not None
    assert verify((one, two)) is None
    for cut in ((one, two), ()):
        broken = verify(cut, head=head)
        assert broken is not None
        assert "end" in broken.why


def test_an_event_rebuilt_with_a_fitting_hash_is_refused_by_what_follows() -> None:
    chain = chain_of({"price": 1}, {"n": 2})
    forged = Chain.begin(LEAD).append("kind0", AT, {"price": 2}).rows[0]
    broken = verify((forged, chain.rows[1]))
    assert broken is not None
    assert broken.seq == 2


def test_json_that_says_the_same_in_other_bytes_is_refused() -> None:
    row = chain_of({"n": 1}).rows[0]
    data = orjson.dumps(orjson.loads(bytes.fromhex(row.bytes[2:])), option=orjson.OPT_INDENT_2)
    rewritten = replace(
        row, bytes="\\x" + data.hex(), hash="\\x" + hashlib.sha256(data).hexdigest()
    )
    broken = verify((rewritten,))
    assert broken is not None
    assert "canonical" in broken.why


def test_a_chain_taken_up_again_goes_on_where_it_was() -> None:
    whole = chain_of({"n": 1}, {"n": 2})
    first = chain_of({"n": 1})
    taken_up = Chain(lead_id=LEAD, seq=first.seq, head=first.head)
    assert taken_up.append("kind1", AT + timedelta(seconds=1), {"n": 2}).rows == whole.rows[1:]


def test_a_row_from_the_database_is_the_row_that_was_written() -> None:
    row = chain_of({"n": 1}).rows[0]
    stored = {
        "lead_id": row.lead_id, "seq": 1, "kind": row.kind, "at": row.at,
        **{name: bytes.fromhex(getattr(row, name)[2:]) for name in ("bytes", "prev", "hash")},
    }  # fmt: skip
    assert stored_row(stored) == row


# --- canonical bytes ------------------------------------------------------------------------------


@given(bodies)
def test_the_fast_bytes_are_those_of_the_reference(body: dict[str, Any]) -> None:
    assert canonical(body) == rfc8785.dumps(body)


def test_the_published_order_of_keys_is_kept() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]  # RFC 8785, 3.2.3
    keys = [key for key in keys if unicodedata.is_normalized("NFC", key)]
    found = list(orjson.loads(canonical(dict.fromkeys(keys, 0))))
    assert found == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600"]


@pytest.mark.parametrize(
    "value",
    [1.5, 2**53, -(2**53), float("nan"), "e\u0301", b"x", {1: 2}, {"e\u0301": 1}, "\ud800",
     {"\ud800": 1}, {"\u00e9": "\ud800"}, {"\u00e9": 1, "x": 1.5}, AT, {1, 2}, Delivery.ACCEPTED],
)  # fmt: skip
def test_what_has_no_one_form_is_refused_without_being_shown(value: Any) -> None:
    with pytest.raises(NotCanonical) as refused:
        canonical({"secret": value})
    assert repr(value) not in str(refused.value)


def test_a_partners_odd_text_never_keeps_an_event_from_being_written() -> None:
    chain = Chain.begin(LEAD).append("accepted", AT, {"buyer_ref": "Cafe\u0301", "x": ("\u212b",)})
    assert verify(chain.rows) is None
    assert b"Caf\xc3\xa9" in bytes.fromhex(chain.rows[0].bytes[2:])


# --- commitments ----------------------------------------------------------------------------------


def test_a_commitment_opens_with_its_salt_and_value_and_with_nothing_else() -> None:
    body = {"commitments": {"phone": commitment(SALT, "phone", "+15550100")}}
    rows = Chain.begin(LEAD).append("received", AT, body).rows
    assert verify(rows, {"phone": Opened(salt=SALT, value="+15550100")}) is None
    for wrong in (
        {"phone": Opened(salt=SALT, value="+15550101")},
        {"phone": Opened(salt=bytes(32), value="+15550100")},
        {"email": Opened(salt=SALT, value="+15550100")},
    ):
        assert verify(rows, wrong) is not None
    assert "5550100" not in repr(Opened(salt=SALT, value="+15550100"))


@given(texts | st.integers(0, 9) | st.booleans(), texts, st.binary(min_size=32, max_size=32))
def test_commitments_differ_by_salt_field_and_value(value: Any, field: str, salt: bytes) -> None:
    found = commitment(salt, field, value)
    assert found != commitment(salt, field + "x", value)
    assert found != commitment(salt, field, f"{value}x")
    assert found != commitment(bytes(one ^ 1 for one in salt), field, value)


def test_a_short_salt_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        commitment(b"short", "phone", "1")
