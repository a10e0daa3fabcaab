"""Who is calling: a client token, the peer's uid, or both.

Duty: hold what proves each client; turn the proof of a request into a ``Caller``.
Not its duty: token files (``token_files``), what a caller may have (``authorizer``).
Rules:

* without proof nobody is anybody: every container of a pod shares loopback;
* only digests of tokens are kept. They are looked up by SHA-256 of what was sent: whoever
  measures the look-up's time learns about digests he cannot steer, never about a token,
  so it needs no comparison in constant time;
* a client's own socket serves that client alone, whatever proof is shown on it;
* a proof that is shown must be right, even where another one would have been enough;
* where the uid is the proof the broker's own uid cannot be one: a process with it
  could read the broker's memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from math import inf

from broker.access.principal import Caller, Proof
from broker.clock import Clock
from broker.errors import CallerUnauthenticated, SettingsError


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """One configured client: what proves it and what it may have."""

    name: str
    proof: Proof = "token"
    uid: int | None = None
    group: int | None = None
    """Group of its token file and socket; None: the process's."""
    credentials: tuple[str, ...] = ()


@dataclass(slots=True)
class _Token:
    caller: Caller
    ends_at: float | None = None
    """Reading of ``Clock.now()`` after which a replaced token is refused; None: current."""


class Callers:
    """Identifies callers. All methods belong to the loop's thread.

    Args:
        clock: for the overlap of replaced tokens.
        clients: every configured client.
        own_uid: the broker's effective uid.

    Raises:
        SettingsError: a client whose proof cannot work.
    """

    def __init__(self, clock: Clock, clients: Iterable[ClientSpec], *, own_uid: int) -> None:
        self._clock = clock
        self._own_uid = own_uid
        self._tokens: dict[bytes, _Token] = {}
        self._specs: dict[str, ClientSpec] = {}
        self._callers: dict[str, Caller] = {}
        self.generation = 0
        """Moves when a proof that was good may not be any more."""
        self._replacing_until = -inf
        self.configure(clients)

    @property
    def settled(self) -> bool:
        """Whether no replaced token is in its overlap: a proof ends by ``generation`` alone."""
        return self._clock.now() >= self._replacing_until

    def configure(self, clients: Iterable[ClientSpec]) -> None:
        """Take over a new list of clients; tokens of those who stay go on.

        Raises:
            SettingsError: a client whose proof cannot work; then nothing has changed.
        """
        specs = {spec.name: spec for spec in clients}
        for spec in specs.values():
            self._check(spec)
        self.generation += 1
        self._specs = specs
        self._callers = {name: Caller(name, spec.proof) for name, spec in specs.items()}
        kept = {d: t for d, t in self._tokens.items() if t.caller.name in specs}
        for token in kept.values():
            token.caller = self._callers[token.caller.name]
        self._tokens = kept

    def _check(self, spec: ClientSpec) -> None:
        key = f"clients.{spec.name}.uid"
        if spec.proof == "token":
            return
        if spec.uid is None:
            raise SettingsError(
                f"proof {spec.proof!r} needs a uid",
                key=key,
                remedy="Set uid to the client container's runAsUser, or use proof: token.",
            )
        if spec.uid == self._own_uid:
            raise SettingsError(
                f"uid {spec.uid} is the broker's own, so it proves nothing",
                key=key,
                remedy="Give the two containers different runAsUser, or use proof: token.",
            )

    def accept(self, client: str, digest: bytes, *, overlap: float = 0.0) -> None:
        """From now on ``digest`` proves ``client``; its other tokens end after ``overlap``.

        Args:
            client: a configured client.
            digest: SHA-256 of the token.
            overlap: seconds in which a token that it replaces is still taken.
        """
        ends_at = self._clock.now() + overlap
        self.generation += 1
        self._replacing_until = max(self._replacing_until, ends_at)
        for known, token in list(self._tokens.items()):
            if token.caller.name != client:
                continue
            if token.ends_at is None:
                token.ends_at = ends_at
            if token.ends_at <= self._clock.now():
                del self._tokens[known]
        self._tokens[digest] = _Token(self._callers[client])

    def authenticate(
        self, bearer: str | bytes | None, peer_uid: int | None, socket_client: str | None
    ) -> Caller:
        """Say who calls.

        Args:
            bearer: what followed ``Authorization: Bearer``, or None.
            peer_uid: from ``SO_PEERCRED``; None on TCP.
            socket_client: the client whose own socket this is; None on TCP.

        Raises:
            CallerUnauthenticated: no proof, a wrong one, or one of another client; the
                ``reason`` is for the audit alone.
        """
        caller = None
        if bearer is not None:
            caller = self._by_token(bearer)
            if socket_client is not None and caller.name != socket_client:
                raise CallerUnauthenticated(reason="token_of_another_client", presented=True)
            if caller.proof == "token":
                return caller
        elif socket_client is None:
            raise CallerUnauthenticated(reason="no_proof")
        return self._by_uid(caller, peer_uid, socket_client)

    def _by_token(self, bearer: str | bytes) -> Caller:
        if isinstance(bearer, str):
            bearer = bearer.encode("utf-8", "surrogateescape")
        token = self._tokens.get(sha256(bearer).digest())
        if token is None:
            raise CallerUnauthenticated(reason="token_unknown", presented=True)
        if token.ends_at is not None and token.ends_at <= self._clock.now():
            raise CallerUnauthenticated(reason="token_replaced", presented=True)
        return token.caller

    def _by_uid(
        self, caller: Caller | None, peer_uid: int | None, socket_client: str | None
    ) -> Caller:
        """Finish where the uid is (part of) the proof; ``caller`` is what the token proved."""
        presented = caller is not None
        if socket_client is None:
            raise CallerUnauthenticated(reason="not_on_own_socket", presented=presented)
        spec = self._specs.get(socket_client)
        if spec is None:
            raise CallerUnauthenticated(reason="client_unknown", presented=presented)
        if caller is None and spec.proof != "uid":
            raise CallerUnauthenticated(reason="token_missing")
        if peer_uid is None or peer_uid != spec.uid:
            raise CallerUnauthenticated(reason="uid_wrong", presented=presented)
        return self._callers[spec.name]
