"""Redaction holds for any value, any surroundings, any encoder."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.redaction import SHORTEST, Redactor
from broker.protocol.windows import WINDOW, Windows
from broker.secret import SecretValue

VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=SHORTEST, max_size=40)
SIGNS = "<>{}[]|~^ "
AROUND = st.text(SIGNS, max_size=12)
ENCODERS: tuple[Callable[[str], str], ...] = (
    str,
    lambda text: quote(text, safe=""),
    quote_plus,
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: repr(text)[1:-1],
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    lambda text: json.dumps(json.dumps(text))[3:-3],
    lambda text: quote(quote(text)),
)


@settings(max_examples=150)
@given(
    value=VALUES,
    others=st.lists(VALUES, max_size=5),
    before=AROUND,
    after=AROUND,
    encoder=st.sampled_from(ENCODERS),
)
def test_a_live_value_does_not_survive(
    value: str, others: list[str], before: str, after: str, encoder: Callable[[str], str]
) -> None:
    """Whatever the value, no letter of its encoded form is left in the masked text."""
    redactor = Redactor()
    for each in (value, *others):
        redactor.learn(SecretValue(each))
    masked = redactor.mask(before + encoder(value) + after)
    assert "***" in masked
    assert set(masked) <= set(SIGNS + "*")


@settings(max_examples=100)
@given(
    strings=st.lists(st.text("ab", min_size=WINDOW, max_size=40), max_size=30),
    removed=st.integers(0, 30),
    text=st.text("ab", max_size=120),
)
def test_the_index_finds_what_a_plain_search_finds(
    strings: list[str], removed: int, text: str
) -> None:
    """Every place where a string begins, with the longest one's end, and no other place."""
    windows = Windows()
    for string in strings:
        windows.add(string)
    for string in strings[:removed]:
        windows.remove(string)
    left = strings[removed:]
    expected = [
        (start, start + max(map(len, here)))
        for start in range(len(text))
        if (here := [string for string in left if text.startswith(string, start)])
    ]
    assert expected == list(windows.find(text))
    assert bool(windows) == bool(left)
