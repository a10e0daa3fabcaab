"""What a running broker may apply, and what waits for a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from broker.settings.diff import diff
from broker.settings.domain import (
    AuditSettings,
    AuthSettings,
    ClientSettings,
    CredentialSettings,
    ListenerSettings,
    LogSettings,
    Settings,
    SourceSettings,
    StopSettings,
    TlsSettings,
    VaultSettings,
)
from broker.settings.domain_limits import CallerLimitSettings, LimitRuleSettings
from broker.settings.domain_rotation import (
    CredentialRotationSettings,
    GeneratedDriverSettings,
    KubernetesSettings,
)
from broker.settings.domain_tokens import TokenSettings

SOURCE = SourceSettings(kind="kv", mount="secret", path="a")
OLD = Settings(
    vault=VaultSettings(address="https://vault.example"),
    clients={"one": ClientSettings("one", ("a", "b")), "two": ClientSettings("two", ("a",))},
    credentials={"a": CredentialSettings("a", SOURCE), "b": CredentialSettings("b", SOURCE)},
)


def test_equal_settings_have_no_difference() -> None:
    """A touched file with the same content changes nothing."""
    found = diff(OLD, replace(OLD))

    assert not found
    assert found.effective == OLD


def test_credentials_are_added_removed_and_changed_at_once() -> None:
    """New, gone and altered credentials are named apart and all applied."""
    slower = CredentialSettings("b", replace(SOURCE, poll=120.0))
    new = replace(OLD, credentials={"b": slower, "c": CredentialSettings("c", SOURCE)})

    found = diff(OLD, new)

    assert (found.added, found.removed, found.changed) == (("c",), ("a",), ("b",))
    assert found.hot == ("credentials.c", "credentials.a", "credentials.b")
    assert found.restart == ()
    assert found.effective == new


def test_a_clients_list_is_applied_at_once() -> None:
    """What a known client may have changes without a restart."""
    new = replace(OLD, clients={**OLD.clients, "two": ClientSettings("two", ("b",))})

    found = diff(OLD, new)

    assert (found.hot, found.restart) == (("clients.two.credentials",), ())
    assert found.effective.clients["two"].credentials == ("b",)


def test_a_client_that_is_gone_may_have_nothing_from_now_on() -> None:
    """Rights are withdrawn at once; the socket goes with the restart."""
    found = diff(OLD, replace(OLD, clients={"two": OLD.clients["two"]}))

    assert found.hot == ("clients.one.credentials",)
    assert found.restart == ("clients.one",)
    assert found.effective.clients["one"].credentials == ()


def test_a_new_client_waits_for_a_restart() -> None:
    """A client that was not there at start is not let in before its socket exists."""
    found = diff(OLD, replace(OLD, clients={**OLD.clients, "new": ClientSettings("new", ("a",))}))

    assert (found.hot, found.restart) == ((), ("clients.new",))
    assert found.effective == OLD


def test_another_proof_waits_but_the_list_beside_it_does_not() -> None:
    """Of one client, the list is applied and the proof stays as it was."""
    changed = ClientSettings("one", ("a",), proof="uid", uid=1001)

    found = diff(OLD, replace(OLD, clients={**OLD.clients, "one": changed}))

    assert found.hot == ("clients.one.credentials",)
    assert found.restart == ("clients.one.proof", "clients.one.uid")
    assert found.effective.clients["one"] == ClientSettings("one", ("a",))


def test_limits_are_hot() -> None:
    """They are read anew at their next use."""
    limits = CallerLimitSettings(
        default="60/minute", rules={"a": LimitRuleSettings("1/second")}, failed_authentications=None
    )
    found = diff(OLD, replace(OLD, limits=limits))

    assert found.hot == ("limits.default", "limits.rules", "limits.failed_authentications")
    assert found.restart == ()
    assert found.effective.limits == limits


def test_log_and_the_audit_rule_are_hot() -> None:
    """Level, format and what a failing audit means change at once."""
    new = replace(OLD, log=LogSettings("debug", "console"), audit=AuditSettings(on_failure="allow"))

    found = diff(OLD, new)

    assert found.hot == ("log.level", "log.format", "audit.on_failure")
    assert (found.restart, found.effective) == ((), new)


@pytest.mark.parametrize(
    ("new", "keys"),
    [
        pytest.param(
            replace(OLD, vault=VaultSettings(address="https://other.example")),
            ("vault.address",),
            id="address",
        ),
        pytest.param(
            replace(
                OLD,
                vault=replace(
                    OLD.vault, tls=TlsSettings(ca_file="/ca"), auth=AuthSettings(role="r")
                ),
            ),
            ("vault.tls.ca_file", "vault.auth.role"),
            id="tls and login",
        ),
        pytest.param(
            replace(OLD, listeners=ListenerSettings(tcp=())), ("listeners.tcp",), id="listeners"
        ),
        pytest.param(replace(OLD, audit=AuditSettings(file="/a")), ("audit.file",), id="audit"),
        pytest.param(
            replace(OLD, audit=AuditSettings(key_file="/k", max_bytes=65536, keep=3, sync=True)),
            ("audit.key_file", "audit.max_bytes", "audit.keep", "audit.sync"),
            id="audit files",
        ),
        pytest.param(replace(OLD, stop=StopSettings(delay=1.0)), ("stop.delay",), id="stop"),
    ],
)
def test_the_rest_needs_a_restart(new: Settings, keys: tuple[str, ...]) -> None:
    """Each key that shaped the process is named and nothing of it is applied."""
    found = diff(OLD, new)

    assert (found.hot, found.restart) == ((), keys)
    assert found.effective == OLD


def leaves(value: Settings) -> list[tuple[str, Settings]]:
    """Each key outside clients and credentials, and settings that differ in it alone."""

    def walk(one: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for field in fields(one):
            inner = getattr(one, field.name)
            if is_dataclass(inner):
                yield from walk(inner, (*path, field.name))
            elif field.name not in {"clients", "credentials", "roles"}:
                yield (*path, field.name)

    def changed(one: Any, path: tuple[str, ...]) -> Any:
        inner = changed(getattr(one, path[0]), path[1:]) if path[1:] else object()
        return replace(one, **{path[0]: inner})

    return [(".".join(path), changed(value, path)) for path in walk(value, ())]


@pytest.mark.parametrize(("key", "new"), leaves(OLD))
def test_no_key_is_overlooked(key: str, new: Settings) -> None:
    """A change of any one key is reported under its name, once."""
    found = diff(OLD, new)

    assert [*found.hot, *found.restart] == [key]


def test_another_way_to_rotate_waits_for_a_restart() -> None:
    """The credential is applied; what rotates it was built at the start."""
    rotation = CredentialRotationSettings(GeneratedDriverSettings("secret", "accepted", "key"))
    rotated = {**OLD.credentials, "a": CredentialSettings("a", SOURCE, rotation=rotation)}

    found = diff(OLD, replace(OLD, credentials=rotated))

    assert found.hot == ("credentials.a",)
    assert found.restart == ("credentials.a.rotation",)
    assert diff(replace(OLD, credentials=rotated), OLD).restart == ("credentials.a.rotation",)


def test_lives_of_tokens_are_hot_and_their_store_is_not() -> None:
    """What is minted from now on lives as told; where tokens are kept was chosen at the start."""
    new = replace(OLD, tokens=TokenSettings(store="off", life=60.0, max_life=120.0, max_tokens=5))

    found = diff(OLD, new)

    assert found.hot == ("tokens.life", "tokens.max_life")
    assert found.restart == ("tokens.store", "tokens.max_tokens")
    assert found.effective.tokens == TokenSettings(life=60.0, max_life=120.0)


def test_where_kubernetes_is_waits_for_a_restart() -> None:
    """Election and Events were opened at the start."""
    found = diff(OLD, replace(OLD, kubernetes=KubernetesSettings(pod="broker-1")))

    assert found.restart == ("kubernetes.pod",)
