"""What is read beside a load: growth of counters, CPU of processes and their children."""

import os
import subprocess
import sys
from pathlib import Path

from loadtest.load.churn import changed
from loadtest.load.grounds import KEEPS_ITS_CAP, loaded_market
from loadtest.load.sampling import Processes, growth, scraped
from loadtest.load.troubles import brown

EXAMPLE = (Path(__file__).parents[2] / "examples" / "market.toml").read_text(encoding="utf-8")
SIM = {"http": "http://127.0.0.1:1", "https": "https://127.0.0.1:2", "ca": "/tmp/ca.pem"}


def test_only_what_the_report_reads_is_kept() -> None:
    text = (
        "# HELP exchange_pings_late_total Pings.\n"
        "exchange_pings_late_total 3.0\n"
        'exchange_answers_total{answer="bid",buyer="acme"} 7.0\n'
        'exchange_loop_lag_seconds_bucket{le="1.0"} 9.0\n'
    )
    assert scraped(text) == {
        "exchange_pings_late_total": 3.0,
        'exchange_answers_total{answer="bid",buyer="acme"}': 7.0,
    }


def test_a_counter_that_began_anew_grew_by_what_it_shows() -> None:
    assert growth({"a": 5.0, "b": 5.0, "c": 5.0}, {"a": 7.0, "b": 2.0, "c": 5.0, "d": 1.0}) == {
        "a": 2.0,
        "b": 2.0,
        "d": 1.0,
    }


def test_processes_are_told_apart_and_their_cpu_counts_from_the_last_look() -> None:
    busy = "import sys; sum(range(3_000_000)); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", busy, "jobs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        processes = Processes({"exchange": os.getpid()})
        cpu_s, memory = processes.used()
        assert set(cpu_s) >= {"exchange", "exchange jobs"}
        assert memory["exchange"] > 10 << 20
        again, _ = processes.used()
        assert again["exchange jobs"] == 0.0
        child.communicate()


def test_who_ended_is_left_out() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert Processes({"gone": gone.pid}).used() == ({}, {})


# --- the grounds ----------------------------------------------------------------------------------


def test_the_market_of_a_load_has_its_buyers_here_its_sellers_quick_and_its_caps_wide() -> None:
    text = loaded_market(EXAMPLE, SIM)
    assert "127.0.0.1:9100" not in text
    assert "127.0.0.1:9143" not in text
    assert text.count("rate_per_s = 100000") == 3
    assert "rate_per_s = 400" not in text
    kept = text.split(f"[contracts.{KEEPS_ITS_CAP}]")[1].split("\n[")[0]
    assert "leads = 6," in kept
    assert "leads = 400000, " in text
    assert 'money = "12000000.00"' in text


def test_every_churn_is_another_market() -> None:
    text = loaded_market(EXAMPLE, SIM)
    markets = {changed(text, number) for number in range(1, 30)}
    assert len(markets) == 29
    assert text not in markets


def test_a_fifth_of_the_buyers_hangs_and_never_none() -> None:
    buyers = [f"b{number}" for number in range(12)]
    assert brown(buyers) == ["b0", "b6"]
    assert brown(["only"]) == ["only"]
    assert len(brown([f"b{number}" for number in range(20)])) == 4
