"""Commands speak in sentences: no traceback for what an operator can mend."""

import pytest
import typer

from exchange.app import market_commands
from exchange.app.commands import plainly
from exchange.config import BadSettings
from exchange.effects.valkey import ValkeyDown
from exchange.effects.vault import NoKey
from exchange.embedded import EmbeddedError
from exchange.flows.market import UnknownVersion


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (BadSettings(["EXCHANGE_PORT: no number", "EXCHANGE_FOO: no such setting"]), 2),
        (EmbeddedError("the folder is in use"), 1),
        (NoKey("the master key file cannot be read"), 1),
        (ConnectionRefusedError(111, "Connect call failed ('db.example', 5432)"), 1),
        (ValkeyDown("no answer"), 1),
    ],
)
def test_what_an_operator_can_mend_is_told_in_a_sentence(
    fault: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, plainly():
        raise fault
    said = capsys.readouterr().err
    assert ended.value.exit_code == code
    assert all(part in said for part in str(fault).splitlines())


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(KeyError), plainly():
        raise KeyError("a bug")


def test_exporting_a_version_that_never_was_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_such(*_: object) -> str:
        raise UnknownVersion("there is no version 9; the newest is 3")

    monkeypatch.setattr(market_commands, "with_tools", no_such)
    with pytest.raises(typer.Exit) as ended:
        market_commands.export(version=9)
    said = capsys.readouterr()
    assert ended.value.exit_code == 1
    assert "there is no version 9" in said.err
    assert said.out == ""
