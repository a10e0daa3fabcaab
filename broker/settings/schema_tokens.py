"""The shape of what the configuration says about scoped tokens.

Duty: as for ``schema``, for the section ``tokens``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from broker.settings.kinds import Duration, VaultPath
from broker.settings.section import Section


class Tokens(Section):
    """Scoped tokens: short-lived, for one subject, some tools and some credentials."""

    store: Literal["off", "pod", "shared"] = Field(
        "pod",
        description="`pod`: in this process's memory, gone with it. `shared`: signed, good at "
        "every replica and revoked at every replica, by way of Vault. `off`: none.",
    )
    life: Duration = Field("15m", description="Life of a token that is asked for without one.")
    max_life: Duration = Field("1h", description="Longest life of a token; at most 24h.")
    max_tokens: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Tokens alive that one client may have, of those this process knows.",
    )
    mount: VaultPath = Field(
        "secret", description="Mount of the KV engine, version 2, for `shared`."
    )
    path: VaultPath | None = Field(
        None,
        description="Path below the mount, for `shared`: `<path>/key` and `<path>/revocations`; "
        "one for each installation, for nothing else.",
    )
    revocation_grace: Duration = Field(
        "10s",
        description="How long tokens of `shared` are taken while the revocations cannot be read.",
    )
