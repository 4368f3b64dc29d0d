"""The sense of return policies and clawback terms: what one agreement says, and whether the two
sides of the house fit together. A buyer who may return what its seller need not take back is legal,
and costs the house: a warning.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import product
from typing import Final
from zoneinfo import ZoneInfo

from exchange.core import criteria
from exchange.core.findings import Found, near, zone_missing
from exchange.core.reasons import EVIDENCE, ReturnReason
from exchange.core.return_policy import WINDOW_HOURS, closes_at
from exchange.core.terms import (
    ClawbackTerms,
    ContractTerms,
    MarketDoc,
    ReasonTerms,
    ReturnTerms,
    SellerTerms,
    TrustedTerms,
    WindowTerms,
)
from exchange.core.toml_lines import Path

REASONS: Final = tuple(reason.label for reason in ReturnReason)
_WINDOWS: Final = {
    "window_hours": 24 * 366,
    "window_business_days": 260,
    "window_until_day": 31,
}
"""The ways to say a window, and the most of each: a year."""
_HOURS_MAX: Final = 24 * 366


def policy(path: Path, terms: ReturnTerms, zone: str | None, found: Found) -> None:
    """Problems of a contract's `returns`. `zone` is the contract's, else its buyer's."""
    if zone is None:
        zone_missing(path, found)
    _window(path, terms, found)
    _share((*path, "max_rate"), terms.max_rate, found)
    _count((*path, "max_count"), terms.max_count, found)
    _hours((*path, "appeal_hours"), terms.appeal_hours, 0, found)
    _hours((*path, "lapse_hours"), terms.lapse_hours, 1, found)
    if terms.trusted is not None:
        _trusted((*path, "trusted"), terms.trusted, found)
    if not terms.reasons:
        hint = f"known: {', '.join(REASONS)}"
        found.problem((*path, "reasons"), "names no reason, so nothing can be returned", hint)
    for number, name in enumerate(terms.reasons):
        named = isinstance(terms.reasons, dict)
        where = (*path, "reasons", name if named else number)
        if name not in REASONS:
            found.problem(where, f"there is no return reason {name}", near(name, REASONS))
        elif not isinstance(terms.reasons, dict) and name in terms.reasons[:number]:
            found.problem(where, f"{name} stands there twice")
    if isinstance(terms.reasons, dict):
        for name, agreed in terms.reasons.items():
            _reason((*path, "reasons", name), agreed, terms, found)


def clawback(path: Path, terms: ClawbackTerms, zone: str | None, found: Found) -> None:
    """Problems of a seller's `clawback`. `zone` is the seller's own."""
    _window(path, terms, found)
    _share((*path, "share"), terms.share, found)
    if zone is None and _is_civil(terms):
        message = "is counted in days, which needs the seller's time zone"
        found.problem(path, message, 'time_zone = "America/Chicago" at the seller')


# --- one agreement --------------------------------------------------------------------------------


def _window(path: Path, terms: WindowTerms, found: Found) -> None:
    said = [name for name in _WINDOWS if getattr(terms, name) is not None]
    for name in said:
        if not 1 <= getattr(terms, name) <= _WINDOWS[name]:
            found.problem((*path, name), f"lies between 1 and {_WINDOWS[name]}")
        if name != said[0]:
            found.problem((*path, name), f"a window is said once, and {said[0]} says it already")
    if terms.window_until_day is not None and terms.window_from == "next_month":
        found.problem((*path, "window_from"), "a day of the next month is counted from its 1st")


def _is_civil(terms: WindowTerms) -> bool:
    days = terms.window_business_days is not None or terms.window_until_day is not None
    return days or terms.window_from == "next_month"


def _reason(path: Path, agreed: ReasonTerms, terms: ReturnTerms, found: Found) -> None:
    _share((*path, "max_rate"), agreed.max_rate, found)
    _count((*path, "max_count"), agreed.max_count, found)
    percent = agreed.credit_percent
    if not 0 < percent <= 100 or percent * 10_000 != int(percent * 10_000):
        where = (*path, "credit_percent")
        found.problem(where, "is more than 0, at most 100, with at most four decimals")
    elif percent != 100 and terms.replace:
        found.problem((*path, "credit_percent"), "a replaced lead is not credited")
    for number, name in enumerate(agreed.evidence or ()):
        if name not in EVIDENCE:
            where = (*path, "evidence", number)
            found.problem(where, f"there is no evidence {name}", near(name, EVIDENCE))


def _trusted(path: Path, terms: TrustedTerms, found: Found) -> None:
    _share((*path, "max_rate"), terms.max_rate, found)
    _count((*path, "max_count"), terms.max_count, found)
    if terms.max_rate is None and terms.max_count is None:
        found.problem(path, "trust has a ceiling", "{ max_rate = 0.05 }")


def _share(path: Path, share: Decimal | None, found: Found) -> None:
    if share is not None and not (0 <= share <= 1 and share * 1_000_000 == int(share * 1_000_000)):
        found.problem(path, "is a share from 0 to 1 with at most six decimals", "0.15 is 15 %")


def _count(path: Path, count: int | None, found: Found) -> None:
    if count is not None and count < 0:
        found.problem(path, "is never below 0")


def _hours(path: Path, hours: int, least: int, found: Found) -> None:
    if not least <= hours <= _HOURS_MAX:
        found.problem(path, f"lies between {least} and {_HOURS_MAX}")


# --- the two sides --------------------------------------------------------------------------------


def windows_compared(doc: MarketDoc, found: Found) -> None:
    """Warns of each seller whose clawback window closes before a return window of a contract that
    may buy from one of its sources; of those paid net of returns there is no window to close. Looks
    only at documents without problems: their windows and zones are sound."""
    if found.problems or found.broken:
        return
    for key, seller in doc.sellers.items():
        sources = _bearing(seller)
        windows = {
            name: (_bare(terms.returns), terms.time_zone or doc.buyers[terms.buyer].time_zone or "")
            for name, terms in doc.contracts.items()
            if terms.returns is not None and _may_buy(terms, key, sources)
        }
        if seller.clawback is not None:
            _gaps(("sellers", key, "clawback"), seller.clawback, seller.time_zone, windows, found)
        elif windows:
            message = "has no clawback: the house bears what is returned of its leads"
            found.warning(("sellers", key), message, "clawback = { window_hours = 168 }")


def _gaps(
    path: Path,
    terms: ClawbackTerms,
    sellers_zone: str | None,
    windows: dict[str, tuple[WindowTerms, str]],
    found: Found,
) -> None:
    """One warning for a seller, about the contract with the widest gap."""
    gaps = {
        name: longest_gap(window, zone, _bare(terms), sellers_zone or zone)
        for name, (window, zone) in windows.items()
    }
    wide = sorted((name for name in gaps if gaps[name] > timedelta(0)), key=lambda n: -gaps[n])
    if wide:
        also = f" (and {len(wide) - 1} more)" if len(wide) > 1 else ""
        hours = -(-gaps[wide[0]] // timedelta(hours=1))
        message = f"closes up to {hours} hours before the return window of {wide[0]}{also}"
        found.warning(path, message, "the house bears what is returned in between")


def _bearing(seller: SellerTerms) -> tuple[str, ...]:
    """The sources whose leads the house bears the return of, once the clawback window is over."""
    if not isinstance(seller.sources, dict):
        return () if seller.payout.net_of_returns else seller.sources
    return tuple(
        key
        for key, source in seller.sources.items()
        if not (seller.payout if source.payout is None else source.payout).net_of_returns
    )


def _may_buy(terms: ContractTerms, seller: str, sources: Iterable[str]) -> bool:
    """Whether a contract may buy from one of these sources of a seller."""
    return _wants(terms, "seller", seller) and any(
        _wants(terms, "source", source) for source in sources
    )


def _wants(terms: ContractTerms, field: str, key: str) -> bool:
    said = terms.where.get(field)
    return said is None or criteria.test_of(said, "code").met(key)


def _bare(terms: WindowTerms) -> WindowTerms:
    return WindowTerms(
        window_hours=terms.window_hours,
        window_business_days=terms.window_business_days,
        window_until_day=terms.window_until_day,
        window_from=terms.window_from,
    )


@lru_cache(maxsize=1024)
def longest_gap(
    buyers: WindowTerms, buyers_zone: str, sellers: WindowTerms, sellers_zone: str
) -> timedelta:
    """The most by which the seller's window closes before the buyer's, over all moments of a sale;
    zero or less when it never does.

    Windows in plain hours differ by the same always. Else both ends only jump at a midnight of
    either zone, so the moments just before and at each of them are all that need asking."""
    if not (_is_civil(buyers) or _is_civil(sellers)):
        hours = [
            WINDOW_HOURS if window.window_hours is None else window.window_hours
            for window in (buyers, sellers)
        ]
        return timedelta(hours=hours[0] - hours[1])
    return max(
        closes_at(buyers, at, buyers_zone) - closes_at(sellers, at, sellers_zone)
        for at in _moments({buyers_zone, sellers_zone})
    )


def _moments(zones: set[str]) -> list[datetime]:
    """Just before and at every midnight of the zones in two years, one of them a leap year."""
    return [
        (datetime(2027, 1, 1, tzinfo=ZoneInfo(zone)) + timedelta(days=day)).astimezone(UTC) - before
        for day, zone, before in product(range(731), zones, (timedelta(0), timedelta(seconds=1)))
    ]
