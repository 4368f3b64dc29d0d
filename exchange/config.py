"""Every setting, read once from the environment, checked all together, as frozen values.

A setting is `EXCHANGE_<NAME>`; a limit is `EXCHANGE_<LIMIT>` likewise. The URLs, which may hold
passwords, may come by file: `EXCHANGE_DATABASE_URL_FILE` names a file that holds the URL. They are
hidden in `shown()`. Settings stop at `app.py`: parts receive numbers, never this module.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

PREFIX = "EXCHANGE_"


def _range(low: int, high: int) -> msgspec.Meta:
    return msgspec.Meta(ge=low, le=high)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit: unit in the name, default here, and a metric
    `exchange_limit_hits_total{limit="..."}` that counts when it bites."""

    tmax_ms: Annotated[int, _range(50, 10_000)] = 1_500
    """How long a seller waits for a ping's answer when neither ping nor source says."""
    tmax_ms_min: Annotated[int, _range(10, 10_000)] = 50
    tmax_ms_max: Annotated[int, _range(50, 30_000)] = 10_000
    tmax_direct_ms_max: Annotated[int, _range(50, 60_000)] = 30_000
    answer_reserve_ms: Annotated[int, _range(0, 1_000)] = 10
    """Kept back from `tmax` to rank, promise and write the answer."""
    post_deadline_ms: Annotated[int, _range(500, 120_000)] = 10_000
    """A post still running after this answers `pending`."""
    hold_margin_ms: Annotated[int, _range(2_000, 600_000)] = 60_000
    """A cap hold outlives the post's deadline by this much."""
    offer_ttl_ms: Annotated[int, _range(30_000, 300_000)] = 120_000
    offers_max: Annotated[int, _range(1_000, 100_000_000)] = 500_000
    """Offers that one worker keeps in Valkey, each until ten minutes past its expiry; then pings
    get none. Up to 4 KiB each: what all workers may keep must be well within `maxmemory`."""
    body_bytes_max: Annotated[int, _range(1_024, 1_048_576)] = 65_536
    body_read_ms: Annotated[int, _range(100, 60_000)] = 2_000
    head_read_ms: Annotated[int, _range(100, 60_000)] = 5_000
    """From a connection's beginning to the end of its first request's head."""
    header_bytes_max: Annotated[int, _range(1_024, 65_536)] = 8_190
    keep_alive_s: Annotated[int, _range(1, 120)] = 15
    reply_bytes_max: Annotated[int, _range(1_024, 1_048_576)] = 65_536
    invited_max: Annotated[int, _range(1, 500)] = 50
    ranking_kept: Annotated[int, _range(1, 50)] = 10
    releases_max: Annotated[int, _range(1, 20)] = 3
    """To how many buyers one lead may ever be released."""
    pings_running_max: Annotated[int, _range(1, 100_000)] = 2_000
    """Pings under way in one worker before it answers 503."""
    posts_running_max: Annotated[int, _range(1, 100_000)] = 500
    returns_running_max: Annotated[int, _range(1, 10_000)] = 100
    bulk_lines_max: Annotated[int, _range(1, 10_000)] = 1_000
    """Returns of one list; each takes some milliseconds, and who sent it waits for all."""
    bulk_bytes_max: Annotated[int, _range(65_536, 16_777_216)] = 1_048_576
    """Of a list of returns or customers; its time to arrive grows with it."""
    journal_queue_max: Annotated[int, _range(128, 1_000_000)] = 20_000
    commit_queue_max: Annotated[int, _range(16, 100_000)] = 2_000
    commit_batch_max: Annotated[int, _range(1, 1_024)] = 256
    valkey_queue_max: Annotated[int, _range(16, 100_000)] = 10_000
    valkey_timeout_ms: Annotated[int, _range(10, 10_000)] = 500
    connect_timeout_ms: Annotated[int, _range(50, 30_000)] = 1_000
    dns_ttl_s: Annotated[int, _range(1, 3_600)] = 30
    doubt_brake_count: Annotated[int, _range(1, 1_000)] = 3
    """This many in-doubt posts within `doubt_brake_s` stop posting to a buyer."""
    doubt_brake_s: Annotated[int, _range(10, 86_400)] = 300
    doubt_trial_s: Annotated[int, _range(1, 86_400)] = 30
    """A braked buyer is tried with one lead after this long."""
    bits_refresh_ms: Annotated[int, _range(50, 10_000)] = 1_000
    """How often full, closed and unhealthy bits are read again."""
    idem_kept_days: Annotated[int, _range(3, 365)] = 7
    """A retried key is answered with its stored reply for so long; then it is forgotten."""
    sealed_unsold_days: Annotated[int, _range(1, 3_650)] = 30
    """The sealed record of a lead that nobody bought is shredded after so long."""
    sealed_ended_days: Annotated[int, _range(30, 3_650)] = 1_825
    """That of a sold lead, or one written off, after so long; longer than every duplicate window,
    for what finds a duplicate goes with it. Five years: 16 CFR 310.5 (b) (records of consent)."""
    log_queue_max: Annotated[int, _range(128, 1_000_000)] = 20_000
    traces_queue_max: Annotated[int, _range(16, 100_000)] = 2_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set. Without a database URL the exchange brings its own servers
    (embedded): for a laptop, the demo and the tests."""

    host: str = "127.0.0.1"
    port: Annotated[int, _range(0, 65_535)] = 8080
    workers: Annotated[int, _range(1, 128)] = 1
    database_url: str | None = None
    valkey_url: str | None = None
    data_dir: str = "data"
    master_key_file: str | None = None
    lab: bool = False
    """Lab mode allows private addresses and plain http to buyers; refused with a database URL."""
    house_file: str | None = None
    """The house on its papers and at its bank: a TOML file; without one they say `The exchange`."""
    jobs: bool = True
    log: str = "-"
    """`-` is standard output, else a file."""
    log_no_offer_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01
    traces_url: str | None = None
    """Where spans go by OTLP/HTTP, such as `http://collector:4318/v1/traces`; no traces without."""
    traces_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01
    failpoints: str | None = None
    """A folder by which tests stop processes dead at named places; refused outside lab mode."""
    limits: Limits = Limits()

    @property
    def is_embedded(self) -> bool:
        """Whether the exchange starts its own Postgres and Valkey."""
        return self.database_url is None

    def key_file(self) -> Path:
        """Where the master key is."""
        return Path(self.master_key_file or Path(self.data_dir) / "keys" / "master")


class BadSettings(Exception):
    """The environment does not make valid settings; `problems` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_settings(environment: Mapping[str, str], **given: Any) -> Settings:
    """Settings from the environment, overridden by what the command line gave (`None` = not given).
    Raises `BadSettings` with every problem at once."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    limit_types = get_type_hints(Limits, include_extras=True)
    setting_types = get_type_hints(Settings, include_extras=True)
    for name, text in _with_files(environment, problems).items():
        if not name.startswith(PREFIX):
            continue
        key = name[len(PREFIX) :].lower()
        if key in limit_types:
            _read(name, text, limit_types[key], limits, key, problems)
        elif key in setting_types and key != "limits":
            _read(name, text, setting_types[key], values, key, problems)
        else:
            problems.append(f"{name}: there is no such setting")
    for key, value in given.items():
        if value is not None:
            _read(f"--{key.replace('_', '-')}", value, setting_types[key], values, key, problems)
    problems += _contradictions(values)
    if problems:
        raise BadSettings(problems)
    return Settings(**values, limits=Limits(**limits))


BY_FILE = (f"{PREFIX}DATABASE_URL", f"{PREFIX}VALKEY_URL")


def _with_files(environment: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """The environment with `<NAME>_FILE` replaced by `<NAME>` and what the file holds."""
    read = dict(environment)
    for name in BY_FILE:
        file = read.pop(f"{name}_FILE", None)
        if file is None:
            continue
        if name in read:
            problems.append(f"{name} and {name}_FILE are both set: choose one")
            continue
        try:
            read[name] = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            problems.append(f"{name}_FILE: {file} cannot be read")
    return read


def _read(
    name: str, text: Any, kind: Any, into: dict[str, Any], key: str, problems: list[str]
) -> None:
    try:
        into[key] = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        problems.append(f"{name}: {error}")


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    problems = []
    database, valkey = values.get("database_url"), values.get("valkey_url")
    if (database is None) != (valkey is None):
        problems.append(
            "EXCHANGE_DATABASE_URL and EXCHANGE_VALKEY_URL go together: set both, or neither for "
            "embedded servers"
        )
    if database is not None and values.get("lab"):
        problems.append(
            "EXCHANGE_LAB allows private addresses and plain http to buyers; it is refused with a "
            "database URL"
        )
    if not str(values.get("traces_url") or "http://").startswith(("http://", "https://")):
        problems.append("EXCHANGE_TRACES_URL: an address such as http://collector:4318/v1/traces")
    if values.get("failpoints") is not None and not values.get("lab"):
        problems.append("EXCHANGE_FAILPOINTS ends processes on purpose; it needs EXCHANGE_LAB")
    if database is not None and values.get("master_key_file") is None:
        problems.append(
            "EXCHANGE_MASTER_KEY_FILE: name the file of the master key (one line, `1` and 64 hex "
            "digits): without it personal data could not be sealed"
        )
    return problems


def shown(settings: Settings) -> dict[str, Any]:
    """The settings for a log line: passwords in URLs hidden."""
    values = msgspec.to_builtins(settings)
    for key in ("database_url", "valkey_url", "traces_url"):
        url = values.get(key)
        if url and "@" in url:
            scheme, _, rest = url.partition("://")
            values[key] = f"{scheme}://***@{rest.rpartition('@')[2]}"
    return dict(values)


def limit_rows() -> list[tuple[str, str, str]]:
    """`(name, default, range)` of every limit, for the table in the docs."""
    rows = []
    for name, kind in get_type_hints(Limits, include_extras=True).items():
        meta = next(m for m in get_args(kind) if isinstance(m, msgspec.Meta))
        assert get_origin(kind) is Annotated
        rows.append((name, f"{getattr(Limits(), name):,}", f"{meta.ge:,} to {meta.le:,}"))
    return rows
