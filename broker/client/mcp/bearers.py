"""Bearers of agents: whose, and good or not.

Duty: send each bearer to who can judge it.
Not its duty: judging (``introspection``, ``jwts``), refusing (``guard``).
Rules:

* the form of a bearer chooses the judge, and only one: what looks like a scoped token goes
  to the broker and nowhere else, and nobody else's token goes there;
* every good bearer is masked in this process's log records. Others are not learned: anybody
  could have the memory for them filled, and nobody here writes them down.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from broker.client import redaction
from broker.client.mcp.agent import Agent
from broker.client.mcp.introspection import Introspection
from broker.client.mcp.jwts import Jwts
from broker.client.mcp.stray import LONGEST, is_scoped
from broker.client.tool import Subject
from broker.errors import BearerRefused
from broker.secret import SecretValue


def bearer_in(headers: Sequence[tuple[str, str]]) -> str:
    """What the ``Authorization`` field carries; empty without one, and when it was sent twice.

    Args:
        headers: with lower-case names, as often as they were sent.
    """
    said = [value for name, value in headers if name == "authorization"]
    if len(said) != 1 or said[0][:7].lower() != "bearer ":
        return ""
    return said[0][7:].strip()


class Bearers:
    """Judges bearers.

    Args:
        introspection: for scoped tokens.
        jwts: for all others.
    """

    def __init__(self, introspection: Introspection, jwts: Jwts) -> None:
        self._introspection = introspection
        self._jwts = jwts

    async def agent(self, bearer: str) -> Agent:
        """Who shows ``bearer``.

        Raises:
            BearerRefused: it is not good.
            BrokerError: any other: nobody can say.
        """
        if not bearer or len(bearer) > LONGEST or not bearer.isascii():
            raise BearerRefused(reason="malformed" if bearer else "missing")
        token = SecretValue(bearer)
        agent = await self._judged(bearer, token)
        redaction.learn_token(token)
        return agent

    async def _judged(self, bearer: str, token: SecretValue) -> Agent:
        digest = sha256(bearer.encode("ascii")).hexdigest()
        if is_scoped(bearer):
            return await self._introspection.agent(Subject(token, digest))
        issuer, accepted = await self._jwts.verify(bearer)
        return Agent(
            digest=digest,
            issuer=issuer.url,
            subject=accepted.subject,
            client_id=accepted.client_id,
            scopes=accepted.scopes,
            tools=accepted.tools,
            expires_at=accepted.expires_at,
            trusted=issuer,
        )
