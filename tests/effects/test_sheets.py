"""Sheets that partners send: however they are written they give the same rows; what is too much, or
no sheet, is told with its line and quotes nothing."""

import re
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from exchange.effects.papers.tables import amount, safe, table
from exchange.effects.sheets import BadSheet, SheetLimits, rows

LIMITS = SheetLimits()
LINES = [("ID", "Näme", "Price"), ("1", 'a "b"; c, d', "2.50"), ("2", "two\nlines", "3.00")]


def quoted(delimiter: str, ending: str = "\r\n") -> str:
    cells = (['"' + cell.replace('"', '""') + '"' for cell in line] for line in LINES)
    return ending.join(map(delimiter.join, cells)) + ending


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_csv_is_read_however_it_was_written(
    tmp_path: Path, delimiter: str, encoding: str, ending: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(quoted(delimiter, ending).encode(encoding))
    assert [tuple(cells) for _, cells in rows(path, LIMITS)] == LINES


def test_a_hint_to_spreadsheets_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\n" + quoted(";"))
    assert next(rows(path, LIMITS)) == (2, list(LINES[0]))


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(quoted(",") + '\n\n"3","last","1"\n', newline="")
    assert [number for number, _ in rows(path, LIMITS)] == [1, 2, 3, 7]


def test_texts_that_an_xlsx_shares_are_found_by_their_numbers(tmp_path: Path) -> None:
    book, path = Workbook(), tmp_path / "a.xlsx"
    lines = [(f"näme {n}", f"t{n % 7}", "", "same") for n in range(300)]
    for line in lines:
        book.active.append(line)
    book.save(path)
    share_texts(path)
    found = [tuple(cell or "" for cell in cells) for _, cells in rows(path, LIMITS)]
    assert found == lines


def share_texts(path: Path) -> None:
    """As a spreadsheet saves it: texts stand in a part of their own, and cells name them."""
    with zipfile.ZipFile(path) as packed:
        parts = {name: packed.read(name).decode() for name in packed.namelist()}
    texts: list[str] = []

    def named(found: re.Match[str]) -> str:
        texts.append(found[2])
        return f'<c r="{found[1]}" t="s"><v>{len(texts) - 1}</v></c>'

    sheet = "xl/worksheets/sheet1.xml"
    inline = r'<c r="(\w+)"[^>]*t="inlineStr"><is><t[^>]*>([^<]*)</t></is></c>'
    parts[sheet], count = re.subn(inline, named, parts[sheet])
    assert count
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    parts["[Content_Types].xml"] = parts["[Content_Types].xml"].replace(
        "</Types>", f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
    )
    items = "".join(f"<si><t>{text}</t></si>" for text in texts)
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    parts["xl/sharedStrings.xml"] = f'<sst xmlns="{space}">{items}</sst>'
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in parts.items():
            packed.writestr(name, text)


def test_an_xlsx_gives_its_first_sheets_values(tmp_path: Path) -> None:
    book = Workbook()
    when = datetime(2026, 3, 31, 10)  # noqa: DTZ001 as a spreadsheet has it
    for line in (("ID", "Day", "Price"), (None, None, None), ("x", when, 21.105), ("=1+1", "", 7)):
        book.active.append(line)
    book.create_sheet("Notes").append(["other"])
    path = tmp_path / "a.bin"  # told by what it holds, not by its name
    book.save(path)
    assert [(number, tuple(cells)) for number, cells in rows(path, LIMITS)] == [
        (1, ("ID", "Day", "Price")),
        (3, ("x", when, 21.105)),
        (4, (None, None, 7)),  # a formula that nobody has computed says nothing
    ]


@pytest.mark.parametrize(
    ("data", "limits", "said"),
    [
        (b"", {}, "empty"),
        (b"\n\n", {}, "empty"),
        (b"a\nb\nc\nd\n", {"rows_max": 2}, "more than 2 lines"),
        (b"a,b\n1,2,3\n", {"columns_max": 2}, "line 2 has more than 2 columns"),
        (b"a\nlooong\n", {"cell_chars_max": 4, "columns_max": 9}, "line 2 has a cell of more"),
        (b"a\n" + b"x" * 99, {"cell_chars_max": 4, "columns_max": 9}, "line 2 is longer than 36"),
        (b"a\nb\0c\n", {}, "line 2 holds bytes that are no text"),
        (b"\xff\xfea\x00\n\x00x", {}, "not in utf-16"),
        (b"PK\x03\x04 no archive", {}, "no XLSX file"),
    ],
)
def test_what_is_too_much_or_no_sheet_is_told_with_its_line(
    tmp_path: Path, data: bytes, limits: dict[str, int], said: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(BadSheet, match=said) as bad:
        list(rows(path, SheetLimits(**limits)))
    assert "looong" not in str(bad.value)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/worksheets/sheet1.xml", b"0" * 1_000_000)
    assert path.stat().st_size < 5_000
    with pytest.raises(BadSheet, match="unpacks to more"):
        list(rows(path, SheetLimits(unpacked_bytes_max=999_999)))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadSheet, match="cannot be read"):
        list(rows(tmp_path / "nowhere.csv", LIMITS))


# --- what we write --------------------------------------------------------------------------------

FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1", "=cmd|' /C x'!A0"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_made_a_text(text: str) -> None:
    assert safe(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "plain", "a=b", "-12.50", "+3", "2026-03-31", "a@b"])
def test_a_text_that_runs_nowhere_is_left_as_it_is(text: str) -> None:
    assert safe(text) == text


@given(st.text(max_size=20))
def test_nothing_written_begins_like_a_formula(text: str) -> None:
    kept = safe(text)
    begins = kept.lstrip()[:1]
    assert begins not in ("=", "+", "-", "@") or kept.lstrip("+-").replace(".", "", 1).isdigit()
    assert safe(kept) == kept


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(
    st.lists(st.sampled_from([*FORMULAS, "x", 'say "no"', "a;b", "a\nb"]), min_size=1, max_size=9)
)
@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
def test_a_table_is_read_back_safe_and_whole(tmp_path: Path, ending: str, texts: list[str]) -> None:
    path = tmp_path / f"out{ending}"
    with table(path, ["text", "amount"]) as add:
        for text in texts:
            add((text, amount(-12_500_000)))
    (_, *read) = rows(path, LIMITS)
    assert [cells[0] for _, cells in read] == [safe(t).strip() for t in texts] or ending == ".xlsx"
    assert {str(cells[1]) for _, cells in read} <= {"-12.50", "-12.5"}
    if ending == ".xlsx":
        cells = [row[0] for row in load_workbook(path).active.iter_rows(min_row=2)]
        assert {cell.data_type for cell in cells} == {"s"}


def test_a_table_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def failing(add: Any) -> None:
        add(("x",))
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError), table(tmp_path / "out.csv", ["a"]) as add:
        failing(add)
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither"), table(tmp_path / "out.txt", ["a"]):
        pass
