"""A canned run becomes a report: complete, readable by programs, and in need of nothing else."""

import re
from pathlib import Path

import msgspec
import pytest

from loadtest.load import notes
from loadtest.load.figures import Added, Figures, added, figures, times
from loadtest.load.mix import SHARES
from loadtest.load.notes import Request, Run
from loadtest.load.plots import Line, plot, scale
from loadtest.load.report import HTML, JSON, Report, written
from loadtest.load.sampling import Sample
from loadtest.load.shapes import SHAPES, cut
from loadtest.load.verdict import Verdict, verdict

BEGAN = 1_800_000_000.0
BOUNDS = ("0.0005", "0.001", "0.002", "0.005", "0.01", "0.1", "+Inf")


def run(shape: str = "steady", *, rate: float = 100.0, seconds: float = 30.0) -> Run:
    return Run(
        shape=shape,
        about=SHAPES[shape].about,
        rate=rate,
        seconds=seconds,
        seed=7,
        url="http://127.0.0.1:1",
        began=BEGAN,
        phases=SHAPES[shape].phases(rate, seconds),
        shares=SHARES,
        setup={"workers": "1"},
    )


def request(at: float, **changed: object) -> Request:
    usual = Request(at, "two_step", "ping", 42.5, 42.0, 200, "expected", "offer", 800, True)
    return msgspec.structs.replace(usual, **changed)


def sample(
    second: int, *, added_counts: tuple[int, ...] = (50, 90, 99, 100, 100, 100, 100)
) -> Sample:
    buckets = zip(BOUNDS, added_counts, strict=True)
    grew = {f'exchange_ping_added_seconds_bucket{{le="{le}"}}': float(n) for le, n in buckets}
    grew |= {
        'exchange_answers_total{answer="bid",buyer="acme"}': 8.0,
        'exchange_answers_total{answer="timeout",buyer="hung<up>"}': 1.0,
        'exchange_deliveries_total{buyer="acme",delivery="accepted"}': 3.0,
        'exchange_price_micros_total{buyer="acme",currency="USD"}': 30_000_000.0,
        'exchange_post_part_seconds_bucket{le="0.005",part="commit"}': 4.0,
        'exchange_post_part_seconds_bucket{le="+Inf",part="commit"}': 5.0,
    }
    return Sample(
        at=BEGAN + second + 1.5,
        seconds=1.0,
        grew=grew,
        cpu_s={"generator": 0.25, "worker 1": 0.5, "postgres": 0.25, "buyers": 0.1},
        memory={"generator": 80 << 20, "worker 1": 100 << 20},
        busy_s=1.2,
        cores=2,
        scraped=True,
    )


def requests_of(the: Run, **changed: object) -> list[Request]:
    """One every tenth of a second, every third of them a post."""
    ends = the.phases[-1].ends
    usual = [request(number / 10) for number in range(int(ends * 10))]
    posts = [request(n / 10, call="post", what="sold", tmax_ms=0) for n in range(0, len(usual), 3)]
    return [msgspec.structs.replace(one, **changed) for one in usual + posts]


def counted(the: Run, requests: list[Request], samples: list[Sample]) -> tuple[Figures, Verdict]:
    found = figures(the, requests, samples)
    return found, verdict(the, found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    the = run()
    notes.write_run(tmp_path, the)
    book = notes.Notes(tmp_path)
    for one in [*requests_of(the), request(9.0, word="wrong", what="wanted <b>offer</b>")]:
        book.add(one)
    book.close()
    lines = [msgspec.json.encode(sample(second)) + b"\n" for second in range(33)]
    (tmp_path / notes.SAMPLES).write_bytes(b"".join(lines) + b'{"at": 18000')  # cut off
    return tmp_path


def test_the_json_is_the_report(folder: Path) -> None:
    report = written(folder)
    assert msgspec.json.decode((folder / JSON).read_bytes(), type=Report) == report
    assert report.run == run()
    steady = report.figures.phases[1]
    assert (steady.name, steady.pings_per_s, steady.ping_due.p99) == ("steady", 10.0, 42.5)
    assert steady.cpu["generator"] == 0.25
    assert steady.cpu["others"] == pytest.approx(0.1)
    assert steady.busy == 0.6
    assert report.figures.buyers["acme"].deliveries == {"accepted": 3 * 33}
    assert report.figures.revenue_micros == {"USD": 33 * 30_000_000}
    assert set(report.figures.series.revenue["USD"][:-1]) == {1800.0}  # 30 a second, per minute
    assert report.figures.series.part_p99["commit"][0] == 5.0
    [odd] = report.figures.unexpected
    assert (odd.word, odd.count, odd.first_at) == ("wrong", 1, 9.0)


def test_the_page_is_whole_and_needs_nothing_from_anywhere(folder: Path) -> None:
    written(folder)
    page = (folder / HTML).read_text(encoding="utf-8")
    assert not re.search(r"https?://|src=|href=|@import|url\(|<script|<link", page)
    assert "<b>offer</b>" not in page
    assert "hung&lt;up&gt;" in page
    for words in ("Would not carry 100 leads/s", "Revenue", "CPU", "Phases", "Errors by kind"):
        assert words in page, words
    assert "$" not in page.replace("$ref", "")
    assert page.count("<figure>") == page.count("</figure>") == 8


def test_a_run_in_which_nothing_came_back_still_has_a_report(tmp_path: Path) -> None:
    notes.write_run(tmp_path, run())
    report = written(tmp_path)
    assert not report.verdict.holds
    assert "steady: nothing was asked" in report.verdict.because


# --- figures --------------------------------------------------------------------------------------


def test_percentiles_are_those_of_prometheus() -> None:
    grew = {
        'x_bucket{le="0.001"}': 50.0,
        'x_bucket{le="0.005"}': 100.0,
        'x_bucket{le="+Inf"}': 100.0,
    }
    assert added(grew, "x") == Added(count=100, p50=1.0, p99=4.92, under_1ms=0.5, under_5ms=1.0)
    assert added({}, "x") is None
    assert times([3.0, 1.0, 2.0]).p50 == 2.0


def test_what_the_generator_was_late_by_counts_since_due_and_not_since_sent() -> None:
    the = run()
    found, _ = counted(the, requests_of(the, from_due_ms=142.0), [])
    steady = found.phases[1]
    assert (steady.ping_due.p99, steady.ping_sent.p99) == (142.0, 42.0)
    assert steady.start_late.p99 == 100.0


@pytest.mark.parametrize("top", [0.3, 1.0, 7.0, 42.0, 999.0, 1_234_567.0])
def test_a_scale_covers_its_values_in_round_steps(top: float) -> None:
    ticks = scale(top)
    assert ticks[0] == 0.0
    assert ticks[-1] >= top * 0.999
    assert 3 <= len(ticks) <= 8


def test_a_line_breaks_where_nothing_was_measured() -> None:
    line = Line(name="a & b", values=[1.0, None, 2.0], style="c0")
    drawn = plot(title="t", unit="ms", at=[1.0, 3.0, 5.0], ends=6.0, lines=[line])
    [path] = re.findall(r'd="([^"]*)"', drawn)
    assert path.count("M") == 2
    assert "a &amp; b" in drawn


# --- the verdict ----------------------------------------------------------------------------------

SLOW = (0, 10, 20, 50, 90, 100, 100)


def samples(**changed: object) -> list[Sample]:
    return [msgspec.structs.replace(sample(second), **changed) for second in range(33)]


def test_a_run_within_the_budget_holds() -> None:
    the = run()
    _, found = counted(the, requests_of(the), samples())
    assert found.holds
    assert found.valid
    assert found.carries == 100.0
    assert found.headline == "Would carry 100 leads/s: everything held."


BREACHES: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "wrong": ({"word": "wrong"}, {}, "did not fit their input"),
    "lost": ({"word": "lost"}, {}, "had no answer"),
    "refused": ({"word": "refused"}, {}, "were refused"),
    "past tmax": ({"from_sent_ms": 806.0}, {}, "6 ms past tmax"),
    "slow": ({}, {"grew": sample(0, added_counts=SLOW).grew}, "at p99 (at most 5 ms)"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_of_the_budget_is_told(breach: str) -> None:
    requests, beside, words = BREACHES[breach]
    the = run()
    _, found = counted(the, requests_of(the, **requests), samples(**beside))
    assert not found.holds
    assert found.valid
    assert words in " ".join(found.because)
    assert found.headline == "Would not carry 100 leads/s within the budget."


BOTTLENECKS: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "generator": (
        {},
        {"cpu_s": {"generator": 0.9}, "busy_s": 1.0},
        "the load generator was the bottleneck",
    ),
    "late": ({"from_due_ms": 90.0}, {}, "behind its schedule"),
    "buyers": (
        {},
        {"cpu_s": {"buyers": 0.95}, "busy_s": 1.0},
        "the simulated buyers were the bottleneck",
    ),
    "others": ({}, {"busy_s": 1.9}, "other work on this machine took 0.8 cores"),
}


@pytest.mark.parametrize("who", BOTTLENECKS)
def test_a_run_whose_bottleneck_was_not_the_exchange_is_not_valid(who: str) -> None:
    requests, beside, words = BOTTLENECKS[who]
    the = run()
    _, found = counted(the, requests_of(the, **requests), samples(**beside))
    assert not found.valid
    assert not found.holds
    assert words in " ".join(found.because)
    assert found.headline.startswith("No verdict")


def test_who_is_not_watched_may_be_the_exchange_and_is_no_reason_to_doubt() -> None:
    the = run()
    _, found = counted(the, requests_of(the), samples(busy_s=1.9, cpu_s={"generator": 0.2}))
    assert found.valid
    assert found.holds


def test_a_ramp_carries_the_last_rate_before_the_first_that_failed() -> None:
    the = run("ramp", rate=500.0, seconds=100.0)
    broken = the.phases[7]  # the seventh step, 350 leads a second
    requests = [
        msgspec.structs.replace(one, word="lost") if broken.begins <= one.at < broken.ends else one
        for one in requests_of(the)
    ]
    _, found = counted(the, requests, [sample(second) for second in range(106)])
    assert found.carries == 300.0
    assert found.holds
    assert found.headline == "Would carry 300 leads/s; at 350 the budget no longer holds."


def test_honest_refusals_are_good_answers_while_something_strikes() -> None:
    the = run("valkey-restart", rate=50.0, seconds=60.0)
    struck = next(phase for phase in the.phases if phase.trouble == "valkey")
    requests = [
        msgspec.structs.replace(one, word="refused")
        if struck.begins <= one.at < struck.ends
        else one
        for one in requests_of(the)
    ]
    _, found = counted(the, requests, [sample(second) for second in range(66)])
    assert found.holds
    assert found.headline == (
        "Would carry 50 leads/s: everything held, also while Valkey was killed."
    )


def test_a_soak_in_which_a_worker_grows_does_not_hold() -> None:
    the = run("soak", rate=10.0, seconds=120.0)
    growing = [
        msgspec.structs.replace(sample(second), memory={"worker 1": (100 + second) << 20})
        for second in range(126)
    ]
    _, found = counted(the, requests_of(the), growing)
    assert not found.holds
    assert "the memory of worker 1 grew" in found.because[-1]
    assert found.headline == "Would not carry 10 leads/s within the budget."


def test_a_worker_whose_core_was_full_is_told_for_more_workers_may_carry_more() -> None:
    the = run()
    slow = samples(grew=sample(0, added_counts=SLOW).grew, cpu_s={"worker 1": 0.97}, busy_s=1.1)
    _, found = counted(the, requests_of(the), slow)
    assert found.because[-1] == (
        "worker 1 used 97% of its core at 100 leads/s: more workers may carry more"
    )


def test_a_load_that_was_stopped_is_judged_as_far_as_it_came() -> None:
    the = run("ramp", rate=500.0, seconds=100.0)
    the = msgspec.structs.replace(the, ended_early="it was stopped", phases=cut(the.phases, 42.0))
    _, found = counted(the, requests_of(the), [sample(second) for second in range(42)])
    assert [phase.name for phase in found.phases] == ["step 1", "step 2", "step 3", "step 4"]
    assert found.phases[-1].missed == ["it was stopped"]
    assert found.carries == 150.0
