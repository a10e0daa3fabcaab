"""The parts that mint and verify scoped tokens, as the configuration asks for them.

Duty: choose the store; make store, records and desk; name their tasks.
Not its duty: what they do (``access.tokens``).
Rules:

* with ``store: shared`` nothing is asked of Vault before a token is minted or shown;
* what that store is made of is loaded with it alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from broker.access.authorizer import Authorizer
from broker.access.tokens.minting import TokenDesk
from broker.access.tokens.pod import PodTokens
from broker.access.tokens.port import TokenStore
from broker.access.tokens.records import TokenLog
from broker.audit.log import AuditLog
from broker.clock import Clock
from broker.settings.domain import Settings
from broker.settings.domain_tokens import TokenSettings
from broker.telemetry.events import Events
from broker.telemetry.metrics import Metrics
from broker.vault.interface import SessionPort

if TYPE_CHECKING:
    from broker.access.tokens.documents import TokensVault


@dataclass(frozen=True, slots=True)
class Parts:
    """What scoped tokens are made of."""

    clock: Clock
    vault: TokensVault
    session: SessionPort
    authorizer: Authorizer
    audit: AuditLog
    metrics: Metrics
    events: Events
    mask: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Scoped tokens in this process."""

    store: TokenStore
    desk: TokenDesk
    records: TokenLog

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What runs for ever, by name."""
        return self.store.tasks()

    def configure(self, settings: Settings) -> None:
        """Take over a new configuration."""
        lives = settings.tokens
        self.desk.configure(life=lives.life, max_life=lives.max_life, clients=settings.clients)


def build_tokens(settings: Settings, parts: Parts) -> Tokens | None:
    """Make them; None when they are off."""
    configured = settings.tokens
    if configured.store == "off":
        return None
    records = TokenLog(
        clock=parts.clock,
        audit=parts.audit,
        metrics=parts.metrics.tokens,
        events=parts.events,
        mask=parts.mask,
    )
    store = _store(configured, parts, records)
    parts.metrics.tokens.alive = store.live
    desk = TokenDesk(
        clock=parts.clock,
        store=store,
        authorizer=parts.authorizer,
        records=records,
        life=configured.life,
        max_life=configured.max_life,
        clients=settings.clients,
    )
    return Tokens(store, desk, records)


def _store(configured: TokenSettings, parts: Parts, records: TokenLog) -> TokenStore:
    if configured.store == "pod":
        return PodTokens(clock=parts.clock, watch=records, most=configured.max_tokens)
    from broker.access.tokens.documents import TokenDocuments
    from broker.access.tokens.shared import SharedTokens

    shared = SharedTokens(
        clock=parts.clock,
        documents=TokenDocuments(
            clock=parts.clock,
            vault=parts.vault,
            session=parts.session,
            mount=configured.mount,
            path=configured.path,
            random_bytes=secrets.token_bytes,
        ),
        watch=records,
        most=configured.max_tokens,
        grace=configured.revocation_grace,
    )
    parts.metrics.tokens.revocations_age = shared.revocations_age
    return shared
