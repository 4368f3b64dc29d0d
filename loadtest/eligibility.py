"""What eligibility costs at a thousand, ten thousand and a hundred thousand contracts.

Runs the probe in a process of its own (this package and the exchange never meet in code) and prints
its figures; nothing is judged here, machines differ.

    python -m loadtest.eligibility [contracts ...]
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROBE = Path(__file__).with_name("eligibility_probe.py")
HEADS = (
    ("invite_us", "invite, us"),
    ("invite_300_us", "with 300 survivors, us"),
    ("edit_us", "a criterion changed, us"),
    ("edit_longest_slice_us", "longest turn, us"),
    ("insert_us", "priority changed, us"),
    ("insert_longest_slice_us", "longest turn, us"),
    ("index_bytes_per_contract", "index, bytes a contract"),
)


SIZES = (1_000, 10_000, 100_000)


def rounds(sizes: tuple[int, ...] = SIZES, *, count: int = 1) -> list[dict[str, dict[str, Any]]]:
    """The probe's rounds: figures by number of contracts. Raises `CalledProcessError` when it
    fails."""
    command = [sys.executable, str(PROBE), f"--rounds={count}", *map(str, sizes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: list[dict[str, dict[str, Any]]] = json.loads(done.stdout)
    return measured


def main() -> None:
    """A table: one line a size."""
    (measured,) = rounds(tuple(int(text) for text in sys.argv[1:]) or SIZES)
    for size, row in measured.items():
        print(f"{int(size):,} contracts")
        for name, head in HEADS:
            print(f"  {head:28}{row[name]:>12,}")


if __name__ == "__main__":
    main()
