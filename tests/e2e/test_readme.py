"""The README is run as it stands: its commands, its first ping and post, the settings it names."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from typer.main import get_command

from exchange.__main__ import cli
from exchange.config import PREFIX, Limits, Settings

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
START_S = 60.0


def blocks(heading: str) -> list[str]:
    """The shell blocks under a heading of the README."""
    part = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", part, re.DOTALL)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(script: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A shell block that runs until it is told to stop."""
    with (folder / "out.log").open("ab") as log:
        child = subprocess.Popen(
            ["bash", "-ec", script],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        child.wait(60)


def said_by(script: str, folder: Path, environment: dict[str, str]) -> str:
    """What a shell block prints; it must succeed."""
    return subprocess.run(
        ["bash", "-ec", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=True,
    ).stdout


def until_answered(url: str) -> None:
    """Until something answers there, whatever it says."""
    ends = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert time.monotonic() < ends, f"nothing answers at {url}"


def test_a_new_user_makes_a_first_ping_and_post_by_the_readme(tmp_path: Path) -> None:
    port, http, https = free_port(), free_port(), free_port()

    def mine(script: str) -> str:
        """The block as it stands, on ports that are free here and in this test's environment."""
        script = re.sub(r"^make install.*$|^\. \.venv/bin/activate$", "", script, flags=re.M)
        script = re.sub(r"(make install && )?\. \.venv/bin/activate", "", script)
        for old, new in (("8080", port), ("9100", http), ("9143", https)):
            script = script.replace(old, str(new))
        return script

    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    market = tmp_path / "examples" / "market.toml"
    market.write_text(mine(market.read_text()))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    buyers, serve, ping, post = blocks("A first ping and post")
    with (
        running(mine(buyers), tmp_path, environment),
        running(mine(serve), tmp_path, environment),
    ):
        until_answered(f"http://127.0.0.1:{http}/control/stats")
        until_answered(f"http://127.0.0.1:{port}/healthz")
        first = mine(ping) + "\necho; echo KEY=$KEY\n"
        said = said_by(first, tmp_path, environment)
        offer = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
        assert offer["status"] == "offer", offer
        key = said.rsplit("KEY=", 1)[1].strip()
        second = f"KEY={key}\n" + mine(post).replace("PING_ID", offer["ping_id"])
        told = said_by(second, tmp_path, environment)
    sold, story = told.split("}\n", 1) if "}\n" in told else told.split("╭", 1)
    assert '"status":"sold"' in sold, told
    assert f'"payout":"{offer["payout"]}"' in sold
    assert "sold" in story


def test_every_command_stands_in_the_readme() -> None:
    commands = get_command(cli).commands  # type: ignore[attr-defined]
    names = [name for name, command in commands.items() if not command.hidden]
    table = README.split("## The commands")[1].split("\n## ")[0]
    missing = [name for name in names if not re.search(rf"`(exchange )?{name}\b", table)]
    assert not missing


def test_every_setting_the_readme_names_exists() -> None:
    known = {*Settings.__struct_fields__, *Limits.__struct_fields__}
    named = set(re.findall(PREFIX + r"([A-Z_]+)", README))
    assert named
    lower = {name.lower() for name in named}
    assert {name for name in lower if {name, name.removesuffix("_file")}.isdisjoint(known)} == set()


def test_every_command_line_of_the_page_for_finance_is_one_that_exists() -> None:
    """Commands and options, in blocks and in sentences; what they do is shown in their own
    suites."""
    page = README.split("## Returns\n")[1].split("\n## Watch it")[0]
    page = re.sub(r"`\n?", "`", page)
    said = re.findall(r"^ *(exchange .*)$", page, re.M) + re.findall(r"`(exchange [^`]+)`", page)
    assert len(said) > 30
    wrong = [line for line in said if not _exists(shlex.split(line.replace("\n", " "))[1:])]
    assert not wrong


def _exists(words: list[str]) -> bool:
    command = get_command(cli)
    while words and (inner := getattr(command, "commands", {}).get(words[0])) is not None:
        command, words = inner, words[1:]
    if hasattr(command, "commands"):  # a group that takes its first command for granted
        command = command.commands.get("file", command)
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    return all(word in known for word in words if word.startswith("--"))
