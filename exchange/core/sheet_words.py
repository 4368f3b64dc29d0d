"""What was learnt of a buyer's sheets: which header is which field, which phrase which reason, in
which order its days are written. Said once, remembered; said again, corrected.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, cast, get_args

from exchange.core.fields import looks_personal, names_a_person
from exchange.core.model import Fact
from exchange.core.partner_sheet import DayOrder, words_of
from exchange.core.reasons import ReturnReason
from exchange.core.return_cases import REASONS
from exchange.core.return_sheet import SheetField

SAID_MAX: Final = 80
"""Longest header or phrase that is remembered: a longer one is a text, and may name a person."""


class SheetWord(Fact, frozen=True, kw_only=True):
    """One thing learnt. `meaning`: a field's name, a reason's, or an order of days."""

    kind: Literal["column", "reason", "days"]
    said: str
    meaning: str


class Learnt(Fact, frozen=True, kw_only=True):
    """All that is known of a buyer's sheets: fields to headers, phrases to reasons."""

    columns: Mapping[SheetField, str] = {}
    reasons: Mapping[str, ReturnReason] = {}
    day_order: DayOrder | None = None


class BadWord(ValueError):
    """What was said cannot be learnt; the message says why, in a sentence."""


def learnt_of(words: Iterable[SheetWord]) -> Learnt:
    """What words come to, the oldest first: a newer one corrects. What no longer means anything is
    left out."""
    columns: dict[SheetField, str] = {}
    reasons: dict[str, ReturnReason] = {}
    order: DayOrder | None = None
    for one in words:
        if one.kind == "column" and one.meaning in get_args(SheetField):
            field = cast(SheetField, one.meaning)
            columns = {its: said for its, said in columns.items() if said != one.said}
            columns[field] = one.said
        elif one.kind == "reason" and one.meaning in REASONS:
            reasons[one.said] = REASONS[one.meaning]
        elif one.kind == "days" and one.meaning in get_args(DayOrder):
            order = cast(DayOrder, one.meaning)
    return Learnt(columns=columns, reasons=reasons, day_order=order)


def column_word(text: str) -> SheetWord:
    """`reason=Disposition`: this header is that field. Raises `BadWord`."""
    field, is_said, header = text.partition("=")
    if not is_said or field.strip() not in get_args(SheetField) or not words_of(header):
        known = ", ".join(get_args(SheetField))
        raise BadWord(f"a column is FIELD='Header'; fields are {known}")
    return SheetWord(kind="column", said=_sayable(header.strip()), meaning=field.strip())


def reason_word(text: str) -> SheetWord:
    """`bad number=invalid_phone`: this phrase is that reason. Raises `BadWord`."""
    phrase, is_said, reason = text.rpartition("=")
    if not is_said or reason.strip() not in REASONS or not words_of(phrase):
        raise BadWord(f"a reason is 'their words=reason'; reasons are {', '.join(REASONS)}")
    return SheetWord(kind="reason", said=words_of(_sayable(phrase)), meaning=reason.strip())


def days_word(order: str) -> SheetWord:
    """How days are written. Raises `BadWord`."""
    if order not in get_args(DayOrder):
        raise BadWord("days are written ymd, mdy or dmy")
    return SheetWord(kind="days", said="", meaning=order)


def news(said: Iterable[SheetWord], known: Iterable[SheetWord]) -> tuple[SheetWord, ...]:
    """Of what is said, what is not known already."""
    latest = {(one.kind, one.said): one.meaning for one in known}
    new = []
    for one in said:
        if latest.get((one.kind, one.said)) != one.meaning:
            latest[one.kind, one.said] = one.meaning
            new.append(one)
    return tuple(new)


def is_sayable(text: str) -> bool:
    """Whether a header or phrase may be remembered: it is short and names nobody."""
    return len(text) <= SAID_MAX and not (looks_personal(text) or names_a_person(text))


def _sayable(text: str) -> str:
    if not is_sayable(text):
        raise BadWord(f"what is remembered has at most {SAID_MAX} characters and names nobody")
    return text
