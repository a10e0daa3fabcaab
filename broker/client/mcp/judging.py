"""Refuse a request to an MCP server, or let it in.

Duty: the order in which a request is looked at, and what each look leads to.
Not its duty: judging a bearer (``bearers``), policies (``deciding``), texts (``challenge``).
Rules:

* the order is fixed: bearer, body, header fields against body, policy. So nothing is learned
  about policies by who may not ask;
* a token where none belongs is a 400 whoever asks, and also while nobody can say who does: of
  who showed no good bearer as far as ``HINT`` goes, since strangers have no megabytes read;
* every POST is one JSON-RPC message that is decided about, whatever its path;
* what is neither allowed nor refused is an exception, which is no yes (``guard``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from broker.client import redaction
from broker.client.mcp import challenge
from broker.client.mcp.admission import Admission
from broker.client.mcp.agent import Agent
from broker.client.mcp.bearers import Bearers
from broker.client.mcp.challenge import Challenges, Refusal
from broker.client.mcp.deciding import Deciding
from broker.client.mcp.introspection import Introspection
from broker.client.mcp.message import INVALID_REQUEST, LARGEST, Fault, Message, RequestId
from broker.client.mcp.request import SLOW, Request
from broker.client.mcp.routing import claimed_tool, mismatch
from broker.client.mcp.stray import in_beginning, in_message, in_path, in_query
from broker.errors import BearerRefused, BrokerError, RequestTooLarge
from broker.protocol.scopes import covers
from broker.secret import SecretValue

log = logging.getLogger("broker.client.mcp")

HINT: Final = 64 * 1024
"""Bytes of a body read for who showed no good bearer: for tokens where none belong, and so that
the challenge names the scope."""

MOST_LEARNED: Final = 8
"""Tokens of one request that are masked in logs; more are somebody's play."""

_STRAY: Final = "A token belongs into the Authorization field and nowhere else."


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges requests; see ``Guard`` for what an author chooses."""

    challenges: Challenges
    introspection: Introspection
    bearers: Bearers
    deciding: Deciding
    scope_for: Callable[[str], str]
    """The scope that covers a tool, for who showed no good bearer."""
    scopes: Sequence[str]
    open_tools: Sequence[str]
    reachable: bool

    async def judge(self, request: Request) -> Admission | Refusal | None:
        """Let in, refuse, or (None) say nothing since the peer went."""
        url = in_path(request.scope["path"], request.bearer)
        url += in_query(request.scope.get("query_string", b""), request.bearer)
        if url:
            return _stray(url, None)
        try:
            agent = await self.bearers.agent(request.bearer)
        except BearerRefused as error:
            return await self._unauthenticated(request, error)
        except BrokerError:
            refusal = await self._of_a_stranger(request)
            if refusal is not None:
                return refusal
            raise
        if agent.trusted is not None and not set(self.scopes) <= set(agent.scopes):
            return await self._challenged(request, agent)
        if request.method == "POST":
            return await self._judge_post(request, agent)
        if request.method not in {"GET", "HEAD", "DELETE"}:
            return challenge.not_allowed()
        return self._admission(agent, None, request)

    async def _judge_post(self, request: Request, agent: Agent) -> Admission | Refusal | None:
        if request.field("content-encoding") not in {"", "identity"}:
            return challenge.malformed(Fault(INVALID_REQUEST, "The body is encoded."), 415)
        message = await request.read(LARGEST)
        if message is None:
            return None
        if isinstance(message, Fault):
            return _unread(request, message)
        fault = mismatch(request.headers, message)
        if fault is not None:
            return challenge.malformed(fault)
        stray = in_message(message.document, request.bearer)
        if stray:
            return _stray(stray, message.id)
        if message.tool is not None:
            refusal = await self._decide(request, agent, message, message.tool)
            if refusal is not None:
                return refusal
        return self._admission(agent, message.tool, request)

    async def _decide(
        self, request: Request, agent: Agent, message: Message, tool: str
    ) -> Refusal | None:
        """The refusal of a call; None when it is allowed."""
        if covers(self.open_tools, tool):
            return None
        if agent.trusted is not None and not agent.covers(tool):
            log.info("refused %r to %r: not in its token", tool, agent.subject)
            return self._insufficient(agent, agent.scope_for(tool), message.id)
        try:
            verdict = await self.deciding.call(
                agent,
                tool,
                arguments=message.arguments,
                address=request.address,
                request_id="" if message.id is None else str(message.id),
            )
        except BearerRefused as error:
            # Revoked since its verdict was kept, and the news not here yet.
            self.introspection.forget(agent.token_id)
            return await self._unauthenticated(request, error)
        except RequestTooLarge as error:
            log.warning("refused %r: %s %s", tool, error, error.remedy)
            return challenge.malformed(Fault(INVALID_REQUEST, str(error), message.id), 413)
        if verdict.allowed:
            return None
        log.info("refused %r to %r", tool, agent.subject)
        if verdict.scope:
            return self._insufficient(agent, verdict.scope, message.id)
        return challenge.forbidden(message.id)

    def _insufficient(self, agent: Agent, scope: str, request_id: RequestId) -> Refusal:
        needed = [*self.scopes, *scope.split()] if agent.trusted is not None else scope.split()
        return self.challenges.insufficient(agent.scopes, needed, request_id=request_id)

    async def _unauthenticated(self, request: Request, error: BearerRefused) -> Refusal | None:
        if error.reason != "missing":
            log.info("refused a bearer: %s", error.reason)
        return await self._challenged(request, None)

    async def _challenged(self, request: Request, agent: Agent | None) -> Refusal | None:
        """A challenge that names all that the request needs, as far as that is cheap to know."""
        tool = claimed_tool(request.headers)
        refusal = await self._of_a_stranger(request)
        if refusal is not None or request.gone:
            return refusal
        if isinstance(request.message, Message):
            tool = request.message.tool
        needed = list(self.scopes)
        if tool is not None and not covers(self.open_tools, tool):
            needed.append(self.scope_for(tool) if agent is None else agent.scope_for(tool))
        if agent is not None:
            return self.challenges.insufficient(agent.scopes, needed, request_id=request.id)
        presented = bool(request.bearer)
        return self.challenges.unauthenticated(needed, presented=presented, request_id=request.id)

    async def _of_a_stranger(self, request: Request) -> Refusal | None:
        """The refusal of a body that would be one from anybody; None: there is none."""
        if request.method != "POST" or request.message is not None:
            return None
        message = await request.read(HINT)
        if isinstance(message, Fault) and request.status == SLOW:
            return _unread(request, message)
        if isinstance(message, Message):
            stray = in_message(message.document, request.bearer)
        else:
            stray = in_beginning(request.beginning)
        return _stray(stray, request.id) if stray else None

    # --- lists ----------------------------------------------------------------------------

    def _admission(self, agent: Agent, tool: str | None, request: Request) -> Admission:
        return Admission(agent, tool, partial(self._visible, agent, request.address))

    async def _visible(self, agent: Agent, address: str, tools: Sequence[str]) -> frozenset[str]:
        shown = {tool for tool in tools if covers(self.open_tools, tool)}
        asked = [tool for tool in tools if tool not in shown]
        if agent.trusted is not None and not self.reachable:
            asked = [tool for tool in asked if agent.covers(tool)]
        verdicts = await self.deciding.overview(agent, asked, address=address)
        for tool, verdict in verdicts.items():
            if verdict.allowed or (self.reachable and verdict.scope):
                shown.add(tool)
        return frozenset(shown)


def _unread(request: Request, fault: Fault) -> Refusal:
    if request.status == SLOW:
        return challenge.slow(fault, closing=request.http1)
    return challenge.malformed(fault, request.status)


def _stray(tokens: Sequence[str], request_id: RequestId) -> Refusal:
    for token in tokens[:MOST_LEARNED]:
        if token:
            redaction.learn_token(SecretValue(token))
    log.warning("refused a request with a token where none belongs")
    return challenge.malformed(Fault(INVALID_REQUEST, _STRAY, request_id))
