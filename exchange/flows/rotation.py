"""Rotation of the master key: once the key file has a newer line, every data key is put under it,
and the older master key is retired, so that its line may be taken out of the file. What is sealed
is not touched.
"""

from exchange.core.model import Fact
from exchange.effects.epochs import Epochs, Noun
from exchange.effects.leases import Lease
from exchange.effects.vault import LeadKey, Vault

BATCH_MAX = 500


class Rotated(Fact, frozen=True, kw_only=True):
    """What a round did: data keys put under the newest master key, and master keys retired."""

    rewrapped: int
    retired: tuple[int, ...]


class Rotation:
    """Rotation as a job: call `turn` again and again."""

    def __init__(self, *, epochs: Epochs, vault: Vault) -> None:
        self._epochs, self._vault = epochs, vault

    async def turn(self, lease: Lease) -> Rotated | None:
        """One round; `None` when no older master key is in use. Raises `VaultError` when the key
        file does not fit what is kept."""
        newest = self._vault.key_epoch
        if not await self._epochs.rotating(newest):
            return None
        rewrapped = await self._all("lead", lease) + await self._all("secret", lease)
        return Rotated(rewrapped=rewrapped, retired=await self._epochs.retire(newest))

    async def _all(self, noun: Noun, lease: Lease) -> int:
        newest, total = self._vault.key_epoch, 0
        while old := await self._epochs.wrapped_before(noun, newest, BATCH_MAX):
            done = 0
            for one in old:
                kept = LeadKey(key_epoch=one.key_epoch, wrapped_dek=one.wrapped_dek)
                wrapped_dek = self._vault.rewrapped(noun, one.place, kept)
                done += await self._epochs.rewrap(
                    noun, one, newest, wrapped_dek, job=lease.job, lease=lease.epoch
                )
            total += done
            if not done:  # the lease has moved on
                break
        return total
