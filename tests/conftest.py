"""The real servers for every test that asks for them: started once per run (once per xdist worker),
in a folder of their own, and stopped at its end.

    database_url   a fresh, migrated database per test module (cloned from a template)
    valkey_url     an empty Valkey per test
    servers        the servers themselves, to kill and restart; the module must leave both running
    seed           what all chance in a test comes from; printed; set it by TESTS_SEED=7
"""

import asyncio
import os
import random
import re
import shutil
import socket
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest

from exchange.effects.postgres import migrate
from exchange.embedded import Servers, Urls

TEMPLATE = "template_of_tests"


def pytest_configure(config: pytest.Config) -> None:
    # In the environment, so that the workers of xdist have the number that the header prints.
    os.environ.setdefault("TESTS_SEED", str(random.SystemRandom().randrange(1_000_000)))


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: TESTS_SEED={os.environ['TESTS_SEED']}"


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ["TESTS_SEED"])


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    folder = Path(tempfile.mkdtemp(prefix="exchange-tests-"))
    servers = Servers(folder)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template_url(servers: Servers) -> str:
    """The template; connect to it only while no module is being set up."""
    urls = servers.urls
    run_apart(make_database(urls, TEMPLATE, "template0"))
    url = with_database(urls, TEMPLATE)
    run_apart(migrate(url))
    return url


@pytest.fixture(scope="module")
def database_url(
    servers: Servers, template_url: str, request: pytest.FixtureRequest
) -> Iterator[str]:
    name = "test_" + re.sub(r"\W+", "_", request.node.nodeid)[-50:]
    run_apart(make_database(servers.urls, name, TEMPLATE))
    yield with_database(servers.urls, name)
    run_apart(drop_database(servers.urls, name))


@pytest.fixture
def valkey_url(servers: Servers) -> str:
    url = servers.urls.valkey_url
    with socket.socket(socket.AF_UNIX) as valkey:
        valkey.connect(unquote(urlsplit(url).path))
        valkey.sendall(b"FLUSHALL\r\nSCRIPT FLUSH\r\n")
        replies = b""
        while replies.count(b"\r\n") < 2:
            replies += valkey.recv(256)
    assert replies == b"+OK\r\n+OK\r\n"
    return url


def with_database(urls: Urls, name: str) -> str:
    return urls.database_url.replace("/postgres?", f"/{name}?")


async def make_database(urls: Urls, name: str, template: str) -> None:
    connection = await asyncpg.connect(urls.database_url)
    await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY = WAL_LOG')
    await connection.close()


async def drop_database(urls: Urls, name: str) -> None:
    connection = await asyncpg.connect(urls.database_url)
    await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await connection.close()


def run_apart(coroutine: Coroutine[object, object, None]) -> None:
    """Runs it on a loop and thread of its own: the thread's loop belongs to the tests."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, coroutine).result()
