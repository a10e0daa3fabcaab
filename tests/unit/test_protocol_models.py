"""Times on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol import names
from broker.protocol.models import LAST_MOMENT, format_time, parse_time


@pytest.mark.parametrize(
    ("unix", "text"),
    [
        (1_800_000_000.0, "2027-01-15T08:00:00.000Z"),
        (1_800_000_000.001, "2027-01-15T08:00:00.001Z"),
        (1_800_000_000.0019, "2027-01-15T08:00:00.001Z"),
        (1_800_000_000.9999, "2027-01-15T08:00:00.999Z"),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1e300, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_written_in_utc_and_rounded_down(unix: float, text: str) -> None:
    """RFC 3339 with milliseconds, never later than the truth; what cannot be written is cut."""
    assert format_time(unix) == text


@given(st.floats(0, LAST_MOMENT))
def test_what_is_written_reads_as_at_most_a_millisecond_earlier(unix: float) -> None:
    """Rounding is towards the caller's caution, and by less than a millisecond."""
    read = parse_time(format_time(unix))
    assert read <= unix < read + 0.0011


@given(st.integers(0, int(LAST_MOMENT * 1000)))
def test_a_written_time_survives(milliseconds: int) -> None:
    """Reading and writing again gives the same text."""
    text = format_time(milliseconds / 1000)
    assert format_time(parse_time(text)) == text


def test_other_offsets_are_read() -> None:
    """A reader takes what RFC 3339 allows."""
    assert parse_time("2027-01-15T09:00:00+01:00") == 1_800_000_000.0


@pytest.mark.parametrize("text", ["", "yesterday", "2027-01-15T08:00:00", "2027-13-01T00:00:00Z"])
def test_a_time_without_offset_or_form_is_refused(text: str) -> None:
    """Nobody guesses a zone."""
    with pytest.raises(ValueError):
        parse_time(text)


def test_a_name_is_one_segment_of_a_path() -> None:
    """Whatever the name, it cannot climb out of its place."""
    assert names.credential_path("search-api") == "/v1/credentials/search-api"
    assert names.reports_path("../x y") == "/v1/credentials/..%2Fx%20y/reports"
