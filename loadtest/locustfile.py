"""The canonical workload, for Locust:

    EXCHANGE_KEYS="brightleads=ex_live_...,ratewise=ex_live_..." locust -f loadtest/locustfile.py

loads the exchange at `EXCHANGE_URL` (http://127.0.0.1:8080) for a minute, prints how it goes, and
leaves Locust's report and ours in `build/load/`. `--headful` shows Locust's own web page instead.
`python -m loadtest.load` (`make load`) starts an exchange with buyers to load.

Locust's users wait for answers before they ask again, so a slow server slows its own load. Here the
one user only keeps the schedule: every lead is a greenlet of its own, spawned when it is due, and
Locust is told the time since then. The parts that are not Locust's are in `loadtest/load/`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import msgspec
from locust import FastHttpUser, constant, events, task
from locust.exception import StopUser

from loadtest.load import market as markets
from loadtest.load import notes, options
from loadtest.load.mix import SHARES
from loadtest.load.replies import Judged, Reply
from loadtest.load.report import DOES_NOT_HOLD
from loadtest.load.sellers import Call, Sellers
from loadtest.load.shapes import SHAPES, arrivals, dispatch

IN_FLIGHT_MAX = 4_000
"""Leads under way at which the generator gives up: far behind, it would measure itself alone."""
NETWORK_TIMEOUT_S = 30.0
"""Longer than any post may take."""
LEFT_S = 35.0
"""How long after the last lead the answers still under way are waited for."""
PROGRESS_S = 5.0
START_S = 0.5
"""Between the sampler's start and the first lead."""


def _arguments(parser: Any) -> None:
    options.add_to(parser)
    parser.set_defaults(
        headless=True,
        only_summary=True,
        loglevel="WARNING",
        host=os.environ.get("EXCHANGE_URL", options.URL),
    )


def _checked(environment: Any, **_: Any) -> None:
    """Say what is missing before anything is sent."""
    given = environment.parsed_options
    if given.worker or given.master:
        options.leave(
            "this load keeps one schedule: run it without --master, --worker, --processes"
        )
    given.to.mkdir(parents=True, exist_ok=True)
    given.html_file = given.html_file or str(given.to / "locust.html")
    options.check(given)


class Exchange(FastHttpUser):
    """The one user: keeps the schedule, and is the wire of all sellers."""

    fixed_count = 1
    wait_time = constant(0)
    concurrency = IN_FLIGHT_MAX
    network_timeout = NETWORK_TIMEOUT_S
    connection_timeout = NETWORK_TIMEOUT_S

    @task
    def play(self) -> None:
        """The whole load, then the report."""
        given = self.environment.parsed_options
        shape = SHAPES[given.shape]
        rate, seconds = given.rate or shape.rate, given.seconds or shape.seconds
        phases = shape.phases(rate, seconds)
        run = notes.Run(
            shape=given.shape,
            about=shape.about,
            rate=rate,
            seconds=seconds,
            seed=given.seed,
            url=str(self.host),
            began=time.time() + START_S,
            phases=phases,
            shares=SHARES,
            setup=options.setup_of(given),
        )
        sampler = self._sampler(given)
        self._play(run, given)
        sampler.terminate()
        sampler.wait()
        told = subprocess.run(
            [sys.executable, "-m", "loadtest.load.report", str(given.to)], check=False
        )
        code = told.returncode
        if code == DOES_NOT_HOLD:
            code = int(given.verdict)
        self.environment.process_exit_code = code
        gevent.spawn(
            self.environment.runner.quit if given.headless else self.environment.runner.stop
        )
        raise StopUser

    def _play(self, run: notes.Run, given: Any) -> None:
        self._notes = notes.Notes(given.to)
        self._counts = dict.fromkeys(("expected", "refused", "lost", "wrong"), 0)
        self._spawned, self._saturated_at = set[Any](), None
        sellers = Sellers(
            wire=self,
            market=markets.read(given.market),
            keys=options.keys_of(given),
            seed=given.seed,
            fresh=given.fresh,
        )
        notes.write_run(given.to, run)
        self._began = time.perf_counter() + START_S
        progress = gevent.spawn(self._progress, run)
        dispatch(
            self._until_full(arrivals(run.phases, run.seed)),
            clock=self.now,
            sleep=gevent.sleep,
            spawn=lambda number, due: self._spawn(sellers, number, due),
        )
        gevent.joinall(list(self._spawned), timeout=LEFT_S)
        progress.kill()
        self._notes.close()
        if self._saturated_at is not None:
            run = msgspec.structs.replace(run, saturated_at=self._saturated_at)
            notes.write_run(given.to, run)

    def _until_full(self, due: Any) -> Any:
        for at in due:
            if len(self._spawned) >= IN_FLIGHT_MAX:
                self._saturated_at = at
                return
            yield at

    def _spawn(self, sellers: Sellers, number: int, due: float) -> None:
        lead = gevent.spawn(sellers.lead, number, due)
        self._spawned.add(lead)
        lead.rawlink(self._spawned.discard)

    # --- the wire ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self._began

    def sleep(self, seconds: float) -> None:
        """Let other leads go on."""
        gevent.sleep(seconds)

    def ask(self, call: Call, judge: Callable[[Reply], Judged]) -> Reply:
        """Send a request, judge its answer, note both times; Locust hears the one since due."""
        sent = self.now()
        with self.client.request(
            call.method,
            call.path,
            name=call.name,
            data=call.body,  # type: ignore[arg-type]  # bytes go as they are
            headers=call.headers,
            catch_response=True,
        ) as response:
            answered = self.now()
            reply = _reply(response)
            found = judge(reply)
            response.request_meta["response_time"] = (answered - call.due) * 1000
            if found.word == "expected":
                response.success()
            else:
                response.failure(f"{found.word}: {found.what}")
        self._counts[found.word] += 1
        self._notes.add(
            notes.Request(
                round(call.due, 4),
                call.kind,
                call.name,
                round((answered - call.due) * 1000, 2),
                round((answered - sent) * 1000, 2),
                reply.status,
                found.word,
                found.what,
                call.tmax_ms,
                call.first,
            )
        )
        return reply

    def _progress(self, run: notes.Run) -> None:
        ends = run.phases[-1].ends
        while True:
            gevent.sleep(PROGRESS_S)
            at = max(self.now(), 0.0)
            phase = next((p for p in run.phases if at < p.ends), run.phases[-1])
            counts = ", ".join(f"{count} {word}" for word, count in self._counts.items() if count)
            print(
                f"  {min(at, ends):4.0f}/{ends:.0f} s  {phase.name}, {phase.rate:.0f} leads/s: "
                f"{counts or 'nothing yet'}, {len(self._spawned)} under way",
                flush=True,
            )

    def _sampler(self, given: Any) -> "subprocess.Popen[bytes]":
        watch = [f"generator={os.getpid()}", *given.watch]
        command = [sys.executable, "-m", "loadtest.load.sampling"]
        command += ["--url", str(self.host), "--to", str(given.to)]
        return subprocess.Popen([*command, *(f"--watch={one}" for one in watch)])


def _reply(response: Any) -> Reply:
    if not response.status_code:
        return Reply(status=0, failure=type(response.request_meta["exception"]).__name__)
    return Reply(
        status=response.status_code,
        body=response.content or b"",
        replayed=response.headers.get("Idempotent-Replayed") == "true",
    )


events.init_command_line_parser.add_listener(_arguments)
events.init.add_listener(_checked)
