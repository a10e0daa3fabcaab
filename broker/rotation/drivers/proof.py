"""Whether the upstream accepts a key: one request that carries it.

Duty: send the configured request with the new key in its place; say yes, no, or nobody knows.
Not its duty: when, and how often (``rotation.plan``).
Rule: only 401 and 403 mean no. A proof that is misconfigured must not cost a good key.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.credentials.model import CredentialSpec
from broker.credentials.sources import assemble
from broker.errors import CredentialMalformed, ProofFailed, UpstreamMalformed
from broker.rotation.drivers.documents import RequestTemplate, filled
from broker.rotation.drivers.exchange import Exchange, HeldKey, good
from broker.rotation.drivers.port import MintedKey

_REFUSALS = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class HttpProof:
    """Proves keys of one credential.

    Args:
        spec: the credential: how its fields are made, and where they go in a request.
        request: to an origin of ``spec.use``; 2xx for a good key.
    """

    spec: CredentialSpec
    request: RequestTemplate
    exchange: Exchange

    async def __call__(self, key: MintedKey) -> None:
        """Return when the upstream accepts the key.

        Raises:
            ProofFailed: the upstream refuses it.
            UpstreamError: nobody can tell.
        """
        what = f"the proof of {self.spec.key.name}"
        use = self.spec.use
        assert use is not None  # the configuration is refused without it
        try:
            data = assemble(self.spec.fields, key.fields)
        except CredentialMalformed as error:
            raise UpstreamMalformed(str(error)) from error
        held = HeldKey(self.spec.key.name, data, use)
        reply = await self.exchange.send(filled(self.request, {}), held, what)
        if reply.status in _REFUSALS:
            raise ProofFailed(f"The upstream answered {reply.status} to {what}.")
        good(reply, what)
