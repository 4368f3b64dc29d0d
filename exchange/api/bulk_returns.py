"""Returns by the list: what buyers ask for and finance decides, many in one call, each by itself.

A line that cannot be taken is refused by itself and stands in the answer with its problem; the
others are carried out all the same. Sending a list again changes nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from exchange.api import errors
from exchange.api.buyer import PROBLEMS
from exchange.api.door import Asked, Door, Limit, Refused, json_response
from exchange.api.errors import ProblemDetails
from exchange.api.return_messages import DecideRequest, ReturnReply, ReturnRequest, reply_of
from exchange.api.routes import Route
from exchange.core.csv_text import BadCsv, csv_rows
from exchange.core.messages import Refusal
from exchange.core.reasons import EVIDENCE
from exchange.core.return_cases import REASONS
from exchange.core.return_matching import claim_key
from exchange.core.returns import ReturnClaim
from exchange.flows.bulk_returns import Told, one_by_one
from exchange.flows.returns import Answered, Asking, Returns, Verdict

DECISIONS_MAX: Final = 200
"""Returns decided by one call: what one person has looked at for one reason."""
COLUMNS: Final = ("sale_id", "lead_id", "reason", "key")
"""What a CSV may have, beside the names of evidence."""


class BulkLine(ReturnRequest, frozen=True, kw_only=True):
    """A claim of a list. The same claim of the same sale is one return, however often it is
    sent."""

    key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)] | None,
        Meta(description="Your own id of this claim, as an Idempotency-Key."),
    ] = None


class BulkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Claims, in the order they are to be decided: earlier ones take the room under limits."""

    returns: list[BulkLine]


class _Unread(msgspec.Struct, frozen=True, kw_only=True):
    returns: list[msgspec.Raw]


class BulkResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a line: its return, or the problem for which it was not asked for or decided.
    `line` counts from 1; of a CSV it is the line of the text."""

    line: int
    case: ReturnReply | None = None
    problem: ProblemDetails | None = None
    replayed: bool = False


class BulkReply(msgspec.Struct, frozen=True, kw_only=True):
    """Every line, in its order. `counts`: by the state of their returns, and `refused`."""

    lines: list[BulkResult]
    counts: dict[str, int]


class BulkDecideRequest(DecideRequest, frozen=True, kw_only=True):
    """A person's decision on several returns for one reason."""

    return_ids: Annotated[list[str], Meta(min_length=1, max_length=DECISIONS_MAX)]


ROUTES = (
    Route(
        method="POST",
        path="/v1/returns/bulk",
        operation="ask_returns",
        group="Buyers",
        role="buyer",
        summary="Give many leads back",
        description="Every line is decided by itself, in the order of the list, as `POST "
        "/v1/returns` does; one that cannot be taken stands in the answer with its problem and "
        "holds up no other. Send the list again if the call was cut short: nothing is done twice."
        "\n\nWith `Content-Type: text/csv` the body is a CSV in UTF-8 whose header has `sale_id` "
        "or `lead_id`, `reason`, perhaps `key`, and names of evidence such as `call_log`.",
        request=BulkRequest,
        response=BulkReply,
        problems=(400, 401, 403, 413, 415, 422, 500, 503),
        request_example={
            "returns": [
                {
                    "sale_id": "019a0000-0000-7000-8000-000000000001",
                    "reason": "disconnected",
                    "evidence": {"call_log": "CL-8841"},
                }
            ]
        },
    ),
    Route(
        method="POST",
        path="/v1/finance/returns/decide",
        operation="decide_returns",
        group="Finance",
        role="finance",
        summary="Decide on several referred or appealed returns for one reason",
        description="Each by itself, as deciding on one: what cannot be granted any more is denied "
        "by that rule, and one that waits for nobody stands in the answer with its problem.",
        request=BulkDecideRequest,
        response=BulkReply,
        problems=PROBLEMS,
        request_example={
            "return_ids": ["019a0000-0000-7000-8000-000000000001"],
            "outcome": "granted",
            "by": "Dana in finance",
            "why": "The recordings show another person.",
        },
    ),
)


class BulkApi:
    """Translates lists of returns to flows and back. `lines_max`, `bytes_max`: of one list."""

    def __init__(self, *, returns: Returns, limit: Limit, lines_max: int, bytes_max: int) -> None:
        self._returns, self._limit = returns, limit
        self._lines_max, self._bytes_max = lines_max, bytes_max

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        ask = door.guarded("buyer", self._ask, whole=self._bytes_max, limit=self._limit)
        decoder = msgspec.json.Decoder(BulkDecideRequest)
        decide = door.guarded("finance", self._decide, decoder=decoder, limit=self._limit)
        router.add_post("/v1/returns/bulk", ask)
        router.add_post("/v1/finance/returns/decide", decide)

    async def _ask(self, asked: Asked) -> web.Response:
        assert asked.key.party_id is not None, "a buyer's key speaks for a buyer"
        is_csv = asked.request.content_type == "text/csv"
        lines = list((_of_csv if is_csv else _of_json)(asked.message, self._lines_max))
        askings = [_asking(asked.key.party_id, line) for _, line in lines]
        told = await one_by_one(askings, self._returns.ask)
        return json_response(_reply([number for number, _ in lines], told, "sale"))

    async def _decide(self, asked: Asked) -> web.Response:
        said: BulkDecideRequest = asked.message
        verdict: Verdict = said.outcome

        async def step(return_id: str) -> Told:
            return await self._returns.decide(return_id, verdict, by=said.by, why=said.why)

        told = await one_by_one(dict.fromkeys(said.return_ids), step)
        return json_response(_reply(range(1, len(told) + 1), told, "return"))


# --- reading a list -------------------------------------------------------------------------------

Line = tuple[int, BulkLine | Refusal]


def _of_json(body: bytes, lines_max: int) -> Iterator[Line]:
    try:
        said = msgspec.json.decode(body, type=_Unread).returns
    except errors.UNREADABLE as bad:
        raise Refused(errors.bad_json(bad)) from None
    if len(said) > lines_max:
        raise Refused(_too_many(lines_max))
    for number, raw in enumerate(said, 1):
        try:
            yield number, msgspec.json.decode(raw, type=BulkLine)
        except errors.UNREADABLE as bad:
            yield number, errors.bad_json(bad)


def _of_csv(body: bytes, lines_max: int) -> Iterator[Line]:
    try:
        rows = list(csv_rows(body, rows_max=lines_max))
    except BadCsv as bad:
        raise Refused(errors.missing("body", str(bad), "see /docs", status=422)) from None
    header = [cell.lower() for cell in rows[0][1]] if rows else []
    known = (*COLUMNS, *EVIDENCE)
    if "reason" not in header or not {"sale_id", "lead_id"} & set(header):
        hint = f"columns are {', '.join(known)}"
        message = "the header names no sale_id or lead_id, or no reason"
        raise Refused(errors.missing("body", message, hint, status=422))
    if odd := [place for place, name in enumerate(header, 1) if name not in known]:
        hint = f"columns are {', '.join(known)}"
        message = f"column {odd[0]} of the header has no such name"
        raise Refused(errors.missing("body", message, hint, status=422))
    for number, cells in rows[1:]:
        said = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
        evidence = {name: said.pop(name) for name in EVIDENCE if name in said}
        try:
            yield number, msgspec.convert(said | {"evidence": evidence}, BulkLine)
        except msgspec.ValidationError as bad:
            yield number, errors.bad_json(bad)


def _too_many(lines_max: int) -> Refusal:
    return Refusal(
        status=413, title="Body too large", detail=f"A list has at most {lines_max} lines."
    )


def _asking(buyer_id: int, line: BulkLine | Refusal) -> Asking | Refusal:
    if isinstance(line, Refusal):
        return line
    named = line.sale_id or line.lead_id
    if named is None or (line.sale_id and line.lead_id):
        hint = "send sale_id or lead_id, one of them"
        return errors.missing("sale_id", "name the sale or its lead", hint, status=422)
    claim = ReturnClaim(reason=REASONS[line.reason], evidence=line.evidence)
    key = line.key or claim_key(named, claim)
    return Asking(buyer_id=buyer_id, of=named, claim=claim, idem_key=key)


# --- answering ------------------------------------------------------------------------------------


def _reply(
    numbers: Sequence[int], told: Sequence[Told], what: Literal["sale", "return"]
) -> BulkReply:
    lines = [_result(number, one, what) for number, one in zip(numbers, told, strict=True)]
    counts: dict[str, int] = {}
    for line in lines:
        state = line.case.state if line.case else "refused"
        counts[state] = counts.get(state, 0) + 1
    return BulkReply(lines=lines, counts=counts)


def _result(number: int, told: Told, what: str) -> BulkResult:
    if isinstance(told, Answered):
        return BulkResult(line=number, case=reply_of(told), replayed=told.replayed)
    refusal = errors.not_found(what) if told is None else told
    return BulkResult(line=number, problem=errors.details(refusal))
