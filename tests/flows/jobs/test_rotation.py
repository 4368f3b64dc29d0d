"""A new master key takes over from an older one: nothing sealed is lost, the old one retires."""

from typing import Any

import pytest

from exchange.app.ground import Urls, tools
from exchange.config import Settings
from exchange.effects.book import BookStore
from exchange.effects.epochs import Epochs
from exchange.effects.leases import Lease
from exchange.effects.vault import NoKey, Sealed, Vault
from exchange.flows.rotation import Rotated, Rotation

pytestmark = pytest.mark.real

ONE, TWO = bytes(32), bytes([2]) * 32


async def sealed_under(stage: Any, vault: Vault, *leads: str) -> None:
    """Records of these leads, and a secret, as this vault seals them."""
    for lead_id in leads:
        one = vault.seal(lead_id, b"personal")
        await stage.database.execute(
            "INSERT INTO lead_private (lead_id, day, key_epoch, wrapped_dek, sealed)"
            " VALUES ($1, lead_day($1), $2, $3, $4)",
            lead_id,
            one.key_epoch,
            one.wrapped_dek,
            one.sealed,
        )
    sealed = vault.seal_secret("hook", b"word")
    await BookStore(stage.database).set_secret("hook", sealed, by="test")


async def opened(stage: Any, vault: Vault, lead_id: str) -> bytes:
    row = await stage.sealed.fetchrow(
        "SELECT key_epoch, wrapped_dek, sealed FROM lead_private WHERE lead_id = $1", lead_id
    )
    return vault.open(lead_id, Sealed(**dict(row)))


async def test_a_new_master_key_takes_over_and_the_old_one_retires_when_nobody_uses_it(
    stage: Any, database_url: str, valkey_url: str, tmp_path: Any
) -> None:
    epochs = Epochs(app=stage.database, sealed=stage.sealed)
    old, new = Vault({1: ONE}), Vault({1: ONE, 2: TWO})
    assert await epochs.known(old.epochs) == ()
    before = await stage.boot("began-before", is_dead=False)
    leads = [stage.clock.new_id() for _ in range(3)]
    await sealed_under(stage, old, *leads)
    lease = await stage.leases.acquire("rotation")
    assert await Rotation(epochs=epochs, vault=old).turn(lease) is None

    assert await epochs.known(new.epochs) == ()
    rotation = Rotation(epochs=epochs, vault=new)
    assert await rotation.turn(Lease(job="rotation", epoch=0)) == Rotated(rewrapped=0, retired=())
    assert await rotation.turn(lease) == Rotated(rewrapped=4, retired=())
    late = stage.clock.new_id()
    await sealed_under(stage, old, late)  # by the process that began before
    await stage.boots.leave(before)
    assert await rotation.turn(lease) == Rotated(rewrapped=2, retired=(1,))
    assert await rotation.turn(lease) is None

    without = Vault({2: TWO})
    assert [await opened(stage, without, one) for one in (*leads, late)] == [b"personal"] * 4
    assert await BookStore(stage.database).secrets(without.open_secret) == {"hook": b"word"}
    assert await epochs.known(without.epochs) == ()
    assert await epochs.known(old.epochs) == (2,), "a process without the new key must not start"
    file = tmp_path / "old"
    file.write_text(f"1 {ONE.hex()}\n")
    settings = Settings(master_key_file=str(file), data_dir=str(tmp_path))
    with pytest.raises(NoKey, match="epoch 2"):
        async with tools(settings, Urls(database_url=database_url, valkey_url=valkey_url)):
            pass
