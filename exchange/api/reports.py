"""Reports over HTTP: to finance and operators all of them, to sellers and buyers their own."""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal, cast, get_args

import msgspec
from aiohttp import web
from msgspec import Meta

from exchange.api import errors
from exchange.api.door import Asked, Door, Limit, Refused, json_response
from exchange.api.routes import Parameter, Route
from exchange.core.fields import Problem
from exchange.core.messages import Refusal
from exchange.core.model import Role
from exchange.core.quality import Quality
from exchange.core.reports import BY, By, Name, Report, plain, wrong_question
from exchange.effects.clock import Clock
from exchange.effects.papers.tables import safe
from exchange.effects.sums import SumStore
from exchange.flows.reports import Question, quality_of, report_of, window

HouseReport = Literal["pnl", "funnel", "returns", "buyers"]
SHOWN_DAYS: Final = 28
"""The days of a report that names none."""
REPORTS_AT_ONCE: Final = 4
"""A report keeps one of the worker's few connections for as long as it reads."""
PROBLEMS: Final = (401, 403, 404, 422, 500, 503)
DAYS: Final = (
    Parameter(
        name="from", place="query", description="First UTC day; 27 days before `to`.", type=date
    ),
    Parameter(name="to", place="query", description="Last UTC day, included; today.", type=date),
)
ASKED: Final = (
    Parameter(name="by", place="query", description="What the lines are told by.", type=By),
    *DAYS,
    Parameter(
        name="format",
        place="query",
        description="`csv` for a file instead of JSON.",
        type=Literal["json", "csv"],
    ),
)


class ReportColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column. Values of `money` and `average` are decimal strings; a `rate` is a share of one;
    `null` is nothing over nothing."""

    name: str
    kind: Literal["count", "money", "average", "rate", "number"]
    meaning: str


class ReportReply(msgspec.Struct, frozen=True, kw_only=True):
    """A report of whole UTC days. A line has its key under the name of `by`, its currency, a value
    for every column, and granted returns by reason."""

    report: str
    by: str
    first: date = msgspec.field(name="from")
    last: date = msgspec.field(name="to")
    zone: Literal["UTC"] = "UTC"
    until: Annotated[
        datetime | None, Meta(description="Everything that happened before this is in.")
    ] = None
    columns: list[ReportColumn]
    lines: list[dict[str, Any]]
    totals: Annotated[list[dict[str, Any]], Meta(description="All lines together, by currency.")]


class QualityReply(msgspec.Struct, frozen=True, kw_only=True):
    """How good each source was, whole (`contract` is empty) and at each contract. Shrunk rates are
    drawn to the vertical's, for small numbers prove little."""

    first: date = msgspec.field(name="from")
    last: date = msgspec.field(name="to")
    zone: Literal["UTC"] = "UTC"
    rows: list[Quality]


def _house(role: Role, path: str, group: str) -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path=f"{path}/quality",
            operation=f"{role}_quality",
            group=group,
            role=role,
            summary="How good each source is: accepted posts, returns, raw and shrunk",
            parameters=DAYS,
            response=QualityReply,
            problems=PROBLEMS,
        ),
        Route(
            method="GET",
            path=f"{path}/{{report}}",
            operation=f"{role}_report",
            group=group,
            role=role,
            summary="A report: pnl, funnel, returns or buyers",
            description="`pnl` counts what was booked on these days and adds up to the ledger; the "
            "others count what became of the leads of these days. Currencies never mix.",
            parameters=ASKED,
            text_types=("text/csv",),
            response=ReportReply,
            problems=PROBLEMS,
        ),
    )


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/reports/selling",
        operation="selling",
        group="Sellers",
        role="seller",
        summary="What became of your pings: offers, sales, what they earned, returns",
        parameters=ASKED,
        text_types=("text/csv",),
        response=ReportReply,
        problems=PROBLEMS,
    ),
    Route(
        method="GET",
        path="/v1/reports/buying",
        operation="buying",
        group="Buyers",
        role="buyer",
        summary="How you bid and bought: answers, wins, accepted posts, spend, returns",
        parameters=ASKED,
        text_types=("text/csv",),
        response=ReportReply,
        problems=PROBLEMS,
    ),
    *_house("finance", "/v1/finance/reports", "Finance"),
    *_house("operator", "/v1/admin/reports", "Operators"),
)


class ReportsApi:
    """Translates calls for reports to flows and back."""

    def __init__(self, *, sums: SumStore, clock: Clock) -> None:
        self._sums, self._clock = sums, clock

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        limit = Limit("reports_at_once", REPORTS_AT_ONCE)
        router.add_get("/v1/reports/selling", door.guarded("seller", self._selling, limit=limit))
        router.add_get("/v1/reports/buying", door.guarded("buyer", self._buying, limit=limit))
        houses: tuple[tuple[Role, str], ...] = (
            ("finance", "/v1/finance/reports"),
            ("operator", "/v1/admin/reports"),
        )
        for role, path in houses:
            router.add_get(f"{path}/quality", door.guarded(role, self._quality, limit=limit))
            router.add_get(f"{path}/{{report}}", door.guarded(role, self._house, limit=limit))

    async def _selling(self, asked: Asked) -> web.Response:
        return await self._told(asked, "selling", seller_id=asked.key.party_id)

    async def _buying(self, asked: Asked) -> web.Response:
        return await self._told(asked, "buying", buyer_id=asked.key.party_id)

    async def _house(self, asked: Asked) -> web.Response:
        name = asked.request.match_info["report"]
        if name not in get_args(HouseReport):
            raise Refused(errors.not_found("report"))
        return await self._told(asked, cast(Name, name))

    async def _told(
        self,
        asked: Asked,
        name: Name,
        *,
        seller_id: int | None = None,
        buyer_id: int | None = None,
    ) -> web.Response:
        query = asked.request.query
        first, last, problems = self._days(query)
        by = query.get("by", BY[name][0])
        if query.get("format", "json") not in ("json", "csv"):
            problems.append(_problem("format", "is neither json nor csv"))
        if not problems and (wrong := wrong_question(name, by, first, last)):
            problems.append(_problem("by" if " told by " in wrong else "from", wrong))
        if problems:
            raise Refused(_refusal(problems))
        question = Question(
            name=name,
            first=first,
            last=last,
            by=cast(By, by),
            seller_id=seller_id,
            buyer_id=buyer_id,
        )
        made = await report_of(question, sums=self._sums)
        if query.get("format") == "csv":
            return _csv(made)
        return json_response(_reply(made, await self._sums.until()))

    async def _quality(self, asked: Asked) -> web.Response:
        first, last, problems = self._days(asked.request.query)
        if not problems and (wrong := wrong_question("funnel", "source", first, last)):
            problems.append(_problem("from", wrong))
        if problems:
            raise Refused(_refusal(problems))
        rows = await quality_of(first, last, sums=self._sums)
        return json_response(QualityReply(first=first, last=last, rows=list(rows)))

    def _days(self, query: Any) -> tuple[date, date, list[Problem]]:
        today = self._clock.now().astimezone(UTC).date()
        problems: list[Problem] = []

        def day(name: str, usual: date) -> date:
            try:
                return date.fromisoformat(query[name]) if name in query else usual
            except ValueError:
                problems.append(_problem(name, "is no day such as 2026-03-31"))
                return usual

        last = day("to", today)
        return day("from", window(last, SHOWN_DAYS)[0]), last, problems


def _problem(field: str, message: str) -> Problem:
    return Problem(field=field, message=message, hint="see /docs for what this call takes")


def _refusal(problems: Iterable[Problem]) -> Refusal:
    return Refusal(
        status=422,
        title="Request not valid",
        detail="There is no such report.",
        problems=tuple(problems),
    )


def _reply(made: Report, until: datetime | None) -> ReportReply:
    return ReportReply(
        report=made.name,
        by=made.by,
        first=made.first,
        last=made.last,
        until=until,
        columns=[
            ReportColumn(name=one.name, kind=one.kind, meaning=one.meaning) for one in made.columns
        ],
        lines=[plain(made, line) for line in made.lines],
        totals=[plain(made, line) for line in made.totals],
    )


def _csv(made: Report) -> web.Response:
    """The lines as a file that no spreadsheet runs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    names = [one.name for one in made.columns]
    writer.writerow([made.by, "currency", *names])
    for line in made.lines:
        said = plain(made, line)
        cells = [said[name] for name in (made.by, "currency", *names)]
        writer.writerow([safe(cell) if isinstance(cell, str) else cell for cell in cells])
    return web.Response(text=text.getvalue(), content_type="text/csv", charset="utf-8")
