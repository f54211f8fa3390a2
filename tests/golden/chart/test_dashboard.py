"""The Grafana dashboard and the alerts ask for nothing that does not exist."""

import json
import re
from typing import Any

import pytest
import yaml

from cluster.chart import CASES, CHART, require_helm
from switchboard_operator.telemetry import Telemetry

DASHBOARD = CHART / "files" / "dashboard.json"
NAMES = CHART.parents[1] / "tests" / "golden" / "metrics" / "names.txt"
METRIC = re.compile(r"\b((?:switchboard|gen_ai)_\w+)\{([^}]*)\}")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
SCRAPED = {"namespace", "pod", "le"}
"""Labels that come with a scrape, and with a histogram."""


def known() -> dict[str, set[str]]:
    """Every series there can be, with its labels."""
    series: dict[str, set[str]] = {}
    for line in NAMES.read_text().splitlines():
        name, kind, labels = line.split()
        for suffix in SUFFIXES[kind]:
            series[name + suffix] = set(labels.strip("{}").split(","))
    for metric in Telemetry().registry._collector_to_names:
        (family,) = metric.collect()
        ending = {"histogram": SUFFIXES["histogram"], "counter": ("_total",)}
        for suffix in ending.get(family.type, ("",)):
            series[family.name + suffix] = set(getattr(metric, "_labelnames", ()))
    return series


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [each for each in found if each["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def alerts() -> list[dict[str, Any]]:
    text = (CASES / "highly-available.yaml").read_text()
    (rule,) = (
        found for found in yaml.safe_load_all(text) if found and found["kind"] == "PrometheusRule"
    )
    (group,) = rule["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.mark.parametrize("expression", [*expressions(), *(each["expr"] for each in alerts())])
def test_an_expression_names_metrics_and_labels_that_exist(expression: str) -> None:
    series = known()
    used = METRIC.findall(expression)
    assert used
    assert len(used) == len(re.findall(r"\b(?:switchboard|gen_ai)_\w+\{", expression))
    allowed = set(SCRAPED)
    for name, matchers in used:
        assert name in series
        allowed |= series[name]
        matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
        assert matched <= series[name] | SCRAPED
    grouped = {label for labels in GROUPED.findall(expression) for label in labels.split(", ")}
    assert grouped <= allowed
    assert expression.count("(") == expression.count(")")


def test_every_metric_of_the_data_plane_that_warns_of_trouble_is_shown() -> None:
    shown = {name for each in expressions() for name, _ in METRIC.findall(each)}
    assert {
        "switchboard_rejections_total",
        "switchboard_policy_refused",
        "switchboard_breaker_ejected",
        "switchboard_telemetry_dropped_total",
        "switchboard_operator_store_errors_total",
        "switchboard_operator_watch_failures_total",
    } <= shown


def test_an_alert_is_of_its_release_alone_and_says_what_it_means() -> None:
    for alert in alerts():
        assert 'namespace="switchboard"' in alert["expr"]
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"].keys() == {"summary", "description"}
        told = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
        kept = {label for labels in GROUPED.findall(alert["expr"]) for label in labels.split(", ")}
        assert told <= kept
    assert len({alert["alert"] for alert in alerts()}) == len(alerts())


def test_panels_have_a_place_and_a_meaning_of_their_own() -> None:
    spots: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["description"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & spots, panel["title"]
        spots |= covered


def test_the_config_map_holds_the_file() -> None:
    values = ("--set", "redis.url=redis://redis", "--set", "metrics.dashboard.enabled=true")
    (found,) = (
        each
        for each in require_helm().documents(*values)
        if each["metadata"]["name"] == "switchboard-dashboard"
    )
    assert json.loads(found["data"]["switchboard.json"]) == json.loads(DASHBOARD.read_text())
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
