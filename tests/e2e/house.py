"""A real exchange with two workers, real buyers, and clients that speak to both: what the
end-to-end tests share. Everything is started as an operator would start it, by the commands.
"""

import asyncio
import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from exchange.effects.book import BookStore
from exchange.effects.postgres import Database
from exchange.flows.market import create_key
from tests.e2e.market import market_text

T = TypeVar("T")
PATIENCE_S = 20.0
"""How long a test waits for what must come; nothing waits for it to pass."""
PROFILE = Path(__file__).parent / "buyers.toml"


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def until(what: Callable[[], T | None], why: str, *, patience_s: float = PATIENCE_S) -> T:
    """The first true answer of `what`; fails with `why` when none comes."""
    last = time.monotonic() + patience_s
    while True:
        answer = what()
        if answer:
            return answer
        assert time.monotonic() < last, f"not within {patience_s} s: {why}"
        time.sleep(0.02)


def called(
    url: str,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> Reply:
    """One call on a connection of its own, so that either worker may answer."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout_s)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, names, response.read())
    finally:
        connection.close()


def raw(url: str, *parts: bytes, patience_s: float = 10.0) -> bytes:
    """Everything that comes back for these bytes."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port), patience_s) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    return answer


class Caller:
    """Somebody with a key."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key

    def call(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        idempotency: str | None = None,
        timeout_s: float = 30.0,
        **headers: str,
    ) -> Reply:
        """A call with JSON; `headers` by their names with `_` for `-`."""
        sent = {"Authorization": f"Bearer {self.key}"}
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        if idempotency is not None:
            sent["Idempotency-Key"] = idempotency
        body = None if value is None else json.dumps(value).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        return called(self.url, method, path, body=body, headers=sent, timeout_s=timeout_s)


class SellerClient(Caller):
    """A seller, with a person new to the exchange for every lead."""

    def ping(self, vertical: str, *, source: str = "web", **more: Any) -> Any:
        """The answer to a ping that must be taken."""
        body = {"vertical": vertical, "source": source, "fields": PINGED} | more
        reply = self.call("POST", "/v1/ping", body)
        assert reply.status == 200, reply.body
        return reply.json

    def post(self, offer: Any, lead: Any = None, *, key: str | None = None, **more: Any) -> Any:
        """The answer to a post that must be taken."""
        reply = self.call("POST", "/v1/post", post_body(offer, lead, **more), idempotency=key)
        assert reply.status == 200, reply.body
        return reply.json

    def direct(
        self,
        vertical: str,
        lead: Any = None,
        *,
        key: str | None = None,
        source: str = "web",
        **more: Any,
    ) -> Any:
        """The answer to a direct lead that must be taken."""
        body = direct_body(vertical, lead, source=source) | more
        reply = self.call("POST", "/v1/leads", body, idempotency=key or f"key-{next(_numbers)}")
        assert reply.status == 200, reply.body
        return reply.json

    def final(self, lead_id: str) -> Any:
        """What became of a lead, once it is known."""

        def known() -> Any:
            reply = self.call("GET", f"/v1/leads/{lead_id}")
            assert reply.status == 200, reply.body
            return reply.json if reply.json["status"] != "pending" else None

        return until(known, f"an end of lead {lead_id}")


PINGED = {"zip": "90210", "age": 34}
CONSENT = {"kind": "tcpa", "captured_at": "2026-01-15T12:00:00Z", "text_version": "2026-01"}
_numbers = count(os.getpid() % 1000 * 1000)


def person(**more: Any) -> dict[str, Any]:
    """A full record of somebody nobody has seen before, in agreement with `PINGED`."""
    number = next(_numbers)
    return {
        **PINGED,
        "first_name": "Wilhelmina",
        "phone": f"+1310{2_000_000 + number % 1_000_000}",
        "email": f"wilhelmina.{number}@mail.example",
        **more,
    }


def ping_body(**more: Any) -> dict[str, Any]:
    return {"vertical": "ladder", "source": "web", "fields": PINGED} | more


def post_body(offer: Any, lead: Any = None, **more: Any) -> dict[str, Any]:
    return {"ping_id": offer["ping_id"], "lead": lead or person(), "consent": CONSENT} | more


def direct_body(vertical: str, lead: Any = None, *, source: str = "web") -> dict[str, Any]:
    return {"vertical": vertical, "source": source, "lead": lead or person(), "consent": CONSENT}


# --- processes ------------------------------------------------------------------------------------


class Buyers:
    """The simulated buyers, and the control of them."""

    def __init__(self, ready: Mapping[str, Any]) -> None:
        self.url: str = ready["http"]
        self.ready = ready
        self.truth = Path(ready["truth_dir"])

    @contextmanager
    def behaving(self, buyer: str, **rules: Any) -> Iterator[None]:
        """For the block, this buyer behaves so; then as in its profile again."""
        self.behave(buyer, **rules)
        try:
            yield
        finally:
            assert called(self.url, "DELETE", f"/control/{buyer}").status == 200

    def behave(self, buyer: str, **rules: Any) -> None:
        """From now on this buyer behaves so."""
        body = json.dumps(rules).encode()
        reply = called(self.url, "POST", f"/control/{buyer}", body=body)
        assert reply.status == 200, reply.body

    def events(self, buyer: str, kind: str, lead_id: str) -> list[dict[str, Any]]:
        """What this buyer received about a ping or lead, from its truth file."""
        lines = (self.truth / f"{buyer}.jsonl").read_bytes().splitlines()
        return [
            event
            for event in map(json.loads, lines)
            if event["kind"] == kind and lead_id in (event.get("ping_id"), event.get("lead_id"))
        ]

    def inquired(self, buyer: str, lead_id: str) -> bool:
        """Whether this buyer was asked what became of a lead it was posted."""
        [posted] = self.events(buyer, "post", lead_id)
        return any(
            json.loads(line).get("attempt_id") == posted["attempt_id"]
            for line in (self.truth / f"{buyer}.jsonl").read_bytes().splitlines()
            if b'"kind":"status"' in line
        )


class House:
    """A running exchange and its surroundings."""

    def __init__(self, folder: Path, buyers: Buyers) -> None:
        self.folder, self.buyers = folder, buyers
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.keys: dict[str, str] = {}
        self.before_market: Reply | None = None

    @property
    def log(self) -> Path:
        return self.folder / "exchange.jsonl"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def urls(self) -> dict[str, str]:
        """Where Postgres and Valkey are."""
        found: dict[str, str] = json.loads((self.data / "run.json").read_bytes())
        return found

    def start(self, *, workers: int = 2, **settings: str) -> None:
        """Start `exchange serve`; returns when it listens."""
        command = [*EXCHANGE, "serve", "--data-dir", str(self.data), "--port", "0", "--lab"]
        command += ["--workers", str(workers), "--log", str(self.log), "--ready-line"]
        self.process = child(command, self.folder / "serve.err", **settings)
        self.url = first_line(self.process, self.folder / "serve.err")["url"]

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None, "never started"
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def run(self, *command: str, code: int = 0, stdin: str | None = None) -> str:
        """A command of the exchange on this data folder; its output."""
        done = subprocess.run(
            [*EXCHANGE, *command, "--data-dir", str(self.data)],
            capture_output=True,
            text=True,
            timeout=60,
            input=stdin,
            check=False,
            env=environment(EXCHANGE_LAB="true", COLUMNS="200"),
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout

    def apply(self, **changes: Any) -> None:
        """Put the test market in force, with `changes` laid over it."""
        file = self.folder / "market.toml"
        file.write_text(market_text(self.buyers.ready, **changes), encoding="utf-8")
        self.run("apply", str(file), "--discard-live")

    def open(self, *callers: tuple[str, ...]) -> None:
        """The market and the keys; returns when every worker trades. The last key is made by the
        command, the others as the command does it, but without a process for each."""
        self.before_market = called(self.url, "GET", "/readyz")
        self.apply()
        *most, last = callers
        with ThreadPoolExecutor(1) as thread:
            made = thread.submit(asyncio.run, new_keys(self.urls["database_url"], most)).result()
        made.append(self.run("key", "create", *last).strip())
        self.keys |= {" ".join(who): key for who, key in zip(callers, made, strict=True)}
        self.traded()

    def traded(self) -> None:
        """Wait until every worker knows the keys and the market."""
        last = list(self.keys.values())[-1]
        answers = 0

        def known() -> bool:
            nonlocal answers
            reply = called(
                self.url, "GET", "/v1/nothing", headers={"Authorization": f"Bearer {last}"}
            )
            ready = called(self.url, "GET", "/readyz").status == 200 and reply.status == 404
            answers = answers + 1 if ready else 0
            return answers >= 8

        until(known, "every worker is ready")

    def seller(self, key: str = "alpha") -> SellerClient:
        return SellerClient(self.url, self.keys[f"seller {key}"])

    def buyer(self, key: str) -> Caller:
        return Caller(self.url, self.keys[f"buyer {key}"])

    @property
    def finance(self) -> Caller:
        return Caller(self.url, self.keys["finance"])

    @property
    def operator(self) -> Caller:
        return Caller(self.url, self.keys["operator"])

    def story(self, ping_id: str) -> Any:
        """What `explain` tells, once the journal has it."""

        def told() -> Any:
            reply = self.operator.call("GET", f"/v1/admin/explain/{ping_id}")
            return reply.json if reply.status == 200 and reply.json["is_journaled"] else None

        return until(told, f"the story of {ping_id}")

    def answer(self, ping_id: str, contract: str) -> Any:
        """One contract's part of the story."""
        return next(c for c in self.story(ping_id)["contracts"] if c["contract"] == contract)


async def new_keys(database_url: str, callers: Sequence[tuple[str, ...]]) -> list[str]:
    database = await Database.open(database_url, role="exchange_app", size=1)
    try:
        store, now = BookStore(database), datetime.now(UTC)
        made = [
            await create_key(store, role, party[0] if party else None, by="the tests", at=now)
            for role, *party in callers
        ]
        return [key.text for key in made]
    finally:
        await database.close()


EXCHANGE = (sys.executable, "-m", "exchange")


def environment(**more: str) -> dict[str, str]:
    """Ours without settings of the exchange, and `more`."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("EXCHANGE_")}
    return kept | {"NO_COLOR": "1"} | more


def child(command: list[str], errors: Path, **settings: str) -> "subprocess.Popen[bytes]":
    """A process that dies with the tests."""
    with errors.open("ab") as said:
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment(**settings),
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


def first_line(process: "subprocess.Popen[bytes]", errors: Path) -> Any:
    assert process.stdout is not None, "children have a pipe"
    line = process.stdout.readline()
    assert line, errors.read_text()[-2000:]
    return json.loads(line)


@contextmanager
def simulated(folder: Path) -> Iterator[Buyers]:
    """The buyers of `buyers.toml`."""
    command = [sys.executable, "-m", "buyers_sim", "--profile", str(PROFILE), "--port", "0"]
    command += ["--seed", "7", "--truth-dir", str(folder / "truth")]
    process = child(command, folder / "buyers.err")
    try:
        yield Buyers(first_line(process, folder / "buyers.err"))
    finally:
        ended(process)


@contextmanager
def serving(folder: Path, *callers: tuple[str, ...], **settings: str) -> Iterator[House]:
    """A house with the test market, open for trade."""
    folder.mkdir(parents=True, exist_ok=True)
    with simulated(folder) as buyers:
        house = House(folder, buyers)
        try:
            house.start(**settings)
            house.open(*callers)
            yield house
        finally:
            if house.process is not None:
                ended(house.process)


def ended(process: "subprocess.Popen[bytes]") -> None:
    """Stop a child, gently at first."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
