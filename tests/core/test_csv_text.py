"""A CSV in a body: read row by row within its limits, refused without quoting anything of it."""

from itertools import repeat

import pytest

from exchange.core.csv_text import BadCsv, csv_rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\r\n1, 2 \r\n", [(1, ["a", "b"]), (2, ["1", "2"])]),
        ("\ufeffa;b\n\n;\n1;2", [(1, ["a", "b"]), (4, ["1", "2"])]),
        ('a\n"x\ny"\nz\n', [(1, ["a"]), (2, ["x\ny"]), (4, ["z"])]),
        ("", []),
    ],
)
def test_rows_come_with_the_line_they_begin_at(text: str, rows: list[object]) -> None:
    assert list(csv_rows(text.encode(), rows_max=9)) == rows


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff", "not in UTF-8"),
        ("\n".join(repeat("x", 5)).encode(), "more than 3 lines"),
        (",".join(repeat("x", 101)).encode(), "more than 3 lines or 100 columns"),
        (b"a\n" + b"x" * 131_073, "line 2 is no line"),
    ],
)
def test_what_is_no_csv_is_told(data: bytes, said: str) -> None:
    with pytest.raises(BadCsv, match=said):
        list(csv_rows(data, rows_max=3))
