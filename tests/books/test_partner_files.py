"""A partner's file among full books: what was seeded is found and nothing else, by buyers and by
sellers, in CSV and XLSX, at a memory that does not grow with the file."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from exchange.effects.vault import Vault
from tests.books.partner_files import File, found_of, known_phones, write_file
from tests.books.trade import Sold, Trade, trade
from tests.conftest import run_apart

pytestmark = pytest.mark.real

LINES = tuple(map(int, os.environ.get("PARTNER_LINES", "10000,100000").split(",")))
"""The lengths of the long proof; 400000 was measured once."""
GROWN_MAX = 24 * 1024
"""KiB that a file ten times as long may take more: pages of SQLite's cache that the short one did
not fill."""
SECONDS_MAX = 60
MEASURED = """
import atexit, os, pathlib
from exchange.__main__ import main
status, peak = pathlib.Path("/proc/self/status"), pathlib.Path(os.environ["PEAK_FILE"])
atexit.register(lambda: peak.write_text(status.read_text().split("VmHWM:")[1].split()[0]))
main()
"""
"""The command, and the most memory it ever held: a process's usage, as its parent is told it,
counts what the parent held, too."""


class Ran(NamedTuple):
    """How a command ended, how long it took, and the most memory it held, in KiB."""

    told: dict[str, Any]
    seconds: float
    peak_kib: int


class Books(NamedTuple):
    """A trade of one seller with one buyer, and how to reach it."""

    sold: list[Sold]
    environment: dict[str, str]
    folder: Path


async def filled(url: str, folder: Path, sales: int, seed: int, into: list[Sold]) -> None:
    vault = Vault.open_file(folder / "master", create=True)
    traded = await trade(url, Trade(sales=sales, sellers=1, buyers=1, seed=seed), keep=True)
    await known_phones(url, vault, traded.sold)
    into.extend(traded.sold)


def books_of(url: str, valkey_url: str, folder: Path, sales: int, seed: int) -> Books:
    sold: list[Sold] = []
    run_apart(filled(url, folder, sales, seed, sold))
    given = {
        "EXCHANGE_DATABASE_URL": url,
        "EXCHANGE_VALKEY_URL": valkey_url,
        "EXCHANGE_MASTER_KEY_FILE": str(folder / "master"),
    }
    given["PEAK_FILE"] = str(folder / "peak")
    return Books(sold, os.environ | given, folder)


def reconciled(books: Books, file: File, side: str) -> Ran:
    """The command in a process of its own, which is measured."""
    words = ["reconcile", str(file.path), f"--{side}", "b0" if side == "buyer" else "s0"]
    began = time.monotonic()
    out = books.folder / "told.json"
    with out.open("wb") as told:
        subprocess.run(
            [sys.executable, "-c", MEASURED, *words, "--json"],
            env=books.environment,
            stdout=told,
            check=False,
        )
    peak = int((books.folder / "peak").read_text())
    return Ran(json.loads(out.read_bytes()), time.monotonic() - began, peak)


def judged(books: Books, file: File, side: str) -> Ran:
    """What was seeded is found, and nothing else."""
    ran = reconciled(books, file, side)
    assert found_of(ran.told["findings"]) == file.seeded
    assert ran.told["result"]["their_lines"] == file.lines
    assert ran.told["result"]["ambiguous"] == 0
    return ran


def test_what_was_seeded_is_found_and_nothing_else(
    database_url: str, valkey_url: str, tmp_path: Path, seed: int
) -> None:
    books = books_of(database_url, valkey_url, tmp_path, 1_500, seed)
    for side, name in (("buyer", "their.csv"), ("seller", "their.xlsx")):
        file = write_file(tmp_path / name, books.sold, side, wrong=40, chance=Random(seed))
        judged(books, file, side)
        assert sum(map(len, file.seeded.values())) == 40


@pytest.mark.prove
@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
@pytest.mark.parametrize("side", ["buyer", "seller"])
def test_two_hundred_differences_in_a_long_file_at_the_memory_of_a_short_one(
    side: str, ending: str, long_books: Books, seed: int
) -> None:
    peaks = []
    for lines in LINES:
        sold = long_books.sold[:lines]
        file = write_file(
            long_books.folder / f"{side}-{lines}{ending}",
            sold,
            side,
            wrong=200,
            chance=Random(f"{seed} {lines}"),
        )
        ran = reconciled(long_books, file, side)
        peaks.append(ran.peak_kib)
        print(side, ending, file.lines, f"{ran.seconds:.1f} s", ran.peak_kib // 1024, "MiB")  # noqa: T201
        if lines == len(long_books.sold):
            assert found_of(ran.told["findings"]) == file.seeded
        if file.lines <= 150_000:
            assert ran.seconds < SECONDS_MAX
    assert peaks[-1] < peaks[0] + GROWN_MAX


@pytest.fixture(scope="module")
def long_books(
    database_url: str, servers: Any, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> Books:
    folder = tmp_path_factory.mktemp("partner")
    return books_of(database_url, servers.urls.valkey_url, folder, max(LINES), seed)
