"""The least Vault policy that a process can work with [pure].

Duty: from the configuration, the paths and capabilities one process uses; as HCL.
Not its duty: writing it to Vault (the operator's), the role it is bound to.
Rules:

* nothing stands in it that no request of the process needs: a test on a real server takes
  each line away and sees something break;
* no path is a pattern: a name that Vault would read as one is refused;
* what Vault's ``default`` policy allows is repeated, so that a role may do without it
  (``token_no_default_policy``).

Source: https://developer.hashicorp.com/vault/docs/concepts/policies ,
https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from broker.app.translate_rotation import rotate_path
from broker.errors import SettingsError
from broker.settings.domain import CredentialSettings, Settings, SourceSettings
from broker.settings.domain_rotation import GeneratedDriverSettings, VaultRoleDriverSettings
from broker.settings.processes import Process, held, rotates

Capability = Literal["create", "read", "update"]
_ORDER: Final[tuple[Capability, ...]] = ("create", "read", "update")


@dataclass(frozen=True, slots=True)
class Rule:
    """What one path is used for."""

    path: str
    capabilities: tuple[Capability, ...]
    why: str
    """In words, for the comment above it."""


def rules(settings: Settings, process: Process) -> tuple[Rule, ...]:
    """All paths of a process; each path once, with all it is used for.

    Raises:
        SettingsError: a path in the configuration is a pattern in a policy, or this process
            has nothing to do.
    """
    if process == "rotator" and not rotates(settings, process):
        raise SettingsError(
            f"is {settings.rotation.mode}, so 'broker rotator' has nothing to do",
            key="rotation.mode",
            remedy="Set it to rotator, or print the policy of 'broker run'.",
        )
    merged: dict[str, Rule] = {}
    for rule in _rules(settings, process):
        _plain(rule.path)
        known = merged.get(rule.path)
        merged[rule.path] = rule if known is None else _both(known, rule)
    return tuple(merged.values())


def _both(one: Rule, other: Rule) -> Rule:
    wanted = {*one.capabilities, *other.capabilities}
    why = one.why if other.why in one.why else f"{one.why}; {other.why}"
    return Rule(one.path, tuple(each for each in _ORDER if each in wanted), why)


def hcl(found: tuple[Rule, ...]) -> str:
    """The rules as a policy that ``vault policy write`` takes."""
    return "\n".join(
        f"# {rule.why}\n"
        f"path {json.dumps(rule.path)} {{\n"
        f"  capabilities = {json.dumps(list(rule.capabilities))}\n"
        "}\n"
        for rule in found
    )


def _rules(settings: Settings, process: Process) -> Iterator[Rule]:
    yield Rule("auth/token/lookup-self", ("read",), "the process's own token: is it alive?")
    if settings.vault.auth.method != "token_file":
        yield Rule("auth/token/renew-self", ("update",), "the process's own token: a longer life")
        yield Rule("auth/token/revoke-self", ("update",), "the process's own token: its end")
    if process == "broker" and settings.tokens.store == "shared":
        where = f"{settings.tokens.mount}/data/{settings.tokens.path}"
        yield Rule(f"{where}/key", ("create", "read"), "scoped tokens: the signing key")
        changes: tuple[Capability, ...] = ("create", "read", "update")
        yield Rule(f"{where}/revocations", changes, "scoped tokens: what is revoked")
    names = held(settings, process)
    leased = False
    for name in names:
        one = settings.credentials[name]
        leased |= one.source.kind == "leased"
        yield from _source(one.source, name)
    if leased:
        yield Rule("sys/leases/renew", ("update",), "longer lives for leases")
        yield Rule("sys/leases/revoke", ("update",), "the end of leases")
    if rotates(settings, process):
        for name in names:
            one = settings.credentials[name]
            if one.rotation is not None:
                yield from _rotation(settings, one)


def _source(source: SourceSettings, name: str) -> Iterator[Rule]:
    if source.kind != "kv":
        yield Rule(source.path, ("read" if source.method == "read" else "update",), f"{name}: take")
    elif source.kv_version == 2:
        yield Rule(f"{source.mount}/data/{source.path}", ("read",), f"{name}: read")
    else:
        yield Rule(f"{source.mount}/{source.path}", ("read",), f"{name}: read")


def _rotation(settings: Settings, one: CredentialSettings) -> Iterator[Rule]:
    """What rotating one credential needs beside reading it."""
    state, name, source = settings.rotation.state, one.name, one.source
    changes: tuple[Capability, ...] = ("create", "read", "update")
    where = f"{state.prefix}/rotation/{name}"
    yield Rule(f"{state.mount}/data/{where}", changes, f"{name}: state of its rotation")
    driver = one.rotation.driver if one.rotation else None
    if isinstance(driver, VaultRoleDriverSettings):
        yield Rule(rotate_path(source.path), ("update",), f"{name}: replace in place")
        return
    yield Rule(f"{state.mount}/destroy/{where}", ("update",), f"{name}: staged keys, gone for good")
    yield Rule(f"{source.mount}/data/{source.path}", changes, f"{name}: promote")
    yield Rule(
        f"{source.mount}/delete/{source.path}", ("update",), f"{name}: withdraw when compromised"
    )
    if isinstance(driver, GeneratedDriverSettings):
        yield Rule(f"{driver.mount}/data/{driver.path}", changes, f"{name}: accepted keys")


def _plain(path: str) -> None:
    if path.endswith("*") or "+" in path.split("/") or any(sign in path for sign in "{}"):
        raise SettingsError(
            f"has a path that a policy takes for a pattern: {path}",
            key="credentials",
            remedy="Rename it in Vault, or write its line of the policy by hand.",
        )
