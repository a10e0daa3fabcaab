"""``broker token``: scoped tokens of all callers, over the admin socket.

Duty: ask a running broker; say what it answered, for people or as JSON.
Not its duty: minting, keeping, revoking.
Rules: ``mint`` prints the token once on standard output, and nothing else there; no other
command ever sees one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from broker.cli import say
from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command, add_socket
from broker.errors import RequestMalformed
from broker.protocol.names import REVOKE_PATH, TOKENS_PATH

if TYPE_CHECKING:
    from broker.cli.parsing import Commands

_BY = {
    "id": "this token and all minted from it",
    "subject": "all that speak for this subject",
    "caller": "all of this client",
    "credential": "all that name this credential",
    "parent": "all minted from this token, but not itself",
}


def add(commands: Commands) -> None:
    """Declare the commands."""
    group = add_command(commands, "token", about="scoped tokens: mint, list, show, revoke")
    below = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    mint = add_command(below, "mint", about="make a token for a caller, and print it once")
    mint.add_argument("--caller", required=True, help="the client that may use it")
    mint.add_argument("--subject", required=True, help="on whose behalf: a user or an agent")
    mint.add_argument(
        "--tool",
        action="append",
        required=True,
        dest="tools",
        metavar="TOOL",
        help="name or glob of an MCP tool; may be repeated",
    )
    mint.add_argument(
        "--credential",
        action="append",
        default=[],
        dest="credentials",
        metavar="NAME",
        help="a credential; may be repeated",
    )
    mint.add_argument("--audience", help="URI of the MCP server it is meant for")
    mint.add_argument(
        "--expires-in",
        metavar="DURATION",
        help="such as 10m; tokens.life when missing, capped by tokens.max_life",
    )
    _common(mint, call_mint)

    listed = add_command(below, "list", about="live tokens that this broker knows")
    _common(listed, call_list)

    show = add_command(below, "show", about="what a live token is for")
    show.add_argument("id", metavar="ID", help="the token's id")
    _common(show, call_show)

    revoke = add_command(below, "revoke", about="end tokens now, on every replica")
    which = revoke.add_mutually_exclusive_group(required=True)
    for by, about in _BY.items():
        which.add_argument(f"--{by}", metavar=by.upper(), help=about)
    which.add_argument("--all", action="store_true", default=None, help="every token there is")
    _common(revoke, call_revoke)


def _common(command: argparse.ArgumentParser, call: Callable[[argparse.Namespace], int]) -> None:
    add_socket(command)
    command.add_argument("--json", action="store_true", help="print the broker's own document")
    command.set_defaults(call=call)


def call_mint(arguments: argparse.Namespace) -> int:
    """Print a new token.

    Raises:
        BrokerError: it was not made, or nobody answers.
    """
    body: dict[str, Any] = {
        "caller": arguments.caller,
        "subject": arguments.subject,
        "tools": arguments.tools,
        "credentials": arguments.credentials,
    }
    if arguments.audience:
        body["audience"] = arguments.audience
    if arguments.expires_in:
        body["expires_in"] = _seconds(arguments.expires_in)
    told = _ask(arguments, "POST", TOKENS_PATH, body)
    print(json.dumps(told, indent=2) if arguments.json else told["token"])
    return ExitCode.OK


def call_list(arguments: argparse.Namespace) -> int:
    """Print one line a token.

    Raises:
        BrokerError: nobody answers.
    """
    tokens = list(_pages(arguments))
    if arguments.json:
        print(json.dumps({"tokens": tokens}, indent=2))
        return ExitCode.OK
    head = ("ID", "CALLER", "SUBJECT", "EXPIRES", "TOOLS", "CREDENTIALS")
    rows = [
        (
            one["id"],
            one["caller"],
            one["subject"],
            one["expires_at"],
            ",".join(one["tools"]),
            ",".join(one["credentials"]),
        )
        for one in tokens
    ]
    say.table(head, rows)
    return ExitCode.OK


def _pages(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    target = TOKENS_PATH
    while True:
        told = _ask(arguments, "GET", target)
        yield from told["tokens"]
        if told["next"] is None:
            return
        target = f"{TOKENS_PATH}?after={quote(told['next'], safe='')}"


def call_show(arguments: argparse.Namespace) -> int:
    """Print what a token is for.

    Raises:
        BrokerError: there is none, or nobody answers.
    """
    told = _ask(arguments, "GET", f"{TOKENS_PATH}/{quote(arguments.id, safe='')}")
    if arguments.json:
        print(json.dumps(told, indent=2))
        return ExitCode.OK
    for name in ("id", "caller", "subject", "audience", "issued_at", "expires_at", "parent"):
        print(f"{name}: {told[name] or '-'}")
    print(f"tools: {', '.join(told['tools'])}")
    print(f"credentials: {', '.join(told['credentials']) or '-'}")
    return ExitCode.OK


def call_revoke(arguments: argparse.Namespace) -> int:
    """Revoke; ends when it is confirmed.

    Raises:
        BrokerError: it is not confirmed, or nobody answers.
    """
    by = next(one for one in (*_BY, "all") if getattr(arguments, one) is not None)
    told = _ask(arguments, "POST", REVOKE_PATH, {by: getattr(arguments, by)})
    if arguments.json:
        print(json.dumps(told, indent=2))
    else:
        print(f"revoked; {told['revoked']} of them were alive here")
    return ExitCode.OK


def _seconds(text: str) -> float:
    from broker.settings.units import Misfit, seconds

    try:
        return seconds(text)
    except Misfit as misfit:
        raise RequestMalformed(f"--expires-in {misfit.message}.", remedy=misfit.remedy) from None


def _ask(
    arguments: argparse.Namespace, method: str, target: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    from broker.cli.admin import ask

    return ask(arguments.socket, method, target, body)
