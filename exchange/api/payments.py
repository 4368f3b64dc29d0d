"""Payments over HTTP, for finance: recorded, matched, unmatched, refunded; what is past due."""

from datetime import date, datetime
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web
from msgspec import Meta

from exchange.api import errors
from exchange.api.documents import PAGE_MAX, Named
from exchange.api.door import Asked, Door, Refused, json_response
from exchange.api.routes import Parameter, Route
from exchange.api.seller import KEY_HEADER, idempotency_key
from exchange.core.ageing import Aged, Bucket
from exchange.core.messages import PRINTED, Refusal
from exchange.core.model import is_id
from exchange.core.money import AMOUNT_MICROS_MAX, BadMoney, micros_of, text_of
from exchange.core.payments import Match, Payment, Way
from exchange.core.statements import Period
from exchange.effects.clock import Clock
from exchange.effects.payments import PaymentStore
from exchange.flows.payments import Done, Payments, Telling

PROBLEMS: Final = (400, 401, 403, 404, 409, 413, 415, 422, 500, 503)
Amount = Annotated[str, Meta(max_length=20, examples=["1250.00"])]


class PaymentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Money that moved: from a buyer to us, or from us to a seller. `documents`: what it covers;
    the oldest open ones where none is named."""

    party: Named
    amount: Amount
    currency: Annotated[str, Meta(max_length=3)]
    day: Annotated[date, Meta(description="When the bank moved it.")]
    by: Named
    reference: Annotated[str, Meta(max_length=140, description="Nothing personal.")] = ""
    documents: Annotated[tuple[Named, ...], Meta(max_length=200)] = ()


class MatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the rest of a payment covers; the oldest open documents where none is named."""

    by: Named
    documents: Annotated[tuple[Named, ...], Meta(max_length=200)] = ()


class UnmatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The document a payment does not cover after all, and why."""

    document: Named
    by: Named
    why: Annotated[str, Meta(min_length=3, max_length=500, pattern=PRINTED)]


class Cover(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment covers of a document."""

    document: str
    amount: str
    at: datetime


class PaymentReply(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as it stands. `rest` covers nothing so far: what a buyer paid ahead."""

    payment_id: str
    way: Way
    amount: str
    currency: str
    day: date
    reference: str
    by: str
    covers: list[Cover]
    rest: str


class PaymentsReply(msgspec.Struct, frozen=True, kw_only=True):
    """Payments, the newest first. `next`: send it as `before` for the page after."""

    payments: list[PaymentReply]
    next: str | None = None


class AgedBuyer(msgspec.Struct, frozen=True, kw_only=True):
    """What a buyer owes by how long it is past due. Buckets, `credit` and `unbilled` add up to
    `receivable`, the ledger's; `difference` is what they do not. `prepaid` stands apart."""

    buyer: str
    currency: str
    buckets: dict[Bucket, str]
    credit: str
    unbilled: str
    receivable: str
    prepaid: str
    difference: str


class AgeingReply(msgspec.Struct, frozen=True, kw_only=True):
    """What buyers owe as it stood at a day's end."""

    at: date
    buyers: list[AgedBuyer]


def _acting(path: str, operation: str, summary: str, request: type) -> Route:
    return Route(
        method="POST",
        path=path,
        operation=operation,
        group="Finance",
        role="finance",
        summary=summary,
        parameters=(
            Parameter(
                name=KEY_HEADER,
                place="header",
                description="Your own id of it; else party, day, amount and reference are it. The "
                "same again changes nothing.",
            ),
        )
        if request is PaymentRequest
        else (),
        request=request,
        response=PaymentReply,
        problems=PROBLEMS,
    )


ROUTES: Final = (
    _acting("/v1/finance/payments", "record_payment", "Record a payment", PaymentRequest),
    _acting("/v1/finance/refunds", "record_refund", "Record a refund of what was paid ahead",
            PaymentRequest),
    _acting("/v1/finance/payments/{payment_id}/match", "match_payment",
            "Match the rest of a payment", MatchRequest),
    _acting("/v1/finance/payments/{payment_id}/unmatch", "unmatch_payment", "Undo a wrong match",
            UnmatchRequest),
    Route(
        method="GET",
        path="/v1/finance/payments",
        operation="payments",
        group="Finance",
        role="finance",
        summary="Payments, the newest first",
        parameters=(
            Parameter(name="unmatched", place="query", description="Only those with a rest.",
                      type=bool),
            Parameter(name="before", place="query", description="The `next` of the page before."),
        ),
        response=PaymentsReply,
        problems=(401, 403, 422, 500, 503),
    ),
    Route(
        method="GET",
        path="/v1/finance/ageing",
        operation="ageing",
        group="Finance",
        role="finance",
        summary="What buyers owe, by how long it is past due",
        parameters=(
            Parameter(name="at", place="query", description="At the end of this day; today.",
                      type=date),
            Parameter(name="zone", place="query", description="Whose day; UTC."),
        ),
        response=AgeingReply,
        problems=(401, 403, 422, 500, 503),
    ),
)  # fmt: skip


class PaymentsApi:
    """Translates calls about payments to the flow and back."""

    def __init__(self, *, payments: Payments, store: PaymentStore, clock: Clock) -> None:
        self._payments, self._store, self._clock = payments, store, clock

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        for path, call, request in (
            ("/v1/finance/payments", self._record, PaymentRequest),
            ("/v1/finance/refunds", self._refund, PaymentRequest),
            ("/v1/finance/payments/{payment_id}/match", self._match, MatchRequest),
            ("/v1/finance/payments/{payment_id}/unmatch", self._unmatch, UnmatchRequest),
        ):
            decoder = msgspec.json.Decoder(request)
            router.add_post(path, door.guarded("finance", call, decoder=decoder))
        router.add_get("/v1/finance/payments", door.guarded("finance", self._listed))
        router.add_get("/v1/finance/ageing", door.guarded("finance", self._ageing))

    async def _record(self, asked: Asked) -> web.Response:
        return _answer(await self._payments.record(_telling(asked)))

    async def _refund(self, asked: Asked) -> web.Response:
        return _answer(await self._payments.refund(_telling(asked)))

    async def _match(self, asked: Asked) -> web.Response:
        said: MatchRequest = asked.message
        payment_id = asked.request.match_info["payment_id"]
        return _answer(await self._payments.match(payment_id, said.documents, by=said.by))

    async def _unmatch(self, asked: Asked) -> web.Response:
        said: UnmatchRequest = asked.message
        payment_id = asked.request.match_info["payment_id"]
        done = await self._payments.unmatch(payment_id, said.document, by=said.by, why=said.why)
        return _answer(done)

    async def _listed(self, asked: Asked) -> web.Response:
        query = asked.request.query
        before = query.get("before")
        if before is not None and not is_id(before):
            raise Refused(errors.missing("before", "is no payment_id", "", status=422))
        rows = await self._store.listing(
            with_rest=query.get("unmatched") == "true", before=before, limit=PAGE_MAX
        )
        told = [_told(row.payment, row.matches, row.rest_micros) for row in rows]
        more = told[-1].payment_id if len(told) == PAGE_MAX else None
        return json_response(PaymentsReply(payments=told, next=more))

    async def _ageing(self, asked: Asked) -> web.Response:
        query = asked.request.query
        try:
            day = date.fromisoformat(query.get("at", f"{self._clock.now():%Y-%m-%d}"))
            until = Period(first=day, last=day, zone=ZoneInfo(query.get("zone", "UTC"))).until
        except (KeyError, ValueError, OSError, OverflowError):
            hint = "at=2026-10-31&zone=America/Chicago"
            raise Refused(errors.missing("at", "is no day of a zone", hint, status=422)) from None
        rows = await self._payments.ageing(day, until)
        return json_response(AgeingReply(at=day, buyers=[_aged(row) for row in rows]))


def _telling(asked: Asked) -> Telling:
    said: PaymentRequest = asked.message
    try:
        amount_micros = micros_of(said.amount, most_micros=AMOUNT_MICROS_MAX)
    except BadMoney as bad:
        raise Refused(errors.missing("amount", str(bad), 'such as "1250.00"', status=422)) from None
    return Telling(
        party=said.party,
        amount_micros=amount_micros,
        currency=said.currency,
        value_day=said.day,
        reference=said.reference,
        by=said.by,
        key=idempotency_key(asked),
        numbers=said.documents,
    )


def _answer(done: Done | Refusal | None) -> web.Response:
    if done is None:
        raise Refused(errors.not_found("payment"))
    if isinstance(done, Refusal):
        raise Refused(done)
    response = json_response(_told(done.payment, done.matches, done.rest_micros))
    if done.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _told(payment: Payment, matches: tuple[Match, ...], rest_micros: int) -> PaymentReply:
    return PaymentReply(
        payment_id=payment.payment_id,
        way=payment.way,
        amount=text_of(payment.amount_micros),
        currency=payment.currency,
        day=payment.value_day,
        reference=payment.reference,
        by=payment.by,
        covers=[
            Cover(document=one.number, amount=text_of(one.amount_micros), at=one.at)
            for one in matches
            if one.number and not one.undone
        ],
        rest=text_of(rest_micros),
    )


def _aged(row: Aged) -> AgedBuyer:
    return AgedBuyer(
        buyer=row.party,
        currency=row.currency,
        buckets={bucket: text_of(micros) for bucket, micros in row.buckets.items()},
        credit=text_of(row.credit_micros),
        unbilled=text_of(row.unbilled_micros),
        receivable=text_of(row.receivable_micros),
        prepaid=text_of(row.prepaid_micros),
        difference=text_of(row.difference_micros),
    )
