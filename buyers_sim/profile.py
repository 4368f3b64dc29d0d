"""How buyers behave, as a TOML profile says it.

A profile has `[defaults]` and one table per buyer; a buyer's table is laid over the defaults, and a
control request is laid over both. A table with a `kind` (a spread) is replaced as a whole.
Shares are between 0 and 1. Faults exclude one another, so their shares add up to at most 1.
"""

import base64
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from .chance import NORMAL

PROFILES = Path(__file__).parent / "profiles"
_Z99 = NORMAL.inv_cdf(0.99)


class ProfileError(ValueError):
    """A profile or a control request that does not say what a buyer can do; the text says where."""


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a behaviour; unknown settings are refused."""


class Constant(Rules, frozen=True, kw_only=True, tag="constant", tag_field="kind"):
    """Always `value`."""

    value: float

    def at(self, draw: float) -> float:
        return self.value


class Uniform(Rules, frozen=True, kw_only=True, tag="uniform", tag_field="kind"):
    """Evenly between `low` and `high`."""

    low: float
    high: float

    def at(self, draw: float) -> float:
        return self.low + draw * (self.high - self.low)


class Lognormal(Rules, frozen=True, kw_only=True, tag="lognormal", tag_field="kind"):
    """Half below `median`, one in a hundred above `p99`, none outside `least` and `most`."""

    median: float
    p99: float
    least: float = 0.0
    most: float = math.inf

    def __post_init__(self) -> None:
        if not 0 < self.median <= self.p99:
            raise ValueError("a lognormal spread needs 0 < median <= p99")

    def at(self, draw: float) -> float:
        sigma = math.log(self.p99 / self.median) / _Z99
        value = self.median * math.exp(sigma * NORMAL.inv_cdf(max(draw, 1e-12)))
        return min(max(value, self.least), self.most)


Spread = Constant | Uniform | Lognormal


class Faults(Rules, frozen=True, kw_only=True):
    """A table of shares; the subclass names which of its fields exclude one another."""

    def exclusive(self) -> tuple[tuple[str, float], ...]:
        """The faults and their shares, in the order of the fields."""
        shares = ((name, getattr(self, name)) for name in self.__struct_fields__)
        skip = ("no_bid", "reject", "reasons")
        return tuple((name, share) for name, share in shares if share and name not in skip)

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            share = getattr(self, name)
            if isinstance(share, float) and not 0 <= share <= 1:
                raise ValueError(f"the share `{name}` is not between 0 and 1")
        if sum(share for _, share in self.exclusive()) > 1 + 1e-9:
            raise ValueError("the shares of the faults add up to more than 1")

    def fault(self, draw: float) -> str:
        """The fault that strikes at this draw, or `""`."""
        for name, share in self.exclusive():
            if draw < share:
                return name
            draw -= share
        return ""


class PingFaults(Faults, frozen=True, kw_only=True):
    """What happens to pings. `late`: a good bid, after the ping's `tmax_ms`. `drip`: a good bid,
    byte by byte. `error`: a 5xx. `no_bid` is not a fault: 204 or a code, in halves."""

    no_bid: float = 0.0
    hang: float = 0.0
    reset: float = 0.0
    drip: float = 0.0
    error: float = 0.0
    malformed: float = 0.0
    oversized: float = 0.0
    late: float = 0.0


class PostFaults(Faults, frozen=True, kw_only=True):
    """What happens to posts. `hang`, `reset` and `error` strike before the buyer books anything
    (it never saw the post); `accept_*` book an acceptance first; `malformed`, `oversized` and
    `drip` spoil the telling of a booked verdict. `reject` is not a fault: an explicit no with one
    of `reasons` (never "duplicate": that word means that the buyer has the lead)."""

    reject: float = 0.0
    reasons: tuple[str, ...] = ("out_of_area", "invalid_phone", "existing_customer")
    hang: float = 0.0
    reset: float = 0.0
    error: float = 0.0
    accept_then_reset: float = 0.0
    accept_then_hang: float = 0.0
    accept_then_error: float = 0.0
    accept_after_deadline: float = 0.0
    malformed: float = 0.0
    oversized: float = 0.0
    drip: float = 0.0


class Behaviour(Rules, frozen=True, kw_only=True):
    """Everything a buyer does. Times in ms; bids in dollars, by vertical (`other` for the rest)."""

    latency: Spread = Constant(value=5.0)
    post_latency: Spread | None = None
    """`None`: as `latency`; also of the status endpoint."""
    bids: dict[str, Spread] = msgspec.field(
        default_factory=lambda: {"other": Uniform(low=8.0, high=60.0)}
    )
    contracts: dict[str, Spread] = {}
    """Bids by contract, before those by vertical: a contract of a fixed price is bid that price."""
    expires_in_s: int | None = None
    ping: PingFaults = PingFaults()
    post: PostFaults = PostFaults()
    status: bool = True
    """Off: the status endpoint answers 501, which tells nothing (a 404 would say "never seen")."""
    status_error: float = 0.0
    """Share of status questions that get a 503; drawn anew for each question."""
    repost: Literal["same", "duplicate"] = "same"
    """What a re-post of an attempt already in the books hears: the recorded answer, or
    `rejected: duplicate`, as buyers do who only look for the consumer."""
    faults_repeat: bool = False
    """Whether a fault strikes every post of an attempt, or only the first (so that asking again
    helps)."""
    late_ms: float = 40.0
    """How long after `tmax_ms` a late bid is sent."""
    post_late_ms: float = 11_000.0
    """When `accept_after_deadline` answers; a second after the 10 s an exchange usually waits."""
    drip_ms: float = 40.0
    """Pause between the bytes of a dripped answer; 100 bytes then take 4 s."""
    oversized_bytes: int = 262_144
    """Size of an oversized answer: four times the 64 KiB an exchange reads."""
    secret: str | None = None
    """`whsec_...`: posts must carry its Standard Webhooks signature, else 401."""
    tls: Literal["plain", "good", "expired"] = "plain"

    def __post_init__(self) -> None:
        if self.secret is not None:
            base64.b64decode(self.secret.removeprefix("whsec_"), validate=True)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A named cast: raw tables (for changing them later) and what they mean."""

    name: str
    about: str
    tables: dict[str, dict[str, Any]]
    buyers: dict[str, Behaviour]


def laid_over(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change` on top, table by table; a spread is replaced as a whole."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping) and "kind" not in value
        merged[key] = laid_over(old, value) if nested else value  # type: ignore[arg-type]
    return merged


def behaviour(table: Mapping[str, Any], *, where: str) -> Behaviour:
    """The behaviour a table means; `ProfileError` says what is wrong in it, and where."""
    try:
        return msgspec.convert(table, Behaviour, strict=False)
    except msgspec.ValidationError as error:
        raise ProfileError(f"{where}: {error}") from None


def names() -> list[str]:
    """The profiles that come with the simulator."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def load(name_or_path: str, *, copies: int = 1) -> Profile:
    """A profile by its name or path, each buyer `copies` times (`acme`, `acme-2`, ...)."""
    path = PROFILES / f"{name_or_path}.toml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        raise ProfileError(f"no profile `{name_or_path}`; there are: {', '.join(names())}")
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path.name}: {error}") from None
    return _profile(document, name=path.stem, copies=copies)


def _profile(document: dict[str, Any], *, name: str, copies: int) -> Profile:
    unknown = set(document) - {"about", "defaults", "buyers"}
    if unknown or not document.get("buyers"):
        raise ProfileError(f"{name}: a profile has about, [defaults] and [buyers.*]; {unknown=}")
    defaults = document.get("defaults", {})
    tables = {
        (buyer if copy == 1 else f"{buyer}-{copy}"): laid_over(defaults, table)
        for buyer, table in document["buyers"].items()
        for copy in range(1, copies + 1)
    }
    return Profile(
        name=name,
        about=document.get("about", ""),
        tables=tables,
        buyers={
            buyer: behaviour(table, where=f"{name}: {buyer}") for buyer, table in tables.items()
        },
    )
