"""What the API says of returns is what the core knows."""

from typing import get_args

from exchange.api.return_messages import Evidence, ReasonName, StateName
from exchange.core.lifecycle import ReturnState
from exchange.core.reasons import EVIDENCE
from exchange.core.return_cases import REASONS


def test_the_reasons_are_those_of_the_trade_in_their_order() -> None:
    assert get_args(ReasonName) == tuple(REASONS)


def test_the_states_are_those_of_the_lifecycle() -> None:
    assert set(get_args(StateName)) == set(get_args(ReturnState))


def test_every_kind_of_evidence_is_named() -> None:
    [said] = Evidence.__metadata__
    assert all(f"`{name}`" in said.description for name in EVIDENCE)
