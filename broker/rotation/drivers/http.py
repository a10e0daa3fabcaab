"""The driver for providers with a key-management API of their own.

Duty: create, prove, list and retire by the requests that the configuration describes.
Not its duty: requests and answers as texts (``documents``), sending (``exchange``).
Rules:

* what an answer lacks is an error, never guessed; the same key as the one in use is no new key;
* an id goes to logs and audit, so one that holds the key itself is refused;
* each call may be repeated: a key that was made but whose answer was lost is found by its
  label, and one that is gone already is retired.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.clock import Clock
from broker.errors import UpstreamMalformed
from broker.rotation.drivers import documents
from broker.rotation.drivers.documents import FilledRequest, RequestTemplate, Times
from broker.rotation.drivers.exchange import Exchange, KeySource, Reply, good
from broker.rotation.drivers.port import Capabilities, MintedKey
from broker.rotation.drivers.proof import HttpProof
from broker.rotation.model import LABEL_PREFIX, SEPARATOR, Label, UpstreamKey
from broker.secret import SecretValue

MAX_PAGES: Final = 100
_GONE: Final = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class CreateCall:
    """How a key is made; JSON pointers into the answer."""

    request: RequestTemplate
    fields: Mapping[str, str]
    id: str
    expires_at: str | None = None
    life: float | None = None
    """Seconds, for the placeholders ``expires_at`` and ``expires_unix``."""


@dataclass(frozen=True, slots=True)
class ListCall:
    """How keys are listed; ``items`` and ``next`` from the root, the rest within an item."""

    request: RequestTemplate
    items: str
    id: str
    label: str
    created_at: str | None = None
    next: str | None = None
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class HttpCalls:
    """Everything a provider is asked."""

    create: CreateCall
    retire: RequestTemplate
    listing: ListCall | None = None
    times: Times = "rfc3339"


class HttpDriver:
    """A provider's own key-management API.

    Args:
        name: the credential whose keys these are.
        installation: of this broker; with the name, the beginning of every label.
        manager: the key that may manage keys.
        proof: None: every new key is taken to be good.
        in_use: the texts that are handed out now, to notice a provider that repeats itself.
    """

    def __init__(
        self,
        name: str,
        calls: HttpCalls,
        *,
        installation: str,
        clock: Clock,
        exchange: Exchange,
        manager: KeySource,
        proof: HttpProof | None,
        in_use: Callable[[], Sequence[SecretValue]] = tuple,
    ) -> None:
        self._name, self._calls, self._clock = name, calls, clock
        self._installation = installation
        self._exchange, self._manager, self._proof = exchange, manager, proof
        self._in_use = in_use

    @property
    def capabilities(self) -> Capabilities:
        """See ``Driver``."""
        return Capabilities(
            overlap=True,
            prove_first=True,
            rollback=True,
            list=self._calls.listing is not None,
            fields=frozenset(self._calls.create.fields),
        )

    async def create(self, label: Label) -> MintedKey:
        """See ``Driver``."""
        call, what = self._calls.create, f"the creation of a key for {self._name}"
        words = {
            "label": label.text,
            "credential": label.credential,
            "installation": label.installation,
        }
        if call.life is not None:
            end = self._clock.wall() + call.life
            words |= {"expires_at": documents.rfc3339(end), "expires_unix": str(int(end))}
        reply = await self._ask(documents.filled(call.request, words), what)
        answer = documents.parsed(good(reply, what).body, what)
        fields = {
            name: documents.secret(answer, pointer, what) for name, pointer in call.fields.items()
        }
        key_id = documents.identifier(answer, call.id, what)
        if any(value.reveal() in key_id for value in fields.values()):
            raise UpstreamMalformed(
                f"The answer to {what} gives the key itself as its id.",
                remedy="Point answer.id to an id that may be logged.",
            )
        if any(old == new for new in fields.values() for old in self._in_use()):
            raise UpstreamMalformed(
                f"The answer to {what} holds the key that is in use already.",
                remedy="Point answer.fields to what is new in each key, and look at the provider.",
            )
        expires = documents.moment(answer, call.expires_at, self._calls.times, what)
        return MintedKey(key_id, fields, expires)

    async def prove(self, key: MintedKey) -> None:
        """See ``Driver``."""
        if self._proof is not None:
            await self._proof(key)

    async def list(self) -> Sequence[UpstreamKey]:
        """See ``Driver``. Follows pages, ``MAX_PAGES`` at most."""
        call, what = self._calls.listing, f"the list of keys for {self._name}"
        assert call is not None  # see capabilities
        prefix = SEPARATOR.join((LABEL_PREFIX, self._installation, self._name, ""))
        request = documents.filled(call.request, {"label_prefix": prefix})
        first, keys, seen = request.url, builtins.list[UpstreamKey](), set[str]()
        for _ in range(MAX_PAGES):
            reply = await self._ask(request, what)
            answer = documents.parsed(good(reply, what).body, what)
            keys += self._items(answer, call, what)
            cursor = None if call.next is None else documents.found(answer, call.next)
            if documents.is_absent(cursor) or cursor in ("", False):
                return keys
            assert call.next is not None
            text = documents.identifier(answer, call.next, what)
            if text in seen:
                raise UpstreamMalformed(f"The answer to {what} leads to the same page again.")
            seen.add(text)
            url = documents.with_parameter(first, call.cursor, text)
            request = FilledRequest(request.method, url, request.headers, request.content)
        raise UpstreamMalformed(f"The answer to {what} has more than {MAX_PAGES} pages.")

    async def retire(self, key_id: str) -> None:
        """See ``Driver``."""
        what = f"the retirement of a key of {self._name}"
        reply = await self._ask(documents.filled(self._calls.retire, {"id": key_id}), what)
        if reply.status not in _GONE:
            good(reply, what)

    async def _ask(self, request: FilledRequest, what: str) -> Reply:
        return await self._exchange.send(request, self._manager(), what)

    def _items(self, answer: Any, call: ListCall, what: str) -> builtins.list[UpstreamKey]:
        items = documents.found(answer, call.items)
        if not isinstance(items, builtins.list):
            raise UpstreamMalformed(f"The answer to {what} has no list at {call.items!r}.")
        return [self._item(item, call, what) for item in items]

    def _item(self, item: Any, call: ListCall, what: str) -> UpstreamKey:
        label = documents.found(item, call.label)
        return UpstreamKey(
            key_id=documents.identifier(item, call.id, what),
            label=label if isinstance(label, str) else "",  # somebody else's key may have none
            created_wall=documents.moment(item, call.created_at, self._calls.times, what),
        )
