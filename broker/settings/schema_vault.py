"""The shape of the section ``vault``.

Duty: its keys, as ``schema`` has the others'.
Not its duty: what may stand together (``rules``), the client (``vault``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from broker.settings.kinds import Duration, Line, Origin, VaultPath
from broker.settings.section import Section


class Tls(Section):
    """TLS towards Vault. Certificates are always verified unless `unsafe_skip_verify`."""

    ca_file: Line = Field("", description="PEM file with the CA of Vault's certificate.")
    ca_path: Line = Field("", description="Directory of CA certificates, instead of `ca_file`.")
    cert_file: Line = Field("", description="PEM file with the client certificate.")
    key_file: Line = Field("", description="PEM file with the key of the client certificate.")
    server_name: Line = Field(
        "", description="Name expected in Vault's certificate, when not the host of the address."
    )
    unsafe_skip_verify: bool = Field(
        False,
        description="Trust any certificate: whoever answers gets the service-account token. "
        "Said loudly at each start.",
    )
    unsafe_plain_http: bool = Field(
        False,
        description="Allow an `http://` address that is not loopback: all secrets cross the "
        "network in clear. Said loudly at each start.",
    )


class Auth(Section):
    """How the broker logs in to Vault."""

    method: Literal["kubernetes", "token_file"] = Field(
        "kubernetes",
        description="`kubernetes`: the pod's own service account. `token_file`: a Vault token "
        "that somebody else renews and writes to a file; it is never revoked.",
    )
    mount: VaultPath = Field("kubernetes", description="Mount of the auth method.")
    role: Line = Field("", description="Role at that mount; needed for `kubernetes`.")
    token_file: Line = Field(
        "/var/run/secrets/broker/token",
        description="`kubernetes`: the projected service-account token. `token_file`: the Vault "
        "token. Read anew at each login.",
        min_length=1,
    )
    audience: Line = Field(
        "",
        description="Audience that Vault's role expects of the service-account token; only "
        "compared by `broker check`.",
    )


class Limits(Section):
    """What this broker may cost Vault, all its requests together."""

    requests_per_second: float = Field(50.0, gt=0, description="Requests a second in the long run.")
    burst: int = Field(50, ge=1, description="Requests that may go at once after a quiet time.")
    concurrency: int = Field(
        8,
        ge=3,
        le=256,
        description="Requests under way at the same time; two are kept for logins and renewals.",
    )


class Vault(Section):
    """Where Vault or OpenBao is and how to speak to it."""

    address: Origin = Field(
        description="Origin of Vault, such as `https://vault.vault.svc:8200`; `VAULT_ADDR` will do."
    )
    namespace: Line = Field("", description="Vault namespace; empty for the root namespace.")
    timeout: Duration = Field("10s", description="Deadline of one request, connection included.")
    redirect_addresses: list[Origin] = Field(
        [],
        description="Further origins that a 307 of Vault may lead to (a standby names its leader).",
    )
    tls: Tls = Field(default_factory=Tls, description="TLS towards Vault.")
    auth: Auth = Field(default_factory=Auth, description="How the broker logs in.")
    limits: Limits = Field(default_factory=Limits, description="What the broker may cost Vault.")
