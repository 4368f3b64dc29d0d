"""An incident on a running exchange: opened by the command, approved over the API, booked by the
jobs process, closed."""

import json
from typing import Any

import pytest

from tests.e2e.house import Caller, House, until

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_an_incident_is_opened_approved_booked_and_closed(house: House) -> None:
    gamma, finance = house.seller("gamma"), house.finance
    operator = Caller(house.url, house.keys["operator"])
    sold = [gamma.direct("returned", sub_id="bots") for _ in range(3)]
    assert {one["status"] for one in sold} == {"sold"}

    asked = ("--source", "gamma/web", "--sub-id", "bots", "--since", "2020-01-01")
    opened = json.loads(
        house.run("incident", "open", *asked, "--why", "bot traffic", "--by", "Dana", "--json")
    )
    [total] = opened["totals"]
    assert (total["buyer"], total["sales"], total["paid"]) == ("delta", 3, 0)
    incident_id = opened["incident"]["incident_id"]

    def is_paused() -> bool:
        reply = gamma.ping("returned", sub_id="bots")
        return bool(reply["status"] == "no_offer" and reply["reason"]["code"] == 717)

    until(is_paused, "the sub_id is paused")
    path = f"/v1/finance/incidents/{incident_id}"
    said = {"by": "Finn", "why": "no opt-in was shown"}
    early = finance.call("POST", f"{path}/close", said)
    assert early.status == 409
    approved = finance.call("POST", f"{path}/approve", said)
    assert (approved.status, approved.json["state"]) == (200, "approved")

    def booked() -> Any:
        found = operator.call("GET", f"/v1/admin/incidents/{incident_id}").json
        return found if found["incident"]["state"] == "booked" else None

    [row] = until(booked, "the jobs process books it")["progress"]
    assert row["state"] == "credited"
    assert (row["sales"], row["credit"], row["clawback"]) == (
        *(3, total["credit"], total["clawback"]),
    )
    shown = house.run("incident", "show", incident_id, "--sales")
    assert all(word in shown for word in ("gamma/web", "bots", "delta", "Finn", "credited"))
    assert finance.call("POST", f"{path}/close", said).json["state"] == "closed"
    until(lambda: not is_paused(), "the sub_id is sold again")
    assert finance.call("GET", "/v1/finance/incidents").json["incidents"][0]["state"] == "closed"
    wrong = operator.call("POST", "/v1/admin/incidents", {"source": "x", "since": "y"})
    assert wrong.status in (400, 422)
