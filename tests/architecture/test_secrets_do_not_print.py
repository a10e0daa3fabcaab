"""A secret stays a secret in whatever Python can do with the objects that hold it."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from broker.credentials.model import (
    CredentialKey,
    CredentialSpec,
    Entry,
    KvSource,
    Lease,
    Snapshot,
    State,
)
from broker.handout.answer import prepare
from broker.protocol.redaction import Redactor
from broker.secret import MASK, SecretValue
from broker.telemetry.metrics import Metrics
from broker.vault.generation import Generation
from broker.vault.interface import KvValue, LeaseGrant, TokenGrant

CANARY = "canary-5b1d0c77-value"
SECRET = SecretValue(CANARY)
KEY = CredentialKey("search-api")


def generation() -> Generation:
    return Generation(1, SECRET, expires_at=900.0, renewable=True)


def snapshot() -> Snapshot:
    return Snapshot(
        key=KEY,
        version="v1",
        data={"api_key": SECRET},
        obtained_at=0.0,
        validated_at=0.0,
        lease=Lease(
            lease_id="database/creds/orders/x",
            generation=generation(),
            issued_at=0.0,
            refreshed_at=0.0,
            duration=600.0,
            first_duration=600.0,
            renewable=True,
        ),
    )


def entry() -> Entry:
    return Entry(key=KEY, state=State.FRESH, snapshot=snapshot(), expires_at=600.0)


def prepared() -> Any:
    spec = CredentialSpec(KEY, KvSource("secret", "search-api"))
    answers = prepare(entry(), spec, now=1.0, wall=1_800_000_000.0)
    assert answers is not None
    assert CANARY.encode() in answers.ok.body
    return answers


def redactor() -> Redactor:
    made = Redactor()
    made.learn(SECRET)
    return made


def metrics() -> str:
    made = Metrics([CANARY[:0] or "search-api"], ["mcp-server"])
    made.handout(CANARY, CANARY, CANARY)
    made.vault_request(CANARY, CANARY, 0.1)
    made.refresh("search-api", CANARY)
    return b"".join(made.render()).decode()


HOLDERS: dict[str, Callable[[], Any]] = {
    "SecretValue": lambda: SECRET,
    "a mapping": lambda: {"api_key": SECRET},
    "TokenGrant": lambda: TokenGrant(SECRET, "accessor", 60.0, True, "service", 0.0),
    "KvValue": lambda: KvValue({"api_key": SECRET}, 0.0),
    "LeaseGrant": lambda: LeaseGrant({"password": SECRET}, "lease", 60.0, True, 0.0),
    "Generation": generation,
    "Snapshot": snapshot,
    "Entry": entry,
    "Prepared": prepared,
    "Redactor": redactor,
    "a scrape of metrics": metrics,
}


def texts(held: Any) -> Iterator[str]:
    """Every text that a careless line of code may make of an object."""
    yield repr(held)
    yield str(held)
    yield f"{held}"
    yield "%s %r" % (held, held)  # noqa: UP031 - what logging does
    yield json.dumps({"held": held}, default=str)
    yield json.dumps({"held": held}, default=repr)
    record = logging.LogRecord("broker", logging.INFO, "", 1, "%s", (held,), None)
    yield logging.Formatter().format(record)
    if is_dataclass(held) and not isinstance(held, type):
        yield "".join(f"{field.name}={getattr(held, field.name)!r}" for field in fields(held))
    with pytest.raises(RuntimeError) as caught:
        fail(held)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    yield "".join(shown.format())


def fail(held: Any) -> None:
    raise RuntimeError(held)


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS.keys())
def test_no_text_of_a_holder_shows_the_secret(holder: Callable[[], Any]) -> None:
    """Printing, formatting, logging, JSON, tracebacks with local variables: never the value."""
    held = holder()
    shown = list(texts(held))
    assert len(shown) >= 8
    leaks = [number for number, text in enumerate(shown) if CANARY in text]
    assert leaks == []


@pytest.mark.parametrize("spec", ["", ">30", "s", ".5", "x"])
def test_a_format_shows_the_mask(spec: str) -> None:
    """No format specification gets at the text."""
    assert format(SECRET, spec) == MASK


@pytest.mark.parametrize(
    "escape",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        hash,
        lambda secret: {secret: 1},
        vars,
        json.dumps,
        lambda secret: "".join((secret, "x")),  # noqa: FLY002 - a join is what is tried
        lambda secret: b"".join((secret, b"x")),
    ],
)
def test_a_secret_does_not_turn_into_something_else(escape: Callable[[Any], object]) -> None:
    """Copies, hashes, pickles and joins are refused, without the text in the refusal."""
    with pytest.raises(TypeError) as refusal:
        escape(SECRET)
    assert CANARY not in str(refusal.value)


def test_secrets_compare_with_secrets_alone() -> None:
    """A comparison with a text is no way to guess."""
    assert SecretValue(CANARY) == SECRET
    assert SecretValue("another") != SECRET
    assert SECRET != CANARY
