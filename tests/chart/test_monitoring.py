"""Alerts and the dashboard speak of metrics that exist, with labels and words they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml

from broker.errors import BrokerError
from broker.settings.domain_tokens import TokenSettings
from broker.telemetry.metrics import Metrics
from tests.chart.rendering import CASES, CHART, ROOT, Release, render

DOCUMENT = (ROOT / "docs" / "metrics.md").read_text()
OTHERS = {"namespace", "pod", "le"}
"""Labels that Prometheus adds."""


SHARED = {"tokens": {"store": "shared", "path": "mcp/search/tokens"}}


def catalogue() -> dict[str, set[str]]:
    """Metrics of docs/metrics.md and their labels; another test compares that with a scrape."""
    rows = re.findall(r"^\| `(broker_\w+)` \| \w+ \| ([^|]*)\|", DOCUMENT, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


@pytest.fixture(scope="module")
def release() -> Release:
    """A release with everything for Prometheus and Grafana, tokens shared."""
    return render({**CASES["all extras"], "settings": SHARED})


def expressions(release: Release) -> list[str]:
    (group,) = release.one("PrometheusRule")["spec"]["groups"]
    found = [rule["expr"] for rule in group["rules"]]
    (text,) = (
        one["data"]["broker.json"]
        for one in release.all("ConfigMap")
        if len(one["data"]) and "broker.json" in one["data"]
    )
    dashboard = json.loads(text)
    found += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return found


def test_every_metric_used_exists_with_its_labels(release: Release) -> None:
    """Names, matched labels and grouping labels are those of the catalogue."""
    known = catalogue()
    assert len(known) > 15
    used = set()
    for expression in expressions(release):
        names = {
            re.sub(r"_bucket$", "", name)
            for name in re.findall(r"\bbroker_\w+", re.sub(r'"[^"]*"', '""', expression))
        }
        assert names
        assert names <= set(known), expression
        used |= names
        allowed = OTHERS.union(*(known[name] for name in names))
        matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression))
        grouped = {
            label.strip()
            for inner in re.findall(r"by \(([^)]*)\)", expression)
            for label in inner.split(",")
        }
        assert matched | grouped <= allowed, expression
    assert len(used) > 8


def test_words_in_alerts_are_words_of_metrics(release: Release) -> None:
    """States and results that alerts match stand in the catalogue or are codes of errors."""
    (group,) = release.one("PrometheusRule")["spec"]["groups"]
    for rule in group["rules"]:
        for words in re.findall(r'(?:state|result)[!=~]+"([^"]+)"', rule["expr"]):
            for word in words.split("|"):
                assert f"`{word}`" in DOCUMENT or word in DOCUMENT, word
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert label in rule["expr"] or label in catalogue_of(rule["expr"]) | OTHERS
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert "<<" not in rule["annotations"]["summary"]


def catalogue_of(expression: str) -> set[str]:
    names = re.findall(r"\bbroker_\w+", expression)
    return set().union(*(catalogue().get(name, set()) for name in names))


def test_alerts_are_the_releases_own(release: Release) -> None:
    """Two releases do not alert for each other, and the configured seconds arrive."""
    (group,) = release.one("PrometheusRule")["spec"]["groups"]
    for rule in group["rules"]:
        assert 'namespace="mcp",pod=~"search-.*"' in rule["expr"]
    change = {"metrics": {"prometheusRule": {"enabled": True, "expirySeconds": 321}}}
    assert "- time() < 321" in json.dumps(render(change).one("PrometheusRule"))


def test_unread_revocations_alert_where_tokens_are_shared(release: Release) -> None:
    """At five seconds, half of the default grace; where nothing is shared nobody reads."""

    def alerts(of: Release) -> dict[str, str]:
        (group,) = of.one("PrometheusRule")["spec"]["groups"]
        return {rule["alert"]: rule["expr"] for rule in group["rules"]}

    name = "BrokerTokenRevocationsUnread"
    shared = alerts(release)
    assert shared[name].endswith(" > 5")
    assert TokenSettings().revocation_grace == 10
    enabled = {"metrics": {"prometheusRule": {"enabled": True}}}
    others: list[dict[str, object]] = [{}, {"tokens": {"store": "pod"}}, {"limits": {}}]
    for settings in others:
        assert set(alerts(render({**enabled, "settings": settings}))) == set(shared) - {name}


def test_the_scrape_finds_the_port_and_the_pods(release: Release) -> None:
    """The PodMonitor's port is a named port of the broker, its selector the pods' labels."""
    monitor = release.one("PodMonitor")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    ports = {port["name"] for port in release.container("broker")["ports"]}
    assert endpoint["port"] in ports
    labels = release.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()


def test_the_exposition_and_the_document_agree() -> None:
    """The catalogue this file reads is the one the program renders."""
    text = b"".join(Metrics(["a"], ["b"]).render()).decode()
    assert set(re.findall(r"^# TYPE (broker_\w+)", text, re.MULTILINE)) == set(catalogue())


def test_alerts_have_no_unknown_marks() -> None:
    """Nothing in the file of alerts is left for the template that it does not replace."""
    for rule in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text()):
        assert set(rule) == {"alert", "expr", "for", "severity", "summary", "description"}
        assert "PODS" in rule["expr"]


def test_the_table_for_red_names_metrics_that_exist() -> None:
    """README: symptom, metric, cause, remedy; labels are the metric's, words are told or codes."""
    table = (ROOT / "README.md").read_text().partition("## When something is red")[2]
    rows = re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", table, re.MULTILINE)
    assert rows[0][1] == "Metric"
    known, seen = catalogue(), set()
    codes = set(every_code(BrokerError))
    for _, metrics, _, _ in rows[2:]:
        found = re.findall(r'`(broker_\w+)\{(\w+)(?:=~|!=|=)"([^"]*)"\}`', metrics)
        assert found or metrics.startswith("none: "), metrics
        for name, label, word in found:
            assert label in known[name]
            assert f"`{word}`" in DOCUMENT or word in codes or word == ".+", word
            seen.add(name)
    assert len(seen) > 6


def every_code(error: type[BrokerError]) -> Iterator[str]:
    yield error.code
    for below in error.__subclasses__():
        yield from every_code(below)
