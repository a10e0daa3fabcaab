"""``broker rotate`` and ``broker rotation``: the upstream keys, over the admin socket.

Duty: ask a running broker; say what it answered, for people or as JSON.
Not its duty: rotating.
Rules: standard output holds names, times and codes; no command ever sees a key.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from broker.cli import say
from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command, add_socket
from broker.protocol.names import ROTATION_PATH, credential_path

if TYPE_CHECKING:
    from broker.cli.parsing import Commands


def add(commands: Commands) -> None:
    """Declare the commands."""
    rotate = add_command(commands, "rotate", about="have an upstream key replaced now, and wait")
    rotate.add_argument("name", metavar="NAME", help="the credential")
    rotate.add_argument(
        "--compromised",
        action="store_true",
        help="somebody else has the key: withdraw it from readers and retire it first, "
        "without any overlap",
    )
    _common(rotate, call_rotate)

    group = add_command(commands, "rotation", about="how rotations stand; hold them on bad nights")
    below = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _common(add_command(below, "status", about="how every rotation stands"), call_status)
    for name, about, call in (
        ("history", "rotations of a credential that ended, newest first", call_history),
        ("freeze", "take no step at all until 'unfreeze', on any replica", call_hold),
        ("pin", "keep the key that readers have, unless it is compromised", call_hold),
        ("unfreeze", "go on; ends a pin as well", call_hold),
    ):
        command = add_command(below, name, about=about)
        command.add_argument("name", metavar="NAME", help="the credential")
        _common(command, call)
        command.set_defaults(verb=name)


def _common(command: argparse.ArgumentParser, call: Callable[[argparse.Namespace], int]) -> None:
    add_socket(command)
    command.add_argument("--json", action="store_true", help="print the broker's own document")
    command.set_defaults(call=call)


def call_rotate(arguments: argparse.Namespace) -> int:
    """Have a key replaced; ends when the new one is promoted or given up.

    Raises:
        BrokerError: it was not replaced, or nobody answers.
    """
    body = {"compromised": arguments.compromised}
    told = _ask(arguments, "POST", credential_path(arguments.name) + "/rotate", body)
    if not _json(arguments, told):
        print(f"{told['name']}: {told['result']} (rotation {told['rotation']})")
    return ExitCode.OK


def call_status(arguments: argparse.Namespace) -> int:
    """Print one line a rotation.

    Raises:
        BrokerError: nobody answers.
    """
    told = _ask(arguments, "GET", ROTATION_PATH)
    if not _json(arguments, told):
        head = ("NAME", "PHASE", "KEY SINCE", "DUE", "NOTE")
        rows = [
            (one["name"], one["phase"], one["key_since"], one["due_at"], _note(one))
            for one in told["rotations"]
        ]
        say.table(head, rows)
    return ExitCode.OK


def call_history(arguments: argparse.Namespace) -> int:
    """Print one line a rotation that ended.

    Raises:
        BrokerError: no such rotation, or nobody answers.
    """
    told = _ask(arguments, "GET", f"{ROTATION_PATH}/{quote(arguments.name, safe='')}/history")
    if not _json(arguments, told):
        head = ("ENDED", "RESULT", "REASON", "ACTOR", "KEY", "DETAIL")
        keys = ("ended_at", "result", "reason", "actor", "key_id", "detail")
        say.table(head, [tuple(one[key] for key in keys) for one in told["past"]])
    return ExitCode.OK


def call_hold(arguments: argparse.Namespace) -> int:
    """Freeze, pin or unfreeze.

    Raises:
        BrokerError: no such rotation, it could not be written down, or nobody answers.
    """
    target = f"{ROTATION_PATH}/{quote(arguments.name, safe='')}/{arguments.verb}"
    told = _ask(arguments, "POST", target)
    if not _json(arguments, told):
        done = {"freeze": "frozen", "pin": "pinned", "unfreeze": "goes on"}
        print(f"{told['name']}: {done[arguments.verb]}")
    return ExitCode.OK


def _ask(
    arguments: argparse.Namespace, method: str, target: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    from broker.cli.admin import ask

    return ask(arguments.socket, method, target, body)


def _json(arguments: argparse.Namespace, told: Mapping[str, Any]) -> bool:
    """Print the document if that was asked for."""
    if arguments.json:
        print(json.dumps(told, indent=2))
    return bool(arguments.json)


def _note(one: Mapping[str, Any]) -> str:
    words = [word for word in ("overdue", "frozen", "pinned", "suspected", "leading") if one[word]]
    if one["retire_at"]:
        words.append(f"old key until {one['retire_at']}")
    if one["problem"]:
        words.append(one["problem"])
    return ", ".join(words)
