"""The sense of billing and payout terms: days that can be, and accounts that a bank would take.

Account numbers carry check digits so that a slip of the pen is found before money is sent: the
IBAN's (ISO 13616, by ISO 7064 mod 97), the routing number's (ABA, weights 3 7 1).
"""

import re
from typing import Final

from exchange.core.findings import Found
from exchange.core.terms import BankTerms, BillingTerms, HouseTerms, PaperTerms, RemittanceTerms
from exchange.core.toml_lines import Path

DAYS_MAX: Final = 365
ADDRESS_LINES_MAX: Final = 6
LINE_CHARS_MAX: Final = 70
"""What ISO 20022 gives an address line, and what fits on paper."""
_LINE: Final = re.compile(r"[^\x00-\x1f\x7f]*")
_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
_BIC: Final = re.compile(r"[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9-]{4,34}")


def billing(path: Path, terms: BillingTerms, found: Found) -> None:
    """Problems of a buyer's `billing`."""
    _days((*path, "terms_days"), terms.terms_days, found)
    _line((*path, "reference"), terms.reference, found)


def remittance(path: Path, terms: RemittanceTerms, found: Found) -> None:
    """Problems of a seller's `remittance`."""
    _days((*path, "hold_days"), terms.hold_days, found)
    _line((*path, "reference"), terms.reference, found)
    if terms.bank is not None:
        bank((*path, "bank"), terms.bank, found)


def paper(path: Path, terms: PaperTerms, found: Found) -> None:
    """Problems of who a party is on paper."""
    _line((*path, "legal_name"), terms.legal_name, found)
    _line((*path, "tax_id"), terms.tax_id, found)
    if len(terms.address) > ADDRESS_LINES_MAX:
        found.problem((*path, "address"), f"has at most {ADDRESS_LINES_MAX} lines")
    for number, line in enumerate(terms.address):
        _line((*path, "address", number), line, found)


def bank(path: Path, terms: BankTerms, found: Found) -> None:
    """Problems of an account that money is sent to."""
    _line((*path, "holder"), terms.holder, found)
    _line((*path, "bank"), terms.bank, found)
    if bool(terms.iban) == bool(terms.account):
        found.problem(path, "names one account", 'iban = "..." or account = "..."')
    if terms.iban and not iban_holds(terms.iban):
        found.problem((*path, "iban"), "is no IBAN: its check digits are wrong", "without spaces")
    if terms.account and not _ACCOUNT.fullmatch(terms.account):
        found.problem((*path, "account"), "is no account number", "4 to 34 letters and digits")
    if terms.routing and not routing_holds(terms.routing):
        found.problem((*path, "routing"), "is no routing number: its check digit is wrong")
    if terms.routing and terms.iban:
        found.problem((*path, "routing"), "goes with account; an IBAN names its bank itself")
    if terms.bic and not _BIC.fullmatch(terms.bic):
        found.problem((*path, "bic"), "is no BIC", "8 or 11 capitals and digits")
    if terms.country and not re.fullmatch("[A-Z]{2}", terms.country):
        found.problem((*path, "country"), "is no country", 'two letters such as "US"')


def house(terms: HouseTerms, found: Found) -> None:
    """Problems of the house's own file."""
    _line(("name",), terms.name, found)
    paper(("paper",), terms.paper, found)
    if terms.bank is not None:
        bank(("bank",), terms.bank, found)


def iban_holds(iban: str) -> bool:
    """Whether the check digits of an IBAN are right."""
    if not _IBAN.fullmatch(iban):
        return False
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def routing_holds(routing: str) -> bool:
    """Whether the check digit of an American bank's routing number is right."""
    if not re.fullmatch("[0-9]{9}", routing):
        return False
    weighed = zip(map(int, routing), (3, 7, 1) * 3, strict=True)
    return sum(digit * weight for digit, weight in weighed) % 10 == 0


def _days(path: Path, days: int, found: Found) -> None:
    if not 0 <= days <= DAYS_MAX:
        found.problem(path, f"lies between 0 and {DAYS_MAX}")


def _line(path: Path, text: str, found: Found) -> None:
    if len(text) > LINE_CHARS_MAX or not _LINE.fullmatch(text):
        found.problem(path, f"is one line of at most {LINE_CHARS_MAX} characters")
