"""Lua scripts, one file each; EVALSHA names them by content, so two versions of the exchange
coexist."""

from importlib import resources


def script(name: str) -> str:
    """The text of `exchange/effects/lua/<name>.lua`. Raises `FileNotFoundError`."""
    return (resources.files(__package__) / f"{name}.lua").read_text(encoding="utf-8")
