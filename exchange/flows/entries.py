"""What finance books by hand: adjustments, debts that will never be paid, corrected prices. Each is
dated now, whatever day it is about: what concerns a closed period cites it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from exchange.core.entries import (
    CorrectedSale,
    Correction,
    Entry,
    EntryKind,
    NotBooked,
    corrected,
    correction_transfers,
    entry_key,
    entry_transfers,
    write_off_room,
)
from exchange.core.model import is_id
from exchange.core.money import AMOUNT_MICROS_MAX, PRICE_MICROS_MAX, BadMoney, micros_of, text_of
from exchange.core.statements import Party
from exchange.effects.bookings import Bookings
from exchange.effects.clock import Clock
from exchange.effects.entries import CreditedMeanwhile, Entries
from exchange.effects.postgres import Database

WHY_MIN: Final = 3
"""Letters of a reason; fewer are none."""


class Booking:
    """Books by hand, over these connections."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._entries, self._bookings = Entries(database), Bookings()
        self._clock = clock

    async def adjust(
        self,
        party_key: str,
        amount: str,
        currency: str,
        *,
        against: bool,
        by: str,
        why: str,
        cites: str = "",
        key: str | None = None,
    ) -> tuple[Entry, bool]:
        """Correct a party's balance in its favour, or against it; whether it was booked now (the
        same key is booked once). Raises `NotBooked`."""
        _reasoned(why)
        party, micros = await self._party(party_key), _micros(amount, AMOUNT_MICROS_MAX)
        grows = against if party.kind == "buyer" else not against

        async def signed(_connection: Any) -> int:
            return micros if grows else -micros

        way = "against" if against else "for"
        said = (party_key, amount, currency, way, why, cites)
        return await self._book("adjustment", party, currency, signed, by, why, cites, key, said)

    async def write_off(
        self,
        party_key: str,
        amount: str | None,
        currency: str,
        *,
        by: str,
        why: str,
        key: str | None = None,
    ) -> tuple[Entry, bool]:
        """Give up what a party owes, or this much of it, never more; whether it was booked now.
        Raises `NotBooked`."""
        _reasoned(why)
        party = await self._party(party_key)
        asked = None if amount is None else _micros(amount, AMOUNT_MICROS_MAX)

        async def signed(connection: Any) -> int:
            owed = await self._entries.owed(connection, party, currency)
            micros = write_off_room(owed, asked)
            return -micros if party.kind == "buyer" else micros

        said = (party_key, amount or "all", currency, why)
        return await self._book("write_off", party, currency, signed, by, why, "", key, said)

    async def correct(
        self, attempt_id: str, price: str, *, by: str, why: str, key: str | None = None
    ) -> tuple[Correction, bool]:
        """Bring a sale to another price, in its own proportion of payout and fee; whether it was
        booked now. Raises `NotBooked`."""
        _reasoned(why)
        wanted = _micros(price, PRICE_MICROS_MAX, least=0)
        if not is_id(attempt_id):
            raise NotBooked("a sale is named by its id: the attempt_id its buyer was posted")
        now = self._clock.now()
        chosen = key or entry_key("correct", attempt_id, text_of(wanted), why, f"{now:%Y-%m-%d}")
        async with self._entries.alone_with_sale(attempt_id) as connection:
            if (known := await self._entries.correction(connection, chosen)) is not None:
                return known, False
            sale = await self._entries.sale(connection, attempt_id)
            if sale is None:
                raise NotBooked(f"there is no sale {attempt_id}")
            made = self._correction(sale, wanted, chosen, by, why)
            try:
                await self._entries.correct(connection, sale, made)
            except CreditedMeanwhile:
                raise NotBooked("the sale was credited at the same moment: try again") from None
            rows = correction_transfers(sale, made)
            await self._bookings.book(connection, rows, subject="lead")
        return made, True

    def _correction(
        self, sale: CorrectedSale, wanted: int, key: str, by: str, why: str
    ) -> Correction:
        raised, credited = corrected(sale, wanted)
        return Correction(
            correction_id=self._clock.new_id(),
            key=key,
            lead_id=sale.lead_id,
            attempt_id=sale.attempt_id,
            raised_micros=raised,
            credited_micros=credited,
            by=by,
            why=why,
            at=self._clock.now(),
        )

    async def _book(
        self,
        kind: EntryKind,
        party: Party,
        currency: str,
        signed: Callable[[Any], Awaitable[int]],
        by: str,
        why: str,
        cites: str,
        key: str | None,
        said: tuple[str, ...],
    ) -> tuple[Entry, bool]:
        now = self._clock.now()
        chosen = key or entry_key(kind, *said, f"{now:%Y-%m-%d}")
        async with self._entries.alone_with(party.id) as connection:
            if (known := await self._entries.keyed(connection, chosen)) is not None:
                return known, False
            entry = Entry(
                entry_id=self._clock.new_id(),
                key=chosen,
                kind=kind,
                party_id=party.id,
                party_kind=party.kind,
                currency=currency,
                amount_micros=await signed(connection),
                cites=cites,
                by=by,
                why=why,
                at=now,
            )
            await self._entries.add(connection, entry)
            await self._bookings.book(connection, entry_transfers(entry), subject="document")
        return entry, True

    async def _party(self, said: str) -> Party:
        """A buyer or seller by its key; `buyer:NAME` or `seller:NAME` where both have it."""
        kind, is_said, name = said.partition(":")
        found = await self._entries.parties(name if is_said else said)
        chosen = [party for party in found if not is_said or party.kind == kind]
        if not chosen:
            raise NotBooked(f"there is no buyer or seller {said}")
        if len(chosen) > 1:
            raise NotBooked(f"{said} is a buyer and a seller: write buyer:{said} or seller:{said}")
        return chosen[0]


def _reasoned(why: str) -> None:
    if len(why.strip()) < WHY_MIN:
        raise NotBooked("say why: it stands in the audit")


def _micros(amount: str, most: int, *, least: int = 1) -> int:
    try:
        micros = micros_of(amount, most_micros=most)
    except BadMoney as bad:
        raise NotBooked(str(bad)) from None
    if micros < least:
        raise NotBooked("an amount of nothing moves nothing")
    return micros
