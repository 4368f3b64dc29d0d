"""Settings are read once, checked all together, and shown without their secrets."""

from pathlib import Path

import pytest

from exchange.config import BadSettings, Limits, limit_rows, read_settings, shown


def test_defaults_are_an_embedded_exchange_on_the_loopback() -> None:
    settings = read_settings({})
    assert settings.is_embedded
    assert settings.host == "127.0.0.1"
    assert not settings.lab


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(BadSettings) as raised:
        read_settings(
            {
                "EXCHANGE_PORT": "http",
                "EXCHANGE_TMAX_MS": "3",
                "EXCHANGE_NO_SUCH": "1",
                "EXCHANGE_DATABASE_URL": "postgres://u:p@h/d",
                "EXCHANGE_LAB": "true",
                "OTHER": "ignored",
            }
        )
    said = "\n".join(raised.value.problems)
    for name in ("PORT", "TMAX_MS", "NO_SUCH", "VALKEY_URL", "LAB", "MASTER_KEY_FILE"):
        assert name in said
    assert len(raised.value.problems) == 6


def test_failpoints_are_refused_outside_lab_mode() -> None:
    failpoints = {"EXCHANGE_FAILPOINTS": "/tmp/places"}
    assert read_settings(failpoints, lab=True).failpoints == "/tmp/places"
    with pytest.raises(BadSettings, match="EXCHANGE_FAILPOINTS"):
        read_settings(failpoints)


def test_the_command_line_wins_over_the_environment() -> None:
    assert read_settings({"EXCHANGE_PORT": "1000"}, port=2000, host=None).port == 2000


@pytest.mark.parametrize(
    ("given", "name"), [({"workers": 0}, "--workers"), ({"port": 99_999}, "--port")]
)
def test_the_command_line_is_checked_like_the_environment(given: dict[str, int], name: str) -> None:
    with pytest.raises(BadSettings) as raised:
        read_settings({}, **given)
    [problem] = raised.value.problems
    assert problem.startswith(f"{name}: ")


def test_a_shown_setting_hides_the_password() -> None:
    settings = read_settings(
        {
            "EXCHANGE_DATABASE_URL": "postgres://user:hunter2@db.example/exchange",
            "EXCHANGE_VALKEY_URL": "redis://:hunter3@valkey.example",
            "EXCHANGE_MASTER_KEY_FILE": "/run/secrets/master",
        }
    )
    text = str(shown(settings))
    assert "hunter" not in text
    assert "db.example" in text


def test_every_limit_has_a_default_within_its_range() -> None:
    assert len(limit_rows()) == len(Limits.__struct_fields__)
    for name, default, allowed in limit_rows():
        low, high = (int(part.replace(",", "")) for part in allowed.split(" to "))
        assert low <= int(default.replace(",", "")) <= high, name


def test_a_url_may_come_by_file_so_that_its_password_is_in_no_environment(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgres://u:p@h/d\n")
    (tmp_path / "valkey").write_text("redis://v")
    settings = read_settings(
        {
            "EXCHANGE_DATABASE_URL_FILE": str(tmp_path / "url"),
            "EXCHANGE_VALKEY_URL_FILE": str(tmp_path / "valkey"),
            "EXCHANGE_MASTER_KEY_FILE": "key",
        }
    )
    assert (settings.database_url, settings.valkey_url) == ("postgres://u:p@h/d", "redis://v")


def test_a_url_given_twice_or_in_no_readable_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as raised:
        read_settings(
            {
                "EXCHANGE_DATABASE_URL": "postgres://h/d",
                "EXCHANGE_DATABASE_URL_FILE": str(tmp_path / "url"),
                "EXCHANGE_VALKEY_URL_FILE": str(tmp_path / "nowhere"),
                "EXCHANGE_MASTER_KEY_FILE": "key",
            }
        )
    twice, unreadable = raised.value.problems[:2]
    assert "choose one" in twice
    assert "cannot be read" in unreadable
