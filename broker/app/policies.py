"""Policies of a configuration, put together.

Duty: from settings to the authorizer they ask for; remarks on roles; a policy by its id.
Not its duty: deciding (``access``), reading files (``settings.load``).
Rules: Cedar is loaded only where roles or policies are configured: a broker with plain lists
does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from broker.access.authorizer import Authorizer, ListAuthorizer
from broker.access.roles import Role, Window, list_id
from broker.app import translate
from broker.app.diagnosis_login import claims
from broker.clock import Clock
from broker.errors import TokenFileUnusable
from broker.settings.domain import CredentialSettings, Settings, SourceSettings
from broker.settings.environment import Advice
from broker.settings.literals import dotted
from broker.settings.places import Path, Place
from broker.settings.rules_access import granted, has_policies
from broker.settings.rules_rotation import lends
from broker.vault.login import read_token

if TYPE_CHECKING:
    from broker.access.policies import Policies
    from broker.access.policy_sources import Sources


def compiled(
    settings: Settings,
    *,
    file: str = "",
    service_account: str = "",
    callers: Iterable[str] = (),
) -> Policies | None:
    """The policies of a configuration; None when plain lists are all there is.

    Args:
        settings: with the texts of policy files.
        file: the configuration's name, for places.
        service_account: of this pod, if known.
        callers: further clients that policies may name, though they ask for nothing yet.

    Raises:
        SettingsErrors: with every fault of the policy files.
    """
    if not has_policies(settings):
        return None
    from broker.access.policies import Policies

    return Policies(sources(settings, file=file, service_account=service_account, callers=callers))


def sources(
    settings: Settings,
    *,
    file: str = "",
    service_account: str = "",
    callers: Iterable[str] = (),
) -> Sources:
    """What the policies are made of; arguments as for ``compiled``."""
    from broker.access.policy_sources import PolicyFile, Sources, Target
    from broker.access.vocabulary import Vocabulary

    zones = dict.fromkeys(settings.policies.zones)
    for role in settings.roles.values():
        zones |= dict.fromkeys(window.zone for window in role.times)
    return Sources(
        clients={name: one.credentials for name, one in settings.clients.items()},
        credentials={
            name: Target(one.source.kind, one.source.mount, one.source.path)
            for name, one in _for_callers(settings).items()
        },
        roles=roles(settings),
        files=tuple(PolicyFile(one.path, one.text) for one in settings.policies.texts),
        tools=settings.policies.tools,
        vocabulary=Vocabulary(
            zone=settings.policies.zone,
            zones=tuple(zones),
            arguments=settings.policies.arguments,
            service_account=service_account,
        ),
        file=file,
        known_callers=frozenset(callers),
    )


def roles(settings: Settings) -> tuple[Role, ...]:
    """The roles as plain values."""
    return tuple(
        Role(
            name=one.name,
            callers=one.callers,
            subjects=one.subjects,
            tools=one.tools,
            credentials=one.credentials,
            paths=one.paths,
            times=tuple(Window(w.zone, w.days, w.start, w.end) for w in one.times),
            addresses=one.addresses,
            actions=one.actions,
        )
        for one in settings.roles.values()
    )


def authorizer(settings: Settings, policies: Policies | None, clock: Clock) -> Authorizer:
    """The authorizer that a configuration asks for."""
    if policies is None:
        return ListAuthorizer(translate.clients(settings), settings.credentials)
    from broker.access.policy import PolicyAuthorizer

    return PolicyAuthorizer(clock, policies)


def service_account(settings: Settings) -> str:
    """``namespace/name`` of the pod's service account by its token; empty when not known."""
    auth = settings.vault.auth
    if auth.method != "kubernetes":
        return ""
    try:
        found = claims(read_token(FilePath(auth.token_file)))
    except TokenFileUnusable:
        return ""
    match found.subject.split(":") if found else []:
        case ["system", "serviceaccount", namespace, name]:
            return f"{namespace}/{name}"
    return ""


def remarks(settings: Settings, place: Callable[[Path], Place]) -> list[Advice]:
    """What is probably wrong with the roles, to be said at each start."""
    if not settings.roles:
        return []
    from broker.access.roles_analysis import analyse

    lists = {name: one.credentials for name, one in settings.clients.items()}
    paths = {name: whole_path(one.source) for name, one in _for_callers(settings).items()}
    found = []
    for one in analyse(roles(settings), lists, paths):
        at = place(one.path)
        found.append(Advice(one.message, at.file, at.line, dotted(one.path), one.remedy))
    return found


def _for_callers(settings: Settings) -> dict[str, CredentialSettings]:
    """Credentials that policies are about.

    What only drivers use must be named to be handed out: no glob and no policy about
    everything gives away what may manage keys.
    """
    kept_back = lends(settings) - granted(settings)
    return {name: one for name, one in settings.credentials.items() if name not in kept_back}


def whole_path(source: SourceSettings) -> str:
    """Path of a credential in Vault, mount included."""
    return f"{source.mount}/{source.path}" if source.mount else source.path


def describe(settings: Settings, policy_id: str, *, file: str = "") -> str:
    """Place and text of a policy, as the audit names it; empty when there is none by this id.

    Raises:
        SettingsErrors: the policy files have faults.
    """
    policies = compiled(settings, file=file)
    if policies is not None:
        return policies.describe(policy_id)
    for name, client in settings.clients.items():
        if policy_id == list_id(name):
            key = f"clients.{name}.credentials"
            place = f"{file}: {key}" if file else key
            return f"{policy_id} ({place})\nfor any tool: {', '.join(client.credentials)}"
    return ""
