"""The brake on a buyer in doubt."""

from exchange.core.brake import Doubts, is_braked, trial_is_due

BRAKE = {"count": 3, "within_s": 300}


def doubts(*at_s: int, reopened_s: int = 0) -> Doubts:
    known = Doubts(reopened_ms=reopened_s * 1000)
    for at in at_s:
        known = known.with_unknown(at * 1000)
    return known


def test_three_doubts_within_the_window_stop_posting() -> None:
    assert is_braked(doubts(10, 20, 30), now_ms=31_000, **BRAKE)


def test_two_doubts_or_three_long_ago_do_not() -> None:
    assert not is_braked(doubts(10, 20), now_ms=31_000, **BRAKE)
    assert not is_braked(doubts(10, 20, 30), now_ms=311_000, **BRAKE)


def test_a_clear_answer_to_the_trial_reopens_and_the_count_begins_anew() -> None:
    reopened = doubts(10, 20, 30).reopened(40_000)
    assert not is_braked(reopened, now_ms=41_000, **BRAKE)
    again = reopened.with_unknown(50_000).with_unknown(51_000)
    assert not is_braked(again, now_ms=52_000, **BRAKE)
    assert is_braked(again.with_unknown(53_000), now_ms=54_000, **BRAKE)


def test_a_trial_is_due_only_some_time_after_the_last_doubt() -> None:
    assert not trial_is_due(doubts(10, 20, 30), now_ms=50_000, after_s=30)
    assert trial_is_due(doubts(10, 20, 30), now_ms=60_000, after_s=30)
    assert not trial_is_due(Doubts(), now_ms=60_000, after_s=30)
