"""The image and the compose file, without a container engine.

The Dockerfile's own steps are run in folders under a temporary one: a clean virtual environment,
only the files that the steps copy, the same pip calls. What then runs is the image's entry point,
on the real servers, with the arguments and settings that the compose file gives it, until the
image's own health check says ready. What this cannot show: the base image's libraries.
"""

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
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from exchange.config import read_settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("exchange", "jobs", "migrate")


class Step(NamedTuple):
    """One instruction of the Dockerfile; `stage` counts from 0."""

    stage: int
    word: str
    rest: str


def steps() -> list[Step]:
    stage, found = -1, []
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            stage += word == "FROM"
            found.append(Step(stage, word, rest))
    return found


def last(word: str) -> str:
    return [step.rest for step in steps() if step.word == word][-1]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(last("ENV")))


def command_of(service: str) -> list[str]:
    return [str(word) for word in SERVICES[service]["command"]]


# --- what the files say ---------------------------------------------------------------------------


def test_the_image_runs_as_nobody_in_particular_with_a_health_check() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "/readyz" in last("HEALTHCHECK")
    assert json.loads(last("ENTRYPOINT")) == ["/app/bin/exchange"]


def test_everything_copied_is_in_the_tree_and_not_kept_out_by_dockerignore() -> None:
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for step in steps():
        if step.word == "COPY" and step.stage == 0:
            for name in step.rest.split()[:-1]:
                assert (ROOT / name).exists(), name
                assert f"!{name}" in kept, name


def test_the_python_of_the_image_is_one_the_package_takes() -> None:
    versions = {
        re.findall(r"python:3\.(\d+)", step.rest)[0] for step in steps() if step.word == "FROM"
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert len(versions) == 1
    assert int(versions.pop()) >= 11


@pytest.mark.parametrize("service", OURS)
def test_a_service_says_only_settings_there_are(service: str, tmp_path: Path) -> None:
    said = {**image_environment(), **SERVICES[service]["environment"]}
    settings = {name: str(value) for name, value in said.items() if name.startswith("EXCHANGE_")}
    url = tmp_path / "database_url"
    url.write_text("postgresql://exchange:secret@postgres:5432/exchange")
    assert settings["EXCHANGE_DATABASE_URL_FILE"] == "/run/secrets/database_url"
    read = read_settings(settings | {"EXCHANGE_DATABASE_URL_FILE": str(url)})
    assert read.host == "0.0.0.0"  # inside the container's own network
    assert not read.is_embedded


def test_secrets_volumes_and_dependencies_that_are_named_are_there() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"]), name
        assert set(service.get("depends_on", ())) <= set(SERVICES), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), volume
        for dependency, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                checked = "healthcheck" in SERVICES[dependency] or dependency == "exchange"
                assert checked, f"{name} waits for the health of {dependency}, which has no check"


def test_no_secret_stands_in_the_compose_file() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|SECRET|MASTER_KEY|DATABASE_URL", variable)
            assert not secret or str(value).startswith("/run/secrets/"), f"{name}: {variable}"


def test_the_jobs_count_where_the_exchange_tells_it() -> None:
    assert SERVICES["jobs"]["volumes"] == SERVICES["exchange"]["volumes"]


# --- the steps, rehearsed -------------------------------------------------------------------------


class Image(NamedTuple):
    """The image's root, as folders below a temporary one."""

    root: Path

    def here(self, text: str) -> str:
        """A line of the Dockerfile with the image's folders replaced by ours."""
        return re.sub(r"(?<![\w./])/(src|app|data)(?![\w])", rf"{self.root}/\1", text)

    def environment(self, **more: str) -> dict[str, str]:
        """The image's own, and nothing of this process but where to find packages."""
        passed = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "SSL_", "REQUESTS_")) or name.lower().endswith("_proxy")
        }
        python = str(Path(sys.executable).parent)
        own = {name: self.here(value) for name, value in image_environment().items()}
        own["PATH"] = f"{self.here('/app/bin')}:{python}:/usr/bin:/bin"
        return {**passed, **own, **more}

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root / "data",
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    built = Image(tmp_path_factory.mktemp("image"))
    (built.root / "src").mkdir()
    for step in steps():
        if step.stage == 0 and step.word == "COPY":
            *names, target = step.rest.split()
            for name in names:
                copied(ROOT / name, built.root / "src" / target)
        elif step.stage == 0 and step.word == "RUN":
            subprocess.run(
                ["/bin/sh", "-euc", built.here(step.rest)],
                cwd=built.root / "src",
                env=built.environment(),
                check=True,
                timeout=300,
            )
        elif step.word == "COPY" and "/src/data" in step.rest:
            shutil.copytree(built.root / "src" / "data", built.root / "data")
        else:
            assert step.word not in {"RUN", "ADD"}, f"a step nobody rehearses: {step}"
    shutil.rmtree(built.root / "src")  # the last stage has nothing of it
    return built


def copied(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def entry(image: Image) -> str:
    [program] = json.loads(last("ENTRYPOINT"))
    return image.here(program)


@pytest.mark.slow
@pytest.mark.parametrize("service", OURS)
def test_the_image_knows_the_command_and_options_of_the_service(image: Image, service: str) -> None:
    command, *options = command_of(service)
    told = image.run(entry(image), command, "--help", COLUMNS="200", NO_COLOR="1")
    assert told.returncode == 0, told.stderr
    for option in options:
        if option.startswith("--"):
            assert option in told.stdout, option


@pytest.mark.slow
def test_the_image_without_settings_says_what_is_missing(image: Image) -> None:
    told = image.run(entry(image), "serve", EXCHANGE_DATABASE_URL="postgresql://nowhere/exchange")
    assert told.returncode == 2
    assert "EXCHANGE_VALKEY_URL" in told.stderr
    assert "EXCHANGE_MASTER_KEY_FILE" in told.stderr


@pytest.mark.slow
@pytest.mark.real
def test_the_image_migrates_serves_and_is_healthy(
    image: Image, database_url: str, valkey_url: str, tmp_path: Path
) -> None:
    (tmp_path / "database_url").write_text(database_url)
    (tmp_path / "master_key").write_text(f"1 {'5a' * 32}\n")
    settings = {
        "EXCHANGE_DATABASE_URL_FILE": str(tmp_path / "database_url"),
        "EXCHANGE_VALKEY_URL": valkey_url,
        "EXCHANGE_MASTER_KEY_FILE": str(tmp_path / "master_key"),
        "EXCHANGE_HOST": "127.0.0.1",
        "EXCHANGE_PORT": str(free_port()),
    }
    for command in (command_of("migrate"), ["apply", str(ROOT / "examples" / "market.toml")]):
        done = image.run(entry(image), *command, **settings)
        assert done.returncode == 0, done.stderr
    with serving(image, settings, tmp_path / "output") as output:
        assert becomes_healthy(image, settings), output.read_text()


def becomes_healthy(image: Image, settings: dict[str, str]) -> bool:
    """Whether the image's check passes within the start period it allows itself."""
    options, _, checked = last("HEALTHCHECK").partition(" CMD ")
    start_s = float(re.findall(r"--start-period=(\d+)s", options)[0])
    until = time.monotonic() + start_s
    check = [image.here(word) for word in json.loads(checked)]
    while time.monotonic() < until:
        if image.run(*check, **settings).returncode == 0:
            return True
    return False


@contextmanager
def serving(image: Image, settings: dict[str, str], output: Path) -> Iterator[Path]:
    """The service as compose starts it, to the clean end that SIGTERM asks for."""
    with output.open("wb") as said:
        server = subprocess.Popen(
            [entry(image), *command_of("exchange")],
            cwd=image.root / "data",
            env=image.environment(**settings),
            stdout=said,
            stderr=said,
        )
    try:
        yield output
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0, output.read_text()
    finally:
        server.kill()
        server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
