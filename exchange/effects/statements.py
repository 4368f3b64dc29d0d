"""What the books say of one party, for its statements: read, never written."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from exchange.core.model import Fact
from exchange.core.statements import ACCOUNTS, Entry, Party, PartyKind, signed
from exchange.effects.sql import queries


class Account(Fact, frozen=True, kw_only=True):
    """One of a party's accounts."""

    id: int
    kind: str
    currency: str


class Known(Fact, frozen=True, kw_only=True):
    """A party, and the zone its terms name, if any."""

    party: Party
    time_zone: str | None


class PartyBooks:
    """Reads through one connection inside a transaction, which makes everything one snapshot."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sql = queries("statements")

    async def parties(self, key: str) -> tuple[Known, ...]:
        """The buyer and the seller of this key; there may be both."""
        rows = await self._connection.fetch(self._sql["party"], key)
        return tuple(
            Known(
                party=Party(id=row["id"], kind=row["kind"], key=row["key"], name=row["name"]),
                time_zone=row["time_zone"],
            )
            for row in rows
        )

    async def balances(self, party: Party, before: datetime) -> tuple[tuple[str, int], ...]:
        """The party's balance before a moment, by currency."""
        accounts = await self._accounts(party)
        rows = await self._connection.fetch(
            self._sql["balances"], list(accounts), before, before.astimezone(UTC).date()
        )
        found: dict[str, int] = {}
        for row in rows:
            account = accounts[row["account"]]
            found.setdefault(account.currency, 0)
            for is_debit, micros in ((True, row["debit_micros"]), (False, row["credit_micros"])):
                moved = signed(party.kind, account.kind, is_debit=is_debit, amount_micros=micros)
                found[account.currency] += moved
        return tuple(found.items())

    async def entries(self, party: Party, since: datetime, until: datetime) -> list[Entry]:
        """How transfers between two moments move the party's balance, in any order."""
        accounts = await self._accounts(party)
        rows = await self._connection.fetch(
            self._sql["entries"],
            list(accounts),
            since,
            until,
            until.astimezone(UTC).date(),
            party.kind == "buyer",
        )
        return [_entry(row, party.kind, accounts) for row in rows]

    async def _accounts(self, party: Party) -> dict[int, Account]:
        rows = await self._connection.fetch(self._sql["accounts"], party.id)
        known = (Account(**dict(row)) for row in rows)
        return {account.id: account for account in known if account.kind in ACCOUNTS[party.kind]}


def _entry(row: Any, kind: PartyKind, accounts: Mapping[int, Account]) -> Entry:
    return Entry(
        transfer_id=row["transfer_id"],
        at=row["at"],
        subject=row["subject"],
        code=row["code"],
        lead_id=row["lead_id"],
        attempt_id=row["attempt_id"],
        currency=row["currency"],
        amount_micros=signed(
            kind,
            accounts[row["account"]].kind,
            is_debit=row["is_debit"],
            amount_micros=row["amount_micros"],
        ),
        contract=row["contract"],
        reference=row["reference"],
    )
