"""The bytes of a hand-out, prepared before anyone asks.

Duty: turn an entry into the answers 200 and 304 that hold for a moment (a *tick*).
Not its duty: deciding who gets them, and recording it (``service``).
Rules:

* this is where secrets are revealed, and nowhere else on the broker's side;
* what is stated is true to the last instant of the tick: an end is never later, a life
  never longer, than it is when the answer leaves;
* an answer holds secrets: it does not print them, and it is dropped with its entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, ready to be sent."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    """Lower-case names, as ASGI wants them; ``content-length`` included, except for a 304."""
    body: bytes = field(repr=False)
    head: bytes
    """The same status and headers as HTTP/1.1 bytes, each line ended, the empty line after
    them left to the sender, who may add his own (request id, connection)."""
    version: str
