"""What a caller may have.

Duty: the port every decision goes through, and the plain list a client is configured with.
Not its duty: who the caller is (``caller``); roles, conditions, limits and scoped tokens,
which are further implementations of the same port.
Rules:

* deny by default: what no list names is refused;
* outside, an unknown credential and one that is not allowed are the same
  ``CredentialUnknown``; the true reason goes to the audit;
* an error while deciding is a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from broker.access.caller import Caller, ClientSpec
from broker.credentials.model import CredentialKey
from broker.errors import CredentialUnknown


class Authorizer(Protocol):
    """Decides. Stands on the hot path: quick, no I/O, never waits."""

    def authorize(self, caller: Caller, name: str, *, tool: str) -> CredentialKey:
        """Allow ``caller`` the credential ``name`` for ``tool`` (empty: none named).

        Returns:
            The key under which the store holds what this caller gets.

        Raises:
            CredentialUnknown: unknown or not allowed, with the reason.
            CallerForbidden: the caller may list it, but not use it so.
        """
        ...

    def credentials(self, caller: Caller) -> tuple[CredentialKey, ...]:
        """What the caller may have, in a stable order."""
        ...


class ListAuthorizer:
    """Each client has a list of credentials.

    Args:
        clients: every configured client with its list.
        credentials: names of all configured credentials, to tell unknown from not allowed.
    """

    def __init__(self, clients: Iterable[ClientSpec], credentials: Iterable[str]) -> None:
        self.configure(clients, credentials)

    def configure(self, clients: Iterable[ClientSpec], credentials: Iterable[str]) -> None:
        """Take over a new configuration; the next decision is by it."""
        self._known = frozenset(credentials)
        self._allowed = {
            spec.name: {name: CredentialKey(name) for name in spec.credentials} for spec in clients
        }

    def authorize(self, caller: Caller, name: str, *, tool: str) -> CredentialKey:
        """See ``Authorizer.authorize``; a list knows nothing of tools."""
        del tool
        key = self._allowed.get(caller.name, {}).get(name)
        if key is None or name not in self._known:
            reason = "not_allowed" if name in self._known else "unknown"
            raise CredentialUnknown(reason=reason)
        return key

    def credentials(self, caller: Caller) -> tuple[CredentialKey, ...]:
        """See ``Authorizer.credentials``."""
        allowed = self._allowed.get(caller.name, {})
        return tuple(key for name, key in sorted(allowed.items()) if name in self._known)
