"""The vault: what is sealed opens only where it belongs, and nothing personal shows on the way."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from exchange.effects.vault import BadSeal, NoKey, Sealed, Vault

LEAD = "0195b2c4-6f00-7000-8000-000000000001"
PLAIN = b'{"phone": "+15550100"}'
ONE, TWO = bytes(32), bytes(range(32))


@given(st.binary(max_size=2_000))
def test_what_is_sealed_opens_again(plain: bytes) -> None:
    vault = Vault({1: ONE})
    sealed = vault.seal(LEAD, plain)
    assert vault.open(LEAD, sealed) == plain
    assert len(plain) < 4 or plain not in sealed.sealed


@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    vault = Vault({1: ONE})
    sealed = vault.seal(LEAD, PLAIN)
    name = data.draw(st.sampled_from(["wrapped_dek", "sealed"]))
    value = bytearray(getattr(sealed, name))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BadSeal):
        vault.open(LEAD, replace(sealed, **{name: bytes(value)}))


def test_it_opens_neither_with_another_key_nor_for_another_lead_nor_as_a_secret() -> None:
    vault = Vault({1: ONE})
    sealed = vault.seal(LEAD, PLAIN)
    with pytest.raises(BadSeal):
        Vault({1: TWO}).open(LEAD, sealed)
    with pytest.raises(BadSeal):
        vault.open(LEAD.replace("1", "2"), sealed)
    with pytest.raises(BadSeal):
        vault.open_secret(LEAD, sealed)


def test_truncated_and_empty_seals_are_refused_like_any_other() -> None:
    vault = Vault({1: ONE})
    for sealed in (b"", b"x", bytes(12)):
        with pytest.raises(BadSeal):
            vault.open(LEAD, Sealed(key_epoch=1, wrapped_dek=sealed, sealed=sealed))


def test_a_secret_opens_under_its_name_alone() -> None:
    vault = Vault({1: ONE})
    sealed = vault.seal_secret("acme", b"hunter2")
    assert vault.open_secret("acme", sealed) == b"hunter2"
    with pytest.raises(BadSeal):
        vault.open_secret("apex", sealed)


def test_two_seals_of_one_record_share_no_byte_string() -> None:
    vault = Vault({1: ONE})
    first, second = vault.seal(LEAD, PLAIN), vault.seal(LEAD, PLAIN)
    assert first.sealed != second.sealed
    assert first.wrapped_dek != second.wrapped_dek


def test_a_new_epoch_seals_and_the_old_one_still_opens() -> None:
    old = Vault({1: ONE})
    sealed = old.seal(LEAD, PLAIN)
    both = Vault({1: ONE, 2: TWO})
    assert both.open(LEAD, sealed) == PLAIN
    assert both.seal(LEAD, PLAIN).key_epoch == both.key_epoch == 2
    moved = replace(sealed, key_epoch=2, wrapped_dek=both.rewrapped("lead", LEAD, sealed))
    assert both.open(LEAD, moved) == PLAIN
    with pytest.raises(NoKey):
        old.open(LEAD, moved)
    with pytest.raises(BadSeal):
        both.open(LEAD, replace(sealed, key_epoch=2))


def test_keyed_hashes_outlive_a_new_sealing_key() -> None:
    old, both = Vault({1: ONE}), Vault({1: ONE, 2: TWO})
    assert old.pseudonym("phone", "+15550100") == both.pseudonym("phone", "+15550100")
    assert old.person("phone", "+15550100") == both.person("phone", "+15550100")
    assert old.fingerprint(b"body") == both.fingerprint(b"body")


def test_keyed_hashes_differ_by_key_purpose_kind_value_and_pepper() -> None:
    one, two = Vault({1: ONE}), Vault({1: TWO})
    later = Vault({1: ONE}, pepper_epoch=2)
    found = [
        one.person("phone", "1"), one.person("phone", "2"), one.person("email", "1"),
        two.person("phone", "1"), later.person("phone", "1"),
        (0, one.fingerprint(b"phone\x001")), (0, two.fingerprint(b"phone\x001")),
    ]  # fmt: skip
    assert len({digest for _, digest in found}) == len(found)
    assert later.person("phone", "1", pepper_epoch=1) == one.person("phone", "1")
    pseudonym = one.pseudonym("phone", "1")
    assert (len(pseudonym), pseudonym.isalnum()) == (26, True)
    assert pseudonym not in {one.pseudonym("phone", "2"), two.pseudonym("phone", "1")}


def test_salts_are_fresh() -> None:
    vault = Vault({1: ONE})
    assert len({vault.salt() for _ in range(100)}) == 100
    assert len(vault.salt()) == 32


def test_no_exception_and_no_repr_carries_data() -> None:
    vault = Vault({1: ONE})
    with pytest.raises(BadSeal) as refused:
        vault.open(LEAD, replace(vault.seal(LEAD, PLAIN), key_epoch=1, sealed=PLAIN * 3))
    told = f"{refused.value!r} {refused.value.__cause__} {vault!r}"
    assert "5550100" not in told
    assert ONE.hex() not in told


# --- the key file ---------------------------------------------------------------------------------


def test_a_missing_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master"
    with ThreadPoolExecutor(8) as pool:
        vaults = list(pool.map(lambda _: Vault.open_file(path, create=True), range(8)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["master"]
    sealed = vaults[0].seal(LEAD, PLAIN)
    assert all(vault.open(LEAD, sealed) == PLAIN for vault in vaults)
    assert Vault.open_file(path, create=False).open(LEAD, sealed) == PLAIN


def test_a_missing_file_is_refused_when_none_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(NoKey, match="cannot be read"):
        Vault.open_file(tmp_path / "master", create=False)
    assert not (tmp_path / "master").exists()


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "1", "x " + "00" * 32, "1 " + "zz" * 32, "1 " + "00" * 31,
     "0 " + "00" * 32, "-1 " + "00" * 32],
)  # fmt: skip
def test_a_file_that_is_no_key_file_is_refused_without_being_shown(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "master"
    path.write_text(text)
    with pytest.raises(NoKey) as refused:
        Vault.open_file(path, create=True)
    assert "0000" not in str(refused.value)
    assert path.read_text() == text


def test_a_file_may_hold_several_keys_and_remarks(tmp_path: Path) -> None:
    path = tmp_path / "master"
    path.write_text(f"# made 2026-01-01\n1 {ONE.hex()}\n\n2 {TWO.hex()}\n")
    vault = Vault.open_file(path, create=False)
    assert vault.key_epoch == 2
    assert vault.open(LEAD, Vault({1: ONE}).seal(LEAD, PLAIN)) == PLAIN
