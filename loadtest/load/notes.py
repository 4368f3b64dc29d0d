"""What a run writes down, in its folder:

run.json        what was asked for, and when it began
requests.jsonl  one line per request, an array in the order of `Request`
samples.jsonl   one line per second, by `sampling`
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from loadtest.load.replies import Word
from loadtest.load.shapes import Phase

RUN, REQUESTS, SAMPLES = "run.json", "requests.jsonl", "samples.jsonl"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `began` is wall time in seconds; everything else counts from it. `setup`
    is told on the page as it stands; `ended_early` says why a load ended before its time, and then
    the phases end where it did."""

    shape: str
    about: str
    rate: float
    seconds: float
    seed: int
    url: str
    began: float
    phases: tuple[Phase, ...]
    shares: dict[str, float]
    setup: dict[str, str] = {}
    ended_early: str = ""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One request. `at`: when it was due, in seconds since the begin. `from_due_ms` is what a
    seller would have felt; `from_sent_ms` leaves out what this generator was late by. `first` is
    true for the request with which a lead came in: only those have a place in the schedule.
    `resent`: its connection closed without a word, and it was sent once more."""

    at: float
    kind: str
    call: str
    from_due_ms: float
    from_sent_ms: float
    http: int
    word: Word
    what: str
    tmax_ms: int
    first: bool
    resent: bool = False


class Notes:
    """Writes `requests.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = (folder / REQUESTS).open("wb", buffering=1 << 16)
        self._encoder = msgspec.json.Encoder(decimal_format="number")

    def add(self, request: Request) -> None:
        """One more request."""
        self._file.write(self._encoder.encode(request) + b"\n")

    def close(self) -> None:
        """Write out what is left."""
        self._file.close()


def write_run(folder: Path, run: Run) -> None:
    """Put `run.json` down, all at once."""
    new = folder / f"{RUN}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(run)))
    new.replace(folder / RUN)


def run_in(folder: Path) -> Run:
    """The run of this folder."""
    return msgspec.json.decode((folder / RUN).read_bytes(), type=Run)


def lines(file: Path, kind: type[Any]) -> Iterator[Any]:
    """The lines of a file of notes; a last one that was cut off is left out."""
    decoder = msgspec.json.Decoder(kind)
    if not file.exists():
        return
    with file.open("rb") as source:
        for line in source:
            if line.endswith(b"\n"):
                yield decoder.decode(line)
