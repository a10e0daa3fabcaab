"""``broker token`` against a real admin plane over its socket."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.access.principal import Caller
from broker.access.tokens.minting import PAGE
from broker.access.tokens.model import Wish
from broker.api.door import Door
from broker.api.listeners import Listener
from broker.api.sockets import UnixAddress
from broker.cli.exit_codes import ExitCode
from broker.cli.main import main
from broker.errors import RevocationFailed, SubjectTokenRefused
from broker.protocol.models import parse_time
from broker.protocol.token_format import PATTERN
from tests.support.broker import Assembly, serving

Output = pytest.CaptureFixture[str]
MINT = ("mint", "--caller", "search-mcp", "--subject", "alice", "--tool", "search")


class Operator:
    """A person with a shell in the broker's container."""

    def __init__(self, path: Path, broker: Assembly, capsys: Output) -> None:
        self._path, self.broker, self._capsys = path, broker, capsys

    async def run(self, *argv: str) -> tuple[int, str, str]:
        """Run a command while the broker serves: code, standard output, standard error."""
        whole = ["token", *argv, "--socket", str(self._path)]
        code = await asyncio.to_thread(main, whole)
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err


@pytest.fixture
async def operator(tmp_path: Path, capsys: Output) -> AsyncIterator[Operator]:
    """An operator of a broker."""
    broker = Assembly(tmp_path)
    async with serving(broker) as served:
        path = tmp_path / "admin.sock"
        address = UnixAddress(path, mode=0o600)
        listener = Listener(address, Door("admin", broker.problems), broker.admin, broker.clock)
        await served.start(listener)
        yield Operator(path, broker, capsys)


async def test_mint_prints_the_token_and_nothing_else(operator: Operator) -> None:
    """One line on standard output, good at once, and nowhere to be seen again."""
    options = ("--tool", "fetch_*", "--credential", "search-api", "--expires-in", "10m")
    audience = ("--audience", "https://mcp.example/search")
    code, out, err = await operator.run(*MINT, *options, *audience)
    assert (code, err) == (ExitCode.OK, "")
    assert re.fullmatch(PATTERN + r"\n", out)
    grant = operator.broker.tokens.verify(out.strip().encode(), Caller("search-mcp", "token"))
    assert (grant.tools, grant.credentials) == (("search", "fetch_*"), ("search-api",))
    assert (grant.subject, grant.audience) == ("alice", "https://mcp.example/search")
    assert grant.expires_at - grant.issued_at == pytest.approx(600)
    for command in (("list",), ("show", grant.id)):
        _, shown, _ = await operator.run(*command)
        shown += (await operator.run(*command, "--json"))[1]
        assert grant.id in shown
        assert "mbt_" not in shown


async def test_mint_as_json(operator: Operator) -> None:
    """The broker's own document, with the token in it."""
    code, out, _ = await operator.run(*MINT, "--json")
    told = json.loads(out)
    assert (code, told["caller"], told["credentials"]) == (ExitCode.OK, "search-mcp", [])
    assert re.fullmatch(PATTERN, told["token"])
    assert parse_time(told["expires_at"]) - parse_time(told["issued_at"]) == pytest.approx(900)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ((*MINT, "--expires-in", "soon"), ExitCode.TOKEN, "--expires-in is not a duration"),
        ((*MINT, "--credential", "hidden"), ExitCode.CREDENTIAL, "No such credential"),
        (("mint", "--subject", "a", "--tool", "x", "--caller", "no"), ExitCode.TOKEN, "No such"),
        (("show", "nothing"), ExitCode.TOKEN, "No such scoped token"),
        (("mint", "--subject", "a", "--caller", "search-mcp"), ExitCode.USAGE, "--tool"),
        (("revoke",), ExitCode.USAGE, "required"),
        (("revoke", "--all", "--id", "x"), ExitCode.USAGE, "not allowed"),
    ],
)
async def test_what_is_not_done(
    operator: Operator, argv: tuple[str, ...], code: ExitCode, words: str
) -> None:
    """Nothing on standard output; the reason and the exit code say what it was."""
    ended, out, err = await operator.run(*argv)
    assert (ended, out) == (code, "")
    assert words in err


async def test_list_and_show(operator: Operator) -> None:
    """One line a token, by caller; every page of them; a table with its head alone for none."""
    _, out, _ = await operator.run("list")
    head = ["ID", "CALLER", "SUBJECT", "EXPIRES", "TOOLS", "CREDENTIALS"]
    assert [line.split() for line in out.splitlines()] == [head]
    wish = Wish("alice", ("search", "x"), ("search-api",))
    ids = []
    for _ in range(PAGE + 3):
        one = await operator.broker.tokens.mint(wish, parent=None, caller="search-mcp", life=60)
        ids.append(one.known.claims.grant.id)
    _, out, _ = await operator.run("list")
    lines = [line.split() for line in out.splitlines()[1:]]
    assert [line[0] for line in lines] == ids
    assert lines[0][1:3] + lines[0][4:] == ["search-mcp", "alice", "search,x", "search-api"]
    _, out, _ = await operator.run("list", "--json")
    assert [one["id"] for one in json.loads(out)["tokens"]] == ids
    _, out, _ = await operator.run("show", ids[0])
    assert f"id: {ids[0]}\ncaller: search-mcp\nsubject: alice\naudience: -\n" in out
    assert "tools: search, x\ncredentials: search-api\n" in out


@pytest.mark.parametrize(
    ("argv", "number"),
    [
        (("--all",), 2),
        (("--subject", "alice"), 1),
        (("--caller", "search-mcp"), 2),
        (("--credential", "search-api"), 1),
        (("--parent", "none"), 0),
        (("--id", "none"), 0),
    ],
)
async def test_revoke(operator: Operator, argv: tuple[str, ...], number: int) -> None:
    """Each way, with how many were alive here."""
    for wish in (Wish("alice", ("a",), ("search-api",)), Wish("bob", ("a",), ())):
        await operator.broker.tokens.mint(wish, parent=None, caller="search-mcp", life=60)
    code, out, _ = await operator.run("revoke", *argv)
    assert (code, out) == (ExitCode.OK, f"revoked; {number} of them were alive here\n")
    assert operator.broker.tokens.live() == {"search-mcp": 2 - number}
    _, out, _ = await operator.run("revoke", *argv, "--json")
    assert json.loads(out) == {"revoked": 0}


async def test_a_revocation_that_is_not_confirmed(operator: Operator) -> None:
    """The operator is told that nothing may be taken for revoked."""
    token = await operator.broker.tokens.mint(
        Wish("alice", ("a",), ()), parent=None, caller="search-mcp", life=60
    )

    async def fails(_: object) -> None:
        raise RevocationFailed

    operator.broker.tokens.revoke = fails  # type: ignore[method-assign, assignment]
    code, out, err = await operator.run("revoke", "--all")
    assert (code, out) == (ExitCode.TOKEN, "")
    assert "could not be written" in err
    assert "Try again" in err
    text = token.token.reveal().encode()
    found = operator.broker.tokens.verify(text, Caller("search-mcp", "token"))
    assert found.caller == "search-mcp"
    with pytest.raises(SubjectTokenRefused):
        operator.broker.tokens.verify(text, Caller("other-mcp", "token"))
