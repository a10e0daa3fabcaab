"""For authors of MCP servers: ask the broker, use the value, report a refusal.

``broker`` is a client made from ``BROKER_URL`` and ``BROKER_TOKEN_FILE``, read at its first
request; ``docs/client.md`` shows it at work.
"""

from __future__ import annotations

from typing import Final

from broker.client.aio import Broker
from broker.client.auth import Auth
from broker.client.credential import Credential, Use
from broker.client.pinned import Pinned
from broker.client.sync import SyncBroker

__all__ = ["Auth", "Broker", "Credential", "Pinned", "SyncBroker", "Use", "broker"]

broker: Final = Broker()
