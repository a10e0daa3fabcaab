"""``kube.client``: the real client library against a strict API server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest

from broker.clock import SystemClock
from broker.errors import (
    KubernetesConflict,
    KubernetesError,
    KubernetesRefused,
    KubernetesUnavailable,
)
from broker.kube.client import (
    Cluster,
    EventClient,
    KubernetesClient,
    LeaseClient,
    address_of,
    moment,
)
from broker.kube.election import LeaseElection
from broker.kube.plan import Record, Times
from broker.kube.ports import Note
from tests.simulators.kubernetes import ApiServer

WALL = 1_800_000_000.0
RECORD = Record("pod-a", 15.0, WALL + 0.25, WALL + 0.5, transitions=2)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """An API server."""
    made = ApiServer()
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def client(server: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesClient]:
    """The way to it, as a pod has it."""
    token_file = tmp_path / "token"
    token_file.write_text(server.token + "\n")
    cluster = Cluster(
        server.address, "shop", token_file=str(token_file), pod="broker-0", pod_uid="uid-of-pod"
    )
    made = KubernetesClient(cluster, clock=SystemClock(), timeout=1.0)
    yield made
    made.close()


@pytest.fixture
def lease(client: KubernetesClient) -> LeaseClient:
    """One Lease."""
    return LeaseClient(client, namespace="shop", name="broker-rotation")


async def test_a_lease_is_made_read_and_written(server: ApiServer, lease: LeaseClient) -> None:
    """What is written comes back, under a new version each time."""
    assert await lease.get() is None
    made = await lease.create(RECORD)
    assert made.record == RECORD
    assert await lease.get() == made
    later = Record("", 1, WALL + 9, WALL + 9, transitions=2)
    written = await lease.update(later, made.version)
    assert written.version != made.version
    assert (written.record.holder, written.record.duration) == ("", 1)
    assert server.holder("shop", "broker-rotation") == ""


async def test_an_update_of_an_old_version_conflicts(lease: LeaseClient) -> None:
    """Two who read the same version: the second one's write is refused; so is a second create."""
    made = await lease.create(RECORD)
    await lease.update(RECORD, made.version)
    with pytest.raises(KubernetesConflict):
        await lease.update(RECORD, made.version)
    with pytest.raises(KubernetesConflict):
        await lease.create(RECORD)


async def test_an_update_of_what_is_gone_conflicts(server: ApiServer, lease: LeaseClient) -> None:
    """Somebody deleted the Lease in between."""
    made = await lease.create(RECORD)
    server.leases.clear()
    with pytest.raises(KubernetesConflict):
        await lease.update(RECORD, made.version)


async def test_a_bell_is_an_annotation_that_the_next_write_takes_off(lease: LeaseClient) -> None:
    """It leaves the record as it was, to the microsecond: candidates count by that."""
    made = await lease.create(Record("pod-a", 15.0, WALL + 0.123457, WALL + 0.654321))
    rung = await lease.update(made.record, made.version, bell=True)
    assert (rung.bell, rung.record) == (True, made.record)
    assert await lease.get() == rung
    assert not (await lease.update(rung.record, rung.version)).bell


async def test_a_whole_second_is_written_with_its_digits(lease: LeaseClient) -> None:
    """A time without a fraction is one that the API server takes."""
    assert (await lease.create(Record("a", 15, WALL, WALL))).record.holder == "a"
    assert moment(None) is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, KubernetesRefused),
        (403, KubernetesRefused),
        (422, KubernetesRefused),
        (429, KubernetesUnavailable),
        (500, KubernetesUnavailable),
        (503, KubernetesUnavailable),
    ],
)
async def test_answers_become_errors_of_the_tree(
    server: ApiServer, lease: LeaseClient, status: int, expected: type[KubernetesError]
) -> None:
    """A refusal and an outage are told apart; neither quotes the exchange."""
    server.answer_with = status
    with pytest.raises(expected) as raised:
        await lease.get()
    assert type(raised.value) is expected
    assert server.token not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_a_redirect_is_not_followed(server: ApiServer, lease: LeaseClient) -> None:
    """The token goes to the configured address and nowhere else."""
    server.redirect_to = server.address + "/elsewhere"
    with pytest.raises(KubernetesUnavailable):
        await lease.get()
    assert server.requests == []


async def test_an_api_that_hangs_is_left_in_time(server: ApiServer, lease: LeaseClient) -> None:
    """A call ends by its deadline."""
    server.stall = 30.0
    began = SystemClock().now()
    with pytest.raises(KubernetesUnavailable):
        await lease.get()
    assert SystemClock().now() - began < 1.9


async def test_an_api_that_is_not_there(tmp_path: Path) -> None:
    """A refused connection is an outage."""
    (tmp_path / "token").write_text("any")
    cluster = Cluster("http://127.0.0.1:9", "shop", token_file=str(tmp_path / "token"))
    client = KubernetesClient(cluster, clock=SystemClock(), timeout=1.0)
    with pytest.raises(KubernetesUnavailable):
        await LeaseClient(client, namespace="shop", name="x").get()
    client.close()


async def test_the_token_is_read_for_each_request(
    server: ApiServer, client: KubernetesClient, lease: LeaseClient
) -> None:
    """The kubelet replaced the token: the next request carries the new one; none is an error."""
    await lease.create(RECORD)
    server.token = "the-next-token"
    with pytest.raises(KubernetesRefused):
        await lease.get()
    file = Path(client.cluster.token_file)
    file.write_text(server.token)
    assert await lease.get() is not None
    file.unlink()
    with pytest.raises(KubernetesRefused, match="token"):
        await lease.get()


async def test_an_event_is_on_the_pod(server: ApiServer, client: KubernetesClient) -> None:
    """An Event names the pod by uid, so that 'kubectl describe pod' shows it."""
    note = Note("Warning", "RotationRolledBack", "Rotate", "The new key was given up.")
    await EventClient(client).write(note, wall=WALL)
    (event,) = server.events
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "broker-0",
        "namespace": "shop",
        "uid": "uid-of-pod",
    }
    assert (event["type"], event["reason"]) == ("Warning", "RotationRolledBack")
    assert event["reportingComponent"] == "mcp-secrets-broker"
    assert server.token not in json.dumps(event)


async def test_an_election_over_http(server: ApiServer, lease: LeaseClient) -> None:
    """The election, the library and the server's rules fit together: taken, renewed, given back."""
    clock = SystemClock()
    times = Times(lease_duration=2, renew_deadline=1, retry_period=0.05)
    election = LeaseElection(lease, identity="pod-a", times=times, clock=clock, rng=Random(1))
    await election._attempt()
    assert (election.leading, election.leader) == (True, "pod-a")
    await election._attempt()
    assert [method for method, _ in server.requests] == ["GET", "POST", "GET", "PUT"]
    await election.release()
    assert (election.leading, server.holder("shop", "broker-rotation")) == (False, "")


def test_where_the_api_server_is() -> None:
    """The kubelet's variables name it, IPv6 in brackets; outside a cluster there is none."""
    assert address_of({}) == ""
    both = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert address_of(both) == "https://10.0.0.1:443"
    assert address_of(both | {"KUBERNETES_SERVICE_HOST": "fd00::1"}) == "https://[fd00::1]:443"
