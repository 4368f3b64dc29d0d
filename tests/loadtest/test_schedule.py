"""Arrivals are open, seeded, and at the rate that was asked for."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from loadtest.load.shapes import SHAPES, Phase, arrivals, dispatch


class VirtualTime:
    """A clock that only sleeping moves; and a server that never answers."""

    def __init__(self) -> None:
        self.now, self.spawned = 0.0, list[tuple[int, float, float]]()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def stalled(self, number: int, due: float) -> None:
        """A lead whose answer never comes: it is under way from now on."""
        self.spawned.append((number, due, self.now))


def played(time: VirtualTime, spawn: Callable[[int, float], None]) -> int:
    phases = SHAPES["steady"].phases(50, 20)
    return dispatch(arrivals(phases, 7), clock=time.clock, sleep=time.sleep, spawn=spawn)


def test_a_stalled_server_does_not_slow_arrivals() -> None:
    time = VirtualTime()
    count = played(time, time.stalled)
    assert count == len(time.spawned) == len(list(arrivals(SHAPES["steady"].phases(50, 20), 7)))
    assert [number for number, _, _ in time.spawned] == list(range(1, count + 1))
    assert all(began == pytest.approx(due) for _, due, began in time.spawned)


def test_a_generator_that_was_late_catches_up_and_keeps_the_due_times() -> None:
    time = VirtualTime()

    def slow(number: int, due: float) -> None:
        time.stalled(number, due)
        time.now += 1.0 if number == 100 else 0.0  # this process itself hung for a second

    played(time, slow)
    behind = [began - due for _, due, began in time.spawned]
    assert max(behind) == pytest.approx(1.0, abs=0.1)
    assert behind[-1] == pytest.approx(0.0)
    assert [due for _, due, _ in time.spawned] == list(arrivals(SHAPES["steady"].phases(50, 20), 7))


def test_the_same_seed_has_the_same_schedule_and_another_has_not() -> None:
    phases = SHAPES["ramp"].phases(200, 30)
    assert list(arrivals(phases, 7)) == list(arrivals(phases, 7))
    assert list(arrivals(phases, 7)) != list(arrivals(phases, 8))


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_fills_its_time_and_its_rates(name: str) -> None:
    shape = SHAPES[name]
    phases = shape.phases(shape.rate, shape.seconds)
    assert phases[0].begins == 0.0
    assert not phases[0].judged
    assert [one.begins for one in phases[1:]] == [one.ends for one in phases[:-1]]
    assert sum(one.ends - one.begins for one in phases[1:]) == pytest.approx(shape.seconds)
    assert len({one.name for one in phases}) == len(phases)
    due = list(arrivals(phases, 7))
    assert due == sorted(due)
    for phase in phases:
        wanted = phase.rate * (phase.ends - phase.begins)
        came = sum(phase.begins <= at < phase.ends for at in due)
        assert abs(came - wanted) < 5 * wanted**0.5 + 5, phase  # five sigma of a Poisson count


def test_a_spike_is_five_times_its_surroundings() -> None:
    before, spike, after = SHAPES["spike"].phases(50, 60)[1:]
    assert (spike.rate, spike.trouble) == (250, "spike")
    assert before.rate == after.rate == 50


def test_gaps_are_those_of_independent_arrivals() -> None:
    [*due] = arrivals([Phase(name="a", begins=0.0, ends=400.0, rate=50.0)], 7)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert 0.9 < spread / mean < 1.1  # a fixed rate would have 0; the seed is fixed
