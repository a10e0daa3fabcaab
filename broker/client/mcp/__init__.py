"""Inside an MCP server of the ``mcp`` SDK: ``install(server)``; in front of it a ``Guard``.

Nothing but this package imports ``mcp``, and nothing else of the client imports this package.
"""

from __future__ import annotations

from broker.client.mcp.guard import Guard
from broker.client.mcp.installing import HasMiddleware, install
from broker.client.mcp.issuer import Issuer
from broker.client.mcp.masking import Masking
from broker.client.mcp.naming import ToolNaming
from broker.client.mcp.texts import text_for_model
from broker.client.mcp.verifier import BrokerTokenVerifier, unavailable_as_503

__all__ = [
    "BrokerTokenVerifier",
    "Guard",
    "HasMiddleware",
    "Issuer",
    "Masking",
    "ToolNaming",
    "install",
    "text_for_model",
    "unavailable_as_503",
]
