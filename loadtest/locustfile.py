"""The canonical workload, for Locust:

    LOADTEST_KEYS="brightleads=ex_live_...,ratewise=ex_live_..." locust -f loadtest/locustfile.py

loads the exchange at `LOADTEST_URL` (http://127.0.0.1:8080) for a minute, prints how it goes, and
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
from geventhttpclient.response import HTTPConnectionClosed
from locust import FastHttpUser, constant, events, task
from locust.exception import StopUser

from loadtest.load import market as markets
from loadtest.load import notes, options
from loadtest.load.mix import SHARES
from loadtest.load.replies import Judged, Reply
from loadtest.load.report import DOES_NOT_HOLD
from loadtest.load.sellers import Call, Sellers
from loadtest.load.shapes import SHAPES, arrivals, cut, dispatch

IN_FLIGHT_MAX = 4_000
"""Leads under way at which the generator gives up: far behind, it would measure itself alone."""
NETWORK_TIMEOUT_S = 30.0
"""Longer than any post may take."""
LEFT_S = 35.0
"""How long after the last lead the answers still under way are waited for."""
DISTRIBUTED = ("--master", "--worker", "--processes")
"""Ways in which Locust divides its users, of which this load has one."""
PROGRESS_S = 5.0
START_S = 0.5
"""Between the sampler's start and the first lead."""


def _arguments(parser: Any) -> None:
    if any(
        word.startswith(DISTRIBUTED) for word in sys.argv
    ):  # forks before anything else is asked
        options.leave(f"this load keeps one schedule: run it without {', '.join(DISTRIBUTED)}")
    options.add_to(parser)
    parser.set_defaults(
        headless=True,
        only_summary=True,
        loglevel="WARNING",
        host=os.environ.get("LOADTEST_URL", options.URL),
    )


def _checked(environment: Any, **_: Any) -> None:
    """Say what is missing before anything is sent."""
    given = environment.parsed_options
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
        self._run = notes.Run(
            shape=given.shape,
            about=shape.about,
            rate=rate,
            seconds=seconds,
            seed=given.seed,
            url=str(self.host),
            began=time.time() + START_S,
            phases=shape.phases(rate, seconds),
            shares=SHARES,
            setup=options.setup_of(given),
        )
        self._began = time.perf_counter() + START_S
        self._counts = dict.fromkeys(("expected", "refused", "lost", "wrong"), 0)
        self._spawned, self._saturated, self._is_over = set[Any](), "", False
        self._notes = notes.Notes(given.to)
        self._sampler = self._sampling(given)
        notes.write_run(given.to, self._run)
        self.environment.events.quitting.add_listener(lambda **_: self._end("it was stopped"))
        self._play(given)
        self._end(self._saturated)
        runner = self.environment.runner
        gevent.spawn(runner.quit if given.headless else runner.stop)
        raise StopUser

    def _play(self, given: Any) -> None:
        sellers = Sellers(
            wire=self,
            market=markets.read(given.market),
            keys=options.keys_of(given),
            seed=given.seed,
            fresh=given.fresh,
        )
        progress = gevent.spawn(self._progress)
        dispatch(
            self._until_full(arrivals(self._run.phases, self._run.seed)),
            clock=self.now,
            sleep=gevent.sleep,
            spawn=lambda number, due: self._spawn(sellers, number, due),
        )
        gevent.joinall(list(self._spawned), timeout=LEFT_S)
        progress.kill()

    def _end(self, early: str = "") -> None:
        """Close the notes and have the report made; once, whoever comes first."""
        if self._is_over:
            return
        self._is_over = True
        given, ended = self.environment.parsed_options, self.now()
        self._notes.close()
        self._sampler.terminate()
        self._sampler.wait()
        if early:
            phases = cut(self._run.phases, ended)
            run = msgspec.structs.replace(self._run, ended_early=early, phases=phases)
            notes.write_run(given.to, run)
        command = [sys.executable, "-m", "loadtest.load.report", str(given.to)]
        code = subprocess.run(command, check=False).returncode
        self.environment.process_exit_code = int(given.verdict) if code == DOES_NOT_HOLD else code

    def _until_full(self, due: Any) -> Any:
        for at in due:
            if len(self._spawned) >= IN_FLIGHT_MAX:
                self._saturated = f"{IN_FLIGHT_MAX:,} leads were under way; the load was ended"
            if self._saturated or self._is_over:
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
        response, resent = self._sent(call)
        answered = self.now()
        reply = _reply(response)
        found = judge(reply)
        with response:
            response.request_meta["response_time"] = (answered - call.due) * 1000
            if found.word == "expected":
                response.success()
            else:
                response.failure(f"{found.word}: {found.what}")
        if self._is_over:
            return reply
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
                resent,
            )
        )
        return reply

    def _sent(self, call: Call) -> tuple[Any, bool]:
        """The response. A connection that closes without a word is not the end: the request is sent
        once more, as any seller's client must, since a server may close an idle connection at the
        very moment it is used. Pings cost nothing and posts carry their key. Whether it was."""
        response: Any = None
        for resent in (False, True):
            response = self.client.request(
                call.method,
                call.path,
                name=call.name,
                data=call.body,  # type: ignore[arg-type]  # bytes go as they are
                headers=call.headers,
                catch_response=True,
            )
            if not isinstance(response.request_meta["exception"], HTTPConnectionClosed):
                return response, resent
        return response, True

    def _progress(self) -> None:
        run, ends = self._run, self._run.phases[-1].ends
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

    def _sampling(self, given: Any) -> "subprocess.Popen[bytes]":
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
    )


events.init_command_line_parser.add_listener(_arguments)  # type: ignore[no-untyped-call]
events.init.add_listener(_checked)  # type: ignore[no-untyped-call]
