"""The header fields that repeat what a body says (``Mcp-Method``, ``Mcp-Name``).

Duty: see that they say the same, in both eras. Not its duty: what is decided by them: nothing.
Rules:

* a gateway may have decided by the fields; a body that differs was hidden from it. So a
  difference is refused before any policy is asked, with the SDK's own code;
* clients of the newest era must send them, those of the initialize era send none.

Source: https://modelcontextprotocol.io/specification (Streamable HTTP), ``mcp.shared.inbound``
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    decode_header_value,
    find_duplicated_routing_header,
)
from mcp.types import HEADER_MISMATCH
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS

from broker.client.mcp.message import CALL_TOOL, Fault, Message


def mismatch(headers: Iterable[tuple[str, str]], message: Message) -> Fault | None:
    """What the fields say otherwise than the body; None when they agree.

    Args:
        headers: with lower-case names, as often as they were sent.
        message: the body.
    """
    headers = list(headers)
    twice = find_duplicated_routing_header(headers)
    if twice is not None:
        return Fault(HEADER_MISMATCH, f"{twice} header appears more than once", message.id)
    fields = dict(headers)
    version = fields.get(MCP_PROTOCOL_VERSION_HEADER)
    required = (
        version is not None
        and version not in HANDSHAKE_PROTOCOL_VERSIONS
        and "id" in message.document  # of notifications the newest revision asks nothing
    )
    method = fields.get(MCP_METHOD_HEADER)
    if (method is not None or required) and method != message.method:
        return _fault(MCP_METHOD_HEADER, "method", message)
    key = NAME_BEARING_METHODS.get(message.method)
    named, name = fields.get(MCP_NAME_HEADER), _param(message.document, key)
    if key is None or name is None or (named is None and not required):
        return None
    return None if decode_header_value(named) == name else _fault(MCP_NAME_HEADER, key, message)


def claimed_tool(headers: Iterable[tuple[str, str]]) -> str | None:
    """The tool that the fields name, for a challenge to who showed no bearer."""
    fields = dict(headers)
    if fields.get(MCP_METHOD_HEADER) != CALL_TOOL:
        return None
    return decode_header_value(fields.get(MCP_NAME_HEADER))


def _fault(field: str, member: str, message: Message) -> Fault:
    text = f"{field} header does not match the request body's {member}"
    return Fault(HEADER_MISMATCH, text, message.id)


def _param(document: Mapping[str, Any], key: str | None) -> Any:
    params = document.get("params")
    return params.get(key) if key is not None and isinstance(params, dict) else None
