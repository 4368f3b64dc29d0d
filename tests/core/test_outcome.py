"""One sentence per way to end: every loss and non-bid has words of its own."""

from datetime import UTC, datetime

import pytest

from exchange.core.outcome import NAMED_MAX, SAID, Turned, sentence
from exchange.core.reasons import Loss, NonBid, Reason


def turned(loss: Loss | None, **more: object) -> Turned:
    plain = {"buyer": "acme", "contract": "acme-auto", "state": None}
    money = {"price_micros": 25_000_000, "payout_micros": 21_250_000, "fee_micros": 3_750_000}
    return Turned(**{**plain, **money, "loss": loss, **more})  # type: ignore[arg-type]


def told(status: str, *turns: Turned, **more: object) -> str:
    plain: dict[str, object] = {
        "status": status,
        "turns": turns,
        "promised_micros": 21_250_000,
        "accepted_micros": 21_250_000,
        "currency": "USD",
        "reason": None,
        "refused": (),
        "not_asked": 0,
        "expires_at": datetime(2026, 1, 1, 12, tzinfo=UTC),
    }
    return sentence(**{**plain, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (Loss.POST_REJECTED, "Not sold: acme rejected it (bad_phone)."),
        (Loss.POST_NOT_SENT, "Not sold: acme could not be reached."),
        (Loss.CAP_LOST, "Not sold: acme's cap was full."),
        (Loss.CAPS_UNREADABLE, "Not sold: acme's caps could not be checked."),
        (Loss.BID_EXPIRED, "Not sold: acme's bid had expired."),
        (
            Loss.BRAKED,
            "Not sold: acme was not sent any lead because too many of its posts are in doubt.",
        ),
        (Loss.CRITERIA_AT_POST, "Not sold: the full record did not meet acme's criteria."),
        (
            Loss.RELEASES_SPENT,
            "Not sold: acme was not tried: enough buyers had already received it.",
        ),
        (Loss.DEADLINE_SPENT, "Not sold: there was no time left to try acme."),
        (Loss.BELOW_PROMISE, "Not sold: nobody would pay the promised 21.25 USD."),
    ],
)
def test_every_loss_of_an_unsold_lead_has_its_words(loss: Loss, expected: str) -> None:
    assert told("unsold", turned(loss, buyer_reason="bad_phone")) == expected


@pytest.mark.parametrize("code", [code for code in NonBid if code < 500 or code >= 530])
def test_every_answer_without_a_bid_has_its_words(code: NonBid) -> None:
    assert told("no_offer", refused=[("acme", code)]) == f"No offer: acme {SAID[code]}."


@pytest.mark.parametrize(
    ("status", "more", "expected"),
    [
        ("no_offer", {}, "No offer: buyers were asked and none bid enough."),
        (
            "no_offer",
            {"reason": int(Reason.NO_CONTRACT)},
            "No offer: no contract in the market fits this ping now.",
        ),
        (
            "offered",
            {},
            "Offered: 21.25 USD until 12:00:00; the seller has not posted the lead yet.",
        ),
        (
            "expired",
            {},
            "Not posted: 21.25 USD was offered until 12:00:00 and the seller did not take it up.",
        ),
        (
            "unsold",
            {"reason": int(Reason.INTERRUPTED)},
            "Not sold: the exchange was stopped before the lead was sold; nobody bought it.",
        ),
        ("received", {}, "Under way: the lead is received."),
    ],
)
def test_every_status_has_its_sentence(status: str, more: dict[str, object], expected: str) -> None:
    assert told(status, **more) == expected


def test_a_sale_tells_what_came_before_it() -> None:
    refused = turned(Loss.POST_REJECTED, buyer="beacon", state="rejected", buyer_reason="age")
    won = turned(Loss.WON, state="sold")
    assert told("sold", refused, won) == (
        "Sold to acme for 25.00 USD: 21.25 to the seller, 3.75 to the house, "
        "after beacon rejected it (age)."
    )


def test_a_long_list_of_causes_is_cut_and_counted() -> None:
    turns = [turned(Loss.CAP_LOST, buyer=f"b{n}") for n in range(NAMED_MAX + 3)]
    assert told("unsold", *turns).endswith("b3's cap was full, 3 more did not buy.")
