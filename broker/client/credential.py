"""What a caller holds: one version of a credential, frozen [pure].

Duty: the value object, and reading it from a hand-out.
Not its duty: asking, caching (``core``); placing it in a request (``placement``).
Rules:

* nothing shows a value but ``value`` and ``[...]``, which an author writes where it leaves;
* a credential never changes: a newer version is another object;
* ``deadline`` counts on the caller's own clock from before the request was sent; where the
  wall clock of the two sides says less, less is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from broker.errors import BrokerAnswerInvalid, CredentialMalformed
from broker.protocol import names
from broker.protocol.models import parse_time
from broker.secret import MASK, SecretValue

UNAUTHORIZED: Final = 401

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on both clocks: ``now`` as ``Clock.now()``, ``wall`` as Unix time."""

    now: float
    wall: float

    def deadline(self, *, issued_at: float, use_until: float) -> float:
        """``use_until`` on ``Clock.now()``, when this moment is before the request was sent."""
        return self.now + min(use_until - issued_at, use_until - self.wall)


@dataclass(frozen=True, slots=True)
class Use:
    """Where the value goes in a request, in OpenAPI's words (``protocol.models.UseDocument``)."""

    place: Literal["header", "cookie", "unsafe_query"]
    name: str
    field: str = ""
    prefix: str = ""
    scheme: Literal["", "bearer", "basic"] = ""
    username_field: str = ""
    password_field: str = ""
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """One version of a credential, as handed out. Times are Unix seconds.

    ``credential["api_key"]`` and ``credential.value`` are the secret as text; everything
    else, its ``repr`` too, can be logged.
    """

    name: str
    version: str
    """Opaque; compare for equality only."""
    data: Mapping[str, SecretValue]
    """Field to secret, for code that passes secrets on."""
    use: Use | None
    state: str
    """``fresh``, ``stale``, ``suspect`` and so on (``docs/client.md``)."""
    issued_at: float
    expires_at: float | None
    """Until when the broker vouches for the value; None: no end known."""
    use_until: float
    """Ask again before this; the value is not revoked earlier and may be afterwards."""
    deadline: float
    """``use_until`` on the clock of this process (``Clock.now()``)."""
    asked_at: float
    """When this was asked for, on the same clock: of two answers the later asked is newer."""
    source_version: str = ""
    """Vault's own number, for people."""
    report_statuses: tuple[int, ...] = (401,)
    """With which the upstream refuses this key, as the operator says: worth a report."""

    def __getitem__(self, field: str) -> str:
        """The secret text of one field.

        Raises:
            KeyError: no such field; the message lists those there are.
        """
        try:
            return self.data[field].reveal()
        except KeyError:
            raise KeyError(f"{field!r}; {self.name} has {', '.join(self.data)}") from None

    @property
    def value(self) -> str:
        """The secret text: the field that ``use`` names, or the only one.

        Raises:
            CredentialMalformed: several fields, and ``use`` names none.
        """
        if self.use is not None and self.use.field in self.data:
            return self[self.use.field]
        if len(self.data) != 1:
            raise CredentialMalformed(
                f"{self.name} has several fields: {', '.join(self.data)}.",
                remedy='Name the field, such as credential["password"].',
            )
        return self[next(iter(self.data))]

    def __repr__(self) -> str:
        fields = ", ".join(f"{field}={MASK}" for field in self.data)
        return f"<Credential {self.name} version={self.version} state={self.state} {fields}>"


def read_handout(document: object, *, name: str, sent: Moment) -> Credential:
    """Read the body of a hand-out.

    Args:
        document: the parsed JSON, a ``HandoutDocument`` if all is well.
        name: the credential that was asked for.
        sent: before the request was sent.

    Raises:
        BrokerAnswerInvalid: a member is missing or of another kind; says which, never its value.
    """
    answer = _Members(document)
    if answer.get("name", str) != name:
        raise BrokerAnswerInvalid(f"The broker answered with another credential than {name}.")
    data: dict[str, SecretValue] = {}
    for field, secret in answer.get("data", dict).items():
        if not isinstance(field, str) or not isinstance(secret, str):
            raise BrokerAnswerInvalid(f"The hand-out of {name} has a field that is no text.")
        data[field] = SecretValue(secret)
    issued_at, use_until = answer.moment("issued_at"), answer.moment("use_until")
    return Credential(
        name=name,
        version=answer.get("version", str),
        data=MappingProxyType(data),
        use=_read_use(answer.get("use", dict, None)),
        state=answer.get("state", str),
        issued_at=issued_at,
        expires_at=answer.moment_or_none("expires_at"),
        use_until=use_until,
        deadline=sent.deadline(issued_at=issued_at, use_until=use_until),
        asked_at=sent.now,
        source_version=answer.get("source_version", str, None) or "",
        report_statuses=tuple(
            status
            for status in answer.get("report_statuses", list, None) or (UNAUTHORIZED,)
            if isinstance(status, int)
        ),
    )


def prolonged(credential: Credential, headers: Mapping[str, str], *, sent: Moment) -> Credential:
    """The same version with the newer times of a 304's headers.

    Args:
        credential: what is held.
        headers: of the answer; names in any case.
        sent: before the request was sent.

    Raises:
        BrokerAnswerInvalid: a time is missing or unreadable.
    """
    answer = _Members({key.lower(): value for key, value in headers.items()})
    issued_at = answer.moment(names.ISSUED_AT.lower())
    use_until = answer.moment(names.USE_UNTIL.lower())
    return replace(
        credential,
        state=answer.get(names.STATE.lower(), str, None) or credential.state,
        issued_at=issued_at,
        expires_at=answer.moment_or_none(names.EXPIRES_AT.lower()),
        use_until=use_until,
        deadline=sent.deadline(issued_at=issued_at, use_until=use_until),
        asked_at=sent.now,
    )


def _read_use(document: Mapping[str, Any] | None) -> Use | None:
    if document is None:
        return None
    members = _Members(document)
    place: Any = members.get("in", str)
    scheme: Any = members.get("scheme", str, None) or ""
    origins = members.get("origins", list)
    if place not in ("header", "cookie", "unsafe_query") or scheme not in ("", "bearer", "basic"):
        # Placing a key by guesswork could send it anywhere.
        raise BrokerAnswerInvalid(f"This client does not know use.in={place} scheme={scheme}.")
    return Use(
        place=place,
        name=members.get("name", str),
        field=members.get("field", str, None) or "",
        prefix=members.get("prefix", str, None) or "",
        scheme=scheme,
        username_field=members.get("username_field", str, None) or "",
        password_field=members.get("password_field", str, None) or "",
        origins=tuple(str(origin) for origin in origins),
    )


class _Members:
    """Members of a JSON object, each with the kind it must have."""

    _REQUIRED: Any = object()

    def __init__(self, document: object) -> None:
        if not isinstance(document, dict):
            raise BrokerAnswerInvalid("The broker's answer is no JSON object.")
        self._members: dict[str, object] = document

    def get(self, name: str, kind: type[Kind], default: Any = _REQUIRED) -> Kind | Any:
        value = self._members.get(name)
        if value is None and default is not self._REQUIRED:
            return default
        if not isinstance(value, kind):
            raise BrokerAnswerInvalid(f"The broker's answer has no fit member {name!r}.")
        return value

    def moment(self, name: str) -> float:
        try:
            return parse_time(self.get(name, str))
        except ValueError:
            raise BrokerAnswerInvalid(f"The broker's answer has no time in {name!r}.") from None

    def moment_or_none(self, name: str) -> float | None:
        return None if self._members.get(name) is None else self.moment(name)
