"""``broker policy``: who may have what, and what others must allow the broker.

Duty: declare the group; print the least Vault policy for a configuration.
Not its duty: the broker's own policies (``policy_check``, ``policy_explain``); working a Vault
policy out (``app.vault_policy``), writing it to Vault.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from broker.cli import policy_check, policy_explain, say
from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command, add_config

if TYPE_CHECKING:
    from broker.cli.parsing import Commands


def add(commands: Commands) -> None:
    """Declare the commands."""
    group = add_command(
        commands, "policy", about="who may have what, and what others must allow the broker"
    )
    inner = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    policy_check.add(inner)
    policy_explain.add(inner)
    vault = add_command(
        inner,
        "vault",
        about="print the least Vault policy (HCL) that the configuration can work with",
    )
    add_config(vault)
    vault.add_argument(
        "--process",
        choices=("broker", "rotator"),
        default="broker",
        help="whose: 'broker run', which rotates when rotation.mode is sidecar, or 'broker "
        "rotator' (default: %(default)s)",
    )
    vault.set_defaults(call=print_vault)


def print_vault(arguments: argparse.Namespace) -> int:
    """Print the policy.

    Raises:
        SettingsError: the configuration has faults, or a path is no plain one.
    """
    from broker.app.vault_policy import hcl, rules
    from broker.settings.load import load

    loaded = load(arguments.config, os.environ)
    say.advice(loaded.advice)
    sys.stdout.write(hcl(rules(loaded.settings, arguments.process)))
    return ExitCode.OK
