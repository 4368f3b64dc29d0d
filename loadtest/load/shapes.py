"""The shapes of a load: phases with a rate of leads each, and the times at which leads are due.

Arrivals are open: a lead is due when the schedule says so, whatever became of those before it. They
come as real ones do, independently of one another (a Poisson process), from the seed.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

import msgspec

Trouble = Literal["none", "spike", "brownout", "valkey", "churn"]
"""What strikes in a phase: nothing, five times the leads, a fifth of the buyers hanging, Valkey
killed at its begin, a changed market every two seconds."""

WARMUP_SHARE, WARMUP_MAX_S = 0.1, 5.0
RAMP_STEPS: Final = 10
SPIKE_TIMES: Final = 5


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the load: from `begins` to `ends` (seconds since its start), `rate` leads a
    second. A phase that is not `judged` is there to warm up."""

    name: str
    begins: float
    ends: float
    rate: float
    trouble: Trouble = "none"
    judged: bool = True


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of load. `parts` are `(name, share of the time, share of the rate, trouble)`; `rate`
    and `seconds` are what it takes when nothing else is asked for."""

    about: str
    rate: float
    seconds: float
    parts: tuple[tuple[str, float, float, Trouble], ...]

    def phases(self, rate: float, seconds: float) -> tuple[Phase, ...]:
        """A warm-up, then the parts, one after the other."""
        at = min(WARMUP_MAX_S, seconds * WARMUP_SHARE)
        warm_rate = rate * self.parts[0][2]
        found = [Phase(name="warm-up", begins=0.0, ends=at, rate=warm_rate, judged=False)]
        for name, share, of_rate, trouble in self.parts:
            ends = at + seconds * share
            found.append(
                Phase(name=name, begins=at, ends=ends, rate=rate * of_rate, trouble=trouble)
            )
            at = ends
        return tuple(found)


def _between(
    name: str, trouble: Trouble, of_rate: float = 1.0
) -> tuple[tuple[str, float, float, Trouble], ...]:
    return (
        ("before", 0.3, 1.0, "none"),
        (name, 0.4, of_rate, trouble),
        ("after", 0.3, 1.0, "none"),
    )


SHAPES: Final[dict[str, Shape]] = {
    "steady": Shape(
        about="one rate throughout: the canonical workload",
        rate=100,
        seconds=60,
        parts=(("steady", 1.0, 1.0, "none"),),
    ),
    "ramp": Shape(
        about="ten steps up to --rate: finds what the exchange carries",
        rate=500,
        seconds=120,
        parts=tuple(
            (f"step {step}", 1 / RAMP_STEPS, step / RAMP_STEPS, "none")
            for step in range(1, RAMP_STEPS + 1)
        ),
    ),
    "spike": Shape(
        about="five times the rate at once, then back",
        rate=50,
        seconds=60,
        parts=_between("spike", "spike", SPIKE_TIMES),
    ),
    "soak": Shape(
        about="half an hour of one rate: what leaks, shows",
        rate=100,
        seconds=1_800,
        parts=tuple((f"part {part}", 1 / 6, 1.0, "none") for part in range(1, 7)),
    ),
    "brownout": Shape(
        about="a fifth of the buyers hang for a while",
        rate=100,
        seconds=60,
        parts=_between("brownout", "brownout"),
    ),
    "valkey-restart": Shape(
        about="Valkey is killed and comes back",
        rate=100,
        seconds=60,
        parts=_between("Valkey killed", "valkey"),
    ),
    "churn": Shape(
        about="the market changes every two seconds for a while",
        rate=100,
        seconds=60,
        parts=_between("churn", "churn"),
    ),
}


def cut(phases: Iterable[Phase], at: float) -> tuple[Phase, ...]:
    """What is left of phases when the load ends at this time."""
    begun = [phase for phase in phases if phase.begins < at]
    return tuple(msgspec.structs.replace(phase, ends=min(phase.ends, at)) for phase in begun)


def arrivals(phases: Iterable[Phase], seed: int) -> Iterator[float]:
    """The times at which leads are due, in seconds since the start. A Poisson process has no
    memory, so each phase begins anew."""
    chance = random.Random(f"arrivals {seed}")
    for phase in phases:
        due = phase.begins + chance.expovariate(phase.rate)
        while due < phase.ends:
            yield due
            due += chance.expovariate(phase.rate)


def dispatch(
    due: Iterable[float],
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    spawn: Callable[[int, float], None],
) -> int:
    """Spawn each lead when it is due, by its number and its due time; how many. Nothing is waited
    for but the clock: a lead that is behind its time is spawned at once, and keeps its due time."""
    number = 0
    for number, at in enumerate(due, start=1):
        wait = at - clock()
        if wait > 0:
            sleep(wait)
        spawn(number, at)
    return number
