"""Windows thought full, read again: which of them are open."""

from datetime import UTC, datetime
from typing import Any

import pytest

from exchange.core.book import compile_book, rows_of
from exchange.core.caps import windows
from exchange.core.terms import BuyerTerms, CapTerms, ContractTerms, MarketDoc, VerticalTerms
from exchange.dialects import dialects
from exchange.flows.standing import FullWindow, Standing
from exchange.flows.watch import Watch

AT = datetime(2026, 3, 6, 12, tzinfo=UTC)
AHEAD, BEHIND = "Pacific/Kiritimati", "Pacific/Pago_Pago"


def book(zone: str, *, limit: int = 3) -> Any:
    buyer = BuyerTerms(
        ping_url="https://a.example/ping", post_url="https://a.example/post", time_zone=zone
    )
    terms = ContractTerms(buyer="acme", vertical="auto", caps=(CapTerms(leads=limit, per="day"),))
    return compile_book(
        rows_of(
            MarketDoc(
                verticals={"auto": VerticalTerms(currency="USD", fields={})},
                buyers={"acme": buyer},
                contracts={"a": terms},
            )
        )
    )


class Counted:
    """Caps that count three of everything."""

    async def used(self, _buyer: int, wins: Any) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(wins, (2, 1))


class Calm:
    """The rest of the world: nothing happens in it."""

    def now(self) -> datetime:
        return AT

    def is_healthy(self, _key: str) -> bool:
        return True

    def retire(self, _keys: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("why", "zone", "limit", "is_full"),
    [
        ("nothing changed", AHEAD, 3, True),
        ("the cap was raised", AHEAD, 4, False),
        ("the zone moved: another window is in force", BEHIND, 3, False),
    ],
)
async def test_a_full_window_is_forgotten_when_it_has_room_or_is_not_in_force(
    why: str, zone: str, limit: int, is_full: bool
) -> None:
    world: Any = Calm()
    found, now = book(AHEAD), book(zone, limit=limit)
    standing = Standing(
        found,
        buyers=world,
        dialects=dialects(),
        brake_count=3,
        brake_s=300,
        trial_s=30,
        worker_number=1,
    )
    (contract,) = found.contracts.values()
    (window,) = windows(contract, fields={}, price_micros=1, at=AT, zone=AHEAD)
    standing.note_full(FullWindow.of(contract, window, {}), AT)
    standing.adopt(now, AT)
    counted: Any = Counted()
    watch = Watch(
        clock=world,
        standing=standing,
        caps=counted,
        leads=world,
        say=lambda *_, **__: None,
        every_ms=1_000,
        brake_count=3,
        brake_s=300,
    )
    await watch._room()
    assert bool(tuple(standing.full_windows())) is is_full, why
