"""The statement of a batch: only the parts that the batch has a use for, and always one that
Postgres takes."""

from collections import defaultdict
from itertools import combinations

import asyncpg
import pytest

from exchange.core.reasons import Delivery
from exchange.core.records import CommitUnit
from exchange.effects.commits.document import (
    may_be_trusted,
    on_trust,
    statement,
    tables_of,
    with_checks,
    words_of,
)
from exchange.effects.commits.session import ROLE
from exchange.effects.sql import queries
from tests.effects.sales import HASH, Sale

WHOLE = queries("commits")["commit"]
WINDOWS = (("1.0.d20260101", 10, 1),)


def batches() -> dict[str, list[CommitUnit]]:
    """Every kind of unit there is, by what happens in it."""
    sale = Sale()
    kinds = {"intent": [sale.intent(windows=WINDOWS)], "sold": [sale.result()]}
    sale = Sale()
    kinds["intent without caps"] = [sale.intent()]
    kinds["refused, and the next"] = [sale.intent(buyer_id=4, refused=True, windows=WINDOWS)]
    kinds["in doubt"] = [sale.result(Delivery.UNKNOWN, "in_doubt")]
    sale = Sale()
    sale.intent()
    kinds["refused, and nobody else"] = [sale.result(Delivery.REJECTED, "unsold")]
    sale = Sale()
    sale.intent(windows=WINDOWS)
    kinds["refused, room taken"] = [sale.result(Delivery.REJECTED, "unsold")]
    kinds["intent that claims"] = [Sale(consumer=HASH).intent(windows=WINDOWS)]
    kinds["never released"] = [Sale().result(state="unsold")]
    return kinds


def words(units: list[CommitUnit]) -> frozenset[str]:
    return words_of(units, tables_of(units, defaultdict(int)))


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("intent", {"attempts", "custody", "events", "idem", "leads_made", "persons", "privates",
                    "takes"}),
        ("intent without caps", {"attempts", "custody", "events", "idem", "leads_made", "persons",
                                 "privates"}),
        ("intent that claims", {"attempts", "claims", "custody", "events", "idem", "leads_made",
                                "persons", "privates", "takes"}),
        ("sold", {"attempt_moves", "custody", "events", "idem_done", "lead_moves", "settles",
                  "transfers"}),
        ("in doubt", {"attempt_moves", "custody", "events", "idem_done", "lead_moves", "settles"}),
        ("refused, and nobody else", {"attempt_moves", "attempts", "custody", "events",
                                      "idem_done", "lead_moves", "passes"}),
        ("refused, room taken", {"attempt_moves", "attempts", "custody", "ends", "events",
                                 "idem_done", "lead_moves", "passes", "settles", "takes"}),
        ("never released", {"custody", "idem", "leads_made"}),
    ],
)  # fmt: skip
def test_a_batch_names_what_it_needs(kind: str, parts: set[str]) -> None:
    assert words(batches()[kind]) == parts


def test_a_part_without_a_use_is_left_out_and_an_inner_piece_with_its_part() -> None:
    whole = "a\n-- for one\nb\n    -- for two\n    c\n    -- always\n    d\n-- always\ne"
    assert "".join(statement(whole, frozenset()).split()) == "ae"
    assert "".join(statement(whole, frozenset({"two"})).split()) == "ae"
    assert "".join(statement(whole, frozenset({"one"})).split()) == "abde"
    assert "".join(statement(whole, frozenset({"one", "two"})).split()) == "abcde"


@pytest.mark.real
async def test_postgres_takes_the_statement_of_every_mixture_of_units(database_url: str) -> None:
    kinds = list(batches().values())
    mixtures = {
        words([unit for kind in mixture for unit in kind])
        for size in range(1, len(kinds) + 1)
        for mixture in combinations(kinds, size)
    }
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(f"SET ROLE {ROLE}")
        for mixture in mixtures:
            await connection.prepare(statement(WHOLE, with_checks(mixture)))
            if may_be_trusted(mixture):
                await connection.prepare(statement(WHOLE, on_trust(mixture)))
    finally:
        await connection.close()
