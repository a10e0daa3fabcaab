"""Watches what really happens, and writes it down.

Duty: look at OpenBao, the search API, the audit log and the broker's log; count events;
tell the timeline.
Not its duty: making things happen (``story``), judging them (``judge``).
Rules: an event counts when a part shows it, not when the story wanted it: a lease was
renewed because OpenBao gives it a later end, a caller was refused because the audit log
says so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import httpx2

from broker.audit.record import lease_digest
from broker.clock import Clock
from broker.demo.facts import BROKER, ENVIRONMENT, Facts, Handout, LeaseLife, SearchCall, ToolCall
from broker.demo.keyring import ApiKey
from broker.demo.looks import Look, Tail, look_at_openbao, unix_time
from broker.demo.openbao_admin import AdminError
from broker.demo.stage import Stage
from broker.secret import MASK

LOOK: Final = 0.35
"""Seconds between two looks."""
GAIN: Final = 0.5
"""Seconds by which an end must have moved to be called renewed."""

Tell = Callable[..., None]


class Watch:
    """Collects :class:`Facts`. All methods belong to the loop's thread.

    Args:
        stage: what to watch.
        clock: time.
        tell: ``tell(who, what, strong=…)`` of the timeline.
    """

    def __init__(self, stage: Stage, *, clock: Clock, tell: Tell) -> None:
        self._stage, self._clock, self._tell = stage, clock, tell
        self.facts = Facts()
        self._loop = asyncio.get_running_loop()
        self._tokens: dict[str, dict[str, Any]] = {}
        self._lease_ids: list[str] = []
        """Of the broker, in order of appearance."""
        self._keys: dict[str, ApiKey] = {}
        """Keys of the search API as of the last look."""
        self._reachable = True
        self._met: set[str] = set()
        """Changed keys that the broker's server has met."""
        self._failing: dict[tuple[str, str], int] = {}
        self._audit = Tail(stage.audit_file)
        stage.search.on_call = self._search_soon

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK)

    async def look(self) -> None:
        """Look at everything once."""
        try:
            look = await asyncio.to_thread(look_at_openbao, self._stage.openbao.admin, self._clock)
        except (httpx2.TransportError, AdminError):
            look = None
        if look is not None:
            self._see_tokens(look)
            self._see_leases(look)
            if look.key is not None:
                self._stage.saw_key(*look.key)
        self._see_keys()
        for line in self._audit.lines():
            self._see_record(json.loads(line))
        self._see_reachable(look is not None)

    def settle(self) -> Facts:
        """The facts, once all has ended; call it before the stage is torn down."""
        stage, facts = self._stage, self.facts
        facts.search_calls = stage.search.calls
        facts.key_of_version = dict(stage.key_of_version)
        facts.live_keys = len(stage.search.keys.live())
        facts.key_ends = {
            key.id: min(ends)
            for key in stage.search.keys.known()
            # What was revoked behind everybody's back is no promise that the broker broke.
            if (
                ends := [
                    end
                    for end in (
                        key.expires_at,
                        None if key.id in facts.changed_keys else key.revoked_at,
                    )
                    if end
                ]
            )
        }
        facts.refused_users = [user for user in stage.postgres.refused() if user.startswith("v-")]
        facts.users = {
            user: ENVIRONMENT if user == stage.environment_user else BROKER
            for user in facts.refused_users
        }
        return facts

    # --- OpenBao ------------------------------------------------------------------------

    def _see_reachable(self, reachable: bool) -> None:
        if reachable and not self._reachable:
            self.facts.events["vault_restarted"] += 1
            self._tell("vault", "answers again, unsealed by itself, with all its leases")
        self._reachable = reachable

    def _see_tokens(self, look: Look) -> None:
        for accessor, token in look.tokens.items():
            if accessor in self._tokens:
                self._tokens[accessor] = token
                continue
            if self._tokens:
                last = list(self._tokens.values())[-1]
                age = unix_time(token["issue_time"]) - unix_time(last["issue_time"])
                limit = self._stage.lives.vault_token_max
                if age + self._stage.lives.vault_token > limit:
                    self.facts.events["token_replaced"] += 1
                    why = f"the old one is {age:.0f} s old and ends for good at {limit} s"
                else:
                    why = f"the old one was {age:.0f} s old"
                self._tell("broker", f"logged in anew, a new Vault token: {why}", strong=True)
            else:
                self._tell("broker", "logged in by its service-account token")
            self._tokens[accessor] = token

    def _see_leases(self, look: Look) -> None:
        lives = self.facts.leases
        for lease_id, lease in look.leases.items():
            digest, end = lease_digest(lease_id), unix_time(lease["expire_time"])
            life = lives.get(digest)
            if life is None:
                lives[digest] = LeaseLife(unix_time(lease["issue_time"]), end)
                if lease_id != self._stage.environment_lease:
                    self._see_new_lease(lease_id, unix_time(lease["issue_time"]))
            elif end > life.expires_at + GAIN:
                gained = end - life.expires_at
                life.expires_at, life.renewals = end, life.renewals + 1
                if lease_id != self._stage.environment_lease:
                    self.facts.events["lease_renewed"] += 1
                    self._tell("broker", f"renewed the orders lease: {gained:.0f} s more")
        known = {lease_digest(lease_id) for lease_id in look.leases}
        environment = lease_digest(self._stage.environment_lease)
        for digest, life in lives.items():
            if digest not in known and life.gone_at > look.at:
                life.gone_at = look.at
                if digest == environment:
                    self.facts.environment_ends = life.end
                    self._tell(
                        "vault", "the lease behind the environment's DSN ended; user dropped"
                    )

    def _see_new_lease(self, lease_id: str, issued_at: float) -> None:
        if self._lease_ids:
            last = self.facts.leases[lease_digest(self._lease_ids[-1])]
            limit = self._stage.lives.orders_user_max
            if issued_at - last.issued_at + self._stage.lives.orders_user > limit:
                self.facts.events["lease_replaced"] += 1
                why = f"the old one ends for good at {limit} s"
            else:
                why = "the old one belongs to the old Vault token"
            self._tell("broker", f"a new orders user, before the old one ends: {why}", strong=True)
        else:
            self._tell("broker", "leased a PostgreSQL user for the orders")
        self._lease_ids.append(lease_id)

    def _see_keys(self) -> None:
        """Keys that came and went at the provider, as the provider has it."""
        for key in self._stage.search.keys.known():
            before = self._keys.get(key.id)
            self._keys[key.id] = key
            if before is None and key.label.startswith("broker/"):
                self._tell("search api", f"{key.id} was made, labelled {key.label}")
            if not key.revoked_at or (before is not None and before.revoked_at):
                continue
            if key.id in self.facts.changed_keys:
                continue
            if key.spoiled:
                self.facts.events["rolled_back"] += 1
                what = f"{key.id} failed its proof: retired, and no reader ever had it"
            else:
                self.facts.events["rotated"] += 1
                what = f"{key.id} is retired, nobody holds it any more: {self._stage.key.id} stays"
            self._tell("broker", what, strong=True)

    # --- the upstream and the agents ---------------------------------------------------------

    def _search_soon(self, call: SearchCall) -> None:
        """On the API's own thread: hand the call over to the loop."""
        with suppress(RuntimeError):  # the story is over, the loop closed
            self._loop.call_soon_threadsafe(self._search, call)

    def _search(self, call: SearchCall) -> None:
        if call.consumer != BROKER:
            return
        changed = set(self.facts.changed_keys)
        if call.dead_key and call.key_id in changed - self._met:
            self._tell("search api", f"401 for {call.key_id}: the broker's server met the change")
        if not call.dead_key and changed - self._met and call.key_id not in changed:
            self._met |= changed
            self.facts.events["out_of_band_change"] += 1
            self._tell(
                "broker's server",
                f"reported the 401, got {call.key_id} and tried again: the agent noticed nothing",
                strong=True,
            )

    def tool_call(self, call: ToolCall) -> None:
        """An agent's call has ended."""
        self.facts.tool_calls.append(call)
        who = "broker's server" if call.edition == BROKER else "env's server"
        place = (call.edition, call.tool)
        failed = self._failing.get(place, 0)
        if call.ok:
            if failed:
                self._tell(who, f"{call.tool} works again after {failed} failed calls")
            self._failing[place] = 0
            return
        self._failing[place] = failed + 1
        if not failed:
            self._tell(who, f"{call.tool} FAILED: {call.detail}", strong=True)

    def pulse(self) -> None:
        """How both servers do."""
        for edition, who in ((BROKER, "broker's server"), (ENVIRONMENT, "env's server")):
            calls = [call for call in self.facts.tool_calls if call.edition == edition]
            failed = sum(not call.ok for call in calls)
            self._tell(who, f"{len(calls)} tool calls so far, {failed} failed")

    # --- questions of the story ------------------------------------------------------------

    async def young_lease(self, *, at_least: float, within: float) -> None:
        """Wait until the broker's lease has ``at_least`` seconds left, ``within`` at most."""
        deadline = self._clock.now() + within
        while self._clock.now() < deadline:
            ids = self._lease_ids[-1:]
            ends = [self.facts.leases[lease_digest(lease_id)].end for lease_id in ids]
            if any(end - self._clock.wall() >= at_least for end in ends):
                return
            await self._clock.sleep(0.1)

    def served_since(self, wall: float) -> int:
        """Tool calls that the broker's server answered well since Unix time ``wall``."""
        calls = self.facts.tool_calls
        return sum(call.ok and call.edition == BROKER and call.at >= wall for call in calls)

    def leak(self, text: str) -> None:
        """Both servers were made to log ``text``, a live key: who did?"""
        for edition, who in ((BROKER, "broker's server"), (ENVIRONMENT, "env's server")):
            logged = [
                line
                for line in self._stage.mcp_log(edition).read_text(errors="replace").splitlines()
                if text in line or MASK in line
            ]
            if not logged:
                self._tell(who, "logged nothing of it")
            elif any(text in line for line in logged):
                self._tell(who, "its log holds the key now, for all who can read logs", strong=True)
            else:
                self._tell(who, f"its log says: {logged[0].strip()}", strong=True)
                if edition == BROKER:
                    self.facts.events["leak_masked"] += 1

    def left_behind(self) -> list[str]:
        """What the broker had in OpenBao and PostgreSQL that is still there. Blocks."""
        look = look_at_openbao(self._stage.openbao.admin, self._clock)
        users = set(self._stage.postgres.users()) - {self._stage.environment_user}
        return [
            *(f"the Vault token {accessor}" for accessor in look.tokens),
            *(
                f"the lease {lease_digest(lease_id)}"
                for lease_id in look.leases
                if lease_id != self._stage.environment_lease
            ),
            *(f"the database user {user}" for user in sorted(users)),
        ]

    def secrets_in_the_clear(self) -> list[str]:
        """Files of the broker's side that hold a key or a token, one sentence each."""
        stage = self._stage
        return [
            f"A secret stands in {file.name} in clear."
            for file in (stage.broker_log, stage.audit_file, stage.mcp_log(BROKER))
            for text in (*stage.key_texts, *stage.token_texts)
            if text.reveal() in file.read_text(errors="replace")
        ]

    # --- the broker's records ------------------------------------------------------------------

    def _see_record(self, record: dict[str, Any]) -> None:
        at = unix_time(record["time"])
        if record["kind"] in {"handout", "revalidated"}:
            self.facts.handouts.append(
                Handout(
                    at=at,
                    credential=record["credential"],
                    version=record["version"],
                    use_until=unix_time(record["use_until"]),
                    lease=record.get("lease", ""),
                    source_version=record.get("source_version", ""),
                )
            )
        elif record["kind"] == "token_revoked":
            self.facts.events["token_revoked"] += 1
        elif record["kind"] == "refusal" and record["result"] == "insufficient_scope":
            self.facts.events["token_narrowed"] += 1
        elif record["kind"] == "refusal" and record["result"] == "caller_unauthenticated":
            self.facts.events["caller_refused"] += 1
            self._tell("broker", f"refused a caller: {record['reason']} (in the audit log)")
