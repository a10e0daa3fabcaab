"""The authorizer that decides by policies.

Duty: the port ``Authorizer`` on a compiled set; keeping verdicts for as long as they hold.
Not its duty: policies themselves (``policies``), plain lists (``authorizer``).
Rules:

* a verdict is kept under all it depends on: caller, subject, action, resource and tool, and
  where a policy that may apply looks at them also address and minute. One that may depend on
  a tool's arguments is never kept;
* ``Decision.lasting`` says that none of these looks at anything changing;
* a new configuration, or ``forget``, empties the memory at once and moves ``generation``;
* who may not have a credential at all learns nothing of it: ``CredentialUnknown``. Who may
  have it for another tool, at another time or from elsewhere gets ``CallerForbidden``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.access.authorizer import Action, Decision
from broker.access.cache import Cache
from broker.access.moments import MINUTE
from broker.access.policies import Policies, Verdict
from broker.access.principal import Principal
from broker.access.vocabulary import Question
from broker.clock import Clock
from broker.credentials.model import CredentialKey
from broker.errors import CallerForbidden, CredentialUnknown

KEPT: Final = 2048
"""Verdicts kept for one caller: some 600 bytes each."""
TIMES: Final = frozenset({"time", "weekday", "zones"})


@dataclass(frozen=True, slots=True)
class _Kept:
    """A verdict, or with ``reads`` only what it depends on."""

    reads: frozenset[str]
    verdict: Verdict | None = None
    decision: Decision | None = None


class PolicyAuthorizer:
    """Decides by a compiled set. All methods belong to the loop's thread.

    Args:
        clock: for conditions on the time.
        policies: compiled.
        kept: verdicts kept for one caller; 0 keeps none.
    """

    def __init__(self, clock: Clock, policies: Policies, *, kept: int = KEPT) -> None:
        self.generation = 0
        self._clock = clock
        self._most = kept
        self._verdicts: Cache[_Kept] = Cache(kept)
        self._visible: Cache[tuple[CredentialKey, ...]] = Cache(kept)
        self.configure(policies)

    def configure(self, policies: Policies) -> None:
        """Take over a new set; the next decision is by it."""
        self._policies = policies
        self._tool_matters = policies.tool_matters  # else inventing tools costs an evaluation each
        self._keys = {name: CredentialKey(name) for name in policies.sources.credentials}
        self.forget()

    def forget(self) -> None:
        """Keep no verdict given so far."""
        self.generation += 1
        self._verdicts.clear()
        self._visible.clear()

    def authorize(
        self,
        principal: Principal,
        name: str,
        *,
        tool: str,
        action: Action = "handout",
        address: str = "",
    ) -> Decision:
        """See ``Authorizer.authorize``."""
        caller, grant = principal.caller.name, principal.grant
        subject = None if grant is None else grant.subject
        key = (subject, action, name, tool if self._tool_matters else "")
        kept = self._verdicts.get(caller, key)
        if kept is not None and kept.decision is not None:
            return kept.decision
        credential = self._keys.get(name)
        if credential is None:
            raise CredentialUnknown(reason="unknown")
        verdict, reads = self._verdict(
            Question(
                caller,
                action,
                name,
                subject=subject,
                tool=tool,
                address=address,
                wall=self._clock.wall(),
            ),
            key,
            kept,
        )
        if not verdict.allowed:
            if self._policies.listing.lists(caller, subject, name):
                raise CallerForbidden(reason=verdict.reason)
            raise CredentialUnknown(reason=verdict.reason)
        decision = Decision(credential, verdict.policies, lasting=not reads)
        if decision.lasting and self._most:
            self._verdicts.put(caller, key, _Kept(reads, verdict, decision))
        return decision

    def authorize_tool(
        self,
        principal: Principal,
        tool: str,
        *,
        action: Action = "call_tool",
        address: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """See ``Authorizer.authorize_tool``."""
        caller = principal.caller.name
        # An asserted subject too: else it would be judged as the caller itself.
        subject = principal.subject or None
        key = (subject, action, tool)
        verdict, _ = self._verdict(
            Question(
                caller,
                action,
                tool,
                about_tool=True,
                subject=subject,
                tool=tool,
                address=address,
                wall=self._clock.wall(),
                arguments=arguments,
            ),
            key,
            self._verdicts.get(caller, key),
        )
        if not verdict.allowed:
            raise CallerForbidden(reason=verdict.reason)
        return verdict.policies

    def _verdict(
        self, question: Question, key: tuple[Any, ...], kept: _Kept | None
    ) -> tuple[Verdict, frozenset[str]]:
        """The verdict and which changing conditions it may depend on; kept if it can be."""
        caller = question.caller
        if kept is None:
            kept = _Kept(self._policies.reads(question))
            if kept.reads and self._most:
                self._verdicts.put(caller, key, kept)
        reads = kept.reads
        if not reads:
            if kept.verdict is not None:
                return kept.verdict, reads
        elif "arguments" in reads:
            return self._policies.decide(question), reads
        else:
            at = int(question.wall // MINUTE) if reads & TIMES else None
            key = (*key, at, question.address if "address" in reads else None)
            now = self._verdicts.get(caller, key)
            if now is not None and now.verdict is not None:
                return now.verdict, reads
        verdict = self._policies.decide(question)
        if self._most:
            self._verdicts.put(caller, key, _Kept(reads, verdict))
        return verdict, reads

    async def credentials(self, principal: Principal) -> tuple[CredentialKey, ...]:
        """See ``Authorizer.credentials``: what some tool, time or address could open."""
        caller, grant = principal.caller.name, principal.grant
        subject = None if grant is None else grant.subject
        seen = self._visible.get(caller, subject)
        while seen is None:
            generation, names = self.generation, set[str]()
            for some in self._policies.listing.look(caller, subject):
                names |= some
                await asyncio.sleep(0)
            if generation != self.generation:  # by what was decided before: anew
                seen = self._visible.get(caller, subject)
                continue
            seen = tuple(self._keys[name] for name in sorted(names))
            if self._most:
                self._visible.put(caller, subject, seen)
        return seen

    def tools(self, principal: Principal) -> tuple[str, ...] | None:
        """See ``Authorizer.tools``; known where roles or names of tools say it."""
        return self._policies.tools(principal.caller.name, principal.subject or None)

    def samples(self, principal: Principal, glob: str, *, action: Action) -> tuple[str, ...]:
        """See ``Authorizer.samples``."""
        subject = principal.subject or None
        return self._policies.samples(principal.caller.name, subject, action, glob)
