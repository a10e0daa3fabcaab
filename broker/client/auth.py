"""Authentication for httpx2 and httpx: the key goes with each hop that may have it.

Duty: decide for each request of a chain whether it carries the key; on a refusal report the
version and try once with the newer. A refusal is a 401, or what else the hand-out counts as one.
Not its duty: how a request carries it (``keyed``), what it carries (``placement``).
Rules:

* a request to an origin that is not listed is sent as it is, and so is what a redirect leads
  to there;
* with ``follow_redirects`` the flow follows redirects itself, each hop with the key or without;
* a client that follows redirects does so below this flow, with bare copies. When such a copy
  reached a listed origin, that hop is sent again with the key and the chain goes on from
  there. It is harmless to repeat if it only reads (GET, HEAD, OPTIONS) or was refused (4xx);
  else its answer stands;
* a body that cannot be replayed is never sent twice: its refusal is reported and returned.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import httpx2

from broker.client.credential import Credential
from broker.client.keyed import library_of
from broker.client.placement import is_listed, place, use_of

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class AsyncSource(Protocol):
    """What an async flow asks: a ``Broker``."""

    async def get(self, name: str) -> Credential:
        """The current credential."""
        ...

    async def tell(self, credential: Credential, status: int, detail: str) -> Credential | None:
        """Report; the newer version, if any. Never raises for the broker's trouble."""
        ...


class SyncSource(Protocol):
    """What a sync flow asks: a ``SyncBroker``."""

    def get(self, name: str) -> Credential:
        """The current credential."""
        ...

    def tell(self, credential: Credential, status: int, detail: str) -> Credential | None:
        """Report; the newer version, if any. Never raises for the broker's trouble."""
        ...


@dataclass(frozen=True, slots=True)
class _Fetch:
    """The flow wants the current credential."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """The flow met a refusal and wants the newer version."""

    credential: Credential
    status: int


@dataclass(frozen=True, slots=True)
class _Send:
    """The flow wants this request sent."""

    request: Any


_Flow: TypeAlias = Generator[_Fetch | _Refused | _Send, Any, None]


def _flow(request: Any, *, follow_redirects: bool) -> _Flow:
    """One request of the author's, and all that follows from it."""
    library = library_of(request)
    credential: Credential = yield _Fetch()
    rounds, retried = 0, False
    while True:
        keyed = _may_carry(credential, request)
        response = yield _Send(library.dress(request, place(credential)) if keyed else request)
        hops = [*response.history[rounds:], response]  # before them: the ends of earlier rounds
        rounds += 1
        refused = response.status_code in credential.report_statuses
        if keyed and len(hops) == 1 and refused and not retried:
            newer: Credential | None = yield _Refused(credential, response.status_code)
            if newer is None or not library.replayable(request):
                return
            credential, retried = newer, True
            continue
        if follow_redirects and response.next_request is not None:
            # The library built it from bare copies, and counts these rounds as redirects.
            request = response.next_request
            credential = yield _Fetch()
            continue
        bare = next((hop for hop in hops[1:] if _may_carry(credential, hop.request)), None)
        if bare is None or not _may_repeat(bare) or not library.replayable(bare.request):
            return
        request = bare.request
        credential = yield _Fetch()  # the chain may have outlived the last one


def _may_carry(credential: Credential, request: Any) -> bool:
    return is_listed(use_of(credential), str(request.url))


def _may_repeat(response: Any) -> bool:
    return response.request.method in _READS or 400 <= response.status_code < 500


class Auth(httpx2.Auth):
    """``auth=`` for httpx2; mixed with httpx's own ``Auth`` when that is imported."""

    # The body is sent as it comes: reading a large upload into memory for the sake of a
    # possible second attempt is the author's choice, by giving bytes.
    requires_request_body = False
    requires_response_body = False

    def __init__(
        self,
        name: str,
        aio: AsyncSource | None,
        sync: SyncSource,
        *,
        follow_redirects: bool = False,
    ) -> None:
        self._name = name
        self._follow_redirects = follow_redirects
        self._aio = aio
        self._sync = sync

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """See httpx2."""
        if self._aio is None:
            raise TypeError("This auth came from a SyncBroker; an async client needs a Broker.")
        flow = _flow(request, follow_redirects=self._follow_redirects)
        try:
            step = next(flow)
            while True:
                match step:
                    case _Fetch():
                        step = flow.send(await self._aio.get(self._name))
                    case _Refused(credential, status):
                        step = flow.send(await self._aio.tell(credential, status, ""))
                    case _Send(sent):
                        step = flow.send((yield sent))
        except StopIteration:
            return

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """See httpx2."""
        flow = _flow(request, follow_redirects=self._follow_redirects)
        try:
            step = next(flow)
            while True:
                match step:
                    case _Fetch():
                        step = flow.send(self._sync.get(self._name))
                    case _Refused(credential, status):
                        step = flow.send(self._sync.tell(credential, status, ""))
                    case _Send(sent):
                        step = flow.send((yield sent))
        except StopIteration:
            return

    def __call__(self, _: Any) -> Any:
        """Refuse: httpx takes a stranger for a function, and would send no key."""
        raise TypeError("Import httpx before calling broker.auth, so that it fits httpx too.")

    def __repr__(self) -> str:
        return f"<Auth {self._name}>"


def make_auth(
    name: str, aio: AsyncSource | None, sync: SyncSource, *, follow_redirects: bool
) -> Auth:
    """An ``Auth`` for httpx2, and for httpx if the program has imported it."""
    kind: type[Auth] = Auth
    httpx = sys.modules.get("httpx")
    if httpx is not None and not issubclass(Auth, httpx.Auth):  # an alias of httpx2 is possible
        kind = type("Auth", (Auth, httpx.Auth), {})
    return kind(name, aio, sync, follow_redirects=follow_redirects)
