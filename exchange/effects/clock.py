"""Time and ids: the only place that reads a clock or makes an id.

Wall time is an aware `datetime` in UTC, for records and cap windows. A deadline is a float of the
event loop's own clock (seconds), absolute, handed down and never restarted. Tests give a `Clock` of
their own.
"""

import time
from datetime import UTC, datetime

import uuid_utils


class Clock:
    """The real clock."""

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        return datetime.now(UTC)

    def now_ms(self) -> int:
        """Wall time as Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def loop_time(self) -> float:
        """The event loop's monotonic clock, in seconds: what deadlines are made of. Read from the
        kernel, not from the loop: uvloop's own `time()` is the same clock cut to milliseconds."""
        return time.monotonic()

    def new_id(self) -> str:
        """A fresh UUIDv7 as canonical text: sorts by time, and its day names the partition."""
        return str(uuid_utils.uuid7())
