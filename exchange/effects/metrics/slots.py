"""The counts of one process, and the file in which they outlive it.

A file belongs to a slot, not to a process: the slot is held by a file lock, which the kernel lets
go however the process dies, and its next holder carries on from the counts in the file.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from exchange.effects.metrics.families import FAMILIES, Labels

SLOTS_MAX: Final = 1_024


class Counts(msgspec.Struct):
    """The numbers of one slot, as they stand in its file. A histogram's list holds one count per
    bucket, one for what is above the last, and the sum; an exemplar is, by number of bucket, an id
    with its value and when that was (Unix ms)."""

    at_ms: int = 0
    counters: dict[str, dict[Labels, float]] = {}
    gauges: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, list[float]]] = {}
    exemplars: dict[str, dict[Labels, dict[int, tuple[str, float, int]]]] = {}


def free_slot(folder: Path) -> tuple[int, int]:
    """The first slot nobody holds, and the descriptor that holds it from now on. The descriptor is
    not inherited by programs we start, so the slot ends with this process."""
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(SLOTS_MAX):
        held = os.open(folder / f"slot-{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            continue
        return slot, held
    raise RuntimeError(f"all {SLOTS_MAX} metric slots in {folder} are held")


def file_of(folder: Path, slot: int) -> Path:
    """Where a slot's counts are."""
    return folder / f"slot-{slot}.counts"


def replace(path: Path, image: bytes) -> None:
    """All of the new image or all of the old, whoever reads and whenever we die. Raises
    `OSError`."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(image)
    fresh.replace(path)


def encoded(counts: Counts) -> bytes:
    """MessagePack: unlike JSON it takes a label set as the key of a map."""
    return msgspec.msgpack.encode(counts)


def decoded(image: bytes) -> Counts:
    """The counts of an image. Raises `msgspec.DecodeError`."""
    return msgspec.msgpack.decode(image, type=Counts)


def counts_in(path: Path) -> Counts | None:
    """A slot's counts; `None` when there are none or they are not of this version's shape."""
    try:
        counts = decoded(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return counts if _fits(counts) else None


def _fits(counts: Counts) -> bool:
    """Whether the families' labels and buckets are still those the counts were made with."""
    for kind in (counts.counters, counts.gauges, counts.histograms, counts.exemplars):
        for name, series in kind.items():
            family = FAMILIES.get(name)
            if family is None or any(len(labels) != len(family.labels) for labels in series):
                return False
    return all(
        len(row) == len(FAMILIES[name].buckets) + 2
        for name, rows in counts.histograms.items()
        for row in rows.values()
    )
