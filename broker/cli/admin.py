"""The way from a command to a running broker: HTTP over its admin socket.

Duty: one request, its answer, or an error of the tree.
Not its duty: what is asked (the groups), who may ask (the socket's directory and mode).
Rules: no proxy, no redirect, nothing from the environment: a socket leads to one process.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from broker import errors
from broker.errors import BrokerAnswerInvalid, BrokerError, BrokerUnreachable
from broker.protocol.names import JSON, PROBLEM_JSON

TIMEOUT: Final = 150.0
"""Seconds for one answer: longer than the broker waits for the outcome of a rotation."""
ANSWER_CAP: Final = 8 << 20
"""Most bytes of an answer."""


def ask(
    path: str, method: str, target: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Send one request to the broker behind a socket.

    Args:
        path: of the socket.
        method: of the request.
        target: path of the resource, percent-encoded.
        body: sent as JSON.

    Raises:
        BrokerUnreachable: nobody answers there.
        BrokerAnswerInvalid: not as a broker does.
        BrokerError: what the broker said, as the class its code names.
    """
    connection = _UnixConnection(path)
    content = None if body is None else json.dumps(body)
    headers = {} if body is None else {"Content-Type": JSON}
    try:
        connection.request(method, target, body=content, headers=headers)
        answer = connection.getresponse()
        kind = answer.headers.get_content_type()
        text = answer.read(ANSWER_CAP)
    except PermissionError as error:
        raise BrokerUnreachable(
            f"{path}: this user may not open it.",
            remedy="Run the command in the broker's container, as its user.",
        ) from error
    except OSError as error:
        raise BrokerUnreachable(
            f"{path}: {error.strerror or type(error).__name__}.",
            remedy="Run the command in the container of a running broker, or give its --socket.",
        ) from error
    except HTTPException as error:
        raise BrokerAnswerInvalid(f"{path}: no broker answers there.") from error
    finally:
        connection.close()
    return _judged(path, answer.status, kind, text)


def _judged(path: str, status: int, kind: str, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        if kind == PROBLEM_JSON and isinstance(document.get("code"), str):
            raise _error(document)
        if kind == JSON and 200 <= status < 300:
            return document
    raise BrokerAnswerInvalid(f"{path}: answered {status}, not as a broker does.")


def _error(problem: Mapping[str, Any]) -> BrokerError:
    """The error that a problem document tells of."""
    kind = next((one for one in _tree(BrokerError) if one.code == problem["code"]), BrokerError)
    if issubclass(kind, errors.SettingsErrors):  # made of others; never sent
        kind = BrokerError
    return kind(str(problem.get("detail", "")), remedy=str(problem.get("remedy", "")) or None)


def _tree(root: type[BrokerError]) -> Iterator[type[BrokerError]]:
    yield root
    for below in root.__subclasses__():
        yield from _tree(below)


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
