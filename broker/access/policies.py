"""All that decides who may have what, compiled into one set.

Duty: lists, roles and files to policies with ids and places; every fault of them; a question
to a verdict.
Not its duty: the port of the hand-out (``policy``), keeping verdicts (``cache``).
Rules:

* deny by default, and a forbid beats every permit, a client's list and a role included;
* an error in any policy refuses, whatever the others say: Cedar would skip a forbid that
  errs;
* where a policy may look at arguments that nobody knows, nothing is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from broker.access import cedar
from broker.access.authorizer import NEEDS_ARGUMENTS
from broker.access.est import Est, Uid, literals, texts
from broker.access.left_open import CHANGING
from broker.access.listing import Listing
from broker.access.moments import Moments
from broker.access.policy_files import Sets, read_files
from broker.access.policy_sources import Sources
from broker.access.reach import Reach, reach
from broker.access.roles import held, list_id, list_policy, policy_id, role_policy
from broker.access.vocabulary import ADMIN, Json, Question, request, schema, uid
from broker.errors import SettingsErrors
from broker.protocol.scopes import meeting

SUBJECTS: Final = 64
"""Subjects of whom what is known is kept; some kilobytes each."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy."""

    id: str
    place: str
    """File and line, or the key of the configuration."""
    text: str
    est: Est
    reach: Reach

    @property
    def permits(self) -> bool:
        """Whether it permits; else it forbids."""
        return bool(self.est["effect"] == "permit")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies say to a question."""

    allowed: bool
    policies: tuple[str, ...] = ()
    """Those that permit, or those that forbid."""
    reason: str = ""
    """Of a refusal: ``no_policy``, ``policy_forbids …``, ``policy_error …``."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One who asks."""

    uids: tuple[Uid, ...]
    """The principal, then all it is in."""
    policies: tuple[Policy, ...]
    """That may apply to it."""
    entities: cedar.Entities


class Policies:
    """A compiled set.

    Args:
        sources: what it is made of.

    Raises:
        SettingsErrors: with every fault of the files.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.vocabulary = sources.vocabulary
        self._moments = Moments(sources.vocabulary.all_zones())
        every = cedar.Schema(schema(sources.vocabulary))
        self.all: dict[str, Policy] = {one.id: one for one in self._own()}
        sets = Sets(
            callers=sources.known_callers.union(sources.clients),
            credentials=frozenset(sources.credentials),
            roles=frozenset(role.name for role in sources.roles),
            tools=frozenset(sources.tools) or None,
        )
        found, faults = read_files(sources.files, every, sets, taken=self.all)
        if faults:
            raise SettingsErrors(faults)
        for one in found:
            est = {**one.est, "annotations": {"id": one.id}}
            self.all[one.id] = Policy(one.id, one.place, one.text, est, reach(est))
        # Only what some policy reads is put to Cedar: typing a condition costs more than
        # judging it.
        self._words = frozenset[str]().union(*(one.reach.reads for one in self.all.values()))
        self._schema = cedar.Schema(schema(sources.vocabulary, self._words))
        self._set = cedar.PolicySet({one.id: one.est for one in self.all.values()}, self._schema)
        self.tool_matters = "tool" in self._words
        self._base = cedar.Entities(self._entities(), self._schema)
        self._askers: dict[tuple[str, str | None], Asking] = {}
        self.listing = Listing(self, self._schema)

    def _own(self) -> Iterable[Policy]:
        """Policies of lists and roles; they are made here, so a fault is one of the broker."""
        sources = self.sources
        texts: list[tuple[str, str, str | None]] = [
            (list_id(client), f"clients.{client}.credentials", list_policy(client, names))
            for client, listed in sources.clients.items()
            if (names := [name for name in listed if name in sources.credentials])
        ]
        paths = {name: one.whole for name, one in sources.credentials.items()}
        texts += [
            (policy_id(role.name), f"roles.{role.name}", role_policy(role, paths))
            for role in sources.roles
        ]
        for name, key, text in texts:
            if text is not None:
                place = f"{sources.file}: {key}" if sources.file else key
                ((_, est),) = cedar.parse(text)
                yield Policy(name, place, text, est, reach(est))

    def _entities(self) -> list[Json]:
        sources = self.sources
        roles = [_entity("Role", role.name) for role in sources.roles]
        callers = [
            _entity("Caller", name, [uid("Role", one) for one in held(sources.roles, name, None)])
            for name in sources.clients
        ]
        credentials = [
            {
                "uid": uid("Credential", name),
                "attrs": {"name": name, "kind": one.kind, "mount": one.mount, "path": one.path},
                "parents": [],
            }
            for name, one in sources.credentials.items()
        ]
        return [*roles, *callers, *credentials]

    # --- deciding -----------------------------------------------------------------

    def decide(self, question: Question) -> Verdict:
        """The one function that decides; explanations and tests of policies ask it too."""
        if question.caller not in self.sources.clients:
            return Verdict(allowed=False, reason="no_policy")
        try:
            return self._decide(question)
        except ValueError as error:  # what was asked cannot be put to Cedar
            return Verdict(allowed=False, reason=f"policy_error {error}")

    def _decide(self, question: Question) -> Verdict:
        if question.arguments is None and question.action == "call_tool":
            unknown = sorted(
                one.id for one in self.concerned(question) if "arguments" in one.reach.reads
            )
            if unknown:
                return Verdict(allowed=False, policies=tuple(unknown), reason=NEEDS_ARGUMENTS)
        asking = self.asking(question.caller, question.subject)
        (answer,) = self._set.ask([self.put(question)], asking.entities)
        if answer.errors:
            return Verdict(allowed=False, reason=f"policy_error {answer.errors[0]}")
        if answer.allowed:
            return Verdict(allowed=True, policies=answer.reasons)
        if answer.reasons:
            reason = f"policy_forbids {', '.join(answer.reasons)}"
            return Verdict(allowed=False, policies=answer.reasons, reason=reason)
        return Verdict(allowed=False, reason="no_policy")

    def put(self, question: Question) -> Json:
        """The question as Cedar takes it.

        Raises:
            ValueError: it cannot be put to Cedar.
        """
        return request(question, self._moments.at(question.wall), self.vocabulary, self._words)

    def asking(self, caller: str, subject: str | None) -> Asking:
        """What is known of who asks; kept for every caller and for some subjects."""
        key = (caller, subject)
        known = self._askers.get(key)
        if known is None:
            known = self._new_asking(caller, subject)
            if subject is not None:
                subjects = [one for one in self._askers if one[1] is not None]
                for old in subjects[: len(subjects) - SUBJECTS + 1]:
                    del self._askers[old]
            self._askers[key] = known
        return known

    def _new_asking(self, caller: str, subject: str | None) -> Asking:
        roles = held(self.sources.roles, caller, subject)
        uids: tuple[Uid, ...] = (("Caller", caller), *(("Role", name) for name in roles))
        entities = self._base
        if subject is not None:
            parents = [uid(*one) for one in uids]
            uids = (("Subject", subject), *uids)
            entities = entities.with_added([_entity("Subject", subject, parents)])
        policies = tuple(one for one in self.all.values() if one.reach.asked_by(uids))
        return Asking(uids, policies, entities)

    def holds(self, condition: Json, question: Question) -> bool:
        """Whether one clause of a policy holds for a question, by Cedar's judgement."""
        everything = {"op": "All"}
        clause = {
            "effect": "permit",
            "principal": everything,
            "action": everything,
            "resource": everything,
            "conditions": [condition],
        }
        try:
            asked = self.put(question)
        except ValueError:
            return False
        entities = self.asking(question.caller, question.subject).entities
        return cedar.PolicySet({"clause": clause}, self._schema).ask([asked], entities)[0].allowed

    def principals(self, question: Question) -> tuple[Uid, ...]:
        """Who asks, and all it is in."""
        return self.asking(question.caller, question.subject).uids

    # --- what may concern whom ------------------------------------------------------

    def concerned(self, question: Question) -> list[Policy]:
        """Policies that may apply to a question by their heads."""
        resource = ("Tool" if question.about_tool else "Credential", question.resource)
        return [
            one
            for one in self.asking(question.caller, question.subject).policies
            if one.reach.about(question.action, resource, admin=ADMIN)
        ]

    def reads(self, question: Question) -> frozenset[str]:
        """Changing conditions that the verdict may depend on."""
        try:
            concerned = self.concerned(question)
        except ValueError:  # cannot be put to Cedar: nothing about it is kept
            return CHANGING
        return frozenset[str]().union(*(one.reach.reads for one in concerned)) & CHANGING

    def tools(self, caller: str, subject: str | None) -> tuple[str, ...] | None:
        """Names and globs of the tools that some policy may permit; None: any."""
        roles = {policy_id(role.name): role for role in self.sources.roles}
        found: dict[str, None] = {}
        for one in self.asking(caller, subject).policies:
            if not one.permits:
                continue
            role = roles.get(one.id)
            named = one.reach.tools() if role is None else role.tools
            if not named:
                return None
            found.update(dict.fromkeys(named))
        return tuple(found)

    def samples(self, caller: str, subject: str | None, action: str, glob: str) -> tuple[str, ...]:
        """Tools that a glob covers, such that files' policies tell no two others apart.

        Lists and roles only permit, and what they permit as a glob they permit in whole.
        """
        own = {policy_id(role.name) for role in self.sources.roles}
        own |= {list_id(client) for client in self.sources.clients}
        found: dict[str, None] = {}
        for one in self.asking(caller, subject).policies:
            actions = one.reach.actions
            if one.id in own or (actions is not None and actions.isdisjoint((action, ADMIN))):
                continue
            named = [name for kind, name in literals(one.est) if kind == "Tool"]
            for text in (*named, *texts(one.est.get("conditions", ()))):
                if name := meeting(glob, text):
                    found[name] = None
        return tuple(found)

    def describe(self, name: str) -> str:
        """Place and text of a policy, for people; empty when there is none by this id."""
        one = self.all.get(name)
        return "" if one is None else f"{one.id} ({one.place})\n{one.text}"


def _entity(kind: str, name: str, parents: Iterable[Json] = ()) -> Json:
    return {"uid": uid(kind, name), "attrs": {}, "parents": list(parents)}
