"""States move only along their tables."""

from itertools import product

import pytest

from exchange.core.lifecycle import ATTEMPT, LEAD, PING, RETURN, IllegalMove, moved

TABLES = {"ping": PING, "lead": LEAD, "attempt": ATTEMPT, "return": RETURN}


@pytest.mark.parametrize("name", TABLES)
def test_every_move_of_a_table_leads_to_a_state_of_it(name: str) -> None:
    table = TABLES[name]
    assert set().union(*table.values()) <= set(table)


@pytest.mark.parametrize("name", TABLES)
def test_a_move_is_allowed_exactly_when_its_table_names_it(name: str) -> None:
    table = TABLES[name]
    for old, new in product(table, repeat=2):
        if new in table[old]:
            assert moved(table, old, new) == new
        else:
            with pytest.raises(IllegalMove):
                moved(table, old, new)


def test_a_sold_attempt_stays_sold_and_a_written_off_one_is_never_sold() -> None:
    assert not ATTEMPT["sold"]
    assert not ATTEMPT["written_off"]
