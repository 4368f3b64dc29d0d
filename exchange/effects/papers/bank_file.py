"""Payouts as a bank takes them: ISO 20022 credit transfers (pain.001.001.09), or a CSV.

The same run gives the same bytes but for the moment it was made: `MsgId` is made of what is paid,
so that a bank that is sent it twice can tell. `EndToEndId` is the payment's key, by which it is
recorded afterwards.
"""

import hashlib
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from exchange.core.money import text_of
from exchange.core.payout_run import Payout
from exchange.core.terms import BankTerms, HouseTerms
from exchange.effects.papers.tables import amount, table

SPACE: Final = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
HEADER: Final = (
    *("key", "seller", "name", "currency", "amount", "statement", "holder", "bank", "iban"),
    *("account", "routing", "bic", "reference"),
)
NAME_MAX: Final = 70
"""What banks take of a name; the standard would allow 140."""
MESSAGE_MAX: Final = 35


def write_bank_csv(path: Path, payouts: Sequence[Payout]) -> None:
    """A row per payout. Raises `OSError`."""
    with table(path, HEADER, title="Payouts") as add:
        for one in payouts:
            bank, party = one.billed.bank or BankTerms(), one.billed.party
            add(
                (
                    *(one.key, party.key, _holder(one), one.currency, amount(one.amount_micros)),
                    *(one.statement, bank.holder, bank.bank, bank.iban, bank.account),
                    *(bank.routing, bank.bic, one.billed.reference),
                )
            )


def bank_xml(
    payouts: Sequence[Payout], *, house: HouseTerms, at: datetime, execute_on: date
) -> bytes:
    """A message with one batch per currency. Raises `ValueError` when the house names no account,
    or an amount is finer than a bank can send."""
    if house.bank is None:
        raise ValueError("the house's file names no bank account to pay from: [bank]")
    for one in payouts:
        if one.amount_micros % 10_000:
            raise ValueError(f"{one.key}: {text_of(one.amount_micros)} is finer than a cent")
    root = ElementTree.Element("Document", xmlns=SPACE)
    body = ElementTree.SubElement(root, "CstmrCdtTrfInitn")
    named = "".join(f"{one.key} {one.amount_micros};" for one in payouts)
    message = hashlib.sha256(named.encode()).hexdigest()[: MESSAGE_MAX - 3]
    head = ElementTree.SubElement(body, "GrpHdr")
    _add(head, "MsgId", f"EX-{message}")
    _add(head, "CreDtTm", at.strftime("%Y-%m-%dT%H:%M:%SZ"))
    _add(head, "NbOfTxs", str(len(payouts)))
    _add(head, "CtrlSum", _sum(payouts))
    _add(ElementTree.SubElement(head, "InitgPty"), "Nm", _name(house))
    for currency in sorted({one.currency for one in payouts}):
        mine = [one for one in payouts if one.currency == currency]
        _batch(body, mine, currency, message, house, house.bank, execute_on)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return written


def _batch(
    body: ElementTree.Element,
    payouts: Sequence[Payout],
    currency: str,
    message: str,
    house: HouseTerms,
    bank: BankTerms,
    execute_on: date,
) -> None:
    batch = ElementTree.SubElement(body, "PmtInf")
    _add(batch, "PmtInfId", f"{message[:20]}-{currency}")
    _add(batch, "PmtMtd", "TRF")
    _add(batch, "NbOfTxs", str(len(payouts)))
    _add(batch, "CtrlSum", _sum(payouts))
    _add(ElementTree.SubElement(batch, "ReqdExctnDt"), "Dt", execute_on.isoformat())
    _add(ElementTree.SubElement(batch, "Dbtr"), "Nm", _name(house))
    _account(ElementTree.SubElement(batch, "DbtrAcct"), bank)
    _agent(ElementTree.SubElement(batch, "DbtrAgt"), bank)
    for one in payouts:
        transfer = ElementTree.SubElement(batch, "CdtTrfTxInf")
        _add(ElementTree.SubElement(transfer, "PmtId"), "EndToEndId", one.key)
        sent = ElementTree.SubElement(transfer, "Amt")
        _add(sent, "InstdAmt", text_of(one.amount_micros)).set("Ccy", currency)
        to = one.billed.bank or BankTerms()
        _agent(ElementTree.SubElement(transfer, "CdtrAgt"), to)
        _add(ElementTree.SubElement(transfer, "Cdtr"), "Nm", _holder(one)[:NAME_MAX])
        _account(ElementTree.SubElement(transfer, "CdtrAcct"), to)
        said = one.billed.reference or one.statement
        _add(ElementTree.SubElement(transfer, "RmtInf"), "Ustrd", f"{one.statement} {said}".strip())


def _account(into: ElementTree.Element, bank: BankTerms) -> None:
    named = ElementTree.SubElement(into, "Id")
    if bank.iban:
        _add(named, "IBAN", bank.iban)
    else:
        _add(ElementTree.SubElement(named, "Othr"), "Id", bank.account)


def _agent(into: ElementTree.Element, bank: BankTerms) -> None:
    institution = ElementTree.SubElement(into, "FinInstnId")
    if bank.bic:
        _add(institution, "BICFI", bank.bic)
    if bank.routing:
        member = ElementTree.SubElement(institution, "ClrSysMmbId")
        _add(ElementTree.SubElement(member, "ClrSysId"), "Cd", "USABA")
        _add(member, "MmbId", bank.routing)
    if bank.bank:
        _add(institution, "Nm", bank.bank)
    if not (bank.bic or bank.routing or bank.bank):
        _add(ElementTree.SubElement(institution, "Othr"), "Id", "NOTPROVIDED")


def _add(into: ElementTree.Element, name: str, text: str) -> ElementTree.Element:
    made = ElementTree.SubElement(into, name)
    made.text = text
    return made


def _sum(payouts: Sequence[Payout]) -> str:
    return str(sum((Decimal(text_of(one.amount_micros)) for one in payouts), Decimal(0)))


def _name(house: HouseTerms) -> str:
    return (house.paper.legal_name or house.name)[:NAME_MAX]


def _holder(one: Payout) -> str:
    billed = one.billed
    holder = billed.bank.holder if billed.bank else ""
    return holder or billed.paper.legal_name or billed.party.name or billed.party.key
