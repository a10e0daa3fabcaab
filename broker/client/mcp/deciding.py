"""Which tools an agent may call now: the broker's policies, asked.

Duty: ask for one tool, or for all of a list.
Not its duty: deciding: that is ``POST /v1/decisions`` of the broker, where it is recorded.
Rules:

* nothing is kept: a policy may look at the time, the address and the arguments;
* the arguments go along, or those an author names; what does not fit is not cut, since a
  policy that looks for an argument would not find it: the call is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.client.aio import Broker
from broker.client.mcp.agent import Agent
from broker.client.tool import Work
from broker.errors import (
    BearerRefused,
    BrokerAnswerInvalid,
    BrokerUnreachable,
    RequestTooLarge,
    SubjectTokenRefused,
    TokensUnavailable,
)
from broker.protocol import names
from broker.protocol.problems import read_problem

LARGEST: Final = 15 * 1024
"""Bytes of a question: the broker takes 16 KiB."""
MOST_TOOLS: Final = 256
WITHIN: Final = 3.0
"""Seconds the broker may take."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """About one tool."""

    allowed: bool
    scope: str = ""
    """What the agent's scoped token lacks; empty: no scope would help."""


class Deciding:
    """Asks the broker.

    Args:
        broker: the client beside the broker.
        arguments: names of the arguments that policies look at; None: all go along.
    """

    def __init__(self, broker: Broker, arguments: Sequence[str] | None = None) -> None:
        self._broker = broker
        self._named = None if arguments is None else frozenset(arguments)

    async def call(
        self,
        agent: Agent,
        tool: str,
        *,
        arguments: Mapping[str, Any],
        address: str,
        request_id: str,
    ) -> Verdict:
        """Whether ``agent`` may call ``tool``; a refusal is recorded by the broker.

        Raises:
            BearerRefused: its scoped token is not good any more.
            RequestTooLarge: the arguments do not fit into a question.
            BrokerUnreachable, BrokerAnswerInvalid, TokensUnavailable, SettingsError: nobody knows.
        """
        if self._named is not None:
            arguments = {name: said for name, said in arguments.items() if name in self._named}
        question = _question(agent, [tool], address)
        question["arguments"] = dict(arguments)
        body = json.dumps(question, separators=(",", ":")).encode()
        if len(body) > LARGEST:
            raise RequestTooLarge(
                "The arguments are too large for a policy to look at.",
                remedy="Name those that policies look at in Guard(arguments=), or none: ().",
            )
        (verdict,) = await self._ask(agent, [tool], body, request_id)
        return verdict

    async def overview(
        self, agent: Agent, tools: Sequence[str], *, address: str
    ) -> dict[str, Verdict]:
        """About each of ``tools``; nothing is recorded. Raises like ``call``."""
        found: dict[str, Verdict] = {}
        for some in _portions(tools):
            question = _question(agent, some, address)
            question["overview"] = True
            body = json.dumps(question, separators=(",", ":")).encode()
            verdicts = await self._ask(agent, some, body, "")
            found |= zip(some, verdicts, strict=True)
        return found

    async def _ask(
        self, agent: Agent, tools: Sequence[str], body: bytes, request_id: str
    ) -> list[Verdict]:
        reply = await self._broker.exchange(
            "POST",
            names.DECISIONS_PATH,
            headers={"Content-Type": names.JSON},
            body=body,
            work=Work("", request_id, agent.acting),
            within=WITHIN,
        )
        if reply.status == 200:
            return _verdicts(reply.document(), tools)
        problem = read_problem(reply.document(), status=reply.status)
        if problem.kind.code == SubjectTokenRefused.code:
            raise BearerRefused(reason="inactive")
        if problem.kind.code == TokensUnavailable.code:
            raise TokensUnavailable
        if reply.status == 401:
            raise BrokerUnreachable("The broker does not know this MCP server.")
        code = problem.kind.code or "without saying why"
        raise BrokerAnswerInvalid(f"The broker answered {reply.status} {code} to a question.")


def _question(agent: Agent, tools: Sequence[str], address: str) -> dict[str, Any]:
    question: dict[str, Any] = {"action": "call_tool", "tools": list(tools)}
    if address:
        question["address"] = address
    if agent.acting is None:
        question["subject"] = {"iss": agent.issuer, "sub": agent.subject}
    return question


def _verdicts(document: object, tools: Sequence[str]) -> list[Verdict]:
    said = document.get("decisions") if isinstance(document, dict) else None
    if not isinstance(said, list) or len(said) != len(tools):
        raise BrokerAnswerInvalid("The broker's answer has no decision for each tool.")
    verdicts: list[Verdict] = []
    for one, tool in zip(said, tools, strict=True):
        if not isinstance(one, dict) or one.get("tool") != tool:
            raise BrokerAnswerInvalid("The broker's answer decides about another tool.")
        scope = one.get("scope")
        told = scope if isinstance(scope, str) else ""
        verdicts.append(Verdict(one.get("allowed") is True, told))
    return verdicts


def _portions(tools: Sequence[str]) -> Iterator[list[str]]:
    """Portions that fit into a question each."""
    some: list[str] = []
    size = 0
    for tool in tools:
        width = len(json.dumps(tool)) + 1
        if some and (len(some) == MOST_TOOLS or size + width > LARGEST - 2048):
            yield some
            some, size = [], 0
        some.append(tool)
        size += width
    if some:
        yield some
