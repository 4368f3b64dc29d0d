"""The vault: everything done with the master key, and nothing else.

```
master key (a file) ─┬─ wrapping key of one lead ─ wraps ─ data key of that lead ─ seals ─ the lead
  HKDF-SHA256,       ├─ wrapping key of one secret ─ ...
  one label each     ├─ pseudonyms      what buyers may see instead of a phone number
                     ├─ person keys     duplicate rules, erasure; a key per pepper epoch
                     └─ fingerprints    of requests, for idempotency keys
```
Sealing is AES-256-GCM under a fresh data key, so erasing a lead is destroying one wrapped key. Each
lead has a wrapping key of its own as well: one key never meets enough random nonces to repeat one.
The lead's id and the key's epoch are authenticated, so a sealed record opens only where it belongs.

Keys have epochs (ints, from 1; the table `key_epoch` says since when, and which are retired). The
file holds one master key a line, `<epoch> <64 hex digits>`; the highest epoch seals, all of them
open. To rotate, add a line and restart: the jobs process puts every data key under it and retires
the older epochs, whose lines may then go. But the lowest also makes the keyed hashes: they must
stay comparable, so its line is never taken out.

Exceptions: `VaultError` ─┬─ `NoKey` (the file is missing, unreadable or not a key file)
                          └─ `BadSeal` (wrong key, wrong place, or a byte was changed)
None of them carries data.
"""

import base64
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEY_BYTES = 32
NONCE_BYTES = 12
"""96 random bits, as NIST SP 800-38D has it for GCM."""
PSEUDONYM_BYTES = 16
"""128 bits, 26 characters of base32: no two consumers share one, and it fits a patterned code."""


class VaultError(Exception):
    """Something about keys; carries no data."""


class NoKey(VaultError):
    """There is no usable master key, or none of the epoch that something was sealed with."""


class BadSeal(VaultError):
    """Sealed with another key, for another place, or changed since."""


class LeadKey(msgspec.Struct, frozen=True, kw_only=True):
    """A data key as it is kept: under the wrapping key of `key_epoch`."""

    key_epoch: int
    wrapped_dek: bytes


class Sealed(LeadKey, frozen=True, kw_only=True):
    """A sealed record with its data key."""

    sealed: bytes


class Vault:
    """`masters`: epoch -> 32 bytes. `pepper_epoch`: which person key is made now; earlier ones can
    still be asked for."""

    def __init__(self, masters: Mapping[int, bytes], *, pepper_epoch: int = 1) -> None:
        if not masters or any(epoch < 1 or len(key) != KEY_BYTES for epoch, key in masters.items()):
            raise NoKey("a master key has 32 bytes and an epoch from 1")
        self._wrapping = {epoch: _derived(key, "wrap") for epoch, key in masters.items()}
        self._epoch = max(masters)
        root = masters[min(masters)]
        self._pseudonyms = _derived(root, "pseudonym")
        self._fingerprints = _derived(root, "fingerprint")
        self._peppers = _derived(root, "pepper")
        self._pepper_epoch = pepper_epoch

    @classmethod
    def open_file(cls, path: Path, create: bool, *, pepper_epoch: int = 1) -> "Vault":
        """The vault of a key file. With `create` a missing file is made, once, for its owner alone
        (0600), also when several processes start at the same time. Raises `NoKey`."""
        if create and not path.exists():
            _make_key_file(path)
        try:
            text = path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            raise NoKey(f"the master key file {path} cannot be read") from None
        return cls(_masters(text, path), pepper_epoch=pepper_epoch)

    @property
    def key_epoch(self) -> int:
        """The epoch of the key that seals now."""
        return self._epoch

    @property
    def epochs(self) -> dict[str, tuple[int, ...]]:
        """The epochs of the keys here, by the kinds of the table `key_epoch`."""
        masters = tuple(sorted(self._wrapping))
        return {"kek": masters, "pepper": (self._pepper_epoch,), "pseudonym": masters[:1]}

    # --- sealing ----------------------------------------------------------------------------------

    def seal(self, lead_id: str, plain: bytes) -> Sealed:
        """A lead's personal data under a fresh data key."""
        return self._seal(f"lead\0{lead_id}", plain)

    def open(self, lead_id: str, sealed: Sealed) -> bytes:
        """What was sealed for this lead. Raises `BadSeal`, or `NoKey` for an epoch not in the
        file."""
        return self._open(f"lead\0{lead_id}", sealed)

    def seal_part(self, lead_id: str, key: LeadKey, part: str, plain: bytes) -> bytes:
        """Something more of a lead, kept elsewhere, under the data key the lead was sealed with:
        destroying that key erases it too. Raises `BadSeal` or `NoKey`."""
        dek = self._unwrapped(f"lead\0{lead_id}", key)
        return _encrypted(dek, plain, f"ex/v1\0{part}\0lead\0{lead_id}")

    def open_part(self, lead_id: str, key: LeadKey, part: str, sealed: bytes) -> bytes:
        """What `seal_part` sealed. Raises `BadSeal` or `NoKey`."""
        dek = self._unwrapped(f"lead\0{lead_id}", key)
        return _decrypted(dek, sealed, f"ex/v1\0{part}\0lead\0{lead_id}")

    def seal_secret(self, name: str, plain: bytes) -> Sealed:
        """A named secret of the operator's (a buyer's signing key, a password)."""
        return self._seal(f"secret\0{name}", plain)

    def open_secret(self, name: str, sealed: Sealed) -> bytes:
        """The secret sealed under this name. Raises `BadSeal` or `NoKey`."""
        return self._open(f"secret\0{name}", sealed)

    def rewrapped(self, noun: Literal["lead", "secret"], name: str, kept: LeadKey) -> bytes:
        """The data key of a lead (by its id) or secret, wrapped under the newest master key: what
        it sealed stays as it is. Raises `BadSeal` or `NoKey`."""
        place = f"{noun}\0{name}"
        return self._wrapped(place, self._unwrapped(place, kept))

    def _seal(self, place: str, plain: bytes) -> Sealed:
        dek = secrets.token_bytes(KEY_BYTES)
        return Sealed(
            key_epoch=self._epoch,
            wrapped_dek=self._wrapped(place, dek),
            sealed=_encrypted(dek, plain, f"ex/v1\0data\0{place}"),
        )

    def _open(self, place: str, sealed: Sealed) -> bytes:
        return _decrypted(self._unwrapped(place, sealed), sealed.sealed, f"ex/v1\0data\0{place}")

    def _wrapped(self, place: str, dek: bytes) -> bytes:
        key = self._wrapping_key(place, self._epoch)
        return _encrypted(key, dek, f"ex/v1\0dek\0{place}\0{self._epoch}")

    def _unwrapped(self, place: str, kept: LeadKey) -> bytes:
        key = self._wrapping_key(place, kept.key_epoch)
        return _decrypted(key, kept.wrapped_dek, f"ex/v1\0dek\0{place}\0{kept.key_epoch}")

    def _wrapping_key(self, place: str, epoch: int) -> bytes:
        if epoch not in self._wrapping:
            raise NoKey(f"the master key of epoch {epoch} is not in the key file")
        return hmac.digest(self._wrapping[epoch], place.encode(), "sha256")

    # --- keyed hashes -----------------------------------------------------------------------------

    def pseudonym(self, kind: str, normalised: str) -> str:
        """What stands for a raw value in a ping: the same value gives the same 26 characters
        (base32), and nobody without the key can guess back."""
        digest = hmac.digest(self._pseudonyms, f"{kind}\0{normalised}".encode(), "sha256")
        return base64.b32encode(digest[:PSEUDONYM_BYTES]).decode().rstrip("=")

    def person(
        self, kind: str, normalised: str, *, pepper_epoch: int | None = None
    ) -> tuple[int, str]:
        """The pepper's epoch and the keyed hash (hex) by which a consumer is found again. Give an
        earlier epoch to look among rows made before the pepper changed."""
        epoch = self._pepper_epoch if pepper_epoch is None else pepper_epoch
        pepper = hmac.digest(self._peppers, str(epoch).encode(), "sha256")
        return epoch, hmac.digest(pepper, f"{kind}\0{normalised}".encode(), "sha256").hex()

    def fingerprint(self, body: bytes) -> str:
        """The keyed hash (hex) of a request, to tell a retry from another request under the same
        key; useless for guessing at what the request said."""
        return hmac.digest(self._fingerprints, body, "sha256").hex()

    def salt(self) -> bytes:
        """32 fresh random bytes for one commitment."""
        return secrets.token_bytes(KEY_BYTES)


def _derived(master: bytes, label: str) -> bytes:
    """A key for one purpose: HKDF-Expand (RFC 5869), for the master key is random already."""
    return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=f"ex/v1\0{label}".encode()).derive(
        master
    )


def _encrypted(key: bytes, plain: bytes, bound_to: str) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound_to.encode())


def _decrypted(key: bytes, data: bytes, bound_to: str) -> bytes:
    try:
        return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound_to.encode())
    except (InvalidTag, ValueError):
        raise BadSeal("sealed with another key, for another place, or changed since") from None


# --- the key file ---------------------------------------------------------------------------------


def _masters(text: str, path: Path) -> dict[int, bytes]:
    masters: dict[int, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            epoch, key = line.split()
            masters[int(epoch)] = bytes.fromhex(key)
        except ValueError:
            raise NoKey(f"{path}, line {number}: not `<epoch> <64 hex digits>`") from None
    if not masters:
        raise NoKey(f"{path} holds no master key")
    return masters


def _make_key_file(path: Path) -> None:
    """Written whole under another name and linked into place: a reader never sees half a key, and
    of several makers one wins. Synced, for what it seals must not outlive it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"1 {secrets.token_hex(KEY_BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError as error:
        raise NoKey(f"the master key file {path} cannot be made: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
