"""Hearing of revocations: the broker's event stream, followed.

Duty: stay connected; tell of each revoked token, and of each time something may have been missed.
Not its duty: what is dropped then (``introspection``).
Rules:

* nothing is replayed to who comes late, so a connection that begins or ends, a gap, and an
  event that cannot be read all mean "any token may have been revoked";
* silence past ``SILENCE`` is an end: the broker says something every 15 s;
* it never gives up, and an outage is logged once, not at each attempt.
"""

from __future__ import annotations

import json
import logging
from typing import Final

import httpx2

from broker.client.aio import Broker
from broker.client.mcp.introspection import Introspection
from broker.client.sse import EventReader, ServerEvent
from broker.errors import BrokerError, BrokerUnreachable
from broker.protocol import names

log = logging.getLogger("broker.client.mcp")

SILENCE: Final = 25.0
"""Seconds without a byte after which a stream is lost: a heartbeat and more than half another."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between attempts to connect: doubled from the first to the longest."""


async def follow(broker: Broker, introspection: Introspection) -> None:
    """Follow for ever; ends when it is cancelled."""
    pause, lost = FIRST_PAUSE, False
    while True:
        heard = False
        try:
            async with broker.stream(names.EVENTS_PATH, silence=SILENCE) as response:
                _check(broker, response)
                reader = EventReader()
                async for chunk in response.aiter_bytes():
                    if not heard:
                        # The broker subscribes before it says the first word.
                        heard = True
                        introspection.heard(hearing=True)
                        pause, lost = FIRST_PAUSE, False
                    for event in reader.feed(chunk):
                        _tell(event, introspection)
        except (BrokerError, httpx2.TransportError) as error:
            if not lost:
                log.info("the broker's events are not heard: %s", error)
            lost = True
        except Exception:
            log.exception("the broker's events could not be followed")
        finally:
            if heard:
                introspection.heard(hearing=False)
        await broker.clock.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _check(broker: Broker, response: httpx2.Response) -> None:
    if response.status_code == 200:
        return
    if response.status_code == 401:
        broker.reread()
    raise BrokerUnreachable(f"The broker's events are answered with {response.status_code}.")


def _tell(event: ServerEvent, introspection: Introspection) -> None:
    if event.kind == "gap":
        introspection.forget()
    if event.kind == "revoked":
        try:
            said = json.loads(event.data)
        except ValueError:
            said = None
        token = said.get("token") if isinstance(said, dict) else None
        introspection.forget(token if isinstance(token, str) else "")
