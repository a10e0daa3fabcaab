"""The section ``limits``: what may stand there, and what becomes of it."""

from __future__ import annotations

import pytest

from broker.access.failed_authentications import Rate
from broker.access.limits import DIMENSIONS, LimitRule
from broker.app import translate
from broker.settings import rates
from broker.settings.units import Misfit
from tests.unit.test_settings_load import HEAD, faults, read

NAMES = (
    "credentials: {k: {source: {kind: kv, mount: secret, path: a}}}\n"
    "clients: {c: {credentials: [k]}, d: {credentials: []}}\n"
)


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [
        ("1/second", 1, 1),
        ("60/minute", 60, 60),
        ("60 per minute", 60, 60),
        ("100 per 5 minutes", 100, 300),
        ("100/5minute", 100, 300),
        ("1000/HOUR", 1000, 3600),
        ("1000/day", 1000, 86400),
        ("1/month", 1, 30 * 86400),
        (f"{rates.LARGEST}/31 days", rates.LARGEST, rates.LONGEST),
    ],
)
def test_rates(text: str, amount: int, seconds: int) -> None:
    """The notation is the library's."""
    assert rates.rate(text) == (amount, seconds)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a rate"),
        ("60", "not a rate"),
        ("60/m", "not a rate"),
        ("-1/minute", "not a rate"),
        ("1.5/minute", "not a rate"),
        ("60/fortnight", "not a rate"),
        ("minute", "not a rate"),
        ("9" * 5000 + "/minute", "not a rate"),
        (" " * 50_000 + "1/minute", "not a rate"),
        ("10/second; 100/minute", "several"),
        ("0/minute", "nothing"),
        (f"{rates.LARGEST + 1}/hour", "more than"),
        ("1/32 days", "31 days"),
        ("1/year", "31 days"),
    ],
)
def test_what_is_no_rate(text: str, words: str) -> None:
    """What cannot be counted is refused in words that do not repeat it."""
    with pytest.raises(Misfit) as caught:
        rates.rate(text)
    assert words in caught.value.message
    assert caught.value.remedy


def test_the_default_of_failures_says_the_same_twice() -> None:
    """The documented text and the value that spares loading the library."""
    assert rates.rate(rates.FAILURES) == rates.FAILURES_RATE


@pytest.mark.parametrize(
    ("extra", "key", "words", "remedy"),
    [
        ("{default: 60}", "limits.default", "not a text", "quotes"),
        ("{default: often}", "limits.default", "not a rate", "60/minute"),
        ("{default: 0/minute}", "limits.default", "nothing", "Take the credential"),
        ("{rate: 1/minute}", "limits.rate", "not a key", "default"),
        ("{rules: [{rate: 1/minute}]}", "limits.rules", "not a mapping", "key: value"),
        ("{rules: {a: {}}}", "limits.rules.a.rate", "missing", "60/minute"),
        ("{rules: {a: {rate: 1/x}}}", "limits.rules.a.rate", "not a rate", "60/minute"),
        ("{rules: {A b: {rate: 1/day}}}", "limits.rules.A b", "usable name", "lower-case"),
        (
            "{rules: {a: {rate: 1/day, clients: []}}}",
            "limits.rules.a.clients",
            "is empty",
            "remove the key",
        ),
        (
            "{rules: {a: {rate: 1/day, client: [c]}}}",
            "limits.rules.a.client",
            "not a key",
            "Did you mean clients?",
        ),
        (
            "{rules: {a: {rate: 1/day, per: [caller]}}}",
            "limits.rules.a.per.0",
            "must be client, tool or credential",
            "client",
        ),
        (
            "{rules: {a: {rate: 1/day, clients: [c, x]}}}",
            "limits.rules.a.clients.1",
            "names x, which is not configured",
            "Add clients.x",
        ),
        (
            "{rules: {a: {rate: 1/day, credentials: [x]}}}",
            "limits.rules.a.credentials.0",
            "names x, which is not configured",
            "Add credentials.x",
        ),
        (
            "{failed_authentications: many}",
            "limits.failed_authentications",
            "not a rate",
            "60/minute",
        ),
    ],
)
def test_faults(extra: str, key: str, words: str, remedy: str) -> None:
    """Each fault keeps the broker from starting, with its line and what to write instead."""
    (found,) = faults(HEAD + NAMES + f"limits: {extra}\n")
    assert (found.key, found.line) == (key, 6)
    assert words in found.message
    assert remedy in found.remedy


def test_a_limit_that_nobody_can_reach_is_told() -> None:
    """It starts, and says so."""
    text = HEAD + NAMES + "limits: {rules: {a: {rate: 1/day, clients: [d], credentials: [k]}}}\n"
    (advice,) = [one for one in read(text).advice if one.key.startswith("limits")]
    assert advice.key == "limits.rules.a"
    assert "limits nothing" in advice.message


def test_a_credential_with_a_fault_of_its_own_is_no_unknown_name() -> None:
    """One mistake is one fault."""
    text = HEAD + "credentials: {k: {source: {kind: kv, mount: secret, path: a, pol: 1s}}}\n"
    text += "limits: {rules: {a: {rate: 1/day, credentials: [k]}}}\n"
    assert [fault.key for fault in faults(text)] == ["credentials.k.source.pol"]


def test_rules_reach_the_broker_as_plain_values() -> None:
    """Names are as the configuration has them, for the audit."""
    limits = read(
        HEAD
        + NAMES
        + "limits:\n"
        + "  default: 600/minute\n"
        + "  rules:\n"
        + "    everything: {rate: 10/second}\n"
        + "    searches:\n"
        + "      rate: 60/minute\n"
        + "      clients: [c]\n"
        + "      tools: ['web_*', mail]\n"
        + "      credentials: [k]\n"
        + "      per: [client, credential]\n"
        + "  failed_authentications: 5/second\n"
    ).settings.limits
    assert translate.limit_rules(limits) == (
        LimitRule("limits.rules.everything", "10/second"),
        LimitRule(
            "limits.rules.searches",
            "60/minute",
            clients=frozenset({"c"}),
            tools=("web_*", "mail"),
            credentials=frozenset({"k"}),
            per=("client", "credential"),
        ),
    )
    assert translate.default_limit(limits) == LimitRule("limits.default", "600/minute")
    assert translate.failed_authentications(limits) == Rate(5, 1)


def test_without_the_section_only_failures_are_limited() -> None:
    """No rule, no default; thirty failures a minute; an empty text is no limit."""
    limits = read(HEAD + NAMES).settings.limits
    assert translate.limit_rules(limits) == ()
    assert translate.default_limit(limits) is None
    assert translate.failed_authentications(limits) == Rate(30, 60)
    none = read(HEAD + NAMES + "limits: {failed_authentications: ''}\n").settings.limits
    assert translate.failed_authentications(none) is None


def test_the_dimensions_are_the_same_everywhere() -> None:
    """What the file may say is what the broker counts by."""
    limits = read(HEAD + NAMES + "limits: {rules: {a: {rate: 1/day}}}\n").settings.limits
    assert limits.rules["a"].per == DIMENSIONS
