"""The figures against the budget, in words an operator can act on.

A phase holds when every answer was as expected and in time. What is judged depends on what struck
in it: while Valkey is down or five times the leads come, an honest refusal is a good answer and the
exchange may add more than its budget; a wrong answer, a lost one, or one far past `tmax` never is.
A phase in which the generator or the simulated buyers were the bottleneck, or something else took
the machine, says nothing about the exchange: the run is not valid there, and says so.
"""

from collections.abc import Iterator, Sequence

import msgspec

from loadtest.load.figures import OTHERS, Figures, PhaseFigures
from loadtest.load.notes import Run

ADDED_P50_MS, ADDED_P99_MS, PAST_TMAX_MS = 1.0, 5.0, 5.0
REFUSED_SHARE_MAX = 0.001
"""Of calm phases' answers."""
CORE_FULL = 0.85
"""Of a core: what a process of one thread may use before its own queue is what is measured."""
START_LATE_MS_MAX = 25.0
"""How far the generator may be behind its schedule at p99."""
OTHERS_MAX = 0.3
"""Cores that anything else on the machine may use before it is part of what is measured."""
MACHINE_FULL = 0.95
RAMP_TOLD = 2
"""Of a ramp's steps that did not hold, the first say where the limit is; the rest is beyond it."""
GROWTH_MAX = 1.05
"""Of a worker's memory, from the second to the last part of a soak."""


class PhaseVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """`missed` in sentences; `invalid` says why the phase proves nothing, if so."""

    name: str
    rate: float
    holds: bool
    missed: list[str]
    invalid: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`carries`: the highest rate of leads a second that held, with every lower one. `valid`:
    nothing but the exchange was the bottleneck. `headline` and `because` are for people."""

    holds: bool
    valid: bool
    carries: float | None
    headline: str
    because: list[str]
    phases: list[PhaseVerdict]


def verdict(run: Run, figures: Figures) -> Verdict:
    """Judge a run."""
    phases = [_judged(phase) for phase in figures.phases if phase.judged]
    if phases:
        phases[-1] = _at_the_end(phases[-1], run, figures)
    carried = _carried(figures, phases)
    failed = [phase for phase in phases if not phase.holds]
    valid = not any(phase.invalid for phase in phases)
    told = failed[:RAMP_TOLD] if run.shape == "ramp" else failed
    because = [f"{phase.name}: {words}" for phase in told for words in _why(phase)]
    because += _bounded(figures, {phase.name for phase in failed[:1]})
    holds = carried is not None if run.shape == "ramp" else not failed
    return Verdict(
        holds=holds and bool(phases),
        valid=valid,
        carries=carried,
        headline=_headline(run, carried, failed, valid),
        because=because,
        phases=phases,
    )


def _at_the_end(last: PhaseVerdict, run: Run, figures: Figures) -> PhaseVerdict:
    """The last phase, with what only the end shows."""
    missed = [*last.missed, *_grown(run, figures)]
    missed += [run.ended_early] if run.ended_early else []
    return msgspec.structs.replace(last, holds=last.holds and not missed, missed=missed)


def _judged(phase: PhaseFigures) -> PhaseVerdict:
    missed = list(_missed(phase))
    invalid = _bottleneck(phase)
    return PhaseVerdict(
        name=phase.name,
        rate=phase.rate,
        holds=not missed and not invalid,
        missed=missed,
        invalid=invalid,
    )


def _missed(phase: PhaseFigures) -> Iterator[str]:
    words, total = phase.words, sum(phase.words.values())
    if not total:
        yield "nothing was asked"
        return
    if words["wrong"]:
        yield f"{words['wrong']} answers did not fit their input"
    if words["lost"]:
        yield f"{words['lost']} requests had no answer"
    if phase.trouble in ("none", "churn") and words["refused"] > total * REFUSED_SHARE_MAX:
        yield f"{words['refused']} good requests of {total} were refused"
    if phase.past_tmax_p99 > PAST_TMAX_MS:
        past = f"{phase.past_tmax_p99:.0f} ms past tmax (at most {PAST_TMAX_MS:.0f} ms)"
        yield f"p99 of pings is {past}"
    if phase.added is not None and phase.trouble not in ("spike", "valkey"):
        if phase.added.under_1ms < 0.5:
            yield f"adds {phase.added.p50:.1f} ms at p50 (at most {ADDED_P50_MS:.0f} ms)"
        if phase.added.under_5ms < 0.99:
            yield f"adds {phase.added.p99:.1f} ms at p99 (at most {ADDED_P99_MS:.0f} ms)"


def _bottleneck(phase: PhaseFigures) -> str:
    if _others(phase) >= OTHERS_MAX:
        return f"other work on this machine took {phase.cpu[OTHERS]:.1f} cores"
    if phase.cpu.get("generator", 0.0) >= CORE_FULL:
        return f"the load generator was the bottleneck ({phase.cpu['generator']:.0%} of a core)"
    if phase.start_late.p99 > START_LATE_MS_MAX:
        return f"the load generator was {phase.start_late.p99:.0f} ms behind its schedule at p99"
    if phase.cpu.get("buyers", 0.0) >= CORE_FULL:
        return f"the simulated buyers were the bottleneck ({phase.cpu['buyers']:.0%} of a core)"
    return ""


def _others(phase: PhaseFigures) -> float:
    """Cores that others used; not known while the exchange itself may be among them."""
    is_watched = not phase.cpu.keys() <= {OTHERS, "generator", "sampler"}
    return phase.cpu.get(OTHERS, 0.0) if is_watched else 0.0


def _why(phase: PhaseVerdict) -> list[str]:
    return [f"not valid: {phase.invalid}", *phase.missed] if phase.invalid else phase.missed


def _carried(figures: Figures, phases: Sequence[PhaseVerdict]) -> float | None:
    """The highest calm rate that held, below the first that did not."""
    calm = {phase.name for phase in figures.phases if phase.trouble == "none"}
    carried = None
    for phase in sorted((p for p in phases if p.name in calm), key=lambda p: p.rate):
        if not phase.holds:
            break
        carried = phase.rate
    return carried


def _headline(run: Run, carried: float | None, failed: Sequence[PhaseVerdict], valid: bool) -> str:
    struck = {"brownout": "a fifth of the buyers hung", "valkey-restart": "Valkey was killed"}
    struck |= {"spike": "five times the leads came", "churn": "the market kept changing"}
    if run.shape == "ramp":
        return _ramped(carried, failed)
    if not failed:
        meanwhile = f", also while {struck[run.shape]}" if run.shape in struck else ""
        return f"Would carry {run.rate:.0f} leads/s: everything held{meanwhile}."
    if not valid:
        return f"No verdict at {run.rate:.0f} leads/s: something else than the exchange was slow."
    if run.shape in struck:
        names = ", ".join(phase.name for phase in failed)
        return f"Does not hold at {run.rate:.0f} leads/s: {names}."
    return f"Would not carry {run.rate:.0f} leads/s within the budget."


def _ramped(carried: float | None, failed: Sequence[PhaseVerdict]) -> str:
    if not failed:
        return f"Would carry at least {carried:.0f} leads/s: the limit was not reached."
    first = failed[0]
    if carried is None:
        if first.invalid:
            return f"No verdict: not valid from {first.rate:.0f} leads/s on."
        return f"Would not carry even {first.rate:.0f} leads/s."
    if first.invalid:
        return (
            f"Would carry at least {carried:.0f} leads/s; from {first.rate:.0f} on the run is not "
            "valid."
        )
    return f"Would carry {carried:.0f} leads/s; at {first.rate:.0f} the budget no longer holds."


def _grown(run: Run, figures: Figures) -> list[str]:
    """What a soak shows: workers whose memory grew."""
    parts = [phase for phase in figures.phases if phase.judged]
    if run.shape != "soak" or len(parts) < 3:
        return []
    before, after = parts[1].memory, parts[-1].memory
    return [
        f"the memory of {group} grew from {before[group] >> 20} to {after[group] >> 20} MiB"
        for group in sorted(before.keys() & after.keys())
        if group.startswith("worker") and after[group] > before[group] * GROWTH_MAX
    ]


def _bounded(figures: Figures, failed: set[str]) -> list[str]:
    """What bounded the run, besides the budget."""
    full = [
        phase
        for phase in figures.phases
        if phase.judged and phase.busy >= MACHINE_FULL and _others(phase) < OTHERS_MAX
    ]
    found = []
    if full:
        ours = {"generator", "buyers", "sampler"}
        used = sum(cpu for group, cpu in full[0].cpu.items() if group in ours)
        found.append(
            f"from {full[0].rate:.0f} leads/s on every core of this machine was busy, "
            f"{used:.1f} of them with the generator and the simulated buyers: on a machine of its "
            "own the exchange carries more"
        )
    found += [
        f"{group} used {used:.0%} of its core at {phase.rate:.0f} leads/s: more workers may carry "
        "more"
        for phase in figures.phases
        if phase.name in failed
        for group, used in phase.cpu.items()
        if group.startswith("worker") and used >= CORE_FULL
    ]
    if not figures.scraped:
        found.append("/metrics could not be read: what the exchange adds is not known, nor judged")
    return found
