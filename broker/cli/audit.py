"""``broker audit``: the audit log, verified.

Duty: lead files through the verification; say what it found; print the schema of a line.
Not its duty: what a fault is (``audit.verify``), which files belong together (``audit.files``).
Rules: standard output holds places, numbers and links; never a line itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command
from broker.errors import AuditUnreadable

if TYPE_CHECKING:
    from broker.audit.links import Head
    from broker.audit.verify import Verdict
    from broker.cli.parsing import Commands

STDIN: Final = "-"
LONGEST: Final = 1 << 20
"""Bytes of one line; ours are below 4 KiB."""
SHOWN: Final = 50
"""Findings printed; more are counted."""


def add(commands: Commands) -> None:
    """Declare the commands."""
    group = add_command(commands, "audit", about="verify the audit log; its schema")
    inner = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verify = add_command(
        inner, "verify", about="find edited, dropped, inserted and moved records by their chain"
    )
    verify.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="the log; its rotated files FILE.1, FILE.2 ... are found, or name them in any order; "
        "- for standard input",
    )
    verify.add_argument("--key-file", metavar="FILE", default="", help="audit.key_file")
    recorded = verify.add_mutually_exclusive_group()
    recorded.add_argument(
        "--head",
        metavar="HEX@SEQ",
        default="",
        help="a head that was recorded elsewhere: only it shows whether the end is missing",
    )
    recorded.add_argument("--head-file", metavar="FILE", default="", help="a file with one")
    verify.add_argument(
        "--partial",
        action="store_true",
        help="records before the first line may be missing, as in a log that somebody cut",
    )
    verify.add_argument(
        "--mixed",
        action="store_true",
        help="lines of others may stand between the records, as in what 'kubectl logs' shows",
    )
    verify.set_defaults(call=call_verify)
    schema = add_command(inner, "schema", about="print the JSON Schema (2020-12) of a line")
    schema.set_defaults(call=print_schema)


def print_schema(_: argparse.Namespace) -> int:
    """Print docs/audit.schema.json."""
    from broker.audit.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return ExitCode.OK


def call_verify(arguments: argparse.Namespace) -> int:
    """Verify files; ``ExitCode.AUDIT`` when something is wrong with them.

    Raises:
        AuditUnreadable: a file cannot be read, or is not what it should be.
        SettingsError: the key cannot be used.
    """
    from broker.audit.files import in_order, read_key
    from broker.audit.verify import Verifier

    key = read_key(arguments.key_file) if arguments.key_file else b""
    wanted = _wanted(arguments)
    verifier = Verifier(key, wanted, partial=arguments.partial, mixed=arguments.mixed)
    files = in_order(arguments.files)
    for path in files:
        for number, line in enumerate(lines(path), 1):
            verifier.line(path, number, line)
    verdict = verifier.end()
    _tell(verdict, files, wanted, keyed=bool(key))
    return ExitCode.AUDIT if verdict.faults else ExitCode.OK


def lines(path: str) -> Iterator[bytes]:
    """The lines of a file or of standard input.

    Raises:
        AuditUnreadable: it cannot be read.
    """
    with _opened(path) as file:
        try:
            while line := file.readline(LONGEST):
                yield line
        except OSError as error:
            raise AuditUnreadable(f"{path}: {error.strerror}.") from error


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if path == STDIN:
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below; only the opening is guarded
    except OSError as error:
        raise AuditUnreadable(f"{path}: {error.strerror}.") from error
    with file:
        yield file


def _wanted(arguments: argparse.Namespace) -> Head | None:
    from broker.audit.links import read_head

    text = arguments.head
    if arguments.head_file:
        text = next(iter(lines(arguments.head_file)), b"").decode("ascii", "replace")
    if not text:
        if arguments.head_file:
            raise AuditUnreadable(f"{arguments.head_file}: is empty.")
        return None
    head = read_head(text)
    if head is None:
        raise AuditUnreadable(
            "The recorded head is not of the form HEX@SEQ.",
            remedy="Take it from /v1/status, the broker's log, or a former 'broker audit verify'.",
        )
    return head


def _tell(verdict: Verdict, files: list[str], wanted: Head | None, *, keyed: bool) -> None:
    for finding in verdict.findings[:SHOWN]:
        print(f"{'note:  ' if finding.note else 'FAULT: '}{finding}")
    if len(verdict.findings) > SHOWN:
        print(f"and more: {verdict.faults} faults in all")
    if verdict.head is None:
        print(f"{', '.join(files)}: no records")
        return
    sequence, chain = verdict.head
    faults = f"{verdict.faults} fault{'' if verdict.faults == 1 else 's'}"
    print(f"{verdict.records} records in {len(files)} files: {faults}; the head is")
    print(f"{chain}@{sequence}")
    if wanted is not None and verdict.vouched:
        print(f"Up to record {verdict.vouched} nothing is missing: the recorded head is there.")
    if wanted is None or sequence > verdict.vouched > 0:
        print(
            "Whether records after the last one here were cut off cannot be seen from the files: "
            "compare with a newer head that was recorded elsewhere (--head)."
        )
    if not keyed:
        print(
            "Without a key (--key-file) anybody who can write the files can make the whole chain "
            "anew: then only a recorded head shows it."
        )
