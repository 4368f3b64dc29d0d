"""Many returns at once: when the database goes away, what was done is told, and what was not."""

import pytest

from exchange.core.messages import Refusal
from exchange.effects.postgres import DatabaseDown
from exchange.flows.bulk_returns import NOT_DONE, Told, one_by_one

REFUSED = Refusal(status=422, title="Request not valid", detail="no")


class Asked:
    """Answers with `None` until the database goes away, after so many."""

    def __init__(self, goes_after: int) -> None:
        self.goes_after, self.asked = goes_after, list[str]()

    async def __call__(self, item: str) -> Told:
        if len(self.asked) == self.goes_after:
            raise DatabaseDown("gone")
        self.asked.append(item)
        return None


async def test_each_is_asked_for_in_its_order_but_those_refused_already() -> None:
    asked = Asked(9)
    assert await one_by_one(["a", REFUSED, "b"], asked) == [None, REFUSED, None]
    assert asked.asked == ["a", "b"]


async def test_after_the_database_went_away_nothing_more_is_tried() -> None:
    asked = Asked(1)
    assert await one_by_one(["a", "b", REFUSED, "c"], asked) == [None, NOT_DONE, REFUSED, NOT_DONE]
    assert asked.asked == ["a"]


async def test_a_list_of_which_nothing_was_done_is_refused_whole() -> None:
    with pytest.raises(DatabaseDown):
        await one_by_one([REFUSED, "a", "b"], Asked(0))
