"""Chance without state: eight uniform numbers from seed, buyer, kind and id.

A draw depends on nothing else, so the same ping meets the same behaviour whatever arrived before
it, and a failing run is repeated by its seed.
"""

import struct
from hashlib import blake2b
from statistics import NormalDist
from typing import TypeVar

NORMAL = NormalDist()
T = TypeVar("T")
_EIGHT = struct.Struct("<8Q")


def draws(seed: int, buyer: str, kind: str, key: str) -> tuple[float, ...]:
    """Eight independent numbers in [0, 1) for one request; each use has its own place."""
    digest = blake2b(f"{seed}|{buyer}|{kind}|{key}".encode(), digest_size=64).digest()
    return tuple((word >> 11) * 2.0**-53 for word in _EIGHT.unpack(digest))


def picked(options: tuple[T, ...], draw: float) -> T:
    """One of `options`, evenly."""
    return options[int(draw * len(options))]
