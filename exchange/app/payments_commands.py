"""Commands about money that moved: payments recorded and matched, refunds, what is past due."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from exchange.app.commands import WHO, AsJson, By, DataDir, err, out, print_json, used_wrongly
from exchange.app.papers import Papers, Zone, amount_of, refused, with_papers
from exchange.core.ageing import BUCKETS, Aged
from exchange.core.messages import Refusal
from exchange.core.money import text_of
from exchange.effects.payments import ListedPayment
from exchange.flows.payments import Done, Telling

payments = typer.Typer(help="Money that moved at the bank, and what it covers.")
Party = Annotated[str, typer.Argument(help="The buyer's or seller's key.")]
Amount = Annotated[str, typer.Argument(help="Such as 1250.00")]
Currency = Annotated[str, typer.Argument(help="Such as USD")]
PaymentId = Annotated[str, typer.Argument(help="The payment_id.")]
Day = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="When the bank moved it.  [default: today]"),
]
Reference = Annotated[str, typer.Option(help="The bank's reference; nothing personal.")]
Key = Annotated[
    str | None,
    typer.Option(help="Your own id of it.  [default: party, day, amount and reference together]"),
]


@payments.command("record")
def payments_record(
    party: Party,
    amount: Amount,
    currency: Currency,
    day: Day = None,
    reference: Reference = "",
    match: Annotated[
        list[str] | None,
        typer.Option(help="A document it covers; repeat it.  [default: the oldest open ones]"),
    ] = None,
    key: Key = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Record that a buyer paid us, or that we paid a seller.

    What a buyer paid beyond its open invoices is paid ahead: `payments match` uses it later,
    `payments refund` gives it back. Recording the same again changes nothing."""
    told = _telling(party, amount, currency, day, reference, by, key, tuple(match or ()))
    _ended(with_papers(data_dir, lambda papers: papers.paying.record(told)), as_json)


@payments.command("refund")
def payments_refund(
    party: Party,
    amount: Amount,
    currency: Currency,
    day: Day = None,
    reference: Reference = "",
    key: Key = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Record that a buyer got back what it had paid ahead."""
    told = _telling(party, amount, currency, day, reference, by, key, ())
    _ended(with_papers(data_dir, lambda papers: papers.paying.refund(told)), as_json)


@payments.command("returned")
def payments_returned(
    payment_id: PaymentId,
    day: Day = None,
    reference: Reference = "",
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Record that the bank sent a payout back: the seller is owed it again."""
    told = _telling("", "0", "USD", day, reference, by, None, ())
    _ended(with_papers(data_dir, lambda papers: papers.paying.came_back(payment_id, told)), as_json)


@payments.command("match")
def payments_match(
    payment_id: PaymentId,
    numbers: Annotated[
        list[str] | None, typer.Argument(help="Documents.  [default: the oldest open ones]")
    ] = None,
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Match what is left of a payment with documents."""
    named = tuple(numbers or ())
    _ended(
        with_papers(data_dir, lambda papers: papers.paying.match(payment_id, named, by=by)), as_json
    )


@payments.command("unmatch")
def payments_unmatch(
    payment_id: PaymentId,
    number: Annotated[str, typer.Argument(help="The document it does not cover.")],
    why: Annotated[str, typer.Option(help="Why: stands in the audit.")],
    by: By = WHO,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Undo a wrong match: the money covers nothing from then on."""
    _ended(
        with_papers(
            data_dir, lambda papers: papers.paying.unmatch(payment_id, number, by=by, why=why)
        ),
        as_json,
    )


@payments.command("list")
def payments_list(
    party: Annotated[str | None, typer.Option(help="Only this buyer's or seller's.")] = None,
    unmatched: Annotated[
        bool, typer.Option("--unmatched", help="Only those with a rest that covers nothing.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    before: Annotated[str | None, typer.Option(help="Only those before this payment.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show payments, the newest first: what they cover, and what of them covers nothing."""

    async def work(papers: Papers) -> tuple[ListedPayment, ...]:
        party_id = None
        if party is not None:
            found = await papers.documents.party(party)
            if len(found) != 1:
                raise used_wrongly(
                    f"there is no one buyer or seller {party}: buyer:KEY, seller:KEY"
                )
            party_id = found[0].id
        return await papers.payments.listing(
            party_id=party_id, with_rest=unmatched, before=before, limit=limit
        )

    rows = with_papers(data_dir, work)
    if as_json:
        print_json(rows)
    else:
        _page(rows)


def ageing(
    at: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="As it stood at a day's end.  [default: today]"),
    ] = None,
    zone: Zone = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what buyers owe by how long it is past due; it adds up to the ledger's receivables.

    Exit code 0 when it does, 1 when it does not."""

    async def work(papers: Papers) -> tuple[Aged, ...]:
        day = (at or datetime.now(UTC)).date()
        return await papers.paying.ageing(day, await papers.day_end(day, zone))

    rows = with_papers(data_dir, work)
    if as_json:
        print_json([_told(row) for row in rows])
    else:
        _ageing_page(rows)
    if any(row.difference_micros for row in rows):
        err.print("[red]does not hold[/] documents and payments do not add up to the ledger")
        raise typer.Exit(1)


def _telling(
    party: str,
    amount: str,
    currency: str,
    day: datetime | None,
    reference: str,
    by: str,
    key: str | None,
    numbers: tuple[str, ...],
) -> Telling:
    return Telling(
        party=party,
        amount_micros=amount_of(amount),
        currency=currency.upper(),
        value_day=(day or datetime.now(UTC)).date(),
        reference=reference,
        by=by,
        key=key,
        numbers=numbers,
    )


def _ended(done: Done | Refusal | None, as_json: bool) -> None:
    if done is None:
        err.print("[red]unknown[/] there is no such payment")
        raise typer.Exit(1)
    if isinstance(done, Refusal):
        raise refused(done)
    if as_json:
        print_json({"payment": done.payment, "matches": done.matches, "replayed": done.replayed,
                    "rest": text_of(done.rest_micros)})  # fmt: skip
        return
    one = done.payment
    before = ", recorded before" if done.replayed else ""
    out.print(f"{one.payment_id}: {one.way} {text_of(one.amount_micros)} {one.currency}{before}",
              highlight=False)  # fmt: skip
    for match in done.matches:
        if match.number and not match.undone:
            out.print(f"  {text_of(match.amount_micros)} covers {match.number}", highlight=False)
    if done.rest_micros and one.way in ("received", "paid_out"):
        words = "is paid ahead" if one.way == "received" else "covers no statement"
        out.print(f"  {text_of(done.rest_micros)} {words}", highlight=False)


def _page(rows: tuple[ListedPayment, ...]) -> None:
    table = Table("payment", "day", "party", "", "", box=box.SIMPLE_HEAD)
    table.columns[0].min_width = 36
    for head in ("amount", "covers nothing"):
        table.add_column(head, justify="right")
    table.add_column("covers")
    for row in rows:
        one = row.payment
        covers = ", ".join(
            dict.fromkeys(
                match.number for match in row.matches if not match.undone and match.number
            )
        )
        amounts = text_of(one.amount_micros), text_of(row.rest_micros)
        said = (one.payment_id, str(one.value_day), row.party, one.way, one.currency)
        table.add_row(*said, *amounts, covers)
    out.print(table if rows else "no payment")


def _told(row: Aged) -> dict[str, str]:
    return {
        "party": row.party,
        "currency": row.currency,
        **{bucket: text_of(row.buckets[bucket]) for bucket in BUCKETS},
        "credit": text_of(row.credit_micros),
        "unbilled": text_of(row.unbilled_micros),
        "receivable": text_of(row.receivable_micros),
        "prepaid": text_of(row.prepaid_micros),
        "difference": text_of(row.difference_micros),
    }


def _ageing_page(rows: tuple[Aged, ...]) -> None:
    table = Table("buyer", "", box=box.SIMPLE_HEAD)
    heads = ("not due", "1-30", "31-60", "61-90", "over 90", "credit", "unbilled", "receivable")
    for head in (*heads, "paid ahead"):
        table.add_column(head, justify="right")
    totals: dict[str, list[int]] = {}
    for row in rows:
        parts = [*row.buckets.values(), row.credit_micros, row.unbilled_micros,
                 row.receivable_micros, row.prepaid_micros]  # fmt: skip
        table.add_row(row.party, row.currency, *map(text_of, parts))
        before = totals.get(row.currency, [0] * len(parts))
        totals[row.currency] = [a + b for a, b in zip(before, parts, strict=True)]
    table.add_section()
    for currency, sums in sorted(totals.items()):
        table.add_row("together", currency, *map(text_of, sums))
    out.print(table if rows else "nobody owes anything")
