"""docs/tokens.md says what is true."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from broker.access.policies import Policies, Sources, Target
from broker.access.policy_files import PolicyFile
from broker.access.tokens import model, reader
from broker.access.tokens.model import read_wish
from broker.cli.main import parser
from broker.protocol.problems import TABLE
from broker.protocol.token_format import PATTERN
from broker.settings.domain_tokens import TokenSettings

TEXT = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text()


def blocks(language: str) -> list[str]:
    """Code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_wish_is_one() -> None:
    """The example is what the broker takes."""
    (wish,) = map(json.loads, blocks("json"))
    assert read_wish(wish).life == 600
    for key in wish:
        assert f"`{key}`" in TEXT or key in {"credentials", "expires_in"}


def test_the_pattern_for_scanners_is_the_format() -> None:
    """As it is in the code."""
    assert PATTERN in [block.strip() for block in blocks("text")]


def test_the_numbers_are_those_of_the_code() -> None:
    """Once a second, a minute of quiet, a minute for keys, eight generations, ten seconds."""
    assert (reader.POLL, reader.IN_USE, reader.KEYS) == (1.0, 60.0, 60.0)
    assert model.GENERATIONS == 8
    assert TokenSettings().revocation_grace == 10.0
    for words in ("once a second", "for a minute", "once a minute", "eight generations", "(10 s)"):
        assert words in TEXT


def commands() -> list[str]:
    """Every ``broker token`` in the document."""
    inline = re.findall(r"`(broker token [^`]+)`", TEXT)
    return sorted({*inline, *re.findall(r"\$ (broker token .+)", TEXT)})


@pytest.mark.parametrize("command", commands())
def test_every_command_is_understood(command: str) -> None:
    """Options and sub-commands exist."""
    words = shlex.split(command)[1:]
    if words == ["token", "revoke"]:
        words.append("--all")
    assert parser().parse_args(words).call


def test_every_code_is_in_the_table_of_problems() -> None:
    """With the status that it is told with."""
    told = re.findall(r"^\| (\d{3}) `(\w+)` \|", TEXT, re.MULTILINE)
    assert len(told) == 4
    for status, code in told:
        assert TABLE[code].status == int(status)
    assert "revocation_failed" in TABLE


def test_the_policy_is_one() -> None:
    """It compiles, for a configuration with that client."""
    (text,) = blocks("cedar")
    Policies(
        Sources(
            clients={"orders-mcp": ()},
            credentials={"a": Target("kv", "secret", "a")},
            roles=(),
            files=(PolicyFile("p.cedar", text),),
        )
    )
