"""When an endpoint rests and when it is tried again, in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.effects.buyers.health import Health


def health(**more):
    return Health(**{"failures_max": 3, "rest_s_min": 1.0, "rest_s_max": 4.0, **more})


def test_an_endpoint_rests_after_so_many_failures_in_a_row():
    one = health()
    for _ in range(2):
        one.failed(10.0)
    one.succeeded()
    for _ in range(2):
        one.failed(10.0)
    assert one.admits(10.0)
    one.failed(10.0)
    assert not one.admits(10.9)
    assert not one.is_healthy(10.9)


def test_after_its_rest_one_request_is_the_trial_and_an_answer_reopens():
    one = health(failures_max=1)
    one.failed(10.0)
    assert one.is_healthy(11.0)
    assert one.admits(11.0)
    assert not one.admits(11.0)
    one.succeeded()
    assert one.admits(11.0)
    assert one.admits(11.0)


def test_a_failed_trial_doubles_the_rest_up_to_its_limit_and_recovery_starts_anew():
    one, now, rests = health(failures_max=1), 0.0, []
    one.failed(now)
    for _ in range(5):
        rests.append(one.rest_until - now)
        now = one.rest_until
        assert one.admits(now)
        one.failed(now)
    assert rests == [1.0, 2.0, 4.0, 4.0, 4.0]
    now = one.rest_until
    assert one.admits(now)
    one.succeeded()
    one.failed(now)
    assert one.rest_until - now == 1.0


def test_failures_of_older_requests_do_not_prolong_a_rest():
    one = health(failures_max=1)
    one.failed(10.0)
    one.failed(10.9)
    assert one.rest_until == 11.0


def test_an_undecided_trial_is_followed_by_another():
    one = health(failures_max=1)
    one.failed(10.0)
    assert one.admits(11.0)
    one.undecided()
    assert one.admits(11.0)


@pytest.mark.parametrize("failures_max", [1, 3])
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["asked", "failed", "succeeded", "undecided"]), st.floats(0.0, 3.0)
        )
    )
)
def test_no_history_shuts_an_endpoint_out_for_ever(failures_max, events):
    one, now = health(failures_max=failures_max), 0.0
    for event, passed_s in events:
        now += passed_s
        if event == "asked":
            one.admits(now)
        elif event == "failed":
            one.failed(now)
        else:
            getattr(one, event)()
    one.undecided()  # whatever was under way has ended
    assert one.admits(now + 4.0)
