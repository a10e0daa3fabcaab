"""The proofs that the configuration asks for.

Duty: make one for each credential with ``prove``.
Not its duty: checking settings (``settings.rules_requests``), when to prove
(``credentials.requests``, ``rotation.plan``).
Rules:

* a credential and its rotation share one, so that what the rotation has just proved is not
  asked again before readers have it;
* the HTTP client is loaded where there is something to prove, and by no other process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from broker.app import translate
from broker.clock import Clock
from broker.secret import SecretValue
from broker.settings.domain import CredentialSettings, Settings
from broker.settings.domain_rotation import ProveSettings, RequestSettings

if TYPE_CHECKING:
    from broker.rotation.drivers.documents import RequestTemplate
    from broker.rotation.drivers.proof import HttpProof


def proofs(
    settings: Settings, clock: Clock, met: Callable[[Iterable[SecretValue]], None] = lambda _: None
) -> dict[str, HttpProof]:
    """A proof for each credential that has one of its own, by name; ``met``: see ``HttpProof``."""
    return {
        name: proof(one, one.prove, clock, met)
        for name, one in settings.credentials.items()
        if one.prove is not None
    }


def proof(
    one: CredentialSettings,
    prove: ProveSettings,
    clock: Clock,
    met: Callable[[Iterable[SecretValue]], None] = lambda _: None,
) -> HttpProof:
    """One proof."""
    from broker.rotation.drivers.exchange import Exchange  # see the rules
    from broker.rotation.drivers.proof import HttpProof

    exchange = Exchange(clock=clock, timeout=prove.timeout, ca_file=prove.ca_file)
    return HttpProof(
        translate.credential(one), template(prove.request), exchange, clock=clock, met=met
    )


def template(request: RequestSettings) -> RequestTemplate:
    """A request as drivers and proofs send it."""
    from broker.rotation.drivers.documents import RequestTemplate  # as above

    return RequestTemplate(
        request.method, request.url, request.headers, request.body, request.encoding
    )
