"""From settings to the plain values that everything below receives.

Duty: one function a kind. Not its duty: checking; ``settings`` did that.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.access.caller import ClientSpec
from broker.access.failed_authentications import Rate
from broker.access.limits import LimitRule
from broker.audit.sinks import KEEP, Sink, opener
from broker.credentials.model import (
    CredentialKey,
    CredentialSpec,
    KvExpiry,
    KvSource,
    LeasedSource,
    Source,
    StaticRoleSource,
    Use,
)
from broker.settings.domain import (
    AuditSettings,
    ClientSettings,
    CredentialSettings,
    Settings,
    SourceSettings,
    TlsSettings,
    UseSettings,
)
from broker.settings.domain_limits import CallerLimitSettings
from broker.vault.tls import TlsOptions


def source(settings: SourceSettings) -> Source:
    """Where a credential comes from."""
    if settings.kind == "leased":
        return LeasedSource(
            path=settings.path,
            method=settings.method,
            parameters=settings.parameters,
            increment=settings.increment,
        )
    if settings.kind == "static_role":
        return StaticRoleSource(settings.path, settings.poll, settings.max_staleness)
    expiry = settings.expiry
    return KvSource(
        mount=settings.mount,
        path=settings.path,
        kv_version=settings.kv_version,
        poll=settings.poll,
        expiry=KvExpiry(expiry.where, expiry.name, expiry.skew),
        max_staleness=settings.max_staleness,
    )


def use(settings: UseSettings) -> Use:
    """Where the value goes."""
    return Use(
        place=settings.place,
        name=settings.name,
        field=settings.field,
        prefix=settings.prefix,
        scheme=settings.scheme,
        username_field=settings.username_field,
        password_field=settings.password_field,
        origins=settings.origins,
    )


def credential(settings: CredentialSettings) -> CredentialSpec:
    """One credential."""
    return CredentialSpec(
        key=CredentialKey(settings.name),
        source=source(settings.source),
        fields=settings.fields,
        use=None if settings.use is None else use(settings.use),
        hold=settings.hold,
        margin=settings.margin,
        refused_interval=settings.refused_interval,
        required=settings.required,
        report_statuses=settings.report_statuses,
    )


def credentials(settings: Settings) -> dict[str, CredentialSpec]:
    """All credentials by name."""
    return {name: credential(one) for name, one in settings.credentials.items()}


def client(settings: ClientSettings) -> ClientSpec:
    """One caller."""
    return ClientSpec(
        name=settings.name,
        proof=settings.proof,
        uid=settings.uid,
        group=settings.group,
        credentials=settings.credentials,
    )


def clients(settings: Settings) -> tuple[ClientSpec, ...]:
    """All callers."""
    return tuple(client(one) for one in settings.clients.values())


def limit_rules(settings: CallerLimitSettings) -> tuple[LimitRule, ...]:
    """The limits, named as the configuration names them."""
    return tuple(
        LimitRule(
            name=f"limits.rules.{name}",
            rate=rule.rate,
            clients=frozenset(rule.clients),
            tools=rule.tools,
            credentials=frozenset(rule.credentials),
            per=rule.per,
        )
        for name, rule in settings.rules.items()
    )


def default_limit(settings: CallerLimitSettings) -> LimitRule | None:
    """The limit of what no rule matches."""
    return LimitRule("limits.default", settings.default) if settings.default else None


def failed_authentications(settings: CallerLimitSettings) -> Rate | None:
    """Failures that are answered one by one."""
    rate = settings.failed_authentications
    return None if rate is None else Rate(rate.amount, rate.seconds)


def tls(settings: TlsSettings) -> TlsOptions:
    """TLS towards Vault."""
    return TlsOptions(
        ca_file=settings.ca_file,
        ca_path=settings.ca_path,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        server_name=settings.server_name,
        unsafe_skip_verify=settings.unsafe_skip_verify,
    )


def audit_sink(settings: AuditSettings) -> Callable[[], Sink]:
    """What opens the target of the audit log."""
    return opener(
        settings.file,
        max_bytes=settings.max_bytes,
        keep=KEEP if settings.keep is None else settings.keep,
        sync=settings.sync,
    )
