"""What a load needs to know of a market: its verticals' fields, its sellers and their sources. Read
from the file itself, so that any market can be loaded."""

import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a vertical, as the market file defines it."""

    type: str
    values: tuple[str, ...] = ()
    min: int | None = None
    max: int | None = None
    pattern: str | None = None
    length_max: int | None = None
    ping: bool | Literal["pseudonym"] = False
    required: bool = False
    personal: bool = False


class Vertical(msgspec.Struct, frozen=True, kw_only=True):
    """A product and its fields."""

    fields: dict[str, Field]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A seller's feed; `gate` decides what becomes of personal data in its pings."""

    gate: Literal["watch", "strip", "refuse"] = "strip"
    floor: str = "0"


class Seller(msgspec.Struct, frozen=True, kw_only=True):
    """Who sells."""

    sources: dict[str, Source] | tuple[str, ...] = ()

    def terms(self) -> dict[str, Source]:
        """The sources by name, with their terms."""
        if isinstance(self.sources, dict):
            return self.sources
        return dict.fromkeys(self.sources, Source())


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a market file that a load reads."""

    verticals: dict[str, Vertical]
    sellers: dict[str, Seller]
    buyers: dict[str, dict[str, Any]] = {}


def read(file: Path) -> Market:
    """The market in a file. Raises `OSError`, `tomllib.TOMLDecodeError` or
    `msgspec.ValidationError`."""
    return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Market)
