"""What a caller may have.

Duty: the port every decision goes through, and the plain list a client is configured with.
Not its duty: who asks (``caller``, ``principal``); policies (``policy``) and limits.
Rules:

* deny by default: what nothing permits is refused;
* outside, an unknown credential and one that is not allowed are the same
  ``CredentialUnknown``; the true reason goes to the audit;
* an error while deciding is a refusal;
* a decision says whether it lasts: then the same question has the same answer until
  ``generation`` moves, and the hot path asks no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from broker.access.caller import ClientSpec
from broker.access.principal import Principal
from broker.credentials.model import CredentialKey
from broker.errors import CallerForbidden, CredentialUnknown

Action: TypeAlias = Literal["handout", "call_tool", "mint_token", "report", "read_status", "rotate"]

NEEDS_ARGUMENTS: Final = "policy_needs_arguments"
"""Reason of a refusal: a policy looks at the tool's arguments, and nobody knows them."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A permission; a refusal is an exception."""

    key: CredentialKey
    """Under which the store holds what this caller gets."""
    policies: tuple[str, ...] = ()
    """Ids of the policies that permit it, for the audit."""
    lasting: bool = False
    """The same until ``Authorizer.generation`` moves; else good for this one request."""


class Authorizer(Protocol):
    """Decides. Stands on the hot path: quick, no I/O, never waits."""

    @property
    def generation(self) -> int:
        """Moves with each change of what it decides by."""
        ...

    def authorize(
        self,
        principal: Principal,
        name: str,
        *,
        tool: str,
        action: Action = "handout",
        address: str = "",
    ) -> Decision:
        """Allow ``principal`` an action on the credential ``name``.

        Args:
            principal: who asks; its scoped token has been compared already.
            name: the credential.
            tool: the MCP tool it is for; empty: none named.
            action: what is asked for.
            address: of the peer; empty on a Unix socket.

        Raises:
            CredentialUnknown: unknown or not allowed, with the reason.
            CallerForbidden: the caller may list it, but not use it so.
        """
        ...

    def authorize_tool(
        self,
        principal: Principal,
        tool: str,
        *,
        action: Action = "call_tool",
        address: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """Allow ``principal`` to call a tool, or (``mint_token``) to mint a token for it.

        Returns:
            Ids of the policies that permit it.

        Raises:
            CallerForbidden: it may not, with the reason.
        """
        ...

    async def credentials(self, principal: Principal) -> tuple[CredentialKey, ...]:
        """What ``principal`` may have for some tool, in a stable order.

        Not for the hot path: where policies look at each credential it takes many turns of the
        loop. The answer is by what it decides by at the end.
        """
        ...

    def tools(self, principal: Principal) -> tuple[str, ...] | None:
        """Names and globs of the tools it may name; None: any."""
        ...

    def samples(self, principal: Principal, glob: str, *, action: Action) -> tuple[str, ...]:
        """Tools that a glob covers and that may be decided about otherwise than the glob."""
        ...


class ListAuthorizer:
    """Each client has a list of credentials, for any tool.

    Args:
        clients: every configured client with its list.
        credentials: names of all configured credentials, to tell unknown from not allowed.
    """

    def __init__(self, clients: Iterable[ClientSpec], credentials: Iterable[str]) -> None:
        self.generation = 0
        self.configure(clients, credentials)

    def configure(self, clients: Iterable[ClientSpec], credentials: Iterable[str]) -> None:
        """Take over a new configuration; the next decision is by it."""
        self.generation += 1
        known = frozenset(credentials)
        self._known = known
        self._allowed = {
            spec.name: {
                name: Decision(CredentialKey(name), (f"clients.{spec.name}",), lasting=True)
                for name in spec.credentials
                if name in known
            }
            for spec in clients
        }

    def authorize(
        self,
        principal: Principal,
        name: str,
        *,
        tool: str,
        action: Action = "handout",
        address: str = "",
    ) -> Decision:
        """See ``Authorizer.authorize``; a list knows nothing of tools and addresses."""
        del tool, address
        if action == "rotate":
            raise CredentialUnknown(reason="not_allowed")  # an operator's business
        decision = self._allowed.get(principal.caller.name, {}).get(name)
        if decision is None:
            reason = "not_allowed" if name in self._known else "unknown"
            raise CredentialUnknown(reason=reason)
        return decision

    def authorize_tool(
        self,
        principal: Principal,
        tool: str,
        *,
        action: Action = "call_tool",
        address: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """See ``Authorizer.authorize_tool``; a client with a list may use it for any tool."""
        del tool, action, address, arguments
        name = principal.caller.name
        if not self._allowed.get(name):
            raise CallerForbidden(reason="no_policy")
        return (f"clients.{name}",)

    async def credentials(self, principal: Principal) -> tuple[CredentialKey, ...]:
        """See ``Authorizer.credentials``."""
        allowed = self._allowed.get(principal.caller.name, {})
        return tuple(decision.key for _, decision in sorted(allowed.items()))

    def tools(self, principal: Principal) -> tuple[str, ...] | None:
        """See ``Authorizer.tools``."""
        del principal
        return None

    def samples(self, principal: Principal, glob: str, *, action: Action) -> tuple[str, ...]:
        """See ``Authorizer.samples``."""
        del principal, glob, action
        return ()
