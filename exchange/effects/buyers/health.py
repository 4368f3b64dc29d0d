"""When a buyer's endpoint is left alone, and when it is tried again.

After `failures_max` failures in a row (no connection, a reset, no answer although it had a fair
time to give one) the endpoint rests. When the rest is over, one request goes out as a trial: any
answer reopens the endpoint, another failure doubles the rest. Pure: the time is always an argument,
in seconds of the loop's clock.
"""


class Health:
    """The health of one endpoint, as this worker has seen it."""

    __slots__ = (
        "_failures_max",
        "_rest_s",
        "_rest_s_max",
        "_rest_s_min",
        "_trial",
        "failures",
        "rest_until",
    )

    def __init__(self, *, failures_max: int, rest_s_min: float, rest_s_max: float) -> None:
        self._failures_max = failures_max
        self._rest_s_min, self._rest_s_max = rest_s_min, rest_s_max
        self._rest_s = rest_s_min
        self._trial = False
        self.failures = 0
        self.rest_until = 0.0
        """0 while the endpoint is open; else when its rest ends (then a trial is due)."""

    def is_healthy(self, now: float) -> bool:
        """May the endpoint be invited? True also when a trial is due, else it would rest for
        ever."""
        return not self.rest_until or (now >= self.rest_until and not self._trial)

    def admits(self, now: float) -> bool:
        """May a request go out now? A yes to a resting endpoint makes that request its trial."""
        if not self.is_healthy(now):
            return False
        self._trial = bool(self.rest_until)
        return True

    def succeeded(self) -> None:
        """Something readable came back."""
        self.failures = 0
        if self.rest_until:
            self.rest_until, self._trial, self._rest_s = 0.0, False, self._rest_s_min

    def failed(self, now: float) -> None:
        """No connection, a reset, or silence. Failures of older requests during a rest say nothing
        new."""
        self.failures += 1
        if self._trial:
            self._rest_s = min(self._rest_s * 2, self._rest_s_max)
            self._rest(now)
        elif not self.rest_until and self.failures >= self._failures_max:
            self._rest(now)

    def undecided(self) -> None:
        """A request ended without showing anything (the auction ended first): if it was the trial,
        the next request is."""
        self._trial = False

    def _rest(self, now: float) -> None:
        self._trial = False
        self.rest_until = now + self._rest_s
