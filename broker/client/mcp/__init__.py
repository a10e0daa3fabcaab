"""The client inside an MCP server of the ``mcp`` SDK: one line, ``install(server)``.

Nothing but this package imports ``mcp``, and nothing else of the client imports this package.
"""

from __future__ import annotations

from broker.client.mcp.installing import HasMiddleware, install
from broker.client.mcp.masking import Masking
from broker.client.mcp.naming import ToolNaming
from broker.client.mcp.texts import text_for_model

__all__ = ["HasMiddleware", "Masking", "ToolNaming", "install", "text_for_model"]
