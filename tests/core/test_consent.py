"""Consent that names companies, and labels that name a person."""

from typing import Any

import pytest

from exchange.core.consent import is_named, named_buyers, of_ping
from exchange.core.fields import Problem, names_a_person, shown
from exchange.core.labels import consent_without_persons, without_persons
from exchange.core.messages import PingRequest
from exchange.core.model import Buyer, PingConsent, is_id
from exchange.core.terms import BuyerTerms

ACME = Buyer(id=7, key="acme", terms=BuyerTerms(ping_url="u", post_url="u", name="Acme Inc"))


@pytest.mark.parametrize(
    ("consent", "names"),
    [
        ({}, ()),
        ({"buyers": None}, ()),
        ({"buyers": []}, ()),
        ({"buyers": ["Acme Inc", "beacon"]}, ("Acme Inc", "beacon")),
    ],
)
def test_the_companies_of_a_consent_are_read(consent: Any, names: tuple[str, ...]) -> None:
    assert named_buyers(consent) == names


@pytest.mark.parametrize("buyers", ["Acme", {"a": 1}, [1], [""], ["x" * 129], ["x"] * 51])
def test_companies_that_cannot_be_read_are_a_problem_and_not_nobody(buyers: Any) -> None:
    problem = named_buyers({"buyers": buyers})
    assert isinstance(problem, Problem)
    assert problem.field == "consent.buyers"


@pytest.mark.parametrize(
    ("names", "may"),
    [((), True), (("acme",), True), (("ACME inc",), True), (("beacon",), False)],
)
def test_only_the_named_may_be_released_to(names: tuple[str, ...], may: bool) -> None:
    assert is_named(ACME, names) is may


def test_what_buyers_may_know_of_a_direct_leads_consent() -> None:
    record = {"kind": "tcpa", "captured_at": 5, "text_version": "v" * 65, "ip": "10.0.0.1"}
    assert of_ping(record, ("acme",), kind="none") == PingConsent(kind="tcpa", buyers=("acme",))
    assert of_ping({}, (), kind="named") == PingConsent(kind="named")


@pytest.mark.parametrize(
    "label",
    [
        *("jo@mail.example", "https://x.example/?e=jo%40mail.example", "+13105550123"),
        *("lead for +1 310 555 0123", "tel:%2B13105550123"),
    ],
)
def test_a_label_that_names_a_person_is_found(label: str) -> None:
    assert names_a_person(label)


@pytest.mark.parametrize(
    "label", ["aff-12", "3105550123", "2026-01-15T12:00:00Z", "user@", "https://x.example/cert/5f"]
)
def test_a_sellers_own_numbers_are_let_through(label: str) -> None:
    assert not names_a_person(label)


def test_labels_that_name_a_person_are_dropped_and_the_others_kept() -> None:
    request = PingRequest(
        vertical="v", source="s", fields={}, sub_id="jo@mail.example", external_id="17"
    )
    kept, dropped = without_persons(request)
    assert (kept.sub_id, kept.external_id, dropped) == (None, "17", ("sub_id",))
    assert without_persons(kept) == (kept, ())


def test_a_consent_that_names_a_person_is_told_without() -> None:
    consent = PingConsent(kind="jo@mail.example", ping_url="https://x.example/?jo@mail.example")
    told, dropped = consent_without_persons(consent)
    assert told == PingConsent(kind="withheld")
    assert dropped == ("consent.ping_url", "consent.kind")
    assert consent_without_persons(told) == (told, ())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zip_code", "zip_code"),
        ("jo@mail.example", "(unnamed)"),
        ("3105550123", "(unnamed)"),
        ("a\0b", "(unnamed)"),
        ("x" * 65, "(unnamed)"),
    ],
)
def test_a_field_name_is_said_only_when_it_is_a_word(name: str, said: str) -> None:
    assert shown(name) == said


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("01a201fb-8605-756c-ab58-51fa94e08ddc", True),
        ("01A201FB-8605-756C-AB58-51FA94E08DDC", True),
        ("01a201fb8605756cab5851fa94e08ddc", False),
        ("01a201fb-8605-756c-ab58-51fa94e08ddc\n", False),
        ("", False),
    ],
)
def test_an_id_is_told_by_its_form(text: str, form: bool) -> None:
    assert is_id(text) is form
