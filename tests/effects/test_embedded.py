"""The embedded servers: real processes that are started, killed, left behind and found again."""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest

from exchange.effects.postgres import HOUSE_PARTY, Database, DatabaseDown, connect, migrate
from exchange.embedded import EmbeddedError, Servers, Urls, readable_binary

pytestmark = pytest.mark.real

PARENT = """
import signal, sys, threading
from pathlib import Path
from exchange.embedded import Servers
servers = Servers(Path(sys.argv[1]))
if sys.argv[2] == "thread":
    thread = threading.Thread(target=servers.start)
    thread.start(); thread.join()
else:
    servers.start()
print(servers.pid("postgres"), servers.pid("valkey"), flush=True)
signal.pause()
"""
MIGRATE = """
import asyncio, sys
from exchange.effects.postgres import migrate
asyncio.run(migrate(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data folder that was started once: what most tests begin with, to save them initdb."""
    with tempfile.TemporaryDirectory(prefix="exchange-embedded-") as path:
        servers = Servers(Path(path) / "data")
        servers.start()
        servers.stop()
        yield Path(path) / "data"


@pytest.fixture
def folder(made: Path) -> Iterator[Path]:
    """A folder of the test's own with a copy of the made one in `data`."""
    with tempfile.TemporaryDirectory(prefix="exchange-embedded-") as path:
        subprocess.run(["cp", "--archive", made, path], check=True)
        yield Path(path)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Servers]]:
    started: list[Servers] = []

    def start(name: str = "data") -> Servers:
        servers = Servers(folder / name)
        started.append(servers)
        servers.start()
        return servers

    yield start
    for servers in started:
        servers.stop()


def valkey(urls: Urls, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(unquote(urlsplit(urls.valkey_url).path))
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(4096).decode().splitlines()[-1]


async def run(urls: Urls, sql: str) -> object:
    connection = await asyncpg.connect(urls.database_url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def await_end(pids: list[int]) -> None:
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        ended = poll.poll(20_000)
        os.close(handle)
        assert ended, f"process {pid} outlived its parent"


def working_in(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.readlink(entry).startswith(str(folder)):
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


# --- start and stop -------------------------------------------------------------------------------


async def test_two_run_side_by_side_also_where_paths_are_long(
    start: Callable[..., Servers],
) -> None:
    first, second = start("one"), start("two" * 60)
    for number, servers in enumerate((first, second)):
        await run(
            servers.urls, f"SELECT pg_catalog.set_config('work_mem', '{number + 1}MB', false)"
        )
        assert valkey(servers.urls, f"SET n {number}") == "+OK"
    assert [valkey(servers.urls, "GET n") for servers in (first, second)] == ["0", "1"]
    names = [await run(servers.urls, "SHOW cluster_name") for servers in (first, second)]
    assert names == ["one", "two" * 20]


async def test_data_outlives_a_clean_stop(start: Callable[..., Servers]) -> None:
    servers = start()
    await run(servers.urls, "CREATE TABLE kept AS SELECT 42 AS n")
    valkey(servers.urls, "SET kept 42")
    servers.stop()
    servers.stop()
    again = start().urls
    assert await run(again, "SELECT n FROM kept") == 42
    assert valkey(again, "GET kept") == "42"


async def test_data_outlives_the_servers_kill_and_the_address_stays(
    start: Callable[..., Servers],
) -> None:
    servers = start()
    before = servers.urls
    await run(before, "CREATE TABLE kept AS SELECT 42 AS n")
    valkey(before, "SET kept 42")
    for name in ("postgres", "valkey"):
        servers.kill(name)
        servers.restart(name)
    assert servers.urls == before
    assert await run(before, "SELECT n FROM kept") == 42
    assert valkey(before, "GET kept") == "42"


async def test_a_stopped_server_can_be_restarted(start: Callable[..., Servers]) -> None:
    servers = start()
    servers.kill("valkey", signal.SIGSTOP)
    servers.restart("valkey")
    assert valkey(servers.urls, "PING") == "+PONG"


def test_a_folder_in_use_is_refused_with_a_sentence(
    start: Callable[..., Servers], folder: Path
) -> None:
    servers = start()
    with pytest.raises(EmbeddedError, match=f"Another run uses {folder}/data"):
        start()
    assert valkey(servers.urls, "PING") == "+PONG"
    servers.stop()
    assert valkey(start().urls, "PING") == "+PONG"


def test_a_start_that_fails_says_why_and_leaves_nothing_running(
    start: Callable[..., Servers], folder: Path
) -> None:
    start().stop()
    (folder / "data" / "postgres" / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match="no_such_setting"):
        start()
    assert working_in(folder) == []


# --- the parent's death ---------------------------------------------------------------------------


def killed_parent(data: Path, how: str) -> list[int]:
    """Starts servers from another process, kills that, and tells the servers' ids."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(data), how], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        for pid in pids:
            os.kill(pid, 0)  # a starting thread that has ended took nothing with it
        parent.kill()
    return pids


@pytest.mark.parametrize("how", ["main", "thread"])
def test_killing_the_parent_leaves_no_process(folder: Path, how: str) -> None:
    await_end(killed_parent(folder / "data", how))
    assert working_in(folder) == []


async def test_a_killed_run_is_taken_over_at_once(
    start: Callable[..., Servers], folder: Path
) -> None:
    killed_parent(folder / "data", "main")
    assert await run(start().urls, "SELECT 1") == 1  # its servers may still be ending


async def test_a_stale_pid_file_that_names_a_living_process_is_no_hindrance(
    start: Callable[..., Servers], folder: Path
) -> None:
    servers = start()
    await run(servers.urls, "CREATE TABLE kept AS SELECT 42 AS n")
    pid_file = folder / "data" / "postgres" / "postmaster.pid"
    stale = pid_file.read_text().splitlines()
    servers.kill("postgres")
    servers.stop()
    pid_file.write_text("\n".join([str(os.getpid()), *stale[1:]]) + "\n")
    assert await run(start().urls, "SELECT n FROM kept") == 42


# --- rights ---------------------------------------------------------------------------------------


async def test_the_database_wants_its_password(start: Callable[..., Servers], folder: Path) -> None:
    url = start().urls.database_url
    secret = folder / "data" / "password"
    assert secret.stat().st_mode & 0o077 == 0
    assert not (folder / "data" / "initdb.password").exists()
    for wrong in (
        url.replace(secret.read_text(), "guess"),
        f"postgresql://exchange:guess@127.0.0.1:{url.rpartition('=')[2]}/postgres",
    ):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(wrong)
    assert secret.read_text() not in repr(Servers(folder / "data").urls)


def test_the_servers_never_run_as_root(start: Callable[..., Servers]) -> None:
    servers = start()
    for name in ("postgres", "valkey"):
        assert Path(f"/proc/{servers.pid(name)}").stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root copies binaries")
def test_binaries_that_the_servers_could_not_read_are_copied_once(folder: Path) -> None:
    private = folder / "private" / "bin"
    private.mkdir(parents=True)
    (folder / "private").chmod(0o700)
    (private / "server").write_text("#!/bin/sh\n")
    (private / "server").chmod(0o700)
    copy = readable_binary(private.parent, "bin/server", uid=65534, cache=folder / "cache")
    assert copy != private / "server"
    assert copy.read_text() == "#!/bin/sh\n"
    assert copy.stat().st_mode & 0o777 == 0o755
    assert copy.parent.stat().st_mode & 0o005 == 0o005
    again = readable_binary(private.parent, "bin/server", uid=65534, cache=folder / "cache")
    assert again == copy
    own = readable_binary(private.parent, "bin/server", uid=0, cache=folder / "cache")
    assert own == private / "server"


# --- on top of them -------------------------------------------------------------------------------


def migrate_at_once(urls: list[str]) -> None:
    command = [sys.executable, "-c", MIGRATE]
    processes = [
        subprocess.Popen([*command, url], stderr=subprocess.PIPE, text=True) for url in urls
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


async def test_migrations_run_by_several_processes_at_once_agree(
    start: Callable[..., Servers],
) -> None:
    servers = start()
    await run(servers.urls, "CREATE DATABASE second")
    urls = [servers.urls.database_url, servers.urls.database_url.replace("/postgres?", "/second?")]
    migrate_at_once(urls * 2)
    for url in urls:
        await migrate(url)
        connection = await connect(url, role="exchange_app", application_name="tests")
        assert await connection.fetchval("SELECT count(*) FROM party") == 1
        await connection.close()


async def test_a_database_keeps_its_role_and_speaks_json(database_url: str) -> None:
    reader = await Database.open(database_url, role="exchange_reader", party_id=HOUSE_PARTY, size=2)
    try:
        for _ in range(2):  # a returned connection is reset, but not to the login's own rights
            assert await reader.fetchval("SELECT current_user::text") == "exchange_reader"
            assert await reader.fetchval("SELECT reading_party()") == HOUSE_PARTY
        assert await reader.fetchval("SELECT $1::jsonb", {"a": [1, "ü"]}) == {"a": [1, "ü"]}
        assert await reader.fetchval("SELECT $1::jsonb ->> 'a'", {"a": "b"}) == "b"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("INSERT INTO audit (by, action) VALUES ('x', 'y')")
    finally:
        await reader.close()


async def test_a_transaction_is_whole_or_nothing(database_url: str) -> None:
    app = await Database.open(database_url, role="exchange_app")
    insert = "INSERT INTO audit (by, action) VALUES ($1, 'a')"
    try:
        async with app.transaction() as connection:
            await connection.execute(insert, "kept")
        with pytest.raises(asyncpg.NotNullViolationError):  # noqa: PT012 the first must precede
            async with app.transaction() as connection:
                await connection.execute(insert, "lost")
                await connection.execute(insert, None)
        assert [row["by"] for row in await app.fetch("SELECT by FROM audit")] == ["kept"]
        assert await app.fetchrow("SELECT 1 WHERE false") is None
    finally:
        await app.close()


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(database_url: str) -> None:
    app = await Database.open(database_url, role="exchange_app", statement_timeout_ms=50)
    try:
        with pytest.raises(DatabaseDown):
            await app.execute("SELECT pg_sleep(30)")
        assert await app.fetchval("SELECT 1") == 1
    finally:
        await app.close()
