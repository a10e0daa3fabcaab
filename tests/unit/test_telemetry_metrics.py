"""Metrics: what a scrape says after what happened, read by Prometheus' own parser."""

from __future__ import annotations

import re
from collections.abc import Iterable
from inspect import getmembers, isfunction
from math import inf
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.credentials.model import State
from broker.telemetry import catalogue
from broker.telemetry.metrics import Metrics
from broker.vault.interface import VaultPort
from tests.simulators.clock import ManualClock

START = 1_800_000_000.0
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def scrape(metrics: Metrics) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Sample name → labels → value."""
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    text = b"".join(metrics.render()).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = samples.setdefault(sample.name, {})
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in series, f"{sample.name}{labels} twice"
            series[labels] = sample.value
    return samples


def labels(**names: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(names.items()))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=0.0, epoch=START)


@pytest.fixture
def metrics(clock: ManualClock) -> Metrics:
    return Metrics(["search-api", "orders-db"], ["mcp-server"], clock=clock)


def exercise(metrics: Metrics) -> None:
    """Call every recorder, so that every family has a sample."""
    metrics.credential(
        "search-api",
        state="fresh",
        expires_wall=START + 60,
        obtained_wall=START,
        last_success_wall=START + 5,
    )
    metrics.refresh("search-api", "changed")
    metrics.handout("search-api", "mcp-server", "ok")
    metrics.handout_seconds(0.0002)
    metrics.report("search-api", "newer")
    metrics.vault_request("kv_read", "ok", 0.003)
    metrics.vault_token(expires_wall=START + 3600, generation=2)
    metrics.login("ok")
    metrics.audit_record("written")
    metrics.audit_sequence = lambda: 7
    metrics.logs_dropped(3)
    metrics.event_gap()
    metrics.limits.limited("mcp-server", "search-api")
    metrics.limits.watch(lambda: (3, 1))
    metrics.limits.failure_limited()
    metrics.tokens.scoped_token("minted")
    metrics.tokens.alive = lambda: {"mcp-server": 1}
    metrics.tokens.revocations_age = lambda: 0.5
    metrics.rotation.configure(("search-api",))
    metrics.rotation.stands(
        "search-api", phase="overlap", since_wall=START, due_wall=START + 600, overdue=False
    )
    metrics.rotation.step("search-api", "rotated", 1.5)
    metrics.rotation.leading(True)


def test_each_family_is_exposed_with_its_type_and_meaning(metrics: Metrics) -> None:
    """A scrape shows every family of the catalogue, once, with type, meaning and samples."""
    exercise(metrics)
    text = b"".join(metrics.render()).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for expected in catalogue.FAMILIES:
        shown = families.pop(expected.name.removesuffix("_total"))
        assert (expected.kind, expected.meaning) == (shown.type, shown.documentation)
        assert shown.samples
    assert families == {}


def test_names_follow_the_conventions() -> None:
    """Names begin with broker_; counters end in _total; units are base units."""
    for family in catalogue.FAMILIES:
        assert re.fullmatch(r"broker_[a-z_]+", family.name)
        assert (family.kind == "counter") == family.name.endswith("_total")
        assert family.kind != "histogram" or family.name.endswith("_seconds")
        assert not re.search(r"milli|micro|minutes|_ms|percent", family.name)


def test_a_credential_shows_state_expiry_age_and_last_success(
    metrics: Metrics, clock: ManualClock
) -> None:
    """Dates are Unix time; age is counted at the scrape."""
    exercise(metrics)
    clock.advance(12.5)
    shown = scrape(metrics)
    name = labels(credential="search-api")
    assert {labels(credential="search-api", state="fresh"): 1.0} == shown["broker_credential_state"]
    assert {name: START + 60} == shown["broker_credential_expiry_timestamp_seconds"]
    assert {name: 12.5} == shown["broker_credential_age_seconds"]
    assert {name: START + 5} == shown["broker_credential_last_success_timestamp_seconds"]
    assert shown["broker_credentials"][labels(state="fresh")] == 1.0
    assert shown["broker_process_start_timestamp_seconds"] == {(): START}


def test_a_changed_state_ends_the_old_series(metrics: Metrics) -> None:
    """A credential is in one state: the counts move and the former state's series is gone."""
    exercise(metrics)
    metrics.credential(
        "search-api", state="expired", expires_wall=None, obtained_wall=None, last_success_wall=None
    )
    shown = scrape(metrics)
    assert list(shown["broker_credential_state"]) == [
        labels(credential="search-api", state="expired")
    ]
    assert shown["broker_credentials"][labels(state="fresh")] == 0.0
    assert shown["broker_credentials"][labels(state="expired")] == 1.0
    assert "broker_credential_expiry_timestamp_seconds" not in shown
    assert "broker_credential_age_seconds" not in shown


def test_what_never_expires_expires_at_infinity(metrics: Metrics) -> None:
    """A value without expiry is +Inf, so that an alert on the time left stays silent."""
    metrics.credential(
        "search-api",
        state="fresh",
        expires_wall=None,
        obtained_wall=START,
        last_success_wall=START,
    )
    metrics.vault_token(expires_wall=None, generation=1)
    shown = scrape(metrics)
    assert shown["broker_credential_expiry_timestamp_seconds"] == {
        labels(credential="search-api"): inf
    }
    assert shown["broker_vault_token_expiry_timestamp_seconds"] == {(): inf}
    assert shown["broker_vault_token_ttl_seconds"] == {(): inf}


def test_the_token_shows_expiry_life_left_and_generation(
    metrics: Metrics, clock: ManualClock
) -> None:
    """Life left is counted at the scrape and does not go below zero."""
    exercise(metrics)
    clock.advance(600)
    shown = scrape(metrics)
    assert shown["broker_vault_token_expiry_timestamp_seconds"] == {(): START + 3600}
    assert shown["broker_vault_token_ttl_seconds"] == {(): 3000.0}
    assert shown["broker_vault_token_generation"] == {(): 2.0}
    clock.advance(7200)
    assert scrape(metrics)["broker_vault_token_ttl_seconds"] == {(): 0.0}


def test_counters_count_by_label(metrics: Metrics) -> None:
    """Equal events add up; unequal labels are series of their own."""
    for result in ("ok", "ok", "not_modified", "credential_unavailable"):
        metrics.handout("orders-db", "mcp-server", result)
    for result in ("renewed", "renewed", "vault_sealed"):
        metrics.refresh("orders-db", result)
    for status in ("ok", "vault_timeout", "ok"):
        metrics.vault_request("renew_lease", status, 0.01)
    shown = scrape(metrics)
    common = {"credential": "orders-db", "client": "mcp-server"}
    assert shown["broker_handouts_total"] == {
        labels(**common, result="ok"): 2.0,
        labels(**common, result="not_modified"): 1.0,
        labels(**common, result="credential_unavailable"): 1.0,
    }
    assert shown["broker_credential_refreshes_total"] == {
        labels(credential="orders-db", result="renewed"): 2.0,
        labels(credential="orders-db", result="vault_sealed"): 1.0,
    }
    assert shown["broker_vault_requests_total"] == {
        labels(operation="renew_lease", status="ok"): 2.0,
        labels(operation="renew_lease", status="vault_timeout"): 1.0,
    }
    assert shown["broker_vault_request_seconds_count"] == {labels(operation="renew_lease"): 3.0}


def test_series_that_alerts_count_on_exist_from_the_start(metrics: Metrics) -> None:
    """An increase from nothing is invisible to Prometheus: audit and login begin at zero."""
    shown = scrape(metrics)
    assert shown["broker_audit_records_total"] == {
        labels(result=result): 0.0 for result in ("written", "buffered", "refused", "lost")
    }
    assert shown["broker_vault_logins_total"] == {labels(result="ok"): 0.0}


@pytest.mark.parametrize("foreign", ["x' OR 1=1", "", "search-api\n", "\x00", 'a"b', "9" * 9999])
def test_no_foreign_word_becomes_a_label(metrics: Metrics, foreign: str) -> None:
    """Whatever callers or Vault say counts under 'other'."""
    metrics.credential(
        foreign, state="fresh", expires_wall=None, obtained_wall=0.0, last_success_wall=None
    )
    metrics.credential(
        "search-api", state=foreign, expires_wall=None, obtained_wall=0.0, last_success_wall=None
    )
    for _ in range(2):
        metrics.handout(foreign, foreign, foreign)
        metrics.handout(foreign, "mcp-server", "credential_unknown")
        metrics.refresh(foreign, foreign)
        metrics.report(foreign, foreign)
        metrics.vault_request(foreign, foreign, 1.0)
        metrics.login(foreign)
        metrics.audit_record(foreign)
    shown = scrape(metrics)
    assert shown["broker_handouts_total"] == {
        labels(credential="other", client="other", result="other"): 2.0,
        labels(credential="other", client="mcp-server", result="credential_unknown"): 2.0,
    }
    assert shown["broker_credential_refreshes_total"] == {
        labels(credential="other", result="other"): 2.0
    }
    assert shown["broker_reports_total"] == {labels(credential="other", result="other"): 2.0}
    assert shown["broker_vault_requests_total"] == {labels(operation="other", status="other"): 2.0}
    assert shown["broker_vault_logins_total"][labels(result="other")] == 2.0
    assert shown["broker_audit_records_total"][labels(result="other")] == 2.0
    assert "broker_credential_state" not in shown
    if foreign:
        assert foreign not in str(shown.keys()) + str(list(shown.values()))


def test_limits_count_who_met_them_and_what_they_hold(metrics: Metrics) -> None:
    """By configured names only; a reload ends the series of names that are gone."""
    metrics.limits.watch(lambda: (7, 2))
    for _ in range(2):
        metrics.limits.limited("mcp-server", "search-api")
        metrics.limits.limited("stranger", "search-api")
    metrics.limits.failure_limited()
    shown = scrape(metrics)
    assert shown["broker_limited_total"] == {
        labels(client="mcp-server", credential="search-api"): 2.0,
        labels(client="other", credential="search-api"): 2.0,
    }
    assert shown["broker_limit_counters"] == {(): 7.0}
    assert shown["broker_limit_counters_dropped_total"] == {(): 2.0}
    assert shown["broker_failed_authentications_limited_total"] == {(): 1.0}
    metrics.reconfigure(["search-api"], ["agent"])
    assert scrape(metrics)["broker_limited_total"] == {
        labels(client="other", credential="search-api"): 2.0
    }


def test_an_odd_configured_name_is_escaped() -> None:
    """Backslash, quote and line feed in a configured name survive the text format."""
    odd = 'a\\b"c\nd'
    metrics = Metrics([odd], [odd])
    metrics.handout(odd, odd, "ok")
    assert scrape(metrics)["broker_handouts_total"] == {
        labels(credential=odd, client=odd, result="ok"): 1.0
    }


@pytest.mark.parametrize(
    ("seconds", "first_bucket"),
    [(0.0, "5e-05"), (0.00005, "5e-05"), (0.000051, "0.0001"), (0.9, "1.0"), (2.0, "+Inf")],
)
def test_an_observation_is_in_every_bucket_from_its_own_on(
    metrics: Metrics, seconds: float, first_bucket: str
) -> None:
    """Buckets are cumulative with inclusive upper bounds; sum and count agree."""
    metrics.handout_seconds(seconds)
    shown = scrape(metrics)
    buckets = {dict(key)["le"]: n for key, n in shown["broker_handout_seconds_bucket"].items()}
    bounds = list(buckets)
    assert bounds == [*map(repr, catalogue.HANDOUT_BUCKETS), "+Inf"]
    expected = [float(i >= bounds.index(first_bucket)) for i in range(len(bounds))]
    assert expected == list(buckets.values())
    assert shown["broker_handout_seconds_count"] == {(): 1.0}
    assert shown["broker_handout_seconds_sum"] == {(): seconds}


def test_a_reload_keeps_known_names_and_ends_others(metrics: Metrics) -> None:
    """reconfigure() goes on counting for names that stay; removed names have no series left."""
    exercise(metrics)
    metrics.handout("orders-db", "mcp-server", "ok")
    metrics.handout("search-api", "other-client", "ok")
    metrics.reconfigure(["search-api", "crm"], ["agent"])
    metrics.handout("search-api", "agent", "ok")
    metrics.handout("crm", "mcp-server", "ok")
    metrics.handout("orders-db", "agent", "ok")
    shown = scrape(metrics)
    assert shown["broker_handouts_total"] == {
        labels(credential="search-api", client="agent", result="ok"): 1.0,
        labels(credential="search-api", client="other", result="ok"): 1.0,
        labels(credential="crm", client="other", result="ok"): 1.0,
        labels(credential="other", client="agent", result="ok"): 1.0,
    }
    assert sum(shown["broker_credentials"].values()) == 1.0
    assert shown["broker_credential_refreshes_total"] == {
        labels(credential="search-api", result="changed"): 1.0
    }


def test_a_removed_name_takes_its_state_along(metrics: Metrics) -> None:
    """The counts by state hold for the names that are configured now."""
    exercise(metrics)
    metrics.reconfigure(["orders-db"], ["mcp-server"])
    shown = scrape(metrics)
    assert sum(shown["broker_credentials"].values()) == 0.0
    assert "broker_credential_state" not in shown


def test_a_name_removed_during_a_scrape_does_not_break_it(metrics: Metrics) -> None:
    """Between two slices the loop may reload: the scrape goes on and stays parseable."""
    many = [f"credential-{i}" for i in range(500)]
    metrics.reconfigure(many, ["mcp-server"])
    for name in many:
        metrics.handout(name, "mcp-server", "ok")
    slices = metrics.render()
    text = next(slices)
    metrics.reconfigure(many[:10], ["mcp-server"])
    metrics.handout(many[0], "mcp-server", "not_modified")
    text += b"".join(slices)
    assert list(text_string_to_metric_families(text.decode()))


def test_slices_stay_small_with_ten_thousand_credentials() -> None:
    """A slice never covers more than a hundred items, lines or none, nor much text."""
    names = [f"credential-{i}" for i in range(10_000)]
    metrics = Metrics(names, ["mcp-server"])
    for name in names:
        metrics.handout(name, "mcp-server", "ok")
    slices = list(metrics.render())
    # Seven families by credential, of which one has lines.
    assert len(slices) >= 7 * len(names) / 100
    assert max(len(part) for part in slices) <= 17_000
    assert max(part.count(b"\n") for part in slices) <= 200
    assert sum(part.count(b'result="ok"} 1\n') for part in slices) == len(names)


def table() -> Iterable[tuple[str, str, set[str], str, str]]:
    """Rows of the document: name, type, labels, meaning, alert."""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("| `broker_"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            names = set(re.findall(r"`(\w+)`", cells[2]))
            yield cells[0].strip("`"), cells[1], names, cells[3], cells[4]


def test_the_document_tells_what_is_exposed(metrics: Metrics) -> None:
    """docs/metrics.md has a row for each exposed family, with its type, labels and meaning."""
    exercise(metrics)
    text = b"".join(metrics.render()).decode()
    exposed = []
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        used = {label for sample in family.samples for label in sample.labels} - {"le"}
        exposed.append((name, family.type, used, family.documentation))
    assert exposed == [row[:4] for row in table()]


def test_each_alert_hint_names_metrics_that_exist() -> None:
    """Every metric in a PromQL hint is one of the table, with labels that it has."""
    rows = {row[0]: row for row in table()}
    for _, _, _, _, hint in rows.values():
        assert hint
        for name, matchers in re.findall(r"(broker_\w+)(?:\{([^}]*)\})?", hint):
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            assert family in rows
            assert set(re.findall(r"(\w+)\s*[!=]", matchers)) <= rows[family][2]


def test_the_document_lists_the_closed_sets() -> None:
    """The words of state and operation are those of the code."""
    text = DOCUMENT.read_text()
    for label, expected in (("state", catalogue.STATES), ("operation", catalogue.OPERATIONS)):
        (line,) = re.findall(rf"^- `{label}`: (.*)\.$", text, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", line)) == set(expected)


def test_the_closed_sets_are_those_of_the_upper_layers() -> None:
    """States and operations equal State and VaultPort, which this layer cannot import."""
    assert tuple(State) == catalogue.STATES
    methods = {name for name, _ in getmembers(VaultPort, isfunction) if name[0] != "_"}
    assert methods - {"aclose"} == catalogue.OPERATIONS
