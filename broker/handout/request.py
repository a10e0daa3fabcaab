"""What is known of a request beside the caller and the credential [pure].

Duty: carry it to the audit. Not its duty: proof; all but ``peer_uid`` and ``address`` is claimed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.errors import RequestMalformed

LONGEST: Final = 128
"""Characters of a claim; MCP allows a tool's name as many."""


class Request(NamedTuple):
    """One request, for the audit."""

    id: str
    """The broker's own id of the request."""
    peer_uid: int | None = None
    """``SO_PEERCRED``; None on TCP."""
    tool: str = ""
    """The MCP tool, as claimed by the caller."""
    mcp_request_id: str = ""
    """Id of the MCP request behind it, as claimed by the caller."""
    address: str = ""
    """Of the peer; empty on a Unix socket."""

    def check(self) -> None:
        """See that the claims are short and printable.

        Raises:
            RequestMalformed: one is not.
        """
        for claim in (self.tool, self.mcp_request_id):
            if len(claim) > LONGEST or not claim.isprintable():
                raise RequestMalformed(
                    f"Tool and MCP request id are at most {LONGEST} printable characters."
                )
