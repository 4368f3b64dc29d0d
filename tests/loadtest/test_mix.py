"""The mix of leads is seeded, in its shares, and of people as they are."""

from collections import Counter
from pathlib import Path

import pytest

from loadtest.load import market as markets
from loadtest.load.mix import SHARES, Mix
from loadtest.load.people import person, pinged

LEADS = 8_000
MARKET = markets.read(Path(__file__).parents[2] / "examples" / "market.toml")


def mix(seed: int, sellers: tuple[str, ...] = ("brightleads", "homequote", "ratewise")) -> Mix:
    return Mix(MARKET, sellers, seed)


def test_the_same_seed_has_the_same_leads_in_whatever_order_they_are_asked_for() -> None:
    one, again = mix(7), mix(7)
    forth = [one.lead(number) for number in range(1, 200)]
    back = [again.lead(number) for number in range(199, 0, -1)]
    assert forth == back[::-1]
    assert forth != [mix(8).lead(number) for number in range(1, 200)]


def test_every_kind_comes_in_its_share() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)
    leads = [mix(7).lead(number) for number in range(1, LEADS + 1)]
    kinds = Counter(lead.kind for lead in leads)
    for kind, share in SHARES.items():
        sigma = (share * (1 - share) / LEADS) ** 0.5
        assert abs(kinds[kind] / LEADS - share) < 5 * sigma, kind
    assert set(kinds) == set(SHARES)
    assert {lead.vertical for lead in leads} == {"auto_insurance", "solar", "mortgage"}
    assert {(lead.seller, lead.source) for lead in leads} == {
        (seller, source) for seller, terms in MARKET.sellers.items() for source in terms.terms()
    }


def test_only_sellers_with_a_key_sell() -> None:
    leads = [mix(7, ("ratewise",)).lead(number) for number in range(1, 500)]
    assert {lead.seller for lead in leads} == {"ratewise"}


@pytest.mark.parametrize("vertical", MARKET.verticals)
def test_people_are_seeded_unique_and_like_those_of_the_country(vertical: str) -> None:
    terms = MARKET.verticals[vertical]
    people = [person(terms, seed=7, number=number) for number in range(1, 3_000)]
    assert people == [person(terms, seed=7, number=number) for number in range(1, 3_000)]
    for name in ("phone", "email"):
        assert len({one[name] for one in people}) == len(people)
    zips = Counter(one["zip"][:3] for one in people)
    assert len(zips) > 50
    assert zips["606"] > 2 * zips["061"]  # Chicago has five times the people of Hartford
    if "age" in terms.fields:
        ages = sorted(one["age"] for one in people)
        assert ages[0] >= 16
        assert ages[-1] <= 99
        assert 38 <= ages[len(ages) // 2] <= 50


@pytest.mark.parametrize("vertical", MARKET.verticals)
def test_a_ping_carries_nothing_personal(vertical: str) -> None:
    terms = MARKET.verticals[vertical]
    fields = pinged(terms, person(terms, seed=7, number=1))
    assert "zip" in fields
    assert not [name for name in fields if terms.fields[name].personal]
