"""Whatever ends the process that was started, nothing that it started outlives it; and two of them
on one machine leave each other alone.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crashing import children, kind_of
from tests.e2e.house import EXCHANGE, called, child, ended, environment, first_line, until

pytestmark = [pytest.mark.real, pytest.mark.slow]

ENDED_WITHIN_S = 15.0
"""Postgres takes its time to write its last words; everything else ends within two seconds."""


def descendants(pid: int) -> list[int]:
    """Every process below this one."""
    found = children(pid)
    return found + [one for child_pid in found for one in descendants(child_pid)]


@contextmanager
def watched(pid: int) -> Iterator[dict[int, int]]:
    """Handles of every process below this one, by pid: a handle names its process for ever, also
    when the number is given to another."""
    handles: dict[int, int] = {}
    for one in descendants(pid):
        try:
            handles[one] = os.pidfd_open(one)
        except ProcessLookupError:
            continue
    try:
        yield handles
    finally:
        for handle in handles.values():
            os.close(handle)


def await_end(handles: dict[int, int]) -> float:
    """Wait until all of them have ended; how long that took, in seconds."""
    began = time.monotonic()
    for pid, handle in handles.items():
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        left_ms = (began + ENDED_WITHIN_S - time.monotonic()) * 1000
        assert poll.poll(max(0.0, left_ms)), f"process {pid} ({kind_of(pid)}) outlived its parent"
    return time.monotonic() - began


def at_work_in(folder: Path) -> list[str]:
    """Processes that name the folder in their command, or live in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder) in words or os.readlink(entry / "cwd").startswith(str(folder)):
                found.append(f"{entry.name}: {words}")
        except OSError:
            continue
    return found


def killed_master(folder: Path) -> None:
    """Serve in this folder, and kill -9 of the master."""
    command = [*EXCHANGE, "serve", "--data-dir", str(folder / "data"), "--port", "0", "--lab"]
    command += ["--workers", "2", "--log", str(folder / "log"), "--ready-line"]
    process = child(command, folder / "err")
    try:
        url = first_line(process, folder / "err")["url"]
        until(lambda: called(url, "GET", "/healthz").status == 200, "it answers")
        with watched(process.pid) as handles:
            assert len(handles) > 5  # two workers, the jobs, two servers and Postgres's own
            process.kill()
            await_end(handles)
    finally:
        ended(process)
    assert at_work_in(folder) == []


def test_kill_9_of_the_master_leaves_no_process_and_the_folder_serves_again(tmp_path: Path) -> None:
    killed_master(tmp_path)
    killed_master(tmp_path)


def test_processes_and_servers_that_end_together_come_back_together(tmp_path: Path) -> None:
    """Workers that boot while Postgres is away must wait for it: gunicorn would stop everything
    when one of them gives up."""
    command = [*EXCHANGE, "serve", "--data-dir", str(tmp_path / "data"), "--port", "0", "--lab"]
    command += ["--workers", "2", "--log", str(tmp_path / "log"), "--ready-line"]
    process = child(command, tmp_path / "err")
    try:
        url = first_line(process, tmp_path / "err")["url"]
        for _ in range(6):
            until(lambda: called(url, "GET", "/healthz").status == 200, "it answers")
            for pid in children(process.pid):
                if kind_of(pid) is not None:
                    os.kill(pid, signal.SIGKILL)
        until(lambda: called(url, "GET", "/healthz").status == 200, "it answers again")
        kinds = {"worker", "jobs", "postgres", "valkey"}
        until(lambda: kinds == {kind_of(pid) for pid in children(process.pid)}, "all are back")
        assert process.poll() is None
    finally:
        ended(process)


def demo(folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    folder.mkdir()
    command = [*EXCHANGE, "demo", "--data-dir", str(folder / "data"), *more]
    command += ["--papers", str(folder / "papers")]
    with (folder / "out").open("wb") as said:
        return subprocess.Popen(
            command, stdout=said, stderr=said, env=environment(), preexec_fn=_hears_ctrl_c
        )


def _hears_ctrl_c() -> None:
    """Also where the suite itself was started in the background, which makes a shell ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def traded(folder: Path) -> Any:
    """Wait until the demo's sellers are at work."""
    notes = folder / "data" / "sellers.jsonl"
    return until(
        lambda: notes.exists() and notes.stat().st_size > 20_000,
        f"sellers at work: {(folder / 'out').read_text()}",
        patience_s=60.0,
    )


def test_two_demos_side_by_side_and_their_ends(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    result = tmp_path / "one.json"
    first = demo(one, "--seconds", "4", "--seed", "3", "--json", str(result))
    second = demo(two, "--seconds", "600", "--seed", "4")
    third = None
    try:
        traded(two)
        first.wait(180)
        checks = json.loads(result.read_bytes())["checks"]
        assert [check for check in checks if check["violations"]] == []
        assert at_work_in(one) == []

        third = demo(three, "--seconds", "600")
        with watched(second.pid) as handles:
            second.send_signal(signal.SIGINT)  # Ctrl-C
            assert second.wait(30) != 0
            await_end(handles)
        assert at_work_in(two) == []
        assert "Traceback" not in (two / "out").read_text()

        traded(three)
        with watched(third.pid) as handles:
            third.kill()
            await_end(handles)
        assert at_work_in(three) == []
    finally:
        for process in (first, second, third):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
