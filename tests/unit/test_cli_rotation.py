"""``broker rotate`` and ``broker rotation`` against a real admin plane over its socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker.api.admin import create_admin_plane
from broker.api.door import Door
from broker.api.listeners import Listener
from broker.api.sockets import UnixAddress
from broker.cli.exit_codes import ExitCode
from broker.cli.main import main
from broker.errors import RotationFrozen, RotationRolledBack, VaultSealed
from tests.simulators.rotations import Rotations
from tests.support.broker import Assembly, Serving, serving

Output = pytest.CaptureFixture[str]
ACTOR = f"operator uid {os.geteuid()}"


class Operator:
    """A person with a shell in the broker's container."""

    def __init__(self, path: Path, rotations: Rotations) -> None:
        self.path, self.rotations = path, rotations

    async def run(self, *argv: str) -> int:
        """Run a command while the broker serves."""
        return await asyncio.to_thread(main, [*argv, "--socket", str(self.path)])


async def opened(served: Serving, rotations: Rotations | None) -> Path:
    """An admin socket."""
    broker = served.broker
    app = create_admin_plane(
        health=broker.health,
        keepers=broker.keepers,
        vault=dict,
        replace_token=lambda _: False,
        quit_broker=broker._quit,
        problems=broker.problems,
        own_uid=os.geteuid(),
        rotations=rotations,
    )
    path = broker.directory / "admin" / "admin.sock"
    address = UnixAddress(path, mode=0o600, directory_mode=0o700)
    await served.start(Listener(address, Door("admin", broker.problems), app, broker.clock))
    return path


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """An operator of a broker that rotates."""
    async with serving(Assembly(tmp_path)) as served:
        rotations = Rotations()
        yield Operator(await opened(served, rotations), rotations)


async def test_rotate(operator: Operator, capsys: Output) -> None:
    """A key is replaced; the actor is the uid that the kernel vouches for."""
    assert await operator.run("rotate", "search-api") == ExitCode.OK
    assert await operator.run("rotate", "search-api", "--compromised") == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == ["search-api: rotated (rotation r-7)"] * 2
    assert operator.rotations.asked == [
        ("rotate", "search-api", ACTOR),
        ("compromised", "search-api", ACTOR),
    ]


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (RotationRolledBack("The new key failed its proof."), ExitCode.ROTATION),
        (RotationFrozen(), ExitCode.ROTATION),
        (VaultSealed(), ExitCode.VAULT),
    ],
)
async def test_a_rotation_that_is_not_done(
    operator: Operator, capsys: Output, problem: Exception, code: ExitCode
) -> None:
    """What went wrong and what to do stand on standard error; the exit code says which kind."""
    operator.rotations.problem = problem  # type: ignore[assignment]
    assert await operator.run("rotate", "search-api") == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("broker: ")
    assert len(told.err.splitlines()) == 2


async def test_an_unknown_name(operator: Operator, capsys: Output) -> None:
    """A credential without a rotation is an error with a remedy."""
    assert await operator.run("rotation", "history", "other api") == ExitCode.ROTATION
    assert "Configure a rotation" in capsys.readouterr().err
    assert operator.rotations.asked == [("history", "other api")]


async def test_status(operator: Operator, capsys: Output) -> None:
    """One line a rotation: phase, since when, when next, and what stands out."""
    operator.rotations.overdue = True
    assert await operator.run("rotation", "status") == ExitCode.OK
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "PHASE", "KEY", "SINCE", "DUE", "NOTE"]
    assert line.split()[:4] == [
        *("search-api", "overlap", "2027-01-15T08:00:00.000Z", "2027-01-15T09:00:00.000Z")
    ]
    assert line.endswith("overdue, leading, old key until 2027-01-15T08:01:00.000Z, vault_sealed")


async def test_history(operator: Operator, capsys: Output) -> None:
    """One line a rotation that ended, or the broker's own document."""
    assert await operator.run("rotation", "history", "search-api") == ExitCode.OK
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[1:] == ["rolled_back", "max_age", "schedule", "key-6", "proof_failed"]
    assert await operator.run("rotation", "history", "search-api", "--json") == ExitCode.OK
    (past,) = json.loads(capsys.readouterr().out)["past"]
    assert (past["key_id"], past["started_at"]) == ("key-6", "2027-01-15T07:58:20.000Z")


@pytest.mark.parametrize(
    ("verb", "done"), [("freeze", "frozen"), ("pin", "pinned"), ("unfreeze", "goes on")]
)
async def test_bad_nights(operator: Operator, capsys: Output, verb: str, done: str) -> None:
    """A rotation is held and let go."""
    assert await operator.run("rotation", verb, "search-api") == ExitCode.OK
    assert capsys.readouterr().out == f"search-api: {done}\n"
    assert operator.rotations.asked == [(verb, "search-api", ACTOR)]


async def test_a_broker_that_rotates_nothing(tmp_path: Path, capsys: Output) -> None:
    """It says so; its status is an empty table."""
    async with serving(Assembly(tmp_path)) as served:
        operator = Operator(await opened(served, None), Rotations())
        assert await operator.run("rotate", "search-api") == ExitCode.ROTATION
        assert "rotates nothing" in capsys.readouterr().err
        assert await operator.run("rotation", "status") == ExitCode.OK
        assert len(capsys.readouterr().out.splitlines()) == 1


def test_no_broker(tmp_path: Path, capsys: Output) -> None:
    """A missing socket is an error with a remedy."""
    argv = ["rotation", "status", "--socket", str(tmp_path / "none.sock")]
    assert main(argv) == ExitCode.BROKER
    assert "--socket" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]",
    ],
)
def test_something_else_at_the_socket(tmp_path: Path, capsys: Output, answer: bytes) -> None:
    """What does not speak as a broker does is told apart from one that refuses."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert main(["rotation", "status", "--socket", path]) == ExitCode.BROKER
        thread.join()
    assert capsys.readouterr().err.startswith("broker: ")
