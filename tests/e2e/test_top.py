"""`exchange top` finds the exchange of a data folder and tells of all its processes and caps."""

import json

import pytest

from tests.e2e.house import House, SellerClient, until

pytestmark = pytest.mark.real


def test_top_tells_of_the_exchange_that_runs_in_the_folder(
    house: House, alpha: SellerClient
) -> None:
    alpha.ping("ladder")

    def seen() -> dict[str, object] | None:
        told = json.loads(house.run("top", "--json", "--every", "0.2"))
        return told if told["violations"] is not None and told["pings_total"] else None

    told = until(seen, "the workers and the jobs process tell")
    assert told["processes"] == 3
    assert told["servers"] == {"postgres": True, "valkey": True}
    assert told["violations"] == 0
    assert told["caps"]
    assert told["buyers"]
