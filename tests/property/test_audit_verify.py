"""Whatever single change is made to an audit log, the verification finds it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.links import link_of
from broker.audit.verify import Verdict, Verifier
from tests.support.auditing import KEY, chained, full, plain

LINES = list(chained([*full(), *plain(5)]))
PLACES = st.integers(0, len(LINES) - 1)
HEAD = link_of(LINES[-1])


def judge(lines: list[bytes], *, recorded: bool = True) -> Verdict:
    verifier = Verifier(KEY, HEAD if recorded else None)
    for number, line in enumerate(lines, 1):
        verifier.line("audit.log", number, line)
    return verifier.end()


@settings(max_examples=300)
@given(PLACES, st.data())
def test_any_edit_of_a_byte_is_found(place: int, data: st.DataObject) -> None:
    """One byte of one line is another: the fault is at that line or the one after it."""
    line = LINES[place]
    at = data.draw(st.integers(0, len(line) - 2))  # the line end is not the line
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (line[at], 10)))
    lines = [*LINES]
    lines[place] = line[:at] + bytes([byte]) + line[at + 1 :]
    found = [one.line for one in judge(lines, recorded=False).findings if not one.note]
    assert found
    assert found[0] in (place + 1, place + 2)


@given(PLACES, st.data())
def test_any_byte_more_or_less_is_found(place: int, data: st.DataObject) -> None:
    """A byte is added to or taken from one line."""
    line = LINES[place]
    at = data.draw(st.integers(0, len(line) - 2))
    lines = [*LINES]
    lines[place] = line[:at] + line[at + 1 :]
    assert judge(lines).faults
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (line[at], 10)))
    lines[place] = line[:at] + bytes([byte]) + line[at:]
    assert judge(lines).faults


@given(PLACES, PLACES)
def test_any_run_of_dropped_lines_is_found(one: int, other: int) -> None:
    """Lines are missing: in the middle by the chain alone, at the end by the recorded head."""
    first, last = sorted((one, other))
    lines = LINES[:first] + LINES[last + 1 :]
    assert judge(lines).faults
    if last < len(LINES) - 1:
        assert judge(lines, recorded=False).faults


@given(PLACES, PLACES)
def test_any_copy_of_a_line_is_found(source: int, place: int) -> None:
    """A line stands a second time, anywhere."""
    lines = [*LINES[: place + 1], LINES[source], *LINES[place + 1 :]]
    assert judge(lines, recorded=False).faults


@given(PLACES, PLACES)
def test_any_two_lines_that_changed_places_are_found(one: int, other: int) -> None:
    """Two lines are swapped."""
    if one == other:
        return
    lines = [*LINES]
    lines[one], lines[other] = lines[other], lines[one]
    assert judge(lines, recorded=False).faults


@given(st.permutations(range(len(LINES))))
def test_any_other_order_is_found(order: list[int]) -> None:
    """Only the order in which they were written verifies."""
    faults = judge([LINES[number] for number in order], recorded=False).faults
    assert bool(faults) == (order != sorted(order))


@given(PLACES, st.binary(max_size=200))
def test_any_inserted_line_is_found_or_says_nothing(place: int, text: bytes) -> None:
    """A foreign line is a fault; or it is a piece, which no record is read from."""
    foreign = text.replace(b"\n", b" ") + b"\n"
    verdict = judge([*LINES[:place], foreign, *LINES[place:]])
    assert verdict.faults or [one.note for one in verdict.findings] == [True]
