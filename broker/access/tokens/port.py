"""What the rest of the broker asks of scoped tokens, and what they ask of it, as ports.

Duty: name them. Not its duty: implementing them (``pod``, ``shared``; ``records``).
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from broker.access.principal import Grant, SubjectTokens
from broker.access.tokens.ledger import Known
from broker.access.tokens.model import Claims, Target, Wish
from broker.secret import SecretValue


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token; its text is shown once."""

    token: SecretValue
    known: Known


class TokenStore(SubjectTokens, Protocol):
    """Makes scoped tokens, verifies and revokes them."""

    @property
    def fresh(self) -> bool:
        """Whether ``verify`` knows what it must; else ``freshen`` first."""
        ...

    async def freshen(self) -> None:
        """Learn what ``verify`` must know, within a moment; never raises."""
        ...

    def look_up(self, token: bytes) -> Claims:
        """What ``token`` says, whoever shows it.

        Raises:
            SubjectTokenRefused, TokensUnavailable: as ``SubjectTokens.verify``.
        """
        ...

    async def mint(self, wish: Wish, *, parent: bytes | None, caller: str, life: float) -> Minted:
        """Make a token. It is good from now on; ``discard`` it when it must not leave.

        Args:
            wish: what is asked for; decided by policy already.
            parent: the token it is minted from, which must be ``caller``'s own.
            caller: the client that may use it.
            life: seconds, capped already.

        Raises:
            SubjectTokenRefused: the parent is not good.
            TokensExhausted: the caller has too many.
            TokensUnavailable: it could not be revoked later.
            InsufficientScope, CredentialUnknown, RequestMalformed: see ``model.claims_of``.
        """
        ...

    def discard(self, known: Known) -> None:
        """Forget a token that never left."""
        ...

    async def revoke(self, target: Target) -> list[Known]:
        """Revoke what ``target`` names; all of it is refused when this returns.

        Returns:
            Those of them that this process knew alive.

        Raises:
            RevocationFailed: it is not confirmed: nothing may be claimed to be revoked.
        """
        ...

    def owns(self, token_id: str, caller: str) -> bool:
        """Whether a token of this id is ``caller``'s, as far as its id can tell."""
        ...

    def get(self, token_id: str) -> Known | None:
        """A live token that this process knows."""
        ...

    def page(self, caller: str | None, after: tuple[str, int], size: int) -> list[Known]:
        """Live tokens that this process knows; see ``Ledger.page``."""
        ...

    def live(self) -> dict[str, int]:
        """How many live tokens this process knows, by caller."""
        ...

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What runs for ever, by name."""
        ...


class TokenWatch(Protocol):
    """Is told of ends that nobody asked for here."""

    def expired(self, grant: Grant) -> None:
        """A token that was minted here has ended by time."""
        ...

    def revoked(self, grant: Grant) -> None:
        """A token that is known here was revoked on another replica."""
        ...


class TokenRecords(TokenWatch, Protocol):
    """Writes down what becomes of tokens: audit, events, counts."""

    def minted(self, grant: Grant, *, actor: str, request_id: str) -> None:
        """A token is about to leave.

        Raises:
            AuditUnavailable: it must not leave.
        """
        ...

    def revoked_by(self, grant: Grant, target: Target, *, actor: str, request_id: str) -> None:
        """A token was revoked here."""
        ...

    def revoked_unseen(self, target: Target, *, actor: str, request_id: str) -> None:
        """A revocation was written that names no token known here."""
        ...

    def refused(self, error: Exception, *, caller: str, token_id: str, request_id: str) -> None:
        """A request about tokens was refused."""
        ...
