"""What is shipped for watching: Prometheus's configuration, the alerts and the dashboard name only
metrics that there are, with labels and values that they have; and the compose file brings each file
where the other files look for it.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exchange.core.reasons import Delivery, Loss, NonBid
from exchange.effects.metrics import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
OPS = ROOT / "ops"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DASHBOARD: dict[str, Any] = json.loads(
    (OPS / "grafana/dashboards/exchange.json").read_text(encoding="utf-8")
)
FROM_PROMETHEUS = {"instance", "job", "le"}
VALUES: dict[str, set[str]] = {
    "answer": {"bid", *(one.label for one in NonBid)},
    "delivery": {one.name.lower() for one in Delivery},
    "kind": {"new", "reused", "failed"},
    "loss": {one.label for one in Loss},
    "outcome": {"offer", "no_offer", "done", "failed", "deposed"},
    "state": {"posting", "unknown"},
    "status": {"sold", "unsold", "duplicate", "rejected", "queued", "pending", "test"},
}
"""Of closed lists, what a selector may ask for."""


def alerts() -> Iterator[tuple[str, str]]:
    rules = yaml.safe_load((OPS / "alerts.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for one in group["rules"]:
            yield one["alert"], one["expr"]


def panels() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for one in DASHBOARD["annotations"]["list"]:
        yield one["name"], one["expr"]
    for one in DASHBOARD["templating"]["list"]:
        yield (
            one["name"],
            re.sub(r"label_values\((\w+), (\w+)\)", r"\1{\2=~}", one["query"]["query"]),
        )


EXPRESSIONS = [*alerts(), *panels()]


def family_of(name: str) -> str | None:
    """The family of a series: a histogram's come with endings."""
    if name in FAMILIES:
        return name if FAMILIES[name].kind != "histogram" else None
    stem = re.sub(r"_(bucket|sum|count)$", "", name)
    return stem if stem in FAMILIES and FAMILIES[stem].kind == "histogram" else None


def wrong(expression: str) -> Iterator[str]:
    """What an expression asks for that there is not: a metric, a label of it, a label's value."""
    known: set[str] = set(FROM_PROMETHEUS)
    for name, selector in re.findall(r"\b(exchange_\w+)(?:\{([^}]*)\})?", expression):
        family = family_of(name)
        if family is None:
            yield f"no metric {name}"
            continue
        labels = {*FAMILIES[family].labels, *FROM_PROMETHEUS}
        labels |= {"worker"} if FAMILIES[family].kind == "gauge" else set()
        known |= labels
        for label, operator, text in re.findall(r'(\w+)(=~|!~|!=|=)(?:"([^"]*)")?', selector):
            if label not in labels:
                yield f"{name} has no label {label}"
            elif label in VALUES and not text.startswith("$"):
                for value in text.split("|") if "~" in operator else [text]:
                    if value not in VALUES[label]:
                        yield f"{label} is never {value}"
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        yield from (f"nothing has {one}" for one in re.split(r",\s*", group) if one not in known)


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_every_metric_label_and_value_that_is_asked_for_exists(where: str, expression: str) -> None:
    assert not list(wrong(expression)), where


@pytest.mark.parametrize(
    "expression",
    [
        "exchange_no_such_thing_total",
        "exchange_ping_seconds",
        'exchange_pings_total{buyer="a"}',
        'rate(exchange_losses_total{loss="caps_unreadble"}[5m])',
        "sum by (vertical) (exchange_up)",
    ],
)
def test_a_metric_label_or_value_that_does_not_exist_is_caught(expression: str) -> None:
    assert list(wrong(expression))


def test_every_metric_is_on_the_dashboard_or_behind_an_alert() -> None:
    names = [name for _, text in EXPRESSIONS for name in re.findall(r"exchange_\w+", text)]
    assert set(map(family_of, names)) == set(FAMILIES)


def test_every_alert_says_what_happened_what_to_do_and_how_urgent_it_is() -> None:
    rules = yaml.safe_load((OPS / "alerts.yml").read_text(encoding="utf-8"))
    for one in (rule for group in rules["groups"] for rule in group["rules"]):
        assert one["labels"]["severity"] in {"page", "ticket"}, one["alert"]
        assert set(one["annotations"]) == {"summary", "action"}, one["alert"]


def test_no_two_panels_have_one_id_or_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


# --- where the files go ---------------------------------------------------------------------------


def mounted(service: str) -> dict[str, Path]:
    """The service's paths that are files or folders of ours."""
    found = {}
    for volume in COMPOSE["services"][service]["volumes"]:
        source, target = volume.split(":")[:2]
        if source.startswith("./"):
            found[target] = ROOT / source
    return found


def test_prometheus_finds_its_configuration_the_alerts_and_the_exchange() -> None:
    files = mounted("prometheus")
    config = yaml.safe_load(files["/etc/prometheus/prometheus.yml"].read_text(encoding="utf-8"))
    for rules in config["rule_files"]:
        assert files[f"/etc/prometheus/{rules}"].is_file()
    [job] = config["scrape_configs"]
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [port] = re.findall(r"^EXPOSE (\d+)$", image, flags=re.MULTILINE)
    assert job["static_configs"][0]["targets"] == [f"exchange:{port}"]
    assert f"EXCHANGE_PORT={port}" in image
    assert job["metrics_path"] == "/metrics"


def test_grafana_finds_its_source_and_the_dashboard() -> None:
    files = mounted("grafana")
    provisioning = files["/etc/grafana/provisioning"]
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert {
        panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel
    } == {source["uid"]}
    [provider] = yaml.safe_load((provisioning / "dashboards/exchange.yml").read_text())["providers"]
    dashboards = files[provider["options"]["path"]]
    assert (dashboards / "exchange.json").is_file()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")
@pytest.mark.parametrize(
    "command", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_finds_nothing_wrong(command: tuple[str, ...]) -> None:
    told = subprocess.run(
        ["promtool", *command], cwd=OPS, capture_output=True, text=True, check=False, timeout=60
    )
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")
def test_promtool_can_read_every_panel(tmp_path: Path) -> None:
    asked = {"$__rate_interval": "5m", "$instance": ".*", "$buyer": ".*"}
    rules = []
    for number, (_, expression) in enumerate(panels()):
        for variable, value in asked.items():
            expression = expression.replace(variable, value)
        rules.append({"record": f"panel:{number}", "expr": expression.replace("=~}", '=~".*"}')})
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    told = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.returncode == 0, told.stdout + told.stderr
