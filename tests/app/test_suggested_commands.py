"""What a finding suggests is a command there is, with options it has."""

import shlex
from datetime import date
from typing import Any, get_args

import click
import pytest
from typer.main import get_command

from exchange.__main__ import cli
from exchange.core.kept_reconciliation import command_of
from exchange.core.partner_lines import Side
from exchange.core.verdicts import EntryKind, Finding, Suggested

ID = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001"


def suggested(kind: EntryKind, side: Side) -> str:
    finding = Finding(
        verdict="other_price",
        attempt_id=ID,
        lead_id=ID,
        our_day=date(2026, 3, 31),
        theirs_micros=9_000_000,
        our_currency="USD",
        suggested=Suggested(kind=kind, sentence="x", amount_micros=1_000_000),
    )
    return command_of(finding, run=ID, number=7, partner="acme", side=side)


@pytest.mark.parametrize("side", get_args(Side))
@pytest.mark.parametrize("kind", [kind for kind in get_args(EntryKind) if kind != "none"])
def test_a_suggested_command_is_taken_by_the_command_line(kind: EntryKind, side: Side) -> None:
    program, *words = shlex.split(suggested(kind, side))
    assert program == "exchange"
    command: Any = get_command(cli)
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    words = [__file__ if word == "FILE" else word for word in words]
    command.make_context(command.name, words)


def test_a_command_there_is_not_is_caught() -> None:
    with pytest.raises(KeyError):
        get_command(cli).commands["adjust"]  # type: ignore[attr-defined]


def test_a_buyers_price_is_corrected_and_a_sellers_balance_adjusted() -> None:
    assert suggested("credit", "buyer").startswith(f"exchange ledger correct {ID} --price 9.00 ")
    seller = "exchange ledger adjust acme --currency USD --credit 1.00 "
    assert suggested("credit", "seller").startswith(seller)
