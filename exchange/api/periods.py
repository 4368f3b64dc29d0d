"""Accounting periods and balances over HTTP, for finance."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from exchange.api import errors
from exchange.api.documents import Named
from exchange.api.door import Asked, Door, Refused, json_response
from exchange.api.routes import Parameter, Route
from exchange.core.fields import Problem
from exchange.core.messages import Refusal
from exchange.core.money import text_of
from exchange.core.periods import PeriodRow
from exchange.effects.clock import Clock
from exchange.effects.periods import Periods
from exchange.flows.periods import Accounting, NotDone, Shown, Unknown

PROBLEMS: Final = (400, 401, 403, 404, 409, 413, 415, 422, 500, 503)


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The next period. `first_day` and `zone` are the first period's to choose; each later one
    begins where the last one ended."""

    last_day: Annotated[date, Meta(description="Included.")]
    by: Named
    first_day: date | None = None
    zone: Annotated[str, Meta(max_length=64)] | None = None


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`waive`: lines of the checklist that are let pass though they do not hold, for the reason
    `why`; `lock`, `rollups` and `proof` cannot be."""

    by: Named
    waive: Annotated[tuple[Named, ...], Meta(max_length=20)] = ()
    why: Annotated[str, Meta(max_length=500)] = ""


class PeriodReply(msgspec.Struct, frozen=True, kw_only=True):
    """A period; both days are included."""

    id: int
    first_day: date
    last_day: date
    zone: str
    opened_by: str
    closed_at: datetime | None
    closed_by: str | None


class PeriodsReply(msgspec.Struct, frozen=True, kw_only=True):
    """Every period, the oldest first."""

    periods: list[PeriodReply]


class LineReply(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the checklist: whether it holds, what is wrong, the first of it, what mends it."""

    name: str
    holds: bool
    says: str
    first: list[str]
    mend: str
    may_be_waived: bool


class CheckReply(msgspec.Struct, frozen=True, kw_only=True):
    """The checklist of a period."""

    period: PeriodReply
    may_close: bool
    lines: list[LineReply]


class BalanceReply(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has: debits less credits. `opening` of a closed period's first moment."""

    party: str
    account: str
    currency: str
    debits: str
    credits: str
    balance: str
    opening: str | None = None


class ClosedReply(msgspec.Struct, frozen=True, kw_only=True):
    """A period with what it closed with."""

    period: PeriodReply
    balances: list[BalanceReply]
    waived: dict[str, str]
    set_aside: Annotated[dict[str, str], Meta(description="For expected returns, by currency.")]


class BalancesReply(msgspec.Struct, frozen=True, kw_only=True):
    """What accounts have at a moment."""

    at: datetime
    balances: list[BalanceReply]


ROUTES: Final = (
    Route(
        method="GET", path="/v1/finance/periods", operation="periods", group="Finance",
        role="finance", summary="Every accounting period, the oldest first",
        response=PeriodsReply, problems=(401, 403, 500, 503),
    ),
    Route(
        method="POST", path="/v1/finance/periods", operation="open_period", group="Finance",
        role="finance", summary="Open the next accounting period",
        description="Periods leave no gap. The same days again change nothing.",
        request=OpenRequest, response=PeriodReply, problems=PROBLEMS,
        request_example={"first_day": "2026-11-01", "last_day": "2026-11-30", "by": "Dana"},
    ),
    Route(
        method="GET", path="/v1/finance/periods/{period_id}", operation="period", group="Finance",
        role="finance", summary="A period, and what it closed with",
        response=ClosedReply, problems=(401, 403, 404, 500, 503),
    ),
    Route(
        method="GET", path="/v1/finance/periods/{period_id}/check", operation="check_period",
        group="Finance", role="finance", summary="The checklist of a period",
        response=CheckReply, problems=(401, 403, 404, 500, 503),
    ),
    Route(
        method="POST", path="/v1/finance/periods/{period_id}/close", operation="close_period",
        group="Finance", role="finance", summary="Close a period for good",
        description="Refused with every line of the checklist that stands against it. Closing a "
        "closed one changes nothing. Books too large to be proven while a request waits (503) are "
        "closed by the command `exchange period close`.",
        request=CloseRequest, response=ClosedReply, problems=PROBLEMS,
        request_example={"by": "Dana"},
    ),
    Route(
        method="GET", path="/v1/finance/balances", operation="balances", group="Finance",
        role="finance", summary="What every account has now",
        parameters=(Parameter(name="party", place="query", description="Only this party's."),),
        response=BalancesReply, problems=(401, 403, 500, 503),
    ),
)  # fmt: skip


class PeriodsApi:
    """Translates calls about periods to the flow and back."""

    def __init__(self, *, accounting: Accounting, periods: Periods, clock: Clock) -> None:
        self._accounting, self._periods, self._clock = accounting, periods, clock

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        opening = msgspec.json.Decoder(OpenRequest)
        closing = msgspec.json.Decoder(CloseRequest)
        one = "/v1/finance/periods/{period_id}"
        router.add_get("/v1/finance/periods", door.guarded("finance", self._listed))
        router.add_post(
            "/v1/finance/periods", door.guarded("finance", self._opened, decoder=opening)
        )
        router.add_get(one, door.guarded("finance", self._shown))
        router.add_get(f"{one}/check", door.guarded("finance", self._checked))
        router.add_post(f"{one}/close", door.guarded("finance", self._closed, decoder=closing))
        router.add_get("/v1/finance/balances", door.guarded("finance", self._balances))

    async def _listed(self, asked: Asked) -> web.Response:
        rows = await self._accounting.listing()
        return json_response(PeriodsReply(periods=[_period(row) for row in rows]))

    async def _opened(self, asked: Asked) -> web.Response:
        said: OpenRequest = asked.message
        try:
            row, is_new = await self._accounting.open(
                said.first_day, said.last_day, zone=said.zone, by=said.by
            )
        except NotDone as refused:
            raise Refused(_refusal(refused, status=422)) from None
        return _answer(_period(row), is_new=is_new)

    async def _shown(self, asked: Asked) -> web.Response:
        try:
            return json_response(_shown(await self._accounting.show(_id(asked))))
        except Unknown:
            raise Refused(errors.not_found("period")) from None

    async def _checked(self, asked: Asked) -> web.Response:
        try:
            checked = await self._accounting.check(_id(asked))
        except Unknown:
            raise Refused(errors.not_found("period")) from None
        lines = [
            LineReply(
                name=line.name,
                holds=line.holds,
                says=line.says,
                first=list(line.first),
                mend=line.mend,
                may_be_waived=line.may_be_waived,
            )
            for line in checked.lines
        ]
        told = CheckReply(period=_period(checked.period), may_close=checked.may_close, lines=lines)
        return json_response(told)

    async def _closed(self, asked: Asked) -> web.Response:
        said: CloseRequest = asked.message
        try:
            shown, is_new = await self._accounting.close(
                _id(asked), waived=said.waive, by=said.by, why=said.why
            )
        except Unknown:
            raise Refused(errors.not_found("period")) from None
        except NotDone as refused:
            raise Refused(_refusal(refused, status=409)) from None
        return _answer(_shown(shown), is_new=is_new)

    async def _balances(self, asked: Asked) -> web.Response:
        now = self._clock.now().astimezone(UTC)
        found = await self._periods.balances(now, asked.request.query.get("party"))
        told = [
            BalanceReply(
                party=one.party,
                account=one.kind,
                currency=one.currency,
                debits=text_of(one.debit_micros),
                credits=text_of(one.credit_micros),
                balance=text_of(one.balance_micros),
            )
            for one in found
        ]
        return json_response(BalancesReply(at=now, balances=told))


def _id(asked: Asked) -> int:
    text = asked.request.match_info["period_id"]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refused(errors.not_found("period"))
    return int(text)


def _refusal(refused: NotDone, *, status: int) -> Refusal:
    """Every problem, together."""
    problems = tuple(
        Problem(field=field, message=message, hint="exchange period check tells it line by line")
        for field, message in refused.problems.items()
    )
    return Refusal(status=status, title=TITLE, detail=str(refused), problems=problems)


TITLE: Final = "Request not valid"
"""As the API's list of problems has it."""


def _answer(told: msgspec.Struct, *, is_new: bool) -> web.Response:
    response = json_response(told)
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _period(row: PeriodRow) -> PeriodReply:
    return PeriodReply(
        id=row.id,
        first_day=row.first,
        last_day=row.last,
        zone=row.zone,
        opened_by=row.opened_by,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
    )


def _shown(shown: Shown) -> ClosedReply:
    return ClosedReply(
        period=_period(shown.period),
        balances=[
            BalanceReply(
                party=one.party,
                account=one.kind,
                currency=one.currency,
                debits=text_of(one.debit_micros),
                credits=text_of(one.credit_micros),
                balance=text_of(one.closing_micros),
                opening=text_of(one.opening_micros),
            )
            for one in shown.balances
        ],
        waived={waiver.line: waiver.why for waiver in shown.waivers},
        set_aside=_sums((one.currency, one.amount_micros) for one in shown.accrued),
    )


def _sums(amounts: Iterable[tuple[str, int]]) -> dict[str, str]:
    found: dict[str, int] = {}
    for currency, micros in amounts:
        found[currency] = found.get(currency, 0) + micros
    return {currency: text_of(micros) for currency, micros in found.items()}
