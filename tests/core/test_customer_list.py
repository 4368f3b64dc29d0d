"""A buyer's list of customers: whom it names, with or without a header, as hashes alone."""

from typing import Any

import pytest

from exchange.core.customer_list import BadList, customers_of


def hashed(kind: str, plain: str) -> tuple[bytes, ...]:
    return (f"{kind} {plain}".encode(),)


ONE, MAIL = ("phone", b"phone +13105550123"), ("email", b"email a@mail.example")


@pytest.mark.parametrize(
    ("rows", "persons", "unread"),
    [
        ([["Name", "Phone", "E-Mail"], ["A", "310-555-0123", "A@mail.example"]], {ONE, MAIL}, 0),
        ([["(310) 555-0123"], ["3105550123"], ["none"]], {ONE}, 1),
        ([[3105550123.0], [""]], {ONE}, 1),
        ([["17", "a@mail.example"], ["3105550123", "b"]], {MAIL}, 1),  # 17 names no phone column
        ([["Phone", "Phone 2"], ["", "3105550123"], []], {ONE}, 1),
    ],
)
def test_whoever_a_list_names_is_read(rows: Any, persons: Any, unread: int) -> None:
    found = customers_of(rows, hashed)
    assert (found.persons, found.unread) == (persons, unread)


def test_a_list_says_what_kinds_of_persons_it_has() -> None:
    assert customers_of([["phone", "email"], ["3105550123", "a@mail.example"]], hashed).kinds == (
        *("email", "phone"),
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no column holds"),
        ([["Name", "City"], ["A", "B"]], "no column holds"),
        ([["phone"], ["12"]], "no row has"),
        ([["a" * 64], ["b" * 64]], "it has hashes"),
        ([["email"], ["c" * 64]], "hashes cannot be compared"),
    ],
)
def test_a_list_that_cannot_be_taken_is_told_and_quotes_nothing(rows: Any, said: str) -> None:
    with pytest.raises(BadList, match=said) as bad:
        customers_of(rows, hashed)
    assert "aaaa" not in str(bad.value)
