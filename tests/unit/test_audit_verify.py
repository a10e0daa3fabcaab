"""The verification names what was changed, and where."""

from __future__ import annotations

import pytest

from broker.audit.chain import BEGINNING, chain_of
from broker.audit.lifecycle import head_line
from broker.audit.links import Head, link_of, read_head
from broker.audit.record import gap_line
from broker.audit.verify import KEPT, Verdict, Verifier
from tests.support.auditing import KEY, TIME, chained, full, plain

LINES = list(chained(plain(6)))


def judge(
    *files: list[bytes],
    key: bytes = KEY,
    wanted: Head | None = None,
    partial: bool = False,
    mixed: bool = False,
) -> Verdict:
    verifier = Verifier(key, wanted, partial=partial, mixed=mixed)
    for number, lines in enumerate(files):
        for place, line in enumerate(lines, 1):
            verifier.line(f"audit.log.{number}", place, line)
    return verifier.end()


def told(verdict: Verdict) -> list[tuple[int, str]]:
    """Line and words of each fault."""
    return [(one.line, one.message) for one in verdict.findings if not one.note]


def head_of(lines: list[bytes]) -> Head:
    head = link_of(lines[-1])
    assert head is not None
    return head


def rotated(lines: list[bytes], at: int) -> tuple[list[bytes], list[bytes]]:
    """Two files of one chain, as rotation leaves them."""
    sequence, chain = head_of(lines[:at])
    top = head_line(TIME, file="audit.log.1", sequence=sequence, chain=chain)
    return lines[:at], [top, *lines[at:]]


def test_the_link_is_what_the_document_says() -> None:
    """BLAKE2b of 16 bytes, keyed, over the link before and the line before its own link."""
    import hashlib

    content = LINES[0][: LINES[0].index(b',"chain":')]
    by_hand = hashlib.blake2b(bytes(16) + content, digest_size=16, key=KEY).digest()
    assert chain_of(KEY, BEGINNING, content) == by_hand
    assert link_of(LINES[0]) == Head(1, by_hand.hex())


def test_an_untouched_log_has_no_fault() -> None:
    """Every record follows from the one before; the head is told."""
    verdict = judge(list(chained(full())))
    assert (verdict.findings, verdict.faults, verdict.chains) == ([], 0, 1)
    assert verdict.records == len(full())
    assert verdict.head == head_of(list(chained(full())))


def test_an_edited_record_is_one_fault() -> None:
    """The line whose content changed is named, and those after it are believed."""
    lines = [*LINES]
    lines[2] = lines[2].replace(b'"client":"c"', b'"client":"d"')
    assert told(judge(lines)) == [(3, "record 3 was edited, or is not of this chain")]


def test_an_edited_link_is_one_fault() -> None:
    """A changed link is found at its own line, not at the next."""
    lines = [*LINES]
    lines[2] = lines[2][:-4] + (b"0" if lines[2][-4:-3] != b"0" else b"1") + lines[2][-3:]
    assert told(judge(lines)) == [(3, "record 3 was edited, or is not of this chain")]


def test_dropped_records_are_counted() -> None:
    """The numbers that are missing are told at the line after them."""
    assert told(judge(LINES[:2] + LINES[4:])) == [
        (3, "record 5 follows 2: records 3 to 4 are missing")
    ]
    assert told(judge(LINES[:2] + LINES[3:])) == [(3, "record 4 follows 2: record 3 is missing")]


def test_a_dropped_beginning_is_a_fault_unless_it_is_meant() -> None:
    """A log that begins in its middle is told; with ``partial`` only as a note."""
    assert told(judge(LINES[2:]))[0][0] == 1
    verdict = judge(LINES[2:], partial=True)
    assert verdict.faults == 0
    assert "cannot be checked" in verdict.findings[0].message


def test_a_repeated_record_is_found() -> None:
    """A copy of a line says nothing new."""
    lines = [*LINES[:3], LINES[1], *LINES[3:]]
    assert told(judge(lines)) == [(4, "record 2 follows 3: it was moved, repeated or inserted")]


def test_a_repeated_beginning_is_found() -> None:
    """The first record would verify anywhere: a second one like it is a copy."""
    for lines in ([LINES[0], *LINES], [*LINES, *LINES[:2]]):
        assert "repeats the beginning" in told(judge(lines))[0][1]


def test_swapped_records_are_found() -> None:
    """Both places are told."""
    lines = [LINES[0], LINES[2], LINES[1], *LINES[3:]]
    assert [place for place, _ in told(judge(lines))] == [2, 4]


@pytest.mark.parametrize(
    "text", [b'{"time":"x","kind":"handout"}\n', b"\n", b"not even JSON\n", b"[1]\n", b"[" * 9999]
)
def test_an_inserted_line_is_found(text: bytes) -> None:
    """What carries no link was not written by the broker."""
    lines = [*LINES[:3], text, *LINES[3:]]
    assert [place for place, _ in told(judge(lines))] == [4]


def test_lines_of_others_are_passed_over_when_told_to() -> None:
    """Two outputs of a container in one: the log's lines are no faults, changed records are."""
    foreign = b'{"time":"2027-01-15T08:00:00Z","level":"INFO","message":"started"}\n'
    lines = [foreign, *LINES[:3], b"plain text\n", *LINES[3:], foreign]
    assert judge(lines).faults == 3
    verdict = judge(lines, mixed=True)
    assert (verdict.findings, verdict.records) == ([], 6)
    lines[2] = lines[2].replace(b'"c"', b'"d"')
    assert [place for place, _ in told(judge(lines, mixed=True))] == [3]
    lines[2] = lines[2].replace(b'{"time"', b'"time"')
    assert [place for place, _ in told(judge(lines, mixed=True))] == [3]
    lines[2] = foreign
    assert [place for place, _ in told(judge(lines, mixed=True))] == [4]


def test_a_forged_record_is_found() -> None:
    """A record that somebody without the key chained by the book is not believed."""
    forged = next(
        chained(plain(1), b"x" * 32, previous=bytes.fromhex(head_of(LINES).chain), sequence=7)
    )
    assert told(judge([*LINES, forged])) == [(7, "record 7 was edited, or is not of this chain")]


def test_another_key_is_told_as_such() -> None:
    """When not a single record fits, the key is in doubt; findings are bounded."""
    verdict = judge(list(chained(plain(KEPT + 50))), key=b"y" * 32)
    assert "or the key is not that of the chain" in verdict.findings[0].message
    assert (verdict.faults, len(verdict.findings)) == (KEPT + 50, KEPT)


def test_a_chain_without_a_key_verifies_and_can_be_made_anew() -> None:
    """Without a key only a recorded head shows that everything was rewritten."""
    lines = list(chained(plain(6), b""))
    assert judge(lines, key=b"").faults == 0
    rewritten = list(chained(plain(7)[1:], b""))
    assert judge(rewritten, key=b"").faults == 0
    verdict = judge(rewritten, key=b"", wanted=head_of(lines))
    assert "made anew" in told(verdict)[0][1]


def test_a_lost_tail_needs_a_recorded_head() -> None:
    """A shorter log is a good log; the head of the longer one says how much is missing."""
    wanted = head_of(LINES)
    assert judge(LINES[:4]).faults == 0
    assert told(judge(LINES[:4], wanted=wanted)) == [
        (4, "the recorded head is record 6, and the last one here is 4: the end is missing")
    ]
    whole = judge(LINES, wanted=wanted)
    assert (whole.faults, whole.vouched) == (0, 6)
    older = judge(LINES, wanted=head_of(LINES[:3]))
    assert (older.faults, older.vouched) == (0, 3)


def test_a_head_of_records_that_are_gone_is_told() -> None:
    """A recorded head that lies before the first record here cannot vouch for anything."""
    _, second = rotated(LINES, 3)
    verdict = judge(second, wanted=head_of(LINES[:2]))
    assert "is not in these files" in told(verdict)[0][1]


def test_rotated_files_are_one_chain() -> None:
    """The top of a file ties it to the one before; the oldest may begin anywhere."""
    first, second = rotated(LINES, 3)
    verdict = judge(first, second)
    assert (verdict.findings, verdict.records) == ([], 6)
    alone = judge(second)
    assert (alone.faults, [str(one) for one in alone.findings]) == (
        0,
        ["audit.log.0:1: begins after record 3: older files are not here"],
    )
    edited = [second[0], second[1].replace(b'"c"', b'"d"'), *second[2:]]
    assert [place for place, _ in told(judge(edited))] == [2]


def test_a_missing_file_is_found() -> None:
    """The file in between is gone: the records that are missing are counted."""
    first, rest = rotated(LINES, 2)
    sequence, chain = head_of(LINES[:4])
    third = [
        head_line(TIME, file="audit.log.1", sequence=sequence, chain=chain),
        *LINES[4:],
    ]
    assert rest
    assert told(judge(first, third)) == [
        (1, "goes on after record 4, and the file before ends with 2: records 3 to 4 are missing")
    ]


def test_files_in_a_wrong_order_are_found() -> None:
    """A newer file before an older one is no log."""
    first, second = rotated(LINES, 3)
    assert judge(second, first).faults > 0


def test_a_changed_top_is_found() -> None:
    """The top of a file repeats the head of the one before: another does not fit."""
    first, second = rotated(LINES, 3)
    forged = head_line(TIME, file="audit.log.1", sequence=3, chain="0" * 32)
    assert told(judge(first, [forged, *second[1:]]))[0][0] == 1


def test_a_new_chain_is_told() -> None:
    """Each start on standard output begins anew: no fault, but the end before is open."""
    verdict = judge([*LINES[:3], *chained(full())])
    assert (verdict.faults, verdict.chains) == (0, 2)
    assert "a new chain begins" in verdict.findings[0].message


def test_pieces_are_no_records_and_no_fault() -> None:
    """What could not be written whole, before the record that says so, or at the very end."""
    lines = list(chained([*plain(3), gap_line(TIME, 0), *plain(2), full()[0]]))
    for size in (1, 5, 60, len(lines[3]) - 20):
        piece = lines[3][:size]
        verdict = judge([*lines[:3], piece + b"\n", *lines[3:6], piece + b"\n", lines[6]])
        assert [(one.line, one.note) for one in verdict.findings] == [(4, True), (8, True)]
    at_the_end = judge([*lines, lines[3][:60]])
    assert [(one.line, one.note) for one in at_the_end.findings] == [(8, True)]


def test_what_only_looks_like_a_piece_is_a_fault() -> None:
    """Between two records that follow each other nothing could not be written."""
    piece = LINES[3][:60] + b"\n"
    assert [place for place, _ in told(judge([*LINES[:3], piece, *LINES[3:]]))] == [4]
    assert [place for place, _ in told(judge([*LINES[:3], piece, piece, *LINES[3:]]))] == [4, 5]
    assert [place for place, _ in told(judge([*LINES[:3], piece, *LINES[4:]]))] == [5, 4]
    assert told(judge([*LINES[:5], LINES[5][:-2]]))


def test_a_line_end_that_begins_a_file_is_no_fault() -> None:
    """The rest of what closes a piece goes to the file that was opened meanwhile."""
    verdict = judge(LINES[:3], [b"\n", *LINES[3:]])
    assert [one.note for one in verdict.findings] == [True]


def test_a_record_without_a_line_end_is_told() -> None:
    """A record that is whole but for its line end counts."""
    verdict = judge([*LINES[:5], LINES[5].removesuffix(b"\n")])
    assert (verdict.faults, verdict.records, len(verdict.findings)) == (0, 6, 1)


def test_an_empty_log() -> None:
    """Nothing is no fault, unless there should be something."""
    assert judge([]) == Verdict()
    assert judge([], wanted=Head(3, "0" * 32)).faults == 1


@pytest.mark.parametrize(
    "text", ["", "x@1", "0" * 32, "0" * 32 + "@0", "0" * 31 + "@1", "0" * 32 + "@-1"]
)
def test_what_is_no_head(text: str) -> None:
    """Only HEX@SEQ is one."""
    assert read_head(text) is None
    assert read_head(f"{'a' * 32}@17\n") == Head(17, "a" * 32)
