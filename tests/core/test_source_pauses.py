"""Which source, sub_id and buyer a set of pauses stops, held against the plain definition."""

from hypothesis import given
from hypothesis import strategies as st

from exchange.core.source_pauses import NONE, SourcePause, pauses_of

SUB_IDS = st.sampled_from([None, "a", "b"])
PAUSES = st.lists(
    st.builds(
        SourcePause,
        source_id=st.integers(1, 2),
        sub_id=SUB_IDS,
        buyer_id=st.none() | st.integers(3, 5),
    )
)


@given(PAUSES, st.integers(1, 2), SUB_IDS)
def test_a_feed_is_stopped_by_its_own_pauses_and_those_of_its_whole_source(
    pauses: list[SourcePause], source_id: int, sub_id: str | None
) -> None:
    mine = [one for one in pauses if one.source_id == source_id and one.sub_id in (None, sub_id)]
    made = pauses_of(pauses)
    assert made.stop(source_id, sub_id) is any(one.buyer_id is None for one in mine)
    assert made.buyers(source_id, sub_id) == {one.buyer_id for one in mine} - {None}


@given(PAUSES)
def test_the_order_and_number_of_equal_pauses_make_no_difference(
    pauses: list[SourcePause],
) -> None:
    assert pauses_of(pauses) == pauses_of([*reversed(pauses), *pauses])
    assert pauses_of([]) == NONE
