"""What the commands' parsers share.

Duty: how a command, its ``--config`` and its ``--socket`` are declared.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no public name

DEFAULT_CONFIG: Final = "/etc/broker/broker.yaml"
DEFAULT_SOCKET: Final = "/run/broker-admin/admin.sock"


def add_command(commands: Commands, name: str, *, about: str) -> argparse.ArgumentParser:
    """Declare one command; its options are never guessed from their beginnings."""
    return commands.add_parser(name, help=about, description=about, allow_abbrev=False)


def add_config(command: argparse.ArgumentParser) -> None:
    """Declare ``--config``."""
    command.add_argument(
        "--config",
        metavar="FILE",
        default=DEFAULT_CONFIG,
        help="the configuration file (default: %(default)s)",
    )


def add_socket(command: argparse.ArgumentParser) -> None:
    """Declare ``--socket``."""
    command.add_argument(
        "--socket",
        metavar="PATH",
        default=DEFAULT_SOCKET,
        help="the broker's admin socket, listeners.admin_socket (default: %(default)s)",
    )
