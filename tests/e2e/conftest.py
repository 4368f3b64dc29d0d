"""The house that the end-to-end tests share: started once per run (once per xdist worker)."""

from collections.abc import Iterator

import pytest

from tests.e2e.house import Buyers, House, SellerClient, serving

CALLERS = (
    ("seller", "alpha"),
    ("seller", "beta"),
    ("seller", "slow"),
    ("buyer", "kestrel"),
    ("operator",),
)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """An exchange that no test may harm; a test that does starts its own."""
    with serving(tmp_path_factory.mktemp("house"), *CALLERS) as house:
        yield house


@pytest.fixture(scope="session")
def alpha(house: House) -> SellerClient:
    return house.seller("alpha")


@pytest.fixture(scope="session")
def buyers(house: House) -> Buyers:
    return house.buyers


@pytest.fixture(scope="module")
def braked_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house where a braked buyer is tried again after three seconds."""
    callers = (("seller", "alpha"), ("operator",))
    folder = tmp_path_factory.mktemp("braked")
    with serving(folder, *callers, EXCHANGE_DOUBT_TRIAL_S="3") as house:
        yield house
