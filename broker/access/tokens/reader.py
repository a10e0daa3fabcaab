"""Keeps the revocations of an installation at hand, and writes new ones.

Duty: read the document while scoped tokens are in use; say how old what is known is; revoke;
keep the signing keys.
Not its duty: the documents' place (``documents``) and content (``revocations``, ``signing``).
Rules:

* while tokens are in use the document is read once a second, and not at all while none are:
  the first one after a quiet time waits for a reading;
* what was read last is believed for ``grace`` seconds from before its reading was sent; then
  nothing is;
* verdicts given before end (``generation`` moves) when a revocation is learned, when what is
  known grows too old, and when nobody reads any more;
* what this process knows and the document has lost is written again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Final

from broker.access.tokens.documents import Loaded, TokenDocuments
from broker.access.tokens.model import Target
from broker.access.tokens.revocations import Revocations
from broker.access.tokens.signing import Key, Keys
from broker.clock import Clock
from broker.errors import BrokerError, RevocationFailed, TokensUnavailable, VaultConflict

POLL: Final = 1.0
"""Seconds from one reading to the next: a revocation is honoured everywhere within it."""
IN_USE: Final = 60.0
"""Seconds since its last use for which tokens count as in use."""
PATIENCE: Final = 2.0
"""Seconds that the first use after a quiet time waits for a reading, and a reading lasts."""
KEYS: Final = 60.0
"""Seconds between two readings of the signing keys."""
ATTEMPTS: Final = 10
"""Writes that other replicas may come before."""

log = logging.getLogger("broker.tokens")


@dataclass(eq=False, slots=True)
class _Wish:
    """One revocation that is asked for; two of the same are two."""

    target: Target
    until: float
    done: bool = False


class Reader:
    """The revocations and keys as this process knows them.

    Args:
        clock: the only source of time.
        documents: where they are.
        grace: see ``SharedTokens``.
        learned: told of revocations that came from elsewhere.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        documents: TokenDocuments,
        grace: float,
        learned: Callable[[Revocations], Awaitable[None]],
    ) -> None:
        self.generation = 0
        self._clock, self._documents, self._learned = clock, documents, learned
        self.grace = grace
        self._loaded: Loaded | None = None
        self._told = -1
        """Sequence up to which ``learned`` was told, or the tokens' ends are otherwise known."""
        self._read_at = -inf
        """When the last reading that succeeded was begun."""
        self._keys: Keys | None = None
        self._keys_at = -inf
        self._used_at = -inf
        self._use = asyncio.Event()
        self._attempted = asyncio.Event()
        """Set at the end of each reading, well or not; replaced then."""
        self.running = False
        """Whether readings follow each other: what is known is as new as it can be."""
        self._closed = True
        self._writing = asyncio.Lock()
        self._waiting: list[_Wish] = []
        """Revocations that the next write takes along."""

    # --- what is known --------------------------------------------------------------

    @property
    def revocations(self) -> Revocations:
        """What was read last, however old."""
        return Revocations() if self._loaded is None else self._loaded.revocations

    def current(self) -> Revocations:
        """The revocations, if they are known well enough; counts as a use of tokens.

        Raises:
            TokensUnavailable: they are not.
        """
        self._used()
        loaded = self._loaded
        if loaded is None or self._clock.now() - self._read_at > self.grace:
            raise TokensUnavailable
        return loaded.revocations

    def key(self, name: str) -> Key | None:
        """The signing key of this name; an unknown one has the keys read again.

        Raises:
            TokensUnavailable: they were never read.
        """
        found = self._known_keys().get(name)
        if found is None:
            self._keys_at = -inf
        return found

    def signing_key(self) -> Key:
        """The key to sign with.

        Raises:
            TokensUnavailable: it is not known.
        """
        return self._known_keys().current

    def _known_keys(self) -> Keys:
        if self._keys is None:
            raise TokensUnavailable("The signing keys of scoped tokens are not known.")
        return self._keys

    def owner(self, token_id: str, caller: str) -> bool:
        """Whether an id was made for ``caller``."""
        return self._keys is not None and self._keys.owner(token_id, caller)

    def age(self) -> float | None:
        """Seconds since the revocations were read; None while nobody reads, or nobody ever did."""
        age = self._clock.now() - self._read_at
        return age if self.running and age < inf else None

    def _used(self) -> None:
        self._used_at = self._clock.now()
        self._use.set()

    async def freshen(self) -> None:
        """Count as a use, and wait for a reading if none is going on; never raises."""
        self._used()
        if not self.running:
            await self._clock.wait(self._attempted, self._clock.now() + PATIENCE)

    # --- reading --------------------------------------------------------------------

    async def run(self) -> None:
        """Read for ever, whenever tokens are in use."""
        while True:
            started = self._clock.now()
            if started - self._used_at > IN_USE:
                self._rest()
                await self._clock.wait(self._use, inf)
                continue
            await self._attempt(started)
            await self._clock.sleep_until(started + POLL)

    def _rest(self) -> None:
        """Nobody reads from now on, so nobody may go by what was read."""
        self._use.clear()
        if self.running:
            self.running = False
            self.generation += 1

    async def _attempt(self, started: float) -> None:
        """One reading, which does not outlast the time that what is known is good for."""
        last = self._read_at + self.grace
        bound = min(PATIENCE, last - started) if last > started else PATIENCE
        news = False
        try:
            async with asyncio.timeout(max(0.01, bound)):
                news = await self._read(started)
        except (BrokerError, TimeoutError) as error:
            self._failed(error)
        if news:  # told whole, however long the reading and a walk over many tokens take
            await self._learned(self.revocations)
        self.running = True
        attempted, self._attempted = self._attempted, asyncio.Event()
        attempted.set()

    async def _read(self, started: float) -> bool:
        """Read once; whether there is something that ``learned`` was not told."""
        async with self._writing:  # a reading and a write of our own do not cross
            if started - self._keys_at >= KEYS:
                keys = await self._documents.keys()
                if self._keys is not None and not keys.keep(self._keys):
                    self.generation += 1  # a key is gone, and with it what it signed
                self._keys, self._keys_at = keys, started
            loaded = await self._documents.load(self._loaded)
            if self._loaded is not None and loaded.revocations.lacks(
                self._loaded.revocations, self._clock.wall()
            ):
                log.warning("revocations were lost in Vault and are written again")
                joined = loaded.revocations.joined(self._loaded.revocations)
                loaded = await self._documents.store(joined, loaded.version)
            self._loaded, self._read_at = loaded, started
        if self._closed:
            self._closed = False
            log.info("revocations of scoped tokens are known")
        if self._told == loaded.revocations.sequence:
            return False
        self.generation += 1
        self._told = loaded.revocations.sequence
        return True

    def _failed(self, error: Exception) -> None:
        age = self._clock.now() - self._read_at
        if self._closed or age < self.grace:
            log.log(
                logging.DEBUG if self._closed else logging.WARNING,
                "the revocations of scoped tokens cannot be read: %s",
                error if isinstance(error, BrokerError) else "no answer in time",
            )
            return
        self._closed = True
        self.generation += 1
        log.error("scoped tokens are refused until their revocations can be read again")

    # --- writing --------------------------------------------------------------------

    async def revoke(self, target: Target, until: float) -> Revocations:
        """Write a revocation; it is known here and written down when this returns.

        Args:
            target: what to revoke.
            until: Unix time at which all it could mean has expired.

        Raises:
            RevocationFailed: it is not confirmed.
        """
        self._used()
        wish = _Wish(target, until)
        self._waiting.append(wish)
        try:
            async with self._writing:
                if not wish.done:
                    await self._write()
        except RevocationFailed:
            raise
        except BrokerError as error:
            raise RevocationFailed from error
        finally:
            self._waiting = [one for one in self._waiting if one is not wish]
        return self.revocations

    async def _write(self) -> None:
        """Write all that waits, over whatever other replicas wrote meanwhile."""
        for _ in range(ATTEMPTS):
            taken = list(self._waiting)
            started = self._clock.now()
            loaded = await self._documents.load(self._loaded)
            base = loaded.revocations.joined(self.revocations)
            news = base.sequence != self._told
            wanted = [(one.target, one.until) for one in taken]
            changed = base.with_targets(wanted, self._clock.wall())
            try:
                self._loaded = await self._documents.store(changed, loaded.version)
            except VaultConflict:
                continue
            for one in taken:
                one.done = True
            if not news:  # else the next reading tells what others revoked
                self._told = changed.sequence
            self._read_at = max(self._read_at, started)
            self.generation += 1
            return
        raise RevocationFailed("Other replicas wrote at the same time, again and again.")
