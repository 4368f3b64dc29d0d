"""A buyer's sheet of returns: read, matched, decided line by line, as a preview or for good.

Booking is the same flow as the API's, a transaction a line, in the order of the file. A preview is
the same decision on the same books, with the earlier lines of the file laid over them, and writes
nothing of a return. Both remember how the buyer's sheet was to be read.

What is held of the sheet are ids, days, reasons and keyed hashes; its rows are read and let go.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from exchange.core.messages import Refusal
from exchange.core.model import Fact
from exchange.core.partner_lines import Side
from exchange.core.partner_sheet import Hashed, layout_of, words_of
from exchange.core.return_ahead import Ahead
from exchange.core.return_cases import ReturnCase
from exchange.core.return_matching import Found, Matched, Terms, claim_key, matched
from exchange.core.return_sheet import FLAGS, WORDS, Flag, ReturnLine, ReturnReader, SheetField
from exchange.core.returns import SENTENCES, ReturnClaim
from exchange.core.sheet_words import Learnt, SheetWord, is_sayable, learnt_of, news
from exchange.effects.clock import Clock
from exchange.effects.postgres import DatabaseDown
from exchange.effects.reconciliation import Partner
from exchange.effects.return_sheets import ReturnSheets
from exchange.flows.partner_file import zone_of
from exchange.flows.returns import Answered, Asking, Returns

LOOK_BACK_DAYS: Final = 400
"""How old a sale may be that a line means: no window is longer than a year (`return_checks`), and a
line that comes too late is told so, not that there was no sale."""
AROUND_DAYS: Final = 2
"""Days added to the tolerance when posts are looked for: a lead's day is UTC's, and its post may
come after midnight."""
AT_ONCE: Final = 4
"""Contracts decided at once: as many as a command has connections."""
WAITING: Final = frozenset({"referred", "appealed", "requested"})
"""States in which a return waits for a person."""


class Partners(Protocol):
    """Who knows the buyers."""

    async def partner(self, side: Side, key: str) -> Partner | None: ...


class CannotImport(Exception):
    """Something is missing that must not be guessed; the message says what, in a sentence."""


class SheetAsked(Fact, frozen=True, kw_only=True):
    """What is to be done with a buyer's sheet. `taught`: what its words mean, said now."""

    buyer: str
    by: str
    book: bool = False
    taught: tuple[SheetWord, ...] = ()
    zone: str | None = None
    tolerance_days: int = 1
    undated: bool = False


class LineResult(Fact, frozen=True, kw_only=True, gc=False):
    """What became of a line. `flag`: nothing was asked for it, and `says` tells why. `twin_of`: an
    earlier line that is the same return; its money counts there. `replayed`: the return was there
    before this import. `seller`: its key, `external_id` its own id of the lead."""

    line: int
    says: str
    flag: Flag | None = None
    matched_by: str = ""
    case: ReturnCase | None = None
    seller: str = ""
    external_id: str | None = None
    replayed: bool = False
    twin_of: int | None = None

    @property
    def state(self) -> str:
        """The return's state, or `flagged`."""
        return "flagged" if self.case is None else self.case.state

    @property
    def rule(self) -> str:
        """The rule that decided, or the flag."""
        return str(self.flag or "") if self.case is None else self.case.rule or ""

    @property
    def counts(self) -> bool:
        """Whether its money is counted here."""
        return self.case is not None and self.twin_of is None and self.case.state == "granted"


class SheetTotal(Fact, frozen=True, kw_only=True):
    """What the lines come to in one currency: credited to the buyer, taken back from sellers, borne
    by the house. `before`: what of the credit was booked before this import."""

    currency: str
    lines: int
    credit_micros: int
    clawback_micros: int
    before_micros: int

    @property
    def borne_micros(self) -> int:
        return self.credit_micros - self.clawback_micros


class SheetDone(Fact, frozen=True, kw_only=True):
    """The result. `columns`: what was read as what; `width`: the columns of the widest row;
    `counts`: lines by state; `rules`: by rule or flag."""

    buyer: str
    zone: str
    booked: bool
    columns: Mapping[str, str]
    width: int
    counts: Mapping[str, int]
    rules: Mapping[str, int]
    totals: tuple[SheetTotal, ...]
    lines: tuple[LineResult, ...]

    @property
    def needs_a_person(self) -> int:
        """Lines that wait for somebody."""
        return sum(one.case is None or one.state in WAITING for one in self.lines)


class Tick(Protocol):
    """Told how far it is: what is being done, so many lines more, of how many."""

    def __call__(self, what: str, more: int, total: int | None = None) -> None: ...


class SheetReturns:
    """Imports sheets of returns."""

    def __init__(
        self,
        *,
        returns: Returns,
        sheets: ReturnSheets,
        partners: Partners,
        clock: Clock,
        hashed: Hashed,
        tick: Tick,
    ) -> None:
        self._returns, self._sheets, self._partners = returns, sheets, partners
        self._clock, self._hashed, self._tick = clock, hashed, tick

    async def learnt(self, buyer: str) -> Learnt:
        """What is known of a buyer's sheets. Raises `CannotImport`."""
        return learnt_of(await self._sheets.words((await self._partner(buyer)).id))

    async def teach(self, buyer: str, words: Sequence[SheetWord], *, by: str) -> None:
        """Remember what a buyer's words mean. Raises `CannotImport`."""
        partner = await self._partner(buyer)
        known = await self._sheets.words(partner.id)
        await self._sheets.learn(partner.id, news(words, known), by=by)

    async def bring_in(
        self, asked: SheetAsked, rows: Iterator[tuple[int, Sequence[Any]]]
    ) -> SheetDone:
        """Decides on a sheet's rows (the header first). Raises `CannotImport`, and what reading
        the rows raises, before anything is booked."""
        partner = await self._partner(asked.buyer)
        zone = zone_of(asked.zone or partner.time_zone)
        known = await self._sheets.words(partner.id)
        learnt = learnt_of((*known, *asked.taught))
        columns, width, lines = self._read(rows, learnt, asked, zone)
        found = await self._found(partner, lines, asked)
        terms = Terms(zone=zone, tolerance_days=asked.tolerance_days, undated=asked.undated)
        results = await self._decided(partner.id, lines, found, terms, book=asked.book)
        await self._remember(partner.id, asked, known, columns)
        done = _done(asked, zone.key, columns, width, results)
        if asked.book:
            await self._sheets.note(asked.by, asked.buyer, _audited(done))
        return done

    # --- parts ------------------------------------------------------------------------------------

    async def _partner(self, buyer: str) -> Partner:
        partner = await self._partners.partner("buyer", buyer)
        if partner is None:
            raise CannotImport(f"there is no buyer {buyer}")
        return partner

    def _read(
        self,
        rows: Iterator[tuple[int, Sequence[Any]]],
        learnt: Learnt,
        asked: SheetAsked,
        zone: ZoneInfo,
    ) -> tuple[dict[SheetField, str], int, list[ReturnLine]]:
        header = next(rows)[1]
        told = {one.meaning for one in asked.taught if one.kind == "column"}
        layout = layout_of(header, _named(learnt, header, told), WORDS)
        if "reason" not in layout.places:
            raise CannotImport("no column holds the reason; name it with --column reason='Header'")
        reader = ReturnReader(
            layout,
            hashed=self._hashed,
            zone=zone,
            day_order=learnt.day_order,
            learnt=learnt.reasons,
        )
        lines, width = [], len(header)
        for number, cells in rows:
            width = max(width, len(cells))
            lines.append(reader.line(number, cells))
            self._tick("lines", 1)
        return layout.headers, width, lines

    async def _found(
        self, partner: Partner, lines: Sequence[ReturnLine], asked: SheetAsked
    ) -> Found:
        today = self._clock.now().astimezone(UTC).date()
        return await self._sheets.found(
            partner.id,
            [line for line in lines if line.flag is None],
            since=today - timedelta(days=LOOK_BACK_DAYS),
            until=today + timedelta(days=1),
            around_days=asked.tolerance_days + AROUND_DAYS,
            tick=lambda more: self._tick("sales looked for", more, len(lines)),
        )

    async def _decided(
        self,
        buyer_id: int,
        lines: Sequence[ReturnLine],
        found: Found,
        terms: Terms,
        *,
        book: bool,
    ) -> list[LineResult]:
        """Lines of one contract are decided in their order, for they share its limits; contracts
        beside one another, for each waits for its own commits."""
        results: dict[int, LineResult] = {}
        of_contract: defaultdict[int, list[tuple[int, ReturnLine, Matched]]] = defaultdict(list)
        for place, line in enumerate(lines):
            hit = line.flag or matched(line, found, terms)
            if isinstance(hit, Flag):
                results[place] = _flagged(line, hit)
                self._tick("decided", 1, len(lines))
            else:
                of_contract[hit.sale.contract_id].append((place, line, hit))
        ahead, gate, down = None if book else Ahead(), asyncio.Semaphore(AT_ONCE), asyncio.Event()

        async def decide(hits: list[tuple[int, ReturnLine, Matched]]) -> None:
            async with gate:
                for place, line, hit in hits:
                    results[place] = await self._tried(buyer_id, line, hit, ahead, down)
                    self._tick("decided", 1, len(lines))

        async with asyncio.TaskGroup() as group:
            for hits in of_contract.values():
                group.create_task(decide(hits))
        first = dict[str, int]()
        return [_once(results[place], first) for place in range(len(lines))]

    async def _tried(
        self,
        buyer_id: int,
        line: ReturnLine,
        hit: Matched,
        ahead: Ahead | None,
        down: asyncio.Event,
    ) -> LineResult:
        """As `_asked`; once the database is down nothing more is tried."""
        if not down.is_set():
            try:
                return await self._asked(buyer_id, line, hit, ahead)
            except DatabaseDown:
                down.set()
        return _flagged(line, Flag.NOT_DONE)

    async def _asked(
        self, buyer_id: int, line: ReturnLine, hit: Matched, ahead: Ahead | None
    ) -> LineResult:
        """The line's return: asked for, or foreseen with what is `ahead` of it."""
        assert line.reason is not None, "a line without a reason is flagged"
        claim = ReturnClaim(reason=line.reason, evidence=line.evidence)
        sale_id = hit.sale.attempt_id
        asking = Asking(
            buyer_id=buyer_id, of=sale_id, claim=claim, idem_key=claim_key(sale_id, claim)
        )
        if ahead is None:
            answered = await self._returns.ask(asking)
        else:
            answered = await self._returns.foresee(asking, ahead)
        if answered is None:
            return _flagged(line, Flag.NO_SALE)
        if isinstance(answered, Refusal):
            return _flagged(line, Flag.REFUSED, answered.detail)
        return _result(line, hit, answered)

    async def _remember(
        self,
        buyer_id: int,
        asked: SheetAsked,
        known: Sequence[SheetWord],
        columns: Mapping[SheetField, str],
    ) -> None:
        """What was taught, and under which headers the fields were found."""
        found = tuple(
            SheetWord(kind="column", said=header, meaning=field)
            for field, header in columns.items()
            if is_sayable(header)
        )
        await self._sheets.learn(buyer_id, news((*asked.taught, *found), known), by=asked.by)


def _named(learnt: Learnt, header: Sequence[Any], told: set[str]) -> dict[SheetField, str]:
    """The columns that are known by name. One that was only learnt, and that this sheet does not
    have, is looked for by the words of the trade as if it never was."""
    there = {words_of(str(cell)) for cell in header if cell is not None}
    return {
        field: said
        for field, said in learnt.columns.items()
        if field in told or words_of(said) in there
    }


def _flagged(line: ReturnLine, flag: Flag, says: str = "") -> LineResult:
    return LineResult(line=line.line, flag=flag, says=says or FLAGS[flag])


def _result(line: ReturnLine, hit: Matched, answered: Answered) -> LineResult:
    return LineResult(
        line=line.line,
        says=SENTENCES.get(answered.case.rule or "", ""),
        matched_by=hit.by,
        case=answered.case,
        seller=hit.sale.seller,
        external_id=hit.sale.external_id,
        replayed=answered.replayed,
    )


def _once(result: LineResult, first: dict[str, int]) -> LineResult:
    """The result, as that of an earlier line where it is the same return."""
    if result.case is None:
        return result
    line = first.setdefault(result.case.return_id, result.line)
    return result if line == result.line else replace(result, twin_of=line)


def _done(
    asked: SheetAsked,
    zone: str,
    columns: Mapping[SheetField, str],
    width: int,
    results: Sequence[LineResult],
) -> SheetDone:
    totals: dict[str, Counter[str]] = {}
    for one in results:
        if one.case is not None and one.counts:
            sums = totals.setdefault(one.case.currency, Counter())
            before = one.case.credit_micros if one.replayed else 0
            sums.update(
                lines=1,
                credit_micros=one.case.credit_micros,
                clawback_micros=one.case.clawback_micros,
                before_micros=before,
            )
    return SheetDone(
        buyer=asked.buyer,
        zone=zone,
        booked=asked.book,
        columns={str(field): header for field, header in columns.items()},
        width=width,
        counts=Counter(one.state for one in results),
        rules=Counter(one.rule for one in results),
        totals=tuple(
            SheetTotal(currency=currency, **sums) for currency, sums in sorted(totals.items())
        ),
        lines=tuple(results),
    )


def _audited(done: SheetDone) -> dict[str, Any]:
    return {
        "lines": len(done.lines),
        "counts": dict(done.counts),
        "credit_micros": {one.currency: one.credit_micros for one in done.totals},
    }
