"""The Cedar engine: the only place that knows ``cedarpy``.

Duty: parse, validate and evaluate policies; answers as plain values.
Not its duty: what the policies are (``policies``), what a verdict means (``policy``).
Rules:

* policies, entities and schema are parsed once; the schema is given with each request;
* imported only where policies are configured: it costs memory;
* evaluating never raises: an answer that cannot be had is one with an error in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cedarpy

from broker.access.est import balanced
from broker.access.vocabulary import Json


@dataclass(frozen=True, slots=True)
class Answer:
    """Cedar's answer to one request."""

    allowed: bool
    reasons: tuple[str, ...] = ()
    """Ids of the policies that decided."""
    errors: tuple[str, ...] = ()
    """What went wrong in any of them; Cedar itself would have gone on without it."""


class Schema:
    """A parsed schema."""

    def __init__(self, text: str) -> None:
        self.handle = cedarpy.Schema.from_str(text)

    def faults(self, policy: str) -> list[str]:
        """What the schema does not allow in a policy."""
        found = cedarpy.validate_policies(policy, self.handle)
        return [error.error for error in found.errors]


def parse(text: str) -> list[tuple[str, Json]]:
    """The policies in a text: ``policy`` or ``template``, and the policy in Cedar's JSON form.

    Raises:
        ValueError: no Cedar; the message is Cedar's.
        RecursionError: nested too deeply.
    """
    found = json.loads(cedarpy.policies_to_json_str(text))
    return [("policy", balanced(one)) for one in found["staticPolicies"].values()] + [
        ("template", one) for one in found["templates"].values()
    ]


def fits(policy: Mapping[str, Any]) -> bool:
    """Whether a policy can be put into a set: Cedar reads back some fifty levels."""
    document = {"staticPolicies": {"one": policy}, "templates": {}, "templateLinks": []}
    try:
        cedarpy.PolicySet.from_json_str(json.dumps(document))
    except ValueError:
        return False
    return True


def written(policy: Mapping[str, Any]) -> str:
    """A policy in Cedar's JSON form as text."""
    document = {"staticPolicies": {"one": policy}, "templates": {}, "templateLinks": []}
    return cedarpy.policies_from_json_str(json.dumps(document))


class Entities:
    """Parsed entities.

    Args:
        entities: as Cedar's JSON.
        schema: they must fit.
    """

    def __init__(self, entities: Sequence[Json], schema: Schema) -> None:
        self.handle = cedarpy.Entities.from_json_str(json.dumps(entities), schema.handle)

    def with_added(self, entities: Sequence[Json]) -> Entities:
        """These and some more."""
        result = object.__new__(Entities)
        result.handle = self.handle.with_added_json_str(json.dumps(entities))
        return result


class PolicySet:
    """Parsed policies under ids of our own.

    Args:
        policies: in Cedar's JSON form, by id.
        schema: given with each request.
    """

    def __init__(self, policies: Mapping[str, Mapping[str, Any]], schema: Schema) -> None:
        document = {"staticPolicies": dict(policies), "templates": {}, "templateLinks": []}
        self._handle = cedarpy.PolicySet.from_json_str(json.dumps(document))
        self._schema = schema

    def ask(self, requests: Iterable[Json], entities: Entities) -> list[Answer]:
        """Evaluate requests."""
        asked = list(requests)
        try:
            results = cedarpy.is_authorized_batch(
                asked, self._handle, entities.handle, self._schema.handle
            )
        except (ValueError, TypeError) as error:
            return [Answer(allowed=False, errors=(str(error),))] * len(asked)
        return [
            Answer(
                result.allowed,
                tuple(sorted(result.diagnostics.reasons)),
                tuple(result.diagnostics.errors),
            )
            for result in results
        ]
