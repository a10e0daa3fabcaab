"""The shape of the configuration file: the second step of three.

Duty: every key with its kind, bounds, default and meaning; the JSON Schema of it all.
Not its duty: contradictions between keys (``rules``); values as the program uses them (``domain``).
Rules:

* closed: a key that is not declared here is a fault;
* texts stay as they were written (``30s``); ``convert`` makes seconds of them;
* every key has a description: docs/configuration.md is made of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, JsonValue, model_validator
from pydantic.json_schema import GenerateJsonSchema

from broker.settings.kinds import (
    Duration,
    Endpoint,
    EndpointOrNone,
    FieldName,
    Id,
    Line,
    Name,
    Origin,
    RefusalStatus,
    VaultPath,
    fault,
)
from broker.settings.schema_access import Policies, Role
from broker.settings.schema_audit import Audit
from broker.settings.schema_limits import CallerLimits
from broker.settings.schema_rotation import CredentialRotation, Kubernetes, Prove, Rotation
from broker.settings.schema_tokens import Tokens
from broker.settings.schema_vault import Vault
from broker.settings.section import Section
from broker.settings.units import Misfit


class Listeners(Section):
    """Where the broker can be called."""

    socket_directory: Line = Field(
        "/run/broker",
        min_length=1,
        description="Each client has a directory below it: `<client>/broker.sock` and "
        "`<client>/client-token`.",
    )
    unix: bool = Field(True, description="Whether each client gets a Unix socket.")
    tcp: list[Endpoint] = Field(
        ["127.0.0.1:8210"],
        description="Loopback addresses of the data plane; `[]` for none.",
    )
    hosts: list[Line] = Field([], description="Further names allowed in the Host header on TCP.")
    admin_socket: Line = Field(
        "/run/broker-admin/admin.sock",
        description="Unix socket of the admin plane, in a directory no other container mounts; "
        '`""` for none.',
    )
    operations: EndpointOrNone = Field(
        "[::]:8211", description='Address of probes and metrics; `""` for none.'
    )
    max_wait: Duration = Field("60s", description="Longest `Prefer: wait` of a caller.")


class Client(Section):
    """One caller: an MCP server's container."""

    credentials: list[Name] = Field(
        [], description="Names of the credentials it may have; nothing else."
    )
    proof: Literal["token", "uid", "token_and_uid"] = Field(
        "token",
        description="How it shows who it is. `token`: the client token from its directory. `uid`: "
        "the uid at the other end of its own socket. `token_and_uid`: both.",
    )
    uid: Id | None = Field(None, description="Its uid, for the proofs that need one.")
    group: Id | None = Field(
        None,
        description="Group that owns its socket and token file (Kubernetes `fsGroup`); the "
        "broker's own group when missing.",
    )


class Expiry(Section):
    """Where a KV value's own expiry stands, as RFC 3339 or Unix seconds; one of the two."""

    field: Line | None = Field(None, min_length=1, description="Key beside the value itself.")
    custom_metadata: Line | None = Field(
        None, min_length=1, description="Key in the secret's `custom_metadata` (KV v2)."
    )
    skew: Duration = Field(
        "30s", description="Allowance for a provider's clock: expiry counts this much earlier."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.field is None) == (self.custom_metadata is None):
            raise fault(
                Misfit(
                    "needs one place to read the expiry from",
                    "Write field: <key of the value>, or custom_metadata: <key>, not both.",
                )
            )
        return self


class KvSource(Section):
    """A value in a KV engine, polled."""

    kind: Literal["kv"] = Field(description="`kv`: a value in a KV engine, polled.")
    mount: VaultPath = Field(description="Mount of the KV engine, such as `secret`.")
    path: VaultPath = Field(description="Path below the mount, without `data/`.")
    version: Literal[1, 2] = Field(2, description="Version of the KV engine.")
    poll: Duration = Field("60s", description="How often Vault is asked, ± jitter; at least 1s.")
    max_staleness: Duration = Field(
        "1h", description="How long a value may be handed out after Vault last confirmed it."
    )
    expiry: Expiry | None = Field(None, description="Where the value's own expiry stands.")


class LeasedSource(Section):
    """A value with a lease: any path of Vault that answers with one."""

    kind: Literal["leased"] = Field(description="`leased`: a path that answers with a lease.")
    path: VaultPath = Field(description="Whole path, such as `database/creds/orders`.")
    method: Literal["read", "write"] = Field("read", description="How the path is asked.")
    parameters: dict[str, JsonValue] = Field(
        {}, description="Parameters of the request; never a secret."
    )
    increment: Duration | None = Field(
        None, description="Life asked for at each renewal; Vault chooses when missing."
    )


class StaticRoleSource(Section):
    """A user whose password Vault replaces in place, such as a database static role."""

    kind: Literal["static_role"] = Field(
        description="`static_role`: a user whose password Vault replaces in place."
    )
    path: VaultPath = Field(description="Whole path, such as `database/static-creds/orders`.")
    poll: Duration = Field(
        "60s", description="How often Vault is asked besides the end it told; at least 1s."
    )
    max_staleness: Duration = Field(
        "1h", description="How long a value may be handed out after Vault last confirmed it."
    )


Source: TypeAlias = KvSource | LeasedSource | StaticRoleSource


class Use(Section):
    """Where the value goes in an upstream request, in OpenAPI's words for security schemes."""

    place: Literal["header", "cookie", "unsafe_query"] = Field(
        "header",
        alias="in",
        description="`header`, `cookie`, or `unsafe_query` (the key then stands in access logs).",
    )
    name: Line = Field(
        "Authorization", min_length=1, description="Name of the header, cookie or parameter."
    )
    field: Line = Field("", description="Field of the credential that holds the value.")
    prefix: Line = Field("", description="Text before the value, such as `Token `.")
    scheme: Literal["", "bearer", "basic"] = Field(
        "", description="HTTP authentication in the Authorization header, instead of `in`."
    )
    username_field: Line = Field("", description="Field with the user name, for `basic`.")
    password_field: Line = Field("", description="Field with the password, for `basic`.")
    origins: list[Origin] = Field(
        [],
        description="Origins the client library may send the value to; it sends it nowhere else.",
    )


class Credential(Section):
    """One credential by name."""

    source: Annotated[Source, Field(discriminator="kind")] = Field(
        description="Where its value comes from."
    )
    fields: dict[FieldName, str] = Field(
        {},
        description="Fields as handed out: name to template, such as "
        "`postgresql://{username}:{password}@orders/db`; the keys as in Vault when missing.",
    )
    use: Use | None = Field(None, description="Where the value goes in an upstream request.")
    hold: Duration = Field("30s", description="Longest time a caller may keep one answer.")
    margin: Duration = Field(
        "5s", description="How long before its expiry a value must be out of use."
    )
    refused_interval: Duration = Field(
        "60s", description="How often Vault is asked again after a refusal; at least 1s."
    )
    required: bool = Field(True, description="Whether readiness waits for it.")
    prove: Prove | None = Field(
        None,
        description="The request that shows whether a value works: a new one is tried before it "
        "is handed out, a reported one again. Serves `rotation` too. The value goes where `use` "
        "says, and only to its `origins`.",
    )
    report_statuses: list[RefusalStatus] = Field(
        [401],
        min_length=1,
        description="Statuses of the upstream that a report counts for; a 403 may be about the "
        "account, so `[401, 403]` is a choice.",
    )
    rotation: CredentialRotation | None = Field(
        None, description="How its upstream key is replaced; never when missing."
    )


class Log(Section):
    """The broker's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level.")
    format: Literal["json", "console"] = Field("json", description="JSON lines, or for people.")


class Stop(Section):
    """How the broker ends."""

    delay: Duration = Field(
        "0s",
        description="Linger after 'not ready', for clusters that signal both containers together.",
    )
    timeout: Duration = Field("20s", description="Bound of the whole stop, `delay` included.")


class File(Section):
    """Configuration of the broker."""

    model_config = ConfigDict(title="mcp-secrets-broker configuration")

    vault: Vault = Field(description="Where Vault is and how to speak to it.")
    listeners: Listeners = Field(
        default_factory=Listeners, description="Where the broker can be called."
    )
    clients: dict[Name, Client] = Field(
        {}, description="Callers by name; the name is a directory's name too."
    )
    credentials: dict[Name, Credential] = Field({}, description="Credentials by name.")
    limits: CallerLimits = Field(
        default_factory=CallerLimits, description="How often callers may ask."
    )
    roles: dict[Name, Role] = Field(
        {}, description="Roles by name: who may have what, beside the clients' own lists."
    )
    policies: Policies = Field(default_factory=Policies, description="Policies in Cedar.")
    rotation: Rotation = Field(
        default_factory=Rotation, description="Who replaces the upstream keys themselves."
    )
    kubernetes: Kubernetes = Field(
        default_factory=Kubernetes, description="The Kubernetes API, for rotation only."
    )
    tokens: Tokens = Field(
        default_factory=Tokens, description="Scoped tokens that callers mint for subjects."
    )
    audit: Audit = Field(default_factory=Audit, description="The record of hand-outs.")
    log: Log = Field(default_factory=Log, description="The broker's own log.")
    stop: Stop = Field(default_factory=Stop, description="How the broker ends.")


class _Schema(GenerateJsonSchema):
    """The schema of what people write: no null, for an empty key is a fault, and no titles."""

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        generated = super().dict_schema(schema)
        if "patternProperties" in generated:
            generated["additionalProperties"] = False  # a name of another shape is a fault
        return generated

    def default_schema(self, schema: Any) -> dict[str, Any]:
        generated = super().default_schema(schema)
        if generated.get("default", ...) is None:
            del generated["default"]
        return generated

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's hook
        return False


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file (draft 2020-12), for editors and charts."""
    generated = File.model_json_schema(by_alias=True, schema_generator=_Schema)
    return {"$schema": _Schema.schema_dialect, **generated}
