"""Failpoints: off they are nothing; on, a file strikes once, whoever comes first."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.effects.failpoints import failpoints, nowhere

DIES = """
import asyncio, sys
from pathlib import Path
from exchange.effects.failpoints import failpoints

async def main():
    at = failpoints(Path(sys.argv[1]))
    await at("elsewhere")
    await at("here")
    print("behind it", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_off_there_is_nothing_to_come_to() -> None:
    await nowhere("here")


async def test_a_place_that_is_not_armed_is_passed(tmp_path: Path) -> None:
    await failpoints(tmp_path)("here")


@pytest.mark.parametrize(("act", "said"), [("kill", b""), ("kill 20", b"behind it\n")])
def test_an_armed_place_ends_the_process_once(tmp_path: Path, act: str, said: bytes) -> None:
    (tmp_path / "here").write_text(act)
    command = [sys.executable, "-c", DIES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, said)
    assert list(tmp_path.iterdir()) == []


async def test_a_pause_holds_one_task_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("pause")
    at = failpoints(tmp_path)
    paused = asyncio.create_task(at("here"))
    await asyncio.sleep(0)
    await at("here")
    assert not paused.done()
    paused.cancel()
