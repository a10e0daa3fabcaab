"""Whether the upstream accepts a key: one request that carries it.

Duty: send the configured request with the key in its place; say yes, no, or nobody knows.
Not its duty: when, and how often (``rotation.plan``, ``credentials.requests``).
Rules:

* only 401 and 403 mean no. A proof that is misconfigured must not cost a good key;
* what a rotation has just proved is not asked again before readers have it, but for a report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from broker.clock import Clock
from broker.credentials.model import CredentialSpec, Snapshot
from broker.credentials.sources import assemble
from broker.errors import CredentialMalformed, ProofFailed, UpstreamMalformed
from broker.rotation.drivers.documents import RequestTemplate, filled
from broker.rotation.drivers.exchange import Exchange, HeldKey, good
from broker.rotation.drivers.port import MintedKey
from broker.secret import SecretValue

REMEMBERED: Final = 60.0
"""Seconds for which a rotation's proof serves its own publication."""
_REFUSALS: Final = frozenset({401, 403})

Carried = tuple[SecretValue | None, ...]


class HttpProof:
    """Proves keys of one credential. Implements ``credentials.proof.Proof`` as well.

    Args:
        spec: the credential: how its fields are made, and where they go in a request.
        request: to an origin of ``spec.use``; 2xx for a good key.
        met: told of each value before it is sent, so that no log shows one that is not
            published yet, or never will be.
    """

    def __init__(
        self,
        spec: CredentialSpec,
        request: RequestTemplate,
        exchange: Exchange,
        *,
        clock: Clock,
        met: Callable[[Iterable[SecretValue]], None] = lambda _: None,
    ) -> None:
        self._spec, self._request, self._exchange, self._clock = spec, request, exchange, clock
        self._met = met
        self._accepted: tuple[Carried, float] | None = None

    async def __call__(self, key: MintedKey) -> None:
        """Return when the upstream accepts a key that was made.

        Raises:
            ProofFailed: the upstream refuses it.
            UpstreamError: nobody can tell.
        """
        try:
            data = assemble(self._spec.fields, key.fields)
        except CredentialMalformed as error:
            raise UpstreamMalformed(str(error)) from error
        await self._ask(data)
        self._accepted = self._carried(data), self._clock.now()

    async def prove(self, snapshot: Snapshot, *, suspect: bool) -> None:
        """See ``Proof``."""
        accepted, self._accepted = self._accepted, None
        if accepted is not None and not suspect:
            carried, at = accepted
            young = self._clock.now() - at <= REMEMBERED
            if young and carried == self._carried(snapshot.data):
                return
        await self._ask(snapshot.data)

    async def _ask(self, data: Mapping[str, SecretValue]) -> None:
        what, use = f"the proof of {self._spec.key.name}", self._spec.use
        assert use is not None  # the configuration is refused without it
        self._met(data.values())
        held = HeldKey(self._spec.key.name, data, use)
        reply = await self._exchange.send(filled(self._request, {}), held, what)
        if reply.status in _REFUSALS:
            raise ProofFailed(f"The upstream answered {reply.status} to {what}.")
        good(reply, what)

    def _carried(self, data: Mapping[str, SecretValue]) -> Carried:
        """What of a value goes into the request."""
        use = self._spec.use
        assert use is not None
        return tuple(data.get(name) for name in (use.field, use.username_field, use.password_field))
