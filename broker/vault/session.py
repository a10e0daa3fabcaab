"""The broker's own Vault token, kept alive: one generation after the other.

Duty: log in, renew, log in anew before the end; heal when Vault forgot the token.
Not its duty: when (``plan``), how to log in (``login``), old tokens (``retirement``).
Rules (DESIGN promises 3 and 4):

* one request about the current token at a time: whoever comes while it is under way
  waits, and then finds its outcome instead of asking again;
* the next generation is announced while the old one is still good;
* nothing is terminal: whatever a login fails with, it is tried again. Only ``start``
  refuses a token that cannot serve, because then a person stands by;
* time that passed unseen (a paused machine) counts against the token until Vault says more;
* a 403 alone proves nothing: only a token that may look itself up, and is refused that,
  is dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf
from random import Random

from broker.clock import Clock
from broker.errors import LoginError, TokenUnfit, VaultDenied, VaultError, VaultRefused
from broker.vault import plan
from broker.vault.backoff import FLOOR, backoff
from broker.vault.generation import Generation
from broker.vault.interface import VaultPort
from broker.vault.login import Login
from broker.vault.plan import Action
from broker.vault.pulse import Pulse
from broker.vault.retirement import Retirement, revocable
from broker.vault.tenure import LoginObserver, SessionMetrics, Tenure

log = logging.getLogger("broker.vault")


class Session:
    """Implements ``interface.SessionPort``.

    Args:
        port: Vault.
        login: the way to log in.
        clock: time.
        rng: jitter.
        metrics: where to count.
        linger: seconds an old token is kept for requests under way; more than the
            deadline of one request.
        poll: seconds between two looks whether another token lies ready.
        observer: told of each login.

    ``start`` once, then ``run`` for ever in a supervised task; cancel it, then ``close``.
    """

    def __init__(
        self,
        port: VaultPort,
        login: Login,
        *,
        clock: Clock,
        rng: Random,
        metrics: SessionMetrics,
        linger: float = 30.0,
        poll: float = 10.0,
        observer: LoginObserver | None = None,
    ) -> None:
        self._port, self._login = port, login
        self._clock, self._rng, self._metrics = clock, rng, metrics
        self._poll, self._observer = poll, observer
        self._tenure = Tenure(clock=clock, rng=rng, metrics=metrics)
        self._pulse = Pulse(port, clock)
        self._retirement = Retirement(
            port, clock=clock, rng=rng, linger=linger, changed=self._tenure.announce
        )
        self._login_sent = -inf
        self._offset = clock.wall() - clock.now()
        self._turn = asyncio.Lock()

    # --- SessionPort ----------------------------------------------------------------

    @property
    def generation(self) -> Generation | None:
        """See ``SessionPort.generation``."""
        return self._tenure.current

    def on_change(self, callback: Callable[[], None]) -> None:
        """See ``SessionPort.on_change``."""
        self._tenure.callbacks.append(callback)

    async def ready(self, deadline: float) -> Generation:
        """See ``SessionPort.ready``."""
        self._compare_clocks()
        while (generation := self._tenure.usable()) is None:
            if not await self._clock.wait(self._tenure.change, deadline):
                raise self._tenure.reason()
        return generation

    async def denied(self, generation: Generation) -> Generation | None:
        """See ``SessionPort.denied``.

        When the token is dead and the one login fails, the answer is None as well;
        ``generation.ended`` tells the two apart, and ``ready`` waits for the next.
        """
        async with self._turn:
            if generation is self._tenure.current and not generation.ended:
                if await self._pulse.alive(generation) is not False:
                    return None
                self._tenure.end(generation)
            if (usable := self._tenure.usable()) is not None:
                return usable
            if not self._tenure.due():
                return None  # an attempt has just failed, and the next is ``run``'s; or we stop
            try:
                await self._log_in()
            except (LoginError, VaultError) as error:
                self._tenure.failed(error)
            return self._tenure.usable()

    # --- life -------------------------------------------------------------------------

    async def start(self) -> None:
        """Log in once, within the port's deadline; ``run`` goes on when that fails.

        Raises:
            TokenUnfit: the token has a use limit, and will have it the next time.
        """
        async with self._turn:
            try:
                await self._log_in()
            except TokenUnfit:
                raise
            except (LoginError, VaultError) as error:
                self._tenure.failed(error)

    async def run(self) -> None:
        """Keep a living token; never returns. Cancel it to stop."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep(), name="vault token")
            tasks.create_task(self._retirement.run(), name="old vault tokens")
            tasks.create_task(self._watch(), name="vault token file")

    async def close(self, deadline: float) -> None:
        """Revoke every living token of our own, once, until ``deadline``; leases die with them."""
        self._tenure.close()
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock.now())):
                await self._revoke_all()
                async with self._turn:  # a login under way may bring one more
                    await self._revoke_all()
        except TimeoutError:
            log.warning("stopping: a Vault token is left to expire, Vault did not answer in time")

    async def _revoke_all(self) -> None:
        tokens = [*self._retirement.generations, self._tenure.current]
        await asyncio.gather(*(self._revoke(one) for one in tokens if one))

    async def _revoke(self, generation: Generation) -> None:
        if generation.ended or not revocable(generation):
            return
        if generation.expires_at <= self._clock.now():
            return
        generation.ended = True
        try:
            await self._port.revoke_self(generation.token)
        except VaultError as error:
            log.warning("stopping: Vault token %d is left to expire: %s", generation.number, error)
        else:
            log.info("stopping: Vault token %d revoked", generation.number)

    # --- the tasks ----------------------------------------------------------------------

    async def _keep(self) -> None:
        """Take each step when it is due, and notice when the token ends."""
        tenure = self._tenure
        while True:
            await self._clock.wait(tenure.replanned, tenure.next_at())
            tenure.replanned.clear()
            self._compare_clocks()
            async with self._turn:
                current = tenure.current
                if current and tenure.life and self._clock.now() >= tenure.life.expires_at:
                    tenure.end(current)
                if tenure.due():
                    await self._take_step()

    async def _take_step(self) -> None:
        try:
            if self._tenure.step.action is Action.RENEW and self._tenure.current is not None:
                await self._renew(self._tenure.current)
            else:
                await self._log_in()
        except (LoginError, VaultError) as error:
            self._tenure.failed(error)

    async def _watch(self) -> None:
        """Log in when another token lies ready, however healthy the current one is."""
        failures = 0
        while True:
            wait = backoff(failures, self._rng.random(), least=self._poll)
            await self._clock.sleep(wait)
            if self._tenure.closed or not self._login.changed():
                failures = 0
                continue
            async with self._turn:
                try:
                    await self._log_in()
                    failures = 0
                except (LoginError, VaultError) as error:
                    failures += 1
                    log.warning("the new Vault token cannot be used: %s", error)

    def _compare_clocks(self) -> None:
        """Wall time that ran ahead of boot time: was the machine paused with its boot clock?"""
        offset = self._measure()
        ahead = offset - self._offset
        if -plan.JUMP <= ahead <= plan.JUMP:
            return  # the base stays: many small steps add up to a jump
        self._offset = offset
        if ahead > 0:
            log.warning("wall time ran ahead by %.0f s: the Vault token is in doubt", ahead)
            for generation in self._retirement.generations:
                generation.expires_at -= ahead
            self._tenure.doubt(ahead)

    def _measure(self) -> float:
        """Wall against boot time."""
        return self._clock.wall() - self._clock.now()

    def _doubt_grant(self, offset: float) -> None:
        """A grant asked for before the clocks jumped says nothing about the time after."""
        ahead = self._measure() - offset
        if ahead > plan.JUMP:
            self._tenure.doubt(ahead)

    # --- requests about the token; whoever makes them has the turn ---------------------------

    async def _log_in(self) -> None:
        """One attempt: a new generation, or the reason why not."""
        await self._clock.sleep_until(self._login_sent + FLOOR)
        self._login_sent, offset = self._clock.now(), self._measure()
        try:
            grant = await self._login.login()
        except (LoginError, VaultError) as error:
            self._told(error.code, None)
            raise
        replaced = self._tenure.adopt(grant, own=self._login.own)
        current = self._tenure.current
        self._told("ok", None if current is None else current.number)
        self._doubt_grant(offset)
        if replaced is not None:
            self._retirement.add(replaced)
        if self._login.own and self._tenure.current is not None:
            await self._pulse.learn(self._tenure.current)

    def _told(self, result: str, generation: int | None) -> None:
        self._metrics.login(result)
        if self._observer is not None:
            self._observer.logged_in(result, generation)

    async def _renew(self, generation: Generation) -> None:
        offset = self._measure()
        try:
            grant = await self._port.renew_self(generation.token)
        except VaultRefused as refusal:
            # Dead, or not allowed to renew itself: the remedy is a login either way.
            log.warning("Vault token %d cannot be renewed: %s", generation.number, refusal)
            if isinstance(refusal, VaultDenied) and await self._pulse.alive(generation) is False:
                self._tenure.end(generation)  # the next step is a login, and due
            else:
                self._tenure.renewal_refused(generation)
                await self._log_in()
        else:
            self._tenure.extend(generation, grant)
            self._doubt_grant(offset)
