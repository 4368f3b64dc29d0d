"""The house that the end-to-end tests share: started once per run (once per xdist worker)."""

from collections.abc import Iterator

import pytest

from tests.e2e.house import Buyers, House, SellerClient, serving

CALLERS = (
    ("seller", "alpha"),
    ("seller", "beta"),
    ("seller", "slow"),
    ("buyer", "kestrel"),
    ("seller", "gamma"),
    ("buyer", "acme"),
    ("buyer", "delta"),
    ("finance",),
    ("operator",),
)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """An exchange that no test may harm; a test that does starts its own. It brakes no buyer: the
    tests bring many posts in doubt."""
    folder = tmp_path_factory.mktemp("house")
    with serving(folder, *CALLERS, EXCHANGE_DOUBT_BRAKE_COUNT="1000") as house:
        yield house


@pytest.fixture(scope="session")
def alpha(house: House) -> SellerClient:
    return house.seller("alpha")


@pytest.fixture(scope="session")
def buyers(house: House) -> Buyers:
    return house.buyers
