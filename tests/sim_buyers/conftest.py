"""A running simulator with one buyer for every kind of trouble, and a client that sees it raw."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

ONE_OF_EACH = """
[defaults]
latency = { kind = "constant", value = 1 }
late_ms = 30
post_late_ms = 120
drip_ms = 1
[defaults.bids]
solar = { kind = "uniform", low = 10, high = 20 }
[buyers.good]
[buyers.picky.ping]
no_bid = 1.0
[buyers.hanging.ping]
hang = 1.0
[buyers.resetting.ping]
reset = 1.0
[buyers.dripping.ping]
drip = 1.0
[buyers.failing.ping]
error = 1.0
[buyers.babbling.ping]
malformed = 1.0
[buyers.flooding.ping]
oversized = 1.0
[buyers.late.ping]
late = 1.0
[buyers.rejecting.post]
reject = 1.0
[buyers.post_hanging.post]
hang = 1.0
[buyers.post_resetting.post]
reset = 1.0
[buyers.post_failing.post]
error = 1.0
[buyers.accept_resetting.post]
accept_then_reset = 1.0
[buyers.accept_hanging.post]
accept_then_hang = 1.0
[buyers.accept_failing.post]
accept_then_error = 1.0
[buyers.accept_late.post]
accept_after_deadline = 1.0
[buyers.post_babbling.post]
malformed = 1.0
[buyers.post_flooding.post]
oversized = 1.0
[buyers.post_dripping.post]
drip = 1.0
[buyers.stubborn]
faults_repeat = true
post = { hang = 1.0 }
[buyers.forgetful]
repost = "duplicate"
[buyers.silent]
status = false
[buyers.sealed]
secret = "whsec_c2VjcmV0LW9mLXRoZS1zZWFsZWQtYnV5ZXI="
[buyers.secure]
tls = "good"
[buyers.expired]
tls = "expired"
"""


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Sim:
    """One running `python -m buyers_sim` and its truth folder."""

    def __init__(self, *arguments: str, truth_dir: Path) -> None:
        self.truth_dir = truth_dir
        command = [sys.executable, "-m", "buyers_sim", "--truth-dir", str(truth_dir), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())

    def connect(self, base: str = "http", *, timeout: float = 5.0) -> socket.socket:
        """A raw connection; TLS for the other bases."""
        where = urlsplit(self.ready[base])
        raw = socket.create_connection((where.hostname, where.port), timeout=timeout)
        if base == "http":
            return raw
        trust = ssl.create_default_context(cafile=self.ready["ca"])
        try:
            return trust.wrap_socket(raw, server_hostname=where.hostname)
        except ssl.SSLError:
            raw.close()
            raise

    def call(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        base: str = "http",
        headers: dict[str, str] | None = None,
        timeout: float = 5.0,
    ) -> Reply:
        """One request on a connection of its own. A broken or silent answer raises, as it would for
        any client."""
        where = urlsplit(self.ready[base])
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout)
        connection.sock = self.connect(base, timeout=timeout)
        try:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content if body is not None else None, headers or {})
            with connection.getresponse() as reply:
                return Reply(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def truth(self, buyer: str) -> list[dict[str, Any]]:
        lines = (self.truth_dir / f"{buyer}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.close()

    def close(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture(scope="session")
def one_of_each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a profile with a buyer for every kind of trouble."""
    path = tmp_path_factory.mktemp("profiles") / "one-of-each.toml"
    path.write_text(ONE_OF_EACH)
    return path


@pytest.fixture(scope="session")
def sim(one_of_each: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    """A simulator shared by tests that do not change it."""
    running = Sim("--profile", str(one_of_each), truth_dir=tmp_path_factory.mktemp("truth"))
    yield running
    running.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start simulators of one's own: `start("--profile", "quiet")`."""
    running: list[Sim] = []

    def starting(*arguments: str) -> Sim:
        running.append(Sim(*arguments, truth_dir=tmp_path / "truth"))
        return running[-1]

    yield starting
    for one in running:
        if one.process.poll() is None:
            one.close()


@pytest.fixture(scope="session")
def ping() -> Any:
    def a_ping(ping_id: str = "p1", **more: object) -> dict[str, object]:
        fields = {"state": "CA", "zip": "90210"}
        return {
            "ping_id": ping_id,
            "contract": "c1",
            "vertical": "solar",
            "tmax_ms": 60,
            "exclusive": True,
            "fields": fields,
            "test": False,
            **more,
        }

    return a_ping


@pytest.fixture(scope="session")
def post() -> Any:
    def a_post(attempt_id: str = "a1", lead_id: str = "l1", **more: object) -> dict[str, object]:
        return {
            "attempt_id": attempt_id,
            "lead_id": lead_id,
            "ping_id": lead_id,
            "ref": "c1~00ff",
            "price": "12.50",
            "lead": {"phone": "+13105550142"},
            "consent": {},
            "custody": {},
            **more,
        }

    return a_post
