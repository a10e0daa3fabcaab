"""docs/operations.md says what plans, chart and API do."""

from __future__ import annotations

import re

import yaml

from broker.credentials import plan
from broker.settings.domain import CredentialSettings, LimitSettings, SourceSettings
from broker.vault import plan as token_plan
from broker.vault.backoff import CAP, backoff
from tests.chart.rendering import CHART, ROOT

DOCUMENT = (ROOT / "docs" / "operations.md").read_text()


def test_shares_and_bounds_are_the_plans() -> None:
    """Points of renewal, caps and what is left of a life."""
    assert f"{plan.EARLY:.0%}"[:-1] + "–" + f"{plan.LATE:.0%}"[:-1] + " %" in DOCUMENT
    assert round((plan.EARLY + plan.LATE) / 2, 9) == 0.65
    assert token_plan.LAST == 1 / 3
    assert "at least a third of its life left" in DOCUMENT
    assert CAP == 60.0
    assert round(3600 * (1 - plan.LATE) / 60) == 18
    assert "an hour bridges at least 18 minutes" in DOCUMENT
    assert f"± {plan.SPREAD:.0%}".replace("%", " %") in DOCUMENT


def test_failed_attempts_come_every_thirty_seconds_on_average() -> None:
    """The mean over all jitters, in a long outage of a value that is gone."""
    waits = [backoff(20, number / 1000) for number in range(1000)]
    mean = sum(waits) / len(waits)
    assert 29.5 < mean < 30.5
    assert round(200 * 3 / mean) == 20


def test_the_example_of_the_formula_is_right() -> None:
    """200 pods, two polls a minute, one lease and one token of an hour."""
    each = 2 / 60 + 1 / (0.65 * 3600) + 1 / (0.6 * 3600)
    assert f"make {200 * each:.1f} requests a second" in DOCUMENT


def test_defaults_are_the_programs() -> None:
    """Numbers in parentheses are defaults."""
    credential = CredentialSettings("a", SourceSettings("kv", "a", "b"))
    assert credential.hold == 30.0
    assert credential.source.max_staleness == 3600.0
    limits = LimitSettings()
    assert (
        f"{limits.requests_per_second:.0f} requests a second, {limits.concurrency} at" in DOCUMENT
    )
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert f"`startup.minutes` ({values['startup']['minutes']})" in DOCUMENT
    memory = values["broker"]["resources"]
    assert memory["requests"]["memory"] == "96Mi"
    assert memory["limits"] == {"memory": "256Mi"}


def test_every_alert_of_the_chart_has_its_line() -> None:
    """The table has the chart's alerts, all and no others."""
    alerts = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    told = re.findall(r"^\| `(Broker\w+)` \|", DOCUMENT, re.MULTILINE)
    assert told == [one["alert"] for one in alerts]
