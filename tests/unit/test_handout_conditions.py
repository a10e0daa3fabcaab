"""If-None-Match and Prefer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.handout.conditions import matches, wait_seconds


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('"v1"', True),
        ('W/"v1"', True),
        ('"v0", "v1"', True),
        ('"v0",W/"v1"', True),
        ("*", True),
        (" * ", True),
        ('"v2"', False),
        ('"v10"', False),
        ("v1", False),
        ('"v1', False),
        ("", False),
        ('"*"', False),
    ],
)
def test_a_version_is_found_among_the_tags(header: str, expected: bool) -> None:
    """Weak comparison, lists and the star of RFC 9110; anything else matches nothing."""
    assert matches(header, '"v1"') is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("wait=30", 30.0),
        ("respond-async, wait=30", 30.0),
        ("WAIT = 30 ; x=1", 30.0),
        ('wait="30"', 30.0),
        ("wait=0", 0.0),
        ("wait=10, wait=20", 10.0),
        ("respond-async", None),
        ("wait", None),
        ("wait=", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=1e3", None),
        ("await=30", None),
        ("x; wait=30", None),
        ("wait=9999999999", None),
        ("wait=٣", None),
        ("", None),
    ],
)
def test_a_wait_is_whole_seconds(header: str, expected: float | None) -> None:
    """RFC 7240: the first one counts; what cannot be read is ignored."""
    assert wait_seconds(header) == expected


@given(st.text(max_size=200))
def test_any_header_can_be_read(header: str) -> None:
    """Nothing a caller sends raises, or waits for a negative time."""
    matches(header, '"v1"')
    assert (wait_seconds(header) or 0.0) >= 0.0
