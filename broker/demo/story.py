"""The story: what a minute in the life of two keys looks like.

Duty: make things happen in an order that can be followed, and wait until they were seen.
Not its duty: seeing (``watch``), judging (``judge``), printing (``timeline``).
Rules: an act waits for what the watch saw, not for a time; what does not come within its
bound is told and left for the judge.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from mcp import Client

from broker.clock import Clock
from broker.demo.agent import Agent
from broker.demo.configuration import CLIENT
from broker.demo.facts import BROKER, ENVIRONMENT, ToolCall
from broker.demo.stage import Stage
from broker.demo.timeline import Timeline
from broker.demo.watch import Watch

OUTAGE: Final = 3.0
"""Seconds OpenBao is down."""
PULSE: Final = 10.0
"""Seconds between two lines about how the servers do."""


class Story:
    """One telling.

    Args:
        stage: started.
        watch: sees what happens.
        timeline: where it is told.
        clock: time.
    """

    def __init__(self, stage: Stage, watch: Watch, timeline: Timeline, *, clock: Clock) -> None:
        self._stage, self._watch, self._timeline, self._clock = stage, watch, timeline, clock
        self._agents = [
            Agent(edition, stage.mcp_url(edition), clock=clock, on_call=watch.tool_call)
            for edition in (BROKER, ENVIRONMENT)
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Agents, kubelet and watch at work; the agents end their calls on the way out."""
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self._watch.run(), name="watch"),
                group.create_task(self._kubelet(), name="kubelet"),
                group.create_task(self._pulse(), name="pulse"),
            ]
            agents = [group.create_task(agent.run(), name="agent") for agent in self._agents]
            try:
                yield
            finally:
                for agent in self._agents:
                    agent.stop()
                await asyncio.gather(*agents, return_exceptions=True)
                for task in background:
                    task.cancel()

    async def tell(self) -> None:
        """All acts."""
        tell, lives, ring = self._timeline.tell, self._stage.lives, self._stage.search.keys
        self._timeline.chapter("An agent at work: web_search and list_orders, on both servers")
        await self._clock.sleep(2.0)
        await self._stranger()
        await self._guest()
        await self._leak()

        self._timeline.chapter("Nothing lives for ever: leases, users, Vault tokens")
        tell(
            "story",
            f"an orders user lives {lives.orders_user} s, {lives.orders_user_max} s at most",
        )
        await self._until("lease_renewed", within=lives.orders_user * 2)
        await self._until("lease_replaced", within=lives.orders_user_max * 2)

        self._timeline.chapter("Somebody changes the key, and tells nobody")
        # The key made by hand was replaced at the start, for never rotated is due.
        await self._until("rotated", within=lives.overlap * 2)
        await self._change_key()

        self._timeline.chapter("The broker changes the key itself")
        await self._rotate()

        self._timeline.chapter("The Vault token reaches its maximum")
        await self._until("token_replaced", within=lives.vault_token_max * 2)

        self._timeline.chapter("OpenBao dies")
        await self._outage()

        self._timeline.chapter("And life goes on")
        renewed = self._watch.facts.events["lease_renewed"]
        await self._until("lease_renewed", more_than=renewed, within=lives.orders_user_max * 2)
        await self._until("rotated", more_than=1, within=lives.overlap * 2)
        live, made = (len(keys()) for keys in (ring.live, ring.known))
        tell("search api", f"{made} keys were ever made, live now: {live}")
        self._watch.pulse()

    # --- acts ---------------------------------------------------------------------------

    async def _stranger(self) -> None:
        """A process without the client token asks for the key."""
        self._timeline.tell(
            "stranger", "another process of the pod tries, without the client token"
        )
        argv = [sys.executable, "-m", "broker.demo.stranger"]
        argv += [f"http://127.0.0.1:{self._stage.tcp_port}", "search-api"]
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        for line in output.decode().splitlines():
            self._timeline.tell("stranger", f"asks for search-api {line}")
        await self._until("caller_refused", within=5.0)

    async def _guest(self) -> None:
        """An agent's own token: good for one tool and one key, until it is revoked."""
        stage, tell = self._stage, self._timeline.tell
        token = await stage.operator.mint(CLIENT, "guest", "web_search", "search-api")
        stage.token_texts.append(token)
        tell("operator", "broker token mint: for guest, web_search and search-api, ten minutes")
        answer = await stage.ask(token, "web_search", "search-api")
        tell("broker's server", f"for guest, web_search asks for search-api: {answer}")
        answer = await stage.ask(token, "list_orders", "orders-db")
        tell("broker's server", f"for guest, list_orders asks for orders-db: {answer}", strong=True)
        code = await stage.operator.revoke("guest")
        tell("operator", f"broker token revoke --subject guest: exit code {code}")
        answer = await stage.ask(token, "web_search", "search-api")
        tell("broker's server", f"for guest, web_search once more: {answer}", strong=True)
        await self._until("token_narrowed", within=5.0)
        await self._until("token_revoked", within=5.0)

    async def _leak(self) -> None:
        """A person pastes the key into a prompt; both servers log what was searched for."""
        self._timeline.tell(
            "story", "somebody pastes the key into a prompt, and servers log prompts"
        )
        text = self._stage.key_texts[-1].reveal()
        for edition in (BROKER, ENVIRONMENT):
            at = self._clock.wall()
            async with Client(self._stage.mcp_url(edition)) as client:
                result = await client.call_tool("web_search", {"query": f"lease {text}"})
            self._watch.tool_call(
                ToolCall(at, edition, "web_search", not result.is_error, "with a pasted key")
            )
        self._watch.leak(text)

    async def _change_key(self) -> None:
        """The provider's console: a new key into Vault, the old one revoked at once."""
        old = self._stage.key
        version = await asyncio.to_thread(self._stage.change_key)
        facts = self._watch.facts
        facts.changed_keys.append(old.id)
        self._stage.search.keys.revoke(old.id)
        self._timeline.tell(
            "story", f"{old.id} is revoked, {self._stage.key.id} is version {version} in Vault"
        )
        await self._until("out_of_band_change", within=10.0)

    async def _rotate(self) -> None:
        """Twice on demand: the provider's first new key does not work, the second does."""
        tell = self._timeline.tell
        self._stage.search.keys.spoil_next()
        tell("story", "broker rotate search-api; the provider's next key will not work")
        code = await self._stage.operator.rotate("search-api")
        await self._until("rolled_back", within=15.0)
        tell("broker", f"rolled back (exit code {code}); the key in use was never touched")
        code = await self._stage.operator.rotate("search-api")
        await self._watch.look()
        key, overlap = self._stage.key.id, self._stage.lives.overlap
        tell("story", f"broker rotate search-api, again: exit code {code}")
        tell("broker", f"readers have {key}; the old key works on for {overlap} s", strong=True)

    async def _outage(self) -> None:
        """OpenBao killed with -9, some seconds of nothing, and a restart from its data."""
        # While the lease is young: an outage longer than what is left of it would end in a
        # 503 that says so, which is a promise too but not this act.
        await self._watch.young_lease(at_least=OUTAGE + self._stage.lives.margin + 4.0, within=20.0)
        self._timeline.tell("vault", f"kill -9 {self._stage.openbao.pid}", strong=True)
        await asyncio.to_thread(self._stage.openbao.kill)
        await self._clock.sleep(OUTAGE)
        served = self._watch.served_since(self._clock.wall() - OUTAGE)
        self._timeline.tell("broker's server", f"answered {served} tool calls meanwhile")
        await asyncio.to_thread(self._stage.openbao.restart)
        await self._until("vault_restarted", within=10.0)

    # --- help -----------------------------------------------------------------------------

    async def _until(self, event: str, *, within: float, more_than: int = 0) -> None:
        """Wait until the watch has seen ``event``, ``within`` seconds at most."""
        deadline = self._clock.now() + within
        while self._watch.facts.events[event] <= more_than:
            if self._clock.now() > deadline:
                self._timeline.tell("story", f"{event} was not seen within {within:.0f} s")
                return
            await self._clock.sleep(0.1)

    async def _kubelet(self) -> None:
        """Project a fresh service-account token well before the old one ends."""
        while True:
            await self._clock.sleep(self._stage.lives.service_account_rotation)
            self._stage.project_token()

    async def _pulse(self) -> None:
        while True:
            await self._clock.sleep(PULSE)
            self._watch.pulse()


async def end(stage: Stage, watch: Watch, timeline: Timeline, clock: Clock) -> list[str]:
    """Stop the broker in order and see what it leaves behind.

    Returns:
        What is wrong with its end, one sentence each.
    """
    timeline.chapter("The pod is deleted")
    # The kubelet ends the MCP server first; its last value may be in use until then.
    await clock.sleep(stage.lives.hold + 0.5)
    await watch.look()
    code = await asyncio.to_thread(stage.broker.stop)
    timeline.tell("broker", f"SIGTERM: ended with exit code {code}", strong=True)
    faults = [] if code == 0 else [f"The broker ended with exit code {code}."]
    left: list[str] = []
    for _ in range(20):
        left = await asyncio.to_thread(watch.left_behind)
        if not left:
            break
        await clock.sleep(0.25)
    faults += [f"The broker left behind {thing}." for thing in left]
    if not left:
        timeline.tell("vault", "its token is revoked, its leases too; PostgreSQL has no user of it")
    code, said = await stage.operator.verify(stage.audit_file, stage.audit_key)
    timeline.tell("operator", f"broker audit verify: {said.partition(';')[0] or code}")
    if code != 0:
        faults.append(f"The audit log does not verify: {said}")
    with suppress(OSError):
        faults += watch.secrets_in_the_clear()
    return faults
