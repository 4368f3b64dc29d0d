"""Books for the suites of finance: sales and a granted return, written as the exchange writes
them."""

from collections.abc import Iterable
from datetime import datetime

import asyncpg

from exchange.core.ledger import return_transfers, sale_transfers
from exchange.core.reasons import Delivery
from exchange.core.records import AttemptRow, TransferRow
from exchange.effects.commits import Commits
from exchange.effects.vault import Vault
from tests.effects.sales import BUYER, PAYOUT, PRICE, SELLER, Sale, add_parties, new_id

REGISTRY = """
INSERT INTO seller (id, key) VALUES (2, 's') ON CONFLICT DO NOTHING;
INSERT INTO buyer (id, key) VALUES (3, 'b'), (4, 'c') ON CONFLICT DO NOTHING;
INSERT INTO vertical (id, key) VALUES (1, 'auto') ON CONFLICT DO NOTHING;
INSERT INTO contract (id, key, buyer_id, vertical_id) VALUES (1, 'b-auto', 3, 1)
    ON CONFLICT DO NOTHING;
INSERT INTO key_epoch (kind, epoch) VALUES ('pepper', 1) ON CONFLICT DO NOTHING;
"""
TRANSFER = """
INSERT INTO transfer (transfer_id, lead_id, day, attempt_id, code, debit_account, credit_account,
                      amount_micros, currency, reverses, part, at)
SELECT $1, $2, lead_day($2), $3, $4, d.id, c.id, $9, $10, $11, $12, $13
FROM account d, account c
WHERE (d.party_id, d.kind, d.currency) = ($5, $6, $10)
  AND (c.party_id, c.kind, c.currency) = ($7, $8, $10)
"""


async def bought(
    database_url: str, vault: Vault, phones: Iterable[str], *, refused: int = 0
) -> list[AttemptRow]:
    """A sale per phone at buyer `b`, each with the buyer's reference `R-<phone>`; then leads that
    the buyer refused."""
    connection = await asyncpg.connect(database_url)
    await add_parties(connection)
    await connection.execute(REGISTRY)
    await connection.close()
    commits, made = await Commits.open(database_url), []
    for phone in phones:
        sale = Sale(consumer="\\x" + vault.person("phone", phone)[1])
        await commits.commit(sale.intent())
        await commits.commit(sale.result(buyer_ref=f"R-{phone}"))
        assert sale.attempt is not None
        made.append(sale.attempt)
    for _ in range(refused):
        sale = Sale()
        await commits.commit(sale.intent())
        await commits.commit(sale.result(Delivery.REJECTED, "unsold"))
    await commits.close()
    return made


async def returned(
    connection: asyncpg.Connection, attempt: AttemptRow, credit: int, clawback: int, at: datetime
) -> None:
    """A granted return: its case, its transfers, and what the attempt says was credited."""
    legs = sale_transfers(
        attempt_id=attempt.attempt_id,
        lead_id=attempt.lead_id,
        buyer_id=BUYER,
        seller_id=SELLER,
        price_micros=PRICE,
        payout_micros=PAYOUT,
        fee_micros=PRICE - PAYOUT,
        currency="USD",
        at=at,
    )
    for row in return_transfers(
        legs, credit_micros=credit, clawback_micros=clawback, credited_micros=0, part=1, at=at
    ):
        await transferred(connection, row)
    await connection.execute(
        "UPDATE attempt SET credited_micros = $2 WHERE attempt_id = $1", attempt.attempt_id, credit
    )
    await connection.execute(
        "INSERT INTO return_case (return_id, lead_id, day, attempt_id, seller_id, buyer_id,"
        " contract_id, state, reason, credit_micros, currency, test, requested_at)"
        " VALUES ($1, $2, lead_day($2), $3, 2, 3, 1, 'granted', 'r', $4, 'USD', false, $5)",
        *(new_id(), attempt.lead_id, attempt.attempt_id, credit, at),
    )


async def transferred(connection: asyncpg.Connection, row: TransferRow) -> None:
    """Writes a transfer, whatever it says: the accounts are there since the first sale."""
    await connection.execute(
        TRANSFER,
        *(row.transfer_id, row.lead_id, row.attempt_id, row.code),
        *(row.debit_party, row.debit_kind, row.credit_party, row.credit_kind),
        *(row.amount_micros, row.currency, row.reverses, row.part, row.at),
    )
