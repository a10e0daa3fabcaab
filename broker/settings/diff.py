"""What of a changed configuration can be applied to a running broker [pure].

Duty: compare two settings; say what to apply at once and what needs a restart.
Not its duty: applying it (``app.reload``).
Rules:

* hot: credentials; what a client may have, by list, role and policy; ``limits``; ``log``;
  ``audit.on_failure``; lives of scoped tokens (of those that are minted from then on). These
  are the keys that change in daily work, and each is read anew at its next use;
* a client that is gone from the file may have nothing from now on: a withdrawal of rights
  never waits for a restart, though its socket stays until then;
* who is rotated, and how, waits for a restart, whatever else of the credential changed;
* all else (Vault's address, login, listeners, new clients, proofs) decides what the process
  opened at its start, so it needs a restart and changes nothing until then.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final

from broker.settings.domain import ClientSettings, Settings

_TOKEN_LIVES: Final = frozenset({"tokens.life", "tokens.max_life"})


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed, by dotted keys, and the settings to go on with."""

    effective: Settings
    """The old settings with everything applied that can be."""
    added: tuple[str, ...] = ()
    """Names of new credentials."""
    removed: tuple[str, ...] = ()
    """Names of credentials that are gone."""
    changed: tuple[str, ...] = ()
    """Names of credentials with other settings."""
    hot: tuple[str, ...] = ()
    """Dotted keys that ``effective`` has new, the credentials' included."""
    restart: tuple[str, ...] = ()
    """Dotted keys that differ and need a restart."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.hot or self.restart)


def diff(old: Settings, new: Settings) -> Difference:
    """Compare the settings in use with those of the changed file."""
    added = tuple(name for name in new.credentials if name not in old.credentials)
    removed = tuple(name for name in old.credentials if name not in new.credentials)
    changed = tuple(
        name
        for name, one in new.credentials.items()
        if name in old.credentials and old.credentials[name] != one
    )
    hot = [f"credentials.{name}" for name in (*added, *removed, *changed)]
    hot += [
        f"roles.{name}"
        for name in {**old.roles, **new.roles}
        if old.roles.get(name) != new.roles.get(name)
    ]
    hot += _keys(old.policies, new.policies, "policies")
    hot += _keys(old.limits, new.limits, "limits")
    hot += _keys(old.log, new.log, "log")
    restart = _keys(old.vault, new.vault, "vault") + _keys(
        old.listeners, new.listeners, "listeners"
    )
    for key in _keys(old.audit, new.audit, "audit"):
        (hot if key == "audit.on_failure" else restart).append(key)
    for key in _keys(old.tokens, new.tokens, "tokens"):
        (hot if key in _TOKEN_LIVES else restart).append(key)
    restart += _keys(old.rotation, new.rotation, "rotation") + _keys(old.stop, new.stop, "stop")
    restart += _keys(old.kubernetes, new.kubernetes, "kubernetes")
    restart += _rotations(old, new)
    clients = _clients(old, new, hot, restart)
    effective = replace(
        old,
        credentials=new.credentials,
        clients=clients,
        roles=new.roles,
        policies=new.policies,
        limits=new.limits,
        log=new.log,
        audit=replace(old.audit, on_failure=new.audit.on_failure),
        tokens=replace(old.tokens, life=new.tokens.life, max_life=new.tokens.max_life),
    )
    return Difference(effective, added, removed, changed, tuple(hot), tuple(restart))


def _rotations(old: Settings, new: Settings) -> list[str]:
    """Which credentials are rotated otherwise: what carries that out is built at the start."""
    before = {name: one.rotation for name, one in old.credentials.items() if one.rotation}
    after = {name: one.rotation for name, one in new.credentials.items() if one.rotation}
    return [
        f"credentials.{name}.rotation"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def _clients(
    old: Settings, new: Settings, hot: list[str], restart: list[str]
) -> dict[str, ClientSettings]:
    """The clients to go on with; writes down what is applied and what is not."""
    result: dict[str, ClientSettings] = {}
    for name, before in old.clients.items():
        after = new.clients.get(name)
        if after is None:
            restart.append(f"clients.{name}")
            after = replace(before, credentials=())
        else:
            restart += [
                key
                for key in _keys(before, after, f"clients.{name}")
                if not key.endswith(".credentials")
            ]
        if after.credentials != before.credentials:
            hot.append(f"clients.{name}.credentials")
        result[name] = replace(before, credentials=after.credentials)
    restart += [f"clients.{name}" for name in new.clients if name not in old.clients]
    return result


def _keys(old: Any, new: Any, at: str) -> list[str]:
    """Dotted keys in which two settings of one class differ."""
    if not is_dataclass(old) or isinstance(old, type):
        return [at] if old != new else []
    found: list[str] = []
    for field in fields(old):
        found += _keys(getattr(old, field.name), getattr(new, field.name), f"{at}.{field.name}")
    return found
