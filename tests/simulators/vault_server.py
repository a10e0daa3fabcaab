"""What a Vault server remembers: tokens, roles, leases, KV versions, denied paths.

Duty: behave as HashiCorp Vault and OpenBao do, given the time as an argument.
Not its duty: waiting, failing on demand, the call log (``vault.VaultSimulator``).
Rules:

* nothing runs in the background: who asks whether a token lives gives the time;
* a lease dies with the token that took it, and cannot move;
* refusals are the errors that the real client raises for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import inf
from typing import Literal

from broker.errors import (
    VaultDenied,
    VaultInvalid,
    VaultLeaseExpired,
    VaultNotFound,
)
from tests.simulators.service_account import jwt_claims
from tests.simulators.vault_kv import Data, KvEngines


@dataclass(eq=False)
class Token:
    """A Vault token as the server knows it. Times are the server's clock in seconds."""

    number: int
    text: str = field(repr=False)
    issued_at: float
    ttl: float
    """What a renewal grants; 0 never expires."""
    expires_at: float
    max_at: float = inf
    period: float = 0.0
    renewable: bool = True
    kind: Literal["service", "batch"] = "service"
    num_uses: int = 0
    policies: tuple[str, ...] = ("default", "broker")
    revoked_at: float | None = None

    @property
    def accessor(self) -> str:
        return f"accessor-{self.number}" if self.kind == "service" else ""

    def alive(self, now: float) -> bool:
        return self.revoked_at is None and now < self.expires_at

    def left(self, now: float) -> float:
        """Seconds as Vault tells them: 0 for a token that never expires."""
        return 0.0 if self.expires_at == inf else self.expires_at - now


@dataclass(eq=False)
class Lease:
    """A lease, with the token it dies with."""

    number: int
    lease_id: str
    token: Token
    issued_at: float
    ttl: float
    expires_at: float
    max_at: float
    renewable: bool
    data: Mapping[str, str] = field(repr=False)
    revoked_at: float | None = None

    def alive(self, now: float) -> bool:
        return self.revoked_at is None and now < self.expires_at and self.token.alive(now)


@dataclass
class Role:
    """A role of the kubernetes auth method; change any field at any moment.

    A login must bring a JWT of three parts, unexpired (``exp``), meant for ``audience``
    when that is set, and one of ``jwts`` when that is not empty.
    """

    ttl: float = 3600.0
    max_ttl: float = inf
    period: float = 0.0
    renewable: bool = True
    kind: Literal["service", "batch"] = "service"
    num_uses: int = 0
    policies: tuple[str, ...] = ("default", "broker")
    audience: str = ""
    jwts: set[str] = field(default_factory=set, repr=False)


def _user(number: int) -> Mapping[str, str]:
    return {"username": f"v-user-{number}", "password": f"canary-password-{number}"}


@dataclass
class LeasedPath:
    """A path that answers with a lease; change any field at any moment."""

    ttl: float = 3600.0
    max_ttl: float = inf
    renewable: bool = True
    leased: bool = True
    """False: answers without a lease id, as a path of a static value does."""
    method: Literal["read", "write"] = "read"
    make: Callable[[int], Mapping[str, str]] = _user
    """Lease number to data."""
    required: tuple[str, ...] = ()
    """Parameters without which the engine refuses."""
    parameters: list[Data] = field(default_factory=list)
    """What callers sent, in order."""


class VaultServer:
    """State and rules of the simulated server.

    Set up with ``role``, ``leased``, ``kv.put``; meddle with ``revoke``, ``deny``,
    ``kv.delete`` …; inspect with ``live_tokens`` and ``live_leases``. Time comes from outside.
    """

    def __init__(self, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self.ahead = 0.0
        """Seconds that passed for the server and not for the broker's machine: grows when that
        machine was paused together with its boot clock."""
        self._clock, self._wall = now, wall
        self.kv = KvEngines(wall)
        self.tokens: list[Token] = []
        self.leases: list[Lease] = []
        self.roles: dict[tuple[str, str], Role] = {}
        self.paths: dict[str, LeasedPath] = {}
        self.denied: set[str] = set()
        """Patterns of ``fnmatch`` over full paths, such as ``secret/data/*``."""

    def now(self) -> float:
        """The server's own clock, in seconds."""
        return self._clock() + self.ahead

    # --- set-up ---------------------------------------------------------------

    def role(
        self, name: str = "broker", *, mount: str = "kubernetes", like: Role | None = None
    ) -> Role:
        """The named role, made (from ``like``) when it does not exist yet."""
        return self.roles.setdefault((mount, name), like or Role())

    def leased(self, path: str, like: LeasedPath | None = None) -> LeasedPath:
        """The leased path, made (from ``like``) when it does not exist yet."""
        return self.paths.setdefault(path, like or LeasedPath())

    def deny(self, pattern: str) -> None:
        """From now on the policy refuses paths that match."""
        self.denied.add(pattern)

    def allow(self, pattern: str) -> None:
        """Take a ``deny`` back."""
        self.denied.discard(pattern)

    # --- tokens -----------------------------------------------------------------

    def issue(self, role: Role | None = None) -> Token:
        """A new token as a login to ``role`` brings it; without a role: a root token."""
        now, number = self.now(), len(self.tokens) + 1
        text = f"hvs.canary-token-{number}"
        if role is None:
            token = Token(number, text, now, 0.0, inf, renewable=False, policies=("root",))
        else:
            ttl = role.period or min(role.ttl, role.max_ttl)
            token = Token(
                number,
                text,
                now,
                ttl,
                min(now + ttl, now + role.max_ttl),
                max_at=now + role.max_ttl,
                period=role.period,
                renewable=role.renewable and role.kind == "service",
                kind=role.kind,
                num_uses=role.num_uses,
                policies=role.policies,
            )
        self.tokens.append(token)
        return token

    def login(self, *, mount: str, role: str, jwt: str) -> Token:
        """``auth/<mount>/login``: an unknown role is a 400, any trouble with the JWT a 403."""
        found = self.roles.get((mount, role))
        if found is None:
            if not any(known == mount for known, _ in self.roles):
                raise VaultDenied(f"no auth method at {mount}")
            raise VaultInvalid(f"invalid role name {role}")
        claims = jwt_claims(jwt)
        if claims is None or (found.jwts and jwt not in found.jwts):
            raise VaultDenied("the service-account token is not accepted")
        expires, audience = claims.get("exp"), claims.get("aud")
        if isinstance(expires, int | float) and expires <= self._wall():
            raise VaultDenied("the service-account token has expired")
        if found.audience and found.audience not in (
            audience if isinstance(audience, list) else [audience]
        ):
            raise VaultDenied("the service-account token is meant for another audience")
        return self.issue(found)

    def use(self, text: str, path: str) -> Token:
        """Check a token and its policy for ``path``, and count the use."""
        now = self.now()
        token = next((one for one in self.tokens if one.text == text), None)
        if token is None or not token.alive(now):
            raise VaultDenied("permission denied")
        if token.num_uses > 0:
            token.num_uses -= 1
            if token.num_uses == 0:
                token.expires_at = now
        if any(fnmatchcase(path, pattern) for pattern in self.denied):
            raise VaultDenied(f"permission denied on {path}")
        return token

    def renew(self, token: Token, increment: float | None) -> None:
        """``auth/token/renew-self``: never past ``max_at``."""
        if token.kind == "batch" or not token.renewable:
            raise VaultInvalid("lease is not renewable")
        now = self.now()
        wanted = token.period or increment or token.ttl
        token.expires_at = min(now + wanted, token.max_at)

    def revoke(self, token: Token) -> None:
        """The token and its leases die now, whoever wanted it."""
        if token.kind == "batch":
            raise VaultInvalid("batch tokens cannot be revoked")
        if token.revoked_at is None:
            token.revoked_at = self.now()

    def live_tokens(self) -> list[Token]:
        """Tokens that could be used now."""
        return [token for token in self.tokens if token.alive(self.now())]

    # --- leases -------------------------------------------------------------------

    def grant(
        self, token: Token, path: str, method: str, parameters: Data | None
    ) -> Lease | Mapping[str, str]:
        """A new lease at ``path``; plain data when the path answers without one."""
        found = self.paths.get(path)
        if found is None:
            raise VaultNotFound(f"nothing at {path}")
        if found.method != method:
            raise VaultInvalid(f"{path} does not support {method}")
        if not set(found.required) <= set(parameters or {}):
            raise VaultInvalid(f"{path} needs {found.required}")
        found.parameters.append(dict(parameters or {}))
        number = len(self.leases) + 1
        data = found.make(number)
        if not found.leased:
            return data
        now = self.now()
        ttl = min(found.ttl, found.max_ttl)
        max_at = now + found.max_ttl
        if token.kind == "batch":  # Vault cuts such leases to the token's life, renewed or not
            max_at = min(max_at, token.expires_at)
            ttl = min(ttl, max_at - now)
        lease = Lease(
            number,
            f"{path}/lease-{number}",
            token,
            now,
            ttl,
            now + ttl,
            max_at=max_at,
            renewable=found.renewable,
            data=data,
        )
        self.leases.append(lease)
        return lease

    def live_lease(self, lease_id: str) -> Lease:
        """The lease when it lives; else ``VaultLeaseExpired``."""
        for lease in self.leases:
            if lease.lease_id == lease_id and lease.alive(self.now()):
                return lease
        raise VaultLeaseExpired("lease not found")

    def renew_lease(self, lease_id: str, increment: float | None) -> Lease:
        """``sys/leases/renew``: never past the lease's maximum."""
        lease = self.live_lease(lease_id)
        if not lease.renewable:
            raise VaultInvalid("lease is not renewable")
        lease.expires_at = min(self.now() + (increment or lease.ttl), lease.max_at)
        return lease

    def revoke_lease(self, lease_id: str) -> None:
        """The lease dies now; an unknown one is no error."""
        for lease in self.leases:
            if lease.lease_id == lease_id and lease.revoked_at is None:
                lease.revoked_at = self.now()

    def live_leases(self) -> list[Lease]:
        """Leases whose data the engine would accept now."""
        return [lease for lease in self.leases if lease.alive(self.now())]
