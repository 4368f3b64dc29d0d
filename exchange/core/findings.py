"""What the checks of a market find, and what they all ask."""

from collections.abc import Iterable
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from exchange.core.toml_lines import Path


class Found:
    """Problems and warnings as `(path, message, hint)`. `broken` are the `(section, key)` of
    objects that stand in the file and could not be read: nothing is said of what leans on them."""

    def __init__(self, broken: frozenset[tuple[str, str]] = frozenset()) -> None:
        self.broken = broken
        self.problems: list[tuple[Path, str, str]] = []
        self.warnings: list[tuple[Path, str, str]] = []

    def problem(self, path: Path, message: str, hint: str = "") -> None:
        self.problems.append((path, message, hint))

    def warning(self, path: Path, message: str, hint: str = "") -> None:
        self.warnings.append((path, message, hint))


def near(name: str, known: Iterable[str]) -> str:
    """A hint: the nearest known name, or some of them."""
    names = sorted(known)
    found = get_close_matches(name, names, n=1)
    if found:
        return f"did you mean {found[0]}?"
    return f"known: {', '.join(names[:12])}" if names else ""


def known_zone(path: Path, zone: str, found: Found) -> None:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        found.problem(path, f"there is no time zone {zone}", near(zone, available_timezones()))


def zone_missing(path: Path, found: Found) -> None:
    hint = 'time_zone = "America/Chicago" at the contract or its buyer'
    found.problem(path, "needs a time zone; there is no default", hint)
