"""Lists that must agree with one another: codes and their numbers, limits and their table,
dependencies and their reasons, the lock, the top level, the floors, the metrics.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from exchange.config import Limits
from exchange.core.ledger import TransferCode
from exchange.core.reasons import Delivery, Loss, NonBid, Reason, ReturnReason
from exchange.core.returns import SENTENCES
from exchange.effects.metrics import FAMILIES, LABELS

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def rows_of(table_after: str, text: str) -> set[str]:
    """The first cells, without back-ticks, of the table under the heading `table_after`."""
    section = re.split(r"^#+ ", text.partition(table_after)[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = re.findall(r"^\|\s*([^|]+?)\s*\|", section, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"[\w.-]+", cell.replace("`", ""))}


def handbook() -> str:
    return (ROOT / "exchange" / "README.md").read_text(encoding="utf-8")


# --- codes ----------------------------------------------------------------------------------------

FROZEN: dict[type[IntEnum], str] = {
    NonBid: """
        NO_BID 0 ERROR 100 TIMEOUT 101 INVALID_BID 102 UNREACHABLE 103 BELOW_FLOOR 301
        DUPLICATE 302 CLOSED 500 PAUSED 501 BUYER_BRAKED 502 OUT_OF_CRITERIA 503 SOURCE_BLOCKED 504
        CONSENT_EXCLUDES 505 OUT_OF_HOURS 506 CAP_FULL 507 OUT_OF_CREDIT 508 PRICE_BELOW_FLOOR 509
        UNHEALTHY 510 IN_FLIGHT_FULL 511 NOT_INVITED 512 TEST_ONLY 513 EARLY_CLOSED 530
        REPLY_TOO_LARGE 531 REDIRECTED 532 SOURCE_PAUSED 514 SOURCE_PAUSED_HERE 515
    """,
    Loss: """
        WON 0 INTERNAL 1 EXPIRED 2 OUTBID 102 CAP_LOST 500 POST_REJECTED 501 POST_NOT_SENT 502
        IN_DOUBT 503 SELLER_DECLINED 504 BELOW_PROMISE 505 BID_EXPIRED 506 RELEASES_SPENT 507
        BRAKED 508 CRITERIA_AT_POST 509 CAPS_UNREADABLE 510 DEADLINE_SPENT 511
        SOURCE_PAUSED 512 OUT_OF_CREDIT 513
    """,
    Reason: """
        NO_CONTRACT 700 NO_BIDS 701 DEADLINE 702 OFFERS_UNAVAILABLE 703 NOBODY_BOUGHT 704
        PROMISE_UNMET 705 IN_DOUBT 706 OFFER_EXPIRED 707 OFFER_UNKNOWN 708 OFFER_TAKEN 709
        PING_MISMATCH 710 DUPLICATE 711 CONSENT_MISSING 712 INTERRUPTED 713
        PERSONAL_DATA_IN_PING 714 POST_RUNNING 715 WRITTEN_OFF 716 SOURCE_PAUSED 717
    """,
    ReturnReason: """
        INVALID_PHONE 800 DISCONNECTED 801 WRONG_PERSON 802 NEVER_REQUESTED 803 DUPLICATE 804
        EXISTING_CUSTOMER 805 OUT_OF_AREA 806 OUTSIDE_CRITERIA 807 UNDER_AGE 808 NO_CONSENT 809
        LITIGATOR_DNC 810 INCOMPLETE 811 FRAUD 812 LANGUAGE 813 NO_CONTACT 814
    """,
    TransferCode: """
        PAYOUT 1 FEE 2 RETURN_BORNE 3 CLAWBACK_KEPT 4 PAYMENT 10 PAID_OUT 11 PREPAID 12
        PREPAID_USED 13 REFUND 14 ADJUSTMENT 20 PRICE_CORRECTION 21 BAD_DEBT 30 RESERVE 40
        GUARANTEE 50 TERMS 51
    """,
    Delivery: "NOT_SENT 0 REJECTED 1 ACCEPTED 2 UNKNOWN 3",
}
"""What each number has meant since it was first written down. A new member is a new entry here; an
entry never changes: a record of years ago says the number, not the name."""


RETURN_RULES = """
    no_policy already_returned replacement_final nothing_left too_late reason_not_agreed
    phone_worked not_had_before in_area in_criteria of_age consent_held complete
    limit_reached reason_limit_reached high_price reason_to_person
    phone_dead bought_before listed_before out_of_area outside_criteria under_age consent_missing
    incomplete trusted evidence_missing phone_not_in_plan evidence_enough not_verifiable
    person_granted person_denied appeal_not_agreed appealed_before appeal_too_late appeal_open
    lapsed incident_credited
"""
"""Old cases name the rule they were decided by: an id is never taken away nor given another sense.
"""


def test_a_return_rule_never_changes_its_id() -> None:
    assert list(SENTENCES) == RETURN_RULES.split()


def frozen(text: str) -> dict[str, int]:
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


@pytest.mark.parametrize("codes", FROZEN, ids=lambda codes: codes.__name__)
def test_a_code_never_changes_its_number(codes: type[IntEnum]) -> None:
    assert {member.name: member.value for member in codes} == frozen(FROZEN[codes])


@pytest.mark.parametrize("codes", [NonBid, Loss, Reason, ReturnReason])
def test_every_code_has_a_sentence_of_its_own(
    codes: type[NonBid | Loss | Reason | ReturnReason],
) -> None:
    sentences = [member.sentence for member in codes]
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert re.fullmatch(r"[A-Z].{15,}\.", sentence), sentence


# --- limits ---------------------------------------------------------------------------------------

UNITS = ("ms", "s", "days", "max", "min", "kept", "count", "share")


def test_every_limit_says_its_unit() -> None:
    for name in Limits.__struct_fields__:
        assert name.rpartition("_")[2] in UNITS, name


def test_every_limit_has_a_row_in_the_handbooks_table() -> None:
    missing = set(Limits.__struct_fields__) - rows_of("## Limits", handbook())
    assert not missing, f"exchange/README.md, Limits: no row for {sorted(missing)}"


# --- dependencies ---------------------------------------------------------------------------------


def requirements() -> dict[str, Requirement]:
    project = PROJECT["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {requirement.name: requirement for requirement in map(Requirement, named)}


def locked() -> dict[str, str]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.MULTILINE))


def test_every_dependency_says_why_in_the_handbook() -> None:
    missing = set(requirements()) - rows_of("## Dependencies", handbook())
    assert not missing, f"exchange/README.md, Dependencies: no row for {sorted(missing)}"


def test_every_dependency_says_why_on_its_line() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in requirements():
        line = re.search(rf'^\s*"{re.escape(name)}[\[><=~].*$', text, flags=re.MULTILINE)
        assert line is not None, name
        assert re.search(r"# \S", line.group()), name


def unmet(wanted: Iterable[Requirement], versions: dict[str, str]) -> list[str]:
    return [
        str(requirement)
        for requirement in wanted
        if not (
            (found := versions.get(requirement.name))
            and requirement.specifier.contains(Version(found), prereleases=True)
        )
    ]


def test_the_lock_pins_every_dependency_by_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert unmet(requirements().values(), locked()) == [], "run `make lock`"
    assert not re.search(r"://|--index|--find-links|^-e|\s@\s", text, flags=re.MULTILINE)
    for entry in re.split(r"^(?=[\w])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry[:60]


def test_a_dependency_the_lock_lacks_is_caught() -> None:
    assert unmet([Requirement("aiohttp>=999"), Requirement("nowhere")], locked()) == [
        "aiohttp>=999",
        "nowhere",
    ]


def test_the_image_gets_what_runs_and_nothing_else() -> None:
    running, _, development = (
        (ROOT / "requirements.lock").read_text(encoding="utf-8").partition("# development\n")
    )
    runs = {Requirement(text).name for text in PROJECT["project"]["dependencies"]}
    assert runs <= set(re.findall(r"^([\w.-]+)==", running, flags=re.MULTILINE))
    assert "pytest==" in development
    assert "pytest==" not in running


# --- the top level, the floors --------------------------------------------------------------------


TOP_LEVEL = {
    *("pyproject.toml", "README.md", "exchange", "buyers_sim", "loadtest", "migrations", "tests"),
    *("Dockerfile", "Makefile", "compose.yaml", "ops", "requirements.lock"),
    *("CHANGELOG.md", "LICENSE", "examples"),
}


def test_the_top_level_is_what_the_design_says() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    top = {path.split("/")[0] for path in listed if (ROOT / path).exists()}
    assert {name for name in top if not name.startswith(".")} == TOP_LEVEL


def lint_imports(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", config, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_point_down_the_floors() -> None:
    result = lint_imports(ROOT / "pyproject.toml")
    assert result.returncode == 0, result.stdout


def test_a_contract_that_the_tree_breaks_is_caught(tmp_path: Path) -> None:
    upside_down = tmp_path / "upside-down.toml"
    upside_down.write_text(
        '[tool.importlinter]\nroot_packages = ["exchange"]\n'
        "[[tool.importlinter.contracts]]\n"
        'name = "Upside down"\ntype = "layers"\n'
        'layers = ["exchange.core", "exchange.flows"]\n'
    )
    assert "BROKEN" in lint_imports(upside_down).stdout


# --- metrics --------------------------------------------------------------------------------------


def metric_rows() -> list[str]:
    """The tables of the handbook, a line per metric and per label."""
    metrics = [
        f"| `{name}` | {one.kind} | {', '.join(one.labels)} | {one.help} |"
        for name, one in FAMILIES.items()
    ]
    return metrics + [f"| `{label}` | {values} |" for label, values in LABELS.items()]


def test_the_handbook_tells_every_metric_and_label_and_no_other() -> None:
    section = handbook().partition("## Metrics")[2].partition("\n## ")[0]
    told = [line for line in section.splitlines() if line.startswith("| `")]
    assert told == metric_rows(), "paste into exchange/README.md, Metrics:\n" + "\n".join(
        metric_rows()
    )
