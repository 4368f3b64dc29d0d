"""The same seed, buyer and id meet the same behaviour, whatever came before."""

import json
import math
import random
import tomllib
from pathlib import Path

import msgspec
import pytest

from buyers_sim import plans, profile
from buyers_sim.buyer import Buyer, Request
from buyers_sim.chance import draws
from buyers_sim.profile import Constant, Lognormal, ProfileError, Uniform


def played(folder, *, seed: int, order: list[str], name: str = "falcon") -> dict[str, tuple]:
    """What the buyer of the chaos profile does with pings in the given order."""
    table = profile.load("chaos").tables[name]
    folder.mkdir()
    buyer = Buyer(name, table=table, seed=seed, truth_dir=folder)
    done = {}
    for ping_id in order:
        body = {"ping_id": ping_id, "contract": "c", "vertical": "solar"}
        plan = buyer.ping(
            Request(
                method="POST",
                path="/",
                query={},
                headers={},
                head="",
                body=json.dumps(body).encode(),
            )
        )
        done[ping_id] = (plan.answered, plan.delay_ms, plan.body)
    buyer.close()
    return done


def test_arrival_order_changes_nothing_and_the_seed_and_the_buyer_do(tmp_path):
    order = [f"ping-{n}" for n in range(300)]
    shuffled = random.Random(3).sample(order, len(order))
    first = played(tmp_path / "a", seed=7, order=order)
    assert played(tmp_path / "b", seed=7, order=shuffled) == first
    assert played(tmp_path / "c", seed=8, order=order) != first
    assert played(tmp_path / "d", seed=7, order=order, name="kestrel") != first


def test_two_contracts_of_a_buyer_draw_on_their_own():
    rules = profile.load("demo").buyers["acme"]
    bids = {
        plans.ping_plan(
            plans.PingBody(ping_id="p", contract=contract, vertical="solar"),
            rules,
            draws(7, "acme", "ping", f"p|{contract}"),
        ).body
        for contract in ("one", "two", "three")
    }
    assert len(bids) > 1


def test_a_contract_may_have_a_price_of_its_own():
    table = {"contracts": {"fixed": {"kind": "constant", "value": 18}}, "bids": {}}
    rules = profile.behaviour(table, where="b")
    asked = [
        plans.PingBody(ping_id="p", contract=contract, vertical="solar")
        for contract in ("fixed", "other")
    ]
    plan, other = (plans.ping_plan(one, rules, draws(7, "b", "ping", "p")) for one in asked)
    assert json.loads(plan.body)["bid"] == "18.00"
    assert other.answered == "no_bid"


def test_faults_come_in_their_shares():
    faults = profile.PingFaults(hang=0.2, reset=0.1)
    count = 20_000
    words = [faults.fault(draws(1, "b", "ping", str(n))[0]) for n in range(count)]
    for word, share in (("hang", 0.2), ("reset", 0.1), ("", 0.7)):
        five_sigma = 5 * math.sqrt(count * share * (1 - share))
        assert abs(words.count(word) - count * share) < five_sigma


@pytest.mark.parametrize(
    ("spread", "at", "value"),
    [
        (Constant(value=5), 0.3, 5),
        (Uniform(low=10, high=20), 0.25, 12.5),
        (Lognormal(median=20, p99=80), 0.5, 20),
        (Lognormal(median=20, p99=80), 0.99, 80),
        (Lognormal(median=20, p99=80, most=60), 0.99, 60),
        (Lognormal(median=20, p99=80, least=15), 0.0, 15),
    ],
)
def test_a_spread_has_its_value_at_a_share(spread, at, value):
    assert spread.at(at) == pytest.approx(value)


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_has_the_whole_cast(name):
    cast = set(profile.load(name).buyers)
    names = "acme beacon cedar delta ember falcon granite harbor iris juniper kestrel lumen expired"
    assert cast == set(names.split(" "))
    assert len(profile.load(name, copies=10).buyers) == 130


MARKET = tomllib.loads((Path(__file__).parents[2] / "examples" / "market.toml").read_text())


@pytest.mark.parametrize("name", profile.names())
@pytest.mark.parametrize("key", MARKET["contracts"])
def test_bids_are_what_the_example_market_allows(name, key):
    contract = MARKET["contracts"][key]
    rules = profile.load(name).buyers[contract["buyer"]]
    price = contract.get("price", "bid")
    if price != "bid":
        assert rules.contracts[key].at(0.5) == float(price)
        return
    spread = rules.bids[contract["vertical"]]
    assert float(contract.get("bid_min", 8)) <= spread.at(0)
    assert spread.at(0.999999) <= float(contract["bid_max"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[buyers.x]\nlatencies = 3", "x: Object contains unknown field `latencies`"),
        ("[buyers.x.ping]\nhang = 1.5", "the share `hang` is not between 0 and 1"),
        ("[buyers.x.ping]\nhang = 0.6\nreset = 0.6", "add up to more than 1"),
        ("[buyers.x]\nlatency = { kind = 'gauss' }", "gauss"),
        ("[buyers.x]\nsecret = 'not base64!'", "base64|Only"),
        ("[bidders.x]", "bidders"),
        ("= 3", "bad.toml"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(tmp_path, text, complaint):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=complaint):
        profile.load(str(path))


def test_a_table_is_laid_over_its_defaults_and_a_spread_is_replaced():
    base = {"ping": {"hang": 0.1, "reset": 0.2}, "latency": {"kind": "constant", "value": 1}}
    change = {"ping": {"hang": 0.3}, "latency": {"kind": "uniform", "low": 1, "high": 2}}
    merged = profile.laid_over(base, change)
    assert merged == {"ping": {"hang": 0.3, "reset": 0.2}, "latency": change["latency"]}
    assert msgspec.convert(merged, profile.Behaviour).ping.reset == 0.2
