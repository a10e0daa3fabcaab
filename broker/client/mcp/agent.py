"""Who calls a tool: an agent whose bearer was found good.

Duty: what the bearer says; the SDK's form of it.
Not its duty: finding it good (``bearers``).
Rules: tools are told who calls and never the bearer: in its place stands a fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcp.server.auth.provider import AccessToken

from broker.client.mcp.issuer import Issuer
from broker.client.tool import Subject
from broker.protocol.scopes import covers, tool_scope


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent, as its bearer says. Times are Unix seconds."""

    digest: str
    """SHA-256 of the bearer, in hexadecimal."""
    issuer: str
    subject: str
    client_id: str
    scopes: tuple[str, ...]
    tools: tuple[str, ...]
    """Names and globs."""
    expires_at: float
    token_id: str = ""
    """Of a scoped token."""
    acting: Subject | None = None
    """The scoped token, for the broker; None with a JWT."""
    trusted: Issuer | None = None
    """Who made the JWT; None with a scoped token."""

    @property
    def ends_at(self) -> float:
        """When a request with the bearer is refused: past its expiry by the issuer's leeway."""
        return self.expires_at + (0.0 if self.trusted is None else self.trusted.leeway)

    def covers(self, tool: str) -> bool:
        """Whether the bearer is for ``tool``; a policy may still refuse it."""
        return covers(self.tools, tool)

    def scope_for(self, tool: str) -> str:
        """The scope that covers ``tool``."""
        return tool_scope(tool) if self.trusted is None else self.trusted.scope_for(tool)

    def access_token(self, resource: str) -> AccessToken:
        """For ``get_access_token()`` in a tool."""
        return AccessToken(
            token=f"sha256:{self.digest[:16]}",
            client_id=self.client_id,
            scopes=list(self.scopes),
            expires_at=int(self.expires_at),
            resource=resource,
            subject=self.subject,
            claims={"iss": self.issuer, "sub": self.subject},
        )
