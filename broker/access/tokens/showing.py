"""What is told of scoped tokens, and to whom [pure].

Duty: who asks, and which tokens are there for him; the documents of the answers.
Not its duty: deciding who may mint (``minting``), the text of a token, which is in none of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.access.principal import Grant, Principal
from broker.access.tokens.ledger import Known
from broker.errors import RequestMalformed
from broker.protocol.models import format_time
from broker.protocol.names import TOKEN_ISSUER
from broker.protocol.scopes import scope_text
from broker.protocol.token_models import IntrospectionDocument, TokenDocument


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks about tokens, and how the audit names him."""

    actor: str
    request_id: str
    principal: Principal | None = None
    """None: an operator, who may ask about all."""
    subject_token: bytes | None = None
    """The scoped token he shows."""
    address: str = ""

    @property
    def caller(self) -> str:
        """The client; empty for an operator."""
        return "" if self.principal is None else self.principal.caller.name


def shown(grant: Grant, wall: float) -> TokenDocument:
    """A token for who may see it."""
    return {
        "id": grant.id,
        "subject": grant.subject,
        "caller": grant.caller,
        "audience": grant.audience or None,
        "tools": list(grant.tools),
        "credentials": list(grant.credentials),
        "scope": scope_text(grant.tools, grant.credentials),
        "issued_at": format_time(grant.issued_at),
        "expires_at": format_time(grant.expires_at),
        "expires_in": int(max(0.0, grant.expires_at - wall) * 1000) / 1000,
        "parent": grant.parent or None,
    }


def introspection(grant: Grant) -> IntrospectionDocument:
    """A good token for its client (RFC 7662 section 2.2)."""
    return {
        "active": True,
        "scope": scope_text(grant.tools, grant.credentials),
        "client_id": grant.caller,
        "sub": grant.subject,
        "aud": grant.audience or None,
        "exp": int(grant.expires_at),
        "iat": int(grant.issued_at),
        "jti": grant.id,
        "iss": TOKEN_ISSUER,
        "token_type": "Bearer",
        "tools": list(grant.tools),
        "credentials": list(grant.credentials),
        "parent": grant.parent or None,
    }


def visible(asker: Asker, known: Known) -> bool:
    """Operators see all; a caller its own; with a scoped token, that one and what came of it."""
    if asker.principal is None:
        return True
    claims, grant = known.claims, asker.principal.grant
    if claims.grant.caller != asker.caller:
        return False
    return grant is None or grant.id == claims.grant.id or grant.id in claims.ancestors


def cursor_of(last: Known) -> str:
    """Where the next page begins."""
    return f"{last.number}:{last.claims.grant.caller}"


def cursor(after: str) -> tuple[str, int]:
    """Read what ``cursor_of`` wrote.

    Raises:
        RequestMalformed: it is something else.
    """
    if not after:
        return "", 0
    number, _, caller = after.partition(":")
    if not number.isascii() or not number.isdigit() or len(number) > 15:
        raise RequestMalformed("after is what an answer gave as next.")
    return caller, int(number)
