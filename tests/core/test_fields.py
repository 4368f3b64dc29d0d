"""Typed fields and the privacy gate."""

from datetime import date
from hashlib import md5, sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.fields import Gated, Schema, json_form, looks_personal
from exchange.core.terms import VerticalTerms

FIELDS = {
    "zip": {"type": "us_zip", "ping": True, "required": True},
    "age": {"type": "int", "min": 16, "max": 99, "ping": True},
    "income": {"type": "int", "ping": True},
    "owner": {"type": "bool", "ping": True},
    "credit": {"type": "enum", "values": ["good", "Poor"], "ping": True},
    "moves": {"type": "date", "ping": True},
    "npa": {"type": "prefix", "ping": True},
    "code": {"type": "code", "pattern": "[A-Z0-9-]+", "ping": True},
    "free": {"type": "code", "pattern": ".+", "ping": True},
    "note": {"type": "text", "length_max": 10},
    "name": {"type": "name", "personal": True, "required": True},
    "phone": {"type": "us_phone", "personal": True, "ping": "pseudonym"},
    "email": {"type": "email", "personal": True, "ping": "pseudonym"},
}


def schema(**fields):
    terms = {"currency": "USD", "fields": fields or FIELDS}
    return Schema(msgspec.convert(terms, VerticalTerms))


def pseudonym(kind, normalised):
    return f"<{kind}|{normalised}>"


def gate(raw, mode="strip", **fields):
    return schema(**fields).gate(raw, mode=mode, pseudonym=pseudonym)


VALUES = [
    ("zip", "90210", "90210"),
    ("zip", "90210-1234", "90210"),
    ("zip", " 90210-1234 ", "90210"),
    ("zip", 2134, "02134"),
    ("zip", "9021", None),
    ("zip", "90210-12", None),
    ("zip", "9021x", None),
    ("zip", 5.5, None),
    ("age", 34, 34),
    ("age", "34", 34),
    ("age", 15, None),
    ("age", 100, None),
    ("age", 34.0, None),
    ("age", True, None),
    ("age", "3x", None),
    ("age", "²", None),
    ("income", 3105550123, None),
    ("income", -5, -5),
    ("owner", True, True),
    ("owner", "Yes", True),
    ("owner", 0, False),
    ("owner", "perhaps", None),
    ("owner", [], None),
    ("credit", "good", "good"),
    ("credit", " poor ", "Poor"),
    ("credit", "bad", None),
    ("credit", 3, None),
    ("moves", "2026-02-03", date(2026, 2, 3)),
    ("moves", date(2026, 2, 3), date(2026, 2, 3)),
    ("moves", "2026-02-30", None),
    ("moves", "20260203", None),
    ("npa", "310555", "310555"),
    ("npa", "3105550", None),
    ("npa", "31 5", None),
    ("code", "AB-1", "AB-1"),
    ("code", "ab", None),
    ("code", "A" * 33, None),
    ("code", 7, None),
    ("note", "  hello ", "hello"),
    ("note", "far too long a note", None),
    ("note", "a\x00b", None),
    ("note", "   ", None),
    ("name", " Avery   Lee ", "Avery Lee"),
    ("phone", "(310) 555-0123", "+13105550123"),
    ("phone", "+1 310.555.0123", "+13105550123"),
    ("phone", 3105550123, "+13105550123"),
    ("phone", "310/555/0123", "+13105550123"),
    ("phone", "110-555-0123", None),
    ("phone", "+44 20 7946 0958", None),
    ("phone", "310-555-0123 ext. 5", None),
    ("phone", "no phone", None),
    ("phone", "9" * 50, None),
    ("phone", None, None),
    ("email", " Q.Reese@Mail.Example ", "q.reese@mail.example"),
    ("email", "q@mail", None),
    ("email", "a b@mail.example", None),
    ("email", 7, None),
]


@pytest.mark.parametrize(("name", "raw", "typed"), VALUES)
def test_a_value_is_typed_and_normalised_or_refused(name, raw, typed):
    fields = schema().lead({"zip": "10001", "name": "Avery", name: raw})
    if typed is not None:
        assert fields[name] == typed
        assert type(fields[name]) is type(typed)
    elif raw is None:
        assert name not in fields
    else:
        (problem,) = fields
        assert problem.field == name
        assert problem.message == f"is not a valid {FIELDS[name]['type']}"


def test_all_problems_come_together_without_a_value():
    problems = schema().lead({"zip": "secret-1", "age": "secret-2", "nmae": "secret-3"})
    assert [problem.field for problem in problems] == ["zip", "age", "nmae", "name"]
    assert "secret" not in str(problems)
    assert problems[2].hint == "did you mean name?"
    assert problems[3].message == "is required"


def test_an_unlike_name_is_told_the_known_fields():
    (problem,) = schema(zip=FIELDS["zip"]).lead({"zip": "10001", "qqqqqq": 1})
    assert problem.hint == "known fields: zip"


@pytest.mark.parametrize(
    ("zip_code", "state"),
    [("90210", "CA"), ("10001", "NY"), ("06390", "CT"), ("20001", "DC"), ("09012", None)],
)
def test_the_state_is_derived_from_the_zip(zip_code, state):
    assert gate({"zip": zip_code}).fields.get("state") == state


def test_a_vertical_with_a_state_of_its_own_derives_none():
    own = {"zip": FIELDS["zip"], "state": {"type": "enum", "values": ["XX"], "ping": True}}
    assert gate({"zip": "90210"}, **own) == Gated(fields={"zip": "90210"})
    assert schema(**own).types["state"] == "enum"


def test_a_state_is_not_pinged_when_its_zip_is_not():
    hidden = schema(home={"type": "us_zip"})
    assert "state" not in hidden.pingable
    assert hidden.lead({"home": "90210"})["state"] == "CA"


def test_a_pseudonym_takes_the_place_of_the_raw_value_at_once():
    gated = gate({"zip": "90210", "phone": "(310) 555-0123", "email": "Q@Mail.Example"})
    assert gated.fields["phone"] == "<phone|+13105550123>"
    assert gated.fields["email"] == "<email|q@mail.example>"
    assert gated.gated == ()


def test_buyers_are_shown_no_pseudonym():
    fields = gate({"zip": "90210", "phone": "3105550123"}).fields
    assert schema().shown(fields) == {"zip": "90210", "state": "CA"}
    assert schema().shown({"zip": "90210"}) == {"zip": "90210"}


def test_a_hash_the_seller_computed_is_hashed_once_more():
    digest = sha256(b"+13105550123").hexdigest()
    assert gate({"zip": "90210", "phone": digest.upper()}).fields["phone"] == (
        f"<phone:sha256|{digest}>"
    )


def test_a_pseudonym_field_that_is_none_is_a_problem():
    (problem,) = gate({"zip": "90210", "phone": "nobody"})
    assert problem.field == "phone"


PERSONAL = {"zip": "90210", "name": "Avery", "free": "call 310-555-0123"}


def test_strip_leaves_out_what_may_not_be_pinged_and_names_it():
    assert gate(PERSONAL) == Gated(fields={"zip": "90210", "state": "CA"}, gated=("name", "free"))


def test_refuse_makes_it_a_problem():
    problems = gate(PERSONAL, mode="refuse")
    assert [(problem.field, problem.personal) for problem in problems] == [
        ("name", True),
        ("free", True),
    ]
    assert [problem.message for problem in problems] == [
        "may not be in a ping",
        "carries personal data",
    ]


def test_watch_tolerates_a_required_field_that_the_gate_took():
    required = {"free": {**FIELDS["free"], "required": True}}
    assert gate({"free": "q@mail.example"}, mode="watch", **required).gated == ("free",)
    (problem,) = gate({"free": "q@mail.example"}, **required)
    assert (problem.field, problem.message) == ("free", "is required")


def test_watch_tolerates_a_field_nobody_knows_and_the_others_do_not():
    assert gate({"zip": "90210", "colour": "red"}, mode="watch").gated == ("colour",)
    (problem,) = gate({"zip": "90210", "colour": "red"})
    assert problem.message == "the vertical has no such field"


def test_null_is_as_if_it_were_not_sent():
    assert gate({"zip": "90210", "age": None, "phone": None, "name": None}).gated == ()


@pytest.mark.parametrize(
    "text",
    [
        "310-555-0123",
        "x3105550123",
        "+1 (310) 555 0123",
        "q.reese@mail.example",
        "123-45-6789",
        "123 45 6789",
        "123456789",
    ],
)
def test_phones_mails_and_ssns_look_personal(text):
    assert looks_personal(text)


@pytest.mark.parametrize(
    "text", ["AB-12", "1732252800", "90210", "12345678", "a@b", "31055501234567"]
)
def test_codes_do_not(text):
    assert not looks_personal(text)


def test_a_lead_agrees_with_its_ping_whatever_the_spelling():
    ping = gate(
        {"zip": 2134, "moves": "2026-02-03", "age": "30", "phone": "310 555 0123"},
    )
    lead = schema().lead(
        {"zip": "02134-1111", "moves": "2026-02-03", "age": 30, "phone": "3105550123", "name": "A"}
    )
    assert schema().mismatches(json_form(ping.fields), lead, pseudonym=pseudonym) == ()


@pytest.mark.parametrize("spelling", ["+13105550123", "13105550123", "3105550123"])
def test_a_hash_of_any_published_spelling_agrees(spelling):
    pinged = gate({"zip": "90210", "phone": md5(spelling.encode()).hexdigest()})
    lead = schema().lead({"zip": "90210", "phone": "310-555-0123", "name": "A"})
    assert schema().mismatches(json_form(pinged.fields), lead, pseudonym=pseudonym) == ()


def test_every_contradiction_is_named_a_missing_field_too():
    pinged = json_form(
        gate({"zip": "90210", "age": 30, "phone": "3105550123", "npa": "310"}).fields
    )
    lead = schema().lead({"zip": "10001", "phone": "3105550124", "npa": "310", "name": "A"})
    wrong = schema().mismatches(pinged, lead, pseudonym=pseudonym)
    assert wrong == ("zip", "age", "phone", "state")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@given(st.dictionaries(st.sampled_from([*FIELDS, "colour"]), json_values, max_size=8))
def test_the_gate_takes_any_json_and_lets_nothing_else_through(raw):
    for mode in ("watch", "strip", "refuse"):
        gated = gate(raw, mode=mode)
        if isinstance(gated, Gated):
            allowed = {*schema().pingable, *schema().pseudonyms}
            assert set(gated.fields) <= allowed
            assert not any(
                looks_personal(gated.fields[name])
                for name in ("code", "free")
                if name in gated.fields
            )


@given(
    st.fixed_dictionaries({"zip": st.from_regex(r"[0-9]{5}", fullmatch=True), "name": st.just("A")})
)
def test_normalising_twice_changes_nothing(raw):
    once = schema().lead(raw)
    again = {name: value for name, value in once.items() if name != "state"}
    assert schema().lead(again) == once
