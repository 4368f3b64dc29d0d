"""`--update-golden` writes what the dialects read into the golden cases."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden outcomes anew")
