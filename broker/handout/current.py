"""The answer of this moment for each credential, prepared once and given many times.

Duty: for a pass, the bytes that may leave now; promise ``use_until`` to the store first.
Not its duty: deciding (``service``), making the bytes (``answer``), recording.
Rules (DESIGN promises 1 and 2):

* nothing is given that is not usable now;
* the store knows the latest ``use_until`` before the caller does.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.credentials.model import CredentialKey, CredentialSpec, Entry
from broker.credentials.store import CredentialStore
from broker.errors import CredentialUnknown
from broker.handout import overview
from broker.handout.answer import Prepared, prepare
from broker.handout.conditions import matches
from broker.handout.passes import Pass
from broker.handout.records import Records


class CurrentAnswers:
    """Answers by credential, as long as they hold.

    Args:
        store: what is known of each credential.
        records: makes the rest of a pass's records.
        specs: every configured credential by name.
    """

    def __init__(
        self, store: CredentialStore, records: Records, specs: Mapping[str, CredentialSpec]
    ) -> None:
        self._store, self._records, self._specs = store, records, specs
        self._prepared: dict[CredentialKey, Prepared] = {}
        self.generation = 0
        """Moves with the configuration and with each published value."""
        store.subscribe(self._changed)

    def reconfigure(self, specs: Mapping[str, CredentialSpec]) -> None:
        """Take over a new configuration."""
        self._specs = specs
        self.generation += 1
        self._prepared.clear()

    def _changed(self, before: Entry | None, after: Entry) -> None:
        """Drop the bytes of a value that is no longer the newest."""
        del before
        self._prepared.pop(after.key, None)
        self.generation += 1  # what is masked in a record may have changed
        self._records.values_changed()

    def ready(self, held: Pass, now: float, wall: float) -> bool:
        """Give the pass the answer of this moment; False when a moment's wait may give one."""
        self._store.observe(now, wall)
        prepared = held.prepared
        # Each value that is published moves the generation, so the entry is the newest still.
        if (
            prepared is None
            or held.seen != self.generation
            or not prepared.holds(prepared.entry, now, wall)
        ):
            key = held.decision.key
            entry = self._store.get(key)
            prepared = self._prepared.get(key)
            if prepared is None or not prepared.holds(entry, now, wall):
                prepared = self._prepare(key, entry, now, wall)
                if prepared is None:
                    if entry is not None and entry.revalidating:
                        return False
                    raise overview.unavailable(key, entry, wall=wall)
            held.seen = self.generation
            condition = held.if_none_match
            unchanged = condition is not None and matches(condition, prepared.etag)
            held.prepared = prepared
            held.answer = prepared.not_modified if unchanged else prepared.ok
            held.result = "not_modified" if unchanged else "ok"
            held.rest = self._records.rest(held, prepared.audit)
        if held.counter is not None:
            seconds = held.counter.hit()
            if seconds > 0.0:
                raise held.counter.refusal(seconds)
        return True

    def _prepare(
        self, key: CredentialKey, entry: Entry | None, now: float, wall: float
    ) -> Prepared | None:
        spec = self._specs.get(key.name)
        if spec is None:
            raise CredentialUnknown(reason="not_configured")
        prepared = None if entry is None else prepare(entry, spec, now=now, wall=wall)
        if prepared is None:
            self._prepared.pop(key, None)
            return None
        # Once a tick is enough: every answer of the tick states the same use_until.
        self._store.promise(key, prepared.ok.version, prepared.times.promised)
        self._prepared[key] = prepared
        return prepared
