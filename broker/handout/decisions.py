"""May a subject call a tool? Asked by the guard in front of an MCP server.

Duty: read the question; narrow by the scoped token; ask the authorizer for each tool; record
what was refused.
Not its duty: HTTP (``api``), verifying tokens (``access``), handing out (``service``).
Rules:

* an error while deciding is a refusal;
* a scope is named only when a token that had it would be allowed: where a policy refuses,
  another token does not help;
* an overview is no attempt: its refusals are not recorded;
* many tools take many turns of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, Final

from broker.access.authorizer import Authorizer
from broker.access.principal import Principal
from broker.errors import CallerForbidden, InsufficientScope, RequestMalformed
from broker.handout.records import Records
from broker.handout.request import LONGEST, Request
from broker.protocol.models import DecisionDocument, DecisionsDocument
from broker.protocol.names import LONGEST_ASSERTED
from broker.protocol.scopes import covers, tool_scope

MOST_TOOLS: Final = 256
SLICE: Final = 8
"""Tools decided about in one turn of the loop."""
_MEMBERS: Final = frozenset(("action", "tools", "subject", "address", "arguments", "overview"))


@dataclass(frozen=True, slots=True)
class Question:
    """A question whose members have been checked."""

    tools: tuple[str, ...]
    asserted: str
    address: str
    arguments: Mapping[str, Any] | None
    overview: bool

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Question:
        """Check the members as they came.

        Raises:
            RequestMalformed: one is unknown, or of another kind or size.
        """
        unknown = said.keys() - _MEMBERS
        if unknown or said.get("action") != "call_tool":
            raise RequestMalformed("A question has action call_tool, tools, and what is described.")
        tools, arguments = said.get("tools"), said.get("arguments")
        overview = said.get("overview", False)
        if not isinstance(tools, list) or not 0 < len(tools) <= MOST_TOOLS:
            raise RequestMalformed(f"tools are one to {MOST_TOOLS} names.")
        if not all(isinstance(one, str) and one for one in tools):
            raise RequestMalformed("A tool's name is a text.")
        if not isinstance(arguments, dict | None) or not isinstance(overview, bool):
            raise RequestMalformed("arguments are an object, overview is true or false.")
        return cls(
            tuple(tools),
            _subject(said.get("subject")),
            _address(said.get("address", "")),
            arguments,
            overview,
        )


def _subject(said: object) -> str:
    if said is None:
        return ""
    if not isinstance(said, dict) or said.keys() != {"iss", "sub"}:
        raise RequestMalformed("A subject has iss and sub.")
    issuer, subject = said["iss"], said["sub"]
    if not isinstance(issuer, str) or not isinstance(subject, str) or not issuer or not subject:
        raise RequestMalformed("iss and sub are texts.")
    # An issuer is an address and has no bar, so the first one parts them.
    asserted = f"{issuer}|{subject}"
    if "|" in issuer or len(asserted) > LONGEST_ASSERTED or not asserted.isprintable():
        raise RequestMalformed("iss and sub are short and printable.")
    return asserted


def _address(said: object) -> str:
    if said == "":
        return ""
    try:
        return str(ip_address(said)) if isinstance(said, str) else ""
    except ValueError:
        raise RequestMalformed("address is an IP address.") from None


class DecisionService:
    """Decides about tools. All methods belong to the loop's thread.

    Args:
        authorizer: decides.
        records: takes what was refused.
    """

    def __init__(self, authorizer: Authorizer, records: Records) -> None:
        self._authorizer = authorizer
        self._records = records

    async def decide(
        self, principal: Principal, request: Request, said: Mapping[str, Any]
    ) -> DecisionsDocument:
        """Answer a question.

        Args:
            principal: from ``HandoutService.authenticate``.
            request: for the audit.
            said: the body.

        Raises:
            RequestMalformed: the question is none.
        """
        question = Question.read(said)
        if question.asserted:
            if principal.grant is not None:
                raise RequestMalformed("A subject is shown by a token or asserted, not both.")
            principal = replace(principal, asserted=question.asserted)
        if question.address:
            request = request._replace(address=question.address)
        request._replace(tool="").check()
        decisions: list[DecisionDocument] = []
        for number, tool in enumerate(question.tools, 1):
            decisions.append(self._one(principal, request._replace(tool=tool), question))
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return {"decisions": decisions}

    def _one(self, principal: Principal, request: Request, question: Question) -> DecisionDocument:
        told: DecisionDocument = {
            "tool": request.tool,
            "allowed": False,
            "scope": "",
            "policies": [],
        }
        try:
            told["policies"] = list(self._authorized(principal, request, question))
            told["allowed"] = True
        except Exception as error:
            if isinstance(error, InsufficientScope):
                told["scope"] = error.scope
            if not question.overview:
                self._records.refusal(
                    error, request, principal=principal, name="", arguments=question.arguments
                )
        return told

    def _authorized(
        self, principal: Principal, request: Request, question: Question
    ) -> tuple[str, ...]:
        tool = request.tool
        if len(tool) > LONGEST or not tool.isprintable():
            raise CallerForbidden(reason="tool_unreadable")
        policies = self._authorizer.authorize_tool(
            principal, tool, address=request.address, arguments=question.arguments
        )
        grant = principal.grant
        if grant is not None and not covers(grant.tools, tool):
            raise InsufficientScope(scope=tool_scope(tool), reason="tool_not_in_token")
        return policies
