"""``broker policy explain`` and ``broker policy test``: what the policies say to a request.

Duty: arguments or a file of cases to questions; verdicts in words.
Not its duty: deciding: that is the function that decides in a running broker.
"""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from typing import TYPE_CHECKING

from broker.cli.exit_codes import ExitCode
from broker.cli.parsing import add_command, add_config
from broker.protocol.models import format_time

if TYPE_CHECKING:
    from broker.access.explain import Explanation
    from broker.access.policies import Policies
    from broker.access.vocabulary import Question
    from broker.cli.parsing import Commands
    from broker.settings.policy_cases import Case

ACTIONS = ("handout", "call_tool", "mint_token", "report", "read_status", "rotate")


def add(commands: Commands) -> None:
    """Declare the commands."""
    explain = add_command(commands, "explain", about="say what the policies answer, and why")
    add_config(explain)
    explain.add_argument("--caller", required=True, metavar="CLIENT", help="who asks")
    explain.add_argument("--subject", metavar="SUBJECT", help="on whose behalf, by a scoped token")
    explain.add_argument("--credential", metavar="NAME", help="what is asked for")
    explain.add_argument("--tool", metavar="TOOL", default="", help="the MCP tool it is for")
    explain.add_argument(
        "--action",
        choices=ACTIONS,
        help="(default: handout of a credential; call_tool when only a tool is named)",
    )
    explain.add_argument("--address", metavar="IP", default="", help="where the request comes from")
    explain.add_argument(
        "--at", metavar="TIME", help="when, such as 2026-03-02T08:30:00+01:00 (default: now)"
    )
    explain.add_argument(
        "--argument",
        metavar="NAME=JSON",
        action="append",
        default=[],
        help="an argument of the tool, such as database='\"prod\"'; may be repeated",
    )
    explain.add_argument(
        "--service-account", metavar="NAMESPACE/NAME", default="", help="of the broker's pod"
    )
    explain.set_defaults(call=explain_question)
    test = add_command(commands, "test", about="ask the policies the cases of a file")
    test.add_argument("tests", metavar="TESTS", help="a YAML file of cases; see docs/policy.md")
    add_config(test)
    test.set_defaults(call=run_tests)


def explain_question(arguments: argparse.Namespace) -> int:
    """Answer one question in words.

    Raises:
        SettingsErrors: with every fault of configuration and policies, or of the arguments.
    """
    from broker.access.explain import explain

    question = _question(_case(arguments))
    policies = _policies(arguments.config, arguments.service_account)
    explanation = explain(policies, question)
    print("\n".join(_told(explanation)))
    return ExitCode.OK if explanation.verdict.allowed else ExitCode.DENIED


def run_tests(arguments: argparse.Namespace) -> int:
    """Compare each case with the verdict.

    Raises:
        SettingsErrors: with every fault of configuration, policies or cases.
    """
    from broker.access.explain import explain
    from broker.settings.policy_cases import load_cases

    cases = load_cases(arguments.tests)
    compiled: dict[str, Policies] = {}
    failed = 0
    for case in cases:
        policies = compiled.get(case.service_account)
        if policies is None:
            policies = _policies(arguments.config, case.service_account)
            compiled[case.service_account] = policies
        explanation = explain(policies, _question(case))
        wrong = _wrong(case, explanation)
        failed += bool(wrong)
        title = case.name or f"{case.caller} {case.credential or case.tool}"
        print(f"{'FAILED' if wrong else 'ok':<7} {arguments.tests}:{case.line}: {title}")
        for line in wrong:
            print(f"        {line}")
    print(f"{len(cases) - failed} of {len(cases)} cases hold")
    return ExitCode.DENIED if failed else ExitCode.OK


def _policies(config: str, service_account: str) -> Policies:
    from broker.access.policies import Policies
    from broker.app.policies import sources
    from broker.settings.load import load

    loaded = load(config, os.environ)
    return Policies(sources(loaded.settings, file=config, service_account=service_account))


def _case(arguments: argparse.Namespace) -> Case:
    """The arguments as a case, so that both are read alike."""
    import json

    from broker.clock import SystemClock
    from broker.errors import SettingsError
    from broker.settings.policy_cases import case

    said = {
        "caller": arguments.caller,
        "subject": arguments.subject,
        "credential": arguments.credential,
        "tool": arguments.tool,
        "action": arguments.action,
        "address": arguments.address,
        "at": arguments.at or format_time(SystemClock().wall()),
        "expect": "allow",
    }
    try:
        pairs = [one.partition("=") for one in arguments.argument]
        said["arguments"] = {name: json.loads(value) for name, _, value in pairs}
    except ValueError:
        raise SettingsError(
            "is not NAME=JSON", key="--argument", remedy="Write database='\"prod\"' or limit=5."
        ) from None
    return case(said)


def _question(case: Case) -> Question:
    from broker.access.vocabulary import Question

    about_tool = case.credential is None
    return Question(
        caller=case.caller,
        action=case.action or ("call_tool" if about_tool else "handout"),
        resource=case.tool if case.credential is None else case.credential,
        about_tool=about_tool,
        subject=case.subject,
        tool=case.tool,
        address=case.address,
        wall=datetime.fromisoformat(case.at).timestamp(),
        arguments=case.arguments,
    )


def _wrong(case: Case, explanation: Explanation) -> list[str]:
    verdict = explanation.verdict
    if explanation.hints:  # refused for its names: a slip in one would make any deny hold
        return list(explanation.hints)
    if verdict.allowed != (case.expect == "allow"):
        return [f"expected {case.expect}", *_told(explanation)]
    if case.policies is not None and sorted(case.policies) != sorted(verdict.policies):
        return [
            f"expected policies {', '.join(sorted(case.policies)) or 'none'}",
            f"decided by {', '.join(sorted(verdict.policies)) or 'none'}",
        ]
    return []


def _told(explanation: Explanation) -> list[str]:
    verdict = explanation.verdict
    lines = ["allow" if verdict.allowed else f"deny: {verdict.reason}"]
    lines += [f"  by {policy.id} ({policy.place})" for policy in explanation.decided]
    for near in explanation.close:
        lines.append(f"  close: {near.policy.id} ({near.policy.place}), but for its")
        lines += [f"    {part}" for part in near.lacks]
    lines += [f"  {hint}" for hint in explanation.hints]
    return lines
