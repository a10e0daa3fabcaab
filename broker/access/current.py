"""Whichever authorizer the configuration asks for now.

Duty: stand where others hold an authorizer, while a new configuration brings another kind.
Not its duty: deciding.
Rules: ``generation`` moves with each change of the kind too, and never back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.access.authorizer import Action, Authorizer, Decision
from broker.access.principal import Principal
from broker.credentials.model import CredentialKey


class CurrentAuthorizer:
    """Asks the one that is in use.

    Args:
        inner: the first one.
    """

    def __init__(self, inner: Authorizer) -> None:
        self.inner = inner
        self._base = 0

    def use(self, inner: Authorizer) -> None:
        """Ask another one from now on."""
        self._base = self.generation + 1
        self.inner = inner

    @property
    def generation(self) -> int:
        """See ``Authorizer.generation``."""
        return self._base + self.inner.generation

    def authorize(
        self,
        principal: Principal,
        name: str,
        *,
        tool: str,
        action: Action = "handout",
        address: str = "",
    ) -> Decision:
        """See ``Authorizer.authorize``."""
        return self.inner.authorize(principal, name, tool=tool, action=action, address=address)

    def authorize_tool(
        self,
        principal: Principal,
        tool: str,
        *,
        action: Action = "call_tool",
        address: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """See ``Authorizer.authorize_tool``."""
        return self.inner.authorize_tool(
            principal, tool, action=action, address=address, arguments=arguments
        )

    async def credentials(self, principal: Principal) -> tuple[CredentialKey, ...]:
        """See ``Authorizer.credentials``; another one took its place meanwhile: it is asked."""
        while True:
            inner = self.inner
            found = await inner.credentials(principal)
            if inner is self.inner:
                return found

    def tools(self, principal: Principal) -> tuple[str, ...] | None:
        """See ``Authorizer.tools``."""
        return self.inner.tools(principal)

    def samples(self, principal: Principal, glob: str, *, action: Action) -> tuple[str, ...]:
        """See ``Authorizer.samples``."""
        return self.inner.samples(principal, glob, action=action)
