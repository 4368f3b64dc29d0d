"""Documents over HTTP: to finance all of them, to buyers and sellers their own, as issued."""

from datetime import date
from typing import Annotated, Final, get_args
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web
from msgspec import Meta

from exchange.api import errors
from exchange.api.door import Asked, Door, Limit, Refused, json_response
from exchange.api.routes import Parameter, Route
from exchange.core.documents import DocumentKind, is_number
from exchange.core.messages import PRINTED, Refusal
from exchange.core.model import Role
from exchange.core.money import text_of
from exchange.core.statements import Period
from exchange.core.terms import HouseTerms
from exchange.effects.clock import Clock
from exchange.effects.documents import DocumentStore, Kept, Listed, PeriodBooks
from exchange.effects.papers.document_pdf import document_pdf
from exchange.effects.postgres import Database
from exchange.flows.documents import Asked as Issue
from exchange.flows.documents import NotIssued, Told, issue

PAGE_MAX: Final = 200
DRAWN_AT_ONCE: Final = 2
"""Drawing a long document keeps the worker for a second."""
PROBLEMS: Final = (401, 403, 404, 422, 500, 503)
Named = Annotated[str, Meta(min_length=1, max_length=100, pattern=PRINTED)]
PAGE: Final = (
    Parameter(name="kind", place="query", description="Only this kind.", type=DocumentKind),
    Parameter(name="before", place="query", description="The `next` of the page before."),
    Parameter(name="limit", place="query", description=f"How many, 1 to {PAGE_MAX}.", type=int),
)
PARTY: Final = Parameter(name="party", place="query", description="Only this buyer's or seller's.")


class DocumentReply(msgspec.Struct, frozen=True, kw_only=True):
    """A document. Amounts are decimal strings that move the party's balance: a credit memo is below
    zero. `paid` is what payments cover of it; `sha256` is of the content as issued."""

    number: str
    kind: DocumentKind
    party: str
    currency: str
    first_day: date
    last_day: date
    zone: str
    issued_on: date
    due_on: date
    total: str
    paid: str
    lines: int
    cites: list[str]
    cancelled_by: str | None
    sha256: str


class DocumentsReply(msgspec.Struct, frozen=True, kw_only=True):
    """Documents, the newest first. `next`: send it as `before` for the page after."""

    documents: list[DocumentReply]
    next: str | None = None


class DocumentContent(msgspec.Struct, frozen=True, kw_only=True):
    """What a document says, as it was issued: canonical JSON (RFC 8785), whose SHA-256 the listing
    tells. A line is day, kind, id, item, reference, what it takes back of, amount."""

    form: int
    number: str
    kind: DocumentKind
    currency: str
    total: str
    lines: list[list[str]]


class IssueRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whose period is to be issued. Whole days of `zone`, both included; the period has ended."""

    party: Named
    first_day: date
    last_day: date
    zone: Annotated[str, Meta(max_length=64, pattern=PRINTED)] = "UTC"
    by: Named


class IssuedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One document of the period; `new` is false for one that was in force before."""

    number: str
    kind: DocumentKind
    currency: str
    total: str
    new: bool


class IssueReply(msgspec.Struct, frozen=True, kw_only=True):
    """The documents of the period."""

    documents: list[IssuedDocument]


def _reading(role: Role, path: str, group: str, whose: str) -> tuple[Route, ...]:
    listed = (*PAGE, PARTY) if role == "finance" else PAGE
    return (
        Route(
            method="GET",
            path=path,
            operation=f"{role}_documents",
            group=group,
            role=role,
            summary=f"{whose}: invoices, credit memos, payout statements",
            parameters=listed,
            response=DocumentsReply,
            problems=PROBLEMS,
        ),
        Route(
            method="GET",
            path=f"{path}/{{number}}",
            operation=f"{role}_document",
            group=group,
            role=role,
            summary="A document as it was issued",
            response=DocumentContent,
            problems=PROBLEMS,
        ),
        Route(
            method="GET",
            path=f"{path}/{{number}}/pdf",
            operation=f"{role}_document_pdf",
            group=group,
            role=role,
            summary="A document as PDF",
            response=bytes,
            media_type="application/pdf",
            problems=PROBLEMS,
        ),
    )


READERS: Final[tuple[tuple[Role, str], ...]] = (
    ("buyer", "/v1/documents/buying"),
    ("seller", "/v1/documents/selling"),
    ("finance", "/v1/finance/documents"),
)
ROUTES: Final = (
    *_reading("buyer", READERS[0][1], "Buyers", "Your documents"),
    *_reading("seller", READERS[1][1], "Sellers", "Your documents"),
    *_reading("finance", READERS[2][1], "Finance", "All documents"),
    Route(
        method="POST",
        path="/v1/finance/documents/issue",
        operation="issue_documents",
        group="Finance",
        role="finance",
        summary="Issue the documents of one party's period",
        description="Asking again issues nothing twice: what is covered is answered with its "
        "document. A month-end of all parties is `exchange documents issue`.",
        request=IssueRequest,
        response=IssueReply,
        problems=(400, 401, 403, 413, 415, 422, 500, 503),
        request_example={
            "party": "acme", "first_day": "2026-10-01", "last_day": "2026-10-31",
            "zone": "America/Chicago", "by": "Dana in finance",
        },
    ),
)  # fmt: skip


class DocumentsApi:
    """Translates calls about documents to flows and back."""

    def __init__(
        self, *, store: DocumentStore, database: Database, clock: Clock, house: HouseTerms
    ) -> None:
        self._store, self._database = store, database
        self._clock, self._house = clock, house

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        limit = Limit("documents_at_once", DRAWN_AT_ONCE)
        decoder = msgspec.json.Decoder(IssueRequest)
        issued = door.guarded("finance", self._issued, decoder=decoder, limit=limit)
        router.add_post("/v1/finance/documents/issue", issued)
        for role, path in READERS:
            router.add_get(path, door.guarded(role, self._listed))
            router.add_get(f"{path}/{{number}}", door.guarded(role, self._one))
            router.add_get(f"{path}/{{number}}/pdf", door.guarded(role, self._pdf, limit=limit))

    async def _listed(self, asked: Asked) -> web.Response:
        query = asked.request.query
        kind, limit = query.get("kind"), query.get("limit", "100")
        if kind is not None and kind not in get_args(DocumentKind):
            hint = ", ".join(get_args(DocumentKind))
            raise Refused(errors.missing("kind", "there is no such kind", hint, status=422))
        if not (limit.isascii() and limit.isdigit() and 0 < int(limit[:9]) <= PAGE_MAX):
            hint = f"1 to {PAGE_MAX}"
            raise Refused(errors.missing("limit", "is no number of documents", hint, status=422))
        before = query.get("before")
        if before is not None and not is_number(before):
            hint = "the `next` of the page before"
            raise Refused(errors.missing("before", "is no number", hint, status=422))
        party_id = asked.key.party_id
        if party_id is None and "party" in query:
            party_id = await self._party_id(query["party"])
        rows = await self._store.listing(
            party_id=party_id, kind=kind, before=before, limit=int(limit)
        )
        more = rows[-1].number if len(rows) == int(limit) else None
        return json_response(DocumentsReply(documents=[_told(row) for row in rows], next=more))

    async def _party_id(self, key: str) -> int:
        found = await self._store.party(key) if key.isprintable() else ()
        if len(found) != 1:
            hint = "buyer:KEY or seller:KEY" if found else ""
            message = "is a buyer and a seller" if found else "there is no such party"
            raise Refused(errors.missing("party", message, hint, status=422))
        return found[0].id

    async def _one(self, asked: Asked) -> web.Response:
        kept = await self._kept(asked)
        return web.Response(body=kept.document.content, content_type="application/json")

    async def _pdf(self, asked: Asked) -> web.Response:
        kept = await self._kept(asked)
        response = web.Response(body=document_pdf(kept.content()), content_type="application/pdf")
        name = kept.document.number
        response.headers["Content-Disposition"] = f'attachment; filename="{name}.pdf"'
        return response

    async def _kept(self, asked: Asked) -> Kept:
        """The document asked for; one of another party is not there."""
        number = asked.request.match_info["number"]
        kept = None
        if is_number(number):
            kept = await self._store.one(number, asked.key.party_id)
        if kept is None:
            raise Refused(errors.not_found("document"))
        return kept

    async def _issued(self, asked: Asked) -> web.Response:
        said: IssueRequest = asked.message
        told: list[Told] = []
        try:
            period = Period(first=said.first_day, last=said.last_day, zone=ZoneInfo(said.zone))
            async with self._database.transaction() as connection:
                await issue(
                    Issue(period=period, by=said.by, parties=(said.party,)),
                    books=PeriodBooks(connection),
                    store=self._store,
                    clock=self._clock,
                    house=self._house,
                    tell=told.append,
                )
        except NotIssued as bad:
            raise Refused(_refusal(str(bad))) from None
        except (KeyError, ValueError, OSError):
            raise Refused(_refusal("the period is none, or its zone is not there")) from None
        return json_response(IssueReply(documents=[_told_of(one) for one in told]))


def _refusal(words: str) -> Refusal:
    return errors.missing("first_day", words, "", status=422)


def _told(row: Listed) -> DocumentReply:
    return DocumentReply(
        number=row.number,
        kind=row.kind,
        party=row.party,
        currency=row.currency,
        first_day=row.first_day,
        last_day=row.last_day,
        zone=row.zone,
        issued_on=row.issued_on,
        due_on=row.due_on,
        total=text_of(row.total_micros),
        paid=text_of(row.paid_micros),
        lines=row.line_count,
        cites=list(row.cites),
        cancelled_by=row.cancelled_by,
        sha256=row.hash,
    )


def _told_of(one: Told) -> IssuedDocument:
    return IssuedDocument(
        number=one.number,
        kind=one.kind,
        currency=one.currency,
        total=text_of(one.total_micros),
        new=one.new,
    )
