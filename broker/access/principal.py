"""Who asks: a caller, and the scoped token it shows, if any [pure].

Duty: carry what was proved about the one who asks; narrow what it asks for to what its
scoped token names.
Not its duty: proving it (``caller``, ``tokens``), deciding by policy (``authorizer``).
Rules:

* a scoped token narrows and never widens: what the caller may not have, no token gives it;
* a token that names tools is good for these alone: a request that names no tool gets nothing;
* outside, a credential that the token does not name does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from broker.errors import CredentialUnknown, InsufficientScope, SubjectTokenRefused
from broker.protocol.scopes import covers, tool_scope

Proof: TypeAlias = Literal["token", "uid", "token_and_uid"]


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated local client."""

    name: str
    proof: Proof
    """How it was identified."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a scoped token that was verified says. Times are Unix seconds."""

    id: str
    """The token's id: names it in audit and revocation, and proves nothing."""
    subject: str
    """On whose behalf: the verified user or agent."""
    caller: str
    """The client that may use it."""
    audience: str
    """The MCP server it is meant for (RFC 8707 resource); empty: any of the caller's."""
    tools: tuple[str, ...]
    """Tool names and globs; empty: none."""
    credentials: tuple[str, ...]
    """Credential names; empty: none."""
    issued_at: float
    expires_at: float
    parent: str = ""
    """Id of the token it was minted from; empty: minted by the client or an operator itself."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    ``asserted`` is the word of the caller, who verified a foreign bearer himself: good for a
    decision about his own tools (``handout.decisions``), never for a hand-out.
    """

    caller: Caller
    grant: Grant | None = None
    asserted: str = ""
    """The subject of another issuer's token, as ``issuer|subject``; empty with a grant."""

    @property
    def subject(self) -> str:
        """The subject that was verified, by us or by the caller; empty without one."""
        return self.asserted if self.grant is None else self.grant.subject

    @property
    def actor(self) -> str:
        """Who this is in one text, for records of what was set going."""
        return f"{self.caller.name} for {self.subject}" if self.subject else self.caller.name

    @property
    def token_id(self) -> str:
        """Id of the scoped token; empty without one."""
        return "" if self.grant is None else self.grant.id


class SubjectTokens(Protocol):
    """Verifies scoped tokens. Stands on the hot path: quick, no I/O, never waits."""

    @property
    def generation(self) -> int:
        """Moves when a verdict given before may have changed: a token was revoked or reaped.

        Ends by time do not move it: whoever keeps a ``Grant`` compares ``expires_at``.
        """
        ...

    def verify(self, token: bytes, caller: Caller) -> Grant:
        """What ``token``, shown by ``caller``, says.

        Raises:
            SubjectTokenRefused: unknown, expired, revoked, or of another caller; alike from
                outside, the reason is for the audit.
            TokensUnavailable: nobody can say whether it is revoked.
        """
        ...

    def recheck(self, grant: Grant) -> None:
        """See that a token that was verified a while ago is good still.

        Raises:
            SubjectTokenRefused, TokensUnavailable: as ``verify``; also when the token is not
                remembered.
        """
        ...


class NoSubjectTokens:
    """No scoped tokens are configured: none is good."""

    generation = 0

    def verify(self, token: bytes, caller: Caller) -> Grant:
        """See ``SubjectTokens.verify``."""
        del token, caller
        raise SubjectTokenRefused(reason="tokens_off")

    def recheck(self, grant: Grant) -> None:
        """See ``SubjectTokens.recheck``."""
        del grant
        raise SubjectTokenRefused(reason="tokens_off")


def narrow(grant: Grant | None, name: str, tool: str) -> None:
    """See that the scoped token, if there is one, covers a credential for a tool.

    Raises:
        InsufficientScope: not for this tool; names the scope that is missing.
        CredentialUnknown: not for this credential.
    """
    if grant is None:
        return
    if not tool:
        raise InsufficientScope("A scoped token needs the tool it is used for.", reason="no_tool")
    if not covers(grant.tools, tool):
        raise InsufficientScope(scope=tool_scope(tool), reason="tool_not_in_token")
    if name not in grant.credentials:
        raise CredentialUnknown(reason="not_in_token")
