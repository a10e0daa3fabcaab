"""``broker check``: does every layer between this pod and each secret hold?

Duty: ask Vault's health, log in, read each credential and the documents of scoped tokens once,
undo what that made.
Not its duty: those documents (``check_tokens``), naming the broken layer (``diagnosis``),
printing (``cli``).
Rules:

* one line for Vault, the login, each credential and what replicas share of scoped tokens; none
  holds a value. Nothing is written, so a key that the first broker makes may be missing;
* a lease is revoked as soon as it was looked at, the Vault token at the end, however it
  ends; a token given by file is never revoked;
* when Vault stops answering nothing more is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from pathlib import Path
from typing import Final, Protocol

from broker.app import diagnosis, diagnosis_login, translate
from broker.app.check_tokens import look
from broker.app.diagnosis import Diagnosis
from broker.app.diagnosis_login import Claims
from broker.app.vault import vault_login
from broker.clock import Clock
from broker.credentials.model import (
    CredentialSpec,
    KvSource,
    LeasedSource,
    Snapshot,
    StaticRoleSource,
)
from broker.credentials.sources import kv_snapshot, leased_snapshot, static_snapshot
from broker.errors import (
    BrokerError,
    CredentialUnavailable,
    LoginError,
    LoginFailed,
    TokenFileUnusable,
    VaultDenied,
    VaultError,
    VaultRefused,
    VaultUnreachable,
)
from broker.secret import SecretValue
from broker.settings.domain import CredentialSettings, Settings, SourceSettings
from broker.vault.generation import Generation
from broker.vault.interface import LeaseGrant, MountInfo, MountPort, TokenGrant, VaultPort
from broker.vault.login import read_token

TOKENS: Final = "scoped tokens"


class CheckPort(VaultPort, MountPort, Protocol):
    """What the check asks of Vault."""


class Outcome(Enum):
    """The first thing that failed."""

    OK = auto()
    VAULT = auto()
    LOGIN = auto()
    CREDENTIAL = auto()


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was checked."""

    subject: str
    """``vault``, ``login``, ``scoped tokens``, ``clean-up`` or the name of a credential."""
    text: str
    """What was found; the diagnosis's sentence when something is broken."""
    broken: Diagnosis | None = None


class Check:
    """One run of the check.

    Args:
        settings: what to check.
        port: Vault.
        clock: time.
        emit: called with each line as it is known.
    """

    def __init__(
        self, settings: Settings, port: CheckPort, *, clock: Clock, emit: Callable[[Line], None]
    ) -> None:
        self._settings, self._port, self._clock, self._emit = settings, port, clock, emit
        self._unrevoked: list[VaultError] = []

    async def run(self) -> Outcome:
        """Check everything; what was minted is gone when this returns."""
        if not await self._vault():
            return Outcome.VAULT
        login = vault_login(self._settings.vault.auth, self._port)
        try:
            grant = await login.login()
        except (LoginError, VaultError) as error:
            self._report("login", await self._diagnose_login(error))
            return Outcome.LOGIN
        try:
            self._say_login(grant)
            good = True
            silent: VaultUnreachable | None = None
            for credential in self._settings.credentials.values():
                if silent is not None:
                    self._report(credential.name, diagnosis.of_silence(silent))
                    continue
                failed = await self._credential(credential, grant, own=login.own)
                silent = failed if isinstance(failed, VaultUnreachable) else None
                good &= failed is None
            good &= await self._tokens(grant, silent)
        finally:
            await self._clean_up(grant, own=login.own)
        return Outcome.OK if good else Outcome.CREDENTIAL

    # --- the layers ---------------------------------------------------------------

    async def _vault(self) -> bool:
        address = self._settings.vault.address
        try:
            health = await self._port.health()
        except VaultError as error:
            self._report("vault", diagnosis.of_connection(error))
            return False
        if health.sealed or not health.initialized:
            self._report("vault", diagnosis.of_seal(initialized=health.initialized))
            return False
        role = "standby" if health.standby else "active"
        self._emit(Line("vault", f"{address} answers: version {health.version or '?'}, {role}"))
        return True

    def _say_login(self, grant: TokenGrant) -> None:
        auth = self._settings.vault.auth
        how = (
            f"role {auth.role} at auth/{auth.mount}"
            if auth.method == "kubernetes"
            else f"the token in {auth.token_file}"
        )
        life = f"for {diagnosis.span(grant.ttl)}" if grant.ttl else "without end"
        policies = ", ".join(grant.policies) or "none"
        self._emit(Line("login", f"{how}: {grant.kind} token {life}, policies {policies}"))

    async def _diagnose_login(self, error: BrokerError) -> Diagnosis:
        auth = self._settings.vault.auth
        claims: Claims | None = None
        if auth.method == "kubernetes":
            try:
                claims = diagnosis_login.claims(read_token(Path(auth.token_file)))
            except TokenFileUnusable as unusable:
                error = unusable
        unclear = isinstance(error, LoginFailed) and isinstance(error.__cause__, VaultDenied)
        exists = await self._auth_mount_exists() if unclear and claims else None
        return diagnosis_login.of_login(
            error, auth, token=claims, wall=self._clock.wall(), mount_exists=exists
        )

    async def _auth_mount_exists(self) -> bool | None:
        """Whether a kubernetes auth method stands at the mount; None when nobody can tell.

        A login without a role is "missing role" (400) to the method and "permission denied"
        (403) where there is none. No service-account token is sent.
        """
        mount = self._settings.vault.auth.mount
        try:
            await self._port.login_kubernetes(mount=mount, role="", jwt=SecretValue("none"))
        except VaultDenied:
            return False
        except VaultRefused:
            return True
        except VaultError:
            pass
        return None

    # --- one credential -----------------------------------------------------------

    async def _credential(
        self, settings: CredentialSettings, grant: TokenGrant, *, own: bool
    ) -> BrokerError | None:
        """Read it once; the error when it cannot be had."""
        spec = translate.credential(settings)
        try:
            if isinstance(spec.source, KvSource):
                snapshot = await self._read(spec, spec.source, grant)
            elif isinstance(spec.source, StaticRoleSource):
                snapshot = await self._static(spec, spec.source, grant)
            else:
                snapshot = await self._lease(spec, spec.source, grant, own=own)
        except BrokerError as error:
            self._report(settings.name, await self._diagnose(settings.source, grant, error))
            return error
        expiry, wall = snapshot.own_expiry_wall, self._clock.wall()
        text = _described(settings, snapshot)
        if expiry is None:
            self._emit(Line(settings.name, text))
        elif expiry > wall:
            self._emit(Line(settings.name, f"{text}, expires in {diagnosis.span(expiry - wall)}"))
        else:
            self._report(settings.name, diagnosis.of_own_expiry(wall - expiry))
            return CredentialUnavailable(name=settings.name)
        return None

    async def _read(self, spec: CredentialSpec, source: KvSource, grant: TokenGrant) -> Snapshot:
        value = await self._port.kv_read(
            grant.token, mount=source.mount, path=source.path, kv_version=source.kv_version
        )
        return kv_snapshot(spec, source, value, version="check")

    async def _lease(
        self, spec: CredentialSpec, source: LeasedSource, grant: TokenGrant, *, own: bool
    ) -> Snapshot:
        generation = Generation(
            number=0,
            token=grant.token,
            expires_at=grant.sent_at + grant.ttl if grant.ttl else inf,
            renewable=grant.renewable,
            kind=grant.kind,
            own=own,
        )
        lease = await self._port.lease(
            grant.token, path=source.path, method=source.method, parameters=source.parameters
        )
        try:
            return leased_snapshot(spec, lease, generation, version="check")
        finally:
            await self._give_back(grant, lease)

    async def _static(
        self, spec: CredentialSpec, source: StaticRoleSource, grant: TokenGrant
    ) -> Snapshot:
        found = await self._port.lease(grant.token, path=source.path)
        try:
            return static_snapshot(spec, found, version="check")
        finally:
            await self._give_back(grant, found)  # there is one when the kind is wrong

    async def _give_back(self, grant: TokenGrant, lease: LeaseGrant) -> None:
        if lease.lease_id:
            try:
                await self._port.revoke_lease(grant.token, lease.lease_id)
            except VaultError as error:
                self._unrevoked.append(error)

    async def _diagnose(
        self, source: SourceSettings, grant: TokenGrant, error: BrokerError
    ) -> Diagnosis:
        info: MountInfo | None = None
        if source.kind == "kv" and isinstance(error, VaultRefused):
            with suppress(VaultError):
                info = await self._port.mount_info(grant.token, path=source.mount)
        return diagnosis.of_credential(
            error,
            source,
            mount_kind=info.kind if info else "",
            mount_version=info.kv_version if info else None,
        )

    # --- scoped tokens ------------------------------------------------------------

    async def _tokens(self, grant: TokenGrant, silent: VaultUnreachable | None) -> bool:
        """Read what replicas share, if they do; False when it is broken."""
        settings = self._settings.tokens
        if settings.store != "shared":
            return True
        if silent is not None:
            self._report(TOKENS, diagnosis.of_silence(silent))
            return False
        found = await look(
            self._port,
            grant.token,
            settings,
            lambda source, error: self._diagnose(source, grant, error),
        )
        if isinstance(found, Diagnosis):
            self._report(TOKENS, found)
            return False
        self._emit(Line(TOKENS, found))
        return True

    # --- the end ------------------------------------------------------------------

    async def _clean_up(self, grant: TokenGrant, *, own: bool) -> None:
        """Revoke the token, and with it every lease it took; say what is left behind."""
        problem = self._unrevoked[0] if self._unrevoked else None
        if own and grant.kind == "service":
            try:
                await self._port.revoke_self(grant.token)
                problem = None  # its leases die with it
            except VaultError as error:
                problem = error
        if problem is not None:
            self._report("clean-up", diagnosis.of_clean_up(problem, own=own))

    def _report(self, subject: str, broken: Diagnosis) -> None:
        self._emit(Line(subject, broken.sentence, broken))


def _described(settings: CredentialSettings, snapshot: Snapshot) -> str:
    """What was found, without a value: path, version or lease, names of the fields."""
    source = settings.source
    fields = f"fields {', '.join(sorted(snapshot.data))}"
    if snapshot.lease is not None:
        renewable = "renewable" if snapshot.lease.renewable else "not renewable"
        life = diagnosis.span(snapshot.lease.duration)
        return f"{source.path}: lease of {life}, {renewable}, {fields}"
    if source.kind == "static_role":
        life = diagnosis.span(snapshot.ends_at - snapshot.validated_at)
        return f"{source.path}: replaced in {life}, {fields}"
    version = f" version {snapshot.source_version}" if snapshot.source_version else ""
    return f"{source.mount}/{source.path}{version}: {fields}"
