"""Which credentials a caller may know of: what some condition could open to it.

Duty: one name, or all of them, with the conditions on time, tool, address and arguments left
open.
Not its duty: deciding about a request (``policies``); leaving conditions open (``left_open``).
Rules:

* plain policies are looked through once for all names; where one looks at a credential's
  attributes Cedar is asked, name by name, a few at a time;
* lists of callers without a scoped token are made at once: a reload compiles in a thread, and a
  first list would hold up the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from broker.access import cedar
from broker.access.left_open import opened
from broker.access.vocabulary import ADMIN, Json, Question

if TYPE_CHECKING:
    from broker.access.policies import Policies

LISTED_BY: Final = ("handout", "read_status")
"""A caller sees a credential when it may have one of these for some tool, at some time."""
ASKED: Final = 3
"""Names put to Cedar together: together they cost two thirds of what each would alone, and no
more than half a millisecond on a loop."""


class Listing:
    """Of one compiled set.

    Args:
        policies: the set.
        schema: of its policies.
    """

    def __init__(self, policies: Policies, schema: cedar.Schema) -> None:
        self._policies = policies
        self._opened = {one.id: opened(one.est) for one in policies.all.values()}
        self._set = cedar.PolicySet(
            {name: est for name, est in self._opened.items() if est is not None}, schema
        )
        names = frozenset(policies.sources.credentials)
        self._reached = {one.id: one.reach.credentials(names) for one in policies.all.values()}
        self._visible: dict[str, tuple[str, ...]] = {}
        self._visible = {name: self.visible(name, None) for name in policies.sources.clients}

    def lists(self, caller: str, subject: str | None, name: str) -> bool:
        """Whether some condition could let the caller have the credential, or see its state."""
        try:
            return any(self._listed(caller, subject, action, (name,)) for action in LISTED_BY)
        except ValueError:  # a subject that cannot be put to Cedar
            return False

    def _listed(
        self, caller: str, subject: str | None, action: str, names: Sequence[str]
    ) -> set[str]:
        """Those of the names that some condition opens for an action; asks Cedar at most once."""
        if caller not in self._policies.sources.clients:
            return set()
        found: set[str] = set()
        unsure: list[tuple[str, Json]] = []
        for name in names:
            question = Question(caller, action, name, subject=subject)
            concerned = [
                one
                for one in self._policies.concerned(question)
                if self._opened[one.id] is not None
            ]
            if not any(one.permits for one in concerned):
                continue
            if not all(one.reach.plain for one in concerned):
                unsure.append((name, self._policies.put(question)))
            elif all(one.permits for one in concerned):
                found.add(name)
        if unsure:
            entities = self._policies.asking(caller, subject).entities
            answers = self._set.ask([asked for _, asked in unsure], entities)
            found.update(
                name
                for (name, _), answer in zip(unsure, answers, strict=True)
                if answer.allowed and not answer.errors
            )
        return found

    def visible(self, caller: str, subject: str | None) -> tuple[str, ...]:
        """Names of the credentials that ``lists`` is true for, in a stable order."""
        return tuple(sorted(set[str]().union(*self.look(caller, subject))))

    def look(self, caller: str, subject: str | None) -> Iterator[set[str]]:
        """The names that ``visible`` has, some at a time, for who must let others go on between."""
        if subject is None and caller in self._visible:
            yield set(self._visible[caller])
            return
        if caller not in self._policies.sources.clients:
            return
        found: set[str] = set()
        for action in LISTED_BY:
            sure, no, unsure = set[str](), set[str](), set[str]()
            for one in self._policies.asking(caller, subject).policies:
                if self._opened[one.id] is None or not one.reach.does(action, admin=ADMIN):
                    continue
                if not one.reach.plain:
                    unsure |= self._reached[one.id]
                else:
                    (sure if one.permits else no).update(self._reached[one.id])
            found |= sure - no - unsure
            yield set(found)
            # What is left is Cedar's to say, a few names at a time.
            names = sorted(unsure - no - found)
            for at in range(0, len(names), ASKED):
                some = self._listed(caller, subject, action, names[at : at + ASKED])
                found |= some
                yield some
