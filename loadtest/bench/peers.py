"""The peers: other people's way of doing the bare fan-out, each fairly written for its platform.

All do the same job on one core: for every POST ask N buyers with the ping as it came, over
kept-alive connections, parse every answer's HTTP and JSON, and answer the best bid before a
deadline. No rules, no records. What a peer needs and the project does not (a Node package, a
compiled program) is made in a cache folder; a peer whose platform is not here is skipped by name,
with the reason.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.bench.processes import NotStarted, child, first_line

SOURCES = Path(__file__).resolve().parents[1] / "peers"
CACHE = Path("build/peers")
BUILD_S = 300.0
FASTAPI = ("fastapi==0.165.0", "httpx==0.28.1", "uvicorn==0.54.0")
TOOLS = f"{os.environ.get('PATH', os.defpath)}:/usr/local/go/bin:/usr/sbin"
"""Where Go's and Debian's packages put programs that a shell's own path may lack."""


class Missing(Exception):
    """A peer cannot run here; the message says what it lacks."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a peer is started. `version` is what it runs on."""

    words: Sequence[str]
    version: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """`made` answers the command and makes in the folder what it needs; raises `Missing`."""

    name: str
    title: str
    made: Callable[[Path], Command]


@dataclass(frozen=True, kw_only=True)
class Started:
    """Peers that run (`pid`, `port` and `version` by name), and why the others do not."""

    running: dict[str, dict[str, Any]]
    skipped: dict[str, str]


def started(
    stack: ExitStack,
    ports: Sequence[int],
    folder: Path,
    *,
    peers: Sequence[Peer] | None = None,
    cache: Path = CACHE,
    tmax_ms: int = 1_500,
) -> Started:
    """Every peer that can run here, asking the buyers on these ports."""
    running: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    for peer in PEERS if peers is None else peers:
        try:
            command = peer.made(cache)
            words = [*command.words, *_arguments(command, ports, tmax_ms)]
            if peer.name == "nginx_lua":
                words += ["--folder", tempfile.mkdtemp(prefix="nginx-", dir=folder)]
            process = stack.enter_context(child(words, **command.environment))
            running[peer.name] = {**first_line(process, peer.title), "version": command.version}
        except (Missing, NotStarted) as lacking:
            skipped[peer.name] = str(lacking)
    return Started(running=running, skipped=skipped)


def _arguments(command: Command, ports: Sequence[int], tmax_ms: int) -> list[str]:
    return ["--ports", ",".join(map(str, ports)), "--tmax-ms", str(tmax_ms)]


# --- how each is made -----------------------------------------------------------------------------


def _aiohttp(_cache: Path) -> Command:
    import aiohttp

    words = (sys.executable, "-m", "loadtest.peers.aiohttp_fanout")
    return Command(words=words, version=f"aiohttp {aiohttp.__version__}")


def _fastapi(cache: Path) -> Command:
    """The wheels go into a folder of their own, so that they are no dependency of the project."""

    def fetched(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _ran([*pip, "--no-input", "--target", str(folder), *FASTAPI], "FastAPI and httpx")

    folder = _kept(cache, "fastapi", " ".join((sys.version, *FASTAPI)).encode(), fetched)
    return Command(
        words=(sys.executable, "-m", "loadtest.peers.fastapi_fanout"),
        version=", ".join(FASTAPI).replace("==", " "),
        environment={"PYTHONPATH": f"{folder}{os.pathsep}{SOURCES.parents[1]}"},
    )


def _node(cache: Path) -> Command:
    node, npm = _program("node", "Node"), _program("npm", "npm")
    files = [SOURCES / "node" / name for name in ("package.json", "package-lock.json")]
    program = SOURCES / "node" / "fanout.mjs"

    def fetched(folder: Path) -> None:
        for file in (*files, program):
            shutil.copy(file, folder)
        _ran([npm, "ci", "--no-audit", "--no-fund", "--prefix", str(folder)], "undici")

    mark = b"".join(file.read_bytes() for file in (*files, program))
    folder = _kept(cache, "node", mark, fetched)
    return Command(words=(node, str(folder / "fanout.mjs")), version=f"Node {_said(node)}")


def _go(cache: Path) -> Command:
    go = _program("go", "Go")
    version = _said(go, "version")
    mark = b"".join(file.read_bytes() for file in sorted((SOURCES / "go").iterdir()))

    def compiled(folder: Path) -> None:
        settings = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
        command = [go, "-C", str(SOURCES / "go"), "build", "-o", str(folder / "fanout"), "."]
        _ran(command, "compiling", **settings)

    folder = _kept(cache, "go", version.encode() + mark, compiled)
    return Command(
        words=(str(folder / "fanout"),), version=version, environment={"GOMAXPROCS": "1"}
    )


def _nginx_lua(_cache: Path) -> Command:
    from loadtest.peers.nginx_fanout import MODULES

    nginx = _program("nginx", "nginx")
    if not (MODULES / "ngx_http_lua_module.so").exists():
        raise Missing("no Lua module of nginx (Debian: nginx-extras)")
    if not any(Path("/usr/lib").glob("*/lua/5.1/cjson.so")):
        raise Missing("no JSON for Lua (Debian: lua-cjson)")
    words = (sys.executable, "-m", "loadtest.peers.nginx_fanout", "--nginx", nginx)
    return Command(words=words, version=_said(nginx, "-v"))


PEERS = (
    Peer(name="aiohttp", title="aiohttp client, gather", made=_aiohttp),
    Peer(name="fastapi_httpx", title="FastAPI, httpx", made=_fastapi),
    Peer(name="node_undici", title="Node, undici", made=_node),
    Peer(name="go", title="Go, net/http", made=_go),
    Peer(name="nginx_lua", title="nginx, Lua", made=_nginx_lua),
)


def _program(name: str, title: str) -> str:
    found = shutil.which(name, path=TOOLS)
    if found is None:
        raise Missing(f"no {title}")
    return found


def _said(program: str, argument: str = "--version") -> str:
    """The first line it says of its version, without its name."""
    done = subprocess.run([program, argument], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0].removeprefix("nginx version: ")


def _kept(cache: Path, name: str, mark: bytes, make: Callable[[Path], None]) -> Path:
    """A folder that `make` filled for just this mark, now or earlier. One that it could not fill
    is removed again."""
    folder = (cache / f"{name}-{hashlib.sha256(mark).hexdigest()[:12]}").resolve()
    if folder.exists():
        return folder
    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        make(draft)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _ran(command: Sequence[str], what: str, **environment: str) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_S,
            env=os.environ | {"PATH": TOOLS} | environment,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Missing(f"{what}: {type(fault).__name__}") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Missing(f"{what}: {' '.join(last)}")
