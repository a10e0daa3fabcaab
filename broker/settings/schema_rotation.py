"""The shape of what the configuration says about rotation.

Duty: as for ``schema``, for the sections about rotation.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, JsonValue

from broker.settings.kinds import Duration, FieldName, HeaderName, Line, Name, Pointer, VaultPath
from broker.settings.section import Section


class RotationState(Section):
    """Where rotations keep their state: `<mount>/data/<prefix>/rotation/<credential>` (KV v2)."""

    mount: VaultPath = Field("secret", description="Mount of the KV engine, version 2.")
    prefix: VaultPath = Field(
        "broker", description="Path below the mount; for nothing else, with a policy of its own."
    )


class Election(Section):
    """The Kubernetes Lease by which one replica leads; times as in client-go."""

    lease: Line = Field("", description="Name of the Lease; `broker-rotation` when missing.")
    namespace: Line = Field("", description="Its namespace; the pod's own when missing.")
    lease_duration: Duration = Field(
        "15s", description="How long others wait after the leader was last heard of."
    )
    renew_deadline: Duration = Field(
        "10s", description="How long the leader tries to renew before it gives up leading."
    )
    retry_period: Duration = Field("2s", description="Time between attempts.")


class Kubernetes(Section):
    """The Kubernetes API: for the election and for Events on the pod. Needed for nothing else."""

    address: Line = Field(
        "",
        description="Origin of the API server; the one that the kubelet names when missing, and "
        "outside a cluster none.",
    )
    token_file: Line = Field(
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        description="Service-account token for the API server: not the one that Vault gets, which "
        "has another audience.",
    )
    ca_file: Line = Field(
        "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        description="PEM file with the cluster's CA.",
    )
    namespace: Line = Field(
        "", description="The pod's own; read from the file `namespace` beside the token if missing."
    )
    pod: Line = Field(
        "", description="The pod's name, by the downward API; without it no Events are written."
    )
    pod_uid: Line = Field(
        "", description="The pod's uid, by the downward API, for `kubectl describe pod`."
    )


class Rotation(Section):
    """Rotation of the upstream keys themselves: who does it."""

    mode: Literal["off", "sidecar", "rotator"] = Field(
        "off",
        description="`sidecar`: each replica may, one leads. `rotator`: a process of its own, "
        "`broker rotator`; sidecars then need no right to write. `off`: nobody.",
    )
    installation: Name | None = Field(
        None,
        description="Name of this installation, in the label of every key it makes; never shared "
        "with another one on the same provider account. Needed unless `mode` is `off`.",
    )
    state: RotationState = Field(
        default_factory=RotationState, description="Where rotations keep their state."
    )
    election: Election = Field(default_factory=Election, description="How one replica leads.")


class Request(Section):
    """One request. URL, headers and body are templates."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(
        description="Method of the request."
    )
    url: Line = Field(
        min_length=1,
        description="Whole URL; `https://`, or `http://` to loopback. What is put into its "
        "placeholders is percent-encoded; host and port have none.",
    )
    headers: dict[HeaderName, Line] = Field({}, description="Further headers; never a secret.")
    body: dict[str, JsonValue] | None = Field(
        None, description="Body as a mapping; its texts are templates. Never a secret."
    )
    encoding: Literal["json", "form"] = Field("json", description="How the body is sent.")


class Answer(Section):
    """JSON pointers (RFC 6901) into the answer to `create`."""

    fields: dict[FieldName, Pointer] = Field(
        description="Fields of the value in Vault, and where the new key's are found.",
        min_length=1,
    )
    id: Pointer = Field(description="Where the provider's id of the key is.")
    expires_at: Pointer | None = Field(None, description="Where the key's expiry is.")


class Create(Request):
    """Makes a key. May use `label`, `credential`, `installation`, `expires_at`, `expires_unix`."""

    life: Duration | None = Field(
        None, description="Life asked for, where `expires_at` or `expires_unix` is used."
    )
    answer: Answer = Field(description="Where things are in the answer.")


class Next(Section):
    """How the next page is asked for."""

    pointer: Pointer = Field(description="Where the cursor is; no more pages when it is empty.")
    parameter: Line = Field(min_length=1, description="Query parameter that carries the cursor.")


class Items(Section):
    """JSON pointers (RFC 6901) into the answer to `list`; all but `items` within one item."""

    items: Pointer = Field(description="Where the list of keys is.")
    id: Pointer = Field(description="Where the key's id is.")
    label: Pointer = Field(description="Where the label is that `create` gave it.")
    created_at: Pointer | None = Field(
        None, description="When it was made; without it no unknown key is ever swept."
    )
    next: Next | None = Field(None, description="How the next page is asked for.")


class Listing(Request):
    """Lists keys, so that one whose answer was lost is found. May use `label_prefix`."""

    answer: Items = Field(description="Where things are in the answer.")


class Retire(Request):
    """Ends a key; one that is gone already (404) is no error. Uses `id`."""


class HttpDriver(Section):
    """A provider's own key-management API."""

    kind: Literal["http"] = Field(description="`http`: a provider's key-management API.")
    auth: Name = Field(
        description="The credential that may manage keys; it goes where its own `use` says, and "
        "only to its `origins`."
    )
    create: Create = Field(description="Makes a key.")
    listing: Listing | None = Field(
        None, alias="list", description="Lists keys; without it set `orphans: accepted`."
    )
    retire: Retire = Field(description="Ends a key.")
    times: Literal["rfc3339", "unix", "unix_ms"] = Field(
        "rfc3339", description="How the provider writes points in time in its answers."
    )
    timeout: Duration = Field("10s", description="Deadline of one whole exchange.")
    ca_file: Line = Field("", description="PEM file with the provider's CA; else the system's.")


class GeneratedDriver(Section):
    """Random keys, published in Vault for the service that accepts them."""

    kind: Literal["generated"] = Field(
        description="`generated`: random keys for a service that reads what it accepts from Vault."
    )
    mount: VaultPath = Field(description="KV v2 mount of the accepted keys.")
    path: VaultPath = Field(description="Path of the accepted keys below the mount.")
    publish: Literal["sha256", "plain"] = Field(
        "sha256", description="What the service reads: the key's SHA-256 in hex, or the key."
    )
    field: FieldName = Field(description="Field of the credential's value that holds the key.")
    prefix: Line = Field("", description="Text every key starts with.")
    length: int = Field(43, ge=22, le=512, description="Random characters after the prefix.")
    alphabet: Literal["base62", "hex"] = Field(
        "base62", description="Of letters and digits, or of hexadecimal digits."
    )


class VaultRoleDriver(Section):
    """A static role that Vault replaces in place: the old password ends at once."""

    kind: Literal["vault_role"] = Field(
        description="`vault_role`: `<mount>/rotate-role/<role>` for a source of kind "
        "`static_role`; no overlap, no proof before, no way back."
    )


class Prove(Request):
    """Shows whether a key works: 2xx it does, 401 and 403 it does not, else nobody knows."""

    timeout: Duration = Field("10s", description="Deadline of one whole exchange.")
    ca_file: Line = Field("", description="PEM file with the upstream's CA; else the system's.")


Driver: TypeAlias = HttpDriver | GeneratedDriver | VaultRoleDriver


class CredentialRotation(Section):
    """How this credential's upstream key is replaced (docs/rotation.md)."""

    driver: Annotated[Driver, Field(discriminator="kind")] = Field(
        description="What makes and ends keys."
    )
    max_age: Duration = Field("30d", description="Age at which a key is replaced, less jitter.")
    before_expiry: Duration = Field(
        "1d", description="How long before its own expiry a key is replaced."
    )
    overlap: Duration = Field(
        "2h",
        description="How long the old key works beside the new; at least poll and its jitter, "
        "hold and max_staleness together.",
    )
    settle: Duration = Field(
        "30s", description="How long a new key that fails its proof is tried again."
    )
    prove: Prove | None = Field(
        None,
        description="The request that shows whether a key works, as the credential's own `prove`, "
        "which serves when this is missing; not both.",
    )
    orphans: Literal["refused", "accepted"] = Field(
        "refused",
        description="`accepted`: the driver cannot list keys, and one whose answer was lost may "
        "stay behind.",
    )
