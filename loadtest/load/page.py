"""The report as one HTML file that needs nothing else: no script, no font, no address."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from loadtest.load.figures import OTHERS, Added, BuyerFigures, Figures, PhaseFigures, Series
from loadtest.load.notes import Run
from loadtest.load.plots import Band, Line, number, plot
from loadtest.load.verdict import ADDED_P50_MS, ADDED_P99_MS, PAST_TMAX_MS, PhaseVerdict, Verdict

TEMPLATE: Final = Path(__file__).with_name("page.html")
COLOURS: Final = 8
OTHERS_COLOUR: Final = 7
SHOWN_LEAST: Final = 0.02
"""Of a core, or a MiB: less is a line on the floor."""
ADDED_SHOWN_MS: Final = 40.0
"""Higher than that the line leaves the plot: the budget is at 1 and 5."""
SERVERS: Final = ("worker", "exchange", "postgres", "valkey")
OURS: Final = ("generator", "buyers", "sampler")
PHASE_HEADS: Final = (
    *("phase", "leads/s", "pings/s", "posts/s", "added p50", "added p99", "ping p99 since due"),
    *(
        "since sent",
        "post p99 since due",
        "past tmax p99",
        "refused",
        "resent",
        "lost",
        "wrong",
        "verdict",
    ),
)
PART_NAMES: Final = {
    "commit": "durable commits",
    "reserve": "holds of caps",
    "deliver": "waiting for buyers",
}
NOTES: Final = """
<p><b>Two times.</b> <i>Since due</i> is what a seller feels: it counts from the moment the schedule
wanted the request, also when the load generator or the exchange was too busy to take it. <i>Since
sent</i> counts from when it left. Leads are spawned when they are due, whatever became of those
before; so a stall shows in every lead that came during it (no coordinated omission).</p>
<p><b>Added</b> is the exchange's own account: from reading a ping to writing its answer, less the
wait for the slowest buyer it waited for.</p>
<p><b>Expected</b> means that the answer fits what was sent: good leads are answered, bad ones are
refused in the right way, duplicates and retries are recognised. <b>Refused</b> is an honest no to
a good request (overloaded, rate, database or offers away). <b>Resent</b>: the connection closed
without a word, and the request was sent once more under the same key. <b>Past tmax</b> counts from
when a ping was sent, and is judged from outside.</p>
"""


def page(run: Run, figures: Figures, verdict: Verdict) -> str:
    """The whole page."""
    when = datetime.fromtimestamp(run.began, UTC).strftime("%Y-%m-%d %H:%M UTC")
    setup = [f"{name}: {value}" for name, value in run.setup.items()]
    asked = f"up to {run.rate:g} leads/s" if run.shape == "ramp" else f"{run.rate:g} leads/s"
    subtitle = [run.about, asked, f"{run.seconds:g} s", f"seed {run.seed}", *setup, when]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=f"Load: {escape(run.shape)}",
        subtitle=escape(" · ".join(subtitle)),
        styles=_styles(),
        verdict=_verdict(verdict),
        tiles=_tiles(figures),
        plots="".join(_plots(run, figures)),
        tables="".join(_tables(figures, verdict)),
        notes=NOTES,
    )


def _styles() -> str:
    return "\n".join(
        f"path.c{n} {{ stroke: var(--c{n}) }} rect.c{n} {{ fill: var(--c{n}) }} "
        f".key i.c{n} {{ background: var(--c{n}) }}"
        for n in range(COLOURS)
    )


def _verdict(verdict: Verdict) -> str:
    tone = "good" if verdict.holds and verdict.valid else "mid" if not verdict.valid else "bad"
    if verdict.holds and verdict.because:
        tone = "mid" if not verdict.valid else "good"
    reasons = "".join(f"<li>{escape(words)}</li>" for words in verdict.because)
    because = f"<ul>{reasons}</ul>" if reasons else ""
    return f'<section class="verdict {tone}"><p>{escape(verdict.headline)}</p>{because}</section>'


# --- tiles ----------------------------------------------------------------------------------------


def _tiles(figures: Figures) -> str:
    judged = [phase for phase in figures.phases if phase.judged] or figures.phases
    counts = _summed(phase.words for phase in judged)
    total = sum(counts.values())
    wrong = total - counts.get("expected", 0)
    busiest = max(judged, key=lambda phase: phase.rate)
    sold = sum(figures.outcomes.get(call, {}).get("sold", 0) for call in ("post", "direct"))
    tiles = [
        (f"{total:,}", f"requests, {number(busiest.leads_per_s)} leads/s at most"),
        (f"{wrong:,}", "answers not as expected"),
        *_added_tiles(judged),
        (
            f"{sum(phase.late for phase in judged):,}",
            f"pings {PAST_TMAX_MS:.0f} ms or more past tmax",
        ),
        (f"{sold:,}", "leads sold"),
        *(
            (_money(micros), f"{cur}, paid by buyers")
            for cur, micros in figures.revenue_micros.items()
        ),
    ]
    cells = "".join(f'<div class="tile"><b>{b}</b><span>{escape(s)}</span></div>' for b, s in tiles)
    return f'<section class="tiles">{cells}</section>'


def _added_tiles(judged: Sequence[PhaseFigures]) -> list[tuple[str, str]]:
    """Of the worst calm phase, for a mean would hide it."""
    calm = [one.added for one in judged if one.added and one.trouble == "none"]
    if not calm:
        return [("?", "added by the exchange")]
    worst = max(calm, key=lambda one: one.p99)
    return [
        (f"{worst.p50:.2f} ms", "added to a ping, p50 of the worst phase"),
        (f"{worst.p99:.2f} ms", "added to a ping, p99 of the worst phase"),
    ]


def _money(micros: int) -> str:
    return f"{micros // 1_000_000:,}"


# --- plots ----------------------------------------------------------------------------------------


def _plots(run: Run, figures: Figures) -> Iterable[str]:
    series, ends = figures.series, run.phases[-1].ends
    bands = [
        Band(name=phase.name, begins=phase.begins, ends=phase.ends, struck=phase.trouble != "none")
        for phase in run.phases
    ]
    drawn = partial(plot, at=series.at, ends=ends, bands=bands)
    yield from _plots_of_time(series, drawn)
    yield from _plots_of_work(series, drawn)


def _plots_of_time(series: Series, drawn: Callable[..., str]) -> Iterable[str]:
    yield drawn(
        title="Added by the exchange",
        unit="ms",
        lines=[
            Line(name="ping p50", values=series.added_p50, style="c0"),
            Line(name="ping p99", values=series.added_p99, style="c1"),
        ],
        limits=[(ADDED_P50_MS, "p50 budget"), (ADDED_P99_MS, "p99 budget")],
        most=ADDED_SHOWN_MS,
    )
    yield drawn(
        title="Time of a ping, buyers included",
        unit="ms",
        lines=[
            Line(name="p50 since due", values=series.due_p50, style="c0"),
            Line(name="p99 since sent", values=series.sent_p99, style="c2"),
            Line(name="p99 since due", values=series.due_p99, style="c1"),
        ],
    )
    yield drawn(
        title="Where a post's time goes, p99",
        unit="ms",
        lines=[
            Line(name=PART_NAMES[part], values=row, style=f"c{index}")
            for index, (part, row) in enumerate(series.part_p99.items())
        ],
    )
    yield drawn(
        title="Not as expected, and past tmax",
        unit="requests per window",
        lines=[
            Line(name="not as expected", values=series.not_expected, style="c4"),
            Line(name="past tmax", values=series.past_tmax, style="c3"),
        ],
        bars=True,
    )


def _plots_of_work(series: Series, drawn: Callable[..., str]) -> Iterable[str]:
    yield drawn(
        title="Requests",
        unit="per second",
        lines=[
            Line(name="due", values=series.due, style="c7"),
            Line(name="answered", values=series.answered, style="c0"),
        ],
    )
    yield drawn(
        title="Revenue",
        unit="per minute",
        lines=[
            Line(name=currency, values=row, style=f"c{index + 2}")
            for index, (currency, row) in enumerate(series.revenue.items())
        ],
        bars=True,
    )
    yield drawn(title="CPU", unit="cores", lines=_groups(series.cpu))
    memory = {g: row for g, row in series.memory.items() if g.startswith(("worker", "exchange"))}
    yield drawn(title="Memory", unit="MiB", lines=_groups(memory))


def _groups(rows: dict[str, list[float]]) -> list[Line]:
    """The generator and its kin first, then the servers; who hardly works is left out. Others are
    grey: they are no part of it."""
    shown = [group for group, row in rows.items() if max(row, default=0.0) >= SHOWN_LEAST]
    order = sorted(shown, key=lambda group: (group not in OURS, group))
    styles = {group: f"c{index % OTHERS_COLOUR}" for index, group in enumerate(order)}
    styles[OTHERS] = f"c{OTHERS_COLOUR}"
    return [Line(name=group, values=rows[group], style=styles[group]) for group in order]


# --- tables ---------------------------------------------------------------------------------------


def _tables(figures: Figures, verdict: Verdict) -> Iterable[str]:
    judged = {one.name: one for one in verdict.phases}
    yield _table(
        "Phases",
        PHASE_HEADS,
        [_phase_row(phase, judged.get(phase.name)) for phase in figures.phases],
        text=(len(PHASE_HEADS) - 1,),
    )
    groups = sorted({group for phase in figures.phases for group in phase.cpu})
    groups.sort(key=lambda group: (group not in OURS, not group.startswith(SERVERS), group))
    yield _table(
        "CPU, cores used (generator and buyers apart from the servers)",
        ("phase", *groups, "machine busy", "generator late p99 ms"),
        [
            [
                phase.name,
                *(f"{phase.cpu.get(group, 0.0):.2f}" for group in groups),
                f"{phase.busy:.0%}",
                f"{phase.start_late.p99:.1f}",
            ]
            for phase in figures.phases
        ],
    )
    yield _buyers(figures.buyers)
    yield _table(
        "What was sent, and whether the answers fit",
        ("kind", "expected", "refused", "lost", "wrong"),
        [
            [
                kind,
                *(f"{counts.get(word, 0):,}" for word in ("expected", "refused", "lost", "wrong")),
            ]
            for kind, counts in figures.kinds.items()
        ],
    )
    yield _table(
        "What came of it",
        ("call", "answers"),
        [
            [call, ", ".join(f"{count:,} {what}" for what, count in counts.items())]
            for call, counts in figures.outcomes.items()
        ],
        text=(1,),
    )
    yield _table(
        "Errors by kind",
        ("word", "call", "kind of lead", "what", "count", "first at"),
        [
            [one.word, one.call, one.kind, one.what, f"{one.count:,}", f"{one.first_at:.1f} s"]
            for one in figures.unexpected
        ]
        or [["none"]],
        text=(1, 2, 3),
    )


def _phase_row(phase: PhaseFigures, judged: PhaseVerdict | None) -> list[str]:
    added = phase.added or Added(count=0, p50=0.0, p99=0.0, under_1ms=0.0, under_5ms=0.0)
    said = "warms up" if judged is None else "holds" if judged.holds else ""
    if judged is not None and not judged.holds:
        said = f"not valid: {judged.invalid}" if judged.invalid else "; ".join(judged.missed)
    return [
        phase.name,
        *(number(one) for one in (phase.leads_per_s, phase.pings_per_s, phase.posts_per_s)),
        *((f"{added.p50:.2f}", f"{added.p99:.2f}") if added.count else ("?", "?")),
        *(number(one) for one in (phase.ping_due.p99, phase.ping_sent.p99, phase.post_due.p99)),
        number(phase.past_tmax_p99),
        f"{phase.words.get('refused', 0):,}",
        f"{phase.resent:,}",
        *(f"{phase.words.get(word, 0):,}" for word in ("lost", "wrong")),
        said,
    ]


def _buyers(buyers: dict[str, BuyerFigures]) -> str:
    answers = sorted({word for one in buyers.values() for word in one.answers})
    answers.sort(key=lambda word: (word != "bid", word != "no_bid", word))
    deliveries = sorted({word for one in buyers.values() for word in one.deliveries})
    is_priced = any(one.price_micros for one in buyers.values())
    rows = [
        [
            buyer,
            *(f"{one.answers.get(word, 0):,}" for word in answers),
            *(f"{one.deliveries.get(word, 0):,}" for word in deliveries),
            *([_money(sum(one.price_micros.values()))] if is_priced else []),
        ]
        for buyer, one in buyers.items()
    ]
    heads = ("buyer", *answers, *(f"post {word}" for word in deliveries))
    heads += ("paid",) if is_priced else ()
    return _table("Buyers: how bids and deliveries ended", heads, rows or [["no metrics"]])


def _table(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = ()
) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{_class(index, cell, text)}>{escape(cell.replace('_', ' '))}</{tag}>"
            for index, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f'<h2>{escape(title)}</h2><div class="table"><table><thead><tr>{cells(heads, "th")}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _class(index: int, cell: str, text: Sequence[int]) -> str:
    tone = "good" if cell == "holds" else ""
    words = " ".join(word for word in ("text" if index in text else "", tone) if word)
    return f' class="{words}"' if words else ""


def _summed(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total
