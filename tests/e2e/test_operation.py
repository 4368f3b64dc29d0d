"""Running it: what an operator looks at, changes and stops, and what fails around it, while sellers
sell. The tests share one exchange and leave it working; the last one stops it.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.crashing import children, kind_of
from tests.e2e.house import (
    PINGED,
    House,
    SellerClient,
    called,
    direct_body,
    environment,
    post_body,
    serving,
    until,
)

pytestmark = [pytest.mark.real, pytest.mark.slow]

IN_FORCE_S = 2.0
"""A change of the market is in force in every worker within this time."""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """An exchange to be handled roughly; a braked buyer is tried again after two seconds."""
    callers = (("seller", "alpha"), ("seller", "beta"), ("buyer", "kestrel"), ("operator",))
    folder = tmp_path_factory.mktemp("plant")
    with serving(folder, *callers, EXCHANGE_DOUBT_TRIAL_S="2") as house:
        yield house


@pytest.fixture
def seller(plant: House) -> SellerClient:
    return plant.seller()


def pids(house: House, kind: str) -> list[int]:
    """The processes of a kind: worker, jobs, postgres or valkey."""
    assert house.process is not None
    mine = children(house.process.pid)
    if kind == "valkey":  # which writes over its command line
        name = "valkey-server\n"
        return [pid for pid in mine if Path(f"/proc/{pid}/comm").read_text() == name]
    return [pid for pid in mine if kind_of(pid) == kind]


# --- looking --------------------------------------------------------------------------------------


def test_an_exchange_without_a_market_is_well_but_not_ready(plant: House) -> None:
    assert plant.before_market is not None
    assert plant.before_market.status == 503
    assert plant.before_market.json["missing"] == ["market: apply one with `exchange apply`"]
    for path in ("/healthz", "/readyz"):
        reply = called(plant.url, "GET", path)
        assert (reply.status, reply.json["status"]) == (200, "ok")


def test_the_document_is_one_and_the_page_shows_every_call(plant: House) -> None:
    document = called(plant.url, "GET", "/openapi.json")
    assert document.json["openapi"].startswith("3.1")
    page = called(plant.url, "GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in document.json["paths"]:
        assert path.encode() in page.body
    for reply in (
        called(plant.url, "GET", "/nowhere"),
        called(plant.url, "PUT", "/v1/ping"),
        called(plant.url, "GET", "/v1/leads/x"),
        plant.seller().call("POST", "/v1/ping", {}),
        plant.seller().call("GET", "/v1/leads/x"),
        plant.seller().call("GET", "/v1/admin/doubts"),
    ):
        anchor = reply.json["type"].partition("#")[2]
        assert f'id="{anchor}"'.encode() in page.body, reply.json


def counted(house: House, name: str) -> float:
    """The sum of a metric over its labels."""
    text = called(house.url, "GET", "/metrics").body.decode()
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.MULTILINE)
    return sum(map(float, found))


def test_metrics_are_those_of_all_workers_and_outlive_one(
    plant: House, seller: SellerClient
) -> None:
    before = counted(plant, "exchange_pings_total")
    for _ in range(20):
        seller.ping("ladder")
    until(lambda: counted(plant, "exchange_pings_total") == before + 20, "all 20 are counted")
    # Each scrape is answered by either worker, and both say the same.
    assert {counted(plant, "exchange_pings_total") for _ in range(8)} == {before + 20}
    killed = pids(plant, "worker")[0]
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(set(pids(plant, "worker")) - {killed}) == 2, "another worker")
    plant.traded()
    assert counted(plant, "exchange_pings_total") == before + 20
    seller.ping("ladder")
    until(lambda: counted(plant, "exchange_pings_total") == before + 21, "the new one counts")


@pytest.mark.parametrize(
    ("group", "caller"),
    [("Sellers", "seller alpha"), ("Buyers", "buyer kestrel"), ("Operators", "operator")],
)
def test_whatever_its_document_allows_is_answered_as_it_says(
    plant: House, group: str, caller: str
) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{plant.url}/openapi.json"]
    command += ["--include-tag", group, "--seed", "7", "--max-examples", "15", "--no-color"]
    command += ["--checks", f"{checks},response_schema_conformance", "--phases", "fuzzing"]
    command += ["--header", f"Authorization: Bearer {plant.keys[caller]}", "--warnings", "off"]
    command += ["--generation-database", "none"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
        cwd=plant.folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* generated", done.stdout), done.stdout


def test_wrong_settings_are_told_all_together(plant: House) -> None:
    wrong = {
        "EXCHANGE_WORKERS": "0",
        "EXCHANGE_OFFER_TTL_MS": "soon",
        "EXCHANGE_TMAX": "5",
        "EXCHANGE_DATABASE_URL": "postgresql://user:hunter2@nowhere/x",
    }
    done = subprocess.run(
        [sys.executable, "-m", "exchange", "serve", "--data-dir", str(plant.folder / "none")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(**wrong),
    )
    assert done.returncode == 2
    for name in (*wrong, "EXCHANGE_VALKEY_URL", "EXCHANGE_MASTER_KEY_FILE"):
        if name != "EXCHANGE_DATABASE_URL":
            assert name in done.stderr
    assert "hunter2" not in done.stderr
    assert not (plant.folder / "none").exists()


# --- changing -------------------------------------------------------------------------------------


class Pinging:
    """A seller that pings all the time from two threads: when it heard which payout."""

    def __init__(self, seller: SellerClient) -> None:
        self.heard: list[tuple[float, float, str]] = []
        self.failed: list[Any] = []
        self._seller, self._stop = seller, threading.Event()

    def _run(self) -> None:
        body = {"vertical": "ladder", "source": "web", "fields": PINGED}
        while not self._stop.is_set():
            began = time.monotonic()
            reply = self._seller.call("POST", "/v1/ping", body)
            if reply.status != 200:
                self.failed.append(reply)
            else:
                self.heard.append((began, time.monotonic(), reply.json.get("payout", "")))

    def payout(self, wanted: str) -> None:
        """Wait until six answers in a row say so."""
        until(
            lambda: len(self.heard) > 6 and {p for _, _, p in self.heard[-6:]} == {wanted},
            f"a payout of {wanted}",
        )

    @contextmanager
    def going(self) -> Iterator["Pinging"]:
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(self._run) for _ in range(2)]
            try:
                yield self
            finally:
                self._stop.set()
            for one in running:
                one.result()


def test_a_new_market_is_in_force_within_two_seconds_and_no_ping_is_lost_or_late(
    plant: House, seller: SellerClient
) -> None:
    with Pinging(seller).going() as pinging:
        pinging.payout("27.00")
        plant.apply(contracts={"acme-ladder": {"paused": True}})
        applied = time.monotonic()
        pinging.payout("18.00")
        reapplying = time.monotonic()
        plant.apply()
        pinging.payout("27.00")
    assert pinging.failed == []
    old = [began for began, _, payout in pinging.heard if payout == "27.00" and began < reapplying]
    assert max(old) < applied + IN_FORCE_S
    assert max(ended - began for began, ended, _ in pinging.heard) < 1.5
    assert {payout for _, _, payout in pinging.heard} == {"27.00", "18.00"}


def test_a_contract_paused_after_it_bid_is_not_sold_to(plant: House, seller: SellerClient) -> None:
    offer = seller.ping("ladder")
    plant.apply(contracts={"acme-ladder": {"paused": True}})
    with Pinging(seller).going() as pinging:
        pinging.payout("18.00")
    sold = seller.post(offer, min_payout="1.00")
    assert sold["sales"][0]["buyer"] == "Beacon Inc"
    assert plant.buyers.events("acme", "post", offer["ping_id"]) == []
    plant.apply()
    with Pinging(seller).going() as pinging:
        pinging.payout("27.00")


def test_a_market_with_mistakes_changes_nothing_and_tells_them_all(
    plant: House, seller: SellerClient
) -> None:
    file = plant.folder / "wrong.toml"
    text = (plant.folder / "market.toml").read_text()
    file.write_text(text.replace('"ladder"', '"lader"').replace("percent = 10", "percent = 110"))
    command = [sys.executable, "-m", "exchange", "apply", str(file), "--data-dir", str(plant.data)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment()
    )
    assert done.returncode == 1
    assert len(re.findall(r"wrong\.toml:\d+|line \d+|:\d+", done.stdout + done.stderr)) >= 4
    assert seller.ping("ladder")["payout"] == "27.00"


def test_keys_are_rotated_two_at_a_time(plant: House) -> None:
    old = plant.seller("beta")
    new = SellerClient(plant.url, plant.run("key", "create", "seller", "beta").strip())
    path = "/v1/leads/00000000-0000-7000-8000-000000000000"

    def everywhere(client: SellerClient, status: int) -> None:
        answers: list[int] = []

        def settled() -> bool:
            answers.append(client.call("GET", path).status)
            return answers[-8:] == [status] * 8

        until(settled, f"{status} in every worker", patience_s=5)

    everywhere(new, 404)
    everywhere(old, 404)
    plant.run("key", "create", "seller", "beta", code=1)
    plant.run("key", "revoke", old.key.split("_")[2])
    everywhere(old, 401)
    everywhere(new, 404)
    plant.run("key", "revoke", "nobody", code=1)


# --- the brake ------------------------------------------------------------------------------------


def juniper(house: House, ping_id: str) -> int | None:
    """Why juniper was not asked, once the bits of that moment are kept."""
    contracts = house.story(ping_id)["contracts"]
    return next((c["code"] for c in contracts if c["contract"] == "juniper-brake"), None)


def test_a_buyer_with_three_posts_in_doubt_is_braked_and_one_trial_reopens_it(
    plant: House, seller: SellerClient
) -> None:
    buyers = plant.buyers
    with buyers.behaving("juniper", status=False, post={"accept_then_reset": 1.0}):
        leads = [seller.post(seller.ping("brake"))["lead_id"] for _ in range(3)]

        def braked() -> Any:
            offer = seller.ping("brake")
            return offer if offer["payout"] == "9.00" else None

        # Both workers learn of it: six in a row.
        offers = [until(braked, "the brake") for _ in range(6)]
        until(lambda: juniper(plant, offers[-1]["ping_id"]) == 502, "the story has the reason")
        assert seller.post(offers[-1])["sales"][0]["buyer"] == "Iris Inc"
    assert all(seller.final(lead_id)["status"] == "sold" for lead_id in leads)

    def trial() -> Any:
        offer = seller.ping("brake")
        return offer if offer["payout"] == "45.00" else None

    # Two offers made while a trial is due: only one may be posted to the buyer.
    first, second = until(trial, "a trial is due"), until(trial, "a trial is due")
    slowly = {"kind": "constant", "value": 300}
    with buyers.behaving("juniper", post_latency=slowly), ThreadPoolExecutor(2) as pool:
        posted = [pool.submit(seller.post, offer, min_payout="1.00") for offer in (first, second)]
        sold = sorted(reply.result()["sales"][0]["buyer"] for reply in posted)
    assert sold == ["Iris Inc", "Juniper Inc"]
    bought: list[str] = []

    def open_again() -> bool:
        sold = seller.post(seller.ping("brake"), min_payout="1.00")
        bought.append(sold["sales"][0]["buyer"])
        return bought[-6:] == ["Juniper Inc"] * 6

    until(open_again, "the buyer is open again in both workers")


# --- failing --------------------------------------------------------------------------------------


@contextmanager
def stopped(processes: list[int]) -> Iterator[None]:
    """Processes that do not answer, for the block."""
    assert processes
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def test_without_valkey_nothing_is_promised_and_uncapped_direct_leads_are_sold(
    plant: House, seller: SellerClient
) -> None:
    kept = seller.ping("ladder")
    with stopped(pids(plant, "valkey")):
        for _ in range(4):
            began = time.monotonic()
            offer = seller.ping("ladder", tmax_ms=300)
            assert time.monotonic() - began < 0.45
            assert (offer["status"], offer["reason"]["name"]) == ("no_offer", "offers_unavailable")
        refused = seller.call("POST", "/v1/post", post_body(kept))
        assert (refused.status, refused.json["title"]) == (503, "offers_unavailable")
        assert seller.direct("free")["status"] == "sold"
        capped = seller.direct("by_state")
        assert capped["status"] == "unsold"
        assert plant.answer(capped["lead_id"], "ember-by-state")["loss"] == 510
        assert called(plant.url, "GET", "/readyz").status == 200

    def offered() -> bool:
        return all(seller.ping("ladder")["status"] == "offer" for _ in range(6))

    until(offered, "offers are kept again")
    assert seller.post(kept)["status"] == "sold"
    until(lambda: seller.direct("by_state")["status"] == "sold", "caps are read again")


def test_without_postgres_no_post_leaves_and_the_exchange_says_so(
    plant: House, seller: SellerClient
) -> None:
    offers = [seller.ping("ladder"), seller.ping("once")]
    master = pids(plant, "postgres")
    with stopped(master):  # it takes no new connection; those there were end
        for pid in children(master[0]):
            os.kill(pid, signal.SIGKILL)
        until(lambda: called(plant.url, "GET", "/readyz").status == 503, "one worker is not ready")

        def red() -> bool:
            return all(called(plant.url, "GET", "/readyz").status == 503 for _ in range(8))

        until(red, "no worker is ready")
        assert called(plant.url, "GET", "/healthz").status == 200
        for offer in offers:
            refused = seller.call("POST", "/v1/post", post_body(offer))
            assert (refused.status, refused.json["title"]) == (503, "Database unavailable")
            assert int(refused.headers["retry-after"]) >= 1
        direct = seller.call("POST", "/v1/leads", direct_body("ladder"), idempotency="no-db")
        assert direct.status == 503
        with ThreadPoolExecutor(2) as pool:  # both wait for a connection
            lead = pool.submit(seller.call, "GET", f"/v1/leads/{offers[0]['ping_id']}")
            doubts = pool.submit(plant.operator.call, "GET", "/v1/admin/doubts")
            assert {lead.result().status, doubts.result().status} == {503}
        assert seller.ping("ladder")["status"] == "offer"  # pings need no database
    assert plant.buyers.events("acme", "post", offers[0]["ping_id"]) == []
    plant.traded()
    until(lambda: all(called(plant.url, "GET", "/readyz").status == 200 for _ in range(8)), "ready")
    for offer in offers:
        assert seller.post(offer)["status"] == "sold"
    assert seller.direct("ladder", key="no-db")["status"] == "sold"


# --- stopping -------------------------------------------------------------------------------------


def test_a_stop_under_load_loses_nothing(plant: House, seller: SellerClient) -> None:
    """SIGTERM while posts run: whoever was being served hears its answer, and every sale that was
    acknowledged is there once."""
    acknowledged: list[str] = []
    odd: list[Any] = []
    begun = threading.Event()

    def selling() -> None:
        while True:
            try:
                offer = seller.ping("ladder")
                reply = seller.post(offer)
            except (ConnectionError, OSError):
                return  # nobody listens any more
            except Exception as fault:
                odd.append(fault)
                return
            if reply["status"] != "sold":
                odd.append(reply)
            acknowledged.append(reply["lead_id"])
            if len(acknowledged) > 20:
                begun.set()

    plant.buyers.behave("acme", post_latency={"kind": "constant", "value": 150})
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(selling) for _ in range(6)]
        assert begun.wait(20)
        assert plant.stop() == 0
        for one in running:
            one.result()
    assert odd == []
    posted = Counter(
        json.loads(line)["lead_id"]
        for line in (plant.buyers.truth / "acme.jsonl").read_bytes().splitlines()
        if b'"kind":"post"' in line
    )
    assert {lead_id for lead_id in acknowledged if posted[lead_id] != 1} == set()
    plant.buyers.behave("acme", post_latency={"kind": "constant", "value": 2})
    plant.start()
    plant.traded()
    seller.url = plant.url
    finals = [seller.call("GET", f"/v1/leads/{lead_id}").json["status"] for lead_id in acknowledged]
    assert set(finals) == {"sold"}
    # What a buyer accepted is a sale here too, whether its seller still heard of it or not.
    for lead_id in set(posted) - set(acknowledged):
        reply = seller.call("GET", f"/v1/leads/{lead_id}")
        assert reply.status == 404 or reply.json["status"] in ("sold", "unsold", "pending")


def test_a_body_whose_rest_comes_while_the_exchange_stops_is_still_answered(
    plant: House, seller: SellerClient
) -> None:
    place = urlsplit(plant.url)
    body = json.dumps({"vertical": "ladder", "source": "web", "fields": PINGED}).encode()
    head = f"POST /v1/ping HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {seller.key}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((place.hostname or "", place.port), 20) as connection:
        connection.sendall(head.encode() + body[:10])
        until(lambda: head_is_read(connection), "the worker has read the head")
        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(plant.stop)
            until(lambda: not listens(plant), "it takes no new connections")
            connection.sendall(body[10:])
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert stopping.result() == 0
    plant.start()
    plant.traded()


def head_is_read(connection: socket.socket) -> bool:
    """Whether nothing we sent lies unread in the worker's buffers, as the kernel tells it."""
    mine, theirs = connection.getsockname()[1], connection.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        local, remote = (int(words[place].rpartition(":")[2], 16) for place in (1, 2))
        if (local, remote) == (theirs, mine):
            return int(words[4].rpartition(":")[2], 16) == 0
    return False


def listens(house: House) -> bool:
    place = urlsplit(house.url)
    try:
        socket.create_connection((place.hostname or "", place.port), 1.0).close()
    except OSError:
        return False
    return True
