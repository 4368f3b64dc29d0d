"""Every form in which a piece of personal data (a canary) could reach someone it was not sold to.

A canary is taken plain, in lower case and, when it has the digits of a phone number, as digits and
in the usual ways of writing those. Each of these is searched as it is, URL-encoded, JSON-escaped,
inside base64 at all three alignments, and as md5, sha1 and sha256 in hex and in base64.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

BYTES_MIN: Final = 8
"""A shorter canary, or a shorter form, would be found by chance; eight bytes are also one machine
word, which is what the search compares."""

Form = tuple[str, bytes, bool]
"""Its name, the bytes to look for, and whether upper and lower case differ (base64); where they do
not, the bytes are in lower case."""

_PHONE: Final = re.compile(r"[-+(). 0-9]+")
_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")


def forms(canary: str) -> list[Form]:
    """All forms of one canary, none shorter than `BYTES_MIN`; `ValueError` if it is too short."""
    if len(canary.encode()) < BYTES_MIN:
        raise ValueError(f"a canary of fewer than {BYTES_MIN} bytes would be found by chance")
    found: dict[tuple[bytes, bool], str] = {}
    for text, written in variants(canary).items():
        for how, needle in _folded(text, text.encode()):
            found.setdefault((needle.lower(), False), f"{written}{how}")
        for how, needle in _exact(text.encode()):
            found.setdefault((needle, True), f"{written}{how}")
    return [
        (name, needle, exact) for (needle, exact), name in found.items() if len(needle) >= BYTES_MIN
    ]


def variants(canary: str) -> dict[str, str]:
    """The ways a canary is commonly written, and the name of each."""
    ways = {canary: "plain"}
    ways.setdefault(canary.strip().lower(), "lower")
    national = _national(canary)
    if national:
        ways.setdefault(national, "digits")
        ways.setdefault(f"+{national}", "+digits")
    if len(national) == 10:
        ways.setdefault(f"1{national}", "1+digits")
        ways.setdefault(f"+1{national}", "e164")
    return ways


def same_person(canary: str) -> str:
    """The same for two writings of one phone number, e-mail or name."""
    return _national(canary) or canary.strip().lower()


def _national(canary: str) -> str:
    """The digits of a phone number without the 1 of North America; `""` for anything else."""
    if not _PHONE.fullmatch(canary):
        return ""
    digits = re.sub(r"\D", "", canary)
    national = digits[1:] if len(digits) == 11 and digits[0] == "1" else digits
    return national if len(national) >= BYTES_MIN else ""


def _folded(text: str, raw: bytes) -> Iterator[tuple[str, bytes]]:
    """The forms in which case does not matter."""
    yield "", raw
    yield ", URL-encoded", quote(raw, safe="").encode()
    yield ", URL-encoded", quote(raw).encode()
    yield ", URL-encoded", quote_plus(raw).encode()
    yield ", URL-encoded", b"%" + raw.hex("%").encode()
    escaped = json.dumps(text)[1:-1]
    yield ", JSON-escaped", escaped.encode()
    yield ", JSON-escaped", escaped.replace("/", "\\/").encode()
    yield ", JSON-escaped", json.dumps(text, ensure_ascii=False)[1:-1].encode()
    units = text.encode("utf-16-be").hex("%", 2)
    yield ", JSON-escaped", f"\\u{units}".replace("%", "\\u").encode()
    for name, digest in _digests(raw):
        yield f", {name}", digest.hex().encode()


def _exact(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """The forms in which case matters.

    Inside base64 only the middle depends on the text alone, wherever it stands in what was encoded:
    six bits a letter, so the letters shared with a neighbour are cut off.
    """
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw)
        inner = coded[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        yield ", base64", inner
        yield ", base64", inner.translate(_URLSAFE)
    for name, digest in _digests(raw):
        coded = base64.b64encode(digest).rstrip(b"=")
        yield f", {name} in base64", coded
        yield f", {name} in base64", coded.translate(_URLSAFE)


def _digests(raw: bytes) -> tuple[tuple[str, bytes], ...]:
    return (
        ("md5", hashlib.md5(raw, usedforsecurity=False).digest()),
        ("sha1", hashlib.sha1(raw, usedforsecurity=False).digest()),
        ("sha256", hashlib.sha256(raw).digest()),
    )
