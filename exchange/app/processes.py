"""The processes of one machine: embedded servers where none are given, the workers under gunicorn,
and one jobs process beside them.

Everything started here dies with the process that started it, however that ends: gunicorn's workers
watch their parent, the servers and the jobs process ask the kernel for a signal at its death. And
everything that ends by itself is started again: workers by gunicorn, the jobs process and embedded
servers by a thread each. The servers keep their addresses, so whoever was connected reconnects.
"""

import asyncio
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from exchange.app.ground import Urls
from exchange.app.jobs import jobs
from exchange.app.worker import DRAIN_S, runner
from exchange.config import Settings
from exchange.effects.postgres import migrate
from exchange.embedded import EmbeddedError, Servers

RUN_FILE = "run.json"
"""In the data folder while embedded servers run: where they are, for the other commands."""
SERVING_FILE = "serving.json"
"""In the data folder while an exchange serves: its address, for `exchange top`."""
JOBS_RESTART_S = 1.0
LOOK_S = 0.1
"""How often a process looks whether its servers still run."""
SERVER_RETRY_S = 1.0
"""Between tries to start a server, or a worker, that does not come up."""
BOOT_FAILED = 3
"""gunicorn stops altogether when a worker ends with this code."""


@contextmanager
def servers(
    settings: Settings, *, forks: AbstractContextManager[Any] | None = None
) -> Iterator[Urls]:
    """Postgres and Valkey: those of the settings, those a running exchange of this data folder has,
    or our own for as long as the block lasts. Migrated. Raises `EmbeddedError`."""
    if settings.database_url is not None and settings.valkey_url is not None:
        yield Urls(database_url=settings.database_url, valkey_url=settings.valkey_url)
        return
    running = running_servers(Path(settings.data_dir))
    if running is not None:
        yield running
        return
    embedded = Servers(Path(settings.data_dir), forks=forks)
    started = embedded.start()
    urls = Urls(database_url=started.database_url, valkey_url=started.valkey_url)
    run_file = Path(settings.data_dir) / RUN_FILE
    try:
        asyncio.run(migrate(urls.database_url))
        _write_private(run_file, msgspec.json.encode(urls))
        with _kept_up(embedded):
            yield urls
    finally:
        run_file.unlink(missing_ok=True)
        embedded.stop()


@contextmanager
def _kept_up(embedded: Servers) -> Iterator[None]:
    """Start servers again that end by themselves, for as long as the block lasts."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(LOOK_S):
            for name in embedded.ended:
                _tell(f"{name} has ended; starting it again")
                try:
                    embedded.restart(name)
                except EmbeddedError as fault:
                    _tell(str(fault))
                    stop.wait(SERVER_RETRY_S)

    thread = threading.Thread(target=keep, name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _tell(words: str) -> None:
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def running_servers(data_dir: Path) -> Urls | None:
    """The servers of an exchange that runs in this folder now."""
    try:
        with (data_dir / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None  # nobody holds it: what the file says is left over
    except FileNotFoundError:
        return None
    except BlockingIOError:
        with suppress(FileNotFoundError):
            return msgspec.json.decode((data_dir / RUN_FILE).read_bytes(), type=Urls)
    return None


def _write_private(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def serve(settings: Settings, *, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until told to stop (SIGTERM, SIGINT: drain, nothing lost). `on_ready` hears the address
    once the sockets listen."""
    forks = _forks()
    serving = Path(settings.data_dir) / SERVING_FILE

    def ready(url: str) -> None:
        serving.parent.mkdir(parents=True, exist_ok=True)
        _write_private(serving, msgspec.json.encode(url))
        on_ready(url)

    with servers(settings, forks=forks) as urls:
        stop_jobs = _jobs_child(settings, forks) if settings.jobs else None
        try:
            _gunicorn(settings, urls, ready)
        finally:
            serving.unlink(missing_ok=True)
            if stop_jobs is not None:
                stop_jobs()


def serving_url(data_dir: Path) -> str | None:
    """The address of the exchange that serves from this folder; it may have died since."""
    try:
        return msgspec.json.decode((data_dir / SERVING_FILE).read_bytes(), type=str)
    except (OSError, msgspec.DecodeError):
        return None


def _forks() -> AbstractContextManager[Any]:
    """Held by every fork of this process, and by threads while they start a process: a worker that
    is forked in that moment would keep open the pipe on which the starting thread waits."""
    lock = threading.RLock()
    os.register_at_fork(
        before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
    )
    return lock


def _gunicorn(settings: Settings, urls: Urls, on_ready: Callable[[str], None]) -> None:
    """gunicorn's arbiter with aiohttp's uvloop worker; returns when it has stopped."""
    from gunicorn.app.base import BaseApplication  # only servers need it

    numbers: dict[int, int] = {}

    async def made() -> Any:
        return await runner(settings, urls, numbers.get(0, 0))

    def numbered(_arbiter: Any, worker: Any) -> None:
        numbers[0] = worker.age

    def listening(arbiter: Any) -> None:
        host, port = arbiter.LISTENERS[0].sock.getsockname()[:2]
        on_ready(f"http://{host}:{port}")

    class Serving(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in {
                "bind": f"{settings.host}:{settings.port}",
                "workers": settings.workers,
                "worker_class": "aiohttp.GunicornUVLoopWebWorker",
                "graceful_timeout": int(DRAIN_S),
                "timeout": 60,
                "loglevel": "warning",
                "accesslog": None,
                "proc_name": "exchange",
                "post_fork": numbered,
                "when_ready": listening,
                "control_socket_disable": True,
            }.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self) -> Any:
            return made

    master = os.getpid()
    try:
        Serving().run()
    except SystemExit as end:
        if os.getpid() != master:  # a worker, forked in here: what follows is the master's to do
            code = end.code if isinstance(end.code, int) else 1
            if code == BOOT_FAILED and numbers[0] > settings.workers:
                code = 1  # it replaced one that worked: gunicorn must try again, not stop them all
                time.sleep(SERVER_RETRY_S)
            os._exit(code)
        if end.code:
            raise


# --- the jobs process beside the workers ----------------------------------------------------------


def _jobs_child(settings: Settings, forks: AbstractContextManager[Any]) -> Callable[[], None]:
    """Keep one `exchange jobs` running beside us; the answer stops it. A thread of its own holds
    the child, for the kernel's signal at our death is that of the thread which forked it."""
    stop = threading.Event()
    command = [sys.executable, "-m", "exchange", "jobs", "--data-dir", settings.data_dir]
    given = {"EXCHANGE_LAB": str(settings.lab).lower(), "EXCHANGE_LOG": settings.log}
    environment = os.environ | given

    def keep() -> None:
        while not stop.is_set():
            with forks:
                child = subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent)
            while not stop.is_set() and _is_alive(child):
                stop.wait(0.2)
            if stop.is_set():
                child.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(10)
                return
            stop.wait(JOBS_RESTART_S)

    thread = threading.Thread(target=keep, name="jobs", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(15)

    return end


def _is_alive(child: "subprocess.Popen[bytes]") -> bool:
    return child.poll() is None


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


def run_jobs(settings: Settings) -> None:
    """The jobs process itself, until SIGTERM or SIGINT."""
    with servers(settings) as urls:
        uvloop.run(_jobs_until_told(settings, urls))


async def _jobs_until_told(settings: Settings, urls: Urls) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    await jobs(settings, urls, stop)
