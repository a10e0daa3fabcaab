"""From the file's shape to the program's values: the third step of three [pure].

Duty: seconds of durations, trimmed paths, lower-case origins, plain frozen values.
Not its duty: checking; ``schema`` has done it, ``rules`` does it afterwards.
"""

from __future__ import annotations

from typing import assert_never

from broker.settings import domain, schema
from broker.settings.convert_access import policies, role
from broker.settings.convert_limits import caller_limits
from broker.settings.convert_rotation import credential_rotation, kubernetes, prove, rotation
from broker.settings.domain_tokens import TokenSettings
from broker.settings.schema_tokens import Tokens
from broker.settings.schema_vault import Vault
from broker.settings.units import origin, seconds, vault_path


def to_domain(file: schema.File) -> domain.Settings:
    """Make the settings of a file that fits the schema."""
    return domain.Settings(
        vault=_vault(file.vault),
        listeners=domain.ListenerSettings(
            socket_directory=file.listeners.socket_directory.rstrip("/") or "/",
            unix=file.listeners.unix,
            tcp=tuple(file.listeners.tcp),
            hosts=tuple(host.lower() for host in file.listeners.hosts),
            admin_socket=file.listeners.admin_socket,
            operations=file.listeners.operations,
            max_wait=seconds(file.listeners.max_wait),
        ),
        clients={
            name: domain.ClientSettings(
                name=name,
                credentials=tuple(client.credentials),
                proof=client.proof,
                uid=client.uid,
                group=client.group,
            )
            for name, client in file.clients.items()
        },
        credentials={name: _credential(name, one) for name, one in file.credentials.items()},
        limits=caller_limits(file.limits),
        roles={name: role(name, one) for name, one in file.roles.items()},
        policies=policies(file.policies),
        rotation=rotation(file.rotation),
        kubernetes=kubernetes(file.kubernetes),
        tokens=_tokens(file.tokens),
        audit=domain.AuditSettings(
            file=file.audit.file,
            on_failure=file.audit.on_failure,
            key_file=file.audit.key_file,
            max_bytes=file.audit.max_bytes,
            keep=file.audit.keep,
            sync=file.audit.sync,
        ),
        log=domain.LogSettings(level=file.log.level, format=file.log.format),
        stop=domain.StopSettings(
            delay=seconds(file.stop.delay), timeout=seconds(file.stop.timeout)
        ),
    )


def _tokens(tokens: Tokens) -> TokenSettings:
    return TokenSettings(
        store=tokens.store,
        life=seconds(tokens.life),
        max_life=seconds(tokens.max_life),
        max_tokens=tokens.max_tokens,
        mount=vault_path(tokens.mount),
        path=vault_path(tokens.path) if tokens.path else "",
        revocation_grace=seconds(tokens.revocation_grace),
    )


def _vault(vault: Vault) -> domain.VaultSettings:
    return domain.VaultSettings(
        address=origin(vault.address).geturl(),
        namespace=vault.namespace.strip("/"),
        timeout=seconds(vault.timeout),
        redirect_addresses=tuple(origin(text).geturl() for text in vault.redirect_addresses),
        tls=domain.TlsSettings(
            ca_file=vault.tls.ca_file,
            ca_path=vault.tls.ca_path,
            cert_file=vault.tls.cert_file,
            key_file=vault.tls.key_file,
            server_name=vault.tls.server_name,
            unsafe_skip_verify=vault.tls.unsafe_skip_verify,
            unsafe_plain_http=vault.tls.unsafe_plain_http,
        ),
        auth=domain.AuthSettings(
            method=vault.auth.method,
            mount=vault_path(vault.auth.mount),
            role=vault.auth.role,
            token_file=vault.auth.token_file,
            audience=vault.auth.audience,
        ),
        limits=domain.LimitSettings(
            requests_per_second=vault.limits.requests_per_second,
            burst=vault.limits.burst,
            concurrency=vault.limits.concurrency,
        ),
    )


def _credential(name: str, one: schema.Credential) -> domain.CredentialSettings:
    return domain.CredentialSettings(
        name=name,
        source=_source(one.source),
        fields=dict(one.fields),
        use=_use(one.use) if one.use else None,
        hold=seconds(one.hold),
        margin=seconds(one.margin),
        refused_interval=seconds(one.refused_interval),
        required=one.required,
        prove=prove(one.prove) if one.prove else None,
        report_statuses=tuple(sorted(set(one.report_statuses))),
        rotation=credential_rotation(one.rotation, one.prove) if one.rotation else None,
    )


def _source(source: schema.Source) -> domain.SourceSettings:
    if isinstance(source, schema.KvSource):
        return domain.SourceSettings(
            kind="kv",
            mount=vault_path(source.mount),
            path=vault_path(source.path),
            kv_version=source.version,
            poll=seconds(source.poll),
            max_staleness=seconds(source.max_staleness),
            expiry=_expiry(source.expiry),
        )
    if isinstance(source, schema.LeasedSource):
        return domain.SourceSettings(
            kind="leased",
            path=vault_path(source.path),
            method=source.method,
            parameters=dict(source.parameters),
            increment=None if source.increment is None else seconds(source.increment),
        )
    if isinstance(source, schema.StaticRoleSource):
        return domain.SourceSettings(
            kind="static_role",
            path=vault_path(source.path),
            poll=seconds(source.poll),
            max_staleness=seconds(source.max_staleness),
        )
    assert_never(source)


def _expiry(expiry: schema.Expiry | None) -> domain.ExpirySettings:
    if expiry is None:
        return domain.ExpirySettings()
    if expiry.field is not None:
        return domain.ExpirySettings(where="field", name=expiry.field, skew=seconds(expiry.skew))
    return domain.ExpirySettings(
        where="custom_metadata", name=expiry.custom_metadata or "", skew=seconds(expiry.skew)
    )


def _use(use: schema.Use) -> domain.UseSettings:
    return domain.UseSettings(
        place=use.place,
        name=use.name,
        field=use.field,
        prefix=use.prefix,
        scheme=use.scheme,
        username_field=use.username_field,
        password_field=use.password_field,
        origins=tuple(origin(text).geturl() for text in use.origins),
    )
