"""``broker policy check|print|explain|test``: what is printed, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.access import cedar
from broker.cli.exit_codes import ExitCode
from broker.cli.main import main

Output = pytest.CaptureFixture[str]
CONFIG = """\
vault: {address: "https://vault.example", auth: {role: x}}
clients: {search: {credentials: [web]}, shop: {}}
credentials:
  web: {source: {kind: kv, mount: secret, path: web}}
  orders: {source: {kind: kv, mount: secret, path: orders}}
roles:
  staff:
    callers: [shop]
    tools: ["orders.*"]
    paths: [secret/orders]
  nothing: {callers: [shop]}
policies: {files: [team.cedar], arguments: {limit: whole_number}}
"""
TEAM = """\
@id("closed")
forbid (principal, action, resource == Tool::"orders.drop");
forbid (principal, action == Action::"call_tool", resource)
when { context.arguments has limit && context.arguments.limit > 5 };
"""


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broker.yaml").write_text(CONFIG)
    Path("team.cedar").write_text(TEAM)


def run(*arguments: str) -> int:
    return main(["policy", *arguments, "--config", "broker.yaml"])


def test_check(capsys: Output) -> None:
    """Counts on standard output, remarks on roles beside it."""
    assert run("check") == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out == "broker.yaml: no fault; permits: 2, forbids: 2\n"
    assert captured.err.splitlines()[0] == (
        "warning: broker.yaml:11: roles.nothing: empty: it grants nothing: it names neither "
        "credentials, paths nor tools"
    )


def test_check_of_other_files(capsys: Output) -> None:
    """In the place of the configuration's own; every fault, and nothing else."""
    Path("new.cedar").write_text('forbid (principal in Caller::"shpo", action, resource);\n')
    assert run("check", "new.cedar") == ExitCode.SETTINGS
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-2:] == [
        'new.cedar:1: names Caller::"shpo", which is not configured',
        "    Did you mean shop?",
    ]
    assert run("check", "missing.cedar") == ExitCode.SETTINGS
    assert "missing.cedar: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["policy", "check"], ["policy", "print"], ["check"]])
def test_faults_end_every_command(command: list[str], capsys: Output) -> None:
    """Also those that only look at policies by the way; before anything else is asked."""
    Path("team.cedar").write_text("\npermit (principal, action, resource) when { context.x };")
    assert main([*command, "--config", "broker.yaml"]) == ExitCode.SETTINGS
    assert "team.cedar:2: attribute `x` not found" in capsys.readouterr().err
    assert main(["config", "check", "broker.yaml"]) == ExitCode.SETTINGS


def test_what_is_printed_is_cedar(capsys: Output) -> None:
    """Lists, roles and files; what is printed can be read back, and fits the printed schema."""
    assert run("print") == ExitCode.OK
    printed = capsys.readouterr().out
    parsed = cedar.parse(printed)
    ids = [est.get("annotations", {}).get("id") for _, est in parsed]
    assert ids == ["clients.search", "roles.staff", "closed", None]
    assert "// roles.nothing grants nothing by itself" in printed
    assert "// team.cedar\n" in printed
    assert run("print", "--schema") == ExitCode.OK
    assert cedar.Schema(capsys.readouterr().out).faults(printed) == []


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--credential", "orders", "--tool", "orders.list"], ExitCode.OK, "allow\n  by roles.s"),
        (
            ["--credential", "orders", "--tool", "x"],
            ExitCode.DENIED,
            (
                "deny: no_policy\n  close: roles.staff (broker.yaml: roles.staff), but for its\n"
                '    when { ((context.tool) != "") && ((context.tool) like "orders.*") }\n'
            ),
        ),
        (
            ["--tool", "orders.drop"],
            ExitCode.DENIED,
            "deny: policy_forbids closed\n  by closed (team.cedar:1)\n",
        ),
        (
            ["--tool", "orders.get", "--argument", "limit=6"],
            ExitCode.DENIED,
            "deny: policy_forbids team.cedar:3\n",
        ),
        (["--tool", "orders.get", "--argument", "limit=5"], ExitCode.OK, "allow\n"),
        (
            ["--credential", "web"],
            ExitCode.DENIED,
            (
                "  close: clients.search (broker.yaml: clients.search.credentials), but for its\n"
                "    principal\n"
            ),
        ),
        (
            ["--credential", "orders", "--tool", "orders.a", "--action", "mint_token"],
            ExitCode.DENIED,
            "  close: roles.staff (broker.yaml: roles.staff), but for its\n    action\n",
        ),
        (["--credential", "wep"], ExitCode.DENIED, "there is no credential wep; did you mean web?"),
    ],
)
def test_explain(arguments: list[str], code: ExitCode, told: str, capsys: Output) -> None:
    """Which policies decided, and for a refusal which came close and what they lack."""
    assert run("explain", "--caller", "shop", *arguments) == code
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "asks for nothing"),
        (["--credential", "web", "--at", "yesterday"], "is no date and time"),
        (["--credential", "web", "--at", "2026-03-02T08:30:00"], "is no date and time"),
        (["--tool", "t", "--argument", "limit"], "is not NAME=JSON"),
        (["--credential", "orders", "--address", "here"], "is no address"),
        (["--tool", "t", "--action", "handout"], "asks handout of a tool"),
        (["--credential", "web", "--action", "call_tool"], "asks call_tool of a credential"),
    ],
)
def test_questions_that_cannot_be_asked(arguments: list[str], told: str, capsys: Output) -> None:
    """They are faults of the arguments, not refusals."""
    assert run("explain", "--caller", "shop", *arguments) == ExitCode.SETTINGS
    assert told in capsys.readouterr().err


CASES = """\
cases:
  - {name: staff gets orders, caller: shop, credential: orders, tool: orders.list, expect: allow}
  - {caller: shop, tool: orders.drop, expect: deny, policies: [closed]}
  - caller: search
    credential: web
    subject: ann
    expect: allow
    policies: [clients.search]
"""


def test_cases_that_hold(capsys: Output) -> None:
    """One line each."""
    Path("tests.yaml").write_text(CASES)
    assert run("test", "tests.yaml") == ExitCode.OK
    assert capsys.readouterr().out == (
        "ok      tests.yaml:2: staff gets orders\n"
        "ok      tests.yaml:3: shop orders.drop\n"
        "ok      tests.yaml:4: search web\n"
        "3 of 3 cases hold\n"
    )


def test_cases_that_do_not_hold(capsys: Output) -> None:
    """What was decided instead, and by what."""
    text = CASES.replace("orders.list, expect: allow", "mail.send, expect: allow")
    Path("tests.yaml").write_text(text.replace("[closed]", "[other]"))
    assert run("test", "tests.yaml") == ExitCode.DENIED
    out = capsys.readouterr().out
    assert "FAILED  tests.yaml:2: staff gets orders\n        expected allow\n" in out
    assert "        deny: no_policy\n          close: roles.staff" in out
    assert "        expected policies other\n        decided by closed\n" in out
    assert out.endswith("1 of 3 cases hold\n")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("caller: shpo, credential: web", "there is no caller shpo; did you mean shop?"),
        ("caller: shpo, tool: orders.list", "there is no caller shpo; did you mean shop?"),
        ("caller: shop, credential: wep", "there is no credential wep; did you mean web?"),
    ],
)
def test_a_case_with_a_slip_in_a_name_does_not_hold(names: str, told: str, capsys: Output) -> None:
    """Else each deny would hold: nobody may have what does not exist."""
    Path("tests.yaml").write_text(f"cases:\n  - {{{names}, expect: deny}}\n")
    assert run("test", "tests.yaml") == ExitCode.DENIED
    out = capsys.readouterr().out
    assert f"        {told}\n" in out
    assert out.endswith("0 of 1 cases hold\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cases: []", "tests.yaml:1: cases: "),
        ("cases:\n  - {caller: a, credential: b}", "tests.yaml:2: cases.0.expect: "),
        ("cases:\n  - {caller: a, expect: deny}", "asks for nothing"),
        ("cases:\n  - {caller: a, tool: b, expect: deny, toll: c}", "cases.0.toll: "),
        ("cases:\n  - {caller: a, tool: b, expect: deny, at: now}", "is no date and time"),
        ("cases:\n  - {caller: a, tool: b, expect: deny, address: c}", "is no address"),
        ("cases:\n  - {caller: a, tool: b, expect: deny, action: rotate}", "asks rotate of a tool"),
        ("- a", "is not a mapping"),
        (None, "tests.yaml: cannot be read"),
    ],
)
def test_files_of_cases_that_are_none(text: str | None, told: str, capsys: Output) -> None:
    """Faults with file and line, as of a configuration."""
    if text is not None:
        Path("tests.yaml").write_text(text)
    assert run("test", "tests.yaml") == ExitCode.SETTINGS
    assert told in capsys.readouterr().err
